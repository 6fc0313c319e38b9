"""Parameters that are held at a value or tied together, as an affine map ``flat + M x`` with M of zeros and ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
        fixed: by name, ``True`` to hold the parameter where it starts, a value to hold it there (entries that are NaN
            stay free), the name of another parameter of the same shape to share its values, or :func:`tied` labels.

    Raises:
        ArgumentError: an unknown name, a shape that differs, a parameter tied to one that is itself tied.

    >>> constrain({"a": np.zeros(2), "b": np.ones(1)}, {"b": 3.0})[0].tolist()
    [0.0, 0.0, 3.0]
    """
    fixed = dict(fixed or {})
    starts = dict(zip(values, np.cumsum([0, *(np.size(v) for v in values.values())]), strict=False))
    flat = np.concatenate([np.asarray(v, dtype=float).reshape(-1) for v in values.values()]) if values else np.zeros(0)
    leader = np.arange(len(flat))
    held = np.zeros(len(flat), dtype=bool)
    for name, rule in fixed.items():
        if name not in values:
            raise ArgumentError(f"fixed: no parameters are called {name!r}. {did_you_mean(name, values)}")
        shape = np.shape(values[name])
        own = starts[name] + np.arange(np.size(values[name]))
        if rule is True:
            held[own] = True
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
            known = np.isfinite(given)
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


def _follow(name: str, other: str, values: Mapping[str, np.ndarray], fixed: Mapping[str, Any]) -> None:
    if other not in values:
        raise ArgumentError(f"fixed[{name!r}]: no parameters are called {other!r}. {did_you_mean(other, values)}")
    if other == name or isinstance(fixed.get(other), (str, Tied)):
        raise ArgumentError(f"fixed[{name!r}]: {other!r} follows other parameters itself; tie both to the same one.")
    if np.shape(values[name]) != np.shape(values[other]):
        raise ArgumentError(
            f"fixed[{name!r}]: it has shape {np.shape(values[name])}, but {other!r} has {np.shape(values[other])}."
        )


def _numbers(name: str, rule: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        given = np.broadcast_to(np.asarray(rule, dtype=float), shape).reshape(-1)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"fixed[{name!r}] must be True, numbers of shape {shape} (NaN where free), the name of another parameter, "
            f"or gj.tied(labels), not {rule!r}."
        ) from error
    return given.copy()
