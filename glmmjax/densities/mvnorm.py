"""The multivariate normal distribution with a dense covariance or precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._errors import ArgumentError
from glmmjax._types import Array
from glmmjax.densities import _checks, _triangular
from glmmjax.densities._density import Density, Gaussian
from glmmjax.densities.shifted import with_mean


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Normal(Gaussian):
    """A normal vector by the lower Cholesky factor ``L`` (n, n) of its covariance, or of its precision."""

    L: Array
    of_precision: bool = field(metadata={"static": True})

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.L.shape[-1],)

    def whiten(self, x: Array) -> Array:
        return self.L.T @ x if self.of_precision else _triangular.solve(self.L, x)

    def color(self, z: Array) -> Array:
        return _triangular.solve(self.L, z, transpose=True) if self.of_precision else self.L @ z

    def logdet_covariance(self) -> Array:
        logdet = _triangular.logdet_square(self.L)
        return -logdet if self.of_precision else logdet


def mvnorm(covariance: Any = None, *, cholesky: Any = None, precision: Any = None, mean: Any = 0) -> Density:
    """The multivariate normal density of vectors of length n, by exactly one of three matrices (n, n).

    ``nll(x) = 1/2 ((x - mean)' S^-1 (x - mean) + log |S| + n log 2 pi)``

    Args:
        covariance: S, positive definite.
        cholesky: a lower-triangular L with ``S = L L'`` and a positive diagonal; its upper triangle is not read.
        precision: the inverse of S, positive definite; :func:`gmrf` keeps its zeros.
        mean: a number or (n,).

    Raises:
        ArgumentError: not exactly one matrix; it is not square, or known not to be symmetric or positive definite.

    A traced matrix that is not positive definite gives NaN. One Cholesky factorization, n^3 / 3 operations.

    >>> round(float(mvnorm([[4.0]]).nll([0.0])), 4)  # log(2) + log(2 pi) / 2
    1.6121
    """
    given = {
        name: value
        for name, value in (("covariance", covariance), ("cholesky", cholesky), ("precision", precision))
        if value is not None
    }
    if len(given) != 1:
        raise ArgumentError(
            f"mvnorm needs one of covariance, cholesky and precision, got {' and '.join(given) or '0'}."
        )
    ((name, value),) = given.items()
    if name == "cholesky":
        L = _lower(_checks.square(value, name, symmetric=False))
    else:
        L = _triangular.cholesky(_checks.square(value, name), name)
    return with_mean(Normal(L, of_precision=name == "precision"), mean)


def _lower(L: Array) -> Array:
    known = _checks.concrete(L)
    if known is None:
        return jnp.tril(L)
    if not np.all(np.diagonal(known) > 0):
        raise ArgumentError("cholesky must have a positive diagonal.")
    return np.tril(known)
