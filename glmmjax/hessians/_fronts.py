"""Where the fronts of a sparse matrix lie in memory: groups of similar fronts, padded to one size and taken together.

Thousands of small fronts one at a time would cost more in Python than in arithmetic. Padded pivots are those of an
identity matrix, padded rows are zero, so that neither changes anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from glmmjax.hessians import _elimination as elimination

# Seconds to start the work on one group of fronts, measured.
PER_GROUP = 1.5e-4
# The most numbers in a group: what is taken together should fit in a cache.
GROUP_SIZE = 2**16


@dataclass(frozen=True)
class Group:
    """Fronts of one level, padded to the same numbers of pivots and rows; B fronts, P pivots, R rows, S = P + R.

    A front is stored as its panel, the pivots' rows [A_pp, A_pr] (P, S), and its rest [., A_rr] (R, S). The panels of
    all fronts come first, so that they can be kept without the rest. Leaves have no rest: nothing is added to it.

    Attributes:
        pivots, rows: columns of the matrix, n where padded (B, P), (B, R).
        panel, rest: where the panels (B, P, S) and the rests (B, R, S) begin in the workspace; -1 for no rest.
        row_place, place: entry (i, j) of what a front passes on is at ``row_place[i] + place[j]`` in the workspace
            (B, R).
    """

    pivots: np.ndarray
    rows: np.ndarray
    panel: int
    rest: int
    row_place: np.ndarray
    place: np.ndarray

    @property
    def size(self) -> int:
        """How many numbers there are in the fronts."""
        (B, P), R = self.pivots.shape, self.rows.shape[1]
        return B * (P + R) ** 2

    def panels(self, workspace: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The two parts of the panels, (..., B, P, P) and (..., B, P, R), of workspaces (..., size); views."""
        return self._parts(workspace, self.panel, self.pivots.shape[1])

    def rests(self, workspace: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The two parts of the rests, (..., B, R, P) and (..., B, R, R), of workspaces (..., size); views."""
        return self._parts(workspace, self.rest, self.rows.shape[1])

    def passed(self) -> np.ndarray:
        """Where the entries that the fronts pass on are in the workspace (B, R, R)."""
        return self.row_place[:, :, None] + self.place[:, None, :]

    def _parts(self, workspace: np.ndarray, begin: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        (B, P), S = self.pivots.shape, self.pivots.shape[1] + self.rows.shape[1]
        parts = workspace[..., begin : begin + B * height * S].reshape(*workspace.shape[:-1], B, height, S)
        return parts[..., :P], parts[..., P:]


@dataclass(frozen=True)
class Analysis:
    """What is known from the pattern: groups of fronts, sizes, and where the entries go.

    Attributes:
        n, flops: the number of columns, and of floating-point operations of a factorization.
        groups: children before parents.
        factor_size, work_size: how many numbers there are in the panels, and in the whole workspace.
        entries, mirrored: where each entry of the lower triangle is in the workspace, and its mirror image if both are
            pivots of one front, otherwise the same again (nnz,).
        ones: where the workspace has the pivots of the padding.
    """

    n: int
    flops: float
    groups: tuple[Group, ...]
    factor_size: int
    work_size: int
    entries: np.ndarray
    mirrored: np.ndarray
    ones: np.ndarray


def analyze(n: int, rows: np.ndarray, columns: np.ndarray) -> Analysis:
    """The analysis of a symmetric n by n matrix with entries at ``rows[i] >= columns[i]``, the diagonal among them.

    Every array of values (nnz,) has the order of these entries.
    """
    off = rows != columns
    fronts = elimination.find_fronts(n, rows[off], columns[off])
    p, r = np.diff(fronts.start), np.diff(fronts.row_start)
    groups = list(partition(fronts.level, p, r))
    panel, rest, P, S, factor_size, work_size = _lay_out(groups, fronts.level, p, r)
    front = np.repeat(np.arange(len(p)), p)
    owner = np.repeat(np.arange(len(p)), r)
    keys = owner * n + fronts.rows

    def local(f: np.ndarray, column: np.ndarray) -> np.ndarray:
        """The place of a column among the pivots and rows of a front."""
        as_row = np.searchsorted(keys, f * n + column) - fronts.row_start[f] + P[f]
        return np.where(front[column] == f, column - fronts.start[f], as_row)

    def row_begin(f: np.ndarray, i: np.ndarray) -> np.ndarray:
        """Where row i of a front begins in the workspace."""
        return np.where(i < P[f], panel[f] + i * S[f], rest[f] + (i - P[f]) * S[f])

    parent = fronts.parent[owner]
    place = local(parent, fronts.rows)
    row_place = row_begin(parent, place)
    # One more element stands for the padding. What the padding passes on is zero, and may be added anywhere.
    column, row = np.append(fronts.order, n), np.append(fronts.order[fronts.rows], n)
    row_place, place = np.append(row_place, 0), np.append(place, 0)

    def group(f: np.ndarray) -> Group:
        at = _padded(fronts.row_start[f], r[f], S[f[0]] - P[f[0]], fill=len(owner))
        return Group(
            pivots=column[_padded(fronts.start[f], p[f], P[f[0]], fill=n)],
            rows=row[at],
            panel=int(panel[f[0]]),
            rest=int(rest[f[0]]),
            row_place=row_place[at],
            place=place[at],
        )

    low, high = elimination.relabel(fronts.order, rows, columns)
    f = front[low]
    i, j = local(f, high), local(f, low)
    both = front[high] == f
    lacking = np.repeat(np.arange(len(p)), P - p)
    extra = _ranges(P - p) + p[lacking]
    return Analysis(
        n=n,
        flops=float(np.sum(p**3 / 3 + p * r * (p + r))),
        groups=tuple(group(g) for g in groups),
        factor_size=factor_size,
        work_size=work_size,
        entries=panel[f] + np.where(both, i * S[f] + j, j * S[f] + i),
        mirrored=panel[f] + j * S[f] + i,
        ones=panel[lacking] + extra * (S[lacking] + 1),
    )


def partition(level: np.ndarray, p: np.ndarray, r: np.ndarray) -> Iterator[np.ndarray]:
    """The fronts of each group: at every level the best cut of the fronts, sorted by size, into runs."""
    for k in range(level.max() + 1):
        at = np.flatnonzero(level == k)
        at = at[np.lexsort((r[at], p[at] + r[at]))]
        # Fronts of nearly one size are not told apart, so that the cuts to choose from are few.
        size = np.round(8.0 * np.log2(p[at] + r[at] + 7.0))
        runs = np.split(at, np.flatnonzero(np.diff(size)) + 1)
        seconds, cut = [0.0], [0]
        for end in range(1, len(runs) + 1):
            options = []
            count, width, height = 0, 0, 0
            for begin in reversed(range(end)):
                run = runs[begin]
                count, width, height = count + len(run), max(width, p[run].max()), max(height, r[run].max())
                options.append((seconds[begin] + PER_GROUP + count * elimination.cost(width, height), begin))
            best, begin = min(options)
            seconds.append(best)
            cut.append(begin)
        end = len(runs)
        while end > 0:
            together = np.concatenate(runs[cut[end] : end])
            each = (p[together].max() + r[together].max()) ** 2
            yield from np.array_split(together, min(len(together), -(-len(together) * each // GROUP_SIZE)))
            end = cut[end]


def _lay_out(
    groups: list[np.ndarray], level: np.ndarray, p: np.ndarray, r: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int, int]:
    """Where each front's panel and rest begin, its padded numbers of pivots and of columns; the sizes of all."""
    panel, rest, P, S = (np.full(len(p), -1) for _ in range(4))
    size = 0
    for f in groups:
        P[f], S[f] = p[f].max(), p[f].max() + r[f].max()
        panel[f] = size + np.arange(len(f)) * P[f] * S[f]
        size += int(np.sum(P[f] * S[f]))
    factor_size = size
    for f in groups:
        if level[f[0]] > 0:
            rest[f] = size + np.arange(len(f)) * (S[f] - P[f]) * S[f]
            size += int(np.sum((S[f] - P[f]) * S[f]))
    return panel, rest, P, S, factor_size, size


def _padded(start: np.ndarray, size: np.ndarray, width: int, fill: int) -> np.ndarray:
    """Consecutive numbers from each start, as many as its size, then ``fill``: (m, width)."""
    offset = np.arange(width)
    return np.where(offset < size[:, None], start[:, None] + offset, fill)


def _ranges(sizes: np.ndarray) -> np.ndarray:
    """0, 1, ... up to each size, one after the other."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
