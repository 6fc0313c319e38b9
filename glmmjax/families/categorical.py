"""Unordered categories: multinomial logistic regression against the first category.

    P(Y = k) = exp(eta_k) / sum_j exp(eta_j),    eta_0 = 0

Each category but the first has a linear predictor of its own, with the formula of the mean: fixed effects, and random
effects that are independent between categories.

Agresti (2013), Categorical Data Analysis, 3rd ed., section 8.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient

from glmmjax._links import PROBABILITY, Link
from glmmjax.families._family import Bound, Family, Given, choose_link, in_counts, one
from glmmjax.families.cumulative import simulate_category

LINKS = {"logit": PROBABILITY["logit"]}


def categorical(link: str | Link | None = None) -> Family:
    """The categorical (multinomial) family. Link: logit.

    >>> categorical().links
    ('logit',)
    """
    return Family(
        "categorical",
        choose_link("categorical", link, LINKS),
        _nll,
        links=tuple(LINKS),
        sigma=one,
        response="categories",
        support="categories",
        in_support=in_counts,
        has_zeros=True,
        bind=_bind,
    )


def _bind(family: Family, y: Any, categories: tuple[Any, ...], components: tuple[str, ...]) -> Family:
    predictors = tuple(f"category{k}" for k in range(2, len(categories)))
    law = Bound(_probabilities, ("cond", *predictors))
    return replace(
        family,
        nll=Bound(_nll_of, ("cond", *predictors)),
        predictors=predictors,
        probabilities=law,
        simulate=Bound(simulate_category, law),
        categories=tuple(categories),
    )


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    return _nll_of(("cond",), y, eta, trials, link)


def _nll_of(names: tuple[str, ...], y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    predictors = [eta[name] for name in names]
    largest = predictors[0]
    for x in predictors[1:]:
        largest = jnp.maximum(largest, x)
    # held: the maximum only keeps the exponentials in range, its derivative cancels
    largest = stop_gradient(jnp.maximum(largest, 0.0))
    total = jnp.exp(-largest) + sum(jnp.exp(x - largest) for x in predictors)
    own = sum(jnp.where(y == k + 1, x, 0.0) for k, x in enumerate(predictors))
    return jnp.log(total) + largest - own


def _probabilities(names: tuple[str, ...], at: Given) -> np.ndarray:
    from scipy.special import softmax

    eta = np.broadcast_arrays(*(np.asarray(at.eta[name], dtype=float) for name in names))
    return np.asarray(softmax(np.stack([np.zeros_like(eta[0]), *eta], axis=-1), axis=-1))
