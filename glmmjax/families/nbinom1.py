"""Negative binomial counts with linear variance: ``phi`` is the excess over Poisson."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._deviances import linear_nbinom_half_deviance
from glmmjax._links import Link
from glmmjax._special import log_gamma_step
from glmmjax.families._family import Family, Given, count_family, inside, nbinom_cdf, poisson_base


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    # The size is mu / phi. Below log phi = -60 the density is Poisson's to rounding and phi is held.
    log_phi = jnp.where(eta["disp"] > -60.0, eta["disp"], -60.0)

    def density(cond: Any) -> Any:
        log_mu = link.log_inverse(cond)
        return linear_nbinom_half_deviance(log_mu, log_phi, y) - log_gamma_step(log_mu - log_phi, y)

    return inside(link, eta["cond"], density)


def _variance(at: Given) -> Any:
    return at.mu * (1.0 + at.phi)


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    return rng.poisson(rng.gamma(np.asarray(at.mu) / at.phi, at.phi))


def _cdf(y: Any, at: Given) -> Any:
    return nbinom_cdf(y, at.mu / at.phi, 1.0 / (1.0 + at.phi))


def _deviance(y: Any, at: Given) -> Any:
    # The mean that fits a count best is not the count: for a given phi it is k phi, where
    # digamma(y + k) - digamma(k) = log(1 + phi), and the left side falls in k.
    from scipy.special import digamma, gammaln

    y, mu, phi = (x.astype(float) for x in np.broadcast_arrays(y, at.mu, at.phi))
    positive, slope = y > 0, np.log1p(phi)
    counts = np.where(positive, y, 1.0)
    low, high = np.log(counts / phi) - 40.0, np.log(counts / phi) + 40.0
    for _ in range(70):
        middle = 0.5 * (low + high)
        k = np.exp(middle)
        below = digamma(counts + k) - digamma(k) > slope
        low, high = np.where(below, middle, low), np.where(below, high, middle)

    def log_density(k: Any) -> Any:
        return gammaln(counts + k) - gammaln(k) - k * slope

    own = log_density(np.exp(0.5 * (low + high))) - log_density(mu / phi)
    return 2.0 * np.where(positive, own, mu / phi * slope)


def nbinom1(link: str | Link | None = None) -> Family:
    """The negative binomial family with ``Var(y) = mu (1 + phi)``.

    Links: log, identity, sqrt. Poisson is its limit at ``phi = 0``.

    >>> from glmmjax.families import Given
    >>> nbinom1().variance(Given(2.0, 0.5))
    3.0
    """
    return count_family(
        "nbinom1",
        link,
        _nll,
        log_base=poisson_base,
        has_dispersion=True,
        variance=_variance,
        simulate=_simulate,
        cdf=_cdf,
        deviance=_deviance,
        phi_name="dispersion parameter",
    )
