"""The one interface of all structures of the random-effects Hessian."""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._types import Array, Random
from glmmjax.hessians._levels import Level, Pairs, Weights

# A factorization of more floating-point operations than this is too expensive to be differentiated at every step.
COSTLY = 3e8
# Up to so many bytes of intermediate results are kept, to be shared by all directions of a second derivative.
MOST_SHARED = 5e8


class Structure(Protocol):
    """How the Hessian H of the joint density in the random effects is stored, factored and solved.

    Effects are kept as one (effects, groups) array per level; structures that know no grouping factor have one level
    with one effect per group. H is stored as any pytree, symmetric entries perhaps once. ``members`` is the index data
    of the model, integer arrays that come as data.

    Implementations are frozen and hashable; their methods are pure, can be traced, differentiated and batched, and
    report a matrix that is not positive definite by a flag. An *independent block* is a set of effects that shares no
    term of the density with the rest, so that a step in it can be judged alone.
    """

    @property
    def levels(self) -> tuple[Level, ...]:
        """The groups of effects."""

    @property
    def n_blocks(self) -> int:
        """The number of independent blocks."""

    @property
    def costly(self) -> bool:
        """Whether one factorization takes so long that exact outer Hessians should be few."""

    @property
    def shared_bytes(self) -> float:
        """About how many bytes of intermediate results the directions of a second derivative of logdet could share."""

    def spread_blocks(self, values: Array, level: int, members: Any) -> Array:
        """The value (n_blocks,) of the independent block of each group of a level: (G,)."""

    def sum_blocks(self, values: Array, level: int, members: Any) -> Array:
        """The sum over the groups (G,) of a level in each independent block: (n_blocks,)."""

    def add(self, H: Any, blocks: tuple[Array, ...], members: Any) -> Any:
        """H with a block added to each diagonal block: (d_k, d_k, G_k) or (d_k, d_k, 1) per level."""

    def multiply(self, H: Any, v: Random, members: Any) -> Random:
        """``H v``."""

    def diagonal(self, H: Any, members: Any) -> tuple[Array, ...]:
        """The diagonal blocks of a stored matrix, (d_k, d_k, G_k) per level; of a gradient its symmetric part."""

    def logdet(self, H: Any, members: Any, factor: Any = None) -> Array:
        """``log |H|``; its gradient is the inverse on H's pattern, differentiable in turn.

        Where the factor of H is there already, some structures need not make it again.
        """

    def factor(self, H: Any, members: Any) -> Any:
        """What :meth:`solve` needs of H; its ``positive`` (n_blocks,) says which blocks are positive definite."""

    def solve(self, factor: Any, g: Random) -> Random:
        """``H^-1 g``."""

    def probes(self, members: Any) -> Random:
        """Directions, (c, d_k, G_k) per level, whose products with H determine it; NumPy."""

    def from_products(self, products: Random, members: Any) -> Any:
        """H from its products with the :meth:`probes`."""

    def memory(self, n_params: int) -> float:
        """About how many bytes the structure's own arrays take in a fit with ``n_params`` parameters."""


class RowStructure(Structure, Protocol):
    """A structure whose Hessian is a sum over observations, each with a few effects of each grouping factor."""

    def sum_rows(self, values: Array, members: Any) -> Array:
        """The sum over the observations (n,) in each independent block: (n_blocks,)."""

    def assemble(self, W: Weights, Z: tuple[Array, ...], members: Any) -> Any:
        """``sum_i Z_i' W_i Z_i`` from columns ``Z[k]`` (d_k, n) and weights."""

    def congruence(self, S: Any, L: tuple[Array, ...]) -> Any:
        """``L' S L`` for one factor ``L[k]`` (d_k, d_k) per level."""


def identity(structure: Structure) -> tuple[Array, ...]:
    """What :meth:`Structure.add` turns into ``H + I``."""
    return tuple(jnp.eye(level.n_effects)[:, :, None] for level in structure.levels)


def damp(structure: Structure, H: Any, damping: Array, members: Any) -> Any:
    """``H + t I`` with one t per independent block."""
    t = (structure.spread_blocks(damping, k, members) for k in range(len(structure.levels)))
    return structure.add(H, tuple(I * x for I, x in zip(identity(structure), t, strict=True)), members)


def as_matrix(structure: Structure, H: Any, members: Any) -> Array:
    """H as one dense matrix (n, n), level by level, effects slowest; by its products with the unit vectors."""
    shapes = [(level.n_effects, level.n_groups) for level in structure.levels]
    n = sum(d * groups for d, groups in shapes)
    units = jnp.split(jnp.eye(n), np.cumsum([d * groups for d, groups in shapes])[:-1], axis=1)
    basis = tuple(x.reshape(n, *shape) for x, shape in zip(units, shapes, strict=True))
    columns = jax.vmap(lambda v: structure.multiply(H, v, members))(basis)
    return jnp.concatenate([x.reshape(n, -1) for x in columns], axis=1).T


def select(structure: Structure, ok: Array, new: Any, old: Any, members: Any) -> Any:
    """The new matrix in the independent blocks that are ``ok`` (n_blocks,), the old one in the others.

    Structures with several blocks store them by pairs of levels, a group of the first level along the third axis.
    """
    if structure.n_blocks == 1:
        return jax.tree.map(lambda a, b: jnp.where(ok[0], a, b), new, old)
    pairs: Pairs = {}
    for (k, m), block in new.items():
        keep = structure.spread_blocks(ok, k, members)
        pairs[k, m] = jnp.where(keep, block, old[k, m])
    return pairs
