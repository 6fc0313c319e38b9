"""What a batch fits: many data sets, the lanes, of one layout, whose numbers may be shared or each lane's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np

from glmmjax.alternatives import alternatives
from glmmjax.constraints import n_free
from glmmjax.coordinates import Coordinates
from glmmjax.design import Design
from glmmjax.hessians import zeros
from glmmjax.layout import Arrangement, Layout, ModelData, group_counts, room_for_distinct
from glmmjax.model import joint_model
from glmmjax.optimizer import NewtonState, newton_start
from glmmjax.programs import Source
from glmmjax.restricted import begin


@dataclass(frozen=True, eq=False)
class Lanes(ABC):
    """Models of the same layout, of which each lane is one. Frozen and picklable.

    Attributes:
        layout: shared by all.
        own: the fields of :class:`ModelData` that are each lane's own; the others are the same arrays for all.
        starts: (m, k), the flat parameters at which each lane begins.
    """

    layout: Layout
    own: frozenset[str]
    starts: np.ndarray

    @property
    def size(self) -> int:
        """How many."""
        return len(self.starts)

    @abstractmethod
    def arrays(self, lanes: np.ndarray) -> dict[str, Any]:
        """The fields of :class:`ModelData` that are some lanes' own, padded; arrays with a row for each lane."""

    @abstractmethod
    def data(self, lane: int) -> ModelData:
        """The numbers of a lane, padded."""

    @abstractmethod
    def directions(self, lanes: np.ndarray) -> np.ndarray:
        """The directions (lanes, k, r) in which the parameters of some lanes may move."""

    @abstractmethod
    def n_groups(self, lanes: np.ndarray) -> np.ndarray:
        """The number of groups of each level without padding (lanes, levels)."""

    @property
    @abstractmethod
    def df(self) -> np.ndarray:
        """The number of estimated parameters of each lane (m,)."""

    @abstractmethod
    def design(self, lane: int) -> Design:
        """The design of a lane, without padding."""

    @abstractmethod
    def take(self, chosen: np.ndarray) -> Lanes:
        """Some of the lanes, and no more than they need: what another process is sent."""

    @property
    def source(self) -> Source:
        """The model, as programs know it."""
        return (joint_model, self.layout)

    @property
    def n_effects(self) -> int:
        """The number of random effects of one group of every level."""
        return sum(level.n_effects for level in self.layout.structure.levels)

    def other_starts(self, lane: int, count: int | None) -> dict[str, np.ndarray]:
        """What other starts of a lane add to its own; see :func:`glmmjax.alternatives.alternatives`."""
        T = self.directions(np.array([lane]))[0]
        return alternatives(self.design(lane), self.layout.family, self.layout, T, count)

    def begin(self, lanes: np.ndarray, numbers: np.ndarray | None = None) -> tuple[NewtonState, np.ndarray]:
        """The states in which the engine begins some lanes, and the directions in which they may move; stacked.

        ``numbers`` are those of other starts; negative for a lane's own.
        """
        flat, T = self.starts[lanes].copy(), self.directions(lanes)
        for i, number in enumerate(() if numbers is None else numbers.tolist()):
            if number >= 0:
                flat[i] += list(self.other_starts(int(lanes[i]), number + 1).values())[number]
        modes = tuple(np.zeros((len(lanes), *u.shape)) for u in zeros(self.layout.structure.levels))
        if self.layout.reml:
            found = [begin(self.layout, *own) for own in zip(flat, T, strict=True)]
            flat, modes, T = (stacked(parts) for parts in zip(*found, strict=True))
        first = newton_start(flat[0], tuple(u[0] for u in modes))
        state = jax.tree.map(lambda x: np.repeat(x[None], len(lanes), axis=0), first)
        return state._replace(flat=flat, at=state.at._replace(modes=modes)), T


def stacked(trees: Sequence[Any]) -> Any:
    """Trees of equal form as one whose arrays have a leading axis."""
    return jax.tree.map(lambda *x: np.stack(x), *trees)


