"""Grouping factors: any columns, alone or combined, coded as group numbers with labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmmjax._errors import DataError
from glmmjax._frames import Factor, Frame, Series, Table


@dataclass(frozen=True, eq=False)
class Grouping:
    """The groups of a fit: the combinations of levels that occur, in order."""

    factors: tuple[str, ...]
    factor_levels: tuple[tuple[Any, ...], ...]  # all levels of each column
    cells: np.ndarray  # (G,) the place of each group among all combinations, ascending
    labels: tuple[Any, ...]  # (G,) a level itself, or "a1:b2"

    @property
    def name(self) -> str:
        return ":".join(self.factors)


def code_column(frame: Frame, name: str) -> tuple[np.ndarray, tuple[Any, ...]]:
    """Return the level number of each row, (n,) int64, and the levels of a column.

    Numbers are in numeric order, declared categories in theirs, text in natural order ("g2" before "g10").
    """
    factor = frame.factor(name)
    codes, levels = factor.codes, factor.levels
    if not factor.declared and isinstance(frame.columns[name], Factor):
        order = sorted(range(len(levels)), key=lambda i: _natural(levels[i]))
        codes, levels = np.argsort(order)[codes], tuple(levels[i] for i in order)
    return np.asarray(codes, dtype=np.int64), tuple(_label(level) for level in levels)


def code_groups(
    factors: tuple[str, ...], coded: Sequence[tuple[np.ndarray, tuple[Any, ...]]]
) -> tuple[np.ndarray, Grouping]:
    """Return the group of each row, (n,) int32, and the groups, from the coded columns."""
    import pandas as pd

    levels = tuple(levels for _, levels in coded)
    cell_of_row = _cells([codes for codes, _ in coded], levels)
    index, cells = pd.factorize(cell_of_row, sort=True)
    if len(factors) == 1:
        labels = tuple(levels[0][cell] for cell in cells)
    else:
        places = np.unravel_index(cells, [len(known) for known in levels])
        labels = tuple(
            ":".join(str(known[i]) for known, i in zip(levels, place, strict=True))
            for place in zip(*places, strict=True)
        )
    return index.astype(np.int32), Grouping(factors, levels, np.asarray(cells), labels)


def match_groups(grouping: Grouping, table: Table, rows: np.ndarray, *, allow_new_levels: bool) -> np.ndarray:
    """Return the group of each row of new data, (n,) int32; -1 where a grouping column is missing or the group is new.

    Raises DataError for a new group unless `allow_new_levels`.
    """
    columns = [table.read(name).iloc[rows] for name in grouping.factors]
    codes = [_match(series, levels) for series, levels in zip(columns, grouping.factor_levels, strict=True)]
    missing = np.any([table.missing(name)[rows] for name in grouping.factors], axis=0)
    known = np.all([code >= 0 for code in codes], axis=0)
    cell_of_row = _cells([np.where(known, code, 0) for code in codes], grouping.factor_levels)
    place = np.minimum(np.searchsorted(grouping.cells, cell_of_row), len(grouping.cells) - 1)
    known &= grouping.cells[place] == cell_of_row
    new = ~known & ~missing
    if new.any() and not allow_new_levels:
        first = int(np.flatnonzero(new)[0])
        seen = dict.fromkeys(":".join(str(s.iloc[i]) for s in columns) for i in np.flatnonzero(new))
        raise DataError(
            f"Grouping factor {grouping.name!r} has levels that were not in the data of the fit: "
            f"{_listed(tuple(seen))}, first in {table.row(int(rows[first]))}. Pass allow_new_levels=True to take them "
            "as new groups, whose random effects have expectation zero."
        )
    return np.where(known, place, -1).astype(np.int32)


def _cells(codes: Sequence[np.ndarray], levels: Sequence[tuple[Any, ...]]) -> np.ndarray:
    """Return the place of each row among all combinations of levels, the last column varying fastest."""
    cell = codes[0]
    for code, known in zip(codes[1:], levels[1:], strict=True):
        cell = cell * len(known) + code
    return cell


def _match(series: Series, levels: tuple[Any, ...]) -> np.ndarray:
    import pandas as pd

    if isinstance(series.dtype, pd.CategoricalDtype):
        by_category = pd.Index(levels).get_indexer(series.cat.categories)
        return np.asarray(
            np.append(by_category, -1)[series.cat.codes.to_numpy()]
        )  # the code -1 of a missing value takes the last
    return np.asarray(pd.Index(levels).get_indexer(pd.Index(series)))


def _natural(level: Any) -> tuple[Any, ...]:
    return tuple(int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(level)))


def _label(level: Any) -> Any:
    return int(level) if isinstance(level, float) and level.is_integer() else level


def _listed(labels: Sequence[str], most: int = 5) -> str:
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(repr(label) for label in labels[:most]) + more
