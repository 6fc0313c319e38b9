"""Correlation matrices from unconstrained numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._errors import ArgumentError
from glmmjax._types import Array
from glmmjax.densities import _checks, _triangular
from glmmjax.densities._density import Density, Gaussian


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Correlated(Gaussian):
    """A normal vector with unit variances and the correlations that ``theta`` stands for."""

    theta: Array
    n: int = field(metadata={"static": True})

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.n,)

    def whiten(self, x: Array) -> Array:
        return _triangular.solve(_cholesky(self.theta, self.n), x)

    def color(self, z: Array) -> Array:
        return _cholesky(self.theta, self.n) @ z

    def logdet_covariance(self) -> Array:
        return _triangular.logdet_square(_cholesky(self.theta, self.n))


def _cholesky(theta: Array, n: int) -> Array:
    unit = jnp.eye(n).at[np.tril_indices(n, -1)].set(theta)
    return unit / jnp.sqrt(jnp.sum(unit**2, axis=1, keepdims=True))


def correlation(theta: Any, n: int | None = None) -> Array:
    """The correlation matrix (n, n) of ``n (n - 1) / 2`` unconstrained numbers.

    ``C C'``, where C has the rows of the unit lower-triangular matrix with ``theta`` below its diagonal, row by row,
    each divided by its length. For two variables the correlation is ``t / sqrt(1 + t^2)``. The terms ``us(...)`` of
    formulas read what follows the standard deviations in their ``theta`` in the same way.

    Raises:
        ArgumentError: the number of values is not ``n (n - 1) / 2``.

    >>> import numpy as np
    >>> print(np.asarray(correlation([0.75])).round(2))
    [[1.  0.6]
     [0.6 1. ]]
    """
    theta, n = _checked(theta, n)
    C = _cholesky(theta, n)
    return C @ C.T


def unstructured_corr(theta: Any, n: int | None = None) -> Density:
    """The normal density of vectors of length n with unit variances and the matrix ``correlation(theta, n)``.

    Give it standard deviations by :func:`scaled`.

    Raises:
        ArgumentError: the number of values is not ``n (n - 1) / 2``.

    >>> import numpy as np
    >>> from glmmjax.densities import scaled
    >>> print(np.asarray(scaled(unstructured_corr([0.75]), 2.0).covariance()).round(2))
    [[4.  2.4]
     [2.4 4. ]]
    """
    return Correlated(*_checked(theta, n))


def _checked(theta: Any, n: int | None) -> tuple[Array, int]:
    theta = _checks.parameter(theta, "theta", ndim=1)
    n = (1 + math.isqrt(1 + 8 * len(theta))) // 2 if n is None else _checks.count(n, "n")
    if len(theta) != n * (n - 1) // 2:
        raise ArgumentError(
            f"the correlations of {n} variables need {n * (n - 1) // 2} values of theta, got {len(theta)}."
        )
    return theta, n
