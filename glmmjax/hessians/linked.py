"""Large crossed grouping factors: the couplings live on the pairs of groups that occur together.

    H = [[D, C], [C', E]],   B = D^-1 C,   S = E - C' B,   log|H| = log|D| + log|S|

D holds the largest factor, which is eliminated; S is dense over the effects of all others. A student meets a few
lecturers, so that C is zero nearly everywhere: it is kept on *links*, the pairs of groups that occur in the data, and
``C' B`` is a sum over the pairs of links that share a group of the largest factor. Its derivative gathers from S^-1 by
the same list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._types import Array, Random
from glmmjax.hessians import _dense, _spd
from glmmjax.hessians._levels import Level, Pairs, Weights, congruence, products, sum_by, symmetric_outer, take
from glmmjax.hessians._structure import COSTLY

# So many pairs at a time stay in the cache, and their products take no memory to speak of.
CHUNK = 1 << 16

# What a pair of strands costs, in multiplications inside a matrix product. One CPU core breaks even at 50; matrix
# products gain more from further cores than sums over pairs do. Accelerators gain more still.
PAIR_COST = 100.0
PAIR_COST_ACCELERATOR = 10_000.0
# With fewer multiplications than this a table takes no time that could be saved.
SMALL_TABLE = 1e7


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Links:
    """Who belongs where, and which groups occur together; integer arrays, given as data.

    A *strand* is one effect of the later group of a link with level 0: what one column of C holds in one group of level
    0. Strands run level by level, effect by effect, link by link, and so in the order of their columns.

    Attributes:
        rows: per level, the group of each observation (n,).
        link: per pair of levels k < m, the link of each observation (n,).
        ends: per pair of levels, the group of level k and that of level m which each link joins, (links,) each.
        first, second: every two strands that share a group of level 0, the one of the later column first; sorted by
            it, and cut into chunks of one size, (chunks, pairs) each. The last chunk is filled up with the number of
            strands, which is none of them.
        cell: where the two columns meet in the lower triangle of S, counted row by row (chunks, pairs).
    """

    rows: tuple[Array, ...]
    link: dict[tuple[int, int], Array]
    ends: dict[tuple[int, int], tuple[Array, Array]]
    first: Array
    second: Array
    cell: Array

    @property
    def n_links(self) -> int:
        """The number of links, of all pairs of levels."""
        return sum(len(low) for low, _ in self.ends.values())

    @property
    def n_pairs(self) -> int:
        """The number of pairs of strands, padding included."""
        return int(np.prod(self.first.shape))


def link(rows: Sequence[np.ndarray], levels: Sequence[Level]) -> Links:
    """The links of crossed factors from the group of each observation, ``rows[k]`` (n,); NumPy.

    Time and memory are linear in the observations and in the pairs of strands, which take 12 bytes each.

    >>> members = link([np.array([0, 0, 1]), np.array([1, 1, 0])], (Level(2, 1), Level(2, 1)))
    >>> members.n_links, members.link[0, 1].tolist()
    (2, [1, 1, 0])
    """
    of_row, ends = {}, {}
    for k in range(len(levels)):
        for m in range(k + 1, len(levels)):
            keys, index = np.unique(_keys(rows[k], rows[m], levels[k]), return_inverse=True)
            of_row[k, m] = index.astype(np.int32)
            high, low = np.divmod(keys, levels[k].n_groups)
            ends[k, m] = (low.astype(np.int32), high.astype(np.int32))
    group, column, size = _strands(ends, levels)
    first, second = _pairs(group, levels[0].n_groups)
    integer = np.int32 if size**2 < 2**31 else np.int64
    cell = column.astype(integer)[first] * integer(size) + column[second]
    none = np.int32(len(group))
    chunks = (_chunks(first, none), _chunks(second, none), _chunks(cell, integer(0)))
    return Links(tuple(np.asarray(r, dtype=np.int32) for r in rows), of_row, ends, *chunks)


def prefer_links(rows: Sequence[np.ndarray], levels: Sequence[Level], accelerator: bool = False) -> bool:
    """Whether links are estimated to be faster than a table of the coupling, as :class:`Crossed` has it.

    The two differ in how they make ``C' B`` and its derivatives. The table takes ``G_0 d_0 m^2`` multiplications in
    matrix products; links take ``d_0`` products for each pair of strands, one by one, and each costs as much as
    PAIR_COST in a matrix product. The ratio is about the same for S, its derivative, and the derivative of that.

    >>> rng = np.random.default_rng(0)
    >>> few, many = ([rng.integers(0, size, n) for size in (2000, 500)] for n in (10_000, 400_000))
    >>> [prefer_links(rows, (Level(2000, 1), Level(500, 1))) for rows in (few, many)]
    [True, False]
    """
    if len(levels) < 2:
        return False
    n_groups = levels[0].n_groups
    strands = np.zeros(n_groups, dtype=np.int64)
    for m, level in enumerate(levels[1:], start=1):
        keys = np.unique(_keys(rows[0], rows[m], levels[0]))
        strands += level.n_effects * np.bincount(keys % n_groups, minlength=n_groups)
    n_pairs = np.sum(strands * (strands - 1)) / 2
    table = n_groups * float(sum(level.n_effects * level.n_groups for level in levels[1:])) ** 2
    cost = PAIR_COST_ACCELERATOR if accelerator else PAIR_COST
    return bool(table > SMALL_TABLE and cost * n_pairs < table)


def _keys(low: np.ndarray, high: np.ndarray, level: Level) -> np.ndarray:
    """One number for each pair of groups; that of the later level varies slowest, so that links follow the columns."""
    return np.asarray(high, dtype=np.int64) * level.n_groups + low


def _strands(
    ends: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]], levels: Sequence[Level]
) -> tuple[np.ndarray, np.ndarray, int]:
    """The group of level 0 and the column of each strand, and the number of columns."""
    groups, columns, start = [], [], 0
    for m, level in enumerate(levels[1:], start=1):
        low, high = ends[0, m]
        for _ in range(level.n_effects):
            groups.append(low)
            columns.append(start + high)
            start += level.n_groups
    return np.concatenate(groups), np.concatenate(columns).astype(np.int32), start


def _pairs(group: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Every strand with each earlier strand of its group."""
    order = np.argsort(group, kind="stable").astype(np.int32)  # strands group by group
    size = np.bincount(group, minlength=n_groups)
    start = (np.cumsum(size) - size).astype(np.int32)
    strands = np.arange(len(group), dtype=np.int32)
    place = np.empty_like(order)
    place[order] = strands
    count = place - start[group]  # the earlier strands of the same group
    first = np.repeat(strands, count)
    begin = np.cumsum(count) - count
    offset = np.arange(len(first), dtype=begin.dtype)
    offset -= np.repeat(begin - start[group], count)
    return first, order[offset]


