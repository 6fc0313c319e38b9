"""Counts without zeros, a wrapper around any family of counts: its distribution given ``Y > 0``.

    -log f(y | Y > 0) = -log f(y) + log(1 - f(0))

The linear predictor is that of the mean before truncation; with ``ziformula`` the model is a hurdle model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._links import Link
from glmmjax._special import log1mexp
from glmmjax.families._family import Bound, Family, Given, no_deviance


def truncated(family: Family) -> Family:
    """The family given ``Y > 0``; ``mean`` and ``variance`` are those of the truncated distribution.

    >>> from glmmjax.families import FAMILIES, Given
    >>> float(truncated(FAMILIES["poisson"](None)).mean(Given(1.0)).round(4))
    1.582
    """
    return replace(
        family,
        name=f"truncated_{family.name}",
        nll=Bound(_nll, family),
        mean=Bound(_mean, family),
        variance=Bound(_variance, family),
        simulate=Bound(_simulate, family),
        cdf=Bound(_cdf, family),
        deviance=no_deviance,
        support="whole numbers of 1 or more (add ziformula= for zeros, which makes it a hurdle model)",
        in_support=Bound(_in_support, family),
        has_zeros=False,
        bind=None if family.bind is None else Bound(_bind, family),
    )


def make_truncated(base: Callable[..., Family], link: str | Link | None = None) -> Family:
    """The truncated form of the family that a constructor makes."""
    return truncated(base(link))


def _bind(family: Family, own: Family, y: Any, categories: tuple[Any, ...], components: tuple[str, ...]) -> Family:
    assert family.bind is not None
    return truncated(family.bind(family, y, categories, components))


def _nll(family: Family, y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    none = family.nll(jnp.zeros(()), eta, trials, link)  # -log f(0)
    possible = jnp.isfinite(none)
    return family.nll(y, eta, trials, link) + jnp.where(possible, log1mexp(jnp.where(possible, none, 1.0)), jnp.inf)


def _zero(family: Family, at: Given) -> Any:
    return family.cdf(np.zeros(np.shape(at.mu)), at)


def _mean(family: Family, at: Given) -> Any:
    return family.mean(at) / (1.0 - _zero(family, at))


def _variance(family: Family, at: Given) -> Any:
    there, mean = 1.0 - _zero(family, at), family.mean(at)
    return (family.variance(at) + mean**2) / there - (mean / there) ** 2


def _cdf(family: Family, y: Any, at: Given) -> Any:
    zero = _zero(family, at)
    return np.clip((family.cdf(y, at) - zero) / (1.0 - zero), 0.0, 1.0)


def _simulate(family: Family, rng: np.random.Generator, at: Given) -> Any:
    """By inverting the distribution function: the last count at which it is still below the level, plus one."""
    zero = _zero(family, at)
    level = zero + (1.0 - zero) * rng.uniform(size=np.shape(zero))
    low = np.zeros(level.shape)
    high = np.ones(level.shape)
    while np.any(short := family.cdf(high, at) < level) and np.max(high) < 2.0**40:
        low, high = np.where(short, high, low), np.where(short, 2.0 * high, high)
    while np.any(high - low > 1.0):
        middle = np.floor(0.5 * (low + high))
        below = family.cdf(middle, at) < level
        low, high = np.where(below, middle, low), np.where(below, high, np.maximum(middle, low + 1.0))
    return high


def _in_support(family: Family, y: Any, trials: Any) -> Any:
    return family.in_support(y, trials) & (np.asarray(y) >= 1)
