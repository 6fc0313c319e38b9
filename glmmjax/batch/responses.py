"""One design, many responses -> lanes: the responses looked over, their start values, their padded arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from glmmjax import _arguments
from glmmjax._errors import ArgumentError, DataError, did_you_mean
from glmmjax._frames import read_table
from glmmjax._rank import dependent_columns
from glmmjax._response import MOST_CATEGORIES, nearly_whole, whole
from glmmjax.batch.batches import Batch, NothingToFit, blocks, constrained, mark, unfit_batch
from glmmjax.batch.lanes import LANES_AT_ONCE, Responses, response_lanes
from glmmjax.batch.starts import lane_starts
from glmmjax.coordinates import orthonormal_scale
from glmmjax.degenerate import has_scale, is_constant
from glmmjax.design import Design, build_design
from glmmjax.estimates import parameter_names
from glmmjax.families import Family
from glmmjax.fitting import bind, check_response, estimates_dispersion, read_formulas
from glmmjax.formula_fit import Options
from glmmjax.layout import arrange, bucket, lay_out

RESPONSE = "_response"
CLEARLY = 1e-10  # independent: the smallest eigenvalue of the correlations of columns


def response_batches(
    texts: Mapping[str, str],
    data: Any,
    responses: Any,
    family: Family,
    trials: Any,
    keys: Sequence[Any] | None,
    inputs: Mapping[str, Any],
    options: Options,
) -> list[Batch]:
    """The responses as one batch.

    Those of categories are one for every set of categories that occurs; and where responses are missing, one for every
    set of columns that the others determine in the rows that are left.
    """
    matrix, names = as_matrix(responses)
    if family.response in ("count", "trials"):
        matrix = _whole(matrix)
    left, _, right = texts["cond"].partition("~")
    if left.strip():
        raise ArgumentError(
            f"fit_many: the responses come from responses=, so the formula begins with '~': '~{right}'. To fit one "
            "response for every value of a column, use by=."
        )
    if family.response == "interval":
        raise ArgumentError(
            f"fit_many: responses of the family {family.name!r} are intervals, which responses= cannot hold: use by= "
            "with cens(y, status) in the formula."
        )
    _check_index(data, responses)
    frame = _with_column(data, matrix.shape[0], family)
    counts = _read_trials(trials, frame, matrix.shape, family)
    own_weights = np.ndim(inputs["weights"]) == 2
    weights = _numbers("weights", inputs["weights"], matrix.shape) if own_weights else None
    if weights is not None and not np.all(weights >= 0):
        raise DataError("weights= must not be negative, nor missing: give a missing response or a weight of zero.")
    formulas, family, held = read_formulas({**texts, "cond": f"{RESPONSE} {texts['cond'].strip()}"}, family)
    design = build_design(
        formulas,
        frame,
        **{**inputs, "weights": None if own_weights else inputs["weights"]},
        response_kind="real" if family.response == "trials" else family.response,
        without_intercept=family.without_intercept,
        rank_deficient=options.control.rank_deficient,
    )
    floating = np.issubdtype(matrix.dtype, np.floating)
    missing = floating and bool(np.isnan(matrix.data if hasattr(matrix, "toarray") else matrix).any())
    weights = design.weights if weights is None else weights
    found = Responses(matrix, design.rows, _of_rows(counts, design), weights, missing)
    if family.response == "trials" and trials is None and inputs["weights"] is not None and not own_weights:
        found = _weights_as_trials(found)
    labels = checked_keys(keys if keys is not None else names, found.size)
    options = replace(options, fixed={**held, **options.fixed})
    if family.response == "categories":
        return _batches_of_categories(design, family, found, labels, options)
    return _batches_of_columns(design, family, found, labels, options)


def prepare_responses(
    design: Design, family: Family, responses: Responses, keys: tuple[Any, ...], options: Options
) -> Batch:
    """Look over the responses of a design, and lay them out."""
    problems, log_base, nobs, marks = _look_over(design, family, responses, options)
    good = np.array([i not in problems for i in range(responses.size)])
    some = int(np.argmax(good))
    y, trials, weights = responses.lane(some)
    first = replace(design, y=y, trials=trials, weights=weights)
    if np.any(good):
        check_response(first, family, options.fixed)
    layout, template = lay_out(
        first, family, options.control.structure, options.covariances, options.priors, options.reml, in_runs=True
    )
    scale = {name: orthonormal_scale(part.X) for name, part in design.components.items()}
    starts, units = np.full((responses.size, sum(blocks(design, layout)[1].values())), np.nan), np.ones(responses.size)
    if np.any(good):
        starts, units = lane_starts(first, family, layout, scale, responses, good)
    starts, moves = constrained(starts, first, layout, scale, family, options)
    lanes = response_lanes(first, layout, template, arrange(first, bucket, True), responses, starts, moves, units)
    labels = parameter_names(design, layout, family)
    return Batch(lanes, family, np.arange(responses.size), keys, labels, problems, log_base, nobs, marks, options)


def _batches_of_categories(
    design: Design, family: Family, responses: Responses, keys: tuple[Any, ...], options: Options
) -> list[Batch]:
    """A batch for every set of categories, which are numbered from 0 in it; as a single fit leaves out absent ones."""
    together: dict[tuple[float, ...], list[int]] = {}
    problems: dict[int, str] = {}
    for lane in range(responses.size):
        y, _, weights = responses.lane(lane)
        values = tuple(np.unique(y[weights > 0]).tolist())
        if not 2 <= len(values) <= MOST_CATEGORIES:
            few = "every response is missing" if not values else f"one category only, {values[0]:g}"
            problems[lane] = f"{len(values)} different values" if len(values) > 1 else few
        else:
            together.setdefault(values, []).append(lane)
    if not together:
        raise NothingToFit({keys[lane]: problem for lane, problem in problems.items()})
    batches = []
    for values, chosen in together.items():
        lanes = np.array(chosen)
        y, _, weights = responses.take(lanes)
        codes = np.where(weights > 0, np.searchsorted(values, y), np.nan).T
        own = replace(responses, matrix=codes, rows=np.arange(len(codes)))
        names = tuple(int(value) if value == round(value) else value for value in values)
        bound, record = bind(replace(design, y=own.lane(0)[0], response_levels=names), family)
        for batch in _batches_of_columns(bound, record, own, tuple(keys[lane] for lane in chosen), options):
            batches.append(replace(batch, positions=lanes[batch.positions]))
    return [*batches, unfit_batch(batches[0], problems, keys)] if problems else batches


def _batches_of_columns(
    design: Design, family: Family, responses: Responses, keys: tuple[Any, ...], options: Options
) -> list[Batch]:
    """A batch for every set of columns that earlier ones determine where responses are missing, without these."""
    together: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for lane, dropped in enumerate(_dependent(design, responses)):
        together.setdefault(dropped, []).append(lane)
    batches: list[Batch] = []
    problems: dict[int, str] = {}
    for dropped, chosen in together.items():
        lanes = np.array(chosen)
        if dropped and options.control.rank_deficient == "raise":
            names = ", ".join(repr(column) for _, column in dropped)
            problems |= dict.fromkeys(chosen, f"{names} cannot be told from other columns in the rows with a response")
            continue
        own = responses if len(together) == 1 else responses.some(lanes)
        batch = prepare_responses(_without(design, dropped), family, own, tuple(keys[i] for i in chosen), options)
        batches.append(replace(batch, positions=lanes))
    if not batches:
        raise NothingToFit({keys[lane]: problem for lane, problem in problems.items()})
    return [*batches, unfit_batch(batches[0], problems, keys)] if problems else batches


def _dependent(design: Design, responses: Responses) -> list[tuple[tuple[str, str], ...]]:
    """For each lane the columns, with their components, that earlier ones determine in the rows that count."""
    found: list[tuple[tuple[str, str], ...]] = [()] * responses.size
    for first in range(0, responses.size if responses.uneven else 0, LANES_AT_ONCE):
        lanes = np.arange(first, min(first + LANES_AT_ONCE, responses.size))
        counts = responses.take(lanes)[2] > 0
        counts[~counts.any(axis=1)] = True  # not fitted anyway
        for name, part in design.components.items():
            for i in np.flatnonzero(~_independent(part.X, counts)):
                columns = [part.columns[c] for c in dependent_columns(part.X[counts[i]])]
                found[lanes[i]] += tuple((name, column) for column in columns)
    return found


def _independent(X: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Whether the columns of X (n, p) are clearly independent in each choice (lanes, n) of rows; (lanes,)."""
    p = X.shape[1]
    if p == 0:
        return np.ones(len(counts), dtype=bool)
    scaled = X / np.maximum(np.abs(X).max(axis=0), np.finfo(float).tiny)
    pairs = (scaled[:, :, None] * scaled[:, None, :]).reshape(-1, p * p)
    A = (counts.astype(float) @ pairs).reshape(-1, p, p)
    lengths = np.sqrt(np.maximum(np.diagonal(A, axis1=1, axis2=2), np.finfo(float).tiny))
    return np.linalg.eigvalsh(A / (lengths[:, :, None] * lengths[:, None, :]))[:, 0] > CLEARLY


