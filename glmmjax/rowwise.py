"""Derivatives of a function that acts on each row alone, in a few arguments per row, by nested forward mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    return second_order(f, E, jnp.broadcast_to(jnp.eye(len(E))[:, :, None], (len(E), *E.shape)))


def second_order(f: Callable[[Any], Array], point: Any, basis: Any) -> tuple[Array, Array, Array]:
    """``f``, its first (s, ...) and its second derivatives (s, s, ...) along the directions of ``basis``."""

    def first(point: Any) -> tuple[Array, Array]:
        value, along = jax.linearize(f, point)
        return value, jax.vmap(jax.lax.optimization_barrier(along))(basis)

    (value, slope), along = jax.linearize(first, point)
    return value, slope, jax.vmap(jax.lax.optimization_barrier(along))(basis)[1]
