"""Crossed grouping factors: eliminate the largest block-diagonal factor, keep the rest dense.

    H = [[D, C], [C', E]],   B = D^-1 C,   S = E - C' B,   log|H| = log|D| + log|S|

The cost is that of a dense Cholesky factorization of S, whose size is the number of effects outside the largest factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._types import Array, Random
from glmmjax.hessians import _spd as spd
from glmmjax.hessians._levels import Level, Membership, Pairs, Weights, congruence, symmetric_outer
from glmmjax.hessians._levels import products as row_products
from glmmjax.hessians._structure import COSTLY


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

    @property
    def costly(self) -> bool:
        """Whether the product with the coupling, or the dense factorization, is."""
        first, rest = self.levels[0], self._bounds()[-1]
        return 2.0 * first.n_groups * first.n_effects * rest**2 + rest**3 / 3.0 > COSTLY

    def __str__(self) -> str:
        sizes = " x ".join(str(level.n_groups) for level in self.levels)
        return f"crossed: {sizes} groups, {self._bounds()[-1]} effects in the dense part"

    @property
    def shared_bytes(self) -> float:
        """About ten copies of the dense part and of its coupling."""
        return (
            8.0 * 10.0 * self._bounds()[-1] * (self._bounds()[-1] + self.levels[0].n_groups * self.levels[0].n_effects)
        )

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
                sums = [[at.add(x, mode="promise_in_bounds") for x in row] for row in row_products(W, Z, k, m)]
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

    def logdet(self, H: Pairs, members: Membership, factor: CrossedFactor | None = None) -> Array:
        """``log |H|``."""
        return jnp.sum(spd.logdet(H[0, 0])) + spd.logdet(self._eliminate(H)[2])[0]

    def solve(self, factor: CrossedFactor, g: Random) -> Random:
        """``H^-1 g``."""
        rest = jnp.concatenate([x.reshape(-1) for x in g[1:]]) - jnp.einsum("img,ig->m", factor.B, g[0])
        rest = spd.solve_upper(factor.S, spd.solve_lower(factor.S, rest[:, None]))[:, 0]
        first = spd.product(factor.V, g[0]) - jnp.einsum("img,m->ig", factor.B, rest)
        parts = jnp.split(rest, self._bounds()[1:-1])
        return (first, *(part.reshape(x.shape) for part, x in zip(parts, g[1:], strict=True)))

    def probes(self, members: Membership) -> Random:
        """One direction per effect of the largest factor, in all its groups at once, then every effect of the rest."""
        first, bounds = self.levels[0], self._bounds()
        out = []
        for k, level in enumerate(self.levels):
            directions = np.zeros((first.n_effects + bounds[-1], level.n_effects, level.n_groups))
            if k == 0:
                directions[: level.n_effects] = np.eye(level.n_effects)[:, :, None]
            else:
                own = slice(first.n_effects + bounds[k - 1], first.n_effects + bounds[k])
                directions[own] = np.eye(bounds[k] - bounds[k - 1]).reshape(-1, level.n_effects, level.n_groups)
            out.append(directions)
        return tuple(out)

    def from_products(self, products: Random, members: Membership) -> Pairs:
        """H from its products with the probes; groups of one factor must not be coupled with each other."""
        first, bounds = self.levels[0], self._bounds()
        pairs: Pairs = {(0, 0): jnp.swapaxes(products[0][: first.n_effects], 0, 1)}
        for m in range(1, len(self.levels)):
            level = self.levels[m]
            own = slice(first.n_effects + bounds[m - 1], first.n_effects + bounds[m])
            for k in range(m + 1):
                column = products[k][own].reshape(level.n_effects, level.n_groups, *products[k].shape[1:])
                full = jnp.transpose(column, (2, 0, 3, 1))
                pairs[k, m] = jnp.diagonal(full, axis1=2, axis2=3) if k == m else full
        return pairs

    def memory(self, n_params: int) -> float:
        """About ``n_params + 4`` copies of the dense part and of its coupling to the largest factor."""
        first, rest = self.levels[0], self._bounds()[-1]
        return 8.0 * (n_params + 4) * rest * (rest + first.n_groups * first.n_effects)

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
