"""Verdicts on many fits: all lanes are looked over together, and those with something to say one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glmmjax._status import Outcome
from glmmjax.batch.engine import LaneResults
from glmmjax.batch.lanes import Lanes, ResponseLanes
from glmmjax.ends import Runaway, can_run_off
from glmmjax.information import UNINFORMED
from glmmjax.laplace import Marginal
from glmmjax.modes import Stats
from glmmjax.optimizer import LEAST_INFORMATION, NewtonState
from glmmjax.verdict import SUSPECT, judge


@dataclass(frozen=True, eq=False)
class Verdicts:
    """What became of the lanes: a row for each.

    Attributes:
        status: (m,) words; "converged" alone means that nothing is wrong.
        converged, singular, separated: (m,) bool.
        vcov: (m, k, k) covariance of the parameters; NaN where it is not known.
    """

    status: np.ndarray
    converged: np.ndarray
    singular: np.ndarray
    separated: np.ndarray
    vcov: np.ndarray


def judge_lanes(lanes: Lanes, results: LaneResults, problems: dict[int, str], names: tuple[str, ...]) -> Verdicts:
    """The verdicts on all lanes.

    Args:
        problems: why a lane was not run, by lane.
        names: of the parameters.
    """
    m, k = results.flat.shape
    status = np.full(m, "converged", dtype=object)
    converged, singular, separated = np.ones(m, dtype=bool), np.zeros(m, dtype=bool), np.zeros(m, dtype=bool)
    vcov = np.full((m, k, k), np.nan)
    done = results.done
    for lane in np.flatnonzero(~done).tolist():
        status[lane] = f"not fitted: {problems[lane]}" if lane in problems else "not fitted: the run was interrupted"
        converged[lane] = False
    clean = done & (results.outcome == int(Outcome.CONVERGED))
    if np.any(clean):
        looked_at = np.flatnonzero(clean)
        clean[looked_at], vcov[looked_at] = _sound(lanes, results, looked_at)
    # lanes of one design share what the linear program finds, as far as their responses are at the same ends
    seen: dict[bytes, Runaway | None] | None = {} if isinstance(lanes, ResponseLanes) else None
    for lane in np.flatnonzero(done & ~clean).tolist():
        verdict = judge(
            lanes.design(lane),
            lanes.layout.family,
            lanes.layout,
            _state(results, lane),
            _least_variances(lanes, results.variances[lane]),
            lanes.directions(np.array([lane]))[0],
            names,
            seen,
        )
        status[lane], converged[lane], vcov[lane] = verdict.status, verdict.converged, verdict.vcov
        singular[lane], separated[lane] = bool(verdict.singular), bool(verdict.separated)
    return Verdicts(status, converged, singular, separated, vcov)


def _sound(lanes: Lanes, results: LaneResults, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which of the chosen lanes have nothing that a closer look would find, and the covariances of those."""
    T = lanes.directions(chosen)
    reduced = np.swapaxes(T, 1, 2) @ results.hessian[chosen] @ T
    fine = np.all(np.isfinite(reduced), axis=(1, 2))
    reduced = np.where(fine[:, None, None], reduced, np.eye(reduced.shape[1]))
    eigenvalues, V = np.linalg.eigh(reduced)
    # with this much curvature in every direction no parameter is at the end of its range, and no estimate is infinite
    fine &= eigenvalues[:, 0] > LEAST_INFORMATION if eigenvalues.shape[1] else True
    columns = can_run_off(lanes.design(int(chosen[0])), lanes.layout, T[0])
    if np.any(columns):
        fine &= np.linalg.eigvalsh(reduced[:, columns][:, :, columns])[:, 0] > SUSPECT
    fine &= np.all(results.variances[chosen] < 1.0 - UNINFORMED, axis=1)
    fine &= np.all(np.any(T != 0.0, axis=2), axis=1)  # a parameter that is held is for the closer look
    with np.errstate(all="ignore"):
        root = T @ (V / np.sqrt(eigenvalues)[:, None, :])
    return fine, np.where(fine[:, None, None], root @ np.swapaxes(root, 1, 2), np.nan)


def _least_variances(lanes: Lanes, variances: np.ndarray) -> tuple[np.ndarray, ...]:
    """The smallest variances as diagonal blocks of one group per level."""
    ends = np.cumsum([level.n_effects for level in lanes.layout.structure.levels])[:-1]
    return tuple(np.diag(own)[..., None] for own in np.split(variances, ends))


def _state(results: LaneResults, lane: int) -> NewtonState:
    """As much of the state as a verdict asks for."""
    nothing: tuple[np.ndarray, ...] = ()
    at = Marginal(
        results.value[lane],
        results.gradient[lane],
        results.hessian[lane],
        nothing,
        nothing,
        nothing,
        Stats(np.array(0), np.array(0)),
    )
    zero = np.zeros(())
    return NewtonState(
        results.flat[lane],
        at,
        zero,
        zero,
        zero,
        zero,
        zero,
        results.outcome[lane],
        results.iterations[lane],
    )
