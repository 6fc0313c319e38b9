"""Tweedie responses, a Poisson number of Gamma variables: zeros and positive numbers; ``phi`` is the dispersion.

With power p, ``a = (2 - p) / (p - 1)`` and ``m = y^(2-p) / (phi (2 - p))``, near which the terms of the series peak,

    -log f = d(y, mu) / (2 phi) + log y - log sum_j exp(-(1 + a) m (x log x - x + 1) - log j - G(j) - G(a j))

with ``x = j / m``, where d is the unit deviance and ``G(z) = log Gamma(z) - z log z + z``: every term that is large has
gone into d.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import factorial, log
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._errors import FamilyError
from glmmjax._links import POSITIVE, PROBABILITY, Link
from glmmjax._special import JAX, NUMPY, log_gamma_excess, softplus
from glmmjax.families._family import Family, Given, Shape, choose_link, inside

# Terms of the series. It is a bell around m of variance m (p - 1): a stretch of nine standard deviations to either side
# is summed, with a stride where it is longer, which for a smooth bell is as good as every term.
TERMS = 80
REACH = 9.0
LARGEST_PSI = 10.0


def _powers(psi: Any) -> tuple[Any, Any]:
    """``log(p - 1)`` and ``log(2 - p)``."""
    psi = jnp.clip(psi, -LARGEST_PSI, LARGEST_PSI)
    return -softplus(-psi), -softplus(psi)


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    log_left, log_right = _powers(eta["psi"][0])
    left, right = jnp.exp(log_left), jnp.exp(log_right)
    zero = y == 0
    log_y = jnp.log(jnp.where(zero, 1.0, y))

    def density(cond: Any) -> Any:
        log_mu = link.log_inverse(cond)
        at_zero = jnp.exp(right * log_mu - log_right)
        r = log_y - log_mu
        positive = jnp.exp(right * log_y) * (jnp.expm1(left * r) / left + jnp.expm1(-right * r) / right)
        return jnp.where(zero, at_zero, positive) * jnp.exp(-eta["disp"])

    return inside(link, eta["cond"], density)


def _shared_nll(y: Any, eta: Mapping[str, Any], trials: Any) -> Any:
    positive = y > 0
    own = log_series(jnp.log(jnp.where(positive, y, 1.0)), eta["disp"], eta["psi"][0])
    return jnp.where(positive, -own, 0.0)


def log_series(log_y: Any, log_phi: Any, psi: Any) -> Any:
    """The logarithm of the series above; JAX. Twice differentiable in ``log_phi`` and ``psi``.

    Source of the series: Dunn & Smyth (2005), Statistics and Computing 15, equations 8 to 11.
    """
    log_left, log_right = _powers(psi)
    log_m = jnp.exp(log_right) * log_y - log_phi - log_right
    held = jax.lax.stop_gradient((jnp.exp(log_m), jnp.exp(log_left)))
    reach = REACH * jnp.sqrt(held[0] * held[1])
    low = jnp.maximum(jnp.floor(held[0] - reach - 4.0), 1.0)
    stride = jnp.maximum((held[0] + reach + 20.0 - low) / (TERMS - 1), 1.0)
    j = low[..., None] + stride[..., None] * np.arange(TERMS)
    log_j, log_a = jnp.log(j), log_right - log_left
    distance = log_j - log_m[..., None]  # log x
    bell = jnp.exp(log_m - log_left)[..., None] * _excess(distance)
    terms = -bell - log_j - log_gamma_excess(log_j) - log_gamma_excess(log_a + log_j)
    return jax.scipy.special.logsumexp(terms, axis=-1) + jnp.log(stride)


# x log x - x + 1 at x = exp(d), the sum of (n - 1) d^n / n! from the square on
_NEAR = tuple((n - 1.0) / factorial(n) if n > 1 else 0.0 for n in range(14))


def _excess(d: Any) -> Any:
    near = jnp.abs(d) < 0.25
    small, large = jnp.where(near, d, 0.0), jnp.where(near, 1.0, d)
    return jnp.where(near, JAX.polynomial(_NEAR, small), jnp.exp(large) * large - jnp.expm1(large))


def _log_base(y: Any, trials: Any) -> Any:
    y = np.asarray(y, dtype=float)
    return np.where(y > 0, -np.log(np.where(y > 0, y, 1.0)), 0.0)


def _natural(psi: Any) -> Any:
    return 1.0 + PROBABILITY["logit"].inverse(np.asarray(psi), NUMPY)


def _start(y: Any, trials: Any) -> Any:
    return np.zeros(1)


def _variance(at: Given) -> Any:
    return at.phi * at.mu ** at.psi[0]


def _jumps(at: Given) -> tuple[Any, Any, Any]:
    """The rate of the Poisson number, and shape and scale of the Gamma variables."""
    p = at.psi[0]
    return at.mu ** (2.0 - p) / (at.phi * (2.0 - p)), (2.0 - p) / (p - 1.0), at.phi * (p - 1.0) * at.mu ** (p - 1.0)


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    rate, shape, scale = _jumps(at)
    number = rng.poisson(rate)
    return np.where(number > 0, rng.gamma(shape * np.maximum(number, 1), scale), 0.0)


def _cdf(y: Any, at: Given) -> Any:
    from scipy.special import gammainc, gammaln

    rate, shape, scale = _jumps(at)
    y = np.asarray(y, dtype=float)
    total: Any = np.exp(-rate)
    for k in range(1, int(np.max(rate + 10.0 * np.sqrt(rate)) + 30)):
        total = total + np.exp(k * np.log(rate) - rate - gammaln(k + 1.0)) * gammainc(
            k * shape, np.maximum(y, 0) / scale
        )
    return np.where(y < 0, 0.0, np.minimum(total, 1.0))


def _deviance(y: Any, at: Given) -> Any:
    left, right = at.psi[0] - 1.0, 2.0 - at.psi[0]
    y = np.asarray(y, dtype=float)
    safe = np.where(y > 0, y, 1.0)
    r = np.log(safe / at.mu)
    positive = safe**right * (np.expm1(left * r) / left + np.expm1(-right * r) / right)
    return 2.0 * np.where(y > 0, positive, at.mu**right / right)


def _in_support(y: Any, trials: Any) -> Any:
    return np.isfinite(y) & (np.asarray(y) >= 0)


def _start_mu(y: Any, trials: Any) -> Any:
    y = np.asarray(y, dtype=float)
    return np.where(y == 0, 0.1 * float(np.mean(y)) or 0.01, y)


def _start_variance(mu: Any, trials: Any) -> Any:
    return np.asarray(mu) ** 1.5


def tweedie(link: str | Link | None = None, power: float | None = None) -> Family:
    """The Tweedie family with a power between 1 and 2: ``Var(y) = phi mu^power``.

    ``power`` is held if given, otherwise estimated on the logit scale of ``power - 1``. Links: log, identity, inverse,
    sqrt.

    Raises:
        FamilyError: the power is not between 1 and 2.

    Source: Dunn & Smyth (2005), Statistics and Computing 15(4).

    >>> from glmmjax.families import Given
    >>> tweedie().variance(Given(4.0, 2.0, psi=(1.5,)))
    16.0
    """
    if power is not None and not 1.0 < power < 2.0:
        raise FamilyError(f"family 'tweedie': the power must be between 1 and 2, not {power!r}.")
    return Family(
        "tweedie",
        choose_link("tweedie", link, POSITIVE),
        _nll,
        links=tuple(POSITIVE),
        log_base=_log_base,
        shared_nll=_shared_nll,
        has_dispersion=True,
        shape=Shape(("power",), _natural, _start, None if power is None else (log(power - 1.0) - log(2.0 - power),)),
        variance=_variance,
        simulate=_simulate,
        cdf=_cdf,
        deviance=_deviance,
        response="positive",
        support="numbers of 0 or more",
        in_support=_in_support,
        has_zeros=True,
        start_mu=_start_mu,
        start_variance=_start_variance,
        phi_name="dispersion parameter",
    )
