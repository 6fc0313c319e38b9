"""Nested grouping factors: a tree of small blocks, factored from the leaves to the roots.

With one factor H is block-diagonal. With nested factors (classes in schools in towns) the blocks of the finest level
are eliminated first; what they leave on their ancestors is again block-structured, so the cost stays linear in the
number of groups.

    H_kk = L_k L_k',   M_kl = L_k^-1 H_kl,   H_lm <- H_lm - sum over the groups of k in each group of l of M_kl' M_km
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from glmmjax._types import Array, Random
from glmmjax.hessians import _cholesky as chol
from glmmjax.hessians._levels import Level, Membership, Pairs, Weights, products, sum_by, symmetric_outer, take


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BlocksFactor:
    """Factors ``L[k]`` (d_k, d_k, G_k), couplings ``M[k, l]`` (d_k, d_l, G_k), and the flag of each root group."""

    L: tuple[Array, ...]
    M: Pairs
    parents: dict[tuple[int, int], Array]
    positive: Array


@dataclass(frozen=True)
class Blocks:
    """One grouping factor, factors nested in a chain, or none; ``levels`` run from the finest to the coarsest."""

    levels: tuple[Level, ...]

    @property
    def n_blocks(self) -> int:
        """The number of independent blocks: the groups of the coarsest level; one if there are no effects at all."""
        return self.levels[-1].n_groups if self.levels else 1

    def spread_blocks(self, values: Array, level: int, members: Membership) -> Array:
        """The value (n_blocks,) of the independent block of each group of a level."""
        last = len(self.levels) - 1
        return values if level == last else take(values, members.parents[level, last])

    def sum_blocks(self, values: Array, level: int, members: Membership) -> Array:
        """The sum over the groups of a level in each independent block: (n_blocks,)."""
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

    def transform(self, S: Pairs, L: tuple[Array, ...]) -> Pairs:
        """``L' S L + I`` for one factor ``L[k]`` (d_k, d_k) per level."""
        H = {(k, m): jnp.einsum("ji,jlg,lm->img", L[k], block, L[m]) for (k, m), block in S.items()}
        return self._add_identity(H, [jnp.ones(level.n_groups) for level in self.levels])

    def damp(self, H: Pairs, damping: Array, members: Membership) -> Pairs:
        """``H + t I`` with one t per independent block."""
        return self._add_identity(H, [self.spread_blocks(damping, k, members) for k in range(len(self.levels))])

    def multiply(self, H: Pairs, v: Random, members: Membership) -> Random:
        """``H v``."""
        out = [jnp.einsum("ijg,jg->ig", H[k, k], x) for k, x in enumerate(v)]
        for (k, m), parent in members.parents.items():
            out[k] = out[k] + jnp.einsum("ijg,jg->ig", H[k, m], take(v[m], parent))
            out[m] = out[m] + sum_by(jnp.einsum("ijg,ig->jg", H[k, m], v[k]), parent, self.levels[m].n_groups)
        return tuple(out)

    def factor(self, H: Pairs, members: Membership) -> BlocksFactor:
        """The factorization of H, with a flag per independent block that says whether it is positive definite."""
        n_levels = len(self.levels)
        H = dict(H)
        L: list[Array] = []
        M: Pairs = {}
        positive = jnp.ones(self.n_blocks, dtype=bool)
        for k in range(n_levels):
            Lk, good = chol.cholesky(H[k, k])
            L.append(Lk)
            positive = positive & (self.sum_blocks((~good).astype(jnp.int32), k, members) == 0)
            for m in range(k + 1, n_levels):
                M[k, m] = chol.solve_lower(Lk, H[k, m])
            for a in range(k + 1, n_levels):
                parent, n_groups = members.parents[k, a], self.levels[a].n_groups
                for b in range(a, n_levels):
                    H[a, b] = H[a, b] - sum_by(jnp.einsum("ijg,ikg->jkg", M[k, a], M[k, b]), parent, n_groups)
        return BlocksFactor(tuple(L), M, members.parents, positive)

    def solve(self, factor: BlocksFactor, g: Random) -> Random:
        """``H^-1 g``."""
        n_levels = len(self.levels)
        x = list(g)
        for k in range(n_levels):
            x[k] = chol.solve_lower(factor.L[k], x[k])
            for m in range(k + 1, n_levels):
                carried = jnp.einsum("ijg,ig->jg", factor.M[k, m], x[k])
                x[m] = x[m] - sum_by(carried, factor.parents[k, m], self.levels[m].n_groups)
        for k in reversed(range(n_levels)):
            for m in range(k + 1, n_levels):
                x[k] = x[k] - jnp.einsum("ijg,jg->ig", factor.M[k, m], take(x[m], factor.parents[k, m]))
            x[k] = chol.solve_upper(factor.L[k], x[k])
        return tuple(x)

    def logdet(self, factor: BlocksFactor) -> Array:
        """``log |H|``."""
        return sum((chol.logdet(L) for L in factor.L), start=jnp.zeros(()))

    def marginal_blocks(self, factor: BlocksFactor) -> tuple[Array, ...]:
        """The diagonal blocks of ``H^-1``, (d_k, d_k, G_k) per level: Takahashi's recursion from the roots.

        With x the effects of a group and a those of its ancestors, ``x | a`` has covariance ``(L L')^-1`` and mean
        ``-L'^-1 M a``.
        """
        n_levels = len(self.levels)
        joint: dict[int, Array] = {}  # covariance of a group's effects and its ancestors', finest first
        for k in reversed(range(n_levels)):
            L = factor.L[k]
            half = chol.solve_lower(L, jnp.broadcast_to(jnp.eye(L.shape[0])[:, :, None], L.shape))
            own = jnp.einsum("jig,jkg->ikg", half, half)
            if k == n_levels - 1:
                joint[k] = own
                continue
            B = -chol.solve_upper(L, jnp.concatenate([factor.M[k, m] for m in range(k + 1, n_levels)], axis=1))
            ancestors = jnp.take(joint[k + 1], factor.parents[k, k + 1], axis=2)
            across = jnp.einsum("ijg,jkg->ikg", B, ancestors)
            top = jnp.concatenate([own + jnp.einsum("ijg,kjg->ikg", across, B), across], axis=1)
            bottom = jnp.concatenate([jnp.swapaxes(across, 0, 1), ancestors], axis=1)
            joint[k] = jnp.concatenate([top, bottom], axis=0)
        return tuple(joint[k][: level.n_effects, : level.n_effects] for k, level in enumerate(self.levels))

    def _add_identity(self, H: Pairs, scale: list[Array]) -> Pairs:
        diagonal = {
            (k, k): H[k, k] + jnp.eye(level.n_effects)[:, :, None] * scale[k] for k, level in enumerate(self.levels)
        }
        return H | diagonal
