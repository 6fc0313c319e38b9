"""A precision matrix: a dense array, or the entries of a fixed sparse pattern."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import jax
import jax.numpy as jnp

from glmmjax._types import Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Entries:
    """The matrix (n, n) that is the sum of ``values`` at ``(rows, cols)``; both triangles are stored."""

    rows: Array
    cols: Array
    values: Array
    n: int = field(metadata={"static": True})


Matrix: TypeAlias = Array | Entries


def size(Q: Matrix) -> int:
    """The n of an (n, n) matrix."""
    return Q.n if isinstance(Q, Entries) else Q.shape[-1]


def product(Q: Matrix, x: Array) -> Array:
    """``Q x`` for columns x (n, columns)."""
    if not isinstance(Q, Entries):
        return Q @ x
    return jax.ops.segment_sum(jnp.asarray(Q.values)[:, None] * x[Q.cols], Q.rows, num_segments=Q.n)


def dense(Q: Matrix) -> Array:
    """The whole matrix (n, n)."""
    return jnp.zeros((Q.n, Q.n)).at[Q.rows, Q.cols].add(Q.values) if isinstance(Q, Entries) else jnp.asarray(Q)
