"""Pieces of formula turned into matrices by formulaic, and the same coding applied to new data.

Three things are decided here rather than in formulaic: boolean columns are factors, `contrasts=` rewrites a column `a`
as `C(a, contr.sum)` while its name stays `a`, and `^` is a power everywhere, as it is in R.
"""

from __future__ import annotations

import builtins
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import numpy as np

from glmmjax._arithmetic import arithmetic
from glmmjax._errors import ArgumentError, DataError, FormulaError, did_you_mean
from glmmjax._frames import Factor, Frame, Table
from glmmjax._recipes import keep, learn, recall, signature
from glmmjax._tokens import tokenize, words

INTERCEPT = "(Intercept)"

CONTRASTS = {
    "treatment": "contr.treatment",
    "sum": "contr.sum",
    "helmert": "contr.helmert",
    "poly": "contr.poly",
    "sas": "contr.SAS",
    "diff": "contr.diff",
}

_FUNCTIONS = (
    "sqrt",
    "log1p",
    "expm1",
    "sin",
    "cos",
    "tan",
    "floor",
    "ceil",
    "sign",
)  # beside formulaic's log, exp, ...
_TYPES = ("bool", "float", "int", "str")  # as in x.astype(float)
_NAME = r"`[^`]+`|[^\W\d][\w.]*"


@dataclass(frozen=True, eq=False)
class Scope:
    """What the names in a formula may mean beside columns: contrasts by column, and the user's functions and values."""

    contrasts: Mapping[str, Any] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Return the names that formulaic gets beside its own: common functions, then the user's."""
        from formulaic.transforms import TRANSFORMS

        functions = {name: getattr(np, name) for name in _FUNCTIONS}
        objects = {_contrast_name(column): c for column, c in self.contrasts.items() if not isinstance(c, str)}
        return functions | {"factor": TRANSFORMS["C"]} | objects | dict(self.context)


@dataclass(frozen=True, eq=False)
class Coding:
    """How a piece of formula was coded: enough to code new data alike. Picklable, without the data."""

    spec: Any  # formulaic's ModelSpec: levels, contrasts, knots and centers travel in it; None for the intercept alone
    columns: tuple[str, ...]
    levels: Mapping[str, tuple[Any, ...]]  # the levels of each factor column
    uses: tuple[str, ...]  # the columns of the data
    where: str  # how messages call it: "the formula 'y ~ x'"


def used_columns(text: str, table: Table, scope: Scope, where: str, *, expression: bool = False) -> tuple[str, ...]:
    """Return the columns of the data that a piece of formula uses.

    `expression=True` reads all of it as Python, as inside `I()`. Raises DataError for a name that is neither a column
    nor known otherwise, with the nearest spelling.
    """
    from formulaic.transforms import TRANSFORMS

    known = TRANSFORMS.keys() | scope.values().keys()
    functions = known | vars(builtins).keys()
    found: dict[str, None] = {}
    for word in words(text):
        python = word.python or word.called or expression
        root = word.name.split(".")[0] if python else word.name
        if word.name in table.names and not word.called:
            found[word.name] = None
        elif root in table.names and (root != word.name or not word.called):
            found[root] = None  # x.clip(0)
        elif word.called and root not in functions:
            near = [f" Did you mean {name!r}?" for name in get_close_matches(root, known, n=1)]
            raise DataError(
                f"Unknown function {word.name!r} in {where}.{''.join(near)} Write C(x) for a factor and np.abs(x) for "
                "functions of NumPy; give your own as context=, or compute the column first."
            )
        elif not word.called and not (python and (root in known or root in _TYPES)):
            raise table.unknown(word.name, where)
    for name in found:
        if table.names.count(name) > 1:
            raise DataError(
                f"The data have {table.names.count(name)} columns called {name!r}: rename or drop all but one."
            )
    return tuple(found)


