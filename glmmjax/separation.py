"""Separation: whether the likelihood rises for ever along a direction of the parameters, decided by linear programming.

A row of ``rises`` is a linear form of the direction d that must not be negative if the likelihood is not to go to zero,
and that gains where it is positive; a row of ``still`` must be zero. Estimates are infinite exactly if

    C = {d: rises d >= 0, still d = 0}    holds a direction with rises d > 0 in some row.

What runs off is the span of C. It is found without loss: once it is known which rows can be positive, the span is the
null space of all the others.

Albert & Anderson (1984), Biometrika 71; Konis (2007), Linear programming algorithms for detecting separated data in
binary logistic regression models; Geyer (2009), Electronic J. Statistics 3, for the limit of the likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

ZERO = 1e-9  # of numbers that are of the order of one unless they are rounding
FEASIBLE = 1e-9  # what the linear program allows its constraints to miss
GAIN = 1e-7  # a form that is larger is positive, unless others are negative that are not a thousand times smaller
ROWS_AT_ONCE = 300  # of the linear program; more are added where they are violated


@dataclass(frozen=True, eq=False)
class Recession:
    """What runs off.

    Attributes:
        span: (r, q) an orthonormal basis of the directions.
        gains: (m,) bool, the rows that have a positive form in one of them.
    """

    span: np.ndarray
    gains: np.ndarray


def recession(rises: np.ndarray, still: np.ndarray) -> Recession:
    """The directions along which the likelihood rises for ever; none where the estimates are finite.

    Args:
        rises, still: (m, r) and (s, r), the columns in units in which they are comparable.

    >>> recession(np.array([[1.0, 1.0], [-1.0, 1.0]]), np.array([[1.0, 0.0]])).span.round(3).tolist()
    [[0.0], [1.0]]
    """
    nothing = Recession(np.zeros((rises.shape[1], 0)), np.zeros(len(rises), dtype=bool))
    basis = null_space(still)
    if basis.shape[1] == 0 or not len(rises):
        return nothing
    reduced = rises @ basis
    size = np.linalg.norm(reduced, axis=1)
    moved = size > 1e-7 * np.maximum(np.linalg.norm(rises, axis=1), 1e-300)
    if not np.any(moved):
        return nothing
    forms = reduced[moved] / size[moved, None]
    first, inverse, count = distinct(forms.round(9) + 0.0)
    forms = forms[first]
    positive = _positive(forms, count)
    if not np.any(positive):
        return nothing
    gains = np.zeros(len(rises), dtype=bool)
    gains[moved] = positive[inverse]
    nowhere = null_space(forms)  # directions that move no row are not identified, but run nowhere
    return Recession(basis @ null_space(np.concatenate([forms[~positive], nowhere.T])), gains)


def distinct(A: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each distinct row of A (m, r) stands first, for every row the number of its own, and how often each occurs.

    >>> [part.tolist() for part in distinct(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]))]
    [[1, 0], [1, 0, 1], [1, 2]]
    """
    # one number for each row, equal for equal rows; for others with a probability of 2^-50
    marks = (A * np.random.default_rng(0).uniform(1.0, 2.0, A.shape[1])).sum(axis=1)
    _, first, inverse, count = np.unique(marks, return_index=True, return_inverse=True, return_counts=True)
    return first, inverse.reshape(-1), count


def null_space(A: np.ndarray) -> np.ndarray:
    """An orthonormal basis (r, q) of the directions that A (m, r) takes to zero.

    >>> null_space(np.array([[1.0, 0.0]])).tolist()
    [[0.0], [1.0]]
    """
    r = A.shape[1]
    if not len(A):
        return np.eye(r)
    length = np.linalg.norm(A, axis=1)
    A = A[length > 0] / length[length > 0, None]
    if not len(A):
        return np.eye(r)
    # by the triangle of a QR factorization where A is tall: its singular values, not their squares
    R = np.linalg.qr(A, mode="r") if len(A) > r else A
    _, values, V = np.linalg.svd(R, full_matrices=True)
    rank = int(np.sum(values > 1e-7 * values[0]))
    basis = V[rank:].T.copy()
    basis[np.abs(basis) < ZERO] = 0.0
    # a sign that does not depend on the factorization
    largest = np.argmax(np.abs(basis), axis=0)
    return basis * np.where(basis[largest, np.arange(basis.shape[1])] < 0, -1.0, 1.0)


def _positive(forms: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Which of the forms (m, r), of length one and of ``count`` rows each, are positive where no form is negative."""
    positive = np.zeros(len(forms), dtype=bool)
    if forms.shape[1] == 1:
        sign = forms[:, 0]
        return np.ones_like(positive) if np.all(sign > 0) or np.all(sign < 0) else positive
    used = np.zeros(len(forms), dtype=bool)
    used[np.unique(np.linspace(0, len(forms) - 1, min(len(forms), ROWS_AT_ONCE)).astype(int))] = True
    while not np.all(positive):
        d, used = _steepest(forms, np.where(positive, 0, count) @ forms, used)
        values = forms @ d
        found = ~positive & (values > max(GAIN, -1e3 * float(np.min(values))))
        if not np.any(found):
            break
        positive |= found
    return positive


def _steepest(forms: np.ndarray, slope: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The direction in the unit box that maximizes ``slope d`` where no form is negative; zero where there is no gain.

    Forms become constraints as they are violated, for a few decide; ``used`` are those to begin with, and at the end.
    """
    from scipy.optimize import linprog

    used, nowhere = used.copy(), np.zeros(forms.shape[1])
    slope = slope / max(float(np.linalg.norm(slope)), 1e-300)
    options: Any = {"primal_feasibility_tolerance": FEASIBLE, "dual_feasibility_tolerance": FEASIBLE}
    while True:
        found = linprog(-slope, -forms[used], np.zeros(int(used.sum())), bounds=(-1.0, 1.0), options=options)
        d = np.asarray(found.x) if found.status == 0 else nowhere
        if slope @ d <= ZERO:
            return nowhere, used
        values = forms @ d
        violated = np.flatnonzero(~used & (values < -FEASIBLE))
        if not len(violated):
            return d, used
        used[violated[np.argsort(values[violated])[:ROWS_AT_ONCE]]] = True
