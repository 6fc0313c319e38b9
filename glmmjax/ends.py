"""Where a response stands at an end of its range, so that its linear predictor may run off to infinity.

A row whose response is at the lower end lets its linear predictor fall for ever, one at the upper end lets it rise, one
inside holds it: the rows of the two matrices that :func:`glmmjax.separation.recession` asks for. An end counts only
where the link reaches it at infinity: the logarithm has no upper end, the identity of a count none at all.

========================  ==========================================================================================
0/1, successes            the lower end is 0, the upper end all trials
counts, tweedie           the lower end is 0; that of truncated counts 1
zero inflation, hurdles   zero or not, in their own predictor; the mean behind a hurdle has the other rows
ordered categories        both thresholds of a category must not come nearer to the linear predictor; they move as well
categories                the predictor of the category that occurred must not fall behind any other
ordered beta              0 and 1 against the cutpoints, which move as well
censored                  the open end of the interval
========================  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glmmjax._links import Link
from glmmjax.design import Design
from glmmjax.families import Family
from glmmjax.layout import Layout, beta_name, parameter_places
from glmmjax.separation import distinct, recession

_BOTH_ENDS = ("logit", "probit", "cloglog", "loglog", "cauchit")


@dataclass(frozen=True, eq=False)
class Runaway:
    """The parameters whose estimates are infinite, as a linear program finds them.

    Attributes:
        span: (r, q) orthonormal directions in the coordinates of the optimizer.
        columns: names of the columns that they move; of thresholds as well, where columns move.
        ends: what it means, in words, where no column moves but cutpoints or the probability of extra zeros.
        complete: every row gains, so that the likelihood tells about nothing else.
    """

    span: np.ndarray
    columns: tuple[str, ...]
    ends: tuple[str, ...]
    complete: bool


def runaway(
    design: Design,
    family: Family,
    layout: Layout,
    flat: np.ndarray,
    directions: np.ndarray,
    names: Sequence[str],
    seen: dict[bytes, Runaway | None] | None = None,
) -> Runaway | None:
    """What runs off to infinity; None where all estimates are finite.

    Args:
        flat: where the parameters are (k,).
        directions: (k, r) in which they may move; what is left out is held.
        names: of the parameters.
        seen: what was found for other responses with the same matrices and directions.
    """
    if seen is None or layout.n_psi:  # where cutpoints move, it matters where they are
        return _runaway(design, family, layout, flat, directions, names)
    key = _pattern(design, family)
    if key not in seen:
        seen[key] = _runaway(design, family, layout, flat, directions, names)
    return seen[key]


def can_run_off(design: Design, layout: Layout, directions: np.ndarray) -> np.ndarray:
    """Which directions (k, r) move fixed effects or cutpoints, (r,) bool; not those of the dispersion."""
    width = sum(part.X.shape[1] for part in design.components.values()) + layout.n_psi
    moved = directions != 0.0
    disp = parameter_places(design, layout).get(beta_name("disp"), slice(0, 0))
    return np.any(moved[:width], axis=0) & ~np.any(moved[disp], axis=0)


def _runaway(
    design: Design,
    family: Family,
    layout: Layout,
    flat: np.ndarray,
    directions: np.ndarray,
    names: Sequence[str],
) -> Runaway | None:
    rises, still = forms(design, family, layout.n_psi)
    width = rises.shape[1]
    own = np.flatnonzero(can_run_off(design, layout, directions))
    T = directions[:width, own]
    found = recession(rises @ T, np.concatenate([still @ T, T[_with_priors(design, layout)]]))
    if found.span.shape[1] == 0:
        return None
    moves = np.any(np.abs(T @ found.span) > MOVES * np.linalg.norm(T, axis=1, keepdims=True), axis=1)
    moves &= np.any(T != 0.0, axis=1)
    n_beta = width - layout.n_psi
    columns = tuple(names[i] for i in np.flatnonzero(moves[:n_beta]).tolist())
    cuts = cut_forms(family, layout.n_psi)
    shifted = np.any(np.abs(cuts @ (T @ found.span)[n_beta:]) > MOVES, axis=1)
    labels = tuple(np.array(family.shape.names)[shifted].tolist()) if len(cuts) and family.shape is not None else ()
    span = np.zeros((directions.shape[1], found.span.shape[1]))
    span[own] = found.span
    if len(cuts):
        # from steps between cutpoints to their logarithms, the parameters
        for k in range(1, layout.n_psi):
            span[directions[n_beta + k] != 0.0] *= np.exp(-flat[n_beta + k])
        span = np.linalg.qr(span)[0]
    complete = bool(np.all(found.gains)) and not len(still)
    if not columns:
        return Runaway(
            span, (), tuple(f"the {label} is infinite: no response lies beyond it" for label in labels), False
        )
    if columns == ("zi:(Intercept)",):
        return Runaway(span, (), ("the probability of an extra zero is 0: fit without ziformula",), False)
    return Runaway(span, (*columns, *labels), (), complete)


def _with_priors(design: Design, layout: Layout) -> list[int]:
    """The positions of the fixed effects that a prior keeps finite."""
    places = parameter_places(design, layout)
    first = {beta_name(name): places[beta_name(name)].start for name in design.components}
    return [first[prior.block] + i for prior in layout.priors if prior.block in first for i in prior.positions]


def _pattern(design: Design, family: Family) -> bytes:
    """What of a response decides."""
    y, used = design.y, design.weights > 0
    ends = y if family.response == "categories" else sides(family, y, design.trials)
    parts = (np.where(used, ends, -9), np.where(used, (y == 0) - 1.0 * (y == 1), 0), used & (design.trials > 0))
    return np.stack(parts).astype(np.int16).tobytes()


MOVES = 1e-7  # a parameter moves if its part of a direction is larger than this share of what it could be


def forms(design: Design, family: Family, n_psi: int) -> tuple[np.ndarray, np.ndarray]:
    """``(rises, still)`` in the fixed effects of all components and psi, in the order of the flat parameters.

    Shape parameters that are cutpoints count in their linear form: the first cutpoint, and the steps.
    """
    used = (design.weights > 0) & ((design.trials > 0) if family.response == "trials" else True)
    y, trials = design.y[used], design.trials[used]
    names = sorted(design.components, key=beta_name)
    starts = np.cumsum([0, *(design.components[name].X.shape[1] for name in names)])
    width = int(starts[-1]) + n_psi
    X = {
        name: _wide(design.components[name].X[used], int(i), width)
        for name, i in zip(names, starts, strict=False)
        if name != "disp"
    }
    cuts = _wide(cut_forms(family, n_psi), int(starts[-1]), width)
    rises, still = _of_mean(family, y, trials, X, cuts)
    if family.zero_inflated:
        rises = np.concatenate([rises, np.where((y == 0)[:, None], X["zi"], -X["zi"])])
    return rises[np.sort(distinct(rises)[0])], still[np.sort(distinct(still)[0])]


def cut_forms(family: Family, n_psi: int) -> np.ndarray:
    """The cutpoints as linear forms (cutpoints, n_psi) of the first one and the steps; none for other families.

    >>> from glmmjax.families import FAMILIES
    >>> cut_forms(FAMILIES["ordbeta"](None), 2).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    if n_psi == 0 or family.shape is None or not (family.categories or _is_ordered_beta(family)):
        return np.zeros((0, n_psi))
    origin = np.concatenate([[0.0], np.full(n_psi - 1, -np.inf)])
    at_origin = np.asarray(family.shape.natural(origin), dtype=float)
    units = [np.where(np.arange(n_psi) == k, float(k == 0), origin) for k in range(n_psi)]
    return np.stack([np.asarray(family.shape.natural(unit), dtype=float) - at_origin for unit in units], axis=1)


