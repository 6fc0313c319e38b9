"""What a batch fits: many data sets, the lanes, of one layout, whose numbers may be shared or each lane's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glmmjax.design import Design
from glmmjax.hessians import zeros
from glmmjax.layout import Arrangement, Layout, ModelData, bucket
from glmmjax.model import joint_model
from glmmjax.programs import Source


@dataclass(frozen=True, eq=False)
class Lanes:
    """Models of the same layout, of which each lane is one.

    Attributes:
        layout: shared by all.
        size: how many.
        data: lane -> its :class:`ModelData`; the leaves that ``axes`` does not mark are the same arrays for all.
        axes: a ModelData of 0 for each lane's own leaves and None for shared ones.
        start: lane -> the flat parameters (k,) at which it begins.
        directions: lane -> the directions (k, r) in which its parameters may move.
        design: lane -> its :class:`Design`, without padding.
    """

    layout: Layout
    size: int
    data: Callable[[int], ModelData]
    axes: ModelData
    start: Callable[[int], np.ndarray]
    directions: Callable[[int], np.ndarray]
    design: Callable[[int], Design]

    @property
    def source(self) -> Source:
        """The model, as programs know it."""
        return (joint_model, self.layout)

    @property
    def start_modes(self) -> tuple[np.ndarray, ...]:
        """Where the first search for the modes begins."""
        return zeros(self.layout.structure.levels)


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

    def lane(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """y, trials and weights (n,) of one lane."""
        y, trials, weights = self.take([i])
        return y[0], trials.reshape(-1), weights.reshape(-1)

    @property
    def size(self) -> int:
        """The number of lanes."""
        return int(self.matrix.shape[1])


def response_lanes(
    design: Design,
    layout: Layout,
    template: ModelData,
    order: Arrangement,
    responses: Responses,
    starts: np.ndarray,
    T: np.ndarray,
) -> Lanes:
    """The lanes of many responses of one design, which ``template`` has laid out with some response.

    Args:
        order: of the template's rows.
        starts: (m, k).
        T: (k, r), the directions of all lanes.
    """
    own_weights, own_trials = responses.any_missing, responses.trials.ndim == 2
    n_distinct = (
        0
        if template.distinct is None
        else bucket(most_distinct(responses, np.flatnonzero(np.all(np.isfinite(starts), axis=1))))
    )

    def data(i: int) -> ModelData:
        y, trials, weights = responses.lane(i)
        found = None if template.distinct is None else distinct(y, trials, weights, n_distinct)
        return replace(
            template,
            y=y[order.rows],
            trials=trials[order.rows] if own_trials else template.trials,
            weights=np.where(order.used, weights[order.rows], 0.0) if own_weights else template.weights,
            distinct=found,
        )

    def lane_design(i: int) -> Design:
        y, trials, weights = responses.lane(i)
        return replace(design, y=y, trials=trials, weights=weights)

    axes = marked(
        y=0,
        trials=0 if own_trials else None,
        weights=0 if own_weights else None,
        distinct=None if template.distinct is None else (0, 0, 0),
    )
    return Lanes(layout, len(starts), data, axes, lambda i: starts[i], lambda i: T, lane_design)


def marked(**axes: Any) -> Any:
    """A :func:`jax.vmap` axis for every leaf of the data: None but where said otherwise."""
    nothing = dict.fromkeys(("y", "trials", "weights", "X", "offset", "Z", "members", "distinct", "priors"))
    return ModelData(**{**nothing, **axes})


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
