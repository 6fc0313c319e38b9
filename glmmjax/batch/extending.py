"""A design with more, or fewer, groups or rows: copies with new labels, or an even choice.

With N things asked for where there are n, the new ones are copies of number ``floor(i n / N)``, i = 0, ..., N - 1: all
of them about equally often if N > n, an evenly spread choice of them if N < n, so that a treatment by which the groups
are sorted keeps its balance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from glmmjax.design import Component, Design, Term, take_rows
from glmmjax.hessians import parent_groups


@dataclass(frozen=True, eq=False)
class Copies:
    """Which rows of a design the new one has.

    Attributes:
        rows: (N,) positions in the old one.
        number: (N,) which copy of its unit, from 0, a row belongs to.
        units: (n,) what is copied as a whole: the group, or the row itself, of each old row.
    """

    rows: np.ndarray
    number: np.ndarray
    units: np.ndarray


def spread(n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of n things are taken, ``size`` in all, and which copy of it each is.

    >>> [x.tolist() for x in spread(3, 5)]
    [[0, 0, 1, 1, 2], [0, 1, 0, 1, 0]]
    >>> spread(6, 3)[0].tolist()
    [0, 2, 4]
    """
    taken = np.arange(size) * n // size
    return taken, np.arange(size) - np.searchsorted(taken, taken)


def groups(index: np.ndarray, size: int) -> Copies:
    """``size`` groups instead of those of ``index`` (n,), each with all the rows of the one that it copies."""
    present = np.unique(index)
    taken, copy = spread(len(present), size)
    own = [np.flatnonzero(index == present[i]) for i in taken]
    return Copies(np.concatenate(own), np.repeat(copy, [len(rows) for rows in own]), index)


def within(index: np.ndarray, size: int) -> Copies:
    """``size`` rows in every group of ``index`` (n,)."""
    parts = []
    for group in np.unique(index):
        rows = np.flatnonzero(index == group)
        taken, copy = spread(len(rows), size)
        parts.append((rows[taken], copy))
    rows, copy = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Copies(rows, copy, np.arange(len(index)))


def extended(design: Design, copies: Copies) -> Design:
    """The design of the copied rows.

    Groups that lie within one unit, such as the unit itself, are new in each copy; those that reach over several units,
    of a crossed or a coarser factor, keep their labels.
    """
    taken = take_rows(design, copies.rows)

    def term(old: Term, new: Term) -> Term:
        inside = parent_groups(old.index, copies.units, old.n_levels) is not None
        pairs = np.stack([new.index, copies.number if inside else np.zeros_like(copies.number)])
        found, index = np.unique(pairs, axis=1, return_inverse=True)
        labels = tuple(old.levels[g] if c == 0 else f"{old.levels[g]}.{c + 1}" for g, c in found.T)
        return replace(new, index=index.reshape(-1).astype(np.int32), levels=labels)

    def part(name: str, new: Component) -> Component:
        pairs = zip(design.components[name].terms, new.terms, strict=True)
        return replace(new, terms=tuple(term(*pair) for pair in pairs))

    components = {name: part(name, component) for name, component in taken.components.items()}
    return replace(taken, rows=np.arange(len(copies.rows)), components=components)
