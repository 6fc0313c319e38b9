"""The user's data at the door: pandas, anything narwhals reads, or a dict of arrays, read column by column.

Only the columns that a model needs are touched, and none is changed in place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache, cached_property
from typing import Any, TypeAlias

import numpy as np

from glmmjax._errors import ArgumentError, DataError, did_you_mean

Series: TypeAlias = Any  # a pandas Series; pandas is imported only when data are read

# what a column of Python objects may hold and not be a factor
_NUMBERS = ("boolean", "complex", "integer", "floating", "mixed-integer-float", "decimal")
_LISTED = 30  # an error message lists the columns of the data only up to this many


@dataclass(frozen=True, eq=False)
class Factor:
    """A column of text or categories: the number of each row's level, and the levels that occur, by number."""

    codes: np.ndarray  # (n,) of a type of integers
    levels: tuple[Any, ...]
    declared: bool = False  # whether their order is the user's own


@dataclass(frozen=True, eq=False)
class Table:
    """The data as given: its columns by name, the number of rows, and the row labels that are not just positions."""

    names: tuple[str, ...]
    n_rows: int
    read: Callable[[str], Series]  # the column as given, with a plain 0..n-1 index
    factor: Callable[[str], Factor | None]  # a column of text or categories, code -1 where missing; None for others
    labels: Any = None

    def missing(self, name: str) -> np.ndarray:
        """Return where a column is missing, (n_rows,) bool."""
        factor = self.factor(name)
        if factor is not None:
            return factor.codes < 0
        series = self.read(name)
        if isinstance(series.dtype, np.dtype) and series.dtype.kind in "biuf":  # pandas takes its time for the same
            values = series.to_numpy()
            return np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
        return np.asarray(series.isna(), dtype=bool)

    def row(self, position: int) -> str:
        """Return how a message calls a row: its 0-based position and its label."""
        if self.labels is None:
            return f"row {position}"
        label = self.labels[position]
        return f"row {position} (index {getattr(label, 'item', lambda: label)()!r})"

    def unknown(self, name: str, where: str) -> DataError:
        """Return the error for a column that the data do not have."""
        options = self.names
        if len(options) > _LISTED:
            options = tuple(get_close_matches(name, options, n=5, cutoff=0.4))
        return DataError(f"Unknown column {name!r} in {where}. {did_you_mean(name, options)}")


Column: TypeAlias = "np.ndarray | Factor | Series"  # numbers of float64, int64 or bool; factors; dates and the like


@dataclass(frozen=True, eq=False)
class Frame:
    """The complete rows of the needed columns, clean and with nothing missing."""

    columns: Mapping[str, Column]
    table: Table
    rows: np.ndarray  # positions in the table

    @property
    def n_rows(self) -> int:
        return len(self.rows)

    @cached_property
    def pandas(self) -> Any:
        """The columns as a pandas DataFrame with a 0..n-1 index, factors as categories."""
        import pandas as pd

        columns = {
            name: pd.Categorical.from_codes(column.codes, pd.Index(column.levels, tupleize_cols=False))
            if isinstance(column, Factor)
            else column
            for name, column in self.columns.items()
        }
        return pd.DataFrame(columns, index=range(self.n_rows), copy=False)

    def factor(self, name: str) -> Factor:
        """A column as a factor, numbers in their order."""
        column = self.columns[name]
        return column if isinstance(column, Factor) else factorized(column)

    def row(self, position: int) -> str:
        """Return how a message calls a row of the frame: by its place in the user's data."""
        return self.table.row(int(self.rows[position]))


def read_table(data: Any, what: str = "data") -> Table:
    """Return the columns of a pandas, polars or other frame that narwhals reads, or of a dict of arrays and lists.

    Raises DataError for columns of different lengths and for no rows, ArgumentError for anything else.
    """
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        index = None if _is_positions(data.index) else data.index
        names = tuple(name for name in data.columns if isinstance(name, str))
        read = data.__getitem__ if index is None else lambda name: data[name].reset_index(drop=True)
        table = _table(names, len(data), read, index)
    elif isinstance(data, Mapping):
        table = _read_mapping(data, what)
    else:
        table = _read_narwhals(data, what)
    if table.n_rows == 0:
        raise DataError(f"{what} has no rows.")
    return table


def _table(names: Sequence[str], n_rows: int, read: Callable[[str], Series], labels: Any = None) -> Table:
    """The table of columns that are read when they are needed, once."""
    read = cache(read)
    return Table(tuple(names), n_rows, read, cache(lambda name: _as_factor(read(name), name)), labels)


def complete_frame(table: Table, needed: Sequence[str], rows: np.ndarray) -> Frame:
    """Return the given rows of the needed columns, clean; the rows must have nothing missing."""
    whole = len(rows) == table.n_rows

    def column(name: str) -> Column:
        factor = table.factor(name)
        if factor is not None:
            return _used(factor, factor.codes if whole else factor.codes[rows])
        series = table.read(name)
        return _clean(series if whole else series.iloc[rows].reset_index(drop=True), name)

    return Frame({name: column(name) for name in needed}, table, rows)


def _is_positions(index: Any) -> bool:
    import pandas as pd

    return isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1