def _without(design: Design, dropped: Sequence[tuple[str, str]]) -> Design:
    """The design without some columns, as if its own rows had determined them."""
    parts = dict(design.components)
    for name in dict.fromkeys(component for component, _ in dropped):
        part = parts[name]
        out = [column for component, column in dropped if component == name]
        kept = [c for c, column in enumerate(part.columns) if column not in out]
        columns = tuple(part.columns[c] for c in kept)
        parts[name] = replace(part, X=part.X[:, kept], columns=columns, dropped=(*part.dropped, *out))
    return replace(design, components=parts)


def as_matrix(responses: Any) -> tuple[Any, Sequence[Any] | None]:
    """The responses as an array or a csc matrix (n, m), and the names of the columns.

    Raises:
        DataError: they are not numbers, or there are none.
    """
    if hasattr(responses, "tocsc"):
        array, names = responses.tocsc(), None
    elif hasattr(responses, "columns"):
        array, names = _columns(responses)
    else:
        array, names = np.ma.filled(np.ma.asarray(responses).astype(float), np.nan), None
        array = array if np.ma.is_masked(responses) else np.asarray(responses)
    if array.ndim != 2 or array.dtype.kind not in "biuf" or not array.shape[1]:
        raise DataError(
            f"responses= must be numbers, a column for each fit, (n, m), but it has the shape {array.shape} and the "
            f"type {array.dtype}."
        )
    return array, names


