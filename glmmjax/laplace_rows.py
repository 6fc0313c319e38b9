"""Derivatives of the Laplace approximation of a sum over observations, from the derivatives of each.

With E the arguments of the rows' densities, r(E) what is needed of each row, V = H^-1 and w = V h_u held fixed, the
gradient of the approximation is the partial derivative in x of

    psi(x, u) = f + 1/2 <V, H> - <w, f_u> = A(x, u, r(E(x, u)))

where A is affine in the rows. The Hessian follows by the chain rule along the directions t = (e, u_hat'), in which a
parameter moves by one and the modes follow, D for the derivative along them:

    l_ij = D_i D_j psi - 1/2 <V D_i H, D_j H V>
    D_i D_j psi = sum over rows of D_i E' G D_j E,               G = sum_q dA/dr_q d2 r_q / dE dE
                  + D_i (dA/dr) D_j r + D_j (dA/dr) D_i r
                  + D_i D_j [A(x, u, r) + dA/dr dr/dE E(x, u)]   with r and the factors of E held

The first line, where the rows are many, is a few matrix products; in the others sums over the rows of each group come
before the directions multiply the work.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from operator import add
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from glmmjax._types import Array, Data, Random
from glmmjax.hessians import MOST_SHARED
from glmmjax.joint import Expansion, JointModel
from glmmjax.modes import solve_hessian
from glmmjax.rowwise import second_order

Rows = tuple[Array, ...]


class Slope(NamedTuple):
    """The first derivatives at one point, and what they are made of.

    Attributes:
        expansion: of the joint density.
        gradient: of the approximation (k,), if the point is at the modes.
        factor: what solves with H.
        inverse: ``V / 2`` on the pattern of H, the gradient of ``1/2 log |H|``.
        inverse_moves: H_dot -> how that moves with H.
        cotangent: ``(1, -w, V / 2)``, by which psi is made of the expansion.
        weights: ``dA / dr`` (n,) each.
        rows, slope, curvature: r, and its derivatives in the arguments: (n,), (s, n), (s, s, n) each.
        arguments_move: (x, u) -> how E moves with them.
        expansion_moves: (x, u, rows) -> how the expansion moves with them.
    """

    expansion: Expansion
    gradient: Array
    factor: Any
    inverse: Any
    inverse_moves: Callable[[Any], Any]
    cotangent: Expansion
    weights: Rows
    rows: Rows
    slope: Rows
    curvature: Rows
    arguments_move: Callable[[Array, Random], Rows]
    expansion_moves: Callable[[Array, Random, Rows], Expansion]


def half_inverse(model: JointModel, H: Any, data: Data, factor: Any) -> Any:
    """The gradient of ``1/2 log |H|`` in the stored entries of H: half of ``H^-1`` on its pattern."""
    return jax.grad(lambda H: 0.5 * model.structure.logdet(H, model.members(data), factor))(H)


def moving_inverse(model: JointModel, H: Any, data: Data, factor: Any) -> tuple[Any, Callable[[Any], Any]]:
    """:func:`half_inverse` at H, and H_dot -> how it moves with H."""
    inverse = partial(half_inverse, model, data=data, factor=factor)
    if model.structure.shared_bytes < MOST_SHARED:
        return jax.linearize(inverse, H)
    return inverse(H), lambda H_dot: jax.jvp(inverse, (H,), (H_dot,))[1]


def row_gradient(model: JointModel, flat: Array, u: Random, data: Data) -> Slope:
    """The first derivatives at the flat parameters (k,) and the modes."""
    arguments, by_row, assembled = _parts(model, data)
    E, arguments_move = jax.linearize(arguments, flat, u)
    rows, slope, curvature = second_order(by_row, E, _directions(E))
    expansion, expansion_moves = jax.linearize(assembled, flat, u, rows)
    pull_arguments = jax.linear_transpose(arguments_move, flat, u)
    pull_expansion = jax.linear_transpose(expansion_moves, flat, u, rows)

    def pull(cotangent: Expansion) -> tuple[Array, Random, Rows]:
        x, own, weights = pull_expansion(cotangent)
        through = pull_arguments(_pulled(weights, slope, E))
        return (*jax.tree.map(jnp.add, (x, own), through), weights)

    factor = model.structure.factor(expansion.hessian, model.members(data))
    inverse, inverse_moves = moving_inverse(model, expansion.hessian, data, factor)
    nothing = jax.tree.map(jnp.zeros_like, expansion)
    h_u = pull(nothing._replace(hessian=inverse))[1]
    w = solve_hessian(model, expansion.hessian, h_u, data, factor)
    cotangent = Expansion(jnp.ones_like(expansion.pieces), tuple(-x for x in w), inverse)
    gradient, _, weights = pull(cotangent)
    parts = (expansion, gradient, factor, inverse, inverse_moves, cotangent, weights, rows, slope, curvature)
    return Slope(*parts, arguments_move, expansion_moves)


def row_hessian(model: JointModel, flat: Array, u: Random, data: Data, at: Slope) -> tuple[Array, Random]:
    """The Hessian of the approximation (k, k), and the derivatives of the modes (k, ...)."""
    arguments, _, assembled = _parts(model, data)
    E_weights = _pulled(at.weights, at.slope, jax.eval_shape(arguments, flat, u))
    G = reduce(add, [w * own for w, own in zip(at.weights, at.curvature, strict=True)])

    def without_curvature(x: Array, u: Random, rows: Rows) -> Array:
        return _inner(at.cotangent, assembled(x, u, rows)) + _inner(E_weights, arguments(x, u))

    slope_moves = jax.linearize(jax.grad(without_curvature, (0, 1)), flat, u, at.rows)[1]

    def follow(direction: Array) -> tuple[Any, ...]:
        """What moves along one direction: modes, H, arguments; and parts of the Hessian in x and u."""
        E_dot = at.arguments_move(direction, jax.tree.map(jnp.zeros_like, u))
        score_dot = at.expansion_moves(direction, jax.tree.map(jnp.zeros_like, u), _moved(at.slope, E_dot)).score
        u_dot = tuple(-x for x in solve_hessian(model, at.expansion.hessian, score_dot, data, at.factor))
        E_dot = at.arguments_move(direction, u_dot)
        rows_dot = _moved(at.slope, E_dot)
        H_dot = at.expansion_moves(direction, u_dot, rows_dot).hessian
        # the rows change their weights in D_i D_j psi twice, the rest stands there once
        in_x, in_u = slope_moves(0.5 * direction, tuple(0.5 * x for x in u_dot), rows_dot)
        return u_dot, H_dot, (E_dot, _curved(G, E_dot), in_x, in_u)

    def with_inverse(direction: Array) -> tuple[Any, ...]:
        u_dot, H_dot, rows = follow(direction)
        return u_dot, H_dot, rows, at.inverse_moves(H_dot)

    def hessian_of(u_dot: Random, rows: tuple[Any, ...]) -> Array:
        """The Hessian but for the products of the inverse with H."""
        E_dot, GE_dot, in_x, in_u = rows
        linear = in_x + _products(in_u, u_dot)
        return linear + linear.T + _products(GE_dot, E_dot)

    if not model.structure.costly:
        u_dot, H_dot, rows, V_dot = _over_directions(with_inverse, flat.size, -(-flat.size // 2))
        hessian = hessian_of(u_dot, rows) + _products(V_dot, H_dot)
    else:  # one direction at a time, and the inverses when nothing of the rows takes memory any more
        u_dot, H_dot, rows = _over_directions(follow, flat.size, 1)
        H_dot, hessian = jax.lax.optimization_barrier((H_dot, hessian_of(u_dot, rows)))
        hessian = hessian + jax.lax.map(lambda own: _products(_one(at.inverse_moves(own)), H_dot)[0], H_dot)
    return 0.5 * (hessian + hessian.T), u_dot


def _over_directions(follow: Callable[[Array], Any], k: int, together: int) -> Any:
    """``follow`` along each of k directions, so many of them together.

    Two loops of half the directions are twice as fast as one program for all: what a loop does not change is computed
    before it, while the compiler is ready to compute it again for every direction rather than to keep it.
    """
    if k == 0:
        return jax.vmap(follow)(jnp.eye(0))
    directions = jnp.eye(-(-k // together) * together, k).reshape(-1, together, k)
    out = jax.lax.map(jax.vmap(follow), directions)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:k], out)


def _parts(model: JointModel, data: Data) -> tuple[Any, Any, Any]:
    """The three parts of the form of a model as functions of the flat parameters."""
    assert model.rows is not None
    form = model.rows
    return (
        lambda x, u: form.arguments(model.unflatten(x, data), u, data),
        lambda E: form.derivatives(E, data),
        lambda x, u, rows: form.assembled(model.unflatten(x, data), u, data, rows),
    )


def _directions(E: Rows) -> Rows:
    """The directions (s, ...) in which one argument of every row moves by one."""
    one = jnp.eye(len(E))
    return tuple(jnp.broadcast_to(one[:, a, None], (len(E), len(x))) for a, x in enumerate(E))


def _pulled(weights: Rows, slope: Rows, like: Any) -> Rows:
    """``sum_q weights[q] slope[q][a]`` of each argument, as long as that is."""
    full = [reduce(add, [w * own[a] for w, own in zip(weights, slope, strict=True)]) for a in range(len(like))]
    return tuple(x if x.shape == E.shape else jnp.sum(x, keepdims=True) for x, E in zip(full, like, strict=True))


def _moved(slope: Rows, E_dot: Rows) -> Rows:
    """How the rows move with their arguments."""
    return tuple(reduce(add, [along * move for along, move in zip(own, E_dot, strict=True)]) for own in slope)


def _inner(a: Any, b: Any) -> Array:
    """The inner product of two trees of arrays."""
    return sum(
        (jnp.sum(x * y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)), start=jnp.zeros(())
    )


def _one(a: Any) -> Any:
    """The tree with a leading axis of one."""
    return jax.tree.map(lambda x: x[None], a)


def _products(a: Any, b: Any) -> Array:
    """All inner products (k, m) of trees whose arrays have a leading axis, k and m."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    # not x @ y.T, whose transposed copy takes several times as long as the product
    contract = partial(jax.lax.dot_general, dimension_numbers=(((1,), (1,)), ((), ())))
    return sum((contract(x.reshape(len(x), -1), y.reshape(len(y), -1)) for x, y in pairs), start=jnp.zeros(()))


def _curved(G: Array, E_dot: Rows) -> Rows:
    """``G E_dot`` of every row, summed over the rows for an argument that they share; G is (s, s, n)."""
    moved = [reduce(add, [g * move for g, move in zip(own, E_dot, strict=True)]) for own in G]
    return tuple(
        x if x.shape == move.shape else jnp.sum(x, keepdims=True) for x, move in zip(moved, E_dot, strict=True)
    )
