"""The coordinates in which a formula model is optimized: a step of one means the same in any unit, from any origin.

    flat = start + T x

Fixed effects   the columns of X are made orthonormal. Where the link leaves the response its unit (identity, inverse,
                square root), they are multiplied by the residual standard deviation on the scale of the linear
                predictor, so that a step of one moves the predictor by that much.
theta           logarithms of standard deviations and correlations have no units, but a correlation of an intercept with
                a slope depends on the origin of the predictor. Far from its mean both are nearly collinear: T is then
                the derivative of theta in what theta would be if the predictor were centered.
the rest        logarithms, logits and the like: one is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from glmmjax._links import Link
from glmmjax.centering import centering, far_columns, moved
from glmmjax.design import Design
from glmmjax.layout import Layout, beta_name

# Links whose linear predictor is a pure number.
PURE = ("logit", "probit", "cloglog", "loglog", "cauchit", "log")
DIFFERENCE = 1e-5


class Coordinates(NamedTuple):
    """The directions T (k, r), and which of them move nothing but the linear predictor of the mean (r,)."""

    T: np.ndarray
    of_mean: np.ndarray

    def in_unit(self, unit: float) -> np.ndarray:
        """T where a step of one moves the linear predictor of the mean by ``unit``."""
        return self.T if unit == 1.0 else self.T * np.where(self.of_mean, unit, 1.0)


def coordinates(
    design: Design,
    layout: Layout,
    params: Mapping[str, np.ndarray],
    scale: Mapping[str, np.ndarray],
    free: np.ndarray | None = None,
) -> Coordinates:
    """The coordinates at some start, in the order of the sorted names of its parameters.

    Args:
        params: the start values by name.
        scale: the matrix of :func:`orthonormal_scale` of each component.
        free: the directions (k, r) of :func:`glmmjax.constraints.constrain` where parameters are held or tied.
    """
    names = sorted(params)
    blocks = {beta_name(component): S for component, S in scale.items()}
    if any(far_columns(placed.covariance, term) for placed, (_, term) in zip(layout.terms, design.terms, strict=True)):
        blocks["theta"] = _centered_slopes(design, layout, params["theta"])
    if free is None:
        of_mean = np.repeat([name == "beta" for name in names], [len(params[name]) for name in names])
        return Coordinates(block_diagonal([blocks.get(name, np.eye(len(params[name]))) for name in names]), of_mean)
    T, of_mean, first = free.copy(), np.zeros(free.shape[1], dtype=bool), 0
    matrices = {beta_name(component): part.X for component, part in design.components.items()}
    for name in names:
        rows = slice(first, first + len(params[name]))
        first = rows.stop
        elsewhere = np.delete(free, np.arange(rows.start, rows.stop), axis=0)
        own = np.any(free[rows] != 0.0, axis=0) & ~np.any(elsewhere != 0.0, axis=0)
        if name == "beta":
            of_mean = own
        if name in matrices and np.any(own):
            part = free[rows, own]
            T[rows, own] = part @ _scale(matrices[name] @ part)
        elif name == "theta" and name in blocks and np.array_equal(free[rows, own], np.eye(len(params[name]))):
            T[rows, own] = blocks[name]
    return Coordinates(T, of_mean)


def _scale(X: np.ndarray) -> np.ndarray:
    """:func:`orthonormal_scale`, one for columns that depend on each other."""
    T = orthonormal_scale(X) if X.shape[1] <= len(X) else np.full((X.shape[1],) * 2, np.nan)
    return T if np.all(np.isfinite(T)) else np.eye(len(T))


def orthonormal_scale(X: np.ndarray) -> np.ndarray:
    """The upper-triangular T (p, p) for which the columns of ``X T`` are orthogonal with mean square one.

    >>> X = np.column_stack([np.ones(4), [1.0, 2.0, 3.0, 4.0]])
    >>> np.allclose((X @ orthonormal_scale(X)).T @ (X @ orthonormal_scale(X)), 4 * np.eye(2))
    True
    """
    if X.shape[1] == 0:
        return np.zeros((0, 0))
    R = np.asarray(np.linalg.qr(X, mode="r"))
    try:
        return np.linalg.solve(R, np.eye(len(R))) * np.sqrt(len(X))
    except np.linalg.LinAlgError:
        return np.full(R.shape, np.nan)


def residual_unit(link: Link, residual: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The residual standard deviation (...) on the scale of the linear predictor; one where that is a pure number.

    Args:
        residual: working residuals (..., n).
        weights: of the rows, (n,) or (..., n).
    """
    if link.name in PURE:
        return np.ones(residual.shape[:-1])
    known = np.isfinite(residual)
    weights = np.where(known, weights, 0.0)
    squares = np.sum(weights * np.where(known, residual, 0.0) ** 2, axis=-1)
    unit = np.sqrt(squares / np.maximum(np.sum(weights, axis=-1), np.finfo(float).tiny))
    return np.where(np.isfinite(unit) & (unit > 0.0), unit, 1.0)


def along(T: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The part of a change of the parameters (k,) that lies in the span of directions T (k, r)."""
    if not np.any(change):
        return change
    directions = T / np.maximum(np.linalg.norm(T, axis=0), np.finfo(float).tiny)
    return directions @ np.linalg.lstsq(directions, change, rcond=None)[0]


def _centered_slopes(design: Design, layout: Layout, theta: np.ndarray) -> np.ndarray:
    """The derivative of theta in the theta of centered slopes."""
    blocks, first = [], 0
    for placed, (_, term) in zip(layout.terms, design.terms, strict=True):
        own = theta[first : first + placed.n_theta]
        first += placed.n_theta
        if not far_columns(placed.covariance, term):
            blocks.append(np.eye(len(own)))
            continue
        A = centering(term)
        at = moved(own, np.linalg.inv(A))
        blocks.append(_jacobian(lambda x, A=A: moved(x, A), at))  # type: ignore[misc]
    return block_diagonal(blocks)


def _jacobian(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """By central differences."""
    return np.stack([(f(x + h) - f(x - h)) / (2.0 * DIFFERENCE) for h in DIFFERENCE * np.eye(len(x))], axis=1)


def block_diagonal(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """The matrix with these on its diagonal."""
    size = sum(len(block) for block in blocks)
    T, start = np.zeros((size, size)), 0
    for block in blocks:
        T[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return T
