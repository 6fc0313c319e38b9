"""The Laplace approximation of the marginal likelihood, and its exact first and second derivatives.

    marginal_nll(params) = nll(params, u_hat) + 1/2 log |H(params, u_hat)|

The constants of the spherical prior and of the approximation, (n_u / 2) log 2 pi each, cancel.
Tierney & Kadane (1986), J. Am. Stat. Assoc. 81; Kristensen et al. (2016), J. Stat. Softw. 70(5), section 2.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from glmmjax._status import Outcome
from glmmjax._types import Array, Data, Params, Random
from glmmjax.joint import JointModel
from glmmjax.modes import Stats, find_modes


class Marginal(NamedTuple):
    """The marginal negative log-likelihood at one point, with what the next point can use.

    Attributes:
        value: the marginal negative log-likelihood; infinite where the modes were not found.
        gradient, hessian: exact derivatives in the flat parameters (k,), (k, k).
        modes: the conditional modes of the spherical effects.
        modes_jacobian: their derivatives in the flat parameters, (..., k) each.
        stats: how the search for the modes ended.
    """

    value: Array
    gradient: Array
    hessian: Array
    modes: Random
    modes_jacobian: Random
    stats: Stats


def marginal_nll(model: JointModel, params: Params, start: Random, data: Data) -> tuple[Array, tuple[Random, Stats]]:
    """The Laplace approximation at ``params``, searching the modes from ``start``; with the modes and their status."""
    structure, members = model.structure, model.members(data)
    u, stats = find_modes(model, params, start, data)
    factor = structure.factor(model.curvature(params, u, data), members)
    value = model.nll(params, u, data) + 0.5 * structure.logdet(factor)
    found = (stats.outcome == Outcome.CONVERGED) & jnp.all(factor.positive)
    return jnp.where(found, value, jnp.inf), (u, stats)


def marginal_derivatives(model: JointModel, params: Params, start: Random, data: Data) -> Marginal:
    """Value, gradient and Hessian of the Laplace approximation: forward mode over reverse mode, through the modes."""
    flat, unflatten = ravel_pytree(params)

    def gradient(x: Array) -> tuple[tuple[Array, Random], tuple[Array, Stats]]:
        objective = lambda v: marginal_nll(model, unflatten(v), start, data)  # noqa: E731
        (value, (u, stats)), g = jax.value_and_grad(objective, has_aux=True)(x)
        return (g, u), (value, stats)

    def push(direction: Array) -> tuple[tuple[Array, Random], tuple[Array, Random], tuple[Array, Stats]]:
        return jax.jvp(gradient, (flat,), (direction,), has_aux=True)

    basis = jnp.eye(flat.size, dtype=flat.dtype)
    (g, u), (hessian, jacobian), (value, stats) = jax.vmap(push, out_axes=(None, -1, None))(basis)
    return Marginal(value, g, 0.5 * (hessian + hessian.T), u, jacobian, stats)
