"""Many fits wherever a function can be sent: a picklable task from a chunk to a data frame, and the chunks."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from glmmjax._errors import ArgumentError, did_you_mean
from glmmjax.batch.batches import NothingToFit
from glmmjax.batch.data_sets import split
from glmmjax.batch.fitting import fit_many
from glmmjax.batch.responses import as_matrix, checked_keys

if TYPE_CHECKING:
    import pandas as pd

    from glmmjax.batch.many import Many

TABLES = ("tidy", "glance")
NOT_OF_A_TASK = ("by", "keys", "progress", "checkpoint", "executor", "devices")
GLANCE = ("nobs", "df", "llf", "aic", "sigma", "iterations", "converged")  # without the standard deviations
TIDY = ("term", "estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high")
OPTIONS = tuple(name for name in inspect.signature(fit_many).parameters if name not in NOT_OF_A_TASK)[4:]


class Chunk(NamedTuple):
    """Some responses (n, fits) without names of their own, and the keys of the fits."""

    keys: tuple[Any, ...]
    responses: Any


@dataclass(frozen=True, init=False, eq=False)
class ManyTask:
    """A call of :func:`glmmjax.fit_many` without its responses: a picklable function from a chunk to a data frame.

    ``pd.concat(executor.map(task, chunks(Y, 500)))`` is the table of all fits, for any ``map``: that of
    ``concurrent.futures``, joblib, Dask or Ray. For Spark it is ``frame.mapInPandas(lambda frames: map(task, frames),
    schema)``, where every frame must hold its data sets whole. Nothing is shared between chunks: the fits are those of
    ``fit_many(executor=)`` up to the tolerance of the iteration, 1e-5 standard errors. Every process compiles a program
    of its own, and one more for chunks of another size: :func:`glmmjax.enable_compilation_cache` in each spares that.

    A chunk is a data frame whose columns name the fits, a :class:`Chunk` of keys and an array or a SciPy sparse matrix,
    or an array alone, whose fits are numbered from 0 within the chunk. With ``by=`` it is a data frame of rows.

    Args:
        formula, data, family: as in :func:`glmmjax.fit_many`; no data with ``by``.
        by: the column, or columns, whose every value is a data set of its own.
        table: "tidy", a row per fit and term, or "glance", a row per fit.
        options: the other arguments of :func:`glmmjax.fit_many`.

    Raises:
        ArgumentError: an argument is unknown, or belongs to the parent process.

    >>> from glmmjax import ManyTask, chunks, datasets
    >>> data = datasets.load("salamanders")
    >>> Y = np.random.default_rng(1).poisson(2.0, size=(len(data), 4))
    >>> task = ManyTask("~ mined", data, "poisson")
    >>> [table["key"].tolist() for table in map(task, chunks(Y, 2))]
    [[0, 0, 1, 1], [2, 2, 3, 3]]
    """

    formula: str
    data: Any
    family: Any
    by: tuple[str, ...]
    table: str
    options: Mapping[str, Any]

    def __init__(
        self,
        formula: str,
        data: Any = None,
        family: Any = "gaussian",
        *,
        by: str | Sequence[str] | None = None,
        table: str = "tidy",
        **options: Any,
    ) -> None:
        for name in options:
            if name in NOT_OF_A_TASK:
                raise ArgumentError(f"ManyTask: {name}= belongs to the process that hands out the chunks.")
            if name not in OPTIONS:
                raise ArgumentError(f"ManyTask has no argument {name!r}. {did_you_mean(name, OPTIONS)}")
        if table not in TABLES:
            raise ArgumentError(f"ManyTask: unknown table={table!r}. {did_you_mean(table, TABLES)}")
        if (data is None) == (by is None):
            raise ArgumentError("ManyTask: give either data=, to which each chunk has responses, or by=.")
        columns = () if by is None else (by,) if isinstance(by, str) else tuple(by)
        values = {"formula": formula, "data": data, "family": family, "by": columns, "table": table, "options": options}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __call__(self, chunk: Any) -> pd.DataFrame:
        """The table of the fits of a chunk: their keys in the first column, or in those of ``by``; last their status.

        p-values are not adjusted, which takes those of all chunks: see :func:`glmmjax.batch.adjust`.

        Raises:
            FormulaError, DataError, FamilyError, ArgumentError: the model, or the chunk, cannot be read.
        """
        by = list(self.by) or None
        try:
            if isinstance(chunk, Chunk):
                many = self._fit(data=self.data, responses=chunk.responses, keys=chunk.keys)
            elif by is None:
                many = self._fit(data=self.data, responses=chunk)
            else:
                many = self._fit(data=chunk, by=by)
        except NothingToFit as error:
            return self._failed(error.problems)
        return self._table(many)

    def _fit(self, **given: Any) -> Many:
        return fit_many(self.formula, family=self.family, **given, **self.options)

    def _table(self, many: Many) -> pd.DataFrame:
        if self.table == "glance":
            return self._keyed(many.glance().reset_index())
        tidy = many.tidy().drop(columns="p_adjusted")
        return self._keyed(tidy.assign(status=np.repeat(many.verdicts.status, len(many.effect_names))))

    def _failed(self, problems: Mapping[Any, str]) -> pd.DataFrame:
        """A row with the keys and the status of data sets none of which can be fitted."""
        import pandas as pd

        keys = np.empty(len(problems), dtype=object)
        keys[:] = list(problems)
        columns = pd.DataFrame({"key": keys}).reindex(columns=["key", *(TIDY if self.table == "tidy" else GLANCE)])
        return self._keyed(columns.assign(status=[f"not fitted: {reason}" for reason in problems.values()]))

    def _keyed(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with a column for each of ``by`` instead of one for the key."""
        if not self.by:
            return table
        keys = table.pop("key").tolist()
        for i, name in enumerate(self.by):
            table.insert(i, name, [key[i] if len(self.by) > 1 else key for key in keys])
        return table


