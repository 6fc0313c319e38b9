"""Large crossed grouping factors: the couplings live on the pairs of groups that occur together.

    H = [[D, C], [C', E]],   B = D^-1 C,   S = E - C' B,   log|H| = log|D| + log|S|

D holds the largest factor, which is eliminated; S is dense over the effects of all others. A student meets a few
lecturers, so that C is zero nearly everywhere: it is kept on *links*, the pairs of groups that occur in the data, and
``C' B`` is a sum over the pairs of links that share a group of the largest factor. So is the inverse on the links,

    H^-1 = [[V + P B', -P], [-P', Z]],    V = D^-1,  Z = S^-1,  P = B Z,

which is the derivative of the log-determinant; the second derivative needs Z once more, and two products with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._types import Array, Random
from glmmjax.hessians import _dense, _spd
from glmmjax.hessians._levels import Level, Pairs, Weights, congruence, products, sum_by, symmetric_outer, take
from glmmjax.hessians._links import Links, Products, add_carried, add_products, total
from glmmjax.hessians._structure import COSTLY


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LinkedFactor:
    """What elimination leaves.

    ``V = D^-1`` by blocks (d, d, G); B by strand (d, strands), and the group of level 0 and the column of each strand;
    the Cholesky factor ``L`` of S (m, m); the flag (1,).
    """

    V: Array
    B: Array
    group: Array
    column: Array
    L: Array
    positive: Array


@dataclass(frozen=True)
class Linked:
    """Crossed grouping factors of which few pairs of groups occur; ``levels[0]``, the largest, is eliminated.

    H is stored by pairs of levels: (d_k, d_k, G_k) on its diagonal, (d_k, d_m, links) for k < m.

    Attributes:
        levels: two or more grouping factors.
        n_links, n_pairs: the sizes of the :class:`Links` that the methods are given.
    """

    levels: tuple[Level, ...]
    n_links: int
    n_pairs: int

    def __str__(self) -> str:
        sizes = " x ".join(str(level.n_groups) for level in self.levels)
        return f"crossed: {sizes} groups, coupling by {self.n_links:,} links"

    @property
    def n_blocks(self) -> int:
        """One: crossed effects are all tied together."""
        return 1

    @property
    def n_rest(self) -> int:
        """The number of effects outside level 0: the size of S."""
        return sum(level.n_effects * level.n_groups for level in self.levels[1:])

    @property
    def costly(self) -> bool:
        """Whether the factorization of S, or the sum over pairs that makes it, is."""
        return self.n_rest**3 / 3.0 + 2.0 * self.levels[0].n_effects * self.n_pairs > COSTLY

    @property
    def shared_bytes(self) -> float:
        """None beyond what the gradient takes anyway: ``S^-1``."""
        return 0.0

    def memory(self, n_params: int) -> float:
        """About the bytes of S, its inverse and their derivatives in the directions taken together, pairs and links."""
        effects = self.levels[0].n_effects * max(level.n_effects for level in self.levels)
        together = 1 if self.costly else n_params
        dense = (4.0 + 3.0 * together) * self.n_rest**2
        return 8.0 * (dense + 6.0 * (n_params + 1) * effects * self.n_links) + 16.0 * self.n_pairs

    def spread_blocks(self, values: Array, level: int, members: Links) -> Array:
        """The value (1,) of the only block, for each group of a level."""
        return jnp.broadcast_to(values, (self.levels[level].n_groups,))

    def sum_blocks(self, values: Array, level: int, members: Links) -> Array:
        """The sum over the groups of a level: (1,)."""
        return jnp.sum(values)[None]

    def sum_rows(self, values: Array, members: Links) -> Array:
        """The sum over the observations: (1,)."""
        return jnp.sum(values)[None]

    def assemble(self, W: Weights, Z: tuple[Array, ...], members: Links) -> Pairs:
        """``sum_i Z_i' W_i Z_i`` from columns ``Z[k]`` (d_k, n) and weights."""
        pairs: Pairs = {
            (k, k): symmetric_outer(W, Z, k, members.rows[k], level.n_groups) for k, level in enumerate(self.levels)
        }
        for (k, m), index in members.link.items():
            n_links = len(members.ends[k, m][0])
            sums = [[sum_by(x, index, n_links) for x in row] for row in products(W, Z, k, m)]
            pairs[k, m] = jnp.stack([jnp.stack(row) for row in sums])
        return pairs

    def congruence(self, S: Pairs, L: tuple[Array, ...]) -> Pairs:
        """``L' S L`` for one factor ``L[k]`` (d_k, d_k) per level."""
        return {(k, m): congruence(L[k], block, L[m]) for (k, m), block in S.items()}

    def add(self, H: Pairs, blocks: tuple[Array, ...], members: Links) -> Pairs:
        """H with blocks added on its diagonal, (d_k, d_k, G_k), or (d_k, d_k, 1) for all groups alike."""
        return H | {(k, k): H[k, k] + block for k, block in enumerate(blocks)}

    def multiply(self, H: Pairs, v: Random, members: Links) -> Random:
        """``H v``."""
        out = [_spd.product(H[k, k], x) for k, x in enumerate(v)]
        for (k, m), (low, high) in members.ends.items():
            block = H[k, m]
            out[k] += sum_by(_spd.product(block, take(v[m], high)), low, self.levels[k].n_groups)
            out[m] += sum_by(_spd.product(_spd.transpose(block), take(v[k], low)), high, self.levels[m].n_groups)
        return tuple(out)

    def diagonal(self, H: Pairs, members: Links) -> tuple[Array, ...]:
        """The diagonal blocks of a stored matrix, (d_k, d_k, G_k) per level."""
        return tuple(H[k, k] for k in range(len(self.levels)))

    def logdet(self, H: Pairs, members: Links, factor: LinkedFactor | None = None) -> Array:
        """``log |H|``; its gradient is ``H^-1`` on the diagonal blocks and twice that on the links, stored once."""
        factor = self.factor(jax.lax.stop_gradient(H), members) if factor is None else factor
        return _logdet(self, H, factor, members)

    def factor(self, H: Pairs, members: Links) -> LinkedFactor:
        """H after elimination, with one flag that says whether it is positive definite."""
        V, B, S = self._eliminate(H, members)
        L, positive = _dense.factor(S)
        first = jnp.all(_spd.cholesky(H[0, 0])[1])
        return LinkedFactor(V, B, *self._strands(members), L, (first & positive)[None])

    def solve(self, factor: LinkedFactor, g: Random) -> Random:
        """``H^-1 g``."""
        carried = jnp.sum(factor.B * take(g[0], factor.group), axis=0)
        rest = jnp.concatenate([x.reshape(-1) for x in g[1:]]) - sum_by(carried, factor.column, self.n_rest)
        rest = _dense.solve(factor.L, rest)
        back = sum_by(factor.B * take(rest, factor.column), factor.group, self.levels[0].n_groups)
        parts = jnp.split(rest, self._starts()[1:-1])
        others = (part.reshape(x.shape) for part, x in zip(parts, g[1:], strict=True))
        return (_spd.product(factor.V, g[0]) - back, *others)

    def probes(self, members: Links | None = None) -> Random:
        """Directions whose products with H determine it: each effect of level 0 in all groups at once, then every
        other effect alone; (directions, effects, groups) per level, NumPy."""
        d, n = self.levels[0].n_effects, self.n_rest
        together = np.repeat(np.eye(d + n, d)[:, :, None], self.levels[0].n_groups, axis=2)
        alone = np.split(np.eye(d + n, n, -d), self._starts()[1:-1], axis=1)
        shapes = [(d + n, level.n_effects, level.n_groups) for level in self.levels[1:]]
        return (together, *(unit.reshape(shape) for unit, shape in zip(alone, shapes, strict=True)))

    def from_products(self, HV: Random, members: Links) -> Pairs:
        """H from its products with the :meth:`probes`; exact if groups are coupled on links only."""
        d = self.levels[0].n_effects
        H: Pairs = {(0, 0): jnp.swapaxes(HV[0][:d], 0, 1)}
        for m in range(1, len(self.levels)):
            groups = jnp.arange(self.levels[m].n_groups)
            H[m, m] = jnp.moveaxis(HV[m][d + self._columns(m, groups), :, groups], 2, 0)
            for k in range(m):
                low, high = members.ends[k, m]
                H[k, m] = jnp.moveaxis(HV[k][d + self._columns(m, high), :, low], 2, 0)
        return H

    def _eliminate(self, H: Pairs, members: Links) -> tuple[Array, Array, Array]:
        """``V = D^-1``, B by strand (d, strands), and a matrix (m, m) of which S is the symmetric part."""
        V = _spd.inverse(_symmetric(H[0, 0]))
        C = self._coupling(H)
        B = _spd.product(take(V, self._strands(members)[0]), C)
        return V, B, self._schur(H, ((C, B),), members)

    def _schur(self, H: Pairs, products: Products, members: Links) -> Array:
        """E less the sum of products of strands, as a matrix (m, m) of which this is the symmetric part.

        What two strands or a link add stands doubled in the lower triangle, and above it only half of a diagonal block
        does: nothing needs to be mirrored.
        """
        column = self._strands(members)[1]
        own = sum_by(total([jnp.sum(a * b, axis=0) for a, b in products]), column, self.n_rest)
        cells, values = self._rest(H, members)
        S = jnp.zeros(self.n_rest**2, dtype=own.dtype).at[cells].add(values, mode="promise_in_bounds")
        S = S.at[:: self.n_rest + 1].add(-own)
        S = S.reshape(self.n_rest, self.n_rest)
        return add_products(S, tuple((-2.0 * a, b) for a, b in products), column, members)

    def _coupling(self, H: Pairs) -> Array:
        """C by strand (d, strands)."""
        d = self.levels[0].n_effects
        return jnp.concatenate([H[0, m].reshape(d, -1) for m in range(1, len(self.levels))], axis=1)

    def _carried(self, products: Products, members: Links) -> Array:
        """``sum Z B'`` at the strands, for matrices Z (m, m) and B by strand: (d, strands)."""
        column = self._strands(members)[1]
        own = total([take(jnp.diagonal(Z), column) * B for Z, B in products])
        return add_carried(own, products, column, members)

    def _stored(self, first: Array, carried: Array, Z: Array, members: Links) -> Pairs:
        """A symmetric matrix as a gradient in H, what is stored once doubled.

        It has the blocks ``first`` for level 0, Z (m, m) for the rest, and minus ``carried`` (d, strands) between them.
        """
        blocks: Pairs = {(0, 0): first}
        d, start = self.levels[0].n_effects, 0
        for m, level in enumerate(self.levels[1:], start=1):
            size = level.n_effects * len(members.ends[0, m][0])
            own = carried[:, start : start + size]
            blocks[0, m] = -2.0 * own.reshape(d, level.n_effects, -1)
            columns = self._columns(m, jnp.arange(level.n_groups))
            blocks[m, m] = Z[columns[:, None], columns[None]]
            for k in range(1, m):
                low, high = members.ends[k, m]
                blocks[k, m] = 2.0 * Z[self._columns(k, low)[:, None], self._columns(m, high)[None]]
            start += size
        return blocks

    def _sum_outer(self, a: Array, b: Array, members: Links) -> Array:
        """``sum a b'`` over the strands of each group of level 0, (d, d, G)."""
        group, n_groups = self._strands(members)[0], self.levels[0].n_groups
        return jnp.stack([jnp.stack([sum_by(x * y, group, n_groups) for y in b]) for x in a])

    def _rest(self, H: Pairs, members: Links) -> tuple[Array, Array]:
        """The entries of E: where they stand, row by row, and their values, doubled if they are stored once."""
        cells, values = [], []
        for m in range(1, len(self.levels)):
            columns = self._columns(m, jnp.arange(self.levels[m].n_groups))
            cells.append((columns[:, None] * self.n_rest + columns[None]).reshape(-1))
            values.append(H[m, m].reshape(-1))
            for k in range(1, m):
                low, high = members.ends[k, m]
                cells.append((self._columns(m, high)[None] * self.n_rest + self._columns(k, low)[:, None]).reshape(-1))
                values.append(2.0 * H[k, m].reshape(-1))
        return jnp.concatenate(cells), jnp.concatenate(values)

    def _strands(self, members: Links) -> tuple[Array, Array]:
        """The group of level 0 and the column of each strand."""
        groups, columns = [], []
        for m, level in enumerate(self.levels[1:], start=1):
            low, high = members.ends[0, m]
            groups.append(jnp.tile(low, level.n_effects))
            columns.append(self._columns(m, high).reshape(-1))
        return jnp.concatenate(groups), jnp.concatenate(columns)

    def _columns(self, m: int, groups: Array) -> Array:
        """The column of S of each effect of groups (g,) of level m: (d_m, g)."""
        level = self.levels[m]
        return self._starts()[m - 1] + jnp.arange(level.n_effects)[:, None] * level.n_groups + groups

    def _starts(self) -> list[int]:
        """The first column of S of each level but 0, and the number of columns."""
        starts = [0]
        for level in self.levels[1:]:
            starts.append(starts[-1] + level.n_effects * level.n_groups)
        return starts