def _read_mapping(data: Mapping[str, Any], what: str) -> Table:
    lengths = {name: _length(values) for name, values in data.items() if isinstance(name, str)}
    first = next(((name, length) for name, length in lengths.items() if length is not None), ("", min(len(lengths), 1)))
    for name, length in lengths.items():
        if length not in (None, first[1]):
            raise DataError(
                f"The columns of {what} differ in length: {first[0]!r} has {first[1]} rows, {name!r} has {length}."
            )

    def read(name: str) -> Series:
        values = data[name]
        return as_series([values] * first[1] if lengths[name] is None else values, f"Column {name!r}")

    return _table(tuple(lengths), int(first[1] or 0), read)


def _length(values: Any) -> int | None:
    """Return the number of rows of one entry of a dict; None for a scalar, which stands for every row."""
    if isinstance(values, str) or values is None:
        return None
    return len(values) if hasattr(values, "__len__") and getattr(values, "ndim", 1) != 0 else None


def as_series(values: Any, name: str) -> Series:
    """Return one column, given as an array, a list or a series of any kind, as a pandas Series.

    Raises DataError unless it has one dimension; `name` is how the message calls it.
    """
    import narwhals as nw
    import pandas as pd

    if isinstance(values, pd.Series):
        return values.reset_index(drop=True)
    if isinstance(values, (pd.api.extensions.ExtensionArray, pd.Index, list, tuple, range)):
        series = pd.Series(values)
    else:
        column = nw.from_native(values, series_only=True, pass_through=True)
        if isinstance(column, nw.Series):
            return _from_narwhals(column)
        array = np.asarray(values)
        if array.ndim != 1:
            raise DataError(f"{name} has the shape {array.shape}, but must be one column: give its columns one by one.")
        series = pd.Series(array)
    return series.reset_index(drop=True)


def _read_narwhals(data: Any, what: str) -> Table:
    import narwhals as nw

    frame = nw.from_native(data, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    if not isinstance(frame, nw.DataFrame):
        raise ArgumentError(
            f"{what} must be a pandas, polars or other data frame that narwhals reads, or a dict of arrays, "
            f"but it is of type {type(data).__name__!r}."
        )
    eager = frame
    return _table(eager.columns, len(eager), lambda name: _from_narwhals(eager[name]))


def _from_narwhals(column: Any) -> Series:
    """Return a narwhals Series as a pandas one, without needing pyarrow."""
    import narwhals as nw
    import pandas as pd

    if column.dtype == nw.Enum:
        return pd.Series(pd.Categorical(column.to_list(), categories=list(column.dtype.categories)))
    if column.dtype == nw.Categorical or column.dtype == nw.String:
        return pd.Series(column.to_list(), dtype=object)
    return pd.Series(column.to_numpy())


def _numbers(series: Series) -> np.ndarray | None:
    """The values of a column of NumPy's own real numbers or booleans; None for any other."""
    dtype = series.dtype
    return series.to_numpy() if isinstance(dtype, np.dtype) and dtype.kind in "biuf" else None


def _as_factor(series: Series, name: str) -> Factor | None:
    """A column of text or categories, the code -1 where it is missing; None for any other."""
    import pandas as pd

    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return Factor(np.asarray(series.cat.codes), tuple(series.cat.categories.tolist()), declared=True)
    if not pd.api.types.is_string_dtype(dtype) or pd.api.types.infer_dtype(series, skipna=True) in _NUMBERS:
        return None
    try:
        return factorized(series.to_numpy(object))
    except TypeError as error:
        raise DataError(f"Column {name!r} holds neither numbers nor text: {error}.") from error


def factorized(values: np.ndarray) -> Factor:
    """The factor whose levels are the values that occur, sorted where they can be."""
    import pandas as pd

    try:
        codes, levels = pd.factorize(values, sort=True)
    except TypeError:  # values that cannot be compared
        codes, levels = pd.factorize(values, sort=False)
    return Factor(codes, tuple(levels.tolist()))


def _used(factor: Factor, codes: np.ndarray) -> Factor:
    """The factor of these codes, without the levels that do not occur."""
    levels = factor.levels
    occurs = np.bincount(codes, minlength=len(levels)) > 0
    if not occurs.all():
        codes = (np.cumsum(occurs) - 1)[codes]
        levels = tuple(level for level, there in zip(levels, occurs, strict=True) if there)
    return replace(factor, codes=codes, levels=levels)


def _clean(series: Series, name: str) -> Column:
    """Return a column without missing entries and not a factor in one of the few types that the formulas work with."""
    import pandas as pd

    dtype = series.dtype
    kind = pd.api.types.infer_dtype(series) if pd.api.types.is_object_dtype(dtype) else ""
    if pd.api.types.is_bool_dtype(dtype) or kind == "boolean":
        return series.to_numpy(bool)
    if pd.api.types.is_complex_dtype(dtype) or kind == "complex":
        raise DataError(f"Column {name!r} holds complex numbers: give its real and imaginary parts as columns.")
    if pd.api.types.is_unsigned_integer_dtype(dtype) and series.max() > np.iinfo(np.int64).max:
        return series.to_numpy(np.float64)
    if pd.api.types.is_integer_dtype(dtype) or kind == "integer":
        return series.to_numpy(np.int64)  # small and unsigned integers would wrap around in `n - k` or `x**2`
    if pd.api.types.is_numeric_dtype(dtype) or kind in ("floating", "mixed-integer-float", "decimal"):
        return series.to_numpy(np.float64)
    return series
