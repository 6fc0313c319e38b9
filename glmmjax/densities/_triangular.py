"""Lower-triangular factors of dense matrices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._errors import ArgumentError
from glmmjax._types import Array
from glmmjax.densities import _checks


def cholesky(matrix: Array, name: str) -> Array:
    """The lower Cholesky factor of a symmetric matrix, NaN where a traced one is not positive definite.

    A matrix of numbers is factored by NumPy, in its own precision whatever JAX's is where the density is built.

    Raises:
        ArgumentError: a known matrix is not positive definite.
    """
    known = _checks.concrete(matrix)
    if known is None:
        return jnp.linalg.cholesky(matrix)
    try:
        return np.linalg.cholesky(known)
    except np.linalg.LinAlgError:
        raise ArgumentError(f"{name} must be positive definite.") from None


def solve(L: Array, x: Array, transpose: bool = False) -> Array:
    """``L^-1 x``, or ``L'^-1 x``, for columns x (n, columns)."""
    return jax.scipy.linalg.solve_triangular(L, x, lower=True, trans=1 if transpose else 0)


def logdet_square(L: Array) -> Array:
    """``log |L L'|``."""
    return 2.0 * jnp.sum(jnp.log(jnp.diagonal(L)))