def chunks(
    given: Any, size: int, *, by: str | Sequence[str] | None = None, keys: Sequence[Any] | None = None
) -> Iterator[Any]:
    """Responses, or the rows of whole data sets, in chunks for a :class:`ManyTask`; the last may be smaller.

    Args:
        given: responses as in :func:`glmmjax.fit_many`; with ``by`` a data frame of rows.
        size: the number of fits in a chunk.
        by: the column, or columns, whose every value is a data set of its own.
        keys: names of the responses; default the columns' names, or 0 to m - 1.

    Raises:
        ArgumentError: size is not a positive whole number, keys do not match the responses.
        DataError: responses that are not numbers, an unknown column.

    >>> from glmmjax import chunks
    >>> [(chunk.keys, chunk.responses.shape) for chunk in chunks(np.ones((9, 3)), 2, keys=["a", "b", "c"])]
    [(('a', 'b'), (9, 2)), (('c',), (9, 1))]
    """
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
        raise ArgumentError(f"chunks: size must be a whole number of at least 1, not {size!r}.")
    if by is None:
        return _response_chunks(given, int(size), keys)
    if keys is not None:
        raise ArgumentError("chunks: with by= the keys are the values of that column: leave out keys=.")
    return _row_chunks(given, int(size), [by] if isinstance(by, str) else list(by))


def _response_chunks(responses: Any, size: int, keys: Sequence[Any] | None) -> Iterator[Chunk]:
    matrix, names = as_matrix(responses)
    named = checked_keys(names if keys is None else keys, matrix.shape[1])
    return (Chunk(named[i : i + size], matrix[:, i : i + size]) for i in range(0, len(named), size))


def _row_chunks(data: Any, size: int, by: list[str]) -> Iterator[pd.DataFrame]:
    frame, groups = split(data, by)
    for i in range(0, len(groups), size):
        yield frame.iloc[np.concatenate([rows for _, rows in groups[i : i + size]])]