@dataclass(frozen=True, eq=False)
class DataLanes(Lanes):
    """A data set for each lane.

    Attributes:
        sets, moves, designs: the data, the directions and the design of each.
    """

    sets: tuple[ModelData, ...]
    moves: tuple[np.ndarray, ...]
    designs: tuple[Design, ...]

    def arrays(self, lanes: np.ndarray) -> dict[str, Any]:
        return {name: stacked([getattr(self.sets[lane], name) for lane in lanes]) for name in self.own}

    def data(self, lane: int) -> ModelData:
        return self.sets[lane]

    def directions(self, lanes: np.ndarray) -> np.ndarray:
        return np.stack([self.moves[lane] for lane in lanes])

    @property
    def df(self) -> np.ndarray:
        return n_free(np.stack(self.moves))

    def n_groups(self, lanes: np.ndarray) -> np.ndarray:
        return np.array([group_counts(self.designs[lane], self.layout) for lane in lanes], dtype=int)

    def design(self, lane: int) -> Design:
        return self.designs[lane]

    def take(self, chosen: np.ndarray) -> DataLanes:
        sets, moves, designs = (
            tuple(values[lane] for lane in chosen) for values in (self.sets, self.moves, self.designs)
        )
        return replace(self, starts=self.starts[chosen], sets=sets, moves=moves, designs=designs)


