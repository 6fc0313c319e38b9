"""The sparse precision of a Matern field on a mesh, by its stochastic partial differential equation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from glmmjax._errors import ArgumentError
from glmmjax._types import Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class SpdePrecision:
    """The entries of ``Q = tau^2 (kappa^4 C + 2 kappa^2 G1 + G2)`` on one pattern; a pytree, so that it can be data.

    Attributes:
        rows, cols: (nnz,) the pattern of both triangles, row by row. The entries with ``rows <= cols`` are, in this
            order, those of one triangle as ``glmmjax.hessians.Sparse`` stores them.
        C, G1, G2: (nnz,) the entries of the three matrices.
        n: the number of vertices.

    >>> from glmmjax.densities import finite_elements
    >>> spde_precision(*finite_elements([[0, 0], [1, 0], [0, 1]], [[0, 1, 2]])).values(kappa=2.0, tau=0.5).shape
    (9,)
    """

    rows: Array
    cols: Array
    C: Array
    G1: Array
    G2: Array
    n: int = field(metadata={"static": True})

    def values(self, kappa: Any, tau: Any = 1.0) -> Array:
        """The entries (nnz,) of Q, for numbers ``kappa`` and ``tau`` that may be traced."""
        return tau**2 * (kappa**4 * self.C + 2.0 * kappa**2 * self.G1 + self.G2)


def spde_precision(C0: Any, G1: Any, G2: Any = None) -> SpdePrecision:
    """The precision of a Matern field of smoothness 1 on a mesh of the plane, with a pattern that never changes.

    ``Q(kappa, tau) = tau^2 (kappa^4 C0 + 2 kappa^2 G1 + G2)`` is the precision of the field's values at the vertices.
    The correlation falls to about 0.14 at the distance ``sqrt(8) / kappa``. The standard deviation is
    ``1 / (sqrt(4 pi) kappa tau)``, and larger within that distance of the boundary: a mesh extends beyond the data.

    Args:
        C0, G1, G2: (n, n) SciPy sparse matrices of a mesh, as :func:`finite_elements` returns them. If G2 is not given
            it is ``G1 C0^-1 G1``, for a diagonal C0.

    Raises:
        ArgumentError: the matrices are not sparse, square and of one size.

    Source: F. Lindgren, H. Rue and J. Lindstrom (2011), An explicit link between Gaussian fields and Gaussian Markov
    random fields: the stochastic partial differential equation approach, JRSS B 73, 423-498, section 2.3.

    >>> from glmmjax.densities import finite_elements, gmrf_sparse
    >>> matern = spde_precision(*finite_elements([[0, 0], [1, 0], [0, 1], [1, 1]], [[0, 1, 2], [1, 3, 2]]))
    >>> u = gmrf_sparse(matern.rows, matern.cols, matern.values(kappa=1.0, tau=1.0), matern.n)
    >>> u.event_shape
    (4,)
    """
    given = [C0, G1] if G2 is None else [C0, G1, G2]
    if not all(hasattr(M, "tocsr") for M in given):
        raise ArgumentError("C0, G1 and G2 must be SciPy sparse matrices.")
    shapes = {tuple(M.shape) for M in given}
    if len(shapes) > 1 or C0.shape[0] != C0.shape[1]:
        raise ArgumentError(f"C0, G1 and G2 must be square and of one size, got {', '.join(map(str, sorted(shapes)))}.")
    matrices = [_csr(M) for M in given]
    if G2 is None:
        matrices.append(matrices[1] @ _inverse_of_diagonal(matrices[0]) @ matrices[1])
    pattern = sum(_ones(M) for M in matrices)
    pattern.sort_indices()
    rows = np.repeat(np.arange(len(pattern.indptr) - 1, dtype=np.int32), np.diff(pattern.indptr))
    cols = pattern.indices.astype(np.int32)
    C, stiffness, bending = (np.asarray(M[rows, cols]).ravel() for M in matrices)
    return SpdePrecision(rows, cols, C, stiffness, bending, C0.shape[0])


def _csr(M: Any) -> Any:
    from scipy.sparse import csr_array

    return csr_array(M, dtype=float)


def _inverse_of_diagonal(C0: Any) -> Any:
    from scipy.sparse import diags_array

    diagonal = C0.diagonal()
    if np.count_nonzero((C0 - diags_array(diagonal)).data) or not np.all(diagonal > 0):
        raise ArgumentError("C0 must be diagonal and positive where G2 is not given.")
    return diags_array(1.0 / diagonal)


def _ones(M: Any) -> Any:
    """The pattern as a matrix of ones: a stored zero, as right angles leave in G1, keeps its place."""
    ones = M.copy()
    ones.data[:] = 1.0
    return ones
