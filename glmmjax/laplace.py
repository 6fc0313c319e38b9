"""The Laplace approximation of the marginal likelihood, and its exact first and second derivatives.

    l(x) = f(x, u_hat(x)) + 1/2 log |H(x, u_hat(x))|,    H = f_uu

A formula model leaves out the constant of its spherical prior, which cancels the ``-(n_u / 2) log 2 pi`` of the
approximation; a density that is complete gets the latter from its owner. With V = H^-1 and
h = f + 1/2 log|H| the implicit function theorem gives, all at x and u_hat,

    l_x = h_x - f_xu w,    w = V h_u,    h_u = 1/2 d<V, H>/du    (f_u = 0 at the mode)

so that l_x is the partial derivative in x alone of ``f + 1/2 <V, H> - <w, f_u>`` with V and w held fixed. The Hessian
is the derivative of that gradient as x moves and the mode follows, ``u_hat' = -V f_ux``.

Tierney & Kadane (1986), J. Am. Stat. Assoc. 81; Kristensen et al. (2016), J. Stat. Softw. 70(5), section 2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from glmmjax._status import Outcome
from glmmjax._types import Array, Data, Params, Random
from glmmjax.hessians import MOST_SHARED, damp
from glmmjax.joint import Expansion, JointModel
from glmmjax.laplace_rows import half_inverse, row_gradient, row_hessian
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
    factor = model.structure.factor(jax.lax.stop_gradient(at.hessian), model.members(data))
    return _value(model, at, stats, data, factor), (u, stats)


def marginal_gradient(model: JointModel, flat: Array, start: Random, data: Data) -> Marginal:
    """Value and gradient at the flat parameters (k,), searching the modes from ``start``; other derivatives NaN."""
    return marginal_derivatives(model, flat, start, data, exact=False)


def marginal_derivatives(
    model: JointModel, flat: Array, start: Random, data: Data, exact: Array | bool = True
) -> Marginal:
    """Value, gradient and Hessian at the flat parameters (k,), searching the modes from ``start``.

    ``exact`` says, if need be only when the program runs, whether to go beyond the gradient.
    """
    u, stats = find_modes(model, model.unflatten(flat, data), start, data)
    second: Callable[[], tuple[Array, Random]]
    if model.rows is not None:
        slope = row_gradient(model, flat, u, data)
        at, g, factor, V_half = slope.expansion, slope.gradient, slope.factor, slope.inverse
        second = partial(row_hessian, model, flat, u, data, slope)
    elif exact is True:  # with the gradient in one pass
        (at, g, factor, V_half), both = _second_order(model, flat, u, data)
        second = partial(tuple, both)
    else:
        at, g, factor, V_half = _gradient(model, flat, u, data)
        second = partial(_hessian, model, flat, u, data)

    def unknown() -> tuple[Array, Random]:
        return jnp.full((flat.size, flat.size), jnp.nan), tuple(jnp.full((flat.size, *x.shape), jnp.nan) for x in u)

    if isinstance(exact, bool):
        hessian, u_dot = second() if exact else unknown()
    else:
        hessian, u_dot = jax.lax.cond(exact, second, unknown)
    jacobian = tuple(jnp.moveaxis(x, 0, -1) for x in u_dot)
    return Marginal(_value(model, at, stats, data, factor), g, hessian, u, jacobian, _vcov(model, V_half, data), stats)


def _gradient(model: JointModel, x: Array, u: Random, data: Data) -> tuple[Expansion, Array, Any, Any]:
    """The expansion at (x, u), the gradient there if u are the modes, what solves with H, and half its inverse."""

    def expand(x: Array, u: Random) -> Expansion:
        return model.expand(model.unflatten(x, data), u, data)

    at, pull = jax.vjp(lambda x: expand(x, u), x)
    factor = model.structure.factor(jax.lax.stop_gradient(at.hessian), model.members(data))
    V_half = half_inverse(model, at.hessian, data, factor)
    h_u = jax.vjp(lambda u: expand(x, u).hessian, u)[1](V_half)[0] if u else ()
    w = solve_hessian(model, at.hessian, h_u, data, factor)
    g = pull(Expansion(jnp.ones_like(at.pieces), tuple(-v for v in w), V_half))[0]
    return at, g, factor, V_half


def _hessian(model: JointModel, flat: Array, u: Random, data: Data) -> tuple[Array, Random]:
    """The Hessian, and the derivatives of the modes (k, ...)."""
    return _second_order(model, flat, u, data)[1]


def _second_order(
    model: JointModel, flat: Array, u: Random, data: Data
) -> tuple[tuple[Expansion, Array, Any, Any], tuple[Array, Random]]:
    """What :func:`_gradient` returns, and what :func:`_hessian` does."""
    structure = model.structure
    H = model.hessian(model.unflatten(flat, data), u, data)
    factor = structure.factor(H, model.members(data))

    def modes_move(direction: Array) -> Random:
        _, score_dot = jax.jvp(lambda x: model.score(model.unflatten(x, data), u, data), (flat,), (direction,))
        return tuple(-v for v in solve_hessian(model, H, score_dot, data, factor))

    def gradient(x: Array, u: Random) -> tuple[Array, Any]:
        at, g, _, V_half = _gradient(model, x, u, data)
        return g, (at, V_half)

    directions = jnp.eye(flat.size, dtype=flat.dtype)
    if not structure.costly or flat.size == 0:

        def follow(direction: Array) -> tuple[Array, Any, Array, Random]:
            u_dot = modes_move(direction)
            g, g_dot, beside = jax.jvp(gradient, (flat, u), (direction, u_dot), has_aux=True)
            return g, beside, g_dot, u_dot

        g, (at, V_half), hessian, u_dot = jax.vmap(follow, out_axes=(None, None, 0, 0))(directions)
    else:  # one direction at a time, since together they would fill the memory
        if structure.shared_bytes < MOST_SHARED:
            g, moves, (at, V_half) = jax.linearize(gradient, flat, u, has_aux=True)
        else:
            g, (at, V_half) = gradient(flat, u)
            moves = lambda direction, u_dot: jax.jvp(gradient, (flat, u), (direction, u_dot), has_aux=True)[1]  # noqa: E731

        def one(direction: Array) -> tuple[Array, Random]:
            u_dot = modes_move(direction)
            return moves(direction, u_dot), u_dot

        hessian, u_dot = jax.lax.map(one, directions)
    return (at, g, factor, V_half), (0.5 * (hessian + hessian.T), u_dot)


def _vcov(model: JointModel, V_half: Any, data: Data) -> Random:
    """The diagonal blocks of ``H^-1`` from half of it on the pattern of H."""
    return tuple(v + jnp.swapaxes(v, 0, 1) for v in model.structure.diagonal(V_half, model.members(data)))


def _value(model: JointModel, at: Expansion, stats: Stats, data: Data, factor: Any) -> Array:
    """The approximation from the expansion at the modes and the factor of H; infinite if they were not found."""
    structure, members = model.structure, model.members(data)
    positive = factor.positive
    if model.least_curvature > 0.0:
        H = jax.lax.stop_gradient(at.hessian)
        less = damp(structure, H, jnp.full(structure.n_blocks, -model.least_curvature), members)
        positive = structure.factor(less, members).positive
    found = (stats.outcome == Outcome.CONVERGED) & jnp.all(positive)
    value = jnp.sum(at.pieces) + 0.5 * structure.logdet(at.hessian, members, factor)
    return jnp.where(found, value, jnp.inf)
