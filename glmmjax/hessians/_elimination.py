"""The order of elimination of a sparse symmetric matrix, and its fronts: symbolic analysis, once per pattern.

A *front* eliminates a set of columns (its pivots) together; its rows are the columns that they touch later. Fronts form
a tree, every front below the front that holds the first of its rows. Small fronts are merged where a larger one with
some explicit zeros takes less time (relaxed supernodes).

Liu (1990), SIAM J. Matrix Anal. Appl. 11 (elimination trees); Gilbert, Ng & Peyton (1994), ibid. 15 (column counts);
Ashcraft & Grimes (1989), ACM Trans. Math. Softw. 15 (relaxed supernodes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Seconds, measured: per front, per entry of a front, per entry passed to the parent, per floating-point operation.
PER_FRONT, PER_ENTRY, PER_PASSED, PER_FLOP = 2e-6, 4e-9, 1e-8, 4e-10


@dataclass(frozen=True)
class Fronts:
    """The fronts of a matrix, children before parents; all indices count columns in the order of elimination.

    Attributes:
        order: the column of the matrix that is eliminated at each step (n,).
        start: the first pivot of each front (m + 1,); front f has the pivots ``start[f]:start[f + 1]``.
        parent: the parent of each front, -1 at a root (m,).
        row_start, rows: the rows of front f, sorted, are ``rows[row_start[f]:row_start[f + 1]]``.
        level: 0 at the leaves, above all children elsewhere (m,).
    """

    order: np.ndarray
    start: np.ndarray
    parent: np.ndarray
    row_start: np.ndarray
    rows: np.ndarray
    level: np.ndarray


def find_fronts(n: int, rows: np.ndarray, columns: np.ndarray) -> Fronts:
    """The fronts of the symmetric matrix with entries at ``rows[i] > columns[i]``, and on the diagonal."""
    order = fill_reducing(n, rows, columns)
    low, high = relabel(order, rows, columns)
    parent = elimination_tree(n, low, high)
    post = postorder(parent)
    order, parent = order[post], relabel_tree(parent, post)
    low, high = relabel(order, rows, columns)
    counts = column_counts(parent, low, high)
    front, front_parent = merge_fronts(*supernodes(parent, counts))
    post = postorder(front_parent)
    front, front_parent = inverse_permutation(post)[front], relabel_tree(front_parent, post)
    order = order[np.argsort(front, kind="stable")]
    start = np.concatenate([[0], np.cumsum(np.bincount(front, minlength=len(post)))])
    return _with_rows(order, start, front_parent, *relabel(order, rows, columns))


def fill_reducing(n: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """An order of elimination (n,) with little fill: SuperLU's multiple minimum degree."""
    import scipy.sparse as sp  # loads when first needed
    from scipy.sparse.linalg import spilu

    # SuperLU gives the order only together with a factorization: the incomplete one, on a matrix whose pivots are safe
    # (row sums of one on a weighted graph), is the cheapest.
    off = sp.coo_array((np.full(len(rows), -1.0), (rows, columns)), shape=(n, n))
    degrees = np.bincount(rows, minlength=n) + np.bincount(columns, minlength=n)
    matrix = sp.csc_array(off + off.T + sp.diags_array(degrees + 1.0))
    lu = spilu(
        matrix,
        drop_tol=1.0,
        fill_factor=1.0,
        drop_rule="basic",
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    return inverse_permutation(np.asarray(lu.perm_c, dtype=np.intp))


def inverse_permutation(order: np.ndarray) -> np.ndarray:
    """The place of each element in ``order``."""
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return place


def relabel(order: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The steps at which the two ends of each entry are eliminated: the earlier ones and the later ones."""
    place = inverse_permutation(order)
    a, b = place[rows], place[columns]
    return np.minimum(a, b), np.maximum(a, b)


def elimination_tree(n: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The parent of each column (n,), -1 at a root: the first row below the diagonal of its column in the factor."""
    parent, ancestor = [-1] * n, [-1] * n
    by_row = np.argsort(high, kind="stable")
    for i, k in zip(low[by_row].tolist(), high[by_row].tolist(), strict=True):
        while i < k:
            above = ancestor[i]
            ancestor[i] = k
            if above < 0:
                parent[i] = k
                break
            i = above
    return np.array(parent, dtype=np.intp)


def postorder(parent: np.ndarray) -> np.ndarray:
    """The nodes of a forest, every node after its descendants and next to them."""
    # Parents have larger numbers than their children, so a sweep downwards places whole subtrees.
    size = [1] * len(parent)
    above = parent.tolist()
    for j, p in enumerate(above):
        if p >= 0:
            size[p] += size[j]
    end, top = [0] * len(parent), len(parent)
    place = [0] * len(parent)
    for j in reversed(range(len(parent))):
        p = above[j]
        if p >= 0:
            last, end[p] = end[p], end[p] - size[j]
        else:
            last, top = top, top - size[j]
        place[j] = last - 1
        end[j] = last - 1
    return inverse_permutation(np.array(place, dtype=np.intp))


def relabel_tree(parent: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The same forest with its nodes numbered as they come in ``order``."""
    old = parent[order]
    return np.where(old < 0, -1, inverse_permutation(order)[old])


def column_counts(parent: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The number of entries in each column of the factor (n,), the diagonal included; columns are in postorder."""
    n = len(parent)
    up = parent.tolist()
    first = list(range(n))
    for j, p in enumerate(up):
        if p >= 0:
            first[p] = min(first[p], first[j])
    delta = [int(first[j] == j) for j in range(n)]
    ancestor, last_first, last_leaf = list(range(n)), [-1] * n, [-1] * n
    by_column = np.argsort(low, kind="stable")
    ends, later = np.searchsorted(low[by_column], np.arange(n), side="right").tolist(), high[by_column].tolist()
    begin = 0
    for j in range(n):
        for i in later[begin : ends[j]]:
            if first[j] <= last_first[i]:
                continue  # j is not a leaf of the subtree of row i
            last_first[i] = first[j]
            delta[j] += 1
            leaf, last_leaf[i] = last_leaf[i], j
            if leaf >= 0:  # both leaves' paths share what lies above their least common ancestor
                root = leaf
                while ancestor[root] != root:
                    root = ancestor[root]
                while leaf != root:
                    leaf, ancestor[leaf] = ancestor[leaf], root
                delta[root] -= 1
        begin = ends[j]
        if up[j] >= 0:
            delta[up[j]] -= 1
            ancestor[j] = up[j]
    for j, p in enumerate(up):
        if p >= 0:
            delta[p] += delta[j]
    return np.array(delta, dtype=np.intp)


def supernodes(parent: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Runs of columns with one structure: the run of each column (n,), each run's parent, pivots and rows (m,)."""
    n = len(parent)
    together = (parent[:-1] == np.arange(1, n)) & (counts[:-1] == counts[1:] + 1)
    front = np.concatenate([[0], np.cumsum(~together)])
    last = np.append(np.flatnonzero(~together), n - 1)
    above = parent[last]
    return front, np.where(above < 0, -1, front[above]), np.bincount(front), counts[last] - 1


def cost(pivots: float, rows: float) -> float:
    """About how many seconds a front takes among others of its size."""
    flops = pivots**3 + 2.0 * pivots * rows * (pivots + rows)
    return PER_FRONT + PER_ENTRY * (pivots + rows) ** 2 + PER_PASSED * rows**2 + PER_FLOP * flops


def merge_fronts(
    front: np.ndarray, parent: np.ndarray, pivots: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The fronts after merging children into their parents where that saves time: of each column (n,), parents (m,)."""
    up, p, r = parent.tolist(), pivots.tolist(), rows.tolist()
    seconds = [cost(*size) for size in zip(p, r, strict=True)]
    children: list[list[int]] = [[] for _ in up]
    into = list(range(len(up)))
    for f, above in enumerate(up):
        kept = []
        # The child with most rows adds fewest zeros.
        for c in sorted(children[f], key=lambda c: -r[c]):
            merged = cost(p[c] + p[f], r[f])
            if merged < seconds[c] + seconds[f]:
                into[c], p[f], seconds[f] = f, p[c] + p[f], merged
            else:
                kept.append(c)
        if above >= 0:
            children[above].append(f)
    for f in reversed(range(len(up))):
        into[f] = into[into[f]]
    target = np.array(into, dtype=np.intp)
    remaining = np.unique(target)
    number = np.full(len(up), -1)
    number[remaining] = np.arange(len(remaining))
    above_of = parent[remaining]
    return number[target][front], np.where(above_of < 0, -1, number[target[above_of]])


def _with_rows(order: np.ndarray, start: np.ndarray, parent: np.ndarray, low: np.ndarray, high: np.ndarray) -> Fronts:
    """The fronts with their rows: those of their pivots' entries and of their children, without the pivots."""
    n, m = len(order), len(parent)
    level = [0] * m
    for f, p in enumerate(parent.tolist()):
        if p >= 0:
            level[p] = max(level[p], level[f] + 1)
    levels = np.array(level, dtype=np.intp)
    front = np.repeat(np.arange(m), np.diff(start))
    outside = front[low] != front[high]
    pending: list[list[np.ndarray]] = [[] for _ in range(max(level) + 1)]

    def announce(keys: np.ndarray) -> None:
        at = levels[keys // n]
        by_level = np.argsort(at, kind="stable")
        bounds = np.searchsorted(at[by_level], np.arange(len(pending) + 1))
        for k in np.unique(at):
            pending[k].append(keys[by_level[bounds[k] : bounds[k + 1]]])

    announce(front[low][outside] * n + high[outside])
    found = []
    for k in range(len(pending)):
        if not pending[k]:
            continue
        keys = np.unique(np.concatenate(pending[k]))
        found.append(keys)
        above, row = parent[keys // n], keys % n
        passed = (above >= 0) & (front[row] != above)
        announce(above[passed] * n + row[passed])
    keys = np.sort(np.concatenate(found)) if found else np.zeros(0, dtype=np.intp)
    row_start = np.concatenate([[0], np.cumsum(np.bincount(keys // n, minlength=m))])
    return Fronts(order, start, parent, row_start, keys % n, levels)
