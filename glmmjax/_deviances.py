"""Half deviances of counts: the negative log-density less that of the best fit to the one observation.

A density of counts in the thousands is the difference of terms in the millions, which would leave nothing but their
rounding of a value that is of the order of one for every row. Each function here gives that value itself, to an error
of about ``sqrt(y)`` units in the last place, and derivatives in the parameters to any order; the counts are taken as
given. They are 0 where the mean is the count, and positive elsewhere.

They are the inner loop of every fit of counts: what holds only counts and dispersion is kept apart from what holds the
mean, as a compiler moves it out of the search for the modes, where these do not change; and the compiler's own expm1 is
not used, which takes six times as long as an exponential.
"""

from __future__ import annotations

from functools import partial
from math import factorial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from glmmjax._special import logistic, magnitude, softplus


def _log(y: Any) -> Any:
    """The logarithm of a count, 0 in place of the logarithm of 0."""
    return jnp.log(jnp.where(y > 0, y, 1.0))


def _along(value: Any, *terms: tuple[Any, Any]) -> Any:
    """The sum of ``slope() * tangent``, where slopes of what does not move are not even computed."""
    moving = [slope() * tangent for slope, tangent in terms if not isinstance(tangent, SymbolicZero)]
    return sum(moving[1:], start=moving[0]) if moving else jnp.zeros_like(value)


# exp(d) - 1 - d = d^2 (1/2 + d/6 + ...), to all digits for |d| < NEAR. From there on the error of the plain difference,
# one unit in the last place of exp(d), is small enough: a count of more than 1 / NEAR^2 is seldom that far off.
NEAR = 0.02
_EXCESS = tuple(1.0 / factorial(n) for n in range(2, 10))


def _excess(d: Any, exp_d: Any) -> Any:
    """``exp(d) - 1 - d``, with ``exp(d)`` as given."""
    total: Any = _EXCESS[-1]
    for coefficient in _EXCESS[-2::-1]:
        total = total * d + coefficient
    return jnp.where(magnitude(d) < NEAR, d * d * total, exp_d - 1.0 - d)


def _expm1(d: Any) -> Any:
    """``exp(d) - 1``."""
    return _excess(d, jnp.exp(d)) + d


@jax.custom_jvp
def poisson_half_deviance(mu: Any, log_mu: Any, y: Any) -> Any:
    """``mu - y - y log(mu / y)`` with the mean and its logarithm.

    >>> round(float(poisson_half_deviance(2.0, jnp.log(2.0), 3.0)), 5)
    0.2164
    """
    return jnp.where(y > 0, y * _excess(log_mu - _log(y), mu * (1.0 / jnp.where(y > 0, y, 1.0))), mu)


@partial(poisson_half_deviance.defjvp, symbolic_zeros=True)
def _poisson_jvp(primals: Any, tangents: Any) -> Any:
    value = poisson_half_deviance(*primals)
    return value, _along(value, (lambda: 1.0, tangents[0]), (lambda: -primals[2], tangents[1]))


# Negative binomial ---------------------------------------------------------------------------------------------------


@jax.custom_jvp
def nbinom_half_deviance(log_mu: Any, log_size: Any, y: Any) -> Any:
    """``(y + k) log((mu + k) / (y + k)) - y log(mu / y)`` with the size k: Poisson's as k grows.

    It is the distance in the mean at a given size; what the size adds, the same for every mean, is
    :func:`glmmjax._special.log_gamma_step`.

    >>> round(float(nbinom_half_deviance(jnp.log(2.0), jnp.log(4.0), 3.0)), 5)
    0.13734
    """
    return _nbinom(log_mu, log_size, log_mu - log_size, y)[0]