def code(text: str, frame: Frame, scope: Scope, where: str) -> tuple[np.ndarray, Coding]:
    """Return the (n, p) matrix that a piece of formula such as "1 + x * f" stands for, and how it was coded.

    `where` names the piece in messages.

    Raises FormulaError where formulaic cannot read it, DataError where it cannot be computed or is not finite.
    """
    from formulaic.errors import FormulaicError

    if text.strip() == "1":
        return np.ones((frame.n_rows, 1)), Coding(None, (INTERCEPT,), {}, (), where)
    rewritten, renamed = _rewrite(text, frame, scope)
    uses = used_columns(text, frame.table, scope, where)
    key = (text, rewritten, signature({name: frame.columns[name] for name in uses}))
    # what names mean may change from call to call where the user gives them their meaning
    private = bool(scope.context) or any(not isinstance(contrast, str) for contrast in scope.contrasts.values())
    known = None if private else recall(key, frame)
    if known is not None:
        coding = replace(known[1], where=where)
        return _finite(known[0], coding, frame), coding
    try:
        formula = _parse(rewritten)
    except (FormulaicError, SyntaxError) as error:
        raise FormulaError(f"Cannot read {where}: {_first_line(error)}") from error
    matrix = _materialize(formula, frame, scope, where)
    spec = matrix.model_spec
    columns = [
        INTERCEPT if str(row.term) == "1" else _restore(name, renamed) for row in spec.structure for name in row.columns
    ]
    coding = Coding(spec, tuple(columns), _factor_levels(spec, frame), uses, where)
    values = _finite(matrix, coding, frame)
    if not private:
        keep(key, learn(spec, frame, values), coding)
    return values, coding


def recode(coding: Coding, frame: Frame, scope: Scope) -> np.ndarray:
    """Return the matrix for new data, coded as before.

    Raises DataError for a level of a factor that was not there before.
    """
    if coding.spec is None:
        return np.ones((frame.n_rows, 1))
    columns = dict(frame.columns)
    for name, (_, state) in coding.spec.encoder_state.items():
        if "categories" not in state and isinstance(columns.get(name), Factor):
            raise DataError(f"Column {name!r} holds text or categories, but numbers in the data of the fit.")
    for name, levels in coding.levels.items():
        given = frame.factor(name)
        unseen = [k for k, level in enumerate(given.levels) if level not in levels]
        if unseen:
            first = int(np.argmax(np.isin(given.codes, unseen)))
            level = _plain(given.levels[given.codes[first]])
            raise DataError(
                f"Level {level!r} of {name!r} in {frame.row(first)} was not in the data of the fit, so it "
                f"has no coefficient. Levels of the fit: {', '.join(repr(level) for level in levels)}."
            )
        column = columns[name]
        if all(isinstance(level, bool) for level in levels) and isinstance(column, np.ndarray):
            columns[name] = column.astype(bool)  # 0/1 for a column that was boolean
    return _finite(_materialize(coding.spec, replace(frame, columns=columns), scope, coding.where), coding, frame)


def read_column(name: str, frame: Frame, where: str) -> np.ndarray:
    """Return the (n,) values of a column of numbers.

    Raises DataError for a column that is not numbers or not finite.
    """
    _check_type(name, frame)
    values = np.asarray(frame.columns[name])[:, None]
    return _finite(values, Coding(None, (name,), {}, (name,), where), frame)[:, 0].copy()


@lru_cache(maxsize=256)
def _parse(text: str) -> Any:
    """formulaic's reading of a formula; it can take longer than coding the data, and is the same in every refit."""
    from formulaic import Formula

    return Formula(text)


def code_expression(text: str, frame: Frame, scope: Scope, where: str) -> tuple[np.ndarray, Coding]:
    """Return the (n,) values of a numeric expression such as "log(t)" or "k / n", and how it was computed.

    Raises DataError for an expression that is not one finite number for each row.
    """
    used = used_columns(text, frame.table, scope, where, expression=True)
    if text.strip("`") in used:
        _check_type(text.strip("`"), frame)
        if frame.table.factor(text.strip("`")) is not None:
            name = text.strip("`")
            raise DataError(f"{where} is not one number for each row: the column {name!r} holds text or categories.")
    if not used:
        raise DataError(f"{where} uses no column of the data, so it cannot give a number for each row.")
    matrix, coding = code("0 + {" + " ".join(text.split()) + "}", frame, scope, where)
    if matrix.shape[1] != 1 or coding.levels:
        raise DataError(
            f"{where} is not one number for each row: {text!r} gives {', '.join(map(repr, coding.columns))}."
        )
    return matrix[:, 0], coding


def evaluate(text: str, frame: Frame, scope: Scope, where: str) -> np.ndarray:
    """Return the (n,) values of a numeric expression, those of :func:`code_expression`, with less work where it can."""
    values = None if scope.context else arithmetic(text, frame.columns)
    if values is None:
        return code_expression(text, frame, scope, where)[0]
    used = used_columns(text, frame.table, scope, where, expression=True)
    return _finite(values[:, None], Coding(None, (text,), {}, used, where), frame)[:, 0].copy()


