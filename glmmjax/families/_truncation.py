"""Counts given that they are not zero, a wrapper around a family of counts.

    f(y | Y > 0) = f(y) / (1 - f(0)),    y = 1, 2, ...

The linear predictor stays that of the mean of the family itself, of which zeros are a part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._links import PROBABILITY, Link
from glmmjax.families._family import Bound, Family, Given, is_whole, no_deviance

_log_positive = PROBABILITY["cloglog"].log_inverse  # log(1 - exp(-exp(t)))


Within = Callable[[Any, Given], Any]


def truncated(family: Family, nll_of_zero: Callable[[Given], Any], within: Within) -> Family:
    """The family given that the count is not zero; "truncated_" goes before its name.

    Args:
        family: a family of counts, with all of ``-log f(0)`` in its ``nll``.
        nll_of_zero: ``at -> -log f(0)``, NumPy; to full relative accuracy for tiny means.
        within: ``(y, at) -> P(Y <= y | Y > 0)`` at whole y of 1 or more, NumPy; for tiny means too, where it is not the
            difference of two probabilities that both round to one.
    """

    def numeric(function: Callable[..., Any]) -> Bound:
        return Bound(Bound(function, nll_of_zero), family)

    return replace(
        family,
        name=f"truncated_{family.name}",
        nll=Bound(_nll, family),
        mean=numeric(_mean),
        variance=numeric(_variance),
        simulate=Bound(Bound(_simulate, within), family),
        cdf=Bound(_cdf, within),
        deviance=no_deviance,
        has_zeros=False,
        support="whole numbers of 1 or more (add ziformula= for zeros: a hurdle model)",
        in_support=_in_support,
        start_mu=_start_mu,
        bind=None if family.bind is None else Bound(Bound(_bind, (nll_of_zero, within)), family),
    )


def _bind(
    zero_and_within: tuple[Callable[[Given], Any], Within],
    family: Family,
    own: Family,
    y: Any,
    categories: tuple[Any, ...],
    components: tuple[str, ...],
) -> Family:
    assert family.bind is not None
    return truncated(family.bind(family, y, categories, components), *zero_and_within)


def _nll(family: Family, y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    own, zero = family.nll(y, eta, trials, link), family.nll(jnp.zeros_like(y, dtype=float), eta, trials, link)
    finite = jnp.isfinite(zero)
    zero = jnp.where(finite, zero, 1.0)
    # The logarithm of a tiny number has derivatives that overflow before they meet those of the number: a unit of its
    # own size keeps all of them near 1.
    scale = jax.lax.stop_gradient(1.0 / jnp.where(zero > 1e-300, zero, 1e-300))
    log_zero = jnp.log(zero * scale) - jnp.log(scale)
    return jnp.where(finite, own + _log_positive(log_zero), jnp.inf)


def _positive(nll_of_zero: Callable[[Given], Any], at: Given) -> Any:
    """``P(Y > 0)``."""
    return -np.expm1(-np.asarray(nll_of_zero(at)))


def _mean(nll_of_zero: Callable[[Given], Any], family: Family, at: Given) -> Any:
    return family.mean(at) / _positive(nll_of_zero, at)


def _variance(nll_of_zero: Callable[[Given], Any], family: Family, at: Given) -> Any:
    mean, positive = family.mean(at), _positive(nll_of_zero, at)
    return np.maximum((family.variance(at) + mean**2) / positive - (mean / positive) ** 2, 0.0)


def _cdf(within: Within, y: Any, at: Given) -> Any:
    y = np.floor(np.asarray(y, dtype=float))
    return np.where(y < 1, 0.0, np.clip(within(np.maximum(y, 1.0), at), 0.0, 1.0))


def from_tails(above: Callable[[Any, Given], Any]) -> Within:
    """``P(Y <= y | Y > 0)`` from ``(y, at) -> P(Y > y)`` of full relative accuracy."""
    return Bound(_from_tails, above)


def _from_tails(above: Callable[[Any, Given], Any], y: Any, at: Given) -> Any:
    # where not even P(Y > 0) is a number it can be written as, the count is 1
    positive = np.asarray(above(np.zeros_like(y), at))
    return 1.0 - np.where(positive > 0, above(y, at) / np.where(positive > 0, positive, 1.0), 0.0)


def _simulate(within: Within, family: Family, rng: np.random.Generator, at: Given) -> Any:
    y = np.asarray(family.simulate(rng, at), dtype=float)
    for _ in range(20):
        again = y == 0
        if not np.any(again):
            return y
        y[again] = np.asarray(family.simulate(rng, _rows(at, again)), dtype=float)
    again = y == 0
    if np.any(again):
        # where nearly all counts are zeros: the smallest y whose distribution function is u or more
        y[again] = _inverse(rng.uniform(size=int(again.sum())), Bound(_cdf, within), _rows(at, again))
    return y


def _rows(at: Given, which: Any) -> Given:
    def taken(column: Any) -> Any:
        return np.broadcast_to(column, which.shape)[which] if np.ndim(column) else column

    return Given(taken(at.mu), taken(at.phi), taken(at.trials), at.psi, taken(at.zi))


def _inverse(u: Any, cdf: Callable[[Any, Given], Any], at: Given) -> Any:
    low, high = np.zeros_like(u), np.ones_like(u)
    while np.any(short := cdf(high, at) < u) and np.max(high) < 1e9:
        low, high = np.where(short, high, low), np.where(short, 2.0 * high, high)
    while np.any(high - low > 1.0):
        middle = np.floor(0.5 * (low + high))
        enough = cdf(middle, at) >= u
        low, high = np.where(enough, low, middle), np.where(enough & (middle > low), middle, high)
    return high


def _in_support(y: Any, trials: Any) -> Any:
    return is_whole(y) & (np.asarray(y) >= 1)


def _start_mu(y: Any, trials: Any) -> Any:
    # counts of 1 come from any mean below 1
    y = np.asarray(y, dtype=float)
    return np.where(y > 1, y, 0.5)
