"""Restricted maximum likelihood, put back into the coordinates of the model with ``beta`` among its parameters.

The engine integrates ``beta`` out with the random effects and optimizes over the rest, psi say. Afterwards readers want
all parameters together. With S^-1 the covariance of beta given psi, J the derivative of its mode in psi, and V the
covariance of psi,

    Cov(beta, psi) = [[S^-1 + J V J', J V], [V J', V]],    its inverse  [[S, -S J], [-J' S, V^-1 + J' S J]]

and the random effects are described given all parameters, as for maximum likelihood: Harville (1977), J. Am. Stat.
Assoc. 72, section 3; Kristensen et al. (2016), equation 6.
"""

from __future__ import annotations

from dataclasses import replace
from math import log, pi

import numpy as np

from glmmjax._errors import ArgumentError
from glmmjax._types import Random
from glmmjax.control import Control
from glmmjax.formula_fit import formula_problem
from glmmjax.hessians import zeros
from glmmjax.layout import Layout, ModelData
from glmmjax.model import joint_model
from glmmjax.optimizer import NewtonState
from glmmjax.solving import Problem, Solution, solve, solve_at


def solve_restricted(
    layout: Layout, data: ModelData, names: tuple[str, ...], control: Control, flat: np.ndarray, T: np.ndarray
) -> Solution:
    """The solution of a layout with ``reml`` in the coordinates of all parameters, ``beta`` first.

    Args:
        flat: where all of them start (k,).
        T: the directions in which they may move (k, r); see :func:`glmmjax.solving.solve`.

    Raises:
        ArgumentError: some of ``beta`` are held or tied.
    """
    p = layout.reml
    plain = formula_problem(replace(layout, reml=0), data, names)
    if p == 0:
        return solve(plain, control, flat, T)
    moved, start, directions = begin(layout, flat, T)
    restricted = solve(Problem((joint_model, layout), data, start, names[p:]), control, moved, directions)
    state = in_all_parameters(restricted.state, p)
    given = solve_at(plain, control, state.flat, state.at.modes)
    effects = {name: getattr(given.state.at, name) for name in ("modes", "modes_jacobian", "modes_vcov")}
    state = state._replace(at=state.at._replace(**effects))
    return Solution(state, given.report, restricted.compile_time + given.compile_time)


def begin(layout: Layout, flat: np.ndarray, T: np.ndarray) -> tuple[np.ndarray, Random, np.ndarray]:
    """What the engine begins from: the parameters that it optimizes over, the effects, and the directions.

    Args:
        flat, T: where all parameters start (k,), and the directions in which they may move (k, r).

    Raises:
        ArgumentError: some of ``beta`` are held or tied although they are to be integrated out.
    """
    p, modes = layout.reml, zeros(layout.structure.levels)
    own = np.any(T[:p] != 0.0, axis=0)
    if int(np.sum(own)) < p or np.any(T[p:, own] != 0.0):
        raise ArgumentError("fixed: with reml=True the fixed effects are integrated out, so none can be held or tied.")
    return flat[p:], (*modes, flat[:p, None]), T[p:, ~own]


def restricted_constant(p: int) -> float:
    """What the engine's value of a restricted likelihood has above that of the likelihood reported."""
    return 0.5 * p * log(2.0 * pi)


def in_all_parameters(state: NewtonState, p: int) -> NewtonState:
    """A state of the restricted iteration with ``beta`` among the parameters instead of the effects.

    The covariances of the other effects are still those with ``beta`` integrated out; their derivatives are left out.
    """
    at = state.at
    S = np.linalg.inv(at.modes_vcov[-1][:, :, 0])
    J = at.modes_jacobian[-1][:, 0]
    marginal = at._replace(
        value=at.value - restricted_constant(p),
        gradient=np.concatenate([np.zeros(p), at.gradient]),
        hessian=np.block([[S, -S @ J], [-(S @ J).T, at.hessian + J.T @ S @ J]]),
        modes=at.modes[:-1],
        modes_jacobian=(),
        modes_vcov=at.modes_vcov[:-1],
    )
    return state._replace(flat=np.concatenate([at.modes[-1][:, 0], state.flat]), at=marginal)
