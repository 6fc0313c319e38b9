"""Lanes that are ready to be run, and what is known of them; what both kinds of batches have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glmmjax._errors import DataError
from glmmjax.batch.lanes import Lanes
from glmmjax.constraints import constrain
from glmmjax.coordinates import Coordinates, coordinates
from glmmjax.design import Design
from glmmjax.families import Family
from glmmjax.fitting import checked_start
from glmmjax.formula_fit import Options
from glmmjax.interior import Interior
from glmmjax.layout import Layout, parameter_places

GOLDEN = 0.5 * (5.0**0.5 - 1.0)  # the fractional parts of its multiples are spread evenly and never repeat


@dataclass(frozen=True, eq=False)
class Batch:
    """Lanes of one layout, ready to be run, and what is known of them.

    Attributes:
        lanes, family: what is fitted.
        positions: (m,) where each lane stands among all keys.
        keys: of the lanes.
        names: of the parameters.
        problems: why a lane cannot be run, by lane.
        log_base: (m,) the terms of the log-likelihood in the responses alone.
        nobs: (m,) observations used.
        marks: (m,) of the responses and rows used; see :func:`mark`.
        options: for the fits on demand; with what the model itself holds fixed.
    """

    lanes: Lanes
    family: Family
    positions: np.ndarray
    keys: tuple[Any, ...]
    names: tuple[str, ...]
    problems: dict[int, str]
    log_base: np.ndarray
    nobs: np.ndarray
    marks: np.ndarray
    options: Options


def blocks(design: Design, layout: Layout) -> tuple[list[str], dict[str, int]]:
    """The blocks of parameters in flat order and their sizes."""
    places = parameter_places(design, layout)
    if layout.family.shape is None:
        del places["psi"]
    return list(places), {name: place.stop - place.start for name, place in places.items()}


def unfit_batch(like: Batch, problems: dict[int, str], keys: Sequence[Any]) -> Batch:
    """Those of all fits that cannot be run, as lanes that are not run; by their positions among ``keys``."""
    positions = np.array(sorted(problems))
    nothing = np.full(len(positions), np.nan)
    return replace(
        like,
        lanes=like.lanes.take(np.zeros(len(positions), dtype=int)),  # stand-ins: none of them is run
        positions=positions,
        keys=tuple(keys[p] for p in positions),
        problems={i: problems[p] for i, p in enumerate(positions)},
        log_base=nothing,
        nobs=np.zeros(len(positions), dtype=int),
        marks=nothing,
    )


def mark(rows: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Numbers (...) by which responses (..., n) in rows (n,) are recognized: a sum that hardly any others have.

    >>> mark(np.arange(2), np.array([[1.0, 2.0], [2.0, 1.0]]), np.ones(2)).round(2).tolist()
    [4.44, 4.83]
    """
    own = 0.5 + np.modf(GOLDEN * (1.0 + rows))[0]
    with np.errstate(invalid="ignore"):
        return np.sum(np.where(weights > 0, weights * (1.0 + y) * own, 0.0), axis=-1)


class NothingToFit(DataError):
    """None of the fits can be run."""

    def __init__(self, problems: Mapping[Any, str]) -> None:
        first = next(iter(problems.values()), "there are no rows")
        super().__init__(f"fit_many: none of the {len(problems)} data sets can be fitted; the first: {first}")
        self.problems = problems

    def __reduce__(self) -> tuple[Any, ...]:
        return NothingToFit, (self.problems,)  # an exception that crosses processes is made anew from its arguments


def constrained(
    starts: np.ndarray,
    design: Design,
    layout: Layout,
    scale: dict[str, np.ndarray],
    family: Family,
    options: Options,
) -> tuple[np.ndarray, Coordinates]:
    """The starts (m, k) with what the user gave or holds, and the coordinates in which parameters may move."""
    names, sizes = blocks(design, layout)
    bounds = np.cumsum([sizes[name] for name in names])
    where = {name: slice(end - sizes[name], end) for name, end in zip(names, bounds, strict=True)}
    good = np.all(np.isfinite(starts), axis=1)
    typical = np.median(starts[good], axis=0) if np.any(good) else np.zeros(starts.shape[1])
    plain = {name: typical[where[name]] for name in names}
    given = checked_start(plain, options.start)
    flat = np.concatenate([given.get(name, plain[name]) for name in names])
    held: dict[str, Any] = {} if family.shape is None or family.shape.held is None else {"psi": True}
    fixed = {**held, **options.fixed}
    free = None
    if fixed:
        flat, free = constrain({name: flat[where[name]] for name in names}, fixed)
    moves = coordinates(design, layout, {name: flat[where[name]] for name in names}, scale, free)
    flat = Interior(design, family, layout, plain).move(flat, moves.T) if given else flat
    starts = starts.copy()
    for name in given:
        starts[:, where[name]] = flat[where[name]]
    for lane in np.flatnonzero(good) if fixed else ():
        starts[lane] = constrain({name: starts[lane, where[name]] for name in names}, fixed)[0]
    return starts, moves
