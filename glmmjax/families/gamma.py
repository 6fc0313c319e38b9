"""Gamma responses: positive numbers with a constant coefficient of variation; ``phi`` is the shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._links import POSITIVE, Link
from glmmjax._special import log_gamma_excess
from glmmjax.families._family import Family, Given, choose_link, in_positive, inside, squared_mean_variance, start_at_y

_LINKS = {name: POSITIVE[name] for name in ("inverse", "log", "identity")}


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    log_shape, log_y = eta["disp"], jnp.log(y)

    def density(cond: Any) -> Any:
        distance = log_y - link.log_inverse(cond)
        return jnp.exp(log_shape) * (jnp.expm1(distance) - distance)

    return inside(link, eta["cond"], density) + log_gamma_excess(log_shape)


def _log_base(y: Any, trials: Any) -> Any:
    return -np.log(y)


def _variance(at: Given) -> Any:
    return at.mu**2 / at.phi


def _sigma(phi: Any) -> Any:
    return 1.0 / np.sqrt(phi)


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    return rng.gamma(at.phi, np.asarray(at.mu) / at.phi)


def _cdf(y: Any, at: Given) -> Any:
    from scipy.special import gammainc

    return gammainc(at.phi, at.phi * np.maximum(y, 0.0) / at.mu)


def _deviance(y: Any, at: Given) -> Any:
    ratio = y / at.mu
    return 2.0 * (ratio - 1.0 - np.log(ratio))


def Gamma(link: str | Link | None = None) -> Family:
    """The Gamma family with shape ``phi`` and scale ``mu / phi``: ``Var(y) = mu^2 / phi``.

    Links: inverse, log, identity. ``sigma`` reports the coefficient of variation ``1 / sqrt(phi)``. Under the inverse
    and identity links a linear predictor of 0 or less is no mean: the density is 0 there.

    >>> Gamma().link.name, Gamma("log").link.name
    ('inverse', 'log')
    """
    return Family(
        "Gamma",
        choose_link("Gamma", link, _LINKS),
        _nll,
        links=tuple(_LINKS),
        log_base=_log_base,
        has_dispersion=True,
        variance=_variance,
        sigma=_sigma,
        simulate=_simulate,
        cdf=_cdf,
        deviance=_deviance,
        response="positive",
        support="positive numbers",
        in_support=in_positive,
        start_mu=start_at_y,
        start_variance=squared_mean_variance,
        phi_name="shape",
    )
