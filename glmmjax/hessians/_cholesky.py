"""Cholesky factors of many small symmetric blocks at once; blocks lie along the last axis: (d, d, groups).

Up to four effects per block the factorization is written out entry by entry: each entry is one contiguous array over
all blocks, which XLA fuses. Batched LAPACK calls on blocks this small are tens of times slower.
A block that is not positive definite is flagged and factored as if its bad pivots were one, so that nothing becomes
NaN and one bad block leaves the others alone.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from glmmjax._types import Array

UNROLLED = 4


def cholesky(A: Array) -> tuple[Array, Array]:
    """The lower factors (d, d, G) of symmetric blocks ``A`` (d, d, G), and whether each is positive definite (G,)."""
    return _unrolled(A) if A.shape[0] <= UNROLLED else _lapack(A)


def solve_lower(L: Array, B: Array) -> Array:
    """``L^-1 B`` for blocks L (d, d, G) and right-hand sides B (d, G) or (d, k, G)."""
    d = L.shape[0]
    if d > UNROLLED:
        return _triangular(L, B, transpose=False)
    rows: list[Array] = []
    for i in range(d):
        row = B[i]
        for j in range(i):
            row = row - L[i, j] * rows[j]
        rows.append(row / L[i, i])
    return jnp.stack(rows)


def solve_upper(L: Array, B: Array) -> Array:
    """``L'^-1 B`` for blocks L (d, d, G) and right-hand sides B (d, G) or (d, k, G)."""
    d = L.shape[0]
    if d > UNROLLED:
        return _triangular(L, B, transpose=True)
    rows: list[Array] = [B[i] for i in range(d)]
    for i in reversed(range(d)):
        for j in range(i + 1, d):
            rows[i] = rows[i] - L[j, i] * rows[j]
        rows[i] = rows[i] / L[i, i]
    return jnp.stack(rows)


def logdet(L: Array) -> Array:
    """The sum over all blocks of ``log |L L'|``."""
    return 2.0 * sum((jnp.sum(jnp.log(L[i, i])) for i in range(L.shape[0])), start=jnp.zeros((), L.dtype))


def _unrolled(A: Array) -> tuple[Array, Array]:
    d = A.shape[0]
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
    safe = jnp.where(positive[:, None, None], L, jnp.eye(A.shape[0], dtype=A.dtype))
    return jnp.moveaxis(safe, 0, 2), positive


def _triangular(L: Array, B: Array, transpose: bool) -> Array:
    columns = B[:, None, :] if B.ndim == 2 else B
    left, right = jnp.moveaxis(L, 2, 0), jnp.moveaxis(columns, 2, 0)
    X = jax.lax.linalg.triangular_solve(left, right, left_side=True, lower=True, transpose_a=transpose)
    return jnp.moveaxis(X, 0, 2).reshape(B.shape)