@dataclass(frozen=True, eq=False)
class Responses:
    """Responses of one design, a column for each lane, kept as they were given.

    Attributes:
        matrix: (n, m), dense or in SciPy's csc format, of any type of number; a NaN is missing.
        rows: (n,) positions in ``matrix`` of the design's rows.
        trials: (n,), or each lane's own, with the rows of ``matrix``.
        weights: (n,), or each lane's own, with the rows of ``matrix``.
        any_missing: whether a response is missing somewhere, which is then given the weight zero.
    """

    matrix: Any
    rows: np.ndarray
    trials: np.ndarray
    weights: np.ndarray
    any_missing: bool

    def take(self, lanes: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """y (lanes, n), trials and weights, (n,) or (lanes, n), of some lanes; missing ones hold the lane's first."""
        part = self.matrix[:, lanes]
        dense = part.toarray() if hasattr(part, "toarray") else np.asarray(part)
        y = np.ascontiguousarray(dense[self.rows].T, dtype=np.float64)
        trials, weights = (
            x if x.ndim == 1 else np.ascontiguousarray(x[self.rows][:, lanes].T) for x in (self.trials, self.weights)
        )
        if not self.any_missing:
            return y, trials, weights
        missing = np.isnan(y)
        first = y[np.arange(len(y)), np.argmin(missing, axis=1)]
        return np.where(missing, first[:, None], y), trials, np.where(missing, 0.0, weights)

    def some(self, lanes: np.ndarray) -> Responses:
        """The responses of some lanes."""
        trials, weights = (x if x.ndim == 1 else x[:, lanes] for x in (self.trials, self.weights))
        return replace(self, matrix=self.matrix[:, lanes], trials=trials, weights=weights)

    @property
    def uneven(self) -> bool:
        """Whether the rows that count differ between lanes."""
        return self.any_missing or self.weights.ndim == 2

    def lane(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """y, trials and weights (n,) of one lane."""
        y, trials, weights = self.take([i])
        return y[0], trials.reshape(-1), weights.reshape(-1)

    @property
    def size(self) -> int:
        """The number of lanes."""
        return int(self.matrix.shape[1])


@dataclass(frozen=True, eq=False)
class ResponseLanes(Lanes):
    """A response of one design for each lane.

    Attributes:
        common: the design, with some response.
        template: its numbers, laid out.
        order: of the template's rows.
        responses: one for each lane.
        moves: the directions of all lanes.
        units: (m,) by how much a step of one along them moves the linear predictor of the mean of each lane.
        n_distinct: the padded number of distinct responses in a lane.
    """

    common: Design
    template: ModelData
    order: Arrangement
    responses: Responses
    moves: Coordinates
    units: np.ndarray
    n_distinct: int

    def arrays(self, lanes: np.ndarray) -> dict[str, Any]:
        y, trials, weights = self.responses.take(lanes)
        rows, used = self.order.rows, self.order.used
        own = {
            "y": lambda: y[:, rows],
            "trials": lambda: trials[..., rows],
            "weights": lambda: np.where(used, weights[..., rows], 0.0),
            "distinct": lambda: distinct(y, trials, weights, self.n_distinct),
        }
        return {name: own[name]() for name in self.own}

    def data(self, lane: int) -> ModelData:
        own = self.arrays(np.array([lane]))
        return replace(self.template, **{name: jax.tree.map(lambda x: x[0], values) for name, values in own.items()})

    def other_starts(self, lane: int, count: int | None) -> dict[str, np.ndarray]:
        if count not in self._other_starts:  # the same for all lanes
            self._other_starts[count] = super().other_starts(lane, count)
        return self._other_starts[count]

    @cached_property
    def _other_starts(self) -> dict[int | None, dict[str, np.ndarray]]:
        return {}

    def directions(self, lanes: np.ndarray) -> np.ndarray:
        return self.moves.T * np.where(self.moves.of_mean, self.units[lanes, None], 1.0)[:, None, :]

    @property
    def df(self) -> np.ndarray:
        return np.full(self.size, n_free(self.moves.T))

    def n_groups(self, lanes: np.ndarray) -> np.ndarray:
        own = np.array(group_counts(self.common, self.layout), dtype=int)
        return np.broadcast_to(own, (len(lanes), len(own)))

    def design(self, lane: int) -> Design:
        y, trials, weights = self.responses.lane(lane)
        return replace(self.common, y=y, trials=trials, weights=weights)

    def take(self, chosen: np.ndarray) -> ResponseLanes:
        return replace(
            self, starts=self.starts[chosen], units=self.units[chosen], responses=self.responses.some(chosen)
        )


def response_lanes(
    design: Design,
    layout: Layout,
    template: ModelData,
    order: Arrangement,
    responses: Responses,
    starts: np.ndarray,
    moves: Coordinates,
    units: np.ndarray,
) -> ResponseLanes:
    """The lanes of many responses of one design, which ``template`` has laid out with some response.

    Args:
        order: of the template's rows.
        starts: (m, k); NaN for lanes that cannot be run.
        moves: the directions of all lanes.
        units: (m,) of each lane's coordinates.
    """
    varies = {
        "y": True,
        "trials": responses.trials.ndim == 2,
        "weights": responses.uneven,
        "distinct": template.distinct is not None,
    }
    runnable = np.flatnonzero(np.all(np.isfinite(starts), axis=1))
    n_distinct = room_for_distinct(most_distinct(responses, runnable), len(template.y)) if varies["distinct"] else 0
    own = frozenset(name for name, does in varies.items() if does)
    return ResponseLanes(layout, own, starts, design, template, order, responses, moves, units, n_distinct)


LANES_AT_ONCE = 256  # when responses are looked over


def most_distinct(responses: Responses, chosen: np.ndarray) -> int:
    """The largest number of distinct (y, trials) among the chosen lanes."""
    most = 1
    for first in range(0, len(chosen), LANES_AT_ONCE):
        y, trials, _ = responses.take(chosen[first : first + LANES_AT_ONCE])
        pairs = np.sort(_pairs(y, trials), axis=1)
        most = max(most, 1 + int(np.max(np.sum(pairs[:, 1:] != pairs[:, :-1], axis=1), initial=0)))
    return most


def distinct(
    y: np.ndarray, trials: np.ndarray, weights: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct responses (m, size) of each lane with the sum of the weights of their rows, padded by weight zero.

    Args:
        y, trials, weights: (m, n), the latter two perhaps (n,).

    >>> y, _, count = distinct(np.array([[3.0, 1.0, 3.0]]), np.ones(3), np.ones(3), 4)
    >>> y.tolist(), count.tolist()
    ([[1.0, 3.0, 3.0, 3.0]], [[1.0, 2.0, 0.0, 0.0]])
    """
    m = len(y)
    order = np.argsort(_pairs(y, trials), axis=1)
    y, trials, weights = (np.take_along_axis(np.broadcast_to(x, y.shape), order, axis=1) for x in (y, trials, weights))
    new = (y[:, 1:] != y[:, :-1]) | (trials[:, 1:] != trials[:, :-1])
    place = np.concatenate([np.zeros((m, 1), dtype=int), np.cumsum(new, axis=1)], axis=1)
    lane = np.arange(m)[:, None]
    count = np.bincount((lane * size + place).reshape(-1), weights.reshape(-1), minlength=m * size).reshape(m, size)
    values = [np.repeat(x[:, -1:], size, axis=1) for x in (y, trials)]
    for own, x in zip(values, (y, trials), strict=True):
        own[lane, place] = x
    return values[0], values[1], count


def _pairs(y: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """One number for each pair; y alone where all trials are one."""
    return y if np.all(trials == 1.0) else y + 1j * trials
