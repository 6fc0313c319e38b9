"""What a Hessian tells: the covariance of what the data identify, and the directions about which they say nothing.

In the coordinates x of the optimizer, ``params = flat + T x``, a unit step means the same in every direction and every
unit. Directions that run off to infinity are taken out first; the covariance of the rest is the limit along them,

    T B (B' T' H T B)^-1 B' T',    B an orthonormal basis of the complement,

in which a linear combination c of the parameters has its variance exactly where ``c' T`` is orthogonal to what was
taken out. Geyer (2009), Electronic J. Statistics 3, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glmmjax.optimizer import LEAST_INFORMATION
from glmmjax.separation import null_space

# A spherical effect whose variance given the data is this close to one in every group has learned nothing from them.
UNINFORMED = 1e-4
# A parameter owes its variance to a direction without information from this share of the rest on.
SHARE = 0.01
LOADS = 1e-7


def smallest_variances(modes_vcov: tuple[np.ndarray, ...], n_groups: np.ndarray) -> np.ndarray:
    """The smallest variance of each effect over the groups of its level that are not padding; (lanes, effects)."""
    own = []
    for x, size in zip(modes_vcov, n_groups.T, strict=True):
        padding = np.arange(x.shape[-1])[:, None] >= size[:, None, None]
        own.append(np.where(padding, np.inf, np.diagonal(x, axis1=1, axis2=2)).min(axis=1))
    return np.concatenate(own, axis=1) if own else np.zeros((len(n_groups), 0))


def combination_errors(J: np.ndarray, vcov: np.ndarray, known: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Standard errors (m,) of linear combinations J (m, k) of the parameters; NaN where one is not identified.

    A combination may be identified where its parameters are not: in the limit, if it is the same along every lost
    direction. Parameters that are held or at a boundary have no standard error, and what depends on them neither.

    Args:
        vcov, known, lost: those of :class:`Information`.

    >>> lost = np.array([[1.0], [-1.0]])
    >>> combination_errors(np.array([[1.0, 1.0], [1.0, 0.0]]), np.full((2, 2), np.nan), np.eye(2), lost).round(3)
    array([1.414,   nan])
    """
    size = np.abs(J)
    J = np.where(size > 1e-9 * np.max(size, axis=1, keepdims=True, initial=0.0), J, 0.0)
    held = np.isnan(np.diag(vcov)) & ~np.any(lost != 0.0, axis=1)
    unknown = (J != 0.0) @ held | involves(J, lost)
    return np.sqrt(np.where(unknown, np.nan, np.maximum(np.sum((J @ known) * J, axis=1), 0.0)))


def involves(J: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Which combinations J (m, k) change along one of the directions (k, q), beyond rounding; (m,) bool."""
    return np.any(np.abs(J @ lost) > 1e-6 * (np.abs(J) @ np.abs(lost)), axis=1)


@dataclass(frozen=True, eq=False)
class Information:
    """The covariance of k parameters, and what is not known of them.

    Attributes:
        vcov: (k, k); NaN in rows and columns of parameters that are not identified or do not move.
        known: (k, k) the same with directions that are not identified counted as known; no NaN.
        lost: (k, q) the directions that were taken out or that the data say nothing about.
        weak: (k,) bool, the parameters that owe their uncertainty to the latter.
        positive: whether the curvature is negative nowhere.
    """

    vcov: np.ndarray
    known: np.ndarray
    lost: np.ndarray
    weak: np.ndarray
    positive: bool


def well_informed(hessian: np.ndarray, T: np.ndarray, enough: float) -> Information | None:
    """What the Hessian tells where every direction has more than ``enough`` curvature; else None, for a closer look.

    >>> well_informed(np.diag([4.0, 2.0]), np.eye(2), 1.0).vcov.round(12).tolist()
    [[0.25, 0.0], [0.0, 0.5]]
    """
    reduced = T.T @ hessian @ T
    if not np.all(np.isfinite(reduced)):
        return None
    eigenvalues, V = np.linalg.eigh(reduced)
    if len(eigenvalues) and not eigenvalues[0] > enough:
        return None
    root = T @ (V / np.sqrt(eigenvalues))
    known = root @ root.T
    moves = np.any(T != 0.0, axis=1)
    vcov = known if np.all(moves) else np.where(np.outer(moves, moves), known, np.nan)
    k = len(hessian)
    return Information(vcov, known, np.zeros((k, 0)), np.zeros(k, dtype=bool), True)


def information(hessian: np.ndarray, T: np.ndarray, gone: np.ndarray, least: float = LEAST_INFORMATION) -> Information:
    """What the Hessian (k, k) tells about the parameters.

    Args:
        T: the directions in which they may move (k, r).
        gone: (r, q) orthonormal directions in x that run off to infinity.
        least: directions with less curvature count as not identified.

    >>> found = information(np.diag([4.0, 0.0]), np.eye(2), np.zeros((2, 0)))
    >>> found.vcov.tolist(), found.lost.tolist()
    ([[0.25, nan], [nan, nan]], [[0.0], [1.0]])
    """
    k, r = T.shape
    moves = np.any(T != 0.0, axis=1)
    unknown = Information(np.full((k, k), np.nan), np.zeros((k, k)), T @ gone, np.zeros(k, dtype=bool), False)
    B = null_space(gone.T) if gone.shape[1] else np.eye(r)
    reduced = B.T @ (T.T @ hessian @ T) @ B
    if not np.all(np.isfinite(reduced)):
        return unknown
    eigenvalues, V = np.linalg.eigh(reduced)
    largest = float(np.max(np.abs(eigenvalues), initial=0.0))
    if np.any(eigenvalues < -max(least, 1e-9 * largest)):
        return unknown
    is_weak = eigenvalues < max(least, 1e-13 * largest)
    weak, strong = B @ V[:, is_weak], B @ (V[:, ~is_weak] / np.sqrt(eigenvalues[~is_weak]))
    root = T @ strong
    known = root @ root.T
    own = np.maximum(np.diag(known), 0.0)
    floor = np.maximum(np.abs(eigenvalues[is_weak]), 1e-6 * least)
    owed = np.sum((T @ weak) ** 2 / floor, axis=1)
    length = np.linalg.norm(T, axis=1)
    ran_off = np.any(np.abs(T @ gone) > LOADS * length[:, None], axis=1)
    unseen = moves & ~ran_off & (owed > SHARE * own)
    seen = moves & ~ran_off & ~unseen
    vcov = np.where(np.outer(seen, seen), known, np.nan)
    return Information(vcov, known, np.column_stack([T @ gone, T @ weak]), unseen, True)
