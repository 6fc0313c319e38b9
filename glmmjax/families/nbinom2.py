"""Negative binomial counts with quadratic variance: ``phi`` is the size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._links import Link
from glmmjax._special import log_rising, softplus
from glmmjax.families._family import (
    COUNT_LINKS,
    Family,
    choose_link,
    in_counts,
    inside,
    log_factorial_base,
    mean_variance,
    start_count,
)


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    # With s = log(1 + mu / phi): (y + phi) s - y log mu, less the rising factorial relative to phi^y. Every term tends
    # to Poisson's as phi grows; from log phi = 60 on, where they agree to rounding, phi is held.
    log_phi = jnp.where(eta["disp"] < 60.0, eta["disp"], 60.0)

    def density(cond: Any) -> Any:
        log_mu = link.log_inverse(cond)
        return (y + jnp.exp(log_phi)) * softplus(log_mu - log_phi) - y * log_mu

    # a term of its own, because a derivative with respect to the mean's predictor then never meets it
    return inside(link, eta["cond"], density) - log_rising(log_phi, y)


def _variance(mu: Any, phi: Any, trials: Any) -> Any:
    return mu + mu**2 / phi


def _simulate(rng: np.random.Generator, mu: Any, phi: Any, trials: Any) -> Any:
    return rng.poisson(rng.gamma(phi, np.asarray(mu) / phi))


def nbinom2(link: str | Link | None = None) -> Family:
    """The negative binomial family with ``Var(y) = mu + mu^2 / phi``.

    Links: log, identity, sqrt. ``phi`` is the size, also called theta; Poisson is its limit at infinity.

    >>> nbinom2().variance(2.0, 4.0, 1.0)
    3.0
    """
    return Family(
        "nbinom2",
        choose_link("nbinom2", link, COUNT_LINKS),
        _nll,
        links=tuple(COUNT_LINKS),
        log_base=log_factorial_base,
        has_dispersion=True,
        variance=_variance,
        simulate=_simulate,
        response="count",
        support="whole numbers of 0 or more",
        in_support=in_counts,
        start_mu=start_count,
        start_variance=mean_variance,
        phi_name="dispersion parameter",
    )
