"""The response and its weights: counts of successes and trials for binomial-like families, plain numbers otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from glmmjax._coding import Scope, evaluate, read_column, used_columns
from glmmjax._errors import DataError, ResponseError
from glmmjax._frames import Column, Factor, Frame, Table
from glmmjax._tokens import split_at, text_of, tokenize

# what a response can be written as, how many expressions it holds, and which
_CALLS = {
    "cbind": ((2,), "two expressions, successes and failures, like cbind(k, n - k)"),
    "cens": ((2, 3), "a value, its censoring and for intervals their upper end, like cens(y, status, upper)"),
}
MOST_CATEGORIES = 100
CENSORING = {"none": 0, "right": 1, "left": -1, "interval": 2}
_CENSORING_CODES = {"0": 0, "1": 1, "-1": -1, "2": 2, "False": 0, "True": 1} | CENSORING


@dataclass(frozen=True, eq=False)
class Response:
    """What the family's density gets: `y` successes of `trials`, or `y` with trials one; all (n,) float64."""

    y: np.ndarray
    trials: np.ndarray
    weights: np.ndarray  # multiply the log-likelihood of each row
    levels: tuple[Any, ...] | None = None  # (failure, success) of a response that was a factor; the categories
    notes: tuple[str, ...] = ()


def nearly_whole(successes: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Where ``proportion * trials`` is a whole number up to the rounding of a proportion that was written down."""
    allowed = np.minimum(1e-6 * np.maximum(1.0, trials), 1e-3)
    return np.abs(successes - np.round(successes)) <= allowed


def whole(y: np.ndarray) -> np.ndarray:
    """The values, those that are whole numbers but for rounding as whole numbers.

    >>> whole(np.array([0.29 * 100, 0.5])).tolist()
    [29.0, 0.5]
    """
    nearest = np.round(y)
    with np.errstate(invalid="ignore"):  # infinite ones, which stay
        return np.where(np.abs(y - nearest) <= 1e-9 * np.maximum(np.abs(y), 1.0), nearest, y)


def response_parts(text: str) -> tuple[str, ...]:
    """Return the expressions of a response: one, or those inside cbind(k, n - k) or cens(y, status, upper).

    >>> response_parts("cbind(k, n - k)")
    ('k', 'n - k')
    """
    tokens = tokenize(text)
    name = tokens[0].text if len(tokens) > 2 and tokens[1].text == "(" and tokens[-1].depth == 0 else ""
    if name not in _CALLS:
        return (text,)
    parts = tuple(text_of(text, part) for part in split_at(tokens[2:-1], 1, ","))
    sizes, remedy = _CALLS[name]
    if len(parts) not in sizes or not all(parts) or any(token.depth == 0 for token in tokens[2:-1]):
        raise ResponseError(f"{text} must hold {remedy}.")
    return parts


def _is_call(text: str, name: str) -> bool:
    return len(response_parts(text)) > 1 and tokenize(text)[0].text == name


def response_columns(text: str, table: Table, scope: Scope) -> tuple[str, ...]:
    """Return the columns of the data that a response uses."""
    used = [
        used_columns(part, table, scope, f"the response {text!r}", expression=True) for part in response_parts(text)
    ]
    return tuple(dict.fromkeys(name for names in used for name in names))


def read_response(text: str, frame: Frame, scope: Scope, weights: np.ndarray | None, *, kind: str) -> Response:
    """Return the response in numbers, for a family of some kind (``Family.response``).

    For "trials" (binomial-like families) `y` counts successes: cbind(k, n - k), a two-level factor or 0/1
    (whose second level or one is a success), or proportions with the trials as weights. Whole-number weights of a 0/1
    response are trials as well, which leaves the likelihood as it is (glmmTMB from 1.1.9 on). For "categories" `y` is
    the number of the category, from 0. For "interval" `y` and `trials` are the ends of the interval that the value is
    in: equal where it was observed, infinite where it is censored.

    Raises ResponseError naming the row that cannot be, DataError for a response of the wrong type.
    """
    parts = response_parts(text)
    ones = np.ones(frame.n_rows)
    likelihood_weights = ones if weights is None else weights
    trials_allowed = kind == "trials"
    if kind == "categories" and len(parts) == 1:
        return _categories(text, frame, scope, likelihood_weights)
    if _is_call(text, "cens"):
        if kind != "interval":
            raise ResponseError(
                f"{text} is censored, which only the families 'censored_gaussian' and 'censored_lognormal' can be."
            )
        lower, upper = _intervals(text, parts, frame, scope)
        return Response(lower, upper, likelihood_weights)
    if len(parts) == 2:
        if not trials_allowed:
            raise ResponseError(
                f"{text} is counts of successes and failures, which only a binomial-like family can have."
            )
        y, trials = _successes(text, parts, frame, scope)
        return Response(y, trials, likelihood_weights)
    y, levels = _numbers(text, frame, scope, trials_allowed)
    y = whole(y) if kind in ("count", "trials") else y
    if kind == "interval":
        return Response(y, y.copy(), likelihood_weights)
    if not trials_allowed:
        return Response(y, ones, likelihood_weights)
    _require(
        (y >= 0) & (y <= 1),
        text,
        y,
        frame,
        "lies outside 0 to 1",
        "give 0/1, proportions with weights=, or cbind(k, n - k)",
    )
    if not np.all((y == 0) | (y == 1)):
        return _proportions(text, y, frame, weights)
    if weights is not None and np.all((weights >= 1) & (weights == np.round(weights))):
        return Response(y * weights, weights, ones, levels)
    return Response(y, ones, likelihood_weights, levels)


def _column(text: str, frame: Frame) -> Column | None:
    """The column that an expression names, if it is nothing but a name."""
    tokens = tokenize(text)
    name = tokens[0].name if len(tokens) == 1 and tokens[0].kind == "name" else ""
    return frame.columns[name] if name and name in frame.table.names else None


def _categories(text: str, frame: Frame, scope: Scope, weights: np.ndarray) -> Response:
    """The number of each row's category among those that occur, in the order declared, or sorted."""
    column = _column(text, frame)
    notes: list[str] = []
    if isinstance(column, Factor):
        name = tokenize(text)[0].name
        given = frame.table.factor(name)
        declared = column.levels if given is None else given.levels
        codes = np.array([declared.index(level) for level in column.levels])[column.codes]
        if not column.declared:
            listed = ", ".join(map(repr, declared[:8])) + (", ..." if len(declared) > 8 else "")
            notes.append(f"Categories of {text!r} in the order of the alphabet: {listed}.")
    else:
        values = _numbers(text, frame, scope, False)[0]
        whole = bool(np.all(values == np.round(values)))
        numbers = np.unique(values)
        if whole and numbers[-1] - numbers[0] < MOST_CATEGORIES:
            numbers = np.arange(numbers[0], numbers[-1] + 1.0)
        declared = tuple(int(value) if whole else float(value) for value in numbers)
        codes = np.searchsorted(numbers, values)
    occurs = np.bincount(codes, minlength=len(declared)) > 0
    absent = [repr(level) for level, there in zip(declared, occurs, strict=True) if not there]
    notes += [f"Categories of {text!r} that do not occur were left out: {', '.join(absent[:5])}."] if absent else []
    levels = tuple(level for level, there in zip(declared, occurs, strict=True) if there)
    if len(levels) < 2:
        raise ResponseError(
            f"The response {text!r} has one category only, {levels[0]!r}, in the {frame.n_rows} rows used: a model of "
            "categories needs two or more."
        )
    if len(levels) > MOST_CATEGORIES:
        raise ResponseError(
            f"The response {text!r} has {len(levels)} different values: a model of categories can have "
            f"{MOST_CATEGORIES}. Use a family of numbers, such as 'gaussian', or fewer categories."
        )
    position = np.cumsum(occurs) - 1
    return Response(position[codes].astype(float), np.ones(frame.n_rows), weights, levels, tuple(notes))


def _intervals(text: str, parts: tuple[str, ...], frame: Frame, scope: Scope) -> tuple[np.ndarray, np.ndarray]:
    """The lower and upper ends of cens(y, status) and cens(y, status, upper)."""
    y = evaluate(parts[0], frame, scope, f"{parts[0]!r} of the response {text!r}")
    column = _column(parts[1], frame)
    if isinstance(column, Factor):
        labels = [str(column.levels[code]) for code in column.codes]
    else:
        given = evaluate(parts[1], frame, scope, f"{parts[1]!r} of the response {text!r}")
        labels = [f"{value:g}" for value in given]
    codes = np.array([_CENSORING_CODES.get(label, 9) for label in labels])
    if np.any(codes == 9):
        row = int(np.argmax(codes == 9))
        raise ResponseError(
            f"Response {text!r}, {frame.row(row)}: {labels[row]!r} is no kind of censoring: write 'none', 'left', "
            "'right' or 'interval' (0, -1, 1, 2)."
        )
    interval = codes == CENSORING["interval"]
    upper = y
    if len(parts) == 3:
        upper = evaluate(parts[2], frame, scope, f"{parts[2]!r} of the response {text!r}")
        _require(~interval | (upper > y), text, upper, frame, "is not above the lower end", "correct the interval")
    elif np.any(interval):
        raise ResponseError(f"{text} has rows censored to an interval: give their upper ends, cens(y, status, upper).")
    lower_end = np.where(codes == CENSORING["left"], -np.inf, y)
    upper_end = np.where(codes == CENSORING["right"], np.inf, np.where(interval, upper, y))
    return lower_end, upper_end


def _numbers(text: str, frame: Frame, scope: Scope, trials_allowed: bool) -> tuple[np.ndarray, tuple[Any, ...] | None]:
    """Return the values of a one-part response, and the levels where it was a factor."""
    column = _column(text, frame)
    if column is None:
        return evaluate(text, frame, scope, f"the response {text!r}"), None
    name = tokenize(text)[0].name
    if not isinstance(column, Factor):
        return read_column(name, frame, f"the response {text!r}"), None
    return _two_levels(name, column, frame, trials_allowed)


def _two_levels(name: str, factor: Factor, frame: Frame, trials_allowed: bool) -> tuple[np.ndarray, tuple[Any, ...]]:
    levels, success = factor.levels, factor.codes == 1
    if len(levels) == 1 and factor.declared:
        only = levels[0]
        levels = tuple(frame.table.read(name).cat.categories)  # the other level was declared but did not occur
        success = np.full(frame.n_rows, levels.index(only) == 1)
    listed = ", ".join(repr(level) for level in levels[:5]) + (", ..." if len(levels) > 5 else "")
    if not trials_allowed:
        raise DataError(
            f"The response {name!r} is text or categories ({listed}), but the family needs numbers: convert the column "
            "with astype(float), or use family='binomial' for two levels."
        )
    if len(levels) != 2:
        raise DataError(
            f"The response {name!r} has {len(levels)} level(s) ({listed}), but a binomial response needs two, the "
            f"second being success: turn it into 0/1, for example data[{name!r}] == {levels[-1]!r}."
        )
    return success.astype(np.float64), levels


def _successes(text: str, parts: tuple[str, ...], frame: Frame, scope: Scope) -> tuple[np.ndarray, np.ndarray]:
    """Return the successes and trials of cbind(successes, failures)."""
    counts = [whole(evaluate(part, frame, scope, f"{part!r} of the response {text!r}")) for part in parts]
    successes, failures = counts
    _require(successes >= 0, text, successes, frame, "is a negative number of successes", "correct the row")
    bad = np.flatnonzero(failures < 0)
    if bad.size:
        row = int(bad[0])
        raise ResponseError(
            f"In {frame.row(row)} of the response {text!r} the trials are fewer than the successes: {successes[row]:g} "
            f"successes and {failures[row]:g} failures. cbind() takes successes and failures, like cbind(k, n - k)."
        )
    for values in counts:
        _require(values == np.round(values), text, values, frame, "is not a whole number", "cbind() takes counts")
    return successes, successes + failures


def _proportions(text: str, y: np.ndarray, frame: Frame, weights: np.ndarray | None) -> Response:
    if weights is None:
        row = int(np.flatnonzero((y != 0) & (y != 1))[0])
        raise ResponseError(
            f"The response {text!r} is {y[row]:g} in {frame.row(row)}, a proportion: give the numbers of trials as "
            "weights=, or write the counts as cbind(k, n - k)."
        )
    _require(
        weights == np.round(weights),
        text,
        weights,
        frame,
        "trials (weights=) are not a whole number",
        "give whole numbers",
    )
    successes = np.round(y * weights)
    whole = nearly_whole(y * weights, weights)
    _require(
        whole,
        text,
        y * weights,
        frame,
        "successes (proportion times weights) are not a whole number",
        "check the weights=",
    )
    return Response(successes, weights, np.ones_like(y))


def _require(good: np.ndarray, text: str, values: np.ndarray, frame: Frame, wrong: str, remedy: str) -> None:
    """Raise ResponseError for the first row that is not good."""
    bad = np.flatnonzero(~good)
    if bad.size:
        row = int(bad[0])
        raise ResponseError(f"Response {text!r}, {frame.row(row)}: {values[row]:g} {wrong}; {remedy}.")
