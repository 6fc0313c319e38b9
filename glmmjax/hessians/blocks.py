"""Nested grouping factors: a tree of small blocks, eliminated from the leaves to the roots.

With one factor H is block-diagonal. With nested factors (classes in schools in towns) the blocks of the finest level
are eliminated first; what they leave on their ancestors is again block-structured, so the cost stays linear in the
number of groups.

    B_kl = H_kk^-1 H_kl,   H_lm <- H_lm - sum over the groups of k in each group of l of H_kl' B_km
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._types import Array, Random
from glmmjax.hessians import _spd as spd
from glmmjax.hessians._levels import (
    Level,
    Membership,
    Pairs,
    Weights,
    congruence,
    products,
    sum_by,
    symmetric_outer,
    take,
)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BlocksFactor:
    """What elimination leaves: ``V[k] = H_kk^-1`` (d_k, d_k, G_k), ``B[k, l]`` (d_k, d_l, G_k), flags of the roots."""

    V: tuple[Array, ...]
    B: Pairs
    parents: dict[tuple[int, int], Array]
    positive: Array


@dataclass(frozen=True)
class Blocks:
    """One grouping factor, factors nested in a chain, or none; ``levels`` run from the finest to the coarsest.

    Attributes:
        pooled: the density is known as one number only, so that its blocks cannot be judged apart.
    """

    levels: tuple[Level, ...]
    pooled: bool = False

    @property
    def n_blocks(self) -> int:
        """The number of independent blocks: the groups of the coarsest level; one if there are no effects at all."""
        return 1 if self.pooled or not self.levels else self.levels[-1].n_groups

    @property
    def costly(self) -> bool:
        """Never: the cost is linear in the number of groups."""
        return False

    def __str__(self) -> str:
        sizes = " in ".join(f"{level.n_groups} groups x {level.n_effects}" for level in self.levels)
        return f"blocks: {sizes}" if self.levels else "no random effects"

    @property
    def shared_bytes(self) -> float:
        """Little."""
        return 0.0

    def spread_blocks(self, values: Array, level: int, members: Membership) -> Array:
        """The value (n_blocks,) of the independent block of each group of a level."""
        if self.pooled:
            return jnp.broadcast_to(values, (self.levels[level].n_groups,))
        last = len(self.levels) - 1
        return values if level == last else take(values, members.parents[level, last])

    def sum_blocks(self, values: Array, level: int, members: Membership) -> Array:
        """The sum over the groups of a level in each independent block: (n_blocks,)."""
        if self.pooled:
            return jnp.sum(values)[None]
        last = len(self.levels) - 1
        return values if level == last else sum_by(values, members.parents[level, last], self.n_blocks)

    def sum_rows(self, values: Array, members: Membership) -> Array:
        """The sum over the observations (n,) of each independent block: (n_blocks,)."""
        return sum_by(values, members.rows[-1], self.n_blocks) if self.levels else jnp.sum(values)[None]

    def assemble(self, W: Weights, Z: tuple[Array, ...], members: Membership) -> Pairs:
        """``sum_i Z_i' W_i Z_i`` from columns ``Z[k]`` (d_k, n) and weights."""
        pairs: Pairs = {}
        for k, level in enumerate(self.levels):
            index = members.rows[k]
            pairs[k, k] = symmetric_outer(W, Z, k, index, level.n_groups)
            for m in range(k + 1, len(self.levels)):
                sums = [[sum_by(x, index, level.n_groups) for x in row] for row in products(W, Z, k, m)]
                pairs[k, m] = jnp.stack([jnp.stack(row) for row in sums])
        return pairs

    def congruence(self, S: Pairs, L: tuple[Array, ...]) -> Pairs:
        """``L' S L`` for one factor ``L[k]`` (d_k, d_k) per level."""
        return {(k, m): congruence(L[k], block, L[m]) for (k, m), block in S.items()}

    def add(self, H: Pairs, blocks: tuple[Array, ...], members: Membership) -> Pairs:
        """H with blocks added on its diagonal."""
        return H | {(k, k): H[k, k] + block for k, block in enumerate(blocks)}

    def diagonal(self, H: Pairs, members: Membership) -> tuple[Array, ...]:
        """The diagonal blocks of a stored matrix."""
        return tuple(H[k, k] for k in range(len(self.levels)))

    def multiply(self, H: Pairs, v: Random, members: Membership) -> Random:
        """``H v``."""
        out = [spd.product(H[k, k], x) for k, x in enumerate(v)]
        for (k, m), parent in members.parents.items():
            out[k] = out[k] + spd.product(H[k, m], take(v[m], parent))
            out[m] = out[m] + sum_by(spd.product(spd.transpose(H[k, m]), v[k]), parent, self.levels[m].n_groups)
        return tuple(out)

    def factor(self, H: Pairs, members: Membership) -> BlocksFactor:
        """H after elimination, with a flag per independent block that says whether it is positive definite."""
        remaining, B = self._eliminate(H, members)
        positive = jnp.ones(self.n_blocks, dtype=bool)
        for k, A in enumerate(remaining):
            bad = ~spd.cholesky(A)[1]
            positive = positive & (self.sum_blocks(bad.astype(jnp.int32), k, members) == 0)
        return BlocksFactor(tuple(spd.inverse(A) for A in remaining), B, members.parents, positive)

    def logdet(self, H: Pairs, members: Membership, factor: BlocksFactor | None = None) -> Array:
        """``log |H|``."""
        remaining, _ = self._eliminate(H, members)
        return sum((jnp.sum(spd.logdet(A)) for A in remaining), start=jnp.zeros(()))

    def solve(self, factor: BlocksFactor, g: Random) -> Random:
        """``H^-1 g``."""
        x = list(g)
        for (k, m), parent in factor.parents.items():
            carried = spd.product(spd.transpose(factor.B[k, m]), x[k])
            x[m] = x[m] - sum_by(carried, parent, self.levels[m].n_groups)
        x = [spd.product(V, y) for V, y in zip(factor.V, x, strict=True)]
        for (k, m), parent in reversed(factor.parents.items()):
            x[k] = x[k] - spd.product(factor.B[k, m], take(x[m], parent))
        return tuple(x)

    def probes(self, members: Membership) -> Random:
        """One direction per effect of a group, in all groups at once; for a single factor."""
        (level,) = self.levels
        return (np.repeat(np.eye(level.n_effects)[:, :, None], level.n_groups, axis=2),)

    def from_products(self, products: Random, members: Membership) -> Pairs:
        """H from its products with the probes."""
        return {(0, 0): jnp.swapaxes(products[0], 0, 1)}

    def memory(self, n_params: int) -> float:
        """About ``n_params + 4`` copies of the blocks."""
        d = sum(level.n_effects for level in self.levels)
        return 8.0 * (n_params + 4) * sum(level.n_groups * level.n_effects * d for level in self.levels)

    def _eliminate(self, H: Pairs, members: Membership) -> tuple[list[Array], Pairs]:
        """The diagonal blocks as they stand when their turn comes, and the couplings ``B``."""
        n_levels = len(self.levels)
        H, B = dict(H), {}
        for k in range(n_levels - 1):
            V = spd.inverse(H[k, k])
            for m in range(k + 1, n_levels):
                B[k, m] = spd.product(V, H[k, m])
            for a in range(k + 1, n_levels):
                parent, n_groups = members.parents[k, a], self.levels[a].n_groups
                for b in range(a, n_levels):
                    H[a, b] = H[a, b] - sum_by(spd.product(spd.transpose(H[k, a]), B[k, b]), parent, n_groups)
        return [H[k, k] for k in range(n_levels)], B