def _whole(matrix: Any) -> Any:
    """The responses (n, m), those that are whole numbers but for rounding as whole numbers."""
    if not np.issubdtype(matrix.dtype, np.floating):
        return matrix
    if not hasattr(matrix, "toarray"):
        return whole(matrix)
    out = matrix.copy()
    out.data = whole(out.data)
    return out


def _columns(responses: Any) -> tuple[np.ndarray, list[Any]]:
    """The columns of a data frame, whatever they are called, and their names."""
    names = list(responses.columns)
    given = {str(i): responses.iloc[:, i] for i in range(len(names))} if hasattr(responses, "iloc") else responses
    table = read_table(given, "responses")
    columns = []
    for name, own in zip(names, table.names, strict=True):
        values = table.read(own)
        if table.factor(own) is not None:
            raise DataError(f"responses=: the column {name!r} holds text or categories, not numbers.")
        plain = isinstance(values.dtype, np.dtype)
        columns.append(values.to_numpy() if plain else values.to_numpy(np.float64, na_value=np.nan))
    return np.column_stack(columns) if columns else np.zeros((len(responses), 0)), names


def _check_index(data: Any, responses: Any) -> None:
    """Raise where both are pandas frames whose rows have names that differ: rows go together by their position."""
    named = [read_table(frame).labels for frame in (data, responses) if hasattr(frame, "iloc") and len(frame)]
    if len(named) == 2 and all(labels is not None for labels in named) and not named[0].equals(named[1]):
        raise DataError(
            "responses= and data have different indexes, and their rows go together by position: write "
            "responses.loc[data.index], or reset the index of both."
        )


def _numbers(name: str, given: Any, shape: tuple[int, int]) -> np.ndarray:
    """An argument with a number for each row, (n,), or for each response, (n, m)."""
    numbers = _arguments.numbers(f"{name}=", given, flags=True)
    if numbers.shape not in (shape[:1], shape):
        raise DataError(f"{name}= has the shape {numbers.shape}, but must be ({shape[0]},) or {tuple(shape)}.")
    return numbers


