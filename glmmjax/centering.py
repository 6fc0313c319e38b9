"""Random slopes on predictors that are far from zero, such as years: the same model with the predictor centered.

With ``Z' = Z A``, whose columns but the intercept are centered, ``Z b = Z' b'`` for ``b = A b'``. An unstructured
covariance of b is one of b', so that the model is the same; but an intercept at the year 0 and a slope are nearly
collinear, and sums of their squares lose all digits.
"""

from __future__ import annotations

import numpy as np

from glmmjax.covariance import Covariance, unstructured
from glmmjax.covariance.unstructured import from_lower, lower
from glmmjax.design import Term

# A slope is centered if the mean of its predictor is this many standard deviations from zero.
FAR = 4.0


def far_columns(covariance: Covariance, term: Term) -> bool:
    """Whether a term has an intercept and a correlated slope on a predictor that is far from zero."""
    if covariance is not unstructured or len(term.columns) < 2 or "(Intercept)" not in term.columns:
        return False
    mean, spread = np.mean(term.Z, axis=0), np.std(term.Z, axis=0)
    return bool(np.any((spread > 0.0) & (np.abs(mean) > FAR * spread)))


def centering(term: Term) -> np.ndarray:
    """The matrix A (q, q) for which the columns of ``Z A`` are centered, but for the intercept; then ``b = A b'``."""
    A = np.eye(len(term.columns))
    A[term.columns.index("(Intercept)")] -= np.where(np.std(term.Z, axis=0) > 0.0, np.mean(term.Z, axis=0), 0.0)
    return A


def moved(theta: np.ndarray, A: np.ndarray) -> np.ndarray:
    """The unstructured ``theta`` of effects ``A b`` where that of ``b`` is ``theta``."""
    return from_lower(np.asarray(np.linalg.qr((A @ lower(theta, len(A))).T, mode="r")).T)
