"""Expressions of columns that are plain arithmetic, worked out in NumPy: formulaic takes milliseconds for them."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import lru_cache
from types import CodeType
from typing import Any

import numpy as np

_NODES = (ast.Expression, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.UnaryOp, ast.USub, ast.UAdd)
_LEAVES = (ast.Name, ast.Load, ast.Constant)
_FUNCTIONS = {name: getattr(np, name) for name in ("log", "log2", "log10", "log1p", "exp", "expm1", "sqrt")}
_NAMES = {"__builtins__": {}, "I": lambda x: x, **_FUNCTIONS}


def arithmetic(text: str, columns: Mapping[str, Any]) -> np.ndarray | None:
    """Return the (n,) values of an expression of columns of numbers; None where it is more than that.

    It may hold names, numbers, ``+ - * / **``, parentheses, ``I()`` and the functions that work entry by entry.

    >>> arithmetic("I(x ** 2) / 2", {"x": np.array([1.0, 2.0])})
    array([0.5, 2. ])
    """
    parsed = _parsed(text.strip())
    if parsed is None:
        return None
    code, names = parsed
    values = {name: columns.get(name) for name in names}
    if not all(isinstance(column, np.ndarray) and column.dtype.kind in "if" for column in values.values()):
        return None
    with np.errstate(all="ignore"):
        try:
            return np.asarray(eval(code, _NAMES, values))
        except (ArithmeticError, ValueError, TypeError):
            return None  # formulaic says what is wrong


@lru_cache(maxsize=256)
def _parsed(text: str) -> tuple[CodeType, frozenset[str]] | None:
    """The code of an expression and the columns it names, at least one; None where it is more than arithmetic."""
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return None
    names, called = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            plain = isinstance(node.func, ast.Name) and node.func.id in _NAMES
            if not plain or node.keywords or len(node.args) != 1:
                return None
            called.add(id(node.func))
        elif isinstance(node, ast.Name) and id(node) not in called:
            names.add(node.id)
        elif not isinstance(node, _NODES + _LEAVES):
            return None
    return (compile(tree, "<formula>", "eval"), frozenset(names)) if names else None