def _nbinom(log_mu: Any, log_size: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """The half deviance, and ``log((mu + k) / (y + k))``; ``x = log(mu / k)``.

    With ``d = log(mu / y)`` the logarithm is ``log1p(y / (y + k) expm1(d))``, and likewise from k and -d with d
    besides: from the smaller of y and k none of the digits cancel.
    """
    size = jnp.exp(log_size)
    positive, from_size = y > 0, y > size
    total = y + size
    sign = jnp.where(from_size, -1.0, 1.0)
    share = jnp.where(positive, jnp.minimum(y, size) / jnp.where(positive, total, 1.0), 0.0)
    signed = sign * jnp.minimum(y, size)
    d = log_mu - _log(y)
    # without counts it is log1p(exp(x))
    inner = jnp.where(positive, share * _expm1(sign * d), jnp.exp(-magnitude(x)))
    own = jnp.log1p(inner) + jnp.where(positive | (x < 0), 0.0, x)
    return total * own - signed * d, own + jnp.where(from_size, d, 0.0)


@partial(nbinom_half_deviance.defjvp, symbolic_zeros=True)
def _nbinom_jvp(primals: Any, tangents: Any) -> Any:
    log_mu, log_size, y = primals
    size = jnp.exp(log_size)
    p, q = logistic(log_size - log_mu)
    slope = size * q - y * p
    value = nbinom_half_deviance(*primals)
    return value, _along(
        value,
        (lambda: slope, tangents[0]),
        (lambda: size * _log_of_sums(log_mu, log_size, y) - slope, tangents[1]),
    )


@jax.custom_jvp
def _log_of_sums(log_mu: Any, log_size: Any, y: Any) -> Any:
    """``log((mu + k) / (y + k))``."""
    return _nbinom(log_mu, log_size, log_mu - log_size, y)[1]


@partial(_log_of_sums.defjvp, symbolic_zeros=True)
def _log_of_sums_jvp(primals: Any, tangents: Any) -> Any:
    log_mu, log_size, y = primals
    p, q = logistic(log_size - log_mu)  # k / (mu + k) and mu / (mu + k)
    value = _log_of_sums(*primals)
    return value, _along(value, (lambda: q, tangents[0]), (lambda: _gap(p, q, log_size, y), tangents[1]))


def _gap(p: Any, q: Any, log_size: Any, y: Any) -> Any:
    """``p - k / (y + k)``, also where both are next to one."""
    q_y = _share(log_size, y)
    return p * q_y - q * (1.0 - q_y)


@jax.custom_jvp
def _share(log_size: Any, y: Any) -> Any:
    """``y / (y + k)``."""
    return y / (y + jnp.maximum(jnp.exp(log_size), 1e-300))


@partial(_share.defjvp, symbolic_zeros=True)
def _share_jvp(primals: Any, tangents: Any) -> Any:
    value = _share(*primals)
    return value, _along(value, (lambda: -value * (1.0 - value), tangents[0]))


# nbinom1: the size is mu / phi, so that mu / (mu + k) is the same for every mean.


@jax.custom_jvp
def linear_nbinom_half_deviance(log_mu: Any, log_phi: Any, y: Any) -> Any:
    """:func:`nbinom_half_deviance` with the size ``mu / phi``.

    >>> round(float(linear_nbinom_half_deviance(jnp.log(2.0), jnp.log(0.5), 3.0)), 5)
    0.13734
    """
    return _nbinom(log_mu, log_mu - log_phi, log_phi, y)[0]


@partial(linear_nbinom_half_deviance.defjvp, symbolic_zeros=True)
def _linear_nbinom_jvp(primals: Any, tangents: Any) -> Any:
    log_mu, log_phi, y = primals
    value = linear_nbinom_half_deviance(*primals)
    size = jnp.exp(log_mu - log_phi)

    def in_phi() -> Any:
        p, q = logistic(-log_phi)
        return size * (q - _linear_log_of_sums(log_mu, log_phi, y)) - y * p

    in_mu = (lambda: size * _linear_log_of_sums(log_mu, log_phi, y), tangents[0])
    return value, _along(value, in_mu, (in_phi, tangents[1]))


@jax.custom_jvp
def _linear_log_of_sums(log_mu: Any, log_phi: Any, y: Any) -> Any:
    """``log((mu + k) / (y + k))``."""
    return _nbinom(log_mu, log_mu - log_phi, log_phi, y)[1]


@partial(_linear_log_of_sums.defjvp, symbolic_zeros=True)
def _linear_log_of_sums_jvp(primals: Any, tangents: Any) -> Any:
    log_mu, log_phi, y = primals
    value, log_size = _linear_log_of_sums(*primals), log_mu - log_phi
    in_phi = (lambda: -_gap(*logistic(-log_phi), log_size, y), tangents[1])
    return value, _along(value, (lambda: _share(log_size, y), tangents[0]), in_phi)


# Binomial ------------------------------------------------------------------------------------------------------------


def _coins(d: Any, y: Any, failures: Any, at_ends: Any) -> Any:
    """``n KL(p, mu)`` of coins with ``logit(mu) - logit(p) = d`` and ``p = y / n``, ``at_ends`` where p is 0 or 1."""
    inside = (y > 0) & (failures > 0)
    total = jnp.where(inside, y + failures, 1.0)
    sign = jnp.where(y > failures, -1.0, 1.0)
    rarer = jnp.minimum(y, failures)
    own = total * jnp.log1p(rarer / total * _expm1(sign * d)) - sign * rarer * d
    return jnp.where(inside, own, at_ends)


@jax.custom_jvp
def binomial_half_deviance(log_mu: Any, log_rest: Any, y: Any, failures: Any) -> Any:
    """``-y log(mu / p) - m log((1 - mu) / (1 - p))`` with m failures and ``p = y / (y + m)``; 0 without trials.

    >>> round(float(binomial_half_deviance(jnp.log(0.5), jnp.log(0.5), 3.0, 1.0)), 5)
    0.52325
    """
    d = log_mu - log_rest - (_log(y) - _log(failures))
    return _coins(d, y, failures, -y * log_mu - failures * log_rest)


@partial(binomial_half_deviance.defjvp, symbolic_zeros=True)
def _binomial_jvp(primals: Any, tangents: Any) -> Any:
    _, _, y, failures = primals
    value = binomial_half_deviance(*primals)
    return value, _along(value, (lambda: -y, tangents[0]), (lambda: -failures, tangents[1]))


@jax.custom_jvp
def logistic_half_deviance(eta: Any, y: Any, failures: Any) -> Any:
    """:func:`binomial_half_deviance` with the linear predictor of the logit link.

    >>> round(float(logistic_half_deviance(0.0, 3.0, 1.0)), 5)
    0.52325
    """
    surprise = jnp.where(y > 0, -eta, eta)  # of trials that all came out alike
    at_ends = (y + failures) * (jnp.log1p(jnp.exp(-magnitude(eta))) + jnp.where(surprise > 0, surprise, 0.0))
    return _coins(eta - (_log(y) - _log(failures)), y, failures, at_ends)


@partial(logistic_half_deviance.defjvp, symbolic_zeros=True)
def _logistic_jvp(primals: Any, tangents: Any) -> Any:
    eta, y, failures = primals
    p, q = logistic(eta)
    value = logistic_half_deviance(*primals)
    return value, _along(value, (lambda: failures * p - y * q, tangents[0]))


@jax.custom_jvp
def betabinomial_half_deviance(log_mu: Any, log_rest: Any, log_phi: Any, y: Any, failures: Any) -> Any:
    """``n KL(p, P) + phi KL(mu, P)``, with p = y / n and P the mean of both, ``(y + mu phi) / (n + phi)``.

    KL is the Kullback-Leibler divergence of two coins. It is binomial's as phi grows; what the precision adds besides
    are three of :func:`glmmjax._special.log_gamma_step`.

    >>> round(float(betabinomial_half_deviance(jnp.log(0.5), jnp.log(0.5), jnp.log(4.0), 3.0, 1.0)), 5)
    0.27058
    """
    n, phi = y + failures, jnp.exp(log_phi)
    beside = n > phi
    sign = jnp.where(beside, 1.0, -1.0)
    share = jnp.minimum(n, phi) / (n + phi)
    alike = softplus(_log(n) - log_phi)

    def side(log_part: Any, k: Any) -> Any:
        # log(P / p) from phi's share in P, or log(P / mu) from the share of n, whichever is smaller
        d = log_part - (_log(k) - _log(n))
        a = jnp.exp(log_phi + log_part)
        own = jnp.where(beside, a, -k) * d - (k + a) * jnp.log1p(share * _expm1(sign * d))
        return jnp.where(k > 0, own, a * alike)

    return jnp.where(n > 0, side(log_mu, y) + side(log_rest, failures), 0.0)


@partial(betabinomial_half_deviance.defjvp, symbolic_zeros=True)
def _betabinomial_jvp(primals: Any, tangents: Any) -> Any:
    log_mu, log_rest, log_phi, y, failures = primals
    from_mu, from_rest = _grown(log_phi + log_mu, y), _grown(log_phi + log_rest, failures)
    value = betabinomial_half_deviance(*primals)
    return value, _along(
        value,
        (lambda: -from_mu, tangents[0]),
        (lambda: -from_rest, tangents[1]),
        (lambda: _grown(log_phi, y + failures) - from_mu - from_rest, tangents[2]),
    )


@jax.custom_jvp
def _grown(log_a: Any, k: Any) -> Any:
    """``a log(1 + k / a)``."""
    a = jnp.exp(log_a)
    return a * jnp.log1p(k / jnp.maximum(a, 1e-300))


@partial(_grown.defjvp, symbolic_zeros=True)
def _grown_jvp(primals: Any, tangents: Any) -> Any:
    log_a, k = primals
    value = _grown(log_a, k)
    # a k / (a + k)
    return value, _along(
        value, (lambda: value - k * logistic(log_a - jnp.where(k > 0, _log(k), -jnp.inf))[0], tangents[0])
    )
