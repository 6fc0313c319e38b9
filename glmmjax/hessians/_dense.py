"""Algebra of one large symmetric positive definite matrix (n, n), by LAPACK and matrix products.

Every function acts on the symmetric part ``(A + A') / 2`` of what it is given, so that a matrix may be collected in one
triangle. Derivatives are those of the matrix and never pass through the elimination,

    d log|A| = <A^-1, dA>,    d A^-1 = -A^-1 dA A^-1,

so that a derivative costs one inverse, and a second derivative two matrix products for each direction.

A matrix that is not positive definite is flagged and treated as if it were the identity: nothing becomes NaN.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from glmmjax._types import Array

# A triangle of this size is inverted by one solve; halves of a larger one are put together by matrix products.
SOLVED_AT_ONCE = 1200


def factor(A: Array) -> tuple[Array, Array]:
    """The lower Cholesky factor (n, n) of A, and whether A is positive definite, a scalar.

    >>> L, positive = factor(jnp.array([[4.0, 2.0], [2.0, 5.0]]))
    >>> L.tolist(), bool(positive)
    ([[2.0, 0.0], [1.0, 2.0]], True)
    """
    L = jnp.linalg.cholesky(A, symmetrize_input=True)
    # A factorization that fails is NaN throughout, and what is not finite in A reaches a pivot.
    positive = jnp.all(jnp.isfinite(jnp.diagonal(L)))
    # not jnp.eye as the alternative, which a loop around would keep as one more matrix
    return jnp.where(~positive & jnp.eye(len(A), dtype=bool), 1.0, jnp.where(positive, L, 0.0)), positive


@jax.custom_jvp
def logdet(A: Array) -> Array:
    """``log |A|``, a scalar; its gradient is :func:`inverse`.

    >>> float(logdet(jnp.array([[4.0, 0.0], [0.0, 0.25]])))
    0.0
    """
    return 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor(A)[0])))


@logdet.defjvp
def _logdet_jvp(primals: Any, tangents: Any) -> Any:
    (A,), (dA,) = primals, tangents
    return logdet(A), jnp.sum(inverse(A) * dA)


@jax.custom_jvp
def inverse(A: Array) -> Array:
    """``A^-1`` (n, n)."""
    return inverse_of_factor(factor(A)[0])


@inverse.defjvp
def _inverse_jvp(primals: Any, tangents: Any) -> Any:
    (A,), (dA,) = primals, tangents
    V = inverse(A)
    return V, inverse_moves(V, dA)


def inverse_of_factor(L: Array) -> Array:
    """``(L L')^-1`` (n, n).

    >>> inverse_of_factor(jnp.array([[2.0, 0.0], [0.0, 1.0]])).tolist()
    [[0.25, 0.0], [0.0, 1.0]]
    """
    # An identity that does not depend on L would be made before any loop around, and kept there as one more matrix.
    L, one = jax.lax.optimization_barrier((L, jnp.ones((), L.dtype)))
    return _inverses(L, one)[1]


def _inverses(L: Array, one: Array) -> tuple[Array, Array]:
    """``X = L^-1`` and ``X'X``, by halves: matrix products are several times as fast as triangular solves.

    L = [[L1, 0], [M, L2]],    X = [[X1, 0], [Y, X2]],    Y = -X2 M X1
    """
    n, m = len(L), len(L) // 2
    if n <= SOLVED_AT_ONCE:
        identity = jnp.where(jnp.eye(n, dtype=bool), one, 0.0)
        X = jax.scipy.linalg.solve_triangular(L, identity, lower=True)
        return X, X.T @ X  # as fast as a second solve, whose result would be by columns and be copied
    (X1, V1), (X2, V2) = _inverses(L[:m, :m], one), _inverses(L[m:, m:], one)
    Y = -(X2 @ (L[m:, :m] @ X1))
    beside = Y.T @ X2
    X = jnp.block([[X1, jnp.zeros((m, n - m), L.dtype)], [Y, X2]])
    return X, jnp.block([[V1 + Y.T @ Y, beside], [beside.T, V2]])


def inverse_moves(V: Array, dA: Array) -> Array:
    """``d A^-1`` (n, n) from ``V = A^-1``."""
    return -(V @ (0.5 * (dA + dA.T) @ V))


def solve(L: Array, b: Array) -> Array:
    """``(L L')^-1 b`` from the lower factor L (n, n) and right-hand sides b (n,) or (n, k).

    >>> solve(jnp.array([[2.0, 0.0], [0.0, 1.0]]), jnp.array([4.0, 3.0])).tolist()
    [1.0, 3.0]
    """
    return jax.scipy.linalg.cho_solve((L, True), b)
