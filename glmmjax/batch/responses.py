"""One design, many responses -> lanes: the responses looked over, their start values, their padded arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from glmmjax._errors import ArgumentError, DataError
from glmmjax._frames import read_table
from glmmjax._response import MOST_CATEGORIES
from glmmjax.batch.batches import Batch, NothingToFit, blocks, constrained, unfit_batch
from glmmjax.batch.lanes import LANES_AT_ONCE, Responses, response_lanes
from glmmjax.batch.starts import lane_starts
from glmmjax.design import Design, build_design
from glmmjax.estimates import parameter_names
from glmmjax.families import Family
from glmmjax.fitting import bind, check_response, read_formulas
from glmmjax.formula_fit import Options
from glmmjax.layout import arrange, bucket, lay_out
from glmmjax.start import orthonormal_scale

RESPONSE = "_response"


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
    """The responses as one batch; those of categories in one for every set of categories that occurs."""
    matrix, names = as_matrix(responses)
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
    frame = _with_column(data, matrix.shape[0], family)
    formulas, family, held = read_formulas({**texts, "cond": f"{RESPONSE} {texts['cond'].strip()}"}, family)
    design = build_design(
        formulas,
        frame,
        **inputs,
        response_kind=family.response,
        without_intercept=family.without_intercept,
        rank_deficient=options.control.rank_deficient,
    )
    ones = np.ones(matrix.shape[0])
    counts = ones if trials is None else np.asarray(trials, dtype=float)
    if counts.shape not in (ones.shape, tuple(matrix.shape)):
        raise DataError(f"trials= has the shape {counts.shape}, but must be ({len(ones)},) or {tuple(matrix.shape)}.")
    if trials is not None and family.response != "trials":
        raise ArgumentError(f"trials= is for responses that count successes, not for the family {family.name!r}.")
    floating = np.issubdtype(matrix.dtype, np.floating)
    missing = floating and bool(np.isnan(matrix.data if hasattr(matrix, "toarray") else matrix).any())
    given = counts[design.rows] if counts.ndim == 1 else counts
    found = Responses(matrix, design.rows, given, design.weights, missing)
    labels = checked_keys(keys if keys is not None else names, found.size)
    options = replace(options, fixed={**held, **options.fixed})
    if family.response == "categories":
        return _batches_of_categories(design, family, found, labels, options)
    return [prepare_responses(design, family, found, labels, options)]


def prepare_responses(
    design: Design, family: Family, responses: Responses, keys: tuple[Any, ...], options: Options
) -> Batch:
    """Look over the responses of a design, and lay them out."""
    problems, log_base, nobs = _look_over(design, family, responses)
    good = np.array([i not in problems for i in range(responses.size)])
    some = int(np.argmax(good))
    y, trials, weights = responses.lane(some)
    first = replace(design, y=y, trials=trials, weights=weights)
    if np.any(good):
        check_response(first, family)
    layout, template = lay_out(
        first, family, options.control.structure, options.covariances, options.priors, options.reml, in_runs=True
    )
    scale = {name: orthonormal_scale(part.X) for name, part in design.components.items()}
    names, sizes = blocks(design, layout)
    starts = np.full((responses.size, sum(sizes.values())), np.nan)
    if np.any(good):
        starts = lane_starts(first, family, layout, scale, responses, good)
    starts, T = constrained(starts, names, sizes, scale, family, options)
    lanes = response_lanes(first, layout, template, arrange(first, bucket, True), responses, starts, T)
    labels = parameter_names(design, layout, family)
    return Batch(lanes, family, np.arange(responses.size), keys, labels, problems, log_base, nobs, options)


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
        batch = prepare_responses(bound, record, own, tuple(keys[lane] for lane in chosen), options)
        batches.append(replace(batch, positions=lanes))
    return [*batches, unfit_batch(batches[0], problems, keys)] if problems else batches


def as_matrix(responses: Any) -> tuple[Any, Sequence[Any] | None]:
    """The responses as an array or a csc matrix (n, m), and the names of the columns."""
    if hasattr(responses, "tocsc"):
        return responses.tocsc(), None
    if hasattr(responses, "columns"):
        table = read_table(responses, "responses")
        return np.column_stack([np.asarray(table.read(name)) for name in table.names]), list(table.names)
    array = np.asarray(responses)
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise DataError(
            f"responses= must be numbers, a column for each fit, (n, m), but it has the shape {array.shape} and the "
            f"type {array.dtype}."
        )
    return array, None


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


def _look_over(design: Design, family: Family, responses: Responses) -> tuple[dict[int, str], np.ndarray, np.ndarray]:
    """Why lanes cannot be fitted, and for the others ``log_base`` and the number of observations."""
    problems: dict[int, str] = {}
    log_base, nobs = np.full(responses.size, np.nan), np.zeros(responses.size, dtype=int)
    for begin in range(0, responses.size, LANES_AT_ONCE):
        lanes = np.arange(begin, min(begin + LANES_AT_ONCE, responses.size))
        y, trials, weights = responses.take(lanes)
        weights = np.broadcast_to(weights, y.shape)
        nobs[lanes] = np.sum(weights > 0, axis=1)
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
    return problems, log_base, nobs
