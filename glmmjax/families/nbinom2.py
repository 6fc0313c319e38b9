"""Negative binomial counts with quadratic variance: ``phi`` is the size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._deviances import nbinom_half_deviance
from glmmjax._links import Link
from glmmjax._special import log_gamma_step
from glmmjax.families._family import Family, Given, count_family, inside, log_ratio, nbinom_cdf, poisson_base


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    # It tends to Poisson's as phi grows; from log phi = 60 on, where they agree to rounding, phi is held.
    log_phi = jnp.where(eta["disp"] < 60.0, eta["disp"], 60.0)

    def density(cond: Any) -> Any:
        return nbinom_half_deviance(link.log_inverse(cond), log_phi, y)

    return inside(link, eta["cond"], density)


def _shared_nll(y: Any, eta: Mapping[str, Any], trials: Any) -> Any:
    return -log_gamma_step(eta["disp"], y)


def _variance(at: Given) -> Any:
    return at.mu + at.mu**2 / at.phi


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    return rng.poisson(rng.gamma(at.phi, np.asarray(at.mu) / at.phi))


def _cdf(y: Any, at: Given) -> Any:
    return nbinom_cdf(y, at.phi, at.phi / (at.phi + at.mu))


def _deviance(y: Any, at: Given) -> Any:
    # for the size as given
    return 2.0 * (log_ratio(y, at.mu) - log_ratio(y + at.phi, at.mu + at.phi))


def nbinom2(link: str | Link | None = None) -> Family:
    """The negative binomial family with ``Var(y) = mu + mu^2 / phi``.

    Links: log, identity, sqrt. ``phi`` is the size, also called theta; Poisson is its limit at infinity.

    >>> from glmmjax.families import Given
    >>> nbinom2().variance(Given(2.0, 4.0))
    3.0
    """
    return count_family(
        "nbinom2",
        link,
        _nll,
        log_base=poisson_base,
        shared_nll=_shared_nll,
        has_dispersion=True,
        variance=_variance,
        simulate=_simulate,
        cdf=_cdf,
        deviance=_deviance,
        phi_name="dispersion parameter",
    )
