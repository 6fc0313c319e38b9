"""Algebra of many small symmetric positive definite blocks at once; blocks lie along the last axis: (d, d, groups).

Up to four effects per block it is written out entry by entry: each entry is one contiguous array over all blocks, which
XLA fuses. Batched LAPACK calls on blocks this small are tens of times slower. Derivatives are those of the matrices,

    d log|A| = tr(A^-1 dA),    d A^-1 = -A^-1 dA A^-1,

so that they are short to compile and never pass through the elimination.

A block that is not positive definite is flagged and treated as if its bad pivots were one: nothing becomes NaN, and one
bad block leaves the others alone.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from glmmjax._types import Array

UNROLLED = 4


def product(A: Array, B: Array) -> Array:
    """``A B`` for each block: (d, e, G) times (e, k, G), or times (e, G). Small, so written as a fused sum."""
    if len(B) == 1:
        return A[:, 0] * B if B.ndim == 2 else A * B
    if B.ndim == 2:
        return jnp.sum(A * B[None], axis=1)
    return jnp.sum(A[:, :, None] * B[None], axis=1)


def transpose(A: Array) -> Array:
    """``A'`` for each block."""
    return jnp.swapaxes(A, 0, 1)


def cholesky(A: Array) -> tuple[Array, Array]:
    """The lower factors (d, d, G) of blocks ``A`` (d, d, G), and whether each is positive definite (G,)."""
    return _unrolled(A) if A.shape[0] <= UNROLLED else _lapack(A)


@jax.custom_jvp
def logdet(A: Array) -> Array:
    """``log |A|`` of each block (G,)."""
    if len(A) == 1:
        return jnp.log(jnp.where(A[0, 0] > 0, A[0, 0], 1.0))
    L, _ = cholesky(A)
    return 2.0 * jnp.sum(jnp.log(jnp.diagonal(L).T), axis=0)


@logdet.defjvp
def _logdet_jvp(primals: Any, tangents: Any) -> Any:
    (A,), (dA,) = primals, tangents
    return logdet(A), jnp.sum(inverse(A) * dA, axis=(0, 1))


@jax.custom_jvp
def inverse(A: Array) -> Array:
    """``A^-1`` of each block (d, d, G)."""
    if len(A) == 1:
        return 1.0 / jnp.where(A > 0, A, 1.0)
    L, _ = cholesky(A)
    half = solve_lower(L, jnp.broadcast_to(jnp.eye(len(A))[:, :, None], A.shape))
    return product(transpose(half), half)


@inverse.defjvp
def _inverse_jvp(primals: Any, tangents: Any) -> Any:
    (A,), (dA,) = primals, tangents
    V = inverse(A)
    return V, -product(product(V, dA), V)


def solve_lower(L: Array, B: Array) -> Array:
    """``L^-1 B`` for blocks L (d, d, G) and right-hand sides B (d, G) or (d, k, G)."""
    if len(L) > UNROLLED:
        return _triangular(L, B, transpose=False)
    rows: list[Array] = []
    for i in range(len(L)):
        row = B[i]
        for j in range(i):
            row = row - L[i, j] * rows[j]
        rows.append(row / L[i, i])
    return jnp.stack(rows)


def solve_upper(L: Array, B: Array) -> Array:
    """``L'^-1 B`` for blocks L (d, d, G) and right-hand sides B (d, G) or (d, k, G)."""
    if len(L) > UNROLLED:
        return _triangular(L, B, transpose=True)
    rows: list[Array] = [B[i] for i in range(len(L))]
    for i in reversed(range(len(L))):
        for j in range(i + 1, len(L)):
            rows[i] = rows[i] - L[j, i] * rows[j]
        rows[i] = rows[i] / L[i, i]
    return jnp.stack(rows)


def _unrolled(A: Array) -> tuple[Array, Array]:
    d = len(A)
    zero = jnp.zeros_like(A[0, 0])
    L = [[zero] * d for _ in range(d)]
    positive = jnp.ones(A.shape[2:], dtype=bool)
    for j in range(d):
        pivot = A[j, j]
        for k in range(j):
            pivot = pivot - L[j][k] ** 2
        good = pivot > 0  # False for NaN too
        positive = positive & good
        L[j][j] = jnp.sqrt(jnp.where(good, pivot, 1.0))
        for i in range(j + 1, d):
            entry = A[i, j]
            for k in range(j):
                entry = entry - L[i][k] * L[j][k]
            L[i][j] = entry / L[j][j]
    return jnp.stack([jnp.stack(row) for row in L]), positive


def _lapack(A: Array) -> tuple[Array, Array]:
    L = jnp.linalg.cholesky(jnp.moveaxis(A, 2, 0))
    positive = jnp.all(jnp.isfinite(L), axis=(1, 2))
    safe = jnp.where(positive[:, None, None], L, jnp.eye(len(A), dtype=A.dtype))
    return jnp.moveaxis(safe, 0, 2), positive


def _triangular(L: Array, B: Array, transpose: bool) -> Array:
    columns = B[:, None, :] if B.ndim == 2 else B
    left, right = jnp.moveaxis(L, 2, 0), jnp.moveaxis(columns, 2, 0)
    X = jax.lax.linalg.triangular_solve(left, right, left_side=True, lower=True, transpose_a=transpose)
    return jnp.moveaxis(X, 0, 2).reshape(B.shape)
