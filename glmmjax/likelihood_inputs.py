"""What a researcher hands over, as the engine takes it: start values, data, group labels, priors, weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from glmmjax._arguments import numbers
from glmmjax._errors import ArgumentError, DataError, did_you_mean
from glmmjax._frames import read_table
from glmmjax.likelihood_fit import check_callable
from glmmjax.promises import path_name


def as_data(data: Any) -> Any:
    """Data as a pytree of NumPy arrays, floating-point ones in float64; a data frame becomes a dict of its columns.

    Raises:
        ArgumentError: something in it is not numbers.
    """
    if data is None:
        return {}
    if hasattr(data, "columns") and hasattr(data, "__getitem__"):
        data = {str(name): np.asarray(data[name]) for name in data.columns}

    def convert(path: Any, x: Any) -> np.ndarray:
        array = np.asarray(x)
        if array.dtype.kind not in "fiub":
            raise ArgumentError(
                f"data: {path_name(path)} holds {array.dtype} values, not numbers. Code labels as whole numbers "
                "(pandas.factorize), or leave the column out."
            )
        return array.astype(np.float64) if array.dtype.kind == "f" else array

    return jax.tree.map_with_path(convert, data)


def as_start(what: str, tree: Any) -> Any:
    def convert(path: Any, x: Any) -> np.ndarray:
        array = numbers(f"{what}[{path_name(path)!r}]", x)
        if not np.all(np.isfinite(array)):
            raise ArgumentError(f"{what}[{path_name(path)!r}] has start values that are not finite.")
        return array

    return jax.tree.map_with_path(convert, tree)


def group_labels(
    random: Mapping[str, int], groups: Mapping[str, Any] | None, table: Mapping[str, np.ndarray], n: int
) -> dict[str, tuple[tuple[Any, ...], np.ndarray]]:
    """Per factor, its levels in order and the level of each observation."""
    if not isinstance(random, Mapping) or not all(
        isinstance(d, (int, np.integer)) and not isinstance(d, bool) and d > 0 for d in random.values()
    ):
        raise ArgumentError(
            f"random must map each grouping factor to its number of effects, as in {{'g': 1}}, not {random!r}."
        )
    out = {}
    for name in random:
        given = (groups or {}).get(name, name)
        if isinstance(given, str):
            if given not in table:
                raise DataError(f"groups[{name!r}]: no column is called {given!r}. {did_you_mean(given, table)}")
            given = table[given]
        values = np.asarray(given)
        if values.shape != (n,):
            raise DataError(f"groups[{name!r}] has shape {values.shape}, but there are {n} observations.")
        missing = values != values
        if values.dtype == object:
            missing = np.array([v is None or v != v for v in values])
        if np.any(missing):
            raise DataError(
                f"groups[{name!r}] is missing in observation {int(np.argmax(missing))}: leave such rows out."
            )
        levels, index = np.unique(values.astype(str) if values.dtype == object else values, return_inverse=True)
        out[name] = (tuple(levels.tolist()), index.reshape(-1))
    for name in groups or {}:
        if name not in random:
            raise ArgumentError(f"groups: {name!r} is no factor of random=. {did_you_mean(name, random)}")
    return out


def as_columns(data: Any) -> tuple[dict[str, np.ndarray], int]:
    """The columns of a data frame or mapping, and the number of observations."""
    if isinstance(data, Mapping):
        table = {str(name): np.asarray(x) for name, x in data.items()}
    else:
        frame = read_table(data)
        table = {name: np.asarray(frame.read(name)) for name in frame.names}
    sizes = {name: len(x) if x.ndim else None for name, x in table.items()}
    if len(set(sizes.values())) != 1 or None in sizes.values():
        listed = ", ".join(f"{name} {size or 'one number'}" for name, size in sizes.items())
        raise DataError(
            "data: the first axis of every column must count the observations; there are "
            f"{listed or 'no columns'}. Put single numbers into params= with fixed=, or repeat them."
        )
    return table, next(iter(sizes.values())) or 0


def numeric_rows(table: Mapping[str, np.ndarray], factors: set[str]) -> dict[str, np.ndarray]:
    """The columns that hold numbers; labels are left out, other kinds refused."""
    rows = {}
    for name, array in table.items():
        if array.dtype.kind in "fiub":
            rows[name] = array.astype(np.float64) if array.dtype.kind == "f" else array
        elif name not in factors and array.dtype.kind not in "OUST":
            raise ArgumentError(f"data: column {name!r} holds {array.dtype} values, not numbers: code them.")
    return rows


def as_priors(prior: Any, factors: Sequence[str]) -> tuple[Callable[..., Any] | None, ...]:
    if callable(prior):
        check_callable("prior", prior)
    if prior is None or callable(prior):
        return (prior,) * len(factors)
    if not isinstance(prior, Mapping):
        raise ArgumentError("prior must be a function, or map grouping factors to functions.")
    for name, function in prior.items():
        if name not in factors:
            raise ArgumentError(f"prior: {name!r} is no factor of random=. {did_you_mean(name, factors)}")
        check_callable(f"prior[{name!r}]", function)
    return tuple(prior.get(name) for name in factors)


def as_weights(weights: Any, table: Mapping[str, np.ndarray], n: int) -> np.ndarray:
    if weights is None:
        return np.ones(n)
    if isinstance(weights, str):
        if weights not in table:
            raise DataError(f"weights: no column is called {weights!r}. {did_you_mean(weights, table)}")
        weights = table[weights]
    w = numbers("weights", weights, flags=True)
    if w.shape != (n,) or not np.all(np.isfinite(w)) or np.any(w < 0):
        raise DataError(f"weights must be {n} numbers of at least 0, one per observation.")
    return w
