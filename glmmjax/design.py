"""Formulas and data -> Design: every array a model needs, and all it takes to code new data alike.

Rows with a missing value in anything that any of the formulas uses are dropped once, for all parts together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glmmjax._arguments import by_name
from glmmjax._coding import (
    INTERCEPT,
    Coding,
    Scope,
    check_contrasts,
    code,
    code_expression,
    recode,
    used_columns,
)
from glmmjax._errors import ArgumentError, DataError, FormulaError
from glmmjax._frames import Factor, Frame, Table, complete_frame, read_table
from glmmjax._groups import Grouping, code_column, code_groups, match_groups
from glmmjax._inputs import check_choice, check_weights, complete_rows, input_values, read_input
from glmmjax._rank import dependent_columns
from glmmjax._response import read_response, response_columns
from glmmjax._tokens import words
from glmmjax.formula import Formula

__all__ = ["Component", "Design", "Term", "build_design", "new_design", "take_rows"]

MOST_TO_DROP_FROM = 1_000_000  # numbers in a matrix with as many columns as rows; beyond, it takes minutes
FEWEST_NUMBERS = 10  # levels from which on a factor of numbers in text was probably not meant as one
TEXT_NUMBERS = "text that holds numbers"


@dataclass(frozen=True, eq=False)
class Term:
    """One random-effects term: row i has the effects `Z[i] @ b[index[i]]`."""

    group: str  # "a" or "a:b"
    covariance: str  # "us", "diag", "ar1", ...
    columns: tuple[str, ...]  # ("(Intercept)", "x")
    Z: np.ndarray  # (n, q)
    index: np.ndarray  # (n,) int32 into levels; in new data -1 for a group that the fit did not have
    levels: tuple[Any, ...]  # (G,) labels: the levels of "a", or "a1:b2"
    factors: tuple[str, ...]  # the columns that group
    options: tuple[tuple[str, str], ...]  # further arguments of a covariance structure, as text
    coding: Coding
    grouping: Grouping

    @property
    def n_levels(self) -> int:
        """The number of groups; equal to the number of rows where the term is an effect of each observation."""
        return len(self.levels)


@dataclass(frozen=True, eq=False)
class Component:
    """One linear predictor, `X @ beta + offset + sum of the terms`."""

    X: np.ndarray  # (n, p)
    columns: tuple[str, ...]
    offset: np.ndarray  # (n,) on the scale of the linear predictor
    terms: tuple[Term, ...]
    dropped: tuple[str, ...]  # columns left out of X because earlier ones determine them
    coding: Coding
    offsets: tuple[Coding, ...]  # of the offsets that new data must be able to give


@dataclass(frozen=True, eq=False)
class Design:
    """The data of a model in arrays, one row for each row that was kept."""

    y: np.ndarray  # (n,) the response; successes out of trials, numbers of categories, lower ends of intervals
    trials: np.ndarray  # (n,) numbers of trials; upper ends of intervals; ones for other families
    weights: np.ndarray  # (n,) multiply the log-likelihood of each row
    components: dict[str, Component]  # "cond", "disp", ...
    response_name: str
    response_levels: tuple[Any, ...] | None  # (failure, success) of a two-level factor; the categories
    rows: np.ndarray  # (n,) positions of the kept rows in the data
    n_dropped: int
    notes: tuple[str, ...]  # what the user should know
    formulas: dict[str, Formula]
    scope: Scope  # contrasts, and functions of the user's own
    offset_given: bool  # offset= was an array, which new data cannot repeat

    @property
    def n(self) -> int:
        """The number of rows."""
        return len(self.rows)

    @property
    def terms(self) -> list[tuple[str, Term]]:
        """The random-effects terms of all components, each with the name of its component."""
        return [(name, term) for name, part in self.components.items() for term in part.terms]


def build_design(
    formulas: Mapping[str, Formula],
    data: Any,
    *,
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    na_action: str = "drop",
    response_kind: str = "real",
    without_intercept: Sequence[str] = (),
    rank_deficient: str = "drop",
    context: Mapping[str, Any] | None = None,
) -> Design:
    """Return the arrays of the model that the formulas describe, one component for each of them.

    `formulas` has the response in "cond"; the others are one-sided. `data` is a pandas or polars frame, anything else
    that narwhals reads, or a dict of arrays. `weights` and `offset` are arrays over all rows of the data, columns, or
    expressions such as "log(t)"; `offset` adds to the offset() terms of "cond". `contrasts` maps columns to "sum",
    "treatment", "helmert", "poly", "sas", "diff" or a formulaic contrast. `na_action="raise"` and
    `rank_deficient="raise"` refuse missing values and dependent columns instead of dropping them. `response_kind` is
    that of the family. Components `without_intercept` are coded with one, which is then left out. `context` gives
    formulas functions and values of the user's own.

    Raises DataError, ResponseError, FormulaError or ArgumentError, naming the column, the row and the remedy.

    >>> from glmmjax.formula import parse_formula
    >>> data = {"y": [1.0, 2.0, 3.0], "x": [0.0, 1.0, 2.0], "g": ["a", "b", "a"]}
    >>> build_design({"cond": parse_formula("y ~ x + (1 | g)")}, data).components["cond"].terms[0].index
    array([0, 1, 0], dtype=int32)
    """
    check_choice("na_action", na_action, ("drop", "raise"))
    check_choice("rank_deficient", rank_deficient, ("drop", "raise"))
    response = formulas["cond"].response
    if response is None:
        raise FormulaError(f"The formula {formulas['cond'].text!r} has no response: write it to the left of '~'.")
    scope = Scope(by_name("contrasts", contrasts), _used_context(formulas, (weights, offset), context or {}))
    table = read_table(data)
    arguments = {"weights": read_input("weights", weights, table), "offset": read_input("offset", offset, table)}

    used = [name for formula in formulas.values() for name in _columns(formula, table, scope)]
    check_contrasts(scope.contrasts, used)
    used += response_columns(response, table, scope)
    for name, argument in arguments.items():
        if isinstance(argument, str):
            used += used_columns(argument, table, scope, f"{name}=", expression=True)
    needed = tuple(dict.fromkeys(used))
    given = {name: argument for name, argument in arguments.items() if isinstance(argument, np.ndarray)}
    rows, notes = complete_rows(table, needed, given, na_action)
    frame = complete_frame(table, needed, rows)

    values = {name: input_values(name, argument, frame, scope) for name, argument in arguments.items()}
    check_weights(values["weights"][0], frame)
    read = read_response(response, frame, scope, values["weights"][0], kind=response_kind)
    components: dict[str, Component] = {}
    for name, formula in formulas.items():
        extra = values["offset"] if name == "cond" else (None, None)
        components[name], said = _component(formula, frame, scope, extra, rank_deficient, name in without_intercept)
        notes += said
    notes += read.notes
    return Design(
        y=read.y,
        trials=read.trials,
        weights=read.weights,
        components=components,
        response_name=response,
        response_levels=read.levels,
        rows=rows,
        n_dropped=table.n_rows - len(rows),
        notes=tuple(notes),
        formulas=dict(formulas),
        scope=scope,
        offset_given="offset" in given,
    )


def new_design(
    design: Design, newdata: Any, *, groups: bool = True, allow_new_levels: bool = False, offset: Any = None
) -> Design:
    """Return the design of new data, coded like the data of the fit: for prediction, so without a response.

    Rows with a missing predictor are left out, as `rows` says; a missing value in a grouping column means the
    population (index -1), and so does a new group with `allow_new_levels`. With `groups=False` only fixed effects are
    coded: `terms` are empty and grouping columns may be absent. `offset` replaces an array given as offset= in the fit.
    In the result `y` is NaN, `trials` and `weights` are one.

    Raises DataError for an unknown column, level or group, ArgumentError if the fit had an offset array and none is
    given.

    >>> from glmmjax.formula import parse_formula
    >>> design = build_design({"cond": parse_formula("y ~ f")}, {"y": [1.0, 2.0, 3.0], "f": ["u", "v", "u"]})
    >>> new_design(design, {"f": ["v"]}).components["cond"].X
    array([[1., 1.]])
    """
    table = read_table(newdata, "newdata")
    if design.offset_given and offset is None:
        raise ArgumentError(
            "The model was fitted with an array as offset=, so new data need one too: pass offset= here as well, or "
            "write the offset into the formula, like offset(log(t))."
        )
    if offset is not None and not design.offset_given:
        raise ArgumentError(
            "offset= is only for models fitted with an array as offset=; here the data hold the offsets."
        )
    added = read_input("offset", offset, table)
    if isinstance(added, str):
        raise ArgumentError(f"offset={offset!r} must be an array of numbers here, as it was in the fit.")
    needed = tuple(dict.fromkeys(n for c in design.components.values() for n in _columns_of(c, table, groups)))
    rows, notes = complete_rows(table, needed, {} if added is None else {"offset": added}, "drop")
    frame = complete_frame(table, needed, rows)
    extra = input_values("offset", added, frame, design.scope)[0]
    components = {
        name: _new_component(
            component, frame, design.scope, extra if name == "cond" else None, groups, allow_new_levels
        )
        for name, component in design.components.items()
    }
    return replace(
        design,
        y=np.full(len(rows), np.nan),
        trials=np.ones(len(rows)),
        weights=np.ones(len(rows)),
        components=components,
        rows=rows,
        n_dropped=table.n_rows - len(rows),
        notes=tuple(notes),
    )


def _component(
    formula: Formula,
    frame: Frame,
    scope: Scope,
    extra_offset: tuple[np.ndarray | None, Coding | None],
    rank_deficient: str,
    without_intercept: bool,
) -> tuple[Component, list[str]]:
    where = f"the formula {formula.text!r}"
    if frame.n_rows**2 > MOST_TO_DROP_FROM:
        used = used_columns(formula.fixed, frame.table, scope, where)
        factors = {name: len(x.levels) for name in used if isinstance(x := frame.columns[name], Factor)}
        _check_size(max(factors.values(), default=0), formula, frame, factors)
    X, coding = code(formula.fixed, frame, scope, where)
    _check_size(X.shape[1], formula, frame, coding.levels)
    dependent = dependent_columns(X)
    reasons = _single_levels(coding) + [_reason(column, on, coding.columns) for column, on in dependent.items()]
    if reasons and rank_deficient == "raise":
        raise DataError(
            f"The columns of {where} are not independent: {'; '.join(reasons)}. Leave out what is redundant."
        )
    notes = _numbers_as_text(frame, coding.levels) + [f"Dropped from {where}: {reason}." for reason in reasons]
    left_out = [c for c, column in enumerate(coding.columns) if without_intercept and column == INTERCEPT]
    kept = [column for column in range(X.shape[1]) if column not in dependent and column not in left_out]

    offsets = [code_expression(text, frame, scope, f"offset({text})") for text in formula.offsets]
    total = sum((values for values, _ in offsets), np.zeros(frame.n_rows))
    if extra_offset[0] is not None:
        total = total + extra_offset[0]
    codings = [*(spec for _, spec in offsets), *([extra_offset[1]] if extra_offset[1] is not None else [])]
    component = Component(
        X=X[:, kept] if len(kept) < X.shape[1] else X,
        columns=tuple(coding.columns[column] for column in kept),
        offset=total,
        terms=_terms(formula, frame, scope),
        dropped=tuple(coding.columns[column] for column in (*dependent, *left_out)),
        coding=coding,
        offsets=tuple(codings),
    )
    return component, notes


def _check_size(columns: int, formula: Formula, frame: Frame, factors: Iterable[str]) -> None:
    """Raise before any work where there are as many columns as rows, and more than can be sorted out at once."""
    if columns >= frame.n_rows and columns * frame.n_rows > MOST_TO_DROP_FROM:
        raise DataError(
            f"The formula {formula.text!r} has {columns} columns for {frame.n_rows} rows: use fewer predictors, or a "
            "random effect for a factor with so many levels. " + " ".join(_numbers_as_text(frame, factors))
        )


def _numbers_as_text(frame: Frame, factors: Iterable[str]) -> list[str]:
    """A sentence for each factor of many levels all of which are numbers written as text."""
    found = []
    for name in factors:
        column = frame.columns[name]
        levels = column.levels if isinstance(column, Factor) and not column.declared else ()
        if len(levels) > FEWEST_NUMBERS and all(isinstance(level, str) and _is_number(level) for level in levels):
            found.append(
                f"The column {name!r} is {TEXT_NUMBERS}, taken as a factor with {len(levels)} levels: convert it with "
                "astype(float) if they are measurements."
            )
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _terms(formula: Formula, frame: Frame, scope: Scope) -> tuple[Term, ...]:
    sides: dict[str, tuple[np.ndarray, Coding]] = {}
    columns: dict[str, tuple[np.ndarray, tuple[Any, ...]]] = {}
    groups: dict[tuple[str, ...], tuple[np.ndarray, Grouping]] = {}
    terms = []
    for bar in formula.bars:
        if bar.lhs not in sides:
            sides[bar.lhs] = code(bar.lhs, frame, scope, f"the random-effects term {bar.text}")
        for factor in bar.factors:
            if factor not in columns:
                columns[factor] = code_column(frame, factor)
        if bar.factors not in groups:
            groups[bar.factors] = code_groups(bar.factors, [columns[factor] for factor in bar.factors])
        Z, coding = sides[bar.lhs]
        index, grouping = groups[bar.factors]
        if Z.shape[1] == 0:
            raise FormulaError(
                f"The random-effects term {bar.text} has no columns: write (1 | {bar.group}) or leave it out."
            )
        if len(grouping.labels) < 2:
            raise DataError(
                f"The grouping factor {bar.group!r} of {bar.text} has one level only, {grouping.labels[0]!r}, in the "
                f"{frame.n_rows} rows used, so a variance between groups cannot be estimated: leave the term out."
            )
        terms.append(
            Term(
                group=bar.group,
                covariance=bar.covariance,
                columns=coding.columns,
                Z=Z,
                index=index,
                levels=grouping.labels,
                factors=bar.factors,
                options=bar.options,
                coding=coding,
                grouping=grouping,
            )
        )
    return tuple(terms)


def _new_component(
    component: Component, frame: Frame, scope: Scope, extra: np.ndarray | None, groups: bool, allow_new_levels: bool
) -> Component:
    X = recode(component.coding, frame, scope)
    kept = [column for column, name in enumerate(component.coding.columns) if name not in component.dropped]
    offset = sum((recode(coding, frame, scope)[:, 0] for coding in component.offsets), np.zeros(frame.n_rows))
    terms = tuple(
        replace(
            term,
            Z=recode(term.coding, frame, scope),
            index=match_groups(term.grouping, frame.table, frame.rows, allow_new_levels=allow_new_levels),
        )
        for term in (component.terms if groups else ())
    )
    return replace(component, X=X[:, kept], offset=offset if extra is None else offset + extra, terms=terms)


def take_rows(design: Design, keep: np.ndarray) -> Design:
    """The design of some of its rows, (n,) bool or positions; groups that lose all theirs stay, without rows."""

    def part(component: Component) -> Component:
        terms = tuple(replace(term, Z=term.Z[keep], index=term.index[keep]) for term in component.terms)
        return replace(component, X=component.X[keep], offset=component.offset[keep], terms=terms)

    return replace(
        design,
        y=design.y[keep],
        trials=design.trials[keep],
        weights=design.weights[keep],
        rows=design.rows[keep],
        components={name: part(component) for name, component in design.components.items()},
    )


def _columns(formula: Formula, table: Table, scope: Scope) -> tuple[str, ...]:
    """Return the columns that a formula uses on its right-hand side, in order and as often as it does."""
    where = f"the formula {formula.text!r}"
    found: list[str] = list(used_columns(formula.fixed, table, scope, where))
    for bar in formula.bars:
        found += used_columns(bar.lhs, table, scope, where)
        for factor in bar.factors:
            found += used_columns(f"`{factor}`", table, scope, f"the random-effects term {bar.text}")
    for text in formula.offsets:
        found += used_columns(text, table, scope, f"offset({text})", expression=True)
    return tuple(found)


def _columns_of(component: Component, table: Table, groups: bool) -> tuple[str, ...]:
    """Return the columns that new data must have for a component, without those that group; raise if one is absent."""
    terms = component.terms if groups else ()
    codings = (component.coding, *component.offsets, *(term.coding for term in terms))
    for name, where in ((name, coding.where) for coding in codings for name in coding.uses):
        if name not in table.names:
            raise table.unknown(name, where)
    for name, group in ((name, term.group) for term in terms for name in term.factors):
        if name not in table.names:
            raise table.unknown(
                name, f"the grouping {group!r}, which only predictions for the population can do without"
            )
    return tuple(name for coding in codings for name in coding.uses)


def _used_context(formulas: Mapping[str, Formula], inputs: Sequence[Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of the context that is needed, so that a design pickles whatever else the context holds."""
    texts = [formula.text for formula in formulas.values()] + [text for text in inputs if isinstance(text, str)]
    used = {word.name.split(".")[0] for text in texts for word in words(text)}
    return {name: value for name, value in context.items() if name in used}


def _single_levels(coding: Coding) -> list[str]:
    return [
        f"{name!r} has one level only, {levels[0]!r}, and adds no column"
        for name, levels in coding.levels.items()
        if len(levels) == 1 and not any(re.search(rf"\b{re.escape(name)}[\[,)]", column) for column in coding.columns)
    ]


def _reason(column: int, on: Sequence[int], columns: Sequence[str]) -> str:
    if not on:
        return f"{columns[column]!r} is zero in every row"
    if [columns[other] for other in on] == [INTERCEPT]:
        return f"{columns[column]!r} is constant"
    return f"{columns[column]!r} is a linear combination of {', '.join(repr(columns[other]) for other in on)}"
