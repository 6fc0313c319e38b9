"""Parameters that are held at a value or tied together, as an affine map ``flat + M x`` with M of zeros and ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmmjax._arguments import by_name, numbers
from glmmjax._errors import ArgumentError, did_you_mean


@dataclass(frozen=True)
class Tied:
    """Entries of one parameter that share a value: those with equal labels; an entry labeled None stays free.

    >>> Tied([0, 0, 1]).labels
    (0, 0, 1)
    """

    labels: tuple[Any, ...]

    def __init__(self, labels: Sequence[Any]) -> None:
        object.__setattr__(self, "labels", tuple(np.asarray(labels, dtype=object).reshape(-1).tolist()))


def tied(labels: Sequence[Any]) -> Tied:
    """The value of ``fixed[name]`` that ties the entries with equal labels together, as ``factor()`` does in TMB's map.

    >>> tied(["a", "a", None]).labels
    ('a', 'a', None)
    """
    return Tied(labels)


def constrain(values: Mapping[str, np.ndarray], fixed: Mapping[str, Any] | None) -> tuple[np.ndarray, np.ndarray]:
    """The flat start values (k,) and the directions M (k, r) in which they may move.

    Args:
        values: the start value of each parameter, in flat order.
        fixed: by name, ``True`` to hold the parameter where it starts, True and False in its shape to hold some of its
            entries there, a value to hold it there (entries that are NaN stay free), the name of another parameter of
            the same shape to share its values, or :func:`tied` labels. ``False`` and ``None`` leave it free.

    Raises:
        ArgumentError: an unknown name, a shape that differs, a parameter tied to one that is itself tied, a value that
            is infinite.

    >>> constrain({"a": np.zeros(2), "b": np.ones(1)}, {"b": 3.0})[0].tolist()
    [0.0, 0.0, 3.0]
    """
    fixed = by_name("fixed", fixed)
    starts = dict(zip(values, np.cumsum([0, *(np.size(v) for v in values.values())]), strict=False))
    flat = np.concatenate([np.asarray(v, dtype=float).reshape(-1) for v in values.values()]) if values else np.zeros(0)
    leader = np.arange(len(flat))
    held = np.zeros(len(flat), dtype=bool)
    for name, rule in fixed.items():
        if name not in values:
            raise ArgumentError(f"fixed: no parameters are called {name!r}. {did_you_mean(name, values)}")
        shape = np.shape(values[name])
        own = starts[name] + np.arange(np.size(values[name]))
        mask = _mask(name, rule, shape)
        if mask is not None:
            held[own[mask]] = True
        elif isinstance(rule, str):
            _follow(name, rule, values, fixed)
            leader[own] = starts[rule] + np.arange(len(own))
            flat[own] = flat[leader[own]]
        elif isinstance(rule, Tied):
            if len(rule.labels) != len(own):
                raise ArgumentError(f"fixed[{name!r}]: {len(rule.labels)} labels for {len(own)} values.")
            first: dict[Any, int] = {}
            for position, label in zip(own, rule.labels, strict=True):
                if label is not None:
                    leader[position] = first.setdefault(label, position)
            flat[own] = flat[leader[own]]
        else:
            given = _numbers(name, rule, shape)
            known = ~np.isnan(given)
            flat[own[known]] = given[known]
            held[own[known]] = True
    # a parameter that follows a held one is held at the same value
    held |= held[leader]
    flat = np.where(leader == np.arange(len(flat)), flat, flat[leader])
    free = np.flatnonzero((leader == np.arange(len(flat))) & ~held)
    M = np.zeros((len(flat), len(free)))
    for j, position in enumerate(free):
        M[(leader == position) & ~held, j] = 1.0
    return flat, M


def n_free(directions: np.ndarray) -> np.ndarray:
    """How many parameters are estimated, for directions (..., k, r): those that do anything.

    They are independent as they are made; a numerical rank would not see that of columns in units far apart.

    >>> int(n_free(np.array([[1.0, 0.0], [1e9, 0.0]])))
    1
    """
    return np.sum(np.any(directions != 0.0, axis=-2), axis=-1)


def _follow(name: str, other: str, values: Mapping[str, np.ndarray], fixed: Mapping[str, Any]) -> None:
    if other not in values:
        raise ArgumentError(f"fixed[{name!r}]: no parameters are called {other!r}. {did_you_mean(other, values)}")
    if other == name or isinstance(fixed.get(other), (str, Tied)):
        raise ArgumentError(f"fixed[{name!r}]: {other!r} follows other parameters itself; tie both to the same one.")
    if np.shape(values[name]) != np.shape(values[other]):
        raise ArgumentError(
            f"fixed[{name!r}]: it has shape {np.shape(values[name])}, but {other!r} has {np.shape(values[other])}."
        )


def _mask(name: str, rule: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Which entries are held where they start, (size,) bool, if that is what a rule says."""
    if rule is None:
        return np.zeros(int(np.prod(shape, dtype=int)), dtype=bool)
    if isinstance(rule, (str, Tied)):
        return None
    array = np.asarray(rule, dtype=object)
    if not array.size or not all(isinstance(x, (bool, np.bool_)) for x in array.reshape(-1)):
        return None
    if array.shape not in ((), shape):
        raise ArgumentError(f"fixed[{name!r}]: True and False must come in the shape {shape}, not {array.shape}.")
    return np.broadcast_to(array.astype(bool), shape).reshape(-1)


def _numbers(name: str, rule: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        given = np.broadcast_to(numbers(f"fixed[{name!r}]", rule), shape).reshape(-1)
    except (ArgumentError, ValueError) as error:
        raise ArgumentError(
            f"fixed[{name!r}] must be True, True and False or numbers in the shape {shape} (NaN where free), the name "
            f"of another parameter, or gj.tied(labels), not {rule!r}."
        ) from error
    if np.any(np.isinf(given)):
        raise ArgumentError(
            f"fixed[{name!r}]: a parameter is held at a finite number, not at {given[np.isinf(given)][0]}. At infinity "
            "it is a model without it: for a log standard deviation of -inf leave the term out of the formula, for an "
            "infinite size of nbinom2 take the family poisson, for no extra zeros ziformula='~ 0'."
        )
    return given.copy()
