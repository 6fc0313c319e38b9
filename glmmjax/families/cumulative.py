"""Ordered categories: a cumulative link model with thresholds, effects on the scale, and effects that are not parallel.

    P(Y <= j) = F((threshold_j + nominal_j - eta) / exp(eta_scale)),    j = 1, ..., J - 1

McCullagh (1980), J. R. Statist. Soc. B 42; Christensen (2018), Cumulative link models for ordinal regression with the R
package ordinal, for the structured thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._errors import FamilyError, did_you_mean
from glmmjax._links import PROBABILITY, Link
from glmmjax._special import NUMPY, log1mexp
from glmmjax.families._family import Bound, Family, Given, Shape, in_counts, one, sigma_is_phi, unit_link

LINKS = {name: PROBABILITY[name] for name in ("logit", "probit", "cloglog", "loglog", "cauchit")}
THRESHOLDS = ("flexible", "symmetric", "equidistant")


def thresholds(kind: str, psi: Any, size: int, xp: Any) -> Any:
    """The ordered thresholds (size,) from their free parameters; ``xp`` is ``numpy`` or ``jax.numpy``.

    flexible: the first, then the logs of the steps. equidistant: the first, and the log of the step. symmetric: the
    center, or for an even number the inner two as a value and the log of their distance; then the logs of the steps
    outward, the same on both sides.

    >>> thresholds("equidistant", np.array([-1.0, 0.0]), 3, np).tolist()
    [-1.0, 0.0, 1.0]
    """
    if kind == "equidistant":
        return psi[0] + xp.exp(psi[1]) * np.arange(size)
    if kind == "flexible":
        return psi[0] + xp.cumsum(xp.concatenate([xp.zeros(1), xp.exp(psi[1:])]))
    inner = 1 + (size + 1) % 2  # one threshold in the center or two
    width = xp.exp(psi[1]) if inner == 2 else 0.0
    out = xp.cumsum(xp.exp(psi[inner:]))
    center = xp.stack([psi[0], psi[0] + width][:inner])
    return xp.concatenate([psi[0] - out[::-1], center, psi[0] + width + out])


def n_free(kind: str, size: int) -> int:
    """The number of free parameters of ``size`` thresholds.

    >>> [n_free(kind, 4) for kind in THRESHOLDS]
    [4, 3, 2]
    """
    return {"flexible": size, "symmetric": size // 2 + 1, "equidistant": 2}[kind]


def structure(kind: str, size: int) -> np.ndarray:
    """The matrix (size, parts) from effects on the parts of the thresholds to those on each; the identity for flexible.

    Thresholds with effects of their own keep their structure for every value of the predictors. The parts are those of
    :func:`thresholds` before logarithms are taken.

    >>> structure("symmetric", 4).tolist()
    [[1.0, 0.0, -1.0], [1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]
    """
    if n_free(kind, size) == size:
        return np.eye(size)
    if kind == "equidistant":
        return np.column_stack([np.ones(size), np.arange(float(size))])
    inner = 1 + (size + 1) % 2
    position = np.arange(size)
    upper = (size - 1) // 2 + inner - 1  # the highest of the inner ones
    columns = [np.ones(size), *[(position >= upper).astype(float)] * (inner - 1)]
    for step in range(1, (size - inner) // 2 + 1):
        above = (position >= upper + step).astype(float)
        columns.append(above - (position <= upper - inner + 1 - step))
    return np.column_stack(columns)


def cumulative(link: str | Link | None = None, threshold: str = "flexible") -> Family:
    """The cumulative family: ordered categories that an unobserved variable with distribution ``F`` falls into.

    Links, which name F: logit, probit, cloglog, loglog, cauchit. ``threshold`` is "flexible", "symmetric" or
    "equidistant". The model has no intercept: the thresholds take its place.

    Raises:
        FamilyError: an unknown link or kind of threshold.

    >>> cumulative("probit").link.name
    'probit'
    """
    if threshold not in THRESHOLDS:
        raise FamilyError(f"unknown threshold {threshold!r}. {did_you_mean(threshold, THRESHOLDS)}")
    return Family(
        "cumulative",
        unit_link("cumulative", link, LINKS),
        _not_bound,
        links=tuple(LINKS),
        sigma=one,
        response="categories",
        support="categories",
        in_support=in_counts,
        has_zeros=True,
        without_intercept=("cond", "disp", "nominal"),
        bind=Bound(_bind, threshold),
    )


def _not_bound(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    raise FamilyError("the family 'cumulative' must know its categories first: they come with the data.")


def _bind(kind: str, family: Family, y: Any, categories: tuple[Any, ...], components: tuple[str, ...]) -> Family:
    size = len(categories) - 1
    if kind != "flexible" and size < 2:
        raise FamilyError(
            f"threshold={kind!r} needs a response with three or more categories, and there are {len(categories)}: use "
            "threshold='flexible'."
        )
    parts = range(1, n_free(kind, size) + 1)
    nominal = tuple(f"nominal{j}" for j in parts) if "nominal" in components else ()
    names = tuple(f"{low}|{high}" for low, high in pairwise(categories))
    law = Bound(_probabilities, (family.link, kind, size, nominal))
    return replace(
        family,
        nll=Bound(_nll, (kind, size, nominal)),
        has_dispersion="disp" in components,
        sigma=sigma_is_phi if "disp" in components else family.sigma,
        phi_name="scale" if "disp" in components else None,
        predictors=nominal,
        shape=Shape(names, Bound(_natural, (kind, size)), Bound(_start, (kind, size, family.link))),
        probabilities=law,
        simulate=Bound(simulate_category, law),
        cdf=Bound(_cdf, law),
        categories=tuple(categories),
    )


def _natural(kind_and_size: tuple[str, int], psi: Any) -> Any:
    return thresholds(kind_and_size[0], np.asarray(psi), kind_and_size[1], np)


def _start(given: tuple[str, int, Link], y: Any, trials: Any) -> Any:
    """Thresholds from the frequencies of the categories, or the nearest ones of the structure."""
    kind, size, link = given
    count = np.bincount(np.asarray(y, dtype=int), minlength=size + 1) + 0.5
    free = np.asarray(link.link(np.cumsum(count)[:-1] / np.sum(count)), dtype=float)
    steps = np.maximum(np.diff(free), 1e-2)
    if kind == "flexible":
        return np.concatenate([free[:1], np.log(steps)])
    if kind == "equidistant":
        return np.array([free[0], np.log(np.mean(steps))])
    inner = 1 + (size + 1) % 2
    outward = steps[(size - 1) // 2 + inner - 1 :] if size > inner else np.zeros(0)
    inside = [np.log(steps[size // 2 - 1])] if inner == 2 else []
    return np.concatenate([[free[(size - 1) // 2]], inside, np.log(outward)])


def _nll(given: tuple[str, int, tuple[str, ...]], y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    kind, size, nominal = given
    cuts = thresholds(kind, eta["psi"], size, jnp)
    category = y.astype(int)
    upper = cuts[jnp.clip(category, 0, size - 1)]
    lower = cuts[jnp.clip(category - 1, 0, size - 1)]
    for j, row in enumerate(structure(kind, size) if nominal else ()):
        shift = sum(part * eta[name] for part, name in zip(row, nominal, strict=True) if part)
        upper = upper + jnp.where(category == j, shift, 0.0)
        lower = lower + jnp.where(category == j + 1, shift, 0.0)
    scale = jnp.exp(-eta["disp"]) if "disp" in eta else 1.0
    a, b = (upper - eta["cond"]) * scale, (lower - eta["cond"]) * scale
    return -log_probability(link, a, b, category == 0, category == size)


def log_probability(link: Link, a: Any, b: Any, first: Any, last: Any) -> Any:
    """``log(F(a) - F(b))``, accurate in both tails; JAX.

    Where ``first`` it is ``log F(a)``, where ``last`` it is ``log(1 - F(b))``, whatever the other end; elsewhere it is
    -inf with zero derivatives unless ``a > b``. The logistic and the two extreme-value distributions have exact
    products; the symmetric others are taken in the tail where both probabilities are small.
    """
    between = ~first & ~last
    usable = between & (a > b)
    a, b = jnp.where(first | usable, a, 1.0), jnp.where(last | usable, b, 0.0)
    assert link.log1m_inverse is not None
    if link.name in ("logit", "cloglog", "loglog"):
        below, above = link.log_inverse(a), link.log1m_inverse(b)
        if link.name == "logit":
            own = below + above + log1mexp(jnp.where(usable, a - b, 1.0))
        elif link.name == "cloglog":
            own = above + log1mexp(jnp.where(usable, _step_of_exp(b, a - b), 1.0))
        else:
            own = below + log1mexp(jnp.where(usable, _step_of_exp(-a, a - b), 1.0))
    else:
        flip = a + b > 0
        high, low = jnp.where(flip, -b, a), jnp.where(flip, -a, b)
        below = above = link.log_inverse(jnp.where(first, a, jnp.where(last, -b, high)))
        own = below + log1mexp(jnp.where(usable, below - link.log_inverse(jnp.where(usable, low, high - 1.0)), 1.0))
    return jnp.where(first, below, jnp.where(last, above, jnp.where(usable, own, -jnp.inf)))


def _step_of_exp(x: Any, step: Any) -> Any:
    """``exp(x + step) - exp(x)``, held where it is larger than any exponent that matters."""
    return jnp.exp(jnp.minimum(x, 300.0)) * jnp.expm1(jnp.minimum(step, 300.0))


def _probabilities(given: tuple[Link, str, int, tuple[str, ...]], at: Given) -> np.ndarray:
    link, kind, size, nominal = given
    cond = np.asarray(at.eta["cond"], dtype=float)[..., None]
    cuts = np.asarray(at.psi, dtype=float) + np.zeros(cond.shape)
    if nominal:
        parts = np.stack([np.broadcast_to(at.eta[name], cond.shape[:-1]) for name in nominal], axis=-1)
        cuts = cuts + parts @ structure(kind, size).T
    scale = np.exp(np.asarray(at.eta["disp"], dtype=float))[..., None] if "disp" in at.eta else 1.0
    x = (cuts - cond) / scale
    # from both sides, so that neither tail is a difference from one
    with np.errstate(over="ignore", divide="ignore"):
        below = np.asarray(link.inverse(x, NUMPY))
        above = np.exp(link.log1m_inverse(x, NUMPY))  # type: ignore[misc]
    zero, one = np.zeros((*below.shape[:-1], 1)), np.ones((*below.shape[:-1], 1))
    low, high = np.concatenate([zero, below, one], axis=-1), np.concatenate([one, above, zero], axis=-1)
    return np.where(low[..., 1:] < 0.5, np.diff(low, axis=-1), -np.diff(high, axis=-1))


def simulate_category(law: Bound, rng: np.random.Generator, at: Given) -> np.ndarray:
    """A category for each row, with the probabilities that ``law`` gives it."""
    return draw_category(rng, law(at))


def draw_category(rng: np.random.Generator, probabilities: np.ndarray) -> np.ndarray:
    """A category, numbered from 0, for each row of probabilities (n, J).

    >>> draw_category(np.random.default_rng(0), np.array([[0.0, 1.0]]))
    array([1.])
    """
    total = np.cumsum(probabilities, axis=1)
    return np.sum(rng.uniform(size=(len(total), 1)) > total[:, :-1], axis=1).astype(float)


def _cdf(law: Bound, y: Any, at: Given) -> Any:
    total = np.cumsum(law(at), axis=-1)
    y = np.floor(np.asarray(y, dtype=float))
    last = total.shape[-1] - 1
    picked = np.take_along_axis(total, np.clip(y, 0, last).astype(int)[..., None], axis=-1)[..., 0]
    return np.where(y < 0, 0.0, np.where(y >= last, 1.0, picked))
