"""Which structure the Hessian has when every observation belongs to one group of each grouping factor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from glmmjax._errors import ArgumentError
from glmmjax.hessians import Blocks, Crossed, Level, Linked, Membership, RowStructure, link, parent_groups, prefer_links

STRUCTURES = ("blocks", "crossed", "linked")


def choose_structure(
    rows: Sequence[np.ndarray], levels: tuple[Level, ...], wanted: str | None = None
) -> tuple[RowStructure, Any]:
    """The structure and its index data for factors given by the group of each row (n,), finest factor first.

    Factors that are nested in a chain make blocks; others are crossed, with their coupling in a table or, where that is
    estimated to be faster, by links.

    Args:
        wanted: "blocks", "crossed" or "linked" to override the choice.

    Raises:
        ArgumentError: the factors are not nested, but blocks are wanted; or another name.
    """
    if wanted is not None and wanted not in STRUCTURES:
        raise ArgumentError(f"structure must be one of {', '.join(STRUCTURES)}, not {wanted!r}.")
    index = tuple(r.astype(np.int32) for r in rows)
    parents = _parents(rows, levels)
    if wanted == "blocks" and parents is None:
        raise ArgumentError("structure='blocks': the grouping factors are crossed; use 'crossed' or 'linked'.")
    if wanted == "blocks" or (wanted is None and parents is not None) or len(levels) < 2:
        return Blocks(levels), Membership(index, parents or {})
    if wanted == "linked" or (wanted is None and prefer_links(index, levels, _on_accelerator())):
        links = link(index, levels)
        return Linked(levels, links.n_links, links.n_pairs), links
    return Crossed(levels), Membership(index, {})


def _parents(rows: Sequence[np.ndarray], levels: tuple[Level, ...]) -> dict[tuple[int, int], np.ndarray] | None:
    """The parents of every nested pair, or None where two factors are crossed."""
    parents = {}
    for k in range(len(rows)):
        for m in range(k + 1, len(rows)):
            parent = parent_groups(rows[k], rows[m], levels[k].n_groups)
            if parent is None:
                return None
            parents[k, m] = parent
    return parents


def _on_accelerator() -> bool:
    return jax.default_backend() != "cpu"
