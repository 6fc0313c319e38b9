"""weights= and offset= as arrays, columns or expressions, and the rows in which nothing is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from glmmjax._coding import Coding, Scope, code_expression
from glmmjax._errors import ArgumentError, DataError, did_you_mean
from glmmjax._frames import Frame, Table, as_series

Input: TypeAlias = "str | np.ndarray | None"  # an expression, an array over all rows of the data, or nothing


def check_choice(name: str, value: Any, options: Sequence[str]) -> None:
    """Raise ArgumentError for a value that is none of the options."""
    if value not in options:
        raise ArgumentError(f"Unknown {name}={value!r}. {did_you_mean(value, options)}")


def read_input(name: str, value: Any, table: Table) -> Input:
    """Return an argument as an expression, an (n,) float64 array over all rows of the data, or None.

    Raises DataError for an array of the wrong length, ArgumentError for anything that is not numbers.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return f"`{value}`" if value in table.names else value
    if np.ndim(value) == 0:
        value = [value] * table.n_rows
    try:
        series = as_series(value, f"{name}=")
        for x in _not_plain(series):
            if isinstance(x, (str, bytes, complex, np.complexfloating)):
                raise TypeError(f"it holds {x!r}")
        array = np.asarray(series.astype(float), dtype=np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise ArgumentError(f"{name}= must be numbers, or a string naming a column of the data: {error}.") from error
    if len(array) != table.n_rows:
        raise DataError(
            f"{name}= has {len(array)} values, but the data have {table.n_rows} rows: give one for each row."
        )
    return array


def _not_plain(series: Any) -> Any:
    """The values of a column whose type alone does not say that they are real numbers."""
    plain = isinstance(series.dtype, np.dtype) and series.dtype.kind in "biuf"
    return () if plain else series


def input_values(name: str, given: Input, frame: Frame, scope: Scope) -> tuple[np.ndarray | None, Coding | None]:
    """Return an argument's values in the rows of the frame, and for an expression how they were computed."""
    if given is None:
        return None, None
    if isinstance(given, str):
        return code_expression(given, frame, scope, f"{name}=")
    values = given[frame.rows]
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise DataError(f"{name}= is {values[bad[0]]} in {frame.row(int(bad[0]))}: correct or leave out such rows.")
    return values, None


def check_weights(weights: np.ndarray | None, frame: Frame) -> None:
    """Raise DataError for a negative weight, or if all are zero."""
    if weights is None:
        return
    bad = np.flatnonzero(weights < 0)
    if bad.size:
        row = int(bad[0])
        raise DataError(f"weights= is {weights[row]:g} in {frame.row(row)}: a weight cannot be negative.")
    if not weights.any():
        raise DataError("weights= is zero in every row: nothing is left to fit.")


def complete_rows(
    table: Table, needed: Sequence[str], given: Mapping[str, np.ndarray], na_action: str
) -> tuple[np.ndarray, list[str]]:
    """Return the positions of the rows without a missing value, and what to tell the user about the others.

    Raises DataError if none is left, or for the first missing value with `na_action="raise"`.
    """
    masks = {repr(name): table.missing(name) for name in needed}
    masks |= {f"{name}=": np.isnan(values) for name, values in given.items()}
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    if not masks:
        return np.arange(table.n_rows), []
    missing = np.any(list(masks.values()), axis=0)
    dropped, where = int(missing.sum()), ", ".join(masks)
    if na_action == "raise":
        counts = ", ".join(f"{name} ({int(mask.sum())})" for name, mask in masks.items())
        first = table.row(int(np.flatnonzero(missing)[0]))
        raise DataError(f"Missing values in {counts}, first in {first}: fill them in, or use na_action='drop'.")
    if dropped == table.n_rows:
        raise DataError(f"Every one of the {dropped} rows has a missing value in {where}: no rows are left.")
    rows = "1 row" if dropped == 1 else f"{dropped} rows"
    return np.flatnonzero(~missing), [f"{rows} of {table.n_rows} dropped for missing values in {where}."]
