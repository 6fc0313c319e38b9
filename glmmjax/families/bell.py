"""Bell counts: overdispersed without a parameter for it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._links import Link
from glmmjax.families._family import Family, Given, count_family, inside, one
from glmmjax.families._sums import cdf_by_sums, draw_by_sums

NEWTON_STEPS = 10


@jax.custom_jvp
def log_lambert(log_x: Any) -> Any:
    """``l`` with ``l + exp(l) = log x``: the logarithm of Lambert's W at x > 0.

    Newton's method from the right, where the function is convex, so that no step overshoots.
    """
    start = jnp.where(log_x > 1.0, jnp.log(jnp.where(log_x > 1.0, log_x, 1.0)), log_x)

    def step(_: int, at: Any) -> Any:
        size = jnp.exp(at)
        return at - (at + size - log_x) / (1.0 + size)

    return jax.lax.fori_loop(0, NEWTON_STEPS, step, start)


@log_lambert.defjvp
def _log_lambert_jvp(primals: Any, tangents: Any) -> Any:
    log_w = log_lambert(primals[0])
    return log_w, tangents[0] / (1.0 + jnp.exp(log_w))


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    # less its value at mu = y, where theta exp(theta) = y
    counts = jnp.where(y > 0, y, 1.0)
    log_best = log_lambert(jnp.log(counts))
    best = jnp.exp(log_best)

    def density(cond: Any) -> Any:
        log_theta = log_lambert(link.log_inverse(cond))
        d = jnp.where(y > 0, log_theta - log_best, 0.0)
        positive = counts / best * jnp.expm1(best * jnp.expm1(d)) - counts * d
        return jnp.where(y > 0, positive, jnp.expm1(jnp.exp(log_theta)))

    return inside(link, eta["cond"], density)


def log_bell_numbers(y: Any) -> np.ndarray:
    """``log B_y`` by Dobinski's series, ``B_y = exp(-1) sum_k k^y / k!``.

    >>> np.exp(log_bell_numbers(np.array([0.0, 1.0, 5.0]))).round(6).tolist()
    [1.0, 1.0, 52.0]
    """
    from scipy.special import gammaln, logsumexp

    values, back = np.unique(np.asarray(y, dtype=float), return_inverse=True)
    k = np.arange(1.0, 2.0 * np.max(values, initial=0.0) + 60.0)
    series = [logsumexp(value * np.log(k) - gammaln(k + 1.0)) if value > 0 else 1.0 for value in values]
    return (np.array(series) - 1.0)[back].reshape(np.shape(y))


def _log_coefficient(y: Any) -> Any:
    """``log(B_y / y!)``."""
    from scipy.special import gammaln

    return log_bell_numbers(y) - gammaln(np.asarray(y, dtype=float) + 1.0)


def _log_base(y: Any, trials: Any) -> Any:
    y = np.asarray(y, dtype=float)
    counts = np.where(y > 0, y, 1.0)
    theta = _theta(Given(counts))
    return np.where(y > 0, _log_coefficient(y) + counts * np.log(theta) - np.expm1(theta), 0.0)


def _theta(at: Given) -> Any:
    from scipy.special import lambertw

    return np.real(lambertw(at.mu))


def _pmf(at: Given, k: int) -> Any:
    theta = _theta(at)
    return np.exp(_log_coefficient(np.array(float(k))) + k * np.log(theta) - np.expm1(theta))


def _variance(at: Given) -> Any:
    return at.mu * (1.0 + _theta(at))


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    return draw_by_sums(rng, partial(_pmf, at), np.shape(at.mu))


def _cdf(y: Any, at: Given) -> Any:
    return cdf_by_sums(partial(_pmf, at), y)


def _start_variance(mu: Any, trials: Any) -> Any:
    return _variance(Given(mu))


def bell(link: str | Link | None = None) -> Family:
    """The Bell family: ``Var(y) = mu (1 + theta)`` with ``theta exp(theta) = mu``.

    ``f(y) = theta^y exp(1 - exp(theta)) B_y / y!`` with the Bell numbers ``B_y``. Links: log, identity, sqrt.

    Source: Castellares, Ferrari & Lemonte (2018), Applied Mathematical Modelling 56.

    >>> from glmmjax.families import Given
    >>> round(float(bell().variance(Given(np.e))), 6)
    5.436564
    """
    return count_family(
        "bell",
        link,
        _nll,
        log_base=_log_base,
        variance=_variance,
        sigma=one,
        simulate=_simulate,
        cdf=_cdf,
        start_variance=_start_variance,
    )
