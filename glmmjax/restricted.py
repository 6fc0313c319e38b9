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
from glmmjax.control import Control
from glmmjax.formula_fit import formula_problem
from glmmjax.hessians import zeros
from glmmjax.layout import Layout, ModelData
from glmmjax.model import joint_model
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
    plain = replace(layout, reml=0)
    if p == 0:
        return solve(formula_problem(plain, data, names), control, flat, T)
    own = np.any(T[:p] != 0.0, axis=0)
    if np.linalg.matrix_rank(T[:p]) < p or np.any(T[p:, own] != 0.0):
        raise ArgumentError("fixed: with reml=True the fixed effects are integrated out, so none can be held or tied.")
    start = (*zeros(layout.structure.levels), flat[:p, None])
    restricted = solve(Problem((joint_model, layout), data, start, names[p:]), control, flat[p:], T[p:, ~own])
    at = restricted.state.at
    full = np.concatenate([at.modes[-1][:, 0], restricted.state.flat])
    given = solve_at(formula_problem(plain, data, names), control, full, at.modes[:-1])
    S = np.linalg.inv(at.modes_vcov[-1][:, :, 0])
    SJ = S @ at.modes_jacobian[-1][:, 0]
    marginal = given.state.at._replace(
        value=at.value - 0.5 * p * log(2.0 * pi),
        gradient=np.concatenate([np.zeros(p), at.gradient]),
        hessian=np.block([[S, -SJ], [-SJ.T, at.hessian + at.modes_jacobian[-1][:, 0].T @ SJ]]),
        stats=at.stats,
    )
    state = restricted.state._replace(flat=full, at=marginal)
    return Solution(state, given.report, restricted.compile_time + given.compile_time)
