"""Unstructured covariance: every standard deviation and every correlation is free."""

from __future__ import annotations

from functools import cache

import jax.numpy as jnp
import numpy as np

from glmmjax._types import Array
from glmmjax.covariance._covariance import Covariance


def n_theta(q: int) -> int:
    return q * (q + 1) // 2


def cholesky(theta: Array, q: int) -> Array:
    """The Cholesky factor: log standard deviations first, then a unit lower triangle, row by row.

    ``L = diag(exp(theta[:q])) C`` where the rows of C are those of the unit lower-triangular matrix with the remaining
    ``theta`` below its diagonal, each divided by its length. For q = 2 the correlation is ``t / sqrt(1 + t^2)``.
    """
    sd = jnp.exp(theta[:q])
    if q == 1:
        return sd[:, None]
    unit = jnp.eye(q) + jnp.sum(theta[q:, None, None] * _below_diagonal(q), axis=0)
    return unit * (sd / jnp.sqrt(jnp.sum(unit**2, axis=1)))[:, None]


@cache
def _below_diagonal(q: int) -> np.ndarray:
    """The matrices (q (q - 1) / 2, q, q) with a one at each place below the diagonal, row by row."""
    rows, columns = np.tril_indices(q, -1)
    units = np.zeros((len(rows), q, q))
    units[np.arange(len(rows)), rows, columns] = 1.0
    return units


def lower(theta: np.ndarray, q: int) -> np.ndarray:
    """:func:`cholesky` in NumPy.

    >>> theta = np.array([0.3, -0.2, 1.5])
    >>> np.allclose(from_lower(lower(theta, 2)), theta)
    True
    """
    unit = np.eye(q)
    unit[np.tril_indices(q, -1)] = theta[q:]
    return unit * (np.exp(theta[:q]) / np.linalg.norm(unit, axis=1))[:, None]


def from_lower(L: np.ndarray) -> np.ndarray:
    """The ``theta`` of a lower-triangular factor; the signs of its columns do not matter."""
    L = L * np.where(np.diag(L) < 0.0, -1.0, 1.0)
    below = np.tril_indices(len(L), -1)
    return np.concatenate([np.log(np.linalg.norm(L, axis=1)), (L / np.diag(L)[:, None])[below]])


def start(Sigma: np.ndarray) -> np.ndarray:
    """The inverse of :func:`cholesky`."""
    return from_lower(np.linalg.cholesky(Sigma))


unstructured = Covariance("us", n_theta, cholesky, start, correlated=True)
