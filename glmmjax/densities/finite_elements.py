"""Matrices of linear finite elements on a triangulation of the plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from glmmjax._errors import ArgumentError

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class FiniteElements(NamedTuple):
    """Mass and stiffness matrices (n, n) over the n vertices of a mesh, sparse.

    Attributes:
        C0: the lumped mass matrix: diagonal, a third of the area of the triangles around each vertex.
        G1: the stiffness matrix: integrals of the products of the basis functions' gradients.
        G2: ``G1 C0^-1 G1``.

    >>> print(finite_elements([[0, 0], [1, 0], [0, 1]], [[0, 1, 2]]).C0.sum())  # the area
    0.5
    """

    C0: csr_array[Any]
    G1: csr_array[Any]
    G2: csr_array[Any]


def finite_elements(vertices: Any, triangles: Any) -> FiniteElements:
    """The matrices of piecewise linear finite elements on a mesh; NumPy and SciPy, once per mesh.

    ``G1[i, j]`` sums ``e_i . e_j / (4 area)`` over the triangles, where ``e_i`` is the edge opposite to vertex i, all
    edges of a triangle in one sense of rotation.

    Args:
        vertices: (n, 2) coordinates; the unit of length is that of ``1 / kappa``.
        triangles: (m, 3) whole numbers, the vertices of each triangle in either sense; ``scipy.spatial.Delaunay`` calls
            them ``simplices``.

    Raises:
        ArgumentError: wrong shapes, indices out of range, a triangle without area, a vertex without a triangle.

    Source: F. Lindgren, H. Rue and J. Lindstrom (2011), JRSS B 73, 423-498, appendix A.2.

    >>> C0, G1, G2 = finite_elements([[0, 0], [1, 0], [0, 1]], [[0, 1, 2]])
    >>> print(G1.toarray())
    [[ 1.  -0.5 -0.5]
     [-0.5  0.5  0. ]
     [-0.5  0.   0.5]]
    """
    from scipy.sparse import coo_array, diags_array

    points, corners = _checked(vertices, triangles)
    n = len(points)
    edges = points[np.roll(corners, -2, axis=1)] - points[np.roll(corners, -1, axis=1)]  # (m, 3, 2)
    area = 0.5 * np.abs(edges[:, 0, 0] * edges[:, 1, 1] - edges[:, 0, 1] * edges[:, 1, 0])
    longest = np.sum(edges**2, axis=2).max(axis=1)
    if not np.all(area > 1e-12 * longest):
        raise ArgumentError(f"triangle {int(np.argmin(area / longest))} has no area.")
    mass = np.bincount(corners.ravel(), np.repeat(area / 3.0, 3), minlength=n)
    if not np.all(mass > 0):
        raise ArgumentError(f"vertex {int(np.argmin(mass))} belongs to no triangle.")
    stiffness = np.einsum("mik,mjk->mij", edges, edges) / (4.0 * area[:, None, None])
    rows, cols = np.repeat(corners, 3, axis=1).ravel(), np.tile(corners, (1, 3)).ravel()
    G1 = coo_array((stiffness.ravel(), (rows, cols)), shape=(n, n)).tocsr()
    return FiniteElements(diags_array(mass).tocsr(), G1, (G1 @ diags_array(1.0 / mass) @ G1).tocsr())


def _checked(vertices: Any, triangles: Any) -> tuple[np.ndarray, np.ndarray]:
    points, corners = np.asarray(vertices, dtype=float), np.asarray(triangles)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ArgumentError(f"vertices must have shape (n, 2), got {points.shape}.")
    if corners.ndim != 2 or corners.shape[1] != 3 or corners.dtype.kind not in "iu":
        raise ArgumentError(f"triangles must be whole numbers of shape (m, 3), got {corners.dtype} {corners.shape}.")
    if not np.all((corners >= 0) & (corners < len(points))):
        raise ArgumentError(f"triangles must name vertices between 0 and {len(points) - 1}.")
    return points, corners
