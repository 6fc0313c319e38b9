"""Lognormal responses by their own mean and standard deviation; ``phi`` is the latter."""

from __future__ import annotations

from collections.abc import Mapping
from math import log, pi
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._links import POSITIVE, Link
from glmmjax._special import softplus
from glmmjax.families._family import Family, Given, choose_link, in_positive, inside, squared_mean_variance, start_at_y

_LINKS = {name: POSITIVE[name] for name in ("log", "identity", "inverse")}


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    def density(cond: Any) -> Any:
        log_mu = link.log_inverse(cond)
        # Held where the coefficient of variation is 1e-37: the fourth power of its square must not underflow.
        x = 2.0 * (eta["disp"] - log_mu)
        variance = softplus(jnp.where(x > -170.0, x, -170.0))  # of log y
        log_variance = jnp.log(variance)
        # exp of the logarithm, not 1 / variance, whose derivatives overflow sooner
        return 0.5 * (jnp.log(y) - log_mu + 0.5 * variance) ** 2 * jnp.exp(-log_variance) + 0.5 * log_variance

    return inside(link, eta["cond"], density)


def _log_base(y: Any, trials: Any) -> Any:
    return -np.log(y) - 0.5 * log(2.0 * pi)


def _log_scale(at: Given) -> tuple[Any, Any]:
    """Mean and standard deviation of log y."""
    variance = np.log1p((at.phi / at.mu) ** 2)
    return np.log(at.mu) - 0.5 * variance, np.sqrt(variance)


def _variance(at: Given) -> Any:
    return at.phi**2 + 0.0 * at.mu


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    return np.exp(rng.normal(*_log_scale(at)))


def _cdf(y: Any, at: Given) -> Any:
    from scipy.special import ndtr

    mean, sd = _log_scale(at)
    with np.errstate(divide="ignore"):
        return ndtr((np.log(np.maximum(y, 0.0)) - mean) / sd)


def lognormal(link: str | Link | None = None) -> Family:
    """The lognormal family: ``log y ~ N(log mu - s^2 / 2, s^2)``, ``s^2 = log(1 + (phi / mu)^2)``: ``Var(y) = phi^2``.

    Links: log, identity, inverse.

    >>> from glmmjax.families import Given
    >>> lognormal().variance(Given(3.0, 2.0))
    4.0
    """
    return Family(
        "lognormal",
        choose_link("lognormal", link, _LINKS),
        _nll,
        links=tuple(_LINKS),
        log_base=_log_base,
        has_dispersion=True,
        variance=_variance,
        simulate=_simulate,
        cdf=_cdf,
        response="positive",
        support="positive numbers",
        in_support=in_positive,
        start_mu=start_at_y,
        start_variance=squared_mean_variance,
        phi_name="standard deviation",
    )
