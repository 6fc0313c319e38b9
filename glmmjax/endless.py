"""Parameters of a likelihood of one's own that run off to where it no longer changes, as a log variance to -infinity.

Nothing is known of such a likelihood but its values, and a parameter may have any unit. So a parameter that looks weak
is moved by one of its standard errors, the others along with it as the quadratic model has them: the likelihood should
fall by about one half. Where it hardly falls at all on one side, its maximum is at infinity on that side.
"""

from __future__ import annotations

import numpy as np

from glmmjax._status import Outcome
from glmmjax.control import Control
from glmmjax.optimizer import NewtonState
from glmmjax.solving import Problem, solve_at
from glmmjax.verdict import scaled_covariance, weakest

LARGE_ERROR = 30.0
FAR = 100.0  # standard errors that are so many times the way from the start
HARDLY = 0.1  # of the fall that is promised


def endless(
    problem: Problem, control: Control, state: NewtonState, start: np.ndarray, directions: np.ndarray
) -> dict[int, str]:
    """Where parameters run off to, "infinity" or "-infinity", by their position.

    Args:
        state: in which the outer iteration ended.
        start: the parameters with which it began (k,).
        directions: in which they may move (k, r).
    """
    if int(state.outcome) == Outcome.START_NOT_FINITE or not np.all(np.isfinite(state.at.hessian)):
        return {}
    flat, value = np.asarray(state.flat), float(state.at.value)
    way = np.abs(flat - start)
    vcov, known, positive = scaled_covariance(state.at.hessian, directions)
    steps: dict[int, np.ndarray] = {}
    if positive:
        error = np.sqrt(np.diag(vcov))
        suspicious = (error > LARGE_ERROR) | (error > FAR * way) & (way > 0)
        steps = {j: known[:, j] / error[j] for j in np.flatnonzero(suspicious).tolist()}
    else:
        alone = weakest(directions.T @ state.at.hessian @ directions, directions).tolist()
        steps = {j: np.where(np.arange(len(flat)) == j, max(way[j], abs(flat[j]), 1.0), 0.0) for j in alone[:1]}
        steps = steps if len(alone) == 1 else {}

    def fall(step: np.ndarray) -> float:
        moved = float(solve_at(problem, control, flat + step, state.at.modes).state.at.value)
        return moved - value if np.isfinite(moved) else np.inf

    found = {}
    for j, step in steps.items():
        for sign, end in ((-1.0, "-infinity"), (1.0, "infinity")):
            if abs(fall(sign * step)) < 0.5 * HARDLY:
                found[j] = end
                break
    return found