def _chunks(values: np.ndarray, fill: np.integer) -> np.ndarray:
    """``values`` (pairs,) in rows of at most CHUNK."""
    width = min(CHUNK, max(1, len(values)))
    padding = np.full(-len(values) % width, fill, dtype=values.dtype)
    return np.concatenate([values, padding]).reshape(-1, width)


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
        """About ten times S."""
        return 80.0 * float(self.n_rest) ** 2

    def memory(self, n_params: int) -> float:
        """About the bytes of S, its inverse, and their derivatives in ``n_params`` directions, with pairs and links."""
        effects = self.levels[0].n_effects * max(level.n_effects for level in self.levels)
        return 8.0 * (n_params + 1) * (4.0 * self.n_rest**2 + 6.0 * effects * self.n_links) + 12.0 * self.n_pairs

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

    def logdet(self, H: Pairs, members: Links) -> Array:
        """``log |H|``; its gradient is ``H^-1`` on the diagonal blocks and twice that on the links, stored once."""
        return jnp.sum(_spd.logdet(_symmetric(H[0, 0]))) + _dense.logdet(self._eliminate(H, members)[2])

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
        """``V = D^-1``, B by strand (d, strands), and a matrix (m, m) of which S is the symmetric part.

        What two strands or a link add to S stands doubled in the lower triangle, and above it only half of a diagonal
        block does: nothing needs to be mirrored, and the derivative is gathered from ``S^-1`` as it is.
        """
        V = _spd.inverse(_symmetric(H[0, 0]))
        C = jnp.concatenate([H[0, m].reshape(len(V), -1) for m in range(1, len(self.levels))], axis=1)
        group, column = self._strands(members)
        B = _spd.product(jnp.stack([take(row, group) for row in V]), C)
        own = sum_by(jnp.sum(C * B, axis=0), column, self.n_rest)
        cells, values = self._rest(H, members)
        S = jnp.zeros(self.n_rest**2, dtype=C.dtype).at[cells].add(values, mode="promise_in_bounds")
        S = S.at[:: self.n_rest + 1].add(-own)
        S = _add_products(S, -2.0 * C, B, members)
        return V, B, S.reshape(self.n_rest, self.n_rest)

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


def _symmetric(A: Array) -> Array:
    """The symmetric part of blocks (d, d, G), so that the derivative is symmetric too."""
    return 0.5 * (A + _spd.transpose(A)) if len(A) > 1 else A


def _add_products(S: Array, C: Array, B: Array, members: Links) -> Array:
    """S (cells,) with the product of C and B (d, strands) of every pair of strands added in its cell.

    Derivatives take the pairs by chunks too, and gather again what they need.
    """
    # what fills up the last chunk is a strand of zeros
    C, B = (jnp.pad(x, ((0, 0), (0, 1))) for x in (C, B))

    @partial(jax.checkpoint, prevent_cse=False)
    def products(C: Array, B: Array, first: Array, second: Array) -> Array:
        return sum(_take(c, first) * _take(b, second) for c, b in zip(C, B, strict=True))

    def add(S: Array, pairs: tuple[Array, Array, Array]) -> tuple[Array, None]:
        first, second, cell = pairs
        own = products(C, B, first, second)
        return S.at[cell].add(own, mode="promise_in_bounds", wrap_negative_indices=False), None

    return jax.lax.scan(add, S, (members.first, members.second, members.cell))[0]


def _take(values: Array, index: Array) -> Array:
    """``values[index]`` for an index known to lie within; a copy of the index, to wrap it, would cost as much."""
    return values.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)
