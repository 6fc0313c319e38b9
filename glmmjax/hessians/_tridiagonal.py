"""Symmetric positive definite block-tridiagonal matrices: diagonal blocks D (b, b, N), blocks below it E (b, b, N - 1).

    A_1 = D_1,   A_i+1 = D_i+1 - E_i A_i^-1 E_i',   log|H| = sum log|A_i|,   F_i = E_i A_i^-1

``E[..., i]`` couples block i + 1, its rows, with block i. The inverse on the pattern comes from the last block to
the first,

    V_ii = A_i^-1 + F_i' V_i+1,i+1 F_i,   V_i+1,i = -V_i+1,i+1 F_i

(Takahashi, Fagan & Chin 1973). Every pass is one scan over the blocks: its cost is linear, and its compiled body small.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from glmmjax._types import Array
from glmmjax.hessians import _spd as spd


def eliminate(D: Array, E: Array) -> tuple[Array, Array, Array, Array]:
    """``A^-1`` and F (N, b, b) with a last block of zeros, ``log|A|`` and whether A is positive definite (N,)."""
    steps = (jnp.moveaxis(D, 2, 0), _with_last(E))

    def step(carried: Array, block: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array, Array, Array]]:
        own, below = block
        A = (own - carried)[:, :, None]
        V = spd.inverse(A)[:, :, 0]
        F = _matmul(below, V)
        return _matmul(F, below.T), (V, F, spd.logdet(A)[0], spd.cholesky(A)[1][0])

    return jax.lax.scan(step, jnp.zeros_like(D[:, :, 0]), steps)[1]


@jax.custom_jvp
def logdet(D: Array, E: Array) -> Array:
    """``log |H|``; its gradient is the inverse on the pattern, doubled below the diagonal."""
    return jnp.sum(eliminate(D, E)[2])


@logdet.defjvp
def _logdet_jvp(primals: Any, tangents: Any) -> Any:
    V, below = selected_inverse(*primals)
    dD, dE = tangents
    return logdet(*primals), jnp.sum(V * dD) + 2.0 * jnp.sum(below * dE)


def selected_inverse(D: Array, E: Array) -> tuple[Array, Array]:
    """The blocks of ``H^-1`` on the diagonal (b, b, N) and below it (b, b, N - 1)."""
    V, F, _, _ = eliminate(D, E)

    def step(later: Array, block: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        own, F = block
        across = -_matmul(later, F)
        here = own - _matmul(F.T, across)
        return here, (here, across)

    _, (diagonal, below) = jax.lax.scan(step, jnp.zeros_like(D[:, :, 0]), (V, F), reverse=True)
    return jnp.moveaxis(diagonal, 0, 2), jnp.moveaxis(below, 0, 2)[:, :, :-1]


def solve(V: Array, F: Array, g: Array) -> Array:
    """``H^-1 g`` for g (N, b), from what :func:`eliminate` returns."""

    def forward(carried: Array, block: tuple[Array, Array]) -> tuple[Array, Array]:
        own, F = block
        z = own - carried
        return jnp.sum(F * z[None], axis=1), z

    def backward(later: Array, block: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        V, F, z = block
        x = jnp.sum(V * z[None], axis=1) - jnp.sum(F * later[:, None], axis=0)
        return x, x

    _, z = jax.lax.scan(forward, jnp.zeros_like(g[0]), (g, F))
    return jax.lax.scan(backward, jnp.zeros_like(g[0]), (V, F, z), reverse=True)[1]


def _with_last(E: Array) -> Array:
    """E with its blocks along the first axis and a block of zeros at the end: (N, b, b)."""
    return jnp.concatenate([jnp.moveaxis(E, 2, 0), jnp.zeros((1, *E.shape[:2]), dtype=E.dtype)])


def _matmul(A: Array, B: Array) -> Array:
    """``A B`` as a fused sum: the blocks are small."""
    return jnp.sum(A[:, :, None] * B[None], axis=1)
