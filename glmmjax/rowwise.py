"""Derivatives of a function that acts on each row alone, in a few arguments per row, by nested forward mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from operator import add
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from glmmjax._types import Array

Key = TypeVar("Key")


def derivatives(
    f: Callable[[Mapping[Key, Array]], Array], eta: Mapping[Key, Array]
) -> tuple[Array, dict[Key, Array], dict[tuple[Key, Key], Array]]:
    """``f``, ``df_i / deta_i[a]`` and ``d2 f_i / deta_i[a] deta_i[b]``, (n,) each.

    >>> eta = {"x": jnp.ones(2), "y": jnp.ones(2)}
    >>> value, slope, curvature = derivatives(lambda eta: eta["x"] ** 2 * eta["y"], eta)
    >>> float(slope["x"][0]), float(curvature["x", "y"][0])
    (2.0, 2.0)
    """
    value: Any = f(eta) if not eta else None
    slope: dict[Key, Array] = {}
    curvature: dict[tuple[Key, Key], Array] = {}
    for i, a in enumerate(eta):
        along_a = _directional(f, eta, a)
        for b in list(eta)[i:]:
            (value, slope[a]), (_, curvature[a, b]) = _directional(along_a, eta, b)(eta)
            curvature[b, a] = curvature[a, b]
    return value, slope, curvature


def _directional(f: Callable[..., Any], eta: Mapping[Key, Array], along: Key) -> Callable[..., Any]:
    """``f`` and its derivative when one argument moves, as a function of all of them."""
    direction = {c: jnp.full_like(x, float(c == along)) for c, x in eta.items()}
    return lambda e: jax.jvp(f, (e,), (direction,))


def jets(f: Callable[[Array], Array], E: Array) -> tuple[Array, Array, Array]:
    """``f`` (n,), its gradient (s, n) and Hessian (s, s, n) in the s arguments (s, n) of each row.

    Like :func:`derivatives`, but compiled once whatever the number of arguments: directions are a batch axis.

    >>> value, slope, curvature = jets(lambda E: E[0] ** 2 * E[1], jnp.ones((2, 3)))
    >>> curvature[:, :, 0].tolist()
    [[2.0, 2.0], [2.0, 0.0]]
    """
    return _second_order(f, E, jnp.broadcast_to(jnp.eye(len(E))[:, :, None], (len(E), *E.shape)))


def known_near(
    f: Callable[[Any], Array], point: Any, basis: Any
) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Two functions that at one point have the value and two derivatives of ``f``, as cheap as looking them up.

    ``f`` (q, n) acts on each row of ``point`` alone, whose s arguments move along the s directions of ``basis``. What
    is returned takes the arguments as rows (s, n): wherever these are computed from, its derivatives there are the
    exact ones of ``f`` to second order, and a third is refused. The first is for forward mode; the second for the
    derivative of a gradient, where it adds the q outputs up before the directions multiply the work.

    >>> forward, back = known_near(
    ...     lambda E: (E[0] ** 2 * E[1])[None], jnp.ones((2, 3)), jnp.eye(2)[:, :, None] * jnp.ones(3)
    ... )
    >>> float(jax.grad(lambda x: back(jnp.full((2, 3), x)).sum())(1.0))
    9.0
    """
    derivatives = _second_order(f, point, basis)
    return lambda E: _known(E, *derivatives), lambda E: _known_back(E, *derivatives)


def _second_order(f: Callable[[Any], Array], point: Any, basis: Any) -> tuple[Array, Array, Array]:
    """``f``, its first (s, ...) and its second derivatives (s, s, ...) along the directions of ``basis``."""

    def first(point: Any) -> tuple[Array, Array]:
        value, along = jax.linearize(f, point)
        return value, jax.vmap(jax.lax.optimization_barrier(along))(basis)

    (value, slope), along = jax.linearize(first, point)
    return value, slope, jax.vmap(jax.lax.optimization_barrier(along))(basis)[1]


@jax.custom_jvp
def _known(E: Array, *derivatives: Array) -> Array:
    """The first of them: a function of E at this point, and its derivatives there, one order after the other."""
    return derivatives[0]


@_known.defjvp
def _known_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    E, *derivatives = primals
    if len(derivatives) == 1:
        raise NotImplementedError("only two derivatives of the rows are known here")
    # the value again as a function of E, for a derivative around this one
    return _known(*primals), _moved(_known(E, *derivatives[1:]), tangents[0])


@jax.custom_vjp
def _known_back(E: Array, value: Array, slope: Array, curvature: Array) -> Array:
    return _known(E, value, slope, curvature)


def _known_back_fwd(E: Array, value: Array, slope: Array, curvature: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    return _known(E, value, slope, curvature), (E, slope, curvature)


def _known_back_bwd(known: tuple[Array, Array, Array], weights: Array) -> tuple[Array, None, None, None]:
    return _pulled(weights, *known), None, None, None


_known_back.defvjp(_known_back_fwd, _known_back_bwd)


@jax.custom_jvp
def _pulled(weights: Array, E: Array, slope: Array, curvature: Array) -> Array:
    """``sum_q weights[q] slope[:, q]``: (q, n) and (s, q, n) -> (s, n)."""
    return _weighted_sum(slope, weights)


@_pulled.defjvp
def _pulled_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    weights, E, slope, curvature = primals
    turned = _moved(_weighted_sum(_known(E, curvature), weights), tangents[1])
    return _pulled(weights, E, slope, curvature), turned + _weighted_sum(_known(E, slope, curvature), tangents[0])


def _weighted_sum(x: Array, weights: Array) -> Array:
    """``sum_q weights[q] x[..., q, :]``."""
    return reduce(add, [x[..., q, :] * weights[q] for q in range(len(weights))])


def _moved(derivative: Array, E_dot: Array) -> Array:
    """``sum_a derivative[a] E_dot[a]``: (s, ..., n) and (s, n) -> (..., n)."""
    # one term after the other: the compiler's reductions over a leading axis cost twenty times as much
    terms = [slope * move for slope, move in zip(derivative, E_dot, strict=True)]
    return reduce(add, terms)
