"""Gaussian Markov random fields: normal vectors by a precision matrix whose zeros are conditional independences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._errors import ArgumentError
from glmmjax._types import Array
from glmmjax.densities import _checks, _matrix, _triangular
from glmmjax.densities._density import Density, Gaussian
from glmmjax.densities.shifted import with_mean

# Up to here a dense factorization of a sparse matrix takes milliseconds and megabytes.
DENSE_LIMIT = 1000

Logdet = Callable[[Array], Array]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class GMRF(Gaussian):
    """A normal vector with precision ``Q`` (n, n) of the given rank; ``logdet`` is None where it is to be computed."""

    Q: _matrix.Matrix
    logdet: Array | None
    rank: int = field(metadata={"static": True})

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (_matrix.size(self.Q),)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.rank,)

    def whiten(self, x: Array) -> Array:
        """``x`` itself: ``Q = I Q I`` needs no factorization."""
        return x

    def weigh(self, z: Array) -> Array:
        return _matrix.product(self.Q, z)

    def color(self, z: Array) -> Array:
        """By a dense factorization: draws cost n^3 operations, whatever the pattern."""
        Q = _matrix.dense(self.Q)
        if self.rank == len(Q):
            return _triangular.solve(jnp.linalg.cholesky(Q), z, transpose=True)
        values, vectors = jnp.linalg.eigh(Q)
        return vectors[:, -self.rank :] @ (z / jnp.sqrt(values[-self.rank :, None]))

    def logdet_covariance(self) -> Array:
        if self.logdet is not None:
            return -self.logdet
        return -_triangular.logdet_square(jnp.linalg.cholesky(_matrix.dense(self.Q)))


def gmrf(Q: Any, mean: Any = 0, logdet: Any = None, rank: int | None = None) -> Density:
    """The density of a Gaussian Markov random field, a vector of length n with precision Q.

    ``nll(x) = 1/2 ((x - mean)' Q (x - mean) - log |Q| + rank log 2 pi)``

    Args:
        Q: (n, n) symmetric, a dense array or a SciPy sparse matrix of numbers; :func:`gmrf_sparse` is for a sparse
            matrix that depends on parameters.
        mean: a number or (n,).
        logdet: ``log |Q|`` as a number or a function of Q (of its stored values, if it is sparse). If not given
            it is computed: by a Cholesky factorization at each evaluation for a dense Q, by one sparse factorization
            here for a sparse one.
        rank: the rank of Q where it is singular, as in intrinsic autoregressions: n less the number of directions
            without a penalty. ``logdet`` must be given then, and the density is improper: with the logarithm of the
            product of the positive eigenvalues, it is a density on their space; any other number shifts it.

    Raises:
        ArgumentError: Q is not square, or known not to be symmetric or positive definite; a rank without logdet.

    Each evaluation multiplies by Q once. Draws and covariances factor a dense matrix, n^3 operations.

    Source: H. Rue and L. Held (2005), Gaussian Markov Random Fields, Chapman & Hall, chapters 2 and 3.

    >>> import numpy as np
    >>> print(np.asarray(gmrf([[2.0, -1.0], [-1.0, 2.0]]).covariance()).round(3))
    [[0.667 0.333]
     [0.333 0.667]]
    """
    if hasattr(Q, "tocoo"):
        return _from_scipy(Q, mean, logdet, rank)
    Q = _checks.square(Q, "Q")
    if logdet is None and _rank(rank, len(Q)) == len(Q):
        _triangular.cholesky(Q, "Q")  # for its error: the record keeps log |Q| open, as a function of Q
    return with_mean(_field(Q, Q, logdet, rank), mean)


def gmrf_sparse(
    rows: Any, cols: Any, values: Any, n: int, mean: Any = 0, logdet: Any = None, rank: int | None = None
) -> Density:
    """The density of a Gaussian Markov random field by the entries of its precision: a fixed pattern, any values.

    Args:
        rows, cols: (nnz,) integers, the pattern of both triangles of Q. Entries of one place are added up.
        values: (nnz,) numbers, traced or not.
        n: the length of the field.
        mean: a number or (n,).
        logdet: ``log |Q|`` as a number, or as a differentiable function of ``values``. Up to n = 1000 it is computed,
            by a dense factorization, if not given. A number will do where Q does not depend on parameters.
        rank: as in :func:`gmrf`.

    Raises:
        ArgumentError: shapes that do not fit, indices out of range, a pattern known to be that of one triangle only,
            no ``logdet`` for a large or singular matrix.

    >>> rows, cols, values = [0, 0, 1, 1], [0, 1, 0, 1], [2.0, -1.0, -1.0, 2.0]
    >>> round(float(gmrf_sparse(rows, cols, values, 2).nll([0.0, 0.0])), 4)  # log(2 pi) - log(3) / 2
    1.2886
    """
    n = _checks.count(n, "n")
    values = _checks.parameter(values, "values", ndim=1)
    Q = _matrix.Entries(_indices(rows, "rows", values, n), _indices(cols, "cols", values, n), values, n)
    _check_symmetric(Q)
    if logdet is None and n > DENSE_LIMIT:
        raise ArgumentError(
            f"a sparse field of more than {DENSE_LIMIT} values needs logdet, this one has {n}: give log |Q|, or a "
            "function of the values that computes it."
        )
    return with_mean(_field(Q, values, logdet, rank), mean)


def _field(Q: _matrix.Matrix, values: Array, logdet: Array | float | Logdet | None, rank: int | None) -> GMRF:
    rank = _rank(rank, _matrix.size(Q))
    if logdet is None and rank < _matrix.size(Q):
        raise ArgumentError(
            "a singular precision needs logdet: the logarithm of the product of its positive eigenvalues, or any "
            "number where it does not depend on parameters."
        )
    value = logdet(values) if callable(logdet) else logdet
    return GMRF(Q, None if value is None else _checks.parameter(value, "logdet", ndim=0), rank)


def _rank(rank: int | None, n: int) -> int:
    rank = n if rank is None else _checks.count(rank, "rank")
    if rank > n:
        raise ArgumentError(f"rank must be at most {n}, got {rank}.")
    return rank


def _from_scipy(Q: Any, mean: Any, logdet: Any, rank: int | None) -> Density:
    """A SciPy sparse matrix holds numbers, so that its log-determinant is one."""
    coo = Q.tocoo()
    if coo.shape[0] != coo.shape[1]:
        raise ArgumentError(f"Q must be a square matrix, got shape {coo.shape}.")
    if np.max(np.abs((coo - coo.T).data), initial=0.0) > 1e-6 * np.max(np.abs(coo.data), initial=0.0):
        raise ArgumentError("Q must be a symmetric matrix.")
    n = coo.shape[0]
    if logdet is None and _rank(rank, n) == n:
        logdet = _sparse_logdet(coo)
    return gmrf_sparse(coo.row, coo.col, coo.data, n, mean, logdet, rank)


def _sparse_logdet(Q: Any) -> float:
    """``log |Q|`` by a symmetric LU factorization without pivoting: its pivots are positive where Q is."""
    from scipy.sparse.linalg import splu

    try:
        lu = splu(
            Q.tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True, "Equil": False},
        )
    except RuntimeError:
        raise ArgumentError("Q must be positive definite, it is singular; see rank.") from None
    pivots = lu.U.diagonal()
    if not (np.all(pivots > 0) and np.array_equal(lu.perm_r, lu.perm_c)):
        raise ArgumentError("Q must be positive definite.")
    return float(np.sum(np.log(pivots)))


def _indices(value: Any, name: str, values: Array, n: int) -> Array:
    array = value if isinstance(value, jax.Array) else np.asarray(value)
    if array.shape != values.shape or array.dtype.kind not in "iu":
        raise ArgumentError(f"{name} must be one whole number for each of the {len(values)} values.")
    known = _checks.concrete(array)
    if known is not None and not np.all((known >= 0) & (known < n)):
        raise ArgumentError(f"{name} must be between 0 and {n - 1}.")
    return array


def _check_symmetric(Q: _matrix.Entries) -> None:
    rows, cols = _checks.concrete(Q.rows), _checks.concrete(Q.cols)
    if rows is None or cols is None:
        return
    places, mirrored = rows.astype(np.int64) * Q.n + cols, cols.astype(np.int64) * Q.n + rows
    if not np.array_equal(np.unique(places), np.unique(mirrored)):
        raise ArgumentError("rows and cols must hold both triangles of a symmetric matrix.")
