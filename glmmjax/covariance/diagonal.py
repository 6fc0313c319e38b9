"""Diagonal covariance: independent effects, each with its own standard deviation."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from glmmjax._types import Array
from glmmjax.covariance._covariance import Covariance


def n_theta(q: int) -> int:
    return q


def cholesky(theta: Array, q: int) -> Array:
    """``L = diag(exp(theta))``."""
    return jnp.diag(jnp.exp(theta))


def start(Sigma: np.ndarray) -> np.ndarray:
    """The log standard deviations; correlations are left out."""
    return 0.5 * np.log(np.diag(Sigma))


diagonal = Covariance("diag", n_theta, cholesky, start, correlated=False)
