"""The record of one covariance structure: how the unconstrained ``theta`` of a term becomes a Cholesky factor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from glmmjax._types import Array


@dataclass(frozen=True)
class Covariance:
    """A covariance structure of a random-effects term with ``q`` columns.

    The effects of one group are ``b = L u`` with ``u ~ N(0, I)``, so that ``Sigma = L L'``.

    Attributes:
        name: what is written before the bar, as in ``diag(1 + x | g)``.
        n_theta: ``q -> `` number of unconstrained parameters.
        cholesky: ``(theta, q) -> L``, a lower-triangular (q, q) array; pure JAX.
        start: Sigma (q, q) -> the ``theta`` (n_theta,) that comes nearest to it; NumPy.
        correlated: whether the structure has correlations to report.
    """

    name: str
    n_theta: Callable[[int], int]
    cholesky: Callable[[Array, int], Array]
    start: Callable[[np.ndarray], np.ndarray]
    correlated: bool
