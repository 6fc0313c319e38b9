"""Positive responses whose variance grows with the cube of the mean; ``phi`` is the dispersion."""

from __future__ import annotations

from collections.abc import Mapping
from math import log, pi
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._links import POSITIVE, Link
from glmmjax.families._family import Family, Given, choose_link, in_positive, inside, start_at_y

_LINKS = {name: POSITIVE[name] for name in ("log", "inverse", "identity")}


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    def density(cond: Any) -> Any:
        # The relative error is squared: a mean below 1e-139 is held, where the square would overflow.
        log_mu = link.log_inverse(cond)
        relative = jnp.expm1(jnp.log(y) - jnp.where(log_mu > -320.0, log_mu, -320.0))
        return 0.5 * relative * relative * jnp.exp(-eta["disp"]) / y

    return inside(link, eta["cond"], density) + 0.5 * eta["disp"]


def _log_base(y: Any, trials: Any) -> Any:
    return -1.5 * np.log(y) - 0.5 * log(2.0 * pi)


def _variance(at: Given) -> Any:
    return at.phi * at.mu**3


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    return rng.wald(at.mu, 1.0 / np.asarray(at.phi))


def _cdf(y: Any, at: Given) -> Any:
    from scipy.special import log_ndtr, ndtr

    y = np.maximum(np.asarray(y, dtype=float), 1e-300)
    root = np.sqrt(1.0 / (at.phi * y))
    with np.errstate(over="ignore"):
        second = np.exp(np.minimum(2.0 / (at.phi * at.mu) + log_ndtr(-root * (y / at.mu + 1.0)), 0.0))
    return np.clip(ndtr(root * (y / at.mu - 1.0)) + second, 0.0, 1.0)


def _deviance(y: Any, at: Given) -> Any:
    return (y - at.mu) ** 2 / (at.mu**2 * y)


def _sigma(phi: Any) -> Any:
    return np.sqrt(phi)


def _start_variance(mu: Any, trials: Any) -> Any:
    return mu**3


def inverse_gaussian(link: str | Link | None = None) -> Family:
    """The inverse Gaussian family: ``Var(y) = phi mu^3``.

    Links: log, inverse, identity. ``sigma`` reports ``sqrt(phi)``; ``1 / phi`` is the shape of other texts.

    Source: McCullagh & Nelder (1989), Generalized Linear Models, table 2.1.

    >>> from glmmjax.families import Given
    >>> inverse_gaussian().variance(Given(2.0, 0.5))
    4.0
    """
    return Family(
        "inverse_gaussian",
        choose_link("inverse_gaussian", link, _LINKS),
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
        start_variance=_start_variance,
        phi_name="dispersion parameter",
    )
