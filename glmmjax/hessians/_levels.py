"""The levels of the random effects: grouping factors, each with its groups and the effects in one group.

A level is one grouping factor; all terms on the same factor share it. Effects are kept as one (effects, groups) array
per level, finest level first, and a symmetric matrix H over all effects as its blocks by pair of levels: ``H[k, l]``
for k <= l. Where level k is nested in level l, each group of k meets one group of l only, and the pair is stored as one
block per group of k: (d_k, d_l, G_k). Where the two are crossed the pair is stored in full: (d_k, d_l, G_k, G_l).

Groups and observations lie along the last axis, so that one effect is one contiguous array: taking and summing such
arrays one at a time is several times faster than moving the rows of a matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._types import Array, Random

Pairs: TypeAlias = dict[tuple[int, int], Array]
# (level, effect, level, effect) -> the weight of each observation (n,) in the product of the two effects' columns
Weights: TypeAlias = Callable[[int, int, int, int], Array]


@dataclass(frozen=True)
class Level:
    """One grouping factor: ``n_groups`` groups (padding included) with ``n_effects`` effects each."""

    n_groups: int
    n_effects: int


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Membership:
    """Who belongs where; integer arrays, given as data.

    Attributes:
        rows: per level, the group of each observation (n,), or that they stand in runs.
        parents: for each nested pair (k, l), the group of level l that holds each group of level k (G_k,).
    """

    rows: tuple[Index, ...]
    parents: dict[tuple[int, int], Array]


@jax.tree_util.register_static
@dataclass(frozen=True)
class Runs:
    """The groups of members that stand in order of their groups, the same number of them for each: no index is needed.

    What is taken or summed by such groups is reshaped, which is several times as fast as to go by an index.
    """

    length: int


Index: TypeAlias = Array | Runs


def zeros(levels: tuple[Level, ...]) -> Random:
    """All effects at zero, where the prior has its mode; NumPy."""
    return tuple(np.zeros((level.n_effects, level.n_groups)) for level in levels)


def take(values: Array, index: Index) -> Array:
    """``values`` (..., groups) of the group of each member: (..., members). One array at a time."""
    if isinstance(index, Runs):
        # not jnp.repeat, which takes three times as long where it is fused with what follows
        repeated = jnp.broadcast_to(values[..., None], (*values.shape, index.length))
        return repeated.reshape(*values.shape[:-1], -1)
    if values.ndim == 1:
        return jnp.asarray(values).at[index].get(mode="promise_in_bounds")
    return jnp.stack([take(row, index) for row in values])


def sum_by(values: Array, index: Index, n_groups: int) -> Array:
    """The sum over the members of each group of ``values`` (..., members): (..., groups). One array at a time."""
    if isinstance(index, Runs):
        return jnp.sum(values.reshape(*values.shape[:-1], n_groups, index.length), axis=-1)
    if values.ndim == 1:
        return jax.ops.segment_sum(values, index, num_segments=n_groups, mode="promise_in_bounds")
    return jnp.stack([sum_by(row, index, n_groups) for row in values])


def symmetric_outer(W: Weights, Z: tuple[Array, ...], k: int, index: Index, n_groups: int) -> Array:
    """``sum_i w_i z_i z_i'`` by group of level k, from columns ``Z[k]`` (d, n): (d, d, G)."""
    d = Z[k].shape[0]
    lower = {(a, b): sum_by(W(k, a, k, b) * Z[k][a] * Z[k][b], index, n_groups) for a in range(d) for b in range(a + 1)}
    return jnp.stack([jnp.stack([lower[max(a, b), min(a, b)] for b in range(d)]) for a in range(d)])


def products(W: Weights, Z: tuple[Array, ...], k: int, m: int) -> list[list[Array]]:
    """``w_i z_ia z_ib`` for every effect a of level k and b of level m; (n,) each."""
    return [[W(k, a, m, b) * x * y for b, y in enumerate(Z[m])] for a, x in enumerate(Z[k])]


def product(L: Array, v: Array) -> Array:
    """``L v`` for one small matrix (d, e) and effects (e, G); a fused sum instead of a matrix product."""
    return L * v if len(v) == 1 else jnp.sum(L[:, :, None] * v[None], axis=1)


def congruence(L: Array, S: Array, R: Array) -> Array:
    """``L' S R`` for small factors (d, d), (e, e) and blocks S (d, e, ...); fused sums instead of matrix products."""
    if S.shape[:2] == (1, 1):
        return (L[0, 0] * R[0, 0]) * S
    groups = (1,) * (S.ndim - 2)
    left = jnp.sum(L.T.reshape(*L.shape, 1, *groups) * S[None], axis=1)
    return jnp.sum(left[:, :, None] * R.reshape(1, *R.shape, *groups), axis=1)
