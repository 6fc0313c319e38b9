"""Negative binomial counts with linear variance: ``phi`` is the excess over Poisson."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._links import Link
from glmmjax._special import log_rising, softplus
from glmmjax.families._family import Family, Given, count_family, inside, log_factorial_base, nbinom_cdf


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    # The size is mu / phi. Below log phi = -60 the density is Poisson's to rounding and phi is held.
    log_phi = jnp.where(eta["disp"] > -60.0, eta["disp"], -60.0)
    log_variance_ratio = softplus(log_phi)

    def density(cond: Any) -> Any:
        log_mu = link.log_inverse(cond)
        log_size = log_mu - log_phi
        return (y + jnp.exp(log_size)) * log_variance_ratio - y * log_mu - log_rising(log_size, y)

    return inside(link, eta["cond"], density)


def _variance(at: Given) -> Any:
    return at.mu * (1.0 + at.phi)


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    return rng.poisson(rng.gamma(np.asarray(at.mu) / at.phi, at.phi))


def _cdf(y: Any, at: Given) -> Any:
    return nbinom_cdf(y, at.mu / at.phi, 1.0 / (1.0 + at.phi))


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
        log_base=log_factorial_base,
        has_dispersion=True,
        variance=_variance,
        simulate=_simulate,
        cdf=_cdf,
        phi_name="dispersion parameter",
    )
