"""Which columns of a design matrix are linear combinations of earlier ones."""

from __future__ import annotations

import numpy as np

# The share of a column's length that must lie outside the span of the earlier columns; R's `lm` uses the same.
TOLERANCE = 1e-7


def dependent_columns(X: np.ndarray, tolerance: float = TOLERANCE) -> dict[int, tuple[int, ...]]:
    """Return the columns that depend on earlier ones, each with the columns it is a combination of.

    `X` is (n, p), in any units: columns are compared at unit length. An earlier column is kept and a later one goes, as
    in R (the limited column pivoting of LINPACK's dqrdc2, and of `lm`). A column of zeros depends on none.

    >>> dependent_columns(np.array([[1.0, 2.0, 0.0], [1.0, 2.0, 1.0]]))
    {1: (0,)}
    """
    n, p = X.shape
    lengths = np.abs(X).max(axis=0, initial=0.0)
    scaled = X / np.where(lengths > 0, lengths, 1.0)  # first by the largest entry, so that squares cannot overflow
    norms = np.linalg.norm(scaled, axis=0)
    scaled /= np.where(norms > 0, norms, 1.0)
    # What lies outside the others is at least the smallest singular value: far from zero, its square needs no QR.
    if p <= n and (p == 0 or np.linalg.eigvalsh(scaled.T @ scaled)[0] > max(1e-10, 100 * tolerance**2)):
        return {}
    R = np.asarray(np.linalg.qr(scaled, mode="r"))
    kept: list[int] = []
    basis = np.empty((R.shape[0], 0))
    dependent: dict[int, tuple[int, ...]] = {}
    for column in range(p):
        outside = R[:, column]
        for _ in range(2):  # twice is enough to be orthogonal to machine precision
            outside = outside - basis @ (basis.T @ outside)
        length = np.linalg.norm(outside)
        if length > tolerance:
            kept.append(column)
            basis = np.column_stack([basis, outside / length])
        else:
            share = np.linalg.lstsq(R[:, kept], R[:, column], rcond=None)[0]
            dependent[column] = tuple(c for c, s in zip(kept, share, strict=True) if abs(s) > tolerance)
    return dependent
