"""Generalized Poisson counts; ``phi`` is the index of dispersion."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._deviances import poisson_half_deviance
from glmmjax._links import Link
from glmmjax._special import NUMPY, log1mexp
from glmmjax.families._family import Family, Given, count_family, inside, poisson_base
from glmmjax.families._sums import cdf_by_sums, draw_by_sums


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    # With s = phi^(-1/2) and w = s mu + (1 - s) y: Poisson's with the mean w, and log(w / (s mu)).
    log_s = -0.5 * eta["disp"]
    rest = -jnp.expm1(log_s)

    def density(cond: Any) -> Any:
        own = link.log_inverse(cond) + log_s  # log(s mu)
        w = jnp.exp(own) + rest * y
        possible = w > 0
        log_w = jnp.where(y == 0, own, _log_sum(own, jnp.where(possible & (y > 0), rest * y, 1.0)))
        distance = poisson_half_deviance(jnp.where(possible, w, 1.0), log_w, y)
        return jnp.where(possible, distance + (log_w - own), jnp.inf)

    return inside(link, eta["cond"], density)


def _log_sum(log_a: Any, b: Any) -> Any:
    """``log(exp(log_a) + b)`` from the larger of the two, whose square then never overflows in a derivative."""
    first = log_a > jnp.log(jnp.where(b == 0, 1e-300, jnp.abs(b)))
    safe = jnp.where(first, 1.0, b)
    ratio = jnp.where(first, b * jnp.exp(-jnp.where(first, log_a, 0.0)), jnp.exp(jnp.where(first, 0.0, log_a)) / safe)
    return jnp.where(first, log_a, jnp.log(jnp.abs(safe))) + jnp.log1p(ratio)


def _pmf(at: Given, k: int) -> Any:
    return np.exp(_log_pmf(at, k))


def _log_pmf(at: Given, k: int) -> Any:
    from scipy.special import gammaln

    s = 1.0 / np.sqrt(at.phi)
    w = s * at.mu + (1.0 - s) * k
    with np.errstate(invalid="ignore", divide="ignore"):
        log_pmf = np.log(s * at.mu) + (k - 1.0) * np.log(w) - w - gammaln(k + 1.0)
    return np.where(w > 0, log_pmf, -np.inf)


def _variance(at: Given) -> Any:
    return at.mu * at.phi


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    return draw_by_sums(rng, partial(_pmf, at), np.broadcast_shapes(np.shape(at.mu), np.shape(at.phi)))


def _cdf(y: Any, at: Given) -> Any:
    return cdf_by_sums(partial(_pmf, at), y)


def within(y: Any, at: Given) -> Any:
    """``P(Y <= y | Y > 0)``."""
    log_positive = log1mexp(np.asarray(at.mu) / np.sqrt(at.phi), NUMPY)
    return cdf_by_sums(lambda k: np.exp(_log_pmf(at, k) - log_positive) if k > 0 else 0.0 * log_positive, y)


def genpois(link: str | Link | None = None) -> Family:
    """The generalized Poisson family: ``Var(y) = mu phi``, Poisson at ``phi = 1``.

    ``f(y) = theta (theta + lambda y)^(y - 1) exp(-theta - lambda y) / y!`` with ``theta = mu / sqrt(phi)`` and
    ``lambda = 1 - 1 / sqrt(phi)``. Below ``phi = 1`` counts at which ``theta + lambda y`` is not positive are
    impossible, and what is left does not quite sum to one. Links: log, identity, sqrt.

    Source: Consul & Jain (1973), Technometrics 15(4).

    >>> from glmmjax.families import Given
    >>> genpois().variance(Given(2.0, 3.0))
    6.0
    """
    return count_family(
        "genpois",
        link,
        _nll,
        log_base=poisson_base,
        has_dispersion=True,
        variance=_variance,
        simulate=_simulate,
        cdf=_cdf,
        phi_name="index of dispersion",
    )
