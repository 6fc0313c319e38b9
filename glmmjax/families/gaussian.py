"""Gaussian responses; ``phi`` is the standard deviation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log, pi
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._links import REAL, Link
from glmmjax.families._family import Family, Given, choose_link, inside, start_at_y


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    log_sd = eta["disp"]

    def density(cond: Any) -> Any:
        return 0.5 * ((y - link.inverse(cond)) * jnp.exp(-log_sd)) ** 2

    return inside(link, eta["cond"], density) + log_sd


def normal_base(y: Any, trials: Any) -> Any:
    """The terms of a normal log-density that hold no parameter."""
    return np.full(np.shape(y), -0.5 * log(2.0 * pi))


def _variance(at: Given) -> Any:
    return at.phi**2 + 0.0 * at.mu


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    return rng.normal(at.mu, at.phi)


def _cdf(y: Any, at: Given) -> Any:
    from scipy.special import ndtr

    return ndtr((y - at.mu) / at.phi)


def _deviance(y: Any, at: Given) -> Any:
    return (y - at.mu) ** 2


def _start_positive(y: Any, trials: Any) -> Any:
    y = np.asarray(y, dtype=float)
    return np.maximum(y, _floor(y))


def _start_nonzero(y: Any, trials: Any) -> Any:
    y = np.asarray(y, dtype=float)
    return np.where(y < 0, np.minimum(y, -_floor(y)), np.maximum(y, _floor(y)))


def _floor(y: Any) -> float:
    return 0.1 * float(np.mean(np.abs(y))) or 1.0


_START = {"log": _start_positive, "inverse": _start_nonzero}


def start_real(link: Link) -> Callable[[Any, Any], Any]:
    """The start means of a response on the real line under a link."""
    return _START.get(link.name, start_at_y)


def gaussian(link: str | Link | None = None) -> Family:
    """The gaussian family: ``y ~ N(mu, phi^2)``.

    Links: identity, log, inverse. ``phi`` is the standard deviation, which ``sigma`` reports.

    >>> gaussian().link.name
    'identity'
    """
    chosen = choose_link("gaussian", link, REAL)
    return Family(
        "gaussian",
        chosen,
        _nll,
        links=tuple(REAL),
        log_base=normal_base,
        has_dispersion=True,
        variance=_variance,
        simulate=_simulate,
        cdf=_cdf,
        deviance=_deviance,
        has_zeros=False,
        start_mu=start_real(chosen),
        phi_name="residual standard deviation",
    )