def check_contrasts(contrasts: Mapping[str, Any], used: Iterable[str]) -> None:
    """Raise ArgumentError for contrasts of a column that no formula uses, or of an unknown kind."""
    for column, contrast in contrasts.items():
        if column not in used:
            raise ArgumentError(f"contrasts= names {column!r}, which no formula uses. {did_you_mean(column, used)}")
        if isinstance(contrast, str) and contrast.lower() not in CONTRASTS:
            raise ArgumentError(f"Unknown contrasts {contrast!r} for {column!r}. {did_you_mean(contrast, CONTRASTS)}")


def _rewrite(text: str, frame: Frame, scope: Scope) -> tuple[str, dict[str, str]]:
    """Return the formula for formulaic, and the names of the rewritten columns by what they became."""
    pieces, renamed, position = [], {}, 0
    tokens = tokenize(text)
    dotted = {name for name in frame.columns if "." in name}
    for token, following in zip(tokens, (*tokens[1:], None), strict=True):
        new = token.text
        if token.kind == "op" and token.text == "^" and token.python:
            new = "**"
        elif token.kind == "name" and token.python and token.text in dotted:
            new = f"`{token.text}`"
        elif token.kind == "name" and not token.python and not (following and following.text == "("):
            coded = _as_factor(token.text, token.name, frame, scope) if token.name in frame.columns else None
            if coded is not None:
                new, renamed[coded] = coded, token.name
        pieces += [text[position : token.start], new]
        position = token.end
    return "".join(pieces), renamed


def _as_factor(written: str, column: str, frame: Frame, scope: Scope) -> str | None:
    """Return the call that codes a column as a factor, where formulaic would not do so or do so otherwise."""
    if column in scope.contrasts:
        contrast = scope.contrasts[column]
        return f"C({written}, {CONTRASTS[contrast.lower()] if isinstance(contrast, str) else _contrast_name(column)})"
    _check_type(column, frame)
    values = frame.columns[column]
    return f"C({written})" if isinstance(values, np.ndarray) and values.dtype.kind == "b" else None


def _check_type(column: str, frame: Frame) -> None:
    values = frame.columns[column]
    dtype = np.dtype(object) if isinstance(values, Factor) else values.dtype
    if dtype.kind not in "biufO":
        raise DataError(
            f"Column {column!r} is of type {dtype}, neither numbers nor a factor: turn it into a number first, such as "
            "the days since a date, or write C() around it for a factor."
        )


def _contrast_name(column: str) -> str:
    return "contrast_" + re.sub(r"\W", "_", column)


def _restore(name: str, renamed: Mapping[str, str]) -> str:
    for coded, column in renamed.items():
        name = name.replace(coded, column)
    return name[1:-1] if re.fullmatch("`[^`]+`", name) else name


def _factor_levels(spec: Any, frame: Frame) -> dict[str, tuple[Any, ...]]:
    """Return the levels of the columns that are coded as factors, also inside C()."""
    levels: dict[str, tuple[Any, ...]] = {}
    for expression, (_, state) in spec.encoder_state.items():
        call = re.match(rf"(?:C|factor)\(({_NAME})[,)]", expression)
        name = call[1].strip("`") if call and expression not in frame.columns else expression
        if "categories" in state and name in frame.columns:
            levels[name] = tuple(_plain(level) for level in state["categories"])
    return levels


def _plain(level: Any) -> Any:
    return level.item() if hasattr(level, "item") else level


def _materialize(source: Any, frame: Frame, scope: Scope, where: str) -> Any:
    from formulaic.errors import DataMismatchWarning

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("error", DataMismatchWarning)  # otherwise an unknown level would become zeros
        try:
            return source.get_model_matrix(frame.pandas, context=scope.values(), output="numpy", na_action="ignore")
        except Exception as error:
            raise DataError(f"Cannot compute {where}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _finite(matrix: Any, coding: Coding, frame: Frame) -> np.ndarray:
    """Return the matrix in float64; raise DataError for the first entry that is not a finite number."""
    try:
        values = np.ascontiguousarray(matrix, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"A column of {coding.where} is neither numbers nor a factor: {_first_line(error)}. "
            "Turn dates and times into numbers first."
        ) from error
    good = np.isfinite(values)
    if not good.all():
        row, column = (int(i) for i in np.argwhere(~good)[0])
        raise DataError(
            f"{coding.columns[column]!r} in {coding.where} is {values[row, column]} in {frame.row(row)}: "
            "correct or leave out such rows."
        )
    return values
