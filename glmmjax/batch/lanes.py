"""What a batch fits: many data sets, the lanes, of one layout, whose numbers may be shared or each lane's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glmmjax.design import Design
from glmmjax.layout import Arrangement, Layout, ModelData, bucket
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
    def data(self, lane: int) -> ModelData:
        """The numbers of a lane, padded."""

    @abstractmethod
    def directions(self, lane: int) -> np.ndarray:
        """The directions (k, r) in which the parameters of a lane may move."""

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

    def begin(self, lane: int) -> tuple[NewtonState, np.ndarray]:
        """The state in which the engine begins a lane, and the directions in which it may move."""
        flat, modes, T = begin(self.layout, self.starts[lane], self.directions(lane))
        return newton_start(flat, modes), T


@dataclass(frozen=True, eq=False)
class DataLanes(Lanes):
    """A data set for each lane.

    Attributes:
        arrays, moves, designs: the data, the directions and the design of each.
    """

    arrays: tuple[ModelData, ...]
    moves: tuple[np.ndarray, ...]
    designs: tuple[Design, ...]

    def data(self, lane: int) -> ModelData:
        return self.arrays[lane]

    def directions(self, lane: int) -> np.ndarray:
        return self.moves[lane]

    def design(self, lane: int) -> Design:
        return self.designs[lane]

    def take(self, chosen: np.ndarray) -> DataLanes:
        arrays, moves, designs = (
            tuple(values[lane] for lane in chosen) for values in (self.arrays, self.moves, self.designs)
        )
        return replace(self, starts=self.starts[chosen], arrays=arrays, moves=moves, designs=designs)


@dataclass(frozen=True, eq=False)
class Responses:
    """Responses of one design, a column for each lane, kept as they were given.

    Attributes:
        matrix: (n, m), dense or in SciPy's csc format, of any type of number; a NaN is missing.
        rows: (n,) positions in ``matrix`` of the design's rows.
        trials: (n,), or (n, m) each lane's own.
        weights: (n,) of the design.
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
        trials = self.trials if self.trials.ndim == 1 else np.ascontiguousarray(self.trials[self.rows][:, lanes].T)
        if not self.any_missing:
            return y, trials, self.weights
        missing = np.isnan(y)
        first = y[np.arange(len(y)), np.argmin(missing, axis=1)]
        return np.where(missing, first[:, None], y), trials, np.where(missing, 0.0, self.weights)

    def some(self, lanes: np.ndarray) -> Responses:
        """The responses of some lanes."""
        trials = self.trials if self.trials.ndim == 1 else self.trials[:, lanes]
        return replace(self, matrix=self.matrix[:, lanes], trials=trials)

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
        T: (k, r), the directions of all lanes.
        n_distinct: the padded number of distinct responses in a lane.
    """

    common: Design
    template: ModelData
    order: Arrangement
    responses: Responses
    T: np.ndarray
    n_distinct: int

    def data(self, lane: int) -> ModelData:
        y, trials, weights = self.responses.lane(lane)
        rows, used = self.order.rows, self.order.used
        own = {
            "y": y[rows],
            "trials": trials[rows],
            "weights": np.where(used, weights[rows], 0.0),
            "distinct": distinct(y, trials, weights, self.n_distinct) if "distinct" in self.own else None,
        }
        return replace(self.template, **{name: own[name] for name in self.own})

    def directions(self, lane: int) -> np.ndarray:
        return self.T

    def design(self, lane: int) -> Design:
        y, trials, weights = self.responses.lane(lane)
        return replace(self.common, y=y, trials=trials, weights=weights)

    def take(self, chosen: np.ndarray) -> ResponseLanes:
        return replace(self, starts=self.starts[chosen], responses=self.responses.some(chosen))


def response_lanes(
    design: Design,
    layout: Layout,
    template: ModelData,
    order: Arrangement,
    responses: Responses,
    starts: np.ndarray,
    T: np.ndarray,
) -> ResponseLanes:
    """The lanes of many responses of one design, which ``template`` has laid out with some response.

    Args:
        order: of the template's rows.
        starts: (m, k); NaN for lanes that cannot be run.
        T: (k, r), the directions of all lanes.
    """
    varies = {
        "y": True,
        "trials": responses.trials.ndim == 2,
        "weights": responses.any_missing,
        "distinct": template.distinct is not None,
    }
    runnable = np.flatnonzero(np.all(np.isfinite(starts), axis=1))
    n_distinct = bucket(most_distinct(responses, runnable)) if varies["distinct"] else 0
    own = frozenset(name for name, does in varies.items() if does)
    return ResponseLanes(layout, own, starts, design, template, order, responses, T, n_distinct)


def most_distinct(responses: Responses, chosen: np.ndarray) -> int:
    """The largest number of distinct (y, trials) among the chosen lanes."""
    return max((len(np.unique(_pairs(*responses.lane(int(i))[:2]))) for i in chosen), default=1)


def distinct(
    y: np.ndarray, trials: np.ndarray, weights: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct responses with the sum of the weights of their rows, padded to ``size`` by weight zero."""
    _, first, back = np.unique(_pairs(y, trials), return_index=True, return_inverse=True)
    spare = size - len(first)
    count = np.bincount(back.reshape(-1), weights, minlength=size)
    return np.pad(y[first], (0, spare), mode="edge"), np.pad(trials[first], (0, spare), mode="edge"), count


def _pairs(y: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """One number for each pair; y alone where all trials are one."""
    return y if trials[0] == 1.0 and np.all(trials == 1.0) else y + 1j * trials
