"""The classic small data sets of the mixed-model literature, each with its published source.

>>> from glmmjax import datasets
>>> datasets.load("dyestuff").shape
(30, 2)
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from textwrap import fill
from typing import TYPE_CHECKING, Any

from glmmjax._errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["describe", "load", "names", "source"]


def names() -> tuple[str, ...]:
    """The names of the bundled data sets, in alphabetical order.

    >>> "sleepstudy" in names()
    True
    """
    return tuple(sorted(_catalogue()))


def load(name: str) -> pd.DataFrame:
    """A fresh data frame of the bundled data set `name`; labels are strings, measurements numbers.

    Raises DataError for a name that is not bundled. `describe(name)` explains the columns.

    >>> list(load("dyestuff").columns)
    ['Batch', 'Yield']
    """
    import pandas as pd

    entry = _entry(name)
    with (files(__name__) / f"{name}.csv").open("r", encoding="utf-8") as file:
        return pd.read_csv(file, dtype={column: str for column in entry["text"]})


def source(name: str) -> str:
    """The publication in which the data set `name` first appeared.

    >>> source("wine").startswith("Randall (1989)")
    True
    """
    return str(_entry(name)["source"]).strip()


def describe(name: str) -> str:
    """A text on the data set `name`: its title, its source, and the meaning and unit of every column.

    >>> print(describe("dyestuff").splitlines()[0])
    dyestuff: Yield of dyestuff from six batches of an intermediate product
    """
    entry = _entry(name)
    width = max(map(len, entry["columns"]))
    columns = "\n".join(f"  {column:<{width}}  {meaning}" for column, meaning in entry["columns"].items())
    origin = fill(f"Source: {source(name)}", width=100)
    return f"{name}: {entry['title']}\n\n{origin}\n\nColumns:\n{columns}"


def _entry(name: str) -> dict[str, Any]:
    catalogue = _catalogue()
    if name not in catalogue:
        raise DataError(f"There is no bundled data set {name!r}. {did_you_mean(name, catalogue)}")
    return catalogue[name]


@cache
def _catalogue() -> dict[str, dict[str, Any]]:
    return tomllib.loads((files(__name__) / "catalogue.toml").read_text(encoding="utf-8"))
