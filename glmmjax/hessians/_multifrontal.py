"""Cholesky factorization of a sparse symmetric matrix with a fixed pattern, its selected inverse, and its derivative.

The multifrontal method, on dense fronts. In a front with pivots p and rows r the assembled matrix A gives

    L L' = A_pp,   M = L^-1,   W = M A_pr,   U = A_rr - W' W,

and U is passed on to the parent. With ``B = A_pp^-1 A_pr = M' W`` and ``V = A_pp^-1 = M' M``, effects ``x_p`` given
``x_r`` have mean ``-B x_r`` and covariance V, so that the inverse Z is found from the roots to the leaves,

    Z_pr = -B Z_rr,   Z_pp = V - Z_pr B',

where Z_rr is part of the parent's. Both recursions are differentiated as they stand, by matrix products alone.

Duff & Reid (1983), ACM Trans. Math. Softw. 9 (multifrontal); Takahashi, Fagan & Chen (1973), and Erisman & Tinney
(1975), Commun. ACM 18 (inverse on the pattern).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from glmmjax.hessians._fronts import GROUP_SIZE, Analysis, Group

# Triangular inverses: below this size many at once in NumPy, from it on one at a time in LAPACK.
LAPACK_FROM = 12
# The most numbers in the workspaces that are differentiated together, unless one alone has more: about a cache.
CHUNK = 2**21


def factor(analysis: Analysis, values: np.ndarray) -> tuple[np.ndarray, bool]:
    """The packed factor of the matrix with these values (nnz,), and whether the matrix is positive definite.

    A pivot that is not positive is replaced by one and left uncoupled from what follows, so that the factor is finite
    whatever the values are.
    """
    positive = bool(np.all(np.isfinite(values)))
    work = np.zeros(analysis.work_size)
    work[analysis.ones] = 1.0
    work[analysis.entries] = values if positive else np.nan_to_num(values, posinf=0.0, neginf=0.0)
    for group in analysis.groups:
        M, W = group.panels(work)
        L, replaced = _cholesky(M)
        _invert_lower(L, M)
        if W.size:
            W[...] = M @ W
            if replaced is not None:
                W[replaced] = 0.0
            _pass_on(group, work, -_gram(W))
        positive = positive and replaced is None
    packed = work[: analysis.factor_size].copy()  # the rest is not needed any more
    if not np.isfinite(packed.sum()):
        return _identity(analysis), False
    return packed, positive


def logdet(analysis: Analysis, packed: np.ndarray) -> float:
    """The logarithm of the determinant of the factored matrix."""
    diagonals = (np.diagonal(group.panels(packed)[0], axis1=1, axis2=2) for group in analysis.groups)
    return -2.0 * float(sum(np.sum(np.log(x)) for x in diagonals))


def solve(analysis: Analysis, packed: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``A^-1 b`` for right-hand sides, both (k, n)."""
    k, n = right.shape
    x = np.zeros((k, n + 1))
    x[:, :n] = right
    lanes = (n + 1) * np.arange(k)[:, None, None]
    for group in analysis.groups:
        M, W = group.panels(packed)
        y = M @ _columns(x, group.pivots)
        x[:, group.pivots] = np.moveaxis(y, 2, 0)
        if W.size:
            carried = np.moveaxis(_transpose(W) @ y, 2, 0)
            np.subtract.at(x.reshape(-1), (lanes + group.rows).reshape(-1), carried.reshape(-1))
    for group in reversed(analysis.groups):
        M, W = group.panels(packed)
        y = _columns(x, group.pivots)
        if W.size:
            y = y - W @ _columns(x, group.rows)
        x[:, group.pivots] = np.moveaxis(_transpose(M) @ y, 2, 0)
    return x[:, :n]


def selected_inverse(analysis: Analysis, packed: np.ndarray) -> np.ndarray:
    """The entries of the inverse on the pattern (nnz,)."""
    return _inverse_on_fronts(analysis, packed)[analysis.entries]


