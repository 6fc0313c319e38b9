"""Which groups of crossed factors occur together, and sums over the pairs of them that share a group.

Links are found once per data set, in NumPy; the sums are taken in a compiled program, a chunk of pairs at a time, so
that they need no memory to speak of. Nor do their derivatives: a chunk is gathered again rather than kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._types import Array
from glmmjax.hessians._levels import Level

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
    """

    rows: tuple[Array, ...]
    link: dict[tuple[int, int], Array]
    ends: dict[tuple[int, int], tuple[Array, Array]]
    first: Array
    second: Array

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

    Time and memory are linear in the observations and in the pairs of strands, which take 8 bytes each.

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
    group = np.concatenate([np.tile(ends[0, m][0], levels[m].n_effects) for m in range(1, len(levels))])
    chunks = (_chunks(x, np.int32(len(group))) for x in _pairs(group, levels[0].n_groups))
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


# pairs of arrays whose products are summed
Products: TypeAlias = tuple[tuple[Array, Array], ...]


def add_products(S: Array, products: Products, column: Array, members: Links) -> Array:
    """S (m, m) with ``sum a'b`` of the two strands of every pair added in the lower triangle; a and b (d, strands).

    ``column`` (strands,) says where each strand stands in S.
    """

    def one(S: Array, padded: Products, first: Array, second: Array, cell: Array) -> Array:
        own = [_take(x, first) * _take(y, second) for a, b in padded for x, y in zip(a, b, strict=True)]
        return _add_at(S, cell, total(own))

    padded = tuple((_padded(a), _padded(b)) for a, b in products)
    return _over_pairs(one, S.reshape(-1), padded, column, len(S), members).reshape(S.shape)


def add_carried(P: Array, products: Products, column: Array, members: Links) -> Array:
    """P (d, strands) with ``sum Z b`` of every pair of strands added, both ways; Z (m, m) and b (d, strands)."""

    def one(P: Array, padded: Products, first: Array, second: Array, cell: Array) -> Array:
        z = [_take(z, cell) for z, _ in padded]
        for here, there in ((first, second), (second, first)):
            own = [total([x * _take(b[a], there) for x, (_, b) in zip(z, padded, strict=True)]) for a in range(len(P))]
            P = jnp.stack([_add_at(row, here, x) for row, x in zip(P, own, strict=True)])
        return P

    padded = tuple((Z.reshape(-1), _padded(b)) for Z, b in products)
    return _over_pairs(one, _padded(P), padded, column, len(products[0][0]), members)[:, :-1]


def total(terms: list[Array]) -> Array:
    """The sum of one or more arrays."""
    return reduce(add, terms)


def _over_pairs(
    one: Callable[..., Array], start: Array, products: Products, column: Array, size: int, members: Links
) -> Array:
    """``one(sums, products, first, second, cell)`` for one chunk of pairs after the other.

    The cell is where the columns of the two strands meet in the lower triangle of a matrix (size, size), row by row.
    """
    integer = jnp.int32 if size**2 < 2**31 else jnp.int64
    column = jnp.pad(column, (0, 1)).astype(integer)

    @partial(jax.checkpoint, prevent_cse=False)
    def chunk(sums: Array, products: Products, first: Array, second: Array) -> Array:
        cell = _take(column, first) * integer(size) + _take(column, second)
        return one(sums, products, first, second, cell)

    def step(sums: Array, pairs: tuple[Array, Array]) -> tuple[Array, None]:
        return chunk(sums, products, *pairs), None

    return jax.lax.scan(step, start, (members.first, members.second))[0]


def _padded(values: Array) -> Array:
    """What fills up the last chunk is a strand of zeros."""
    return jnp.pad(values, ((0, 0), (0, 1)))


def _take(values: Array, index: Array) -> Array:
    """``values[index]`` for an index known to lie within; a copy of the index, to wrap it, would cost as much."""
    return values.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _add_at(values: Array, index: Array, terms: Array) -> Array:
    return values.at[index].add(terms, mode="promise_in_bounds", wrap_negative_indices=False)
