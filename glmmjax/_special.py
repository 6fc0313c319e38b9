"""Stable pieces of log-densities, written once for JAX and NumPy: tails of distributions, logarithms of Gamma.

Every function here may be differentiated four times by JAX (the exact Hessian of a Laplace approximation needs that)
without losing its relative accuracy in the tails, and stays a small program when it is. Two habits make that so: no
difference of nearly equal terms, and smooth remainders as polynomials whose derivative is again one polynomial.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import log, pi
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

Coefficients = tuple[float, ...]


def _horner(coefficients: Coefficients, x: Any) -> Any:
    if len(coefficients) < 2:
        return 0.0 * x + sum(coefficients)
    total: Any = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _polynomial(coefficients: Coefficients, x: Any) -> Any:
    return _horner(coefficients, x)


@_polynomial.defjvp
def _polynomial_jvp(coefficients: Coefficients, primals: Any, tangents: Any) -> Any:
    # Differentiating the Horner steps themselves would double them at every order: four orders cost sixteen times the
    # program. The derivative of a polynomial is a polynomial.
    slope = tuple(power * coefficient for power, coefficient in enumerate(coefficients))[1:]
    return _polynomial(coefficients, primals[0]), _polynomial(slope, primals[0]) * tangents[0]


@dataclass(frozen=True)
class Namespace:
    """The elementwise functions that links and special functions are written against: JAX's or NumPy's.

    Attributes:
        polynomial: ``(coefficients, x)``, the coefficients a tuple of floats, constant term first.
    """

    where: Callable[..., Any]
    exp: Callable[[Any], Any]
    log: Callable[[Any], Any]
    log1p: Callable[[Any], Any]
    expm1: Callable[[Any], Any]
    arctan2: Callable[[Any, Any], Any]
    polynomial: Callable[[Coefficients, Any], Any]


JAX = Namespace(jnp.where, jnp.exp, jnp.log, jnp.log1p, jnp.expm1, jnp.arctan2, _polynomial)
NUMPY = Namespace(np.where, np.exp, np.log, np.log1p, np.expm1, np.arctan2, _horner)


def magnitude(x: Any, xp: Namespace = JAX) -> Any:
    """``|x|``, with the derivative +1 at zero (JAX's own is 0 there, which spoils functions that are smooth in x)."""
    return xp.where(x < 0, -x, x)


def softplus(x: Any, xp: Namespace = JAX) -> Any:
    """``log(1 + exp(x))``, to full relative accuracy on both sides, derivatives too.

    >>> [float(softplus(x, NUMPY)) for x in (-800.0, 800.0)]
    [0.0, 800.0]
    """
    return _softplus(x) if xp is JAX else _softplus_value(x, xp)


def _softplus_value(x: Any, xp: Namespace) -> Any:
    return xp.where(x < 0, 0.0, x) + xp.log1p(xp.exp(-magnitude(x, xp)))


def logistic(x: Any, xp: Namespace = JAX) -> tuple[Any, Any]:
    """``p = 1 / (1 + exp(-x))`` and ``q = 1 - p``, each to full relative accuracy, derivatives too.

    >>> p, q = logistic(800.0, NUMPY)
    >>> float(p), float(q)
    (1.0, 0.0)
    """
    return _logistic(x) if xp is JAX else _logistic_values(x, xp)


def _logistic_values(x: Any, xp: Namespace) -> tuple[Any, Any]:
    small = xp.exp(-magnitude(x, xp))
    total = 1.0 + small
    return xp.where(x < 0, small, 1.0) / total, xp.where(x < 0, 1.0, small) / total


# The derivatives of both are polynomials in p and q, which no tail cancels: p' = p q, q' = -p q, softplus' = p.


@jax.custom_jvp
def _logistic(x: Any) -> tuple[Any, Any]:
    return _logistic_values(x, JAX)


@_logistic.defjvp
def _logistic_jvp(primals: Any, tangents: Any) -> Any:
    p, q = _logistic(*primals)
    slope = p * q * tangents[0]
    return (p, q), (slope, -slope)


@jax.custom_jvp
def _softplus(x: Any) -> Any:
    return _softplus_value(x, JAX)


@_softplus.defjvp
def _softplus_jvp(primals: Any, tangents: Any) -> Any:
    (x,) = primals
    return _softplus(x), _logistic(x)[0] * tangents[0]


def log1mexp(x: Any, xp: Namespace = JAX) -> Any:
    """``log(1 - exp(-x))`` for ``x > 0``, exact near both ends.

    Source: Maechler (2012), "Accurately computing log(1 - exp(-|a|))", equation 7.

    >>> round(float(log1mexp(1e-20, NUMPY)), 12)
    -46.051701859881
    """
    near = x < log(2.0)
    small, large = xp.where(near, x, 1.0), xp.where(near, 1.0, x)
    return xp.where(near, xp.log(-xp.expm1(-small)), xp.log1p(-xp.exp(-large)))


# log(Mills ratio / sqrt(2 pi)) + log(z + 4.5) as a polynomial in u = (3.5 - z) / (z + 4.5): the Chebyshev interpolant
# on z >= -0.5 to degree 28, computed with 80 digits; truncation error below 1e-17. The interval reaches past z = 0,
# where the two tails meet, because a polynomial's high derivatives are least accurate at the end of its interval.
_MILLS = (
    *(-0.16162376666425698, 1.0111301188615982, 0.31072603957989575, 0.0394883960648376),
    *(-0.039419301165771234, -0.026727269107598373, 0.0002118165734087712, 0.008390139517193454),
    *(0.002970870212490405, -0.0018483155180164896, -0.001632607130191393, 0.00014820292263548752),
    *(0.0006195630876668004, 0.0001241115095741568, -0.00018189305628461196, -9.261242738128173e-05),
    *(3.705899306396016e-05, 4.1628401925325624e-05, -9.459014414921458e-07, -1.4363911428614736e-05),
    *(-3.6817074072184343e-06, 3.892108207601997e-06, 2.1509234827043374e-06, -7.865047365509688e-07),
    *(-7.382790442891842e-07, 1.042059447442274e-07, 1.5681569776749386e-07, -6.604801702276802e-09),
    -1.596802821443918e-08,
)


def log_normal_tail(z: Any, xp: Namespace = JAX) -> Any:
    """``log Phi(-z)`` for ``z >= 0``, with four accurate derivatives out to any ``z``.

        log Phi(-z) = -z^2 / 2 - log(z + 4.5) + P((3.5 - z) / (z + 4.5))

    JAX's ``log_ndtr`` differentiates through ``phi / Phi``, which loses a factor ``z^2`` of accuracy at every order.
    The map of the half line follows Shepherd and Laframboise (1981), Mathematics of Computation 36, 249-253.

    >>> round(float(log_normal_tail(40.0, NUMPY)), 6)
    -804.608442
    """
    return xp.polynomial(_MILLS, (3.5 - z) / (z + 4.5)) - xp.log(z + 4.5) - 0.5 * z * z


# log Gamma(1 + a) - (a + 1/2) log z + z - log(2 pi) / 2, with z = a + 3/2, as a polynomial in u = 3 / z - 1: the
# Chebyshev interpolant on a >= 0 to degree 20, computed with 80 digits; truncation error below 1e-18.
_STIRLING = (
    *(0.16851975993202703, 0.18636694406859952, 0.020242958382457373, 0.0027320382209253717),
    *(0.0003903058794771307, 6.366855924743746e-05, 1.1106851489643456e-05, 1.738333201841587e-06),
    *(3.174448223085594e-07, 6.500969260090745e-08, 7.314192879885721e-09, 2.2549806291131517e-09),
    *(5.080588976219661e-10, -7.239053594122937e-11, 6.242584373456118e-11, -9.70012667493655e-12),
    *(-1.8726788034809373e-12, 6.595949667011097e-12, -2.9457328287852187e-12, -5.301512024863272e-13),
    4.898319567072268e-13,
)


def _stirling(z: Any, xp: Namespace) -> Any:
    return xp.polynomial(_STIRLING, 3.0 / z - 1.0)


def _chain(polynomial: Coefficients) -> Coefficients:
    """The polynomial ``-(u + 1) P'(u)``: with ``u = 3 / z - 1`` it is ``dP / d log z``."""
    slope = [power * coefficient for power, coefficient in enumerate(polynomial)][1:]
    return tuple(-(a + b) for a, b in zip([*slope, 0.0], [0.0, *slope], strict=True))


# The remainder S of Stirling's series and its four derivatives in log z, as polynomials in u.
_STIRLING_DERIVATIVES: list[Coefficients] = [_STIRLING]
for _ in range(4):
    _STIRLING_DERIVATIVES.append(_chain(_STIRLING_DERIVATIVES[-1]))


def log_gamma_step(log_a: Any, y: Any) -> Any:
    """``G(a + y) - G(a)`` for ``y >= 0``, with ``G(a) = log Gamma(a) - a log a + a`` of :func:`log_gamma_excess`; JAX.

    It is what the rising factorial adds to its leading terms,

        log Gamma(a + y) - log Gamma(a) = (a + y) log(a + y) - a log a - y + step,

    of the order of one whatever the size of a and y: 0 at ``y = 0`` and towards 0 as ``a`` grows. Two ``gammaln`` would
    leave only rounding error there (6e-5 at ``a = 1e12``), and their second derivative costs ten to thirty times as
    much. The error is that of rounding numbers near one; the derivatives' likewise. JAX knows four of them, in
    ``log_a`` only: a further one, or one in ``y``, is refused.

    Args:
        log_a: logarithm of ``a``; above 60 it is held there, where the value is 0 to rounding.
        y: counts, same shape or broadcastable.

    >>> with jax.enable_x64(True):
    ...     step = float(log_gamma_step(log(2.0), 3.0))
    >>> round(step, 12) == round(log(2 * 3 * 4) - 5 * log(5) + 2 * log(2) + 3, 12)
    True
    """
    log_a, y = jnp.broadcast_arrays(jnp.where(log_a < 60.0, log_a, 60.0), y)
    return _looked_up(log_a, *_log_gamma_step_derivatives(jax.lax.stop_gradient(log_a), y))


def _log_gamma_step_derivatives(log_a: Any, y: Any) -> tuple[Any, ...]:
    """The value and four derivatives in ``log_a``.

    With ``z = a + 3/2``, ``w = a / z``, ``v = a / (z + y)``, ``x = a / (a + y)`` and their complements ``w'``, ``v'``,
    ``x'``, all between 0 and 1, a dot for the derivative in ``log_a``: ``w. = w w'``, ``w'. = -w w'``. Every line is
    the difference of the same expression at ``a + y`` and at ``a``, where v is w and x is 1.
    """
    a = jnp.exp(log_a)
    z, b = a + 1.5, a + y
    Z = z + y
    positive = y > 0
    safe = jnp.where(positive, b, 1.0)
    w, v, w_, v_ = a / z, a / Z, 1.5 / z, (1.5 + y) / Z
    x = jnp.where(positive, a / safe, 1.0)
    x_ = jnp.where(positive, y / safe, 0.0)
    dw, dv, dx = w * w_, v * v_, x * x_
    ddw, ddv, ddx = dw * (w_ - w), dv * (v_ - v), dx * (x_ - x)
    # a log(1 + 3 / (2 b)) and what its derivatives bring in; at a
    at_a, at_b = jnp.log1p(1.5 / jnp.maximum(a, 1e-300)), jnp.log1p(1.5 / safe)
    near = a * at_a
    far = jnp.where(positive, a * at_b, near)
    xv, s, ds = x * v, x_ + v_, -dx - dv
    q1 = xv * s
    q2 = xv * (s * s + ds)
    gap = far - near - 1.5 * (xv - w)
    value = jnp.where(positive, b * at_b - near + (log_a - jnp.log(safe / jnp.sqrt(1.0 + y / z))), 0.0)
    both = _stirling_derivatives(*(jnp.stack(pair) for pair in ((Z, z), (v, w), (dv, dw), (ddv, ddw))))
    S = [of[0] - of[1] for of in both]
    return (
        value + jnp.where(positive, S[0], 0.0),
        far - near - (v - w) + x_ + S[1],
        gap - (dv - dw) - dx + S[2],
        gap - 1.5 * (q1 - dw) - (ddv - ddw) - ddx + S[3],
        gap - 1.5 * (q1 + q2 - dw - ddw) - (dv * (1 - 6 * dv) - dw * (1 - 6 * dw)) - dx * (1 - 6 * dx) + S[4],
    )


def _stirling_derivatives(z: Any, w: Any, dw: Any, ddw: Any) -> tuple[Any, ...]:
    """``S(z)`` and four derivatives in some t, where ``w = d log z / dt``; by the rule of Faa di Bruno."""
    shape = (-1, len(_STIRLING_DERIVATIVES), *(1,) * z.ndim)
    coefficients = np.array(_STIRLING_DERIVATIVES).T.reshape(shape)
    S, S1, S2, S3, S4 = _horner(tuple(coefficients), 3.0 / z - 1.0)
    dddw = dw * (1.0 - 6.0 * dw)
    return (
        S,
        S1 * w,
        S2 * w**2 + S1 * dw,
        S3 * w**3 + 3.0 * S2 * w * dw + S1 * ddw,
        S4 * w**4 + 6.0 * S3 * w**2 * dw + S2 * (3.0 * dw**2 + 4.0 * w * ddw) + S1 * dddw,
    )


@jax.custom_jvp
def _looked_up(x: Any, *derivatives: Any) -> Any:
    """A function of ``x`` alone whose value and derivatives at this point are known: each order costs one product."""
    return derivatives[0]


@partial(_looked_up.defjvp, symbolic_zeros=True)
def _looked_up_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    x, *derivatives = primals
    if len(derivatives) == 1:
        raise NotImplementedError("no further derivative is known")
    if not all(isinstance(tangent, SymbolicZero) for tangent in tangents[1:]):
        raise NotImplementedError("no derivative in anything else is known")
    return _looked_up(*primals), _looked_up(x, *derivatives[1:]) * tangents[0]


def log_gamma_excess(log_a: Any, xp: Namespace = JAX) -> Any:
    """``log Gamma(a) - a log a + a``: what is left of ``log Gamma`` beside its leading terms.

    It is ``-log(a)`` for small ``a`` and ``log(2 pi / a) / 2`` for large; the error is that of rounding the result.

    >>> round(float(log_gamma_excess(np.log(5.0), NUMPY)), 12) == round(float(np.log(24) - 5 * np.log(5) + 5), 12)
    True
    """
    held = xp.where(log_a < 60.0, log_a, 60.0)  # beyond, only the leading term is left
    if xp is JAX:
        return _looked_up(held, *_log_gamma_excess_derivatives(jax.lax.stop_gradient(held))) + 0.5 * (held - log_a)
    z = xp.exp(held) + 1.5
    return _log_gamma_excess(held, z, xp) + _stirling(z, xp) + 0.5 * (held - log_a)


def _log_gamma_excess(log_a: Any, z: Any, xp: Namespace) -> Any:
    """All of it but the remainder of Stirling's series, and what is beyond the bound."""
    powers = xp.exp(log_a) * softplus(log(1.5) - log_a, xp) + 0.5 * xp.log(z) - 1.5 - log_a
    return powers + 0.5 * log(2.0 * pi)


def _log_gamma_excess_derivatives(log_a: Any) -> tuple[Any, ...]:
    """The value and four derivatives in ``log_a``; letters as in :func:`_log_gamma_step_derivatives`."""
    a = jnp.exp(log_a)
    z = a + 1.5
    w, w_ = a / z, 1.5 / z
    dw = w * w_
    ddw = dw * (w_ - w)
    S = _stirling_derivatives(z, w, dw, ddw)
    e0 = a * softplus(log(1.5) - log_a)
    return (
        _log_gamma_excess(log_a, z, JAX) + S[0],
        e0 - w - 1.0 + S[1],
        e0 - 1.5 * w - dw + S[2],
        e0 - 1.5 * (w + dw) - ddw + S[3],
        e0 - 1.5 * (w + dw + ddw) - dw * (1.0 - 6.0 * dw) + S[4],
    )
