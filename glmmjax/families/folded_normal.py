"""Sizes whose sign was not recorded: the absolute value of a normal variable with mean ``mu`` and deviation ``phi``."""

from __future__ import annotations

from collections.abc import Mapping
from math import pi, sqrt
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._links import POSITIVE, Link
from glmmjax._special import softplus
from glmmjax.families._family import Family, Given, choose_link, in_positive, inside
from glmmjax.families.gaussian import normal_base

_LINKS = {"log": POSITIVE["log"]}


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    def density(cond: Any) -> Any:
        mu, precision = link.inverse(cond), jnp.exp(-2.0 * eta["disp"])
        return 0.5 * precision * (y - mu) ** 2 - softplus(-2.0 * precision * y * mu)

    return inside(link, eta["cond"], density) + eta["disp"]


def _excess(at: Given) -> Any:
    """``E(y) - mu``, without the rounding of the difference."""
    from scipy.special import ndtr

    z = at.mu / at.phi
    return at.phi * sqrt(2.0 / pi) * np.exp(-0.5 * z**2) - 2.0 * at.mu * ndtr(-z)


def _mean(at: Given) -> Any:
    return at.mu + _excess(at)


def _variance(at: Given) -> Any:
    excess = _excess(at)
    return at.phi**2 - excess * (2.0 * at.mu + excess)


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    return np.abs(rng.normal(at.mu, at.phi))


def _cdf(y: Any, at: Given) -> Any:
    from scipy.special import ndtr

    y = np.maximum(y, 0.0)
    return ndtr((y - at.mu) / at.phi) - ndtr((-y - at.mu) / at.phi)


def folded_normal(link: str | Link | None = None) -> Family:
    """The folded normal family: ``y = |x|``, ``x ~ N(mu, phi^2)``.

    ``E(y) = phi sqrt(2 / pi) exp(-mu^2 / (2 phi^2)) + mu (1 - 2 Phi(-mu / phi))``, ``Var(y) = mu^2 + phi^2 - E(y)^2``.
    The sign of ``mu`` cannot be told from ``y``, so the link is the log.

    Source: Leone, Nelson & Nottingham (1961), Technometrics 3(4).

    >>> from glmmjax.families import Given
    >>> round(float(folded_normal().mean(Given(0.0, 1.0))), 4)
    0.7979
    """
    return Family(
        "folded_normal",
        choose_link("folded_normal", link, _LINKS),
        _nll,
        links=tuple(_LINKS),
        log_base=normal_base,
        has_dispersion=True,
        mean=_mean,
        variance=_variance,
        simulate=_simulate,
        cdf=_cdf,
        response="positive",
        support="positive numbers",
        in_support=in_positive,
        phi_name="standard deviation before folding",
    )
