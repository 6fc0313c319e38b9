"""Which columns of a design matrix are linear combinations of earlier ones."""

from __future__ import annotations

import numpy as np

# The share of a column's length that must lie outside the span of the earlier columns: with less than this the linear
# predictor is lost in its rounding. What the numbers' own rounding leaves outside is larger where they were stored in
# single precision, or where a column is a small difference of large ones.
TOLERANCE = 1e-10
# The same share of what a constant leaves of the column: so a column far from zero is not taken for a constant.
COLLINEAR = 2e-8
ROUNDINGS = 16.0  # of the columns that may add up
SINGLE, DOUBLE = 2.0**-24, 2.0**-53


def dependent_columns(X: np.ndarray, tolerance: float = TOLERANCE) -> dict[int, tuple[int, ...]]:
    """Return the columns that depend on earlier ones, each with the columns it is a combination of.

    `X` is (n, p), in any units: columns are compared at unit length. An earlier column is kept and a later one goes, as
    in R. Dependent is what is left outside by the rounding of the numbers alone, ``year + I(year**2)`` and ``x + 1e8``
    are not, however far from zero, nor is a combination with noise of more than 2e-8 of its spread. A column of zeros
    depends on none.

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
    rounding = np.array([_precision(column) for column in X.T])
    R = np.asarray(np.linalg.qr(scaled, mode="r"))
    # where the first column is a constant, what it leaves of another is the rest of that one's column of R
    spread = np.linalg.norm(R[1:] if p and np.ptp(scaled[:, 0]) == 0.0 else R, axis=0)
    kept: list[int] = []
    basis = np.empty((R.shape[0], 0))
    dependent: dict[int, tuple[int, ...]] = {}
    for column in range(p):
        outside = R[:, column]
        for _ in range(2):  # twice is enough to be orthogonal to machine precision
            outside = outside - basis @ (basis.T @ outside)
        length = np.linalg.norm(outside)
        share = np.linalg.lstsq(R[:, kept], R[:, column], rcond=None)[0]
        noise = ROUNDINGS * (rounding[column] + np.abs(share) @ rounding[kept])
        if length > max(tolerance, noise, COLLINEAR * spread[column]):
            kept.append(column)
            basis = np.column_stack([basis, outside / length])
        else:
            dependent[column] = tuple(c for c, s in zip(kept, share, strict=True) if abs(s) > 1e-7)
    return dependent


def _precision(values: np.ndarray) -> float:
    """The relative rounding of a column: that of single precision where all its numbers are such, and no fractions.

    >>> _precision(np.array([0.1, 0.2])) < _precision(np.float32([0.1, 0.2]).astype(float))
    True
    """
    with np.errstate(over="ignore", invalid="ignore"):
        single = np.array_equal(values.astype(np.float32).astype(float), values)
        exact = np.array_equal(np.rint(values * 1024.0), values * 1024.0)
    return SINGLE if single and not exact else DOUBLE
