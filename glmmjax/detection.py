"""Which random effects a likelihood couples, read off its program: sparsity detection by the optional asdex package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from glmmjax._errors import ArgumentError, OptionalDependencyError
from glmmjax.hessians import Banded, Sparse
from glmmjax.promises import Promise


def detect(nll: Callable[..., Any], params: Any, random: Any, data: Any) -> Promise:
    """A promise about the Hessian of ``nll`` in ``random``: banded where the band is narrow, else sparse.

    Call in double precision.

    Raises:
        OptionalDependencyError: asdex is not installed.
        ArgumentError: it does not know an operation of the program.
    """
    try:
        import asdex
    except ImportError as error:
        raise OptionalDependencyError(
            "structure='detect' needs the asdex package: pip install 'glmmjax[detect]'."
        ) from error
    flat, unravel = ravel_pytree(jax.tree.map(jnp.asarray, random))
    try:
        pattern = asdex.hessian_sparsity(lambda u: nll(params, unravel(u), data), flat)
    except NotImplementedError as error:
        raise ArgumentError(
            f"structure='detect': asdex does not know an operation of this likelihood ({error}). Promise the "
            "structure, for example with gj.Sparse(pattern)."
        ) from error
    rows, columns = np.asarray(pattern.rows), np.asarray(pattern.cols)
    return from_pattern(rows, columns, flat.size, len(jax.tree.leaves(random)) == 1)


def from_pattern(rows: np.ndarray, columns: np.ndarray, n: int, one_array: bool) -> Promise:
    """Banded if a single array of effects has a band of at most 8 or a sixteenth of its length, else sparse."""
    import scipy.sparse

    width = int(np.max(np.abs(rows - columns), initial=0))
    if one_array and width <= min(8, n // 16):
        return Banded(width)
    return Sparse(scipy.sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(n, n)))