def _read_trials(trials: Any, columns: Mapping[str, Any], shape: tuple[int, int], family: Family) -> np.ndarray:
    """The numbers of trials, (n,) or (n, m), from an array or a column; ones by default."""
    if trials is None:
        return np.ones(shape[0])
    if family.response != "trials":
        raise ArgumentError(f"trials= is for responses that count successes, not for the family {family.name!r}.")
    if isinstance(trials, str) and trials not in columns:
        raise DataError(f"Unknown column {trials!r} in trials=. {did_you_mean(trials, columns)}")
    return _numbers("trials", columns[trials] if isinstance(trials, str) else trials, shape)


def _of_rows(values: np.ndarray, design: Design) -> np.ndarray:
    return values[design.rows] if values.ndim == 1 else values


def _weights_as_trials(found: Responses) -> Responses:
    """Zeros and ones, or proportions, with whole-number weights: these are the trials, as in a single fit."""
    weights = found.weights
    if not np.all((weights >= 1) & (weights == np.round(weights))):
        return found
    matrix = found.matrix.toarray() if hasattr(found.matrix, "toarray") else found.matrix
    successes = matrix[found.rows] * weights[:, None]
    exact = np.where(nearly_whole(successes, weights[:, None]), np.round(successes), successes)
    return Responses(exact, np.arange(len(weights)), weights, np.ones_like(weights), found.any_missing)


def _with_column(data: Any, n: int, family: Family) -> dict[str, Any]:
    """The columns of the data with a response that any family of this kind may have."""
    table = read_table(data)
    if table.n_rows != n:
        raise DataError(f"responses= has {n} rows, but data has {table.n_rows}: there must be one for each.")
    columns: dict[str, Any] = {name: table.read(name) for name in table.names}
    value = np.arange(n) % 2 if family.response == "categories" else 0.5 if family.response == "unit" else 1.0
    return {**columns, RESPONSE: np.broadcast_to(value, n).astype(float)}


def checked_keys(keys: Sequence[Any] | None, m: int) -> tuple[Any, ...]:
    """The names of m fits, each its own.

    Raises:
        ArgumentError: too few or too many, or two alike.
    """
    found = tuple(range(m)) if keys is None else tuple(keys)
    if len(found) != m:
        raise ArgumentError(f"keys= has {len(found)} names for {m} responses.")
    if len(set(found)) != m:
        raise ArgumentError("keys= names two fits alike: every key must be its own.")
    return found


def _look_over(
    design: Design, family: Family, responses: Responses, options: Options
) -> tuple[dict[int, str], np.ndarray, np.ndarray, np.ndarray]:
    """Why lanes cannot be fitted, and for the others ``log_base``, the number of observations and the marks."""
    problems: dict[int, str] = {}
    varies = has_scale(family) and estimates_dispersion(options.fixed) and not np.ptp(design.components["cond"].offset)
    log_base, nobs = np.full(responses.size, np.nan), np.zeros(responses.size, dtype=int)
    marks = np.full(responses.size, np.nan)
    for begin in range(0, responses.size, LANES_AT_ONCE):
        lanes = np.arange(begin, min(begin + LANES_AT_ONCE, responses.size))
        y, trials, weights = responses.take(lanes)
        weights = np.broadcast_to(weights, y.shape)
        counts = (weights > 0) & (trials > 0) if family.response == "trials" else weights > 0
        nobs[lanes] = np.sum(counts, axis=1)
        marks[lanes] = mark(design.rows, y, weights)
        with np.errstate(all="ignore"):
            inside = np.asarray(family.in_support(y, trials)) | (weights == 0)
            log_base[lanes] = np.sum(np.where(weights > 0, weights * family.log_base(y, trials), 0.0), axis=1)
        for i, lane in enumerate(lanes):
            if nobs[lane] == 0:
                problems[int(lane)] = "every response is missing"
            elif not np.all(inside[i]):
                row = int(np.argmin(inside[i]))
                problems[int(lane)] = (
                    f"row {design.rows[row]} is {y[i, row]:g}, but the response of the family {family.name!r} must be "
                    f"{family.support}"
                )
            elif family.zero_inflated and not family.has_zeros and not np.any(y[i] * weights[i]):
                problems[int(lane)] = "zero in every row: there is nothing behind the hurdle"
            elif varies and is_constant(replace(design, y=y[i], weights=weights[i]), family):
                problems[int(lane)] = (
                    f"{y[i, np.argmax(weights[i] > 0)]:g} in every row: there is no variation to explain"
                )
    return problems, log_base, nobs, marks