def selected_inverse_derivative(analysis: Analysis, packed: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """The derivative of the selected inverse, ``-V dA V`` on the pattern, in directions dA; both (k, nnz)."""
    Z = _inverse_on_fronts(analysis, packed)
    out = np.empty(directions.shape)
    D = np.empty((lanes_at_once(analysis, len(directions)), analysis.work_size))
    for lanes in _slices(len(directions), len(D)):
        _differentiate(analysis, packed, Z, directions[lanes], D)
        out[lanes] = D[: len(out[lanes]), analysis.entries]
    return out


def lanes_at_once(analysis: Analysis, directions: int) -> int:
    """How many directions are differentiated together."""
    return min(directions, max(1, CHUNK // analysis.work_size))


def _inverse_on_fronts(analysis: Analysis, packed: np.ndarray) -> np.ndarray:
    """The inverse on the pattern of the factor: a workspace (work_size,)."""
    Z = np.zeros(analysis.work_size)
    for group in reversed(analysis.groups):
        M, W = group.panels(packed)
        Z_pp, Z_pr = group.panels(Z)
        np.matmul(_transpose(M), M, out=Z_pp)
        if W.size:
            B = _transpose(M) @ W
            Z_rr = Z[group.passed()]
            np.matmul(-B, Z_rr, out=Z_pr)
            Z_pp -= Z_pr @ _transpose(B)
            _keep_for_children(group, Z, Z_pr, Z_rr)
    return Z


def _differentiate(
    analysis: Analysis, packed: np.ndarray, Z: np.ndarray, directions: np.ndarray, D: np.ndarray
) -> None:
    """Write the derivative of the inverse Z on the fronts in directions (k, nnz) to the first workspaces of D."""
    D = D[: len(directions)]
    D[...] = 0.0
    D[:, analysis.entries] = directions
    D[:, analysis.mirrored] = directions
    for group in analysis.groups:  # D has the derivative of A, then those of V and B
        M, W = group.panels(packed)
        V, B = _transpose(M) @ M, _transpose(M) @ W
        for lanes in _slices(len(D), GROUP_SIZE // group.size):
            D_pp, D_pr = group.panels(D[lanes])
            if W.size:
                change = D_pp @ B
                across = _transpose(B) @ (0.5 * change - D_pr)
                _pass_on(group, D[lanes], across + _transpose(across))
                np.matmul(V, D_pr - change, out=D_pr)
            D_pp[...] = -(V @ D_pp @ V)
    for group in reversed(analysis.groups):  # then that of Z
        M, W = group.panels(packed)
        if W.size == 0:
            continue
        at = group.passed()
        B, Z_pr, Z_rr = _transpose(M) @ W, group.panels(Z)[1], Z[at]
        for lanes in _slices(len(D), GROUP_SIZE // group.size):
            D_pp, D_pr = group.panels(D[lanes])
            dZ_rr = np.stack([lane[at] for lane in D[lanes]])
            D_pp -= Z_pr @ _transpose(D_pr)
            D_pr[...] = -(D_pr @ Z_rr + B @ dZ_rr)
            D_pp -= D_pr @ _transpose(B)
            _keep_for_children(group, D[lanes], D_pr, dZ_rr)


def _slices(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most ``size``, or of one."""
    step = max(1, size)
    return (slice(begin, min(begin + step, length)) for begin in range(0, length, step))


def _pass_on(group: Group, work: np.ndarray, update: np.ndarray) -> None:
    """Add A_rr and an update (..., B, R, R) to the parents' fronts, in one workspace or in several (k, size)."""
    if group.rest >= 0:
        update = group.rests(work)[1] + update
    at = group.passed().reshape(-1)
    for lane, block in zip(np.atleast_2d(work), update.reshape(-1, at.size), strict=True):
        np.add.at(lane, at, block)


def _keep_for_children(group: Group, work: np.ndarray, Z_pr: np.ndarray, Z_rr: np.ndarray) -> None:
    """Write the rest of the fronts, unless they are leaves."""
    if group.rest >= 0:
        low, high = group.rests(work)
        low[...] = _transpose(Z_pr)
        high[...] = Z_rr


def _transpose(A: np.ndarray) -> np.ndarray:
    return np.swapaxes(A, -1, -2)


def _columns(x: np.ndarray, index: np.ndarray) -> np.ndarray:
    """``x`` (k, n) of fronts' columns (B, P), right-hand sides last: (B, P, k)."""
    return np.moveaxis(x[:, index], 0, 2)


def _gram(W: np.ndarray) -> np.ndarray:
    """``W' W`` for each matrix (B, P, R)."""
    # NumPy takes BLAS's symmetric product where both factors are one array, which is slower for small matrices.
    return _transpose(W) @ W.copy()


def _cholesky(A: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The lower factors of matrices (B, P, P) given by their lower triangles; which pivots were replaced (B, P)."""
    try:
        return np.linalg.cholesky(A), None
    except np.linalg.LinAlgError:
        L, replaced = np.empty(A.shape), np.empty(A.shape[:2], dtype=bool)
        for i, matrix in enumerate(A):
            L[i], replaced[i] = _safe_cholesky(matrix)
        return L, replaced


def _safe_cholesky(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The factor of one matrix, and which of its pivots were not positive and are replaced by uncoupled ones."""
    replaced = np.zeros(len(A), dtype=bool)
    try:
        return np.linalg.cholesky(A), replaced
    except np.linalg.LinAlgError:
        pass
    L = np.zeros(A.shape)
    for j in range(len(A)):
        column = A[j:, j] - L[j:, :j] @ L[j, :j]
        if np.isfinite(column[0]) and column[0] > 0:
            L[j:, j] = column / np.sqrt(column[0])
        else:
            L[j, j], replaced[j] = 1.0, True
    return L, replaced


def _invert_lower(L: np.ndarray, out: np.ndarray) -> None:
    """Write the inverses of lower triangular matrices (B, P, P) to ``out``."""
    P = L.shape[1]
    if P >= LAPACK_FROM:
        from scipy.linalg.lapack import dtrtri  # loads when first needed

        for matrix, inverse in zip(L, out, strict=True):
            inverse[...] = dtrtri(matrix.T)[0].T
    elif P == 1:
        np.divide(1.0, L, out=out)
    else:
        h = P // 2
        out[:, :h, h:] = 0.0
        _invert_lower(L[:, :h, :h], out[:, :h, :h])
        _invert_lower(L[:, h:, h:], out[:, h:, h:])
        np.matmul(out[:, h:, h:] @ L[:, h:, :h], -out[:, :h, :h], out=out[:, h:, :h])


def _identity(analysis: Analysis) -> np.ndarray:
    """The packed factor of the identity matrix."""
    packed = np.zeros(analysis.factor_size)
    for group in analysis.groups:
        group.panels(packed)[0][...] = np.eye(group.pivots.shape[1])
    return packed
