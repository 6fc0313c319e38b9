"""Star coloring: a symmetric matrix with a known pattern from few of its products with vectors.

Columns of one color are added up: the product with the sum gives H_ij wherever j is the only neighbor of i that has
its color. In a star coloring neighbors have different colors, and no path of four columns has only two, so that each
entry is found alone in the product of one of its two columns. A band of k below the diagonal takes about 2 k colors,
a column that meets all others takes one.

Gebremedhin, Manne & Pothen (2005), SIAM Review 47, section 4; Coleman & Moré (1984), Math. Program. 28.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Coloring:
    """Groups of columns, and where the entries of the matrix are among its products with the groups' sums.

    Attributes:
        colors: the color of each column (n,).
        product, row: the product that holds each entry, and where (nnz,).
    """

    colors: np.ndarray
    product: np.ndarray
    row: np.ndarray

    @property
    def count(self) -> int:
        """The number of colors."""
        return int(self.colors.max()) + 1

    def probes(self) -> np.ndarray:
        """The sum of the unit vectors of each color (count, n)."""
        return np.equal(self.colors, np.arange(self.count)[:, None]).astype(float)


def color(n: int, rows: np.ndarray, columns: np.ndarray) -> Coloring:
    """A coloring for the symmetric n by n matrix with entries at ``rows[i] >= columns[i]``, diagonal included."""
    off = rows != columns
    ends = np.concatenate([rows[off], columns[off]]), np.concatenate([columns[off], rows[off]])
    by_vertex = np.lexsort(ends[::-1])
    degrees = np.bincount(ends[0], minlength=n)
    neighbors = [x.tolist() for x in np.split(ends[1][by_vertex], np.cumsum(degrees)[:-1])]
    orders = [np.arange(n), np.argsort(-degrees, kind="stable")]
    colors = min((star_coloring(neighbors, order.tolist()) for order in orders), key=max)
    chosen = np.array(colors, dtype=np.intp)
    # H_ij from the product of j's color where i has no second neighbor of that color, else from that of i's.
    seen = ends[0] * (chosen.max() + 1) + chosen[ends[1]]
    _, first, times = np.unique(seen, return_inverse=True, return_counts=True)
    alone = np.ones(len(rows), dtype=bool)
    alone[off] = times[first[: np.count_nonzero(off)]] == 1
    return Coloring(chosen, np.where(alone, chosen[columns], chosen[rows]), np.where(alone, rows, columns))


def star_coloring(neighbors: list[list[int]], order: list[int]) -> list[int]:
    """The color of each vertex, the lowest possible one in the given order.

    Sets of colors are the bits of integers. A new vertex v may not have the color of a neighbor w; that of a neighbor
    x of w that has another neighbor of w's color (v - w - x - y); nor, if another neighbor of v has w's color, that of
    any neighbor of w (y - v - w - x).
    """
    n = len(neighbors)
    colors = [-1] * n
    bit = [0] * n
    once, twice = [0] * n, [0] * n  # the colors of at least one, two neighbors
    hubs = [0] * n  # the colors of the neighbors that have another neighbor of this vertex's color
    first: list[dict[int, int]] = [{} for _ in range(n)]
    for v in order:
        repeated = twice[v]
        forbidden = once[v]
        for w in neighbors[v]:
            if bit[w]:
                forbidden |= hubs[w]
                if bit[w] & repeated:
                    forbidden |= once[w]
        own = ~forbidden & (forbidden + 1)
        bit[v], colors[v] = own, own.bit_length() - 1
        for w in neighbors[v]:
            if bit[w] & repeated:
                hubs[w] |= own
            if not once[w] & own:
                once[w] |= own
                first[w][own] = v
                continue
            hubs[v] |= bit[w]
            if not twice[w] & own:
                twice[w] |= own
                hubs[first[w][own]] |= bit[w]
    return colors
