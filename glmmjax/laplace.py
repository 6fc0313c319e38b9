"""The Laplace approximation of the marginal likelihood, and its exact first and second derivatives.

    l(x) = f(x, u_hat(x)) + 1/2 log |H(x, u_hat(x))|,    H = f_uu

The constants of the spherical prior and of the approximation, (n_u / 2) log 2 pi each, cancel. With V = H^-1 and
h = f + 1/2 log|H| the implicit function theorem gives, all at x and u_hat,

    l_x = h_x - f_xu w,    w = V h_u,    h_u = 1/2 d<V, H>/du    (f_u = 0 at the mode)

so that l_x is the partial derivative in x alone of ``f + 1/2 <V, H> - <w, f_u>`` with V and w held fixed. The Hessian
is the derivative of that gradient as x moves and the mode follows, ``u_hat' = -V f_ux``.

Tierney & Kadane (1986), J. Am. Stat. Assoc. 81; Kristensen et al. (2016), J. Stat. Softw. 70(5), section 2.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from glmmjax._status import Outcome
from glmmjax._types import Array, Data, Params, Random
from glmmjax.joint import Expansion, JointModel
from glmmjax.modes import Stats, find_modes, solve_hessian


class Marginal(NamedTuple):
    """The marginal negative log-likelihood at one point, with what the next point can use.

    Attributes:
        value: the marginal negative log-likelihood; infinite where the modes were not found.
        gradient, hessian: exact derivatives in the flat parameters (k,), (k, k).
        modes: the conditional modes of the spherical effects.
        modes_jacobian: their derivatives in the flat parameters, (..., k) each.
        modes_vcov: their covariance given the parameters, the diagonal blocks of ``H^-1`` (d, d, G).
        stats: how the search for the modes ended.
    """

    value: Array
    gradient: Array
    hessian: Array
    modes: Random
    modes_jacobian: Random
    modes_vcov: Random
    stats: Stats


def marginal_nll(model: JointModel, params: Params, start: Random, data: Data) -> tuple[Array, tuple[Random, Stats]]:
    """The Laplace approximation at ``params``, searching the modes from ``start``; with the modes and their status.

    Differentiable to any order in ``params``: the modes bring their own derivative.
    """
    u, stats = find_modes(model, params, start, data)
    at = model.expand(params, u, data)
    return _value(model, at, stats, data), (u, stats)


def marginal_derivatives(model: JointModel, params: Params, start: Random, data: Data) -> Marginal:
    """Value, gradient and Hessian of the Laplace approximation at ``params``, searching the modes from ``start``."""
    flat, unflatten = ravel_pytree(params)
    params = unflatten(flat)
    u, stats = find_modes(model, params, start, data)
    at = model.expand(params, u, data)

    def gradient(x: Array, u: Random) -> Array:
        at, pull = jax.vjp(lambda x: model.expand(unflatten(x), u, data), x)
        V_half = jax.grad(lambda H: 0.5 * model.structure.logdet(H, model.members(data)))(at.hessian)
        h_u = jax.vjp(lambda u: model.hessian(unflatten(x), u, data), u)[1](V_half)[0]
        w = solve_hessian(model, at.hessian, h_u, data)
        return pull(Expansion(jnp.ones_like(at.pieces), tuple(-v for v in w), V_half))[0]

    def follow(direction: Array) -> tuple[Array, Array, Random]:
        _, score_dot = jax.jvp(lambda x: model.score(unflatten(x), u, data), (flat,), (direction,))
        u_dot = tuple(-v for v in solve_hessian(model, at.hessian, score_dot, data))
        return *jax.jvp(gradient, (flat, u), (direction, u_dot)), u_dot

    g, hessian, jacobian = jax.vmap(follow, out_axes=(None, -1, -1))(jnp.eye(flat.size, dtype=flat.dtype))
    factor = model.structure.factor(at.hessian, model.members(data))
    modes_vcov = model.structure.marginal_blocks(factor)
    return Marginal(_value(model, at, stats, data), g, 0.5 * (hessian + hessian.T), u, jacobian, modes_vcov, stats)


def _value(model: JointModel, at: Expansion, stats: Stats, data: Data) -> Array:
    """The approximation from the expansion at the modes; infinite if they were not found."""
    structure, members = model.structure, model.members(data)
    positive = structure.factor(jax.lax.stop_gradient(at.hessian), members).positive
    found = (stats.outcome == Outcome.CONVERGED) & jnp.all(positive)
    return jnp.where(found, jnp.sum(at.pieces) + 0.5 * structure.logdet(at.hessian, members), jnp.inf)