def sides(family: Family, y: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """-1 where the response is at its lower end, 1 at its upper end, 0 inside, (n,); of ends that the link can reach.

    >>> from glmmjax.families import FAMILIES
    >>> sides(FAMILIES["binomial"](None), np.array([0.0, 2.0, 1.0]), np.full(3, 2.0)).tolist()
    [-1, 1, 0]
    >>> sides(FAMILIES["poisson"](None), np.array([0.0, 2.0]), np.ones(2)).tolist()
    [-1, 0]
    """
    lower, upper = _reached(family.link)
    if family.response == "trials":
        low, high = y == 0, y == trials
    elif family.response == "interval":
        # the mean of a real number has both ends, and only an open interval goes with it
        free = family.link.valid is None
        low, high, lower, upper = np.isneginf(y), np.isposinf(trials), free, free
    elif family.response == "count" or (family.response == "positive" and family.has_zeros):
        low = y == (0 if family.has_zeros or np.any(y == 0) else 1)
        high = np.zeros_like(low)
    else:
        return np.zeros(len(y), dtype=int)
    return np.where(high & upper, 1, np.where(low & lower, -1, 0)) * ~(low & high)


def _reached(link: Link) -> tuple[bool, bool]:
    """Whether linear predictors that fall, or rise, without end take the mean to the end of its range."""
    both = link.name in _BOTH_ENDS or (link.log1m_inverse is not None and link.valid is None)
    return both or link.name == "log", both


def _of_mean(
    family: Family, y: np.ndarray, trials: np.ndarray, X: dict[str, np.ndarray], cuts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    nothing = np.zeros((0, cuts.shape[1]))
    if family.response == "categories":
        return (_ordered(y, X, cuts) if family.shape is not None else _unordered(y, X, family)), nothing
    behind = np.ones(len(y), dtype=bool) if family.has_zeros or not family.zero_inflated else y != 0
    y, trials, cond = y[behind], trials[behind], X["cond"][behind]
    if _is_ordered_beta(family):
        return _ordered_beta(y, cond, cuts, _reached(family.link))
    side = sides(family, y, trials)
    return side[side != 0, None] * cond[side != 0], cond[side == 0]


def _is_ordered_beta(family: Family) -> bool:
    return family.response == "unit" and bool(family.has_zeros) and family.shape is not None


def _ordered(y: np.ndarray, X: dict[str, np.ndarray], cuts: np.ndarray) -> np.ndarray:
    """The upper threshold of a category must not fall, nor its lower one rise, against the linear predictor."""
    own = []
    for j, cut in enumerate(cuts):
        threshold = cut + X[f"nominal{j + 1}"] - X["cond"] if f"nominal{j + 1}" in X else cut - X["cond"]
        own += [threshold[y == j], -threshold[y == j + 1]]
    return np.concatenate(own)


def _unordered(y: np.ndarray, X: dict[str, np.ndarray], family: Family) -> np.ndarray:
    """The linear predictor of the category that occurred less that of each other one; the first one's is zero."""
    eta = [np.zeros_like(X["cond"]), X["cond"], *(X[name] for name in family.predictors)]
    return np.concatenate([(eta[k] - eta[j])[y == k] for k in range(len(eta)) for j in range(len(eta)) if j != k])


def _ordered_beta(
    y: np.ndarray, cond: np.ndarray, cuts: np.ndarray, reached: tuple[bool, bool]
) -> tuple[np.ndarray, np.ndarray]:
    low, high = cuts
    inside = (y > 0) & (y < 1)
    between = np.broadcast_to([-low, high], (int(np.any(inside)), 2, len(low))).reshape(-1, len(low))
    rises = np.concatenate([(low - cond)[y == 0], (cond - high)[y == 1], between])
    return rises, cond[inside | (y == 1) & (not reached[1])]


def _wide(X: np.ndarray, first: int, width: int) -> np.ndarray:
    """The columns of X at their place among all."""
    out = np.zeros((len(X), width))
    out[:, first : first + X.shape[1]] = X
    return out
