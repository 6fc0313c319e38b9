"""How formulaic computed a model matrix, kept so that the next one like it is a few products of columns.

formulaic decides what a formula means: which factors are coded in full, with which contrasts, in which order. That
depends on the formula, the types of the columns and the levels of the factors alone, and takes milliseconds each time.
So a matrix is learned when formulaic has made it, as columns of numbers and matrices of contrasts and the products that
are its columns, and checked against it. What cannot be learned (splines, centering, functions of the user's own) is
left to formulaic, always.
"""

from __future__ import annotations

import itertools
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from glmmjax._arithmetic import arithmetic
from glmmjax._frames import Factor, Frame

_NAME = r"[^\W\d]\w*"
_FACTOR = re.compile(rf"(?:C\()?({_NAME})(?:, *contr\.\w+)?\)?")


@dataclass(frozen=True, eq=False)
class _Coded:
    """A factor: its column, its levels, and the values of each level, (levels, k)."""

    column: str
    levels: tuple[Any, ...]
    contrasts: np.ndarray


Piece: TypeAlias = "_Coded | str"  # a factor, or an expression of numbers
Product: TypeAlias = "tuple[tuple[int, int], ...]"  # pieces and their columns; empty for the intercept


@dataclass(frozen=True, eq=False)
class Recipe:
    """A model matrix as products of columns of pieces."""

    pieces: tuple[Piece, ...]
    products: tuple[Product, ...]

    def matrix(self, frame: Frame) -> np.ndarray | None:
        """Return the (n, p) matrix for the columns of a frame; None for a factor with other levels."""
        values = []
        for piece in self.pieces:
            found = _values(piece, frame)
            if found is None:
                return None
            values.append(found)
        out = np.ones((frame.n_rows, len(self.products)))
        for j, product in enumerate(self.products):
            for position, (place, column) in enumerate(product):
                own = values[place][:, column]
                out[:, j] = own if position == 0 else out[:, j] * own
        return out


def learn(spec: Any, frame: Frame, matrix: np.ndarray) -> Recipe | None:
    """Return the recipe of the matrix that formulaic made with this ModelSpec; None where it is not such products."""
    places: dict[tuple[str, bool], int] = {}
    pieces: list[Piece] = []
    products: list[Product] = []
    if spec.transform_state:
        return None
    for scoped in (scoped for row in spec.structure for scoped in row.scoped_terms):
        if scoped.scale != 1:
            return None
        columns = []
        for factor in scoped.factors:
            key = (factor.factor.expr, bool(factor.reduced))
            if key not in places:
                piece = _piece(*key, spec, frame)
                if piece is None:
                    return None
                places[key] = len(pieces)
                pieces.append(piece)
            piece = pieces[places[key]]
            width = piece.contrasts.shape[1] if isinstance(piece, _Coded) else 1
            columns.append([(places[key], k) for k in range(width)])
        # the columns of the first factor vary fastest
        products += [choice[::-1] for choice in itertools.product(*reversed(columns))]
    recipe = Recipe(tuple(pieces), tuple(products))
    again = recipe.matrix(frame)
    same = again is not None and again.shape == matrix.shape and np.array_equal(again, matrix)
    return recipe if same else None


MAX_KEPT = 64
_kept: OrderedDict[Any, tuple[Recipe, Any]] = OrderedDict()


def keep(key: Any, recipe: Recipe | None, coding: Any) -> None:
    """Keep a recipe, and what else is known of the matrix, under the formula and the types of its columns."""
    if recipe is not None:
        _kept[key] = (recipe, coding)
        if len(_kept) > MAX_KEPT:
            _kept.popitem(last=False)


def recall(key: Any, frame: Frame) -> tuple[np.ndarray, Any] | None:
    """Return the matrix by the recipe of that key, and what was kept with it; None without one for these levels."""
    if key not in _kept:
        return None
    recipe, coding = _kept[key]
    matrix = recipe.matrix(frame)
    if matrix is None:
        return None
    _kept.move_to_end(key)
    return matrix, coding


def signature(columns: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return what a recipe depends on beside the formula and the levels: the types of the columns."""
    return tuple(sorted((name, "factor" if isinstance(c, Factor) else c.dtype.kind) for name, c in columns.items()))


def _piece(expression: str, reduced: bool, spec: Any, frame: Frame) -> Piece | None:
    state = spec.encoder_state[expression][1]
    if "categories" not in state:
        return expression if arithmetic(expression, frame.columns) is not None else None
    named = _FACTOR.fullmatch(expression)
    if named is None or named[1] not in frame.columns:
        return None
    levels = frame.factor(named[1]).levels
    if tuple(state["categories"]) != levels:
        return None
    contrasts = state["contrasts"].contrasts.get_coding_matrix(list(levels), reduced_rank=reduced)
    return _Coded(named[1], levels, np.asarray(contrasts, dtype=float))


def _values(piece: Piece, frame: Frame) -> np.ndarray | None:
    if isinstance(piece, str):
        numbers = arithmetic(piece, frame.columns)
        return None if numbers is None else numbers[:, None]
    factor = frame.factor(piece.column)
    return piece.contrasts[factor.codes] if factor.levels == piece.levels else None
