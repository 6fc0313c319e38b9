"""Crossed grouping factors: eliminate the largest block-diagonal factor, keep the rest dense.

    H = [[D, C], [C', E]],   B = D^-1 C,   S = E - C' B,   log|H| = log|D| + log|S|

The cost is that of a dense Cholesky factorization of S, whose size is the number of effects outside the largest factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from glmmjax._types import Array, Random
from glmmjax.hessians import _spd as spd
from glmmjax.hessians._levels import Level, Membership, Pairs, Weights, congruence, products, symmetric_outer


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CrossedFactor:
    """``V = D^-1`` by blocks (d, d, G), ``B`` (d, m, G), the Cholesky factor of S (m, m, 1), the flag (1,)."""

    V: Array
    B: Array
    S: Array
    positive: Array


@dataclass(frozen=True)
class Crossed:
    """Grouping factors that are crossed, wholly or in part; ``levels[0]``, the largest, is eliminated."""

    levels: tuple[Level, ...]

    @property
    def n_blocks(self) -> int:
        """One: crossed effects are all tied together."""
        return 1

    def spread_blocks(self, values: Array, level: int, members: Membership) -> Array:
        """The value (1,) of the only block, for each group of a level."""
        return jnp.broadcast_to(values, (self.levels[level].n_groups,))

    def sum_blocks(self, values: Array, level: int, members: Membership) -> Array:
        """The sum over the groups of a level: (1,)."""
        return jnp.sum(values)[None]

    def sum_rows(self, values: Array, members: Membership) -> Array:
        """The sum over the observations: (1,)."""
        return jnp.sum(values)[None]

    def assemble(self, W: Weights, Z: tuple[Array, ...], members: Membership) -> Pairs:
        """``sum_i Z_i' W_i Z_i`` from columns ``Z[k]`` (d_k, n) and weights."""
        pairs: Pairs = {}
        for k, level in enumerate(self.levels):
            pairs[k, k] = symmetric_outer(W, Z, k, members.rows[k], level.n_groups)
            for m in range(k + 1, len(self.levels)):
                table = jnp.zeros((level.n_groups, self.levels[m].n_groups))
                at = table.at[members.rows[k], members.rows[m]]
                sums = [[at.add(x, mode="promise_in_bounds") for x in row] for row in products(W, Z, k, m)]
                pairs[k, m] = jnp.stack([jnp.stack(row) for row in sums])
        return pairs

    def transform(self, S: Pairs, L: tuple[Array, ...]) -> Pairs:
        """``L' S L + I`` for one factor ``L[k]`` (d_k, d_k) per level."""
        H = {(k, m): congruence(L[k], block, L[m]) for (k, m), block in S.items()}
        return self.damp(H, jnp.ones(1), Membership((), {}))

    def damp(self, H: Pairs, damping: Array, members: Membership) -> Pairs:
        """``H + t I``; damping is (1,)."""
        diagonal = {
            (k, k): H[k, k] + damping[0] * jnp.eye(level.n_effects)[:, :, None] for k, level in enumerate(self.levels)
        }
        return H | diagonal

    def multiply(self, H: Pairs, v: Random, members: Membership) -> Random:
        """``H v``."""
        out = [spd.product(H[k, k], x) for k, x in enumerate(v)]
        for k, m in H:
            if k != m:
                out[k] = out[k] + jnp.einsum("ijgh,jh->ig", H[k, m], v[m])
                out[m] = out[m] + jnp.einsum("ijgh,ig->jh", H[k, m], v[k])
        return tuple(out)

    def factor(self, H: Pairs, members: Membership) -> CrossedFactor:
        """H after elimination, with one flag that says whether it is positive definite."""
        V, B, S = self._eliminate(H)
        L, dense = spd.cholesky(S)
        return CrossedFactor(V, B, L, (jnp.all(spd.cholesky(H[0, 0])[1]) & dense[0])[None])

    def logdet(self, H: Pairs, members: Membership) -> Array:
        """``log |H|``."""
        return jnp.sum(spd.logdet(H[0, 0])) + spd.logdet(self._eliminate(H)[2])[0]

    def solve(self, factor: CrossedFactor, g: Random) -> Random:
        """``H^-1 g``."""
        rest = jnp.concatenate([x.reshape(-1) for x in g[1:]]) - jnp.einsum("img,ig->m", factor.B, g[0])
        rest = spd.solve_upper(factor.S, spd.solve_lower(factor.S, rest[:, None]))[:, 0]
        first = spd.product(factor.V, g[0]) - jnp.einsum("img,m->ig", factor.B, rest)
        parts = jnp.split(rest, self._bounds()[1:-1])
        return (first, *(part.reshape(x.shape) for part, x in zip(parts, g[1:], strict=True)))

    def marginal_blocks(self, factor: CrossedFactor) -> tuple[Array, ...]:
        """The diagonal blocks of ``H^-1``, (d_k, d_k, G_k) per level."""
        half = spd.solve_lower(factor.S, jnp.eye(len(factor.S))[:, :, None])[:, :, 0]
        inverse = half.T @ half
        blocks = [factor.V + jnp.einsum("img,mn,jng->ijg", factor.B, inverse, factor.B)]
        for level, start in zip(self.levels[1:], self._bounds()[:-1], strict=True):
            index = start + jnp.arange(level.n_effects * level.n_groups).reshape(level.n_effects, level.n_groups)
            blocks.append(inverse[index[:, None, :], index[None, :, :]])
        return tuple(blocks)

    def _eliminate(self, H: Pairs) -> tuple[Array, Array, Array]:
        """``D^-1``, B and the Schur complement S (m, m, 1)."""
        first = self.levels[0]
        blocks = [
            jnp.moveaxis(H[0, m], 2, 3).reshape(first.n_effects, -1, first.n_groups) for m in range(1, len(self.levels))
        ]
        C = jnp.concatenate(blocks, axis=1)
        V = spd.inverse(H[0, 0])
        B = jnp.einsum("ijg,jmg->img", V, C)
        return V, B, (self._rest(H) - jnp.einsum("img,ing->mn", C, B))[:, :, None]

    def _bounds(self) -> list[int]:
        """Where each level of the rest begins in the dense part, and where the last one ends."""
        bounds = [0]
        for level in self.levels[1:]:
            bounds.append(bounds[-1] + level.n_effects * level.n_groups)
        return bounds

    def _rest(self, H: Pairs) -> Array:
        """The dense matrix E over the levels that are not eliminated; effects vary slowest, groups fastest."""
        rest = range(1, len(self.levels))

        def block(k: int, m: int) -> Array:
            if k > m:
                return block(m, k).T
            full = H[k, m][..., None] * jnp.eye(self.levels[k].n_groups) if k == m else H[k, m]
            rows, columns = (self.levels[i].n_effects * self.levels[i].n_groups for i in (k, m))
            return jnp.swapaxes(full, 1, 2).reshape(rows, columns)

        return jnp.concatenate([jnp.concatenate([block(k, m) for m in rest], axis=1) for k in rest], axis=0)
