"""Arguments that must be of a kind: a flag, a whole number, plain numbers. What only looks like one is refused.

``bool("False")`` is true, ``float(True)`` is 1, and a cast to float drops what is imaginary: none of it is meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from glmmjax._errors import ArgumentError


def check_flags(who: str, **flags: Any) -> None:
    """Raise ArgumentError for a flag that is neither True nor False.

    >>> check_flags("glmm", reml=True)
    """
    for name, value in flags.items():
        if not isinstance(value, (bool, np.bool_)):
            raise ArgumentError(f"{who}: {name} must be True or False, not {value!r}.")


def by_name(what: str, value: Any) -> dict[str, Any]:
    """An argument that maps names to values, as a dict; empty for None.

    Raises:
        ArgumentError: it is no mapping.

    >>> by_name("start", {"theta": [0.0]})
    {'theta': [0.0]}
    """
    if value is not None and not isinstance(value, Mapping):
        raise ArgumentError(f"{what} must map names to values, not {value!r}.")
    return dict(value or {})


def whole(what: str, value: Any, least: int = 1) -> int:
    """The whole number that an argument is.

    Raises:
        ArgumentError: it is none, or too small.

    >>> whole("n", 3)
    3
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < least:
        raise ArgumentError(f"{what} must be a whole number of at least {least}, not {value!r}.")
    return int(value)


def numbers(what: str, value: Any, flags: bool = False) -> np.ndarray:
    """An argument as float64, in its own shape; NaN and infinity are numbers here.

    Args:
        flags: whether True and False may stand for one and zero.

    Raises:
        ArgumentError: it holds text, complex numbers, flags, or nothing that is a number.

    >>> numbers("start", [1, 2.5]).tolist()
    [1.0, 2.5]
    """
    try:
        array = np.asarray(value)
        inside = array.reshape(-1).tolist() if array.dtype == object else []
        mixed = np.any([isinstance(x, (bool, np.bool_)) for x in _flat(value)]) if array.dtype.kind in "fiu" else False
        if (array.dtype.kind not in ("fiub" if flags else "fiu") and not inside) or (mixed and not flags):
            raise TypeError(f"it holds {_kind(array) if not mixed else 'True or False'}")
        for x in inside:
            if x is None or isinstance(x, (str, bytes, complex, np.complexfloating, bool, np.bool_)):
                raise TypeError(f"it holds {x!r}")
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{what} must be numbers, not {value!r}: {error}.") from error


def _flat(value: Any) -> list[Any]:
    """The entries of a list or tuple, which an array no longer tells apart."""
    return [x for item in value for x in _flat(item)] if isinstance(value, (list, tuple)) else [value]


def _kind(array: np.ndarray) -> str:
    names = {"b": "True or False", "c": "complex numbers", "U": "text", "S": "text", "M": "dates", "m": "durations"}
    return names.get(array.dtype.kind, f"values of the type {array.dtype}")


def generator(who: str, seed: Any) -> np.random.Generator:
    """The random numbers of a seed: a whole number, None, or a NumPy ``Generator``.

    Raises:
        ArgumentError: it is none of these.
    """
    try:
        if isinstance(seed, (bool, np.bool_)):
            raise TypeError("a boolean is no seed")
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"{who}: seed must be a whole number of at least 0, None or a numpy Generator, not {seed!r}."
        ) from error