class Inverse(NamedTuple):
    """``H^-1`` in pieces: V by blocks (d, d, G), B by strand (d, strands), Z (m, m), and P by strand."""

    V: Array
    B: Array
    Z: Array
    P: Array


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _logdet(structure: Linked, H: Pairs, factor: LinkedFactor, members: Links) -> Array:
    pivots = jnp.sum(jnp.log(jnp.diagonal(factor.L)))
    return jnp.sum(_spd.logdet(_symmetric(H[0, 0]))) + 2.0 * pivots


@_logdet.defjvp
def _logdet_jvp(structure: Linked, primals: Any, tangents: Any) -> Any:
    members = primals[2]
    V, B, Z, P = _inverse(structure, *primals)
    inverse = structure._stored(V + structure._sum_outer(P, B, members), P, Z, members)
    return _logdet(structure, *primals), total([jnp.sum(inverse[at] * H_dot) for at, H_dot in tangents[0].items()])


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _inverse(structure: Linked, H: Pairs, factor: LinkedFactor, members: Links) -> Inverse:
    """From the factor; as a function of H it can be differentiated again and again."""
    Z = _dense.inverse_of_factor(factor.L)
    return Inverse(factor.V, factor.B, Z, structure._carried(((Z, factor.B),), members))


@_inverse.defjvp
def _inverse_jvp(structure: Linked, primals: Any, tangents: Any) -> Any:
    """The pieces move by

        dV = -V dD V,    dB = V (dC - dD B),    dZ = -Z dS Z,    dP = dB Z + B dZ

    with ``dS = dE - Q'B - B'Q`` and ``Q = dC - 1/2 dD B``.
    """
    members, H_dot = primals[2], tangents[0]
    at = _inverse(structure, *primals)
    V, B, Z, _ = at
    group = structure._strands(members)[0]
    D_dot, C_dot = _symmetric(H_dot[0, 0]), structure._coupling(H_dot)
    D_dot_B = _spd.product(take(D_dot, group), B)
    V_dot = -_spd.product(_spd.product(V, D_dot), V)
    B_dot = _spd.product(take(V, group), C_dot - D_dot_B)
    Q = C_dot - 0.5 * D_dot_B
    Z_dot = _dense.inverse_moves(Z, structure._schur(H_dot, ((Q, B), (B, Q)), members))
    return at, Inverse(V_dot, B_dot, Z_dot, structure._carried(((Z, B_dot), (Z_dot, B)), members))


def _symmetric(A: Array) -> Array:
    """The symmetric part of blocks (d, d, G), so that the derivative is symmetric too."""
    return 0.5 * (A + _spd.transpose(A)) if len(A) > 1 else A
