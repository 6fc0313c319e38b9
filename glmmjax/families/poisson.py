"""Poisson counts: the variance is the mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from glmmjax._deviances import poisson_half_deviance
from glmmjax._links import Link
from glmmjax.families._family import Family, Given, count_family, inside, log_ratio, one, poisson_base


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    def density(cond: Any) -> Any:
        return poisson_half_deviance(link.inverse(cond), link.log_inverse(cond), y)

    return inside(link, eta["cond"], density)


def _variance(at: Given) -> Any:
    return at.mu


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    return rng.poisson(at.mu)


def _cdf(y: Any, at: Given) -> Any:
    from scipy.special import pdtr

    return np.where(np.asarray(y) < 0, 0.0, pdtr(np.maximum(y, 0.0), at.mu))


def _deviance(y: Any, at: Given) -> Any:
    return 2.0 * (log_ratio(y, at.mu) - (y - at.mu))


def _start_mu(y: Any, trials: Any) -> Any:
    return np.asarray(y, dtype=float) + 0.1


def poisson(link: str | Link | None = None) -> Family:
    """The Poisson family: ``Var(y) = mu``.

    Links: log, identity, sqrt. No dispersion parameter. Under the identity link a linear predictor of 0 or less is no
    mean: the density is 0 there.

    >>> poisson().links
    ('log', 'identity', 'sqrt')
    """
    return count_family(
        "poisson",
        link,
        _nll,
        log_base=poisson_base,
        variance=_variance,
        sigma=one,
        simulate=_simulate,
        cdf=_cdf,
        deviance=_deviance,
        start_mu=_start_mu,
    )
