"""Negative binomial counts whose variance has a linear and a quadratic excess; ``phi`` is the linear one."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._deviances import nbinom_half_deviance
from glmmjax._links import Link
from glmmjax._special import log_gamma_step, softplus
from glmmjax.families._family import Family, Given, Shape, count_family, inside, nbinom_cdf, poisson_base


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    # Both excesses at nothing are Poisson's to rounding at exp(-60), where each is held.
    log_phi = jnp.where(eta["disp"] > -60.0, eta["disp"], -60.0)
    log_psi = jnp.where(eta["psi"][0] < 60.0, eta["psi"][0], 60.0)

    def density(cond: Any) -> Any:
        log_mu = link.log_inverse(cond)
        log_excess = log_phi + softplus(log_mu - log_psi - log_phi)  # of the variance, relative to mu
        log_size = log_mu - log_excess
        return nbinom_half_deviance(log_mu, log_size, y) - log_gamma_step(log_size, y)

    return inside(link, eta["cond"], density)


def _natural(psi: Any) -> Any:
    return np.exp(psi)


def _start(y: Any, trials: Any) -> Any:
    return np.array([log(2.0)])


def _excess(at: Given) -> Any:
    return at.phi + at.mu / at.psi[0]


def _variance(at: Given) -> Any:
    return at.mu * (1.0 + _excess(at))


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    excess = _excess(at)
    return rng.poisson(rng.gamma(at.mu / excess, excess))


def _cdf(y: Any, at: Given) -> Any:
    excess = _excess(at)
    return nbinom_cdf(y, at.mu / excess, 1.0 / (1.0 + excess))


def nbinom12(link: str | Link | None = None, size: float | None = None) -> Family:
    """The negative binomial family with ``Var(y) = mu (1 + phi + mu / size)``.

    ``size`` is held if given, otherwise estimated on the log scale. Links: log, identity, sqrt. nbinom2 is the limit at
    ``phi = 0``, nbinom1 that at infinite ``size``.

    >>> from glmmjax.families import Given
    >>> nbinom12().variance(Given(2.0, 0.5, psi=(4.0,)))
    4.0
    """
    return count_family(
        "nbinom12",
        link,
        _nll,
        log_base=poisson_base,
        has_dispersion=True,
        shape=Shape(("size",), _natural, _start, None if size is None else (log(size),)),
        variance=_variance,
        simulate=_simulate,
        cdf=_cdf,
        phi_name="linear coefficient",
    )
