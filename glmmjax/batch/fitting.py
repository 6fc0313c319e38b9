"""The door to many fits: one design with many responses, or one formula with many data sets."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glmmjax._errors import ArgumentError, DataError, GlmmjaxError
from glmmjax._frames import read_table
from glmmjax._precision import double_precision, to_numpy
from glmmjax.batch.engine import LaneResults, run_lanes
from glmmjax.batch.lanes import Lanes, Responses, marked, response_lanes
from glmmjax.batch.many import Many
from glmmjax.batch.progress import progress_bar
from glmmjax.batch.starts import lane_starts
from glmmjax.batch.verdicts import Verdicts, judge_lanes
from glmmjax.constraints import constrain
from glmmjax.control import Control, checked_control
from glmmjax.covariance import Covariance
from glmmjax.design import Design, build_design, take_rows
from glmmjax.estimates import parameter_names
from glmmjax.families import Family, resolve_family
from glmmjax.fitting import block_diagonal, check_response, fit_design, read_formulas
from glmmjax.formula_fit import FormulaFit, Options
from glmmjax.layout import Layout, ModelData, arrange, beta_name, bucket, lay_out
from glmmjax.model import factors, log_prior_density, unflatten
from glmmjax.programs import compiled
from glmmjax.start import orthonormal_scale, start_values

RESPONSE = "_response"
LANES_AT_ONCE = 256  # when responses are looked over


def fit_many(
    formula: str,
    data: Any,
    responses: Any = None,
    family: Any = "gaussian",
    *,
    by: str | Sequence[str] | None = None,
    keys: Sequence[Any] | None = None,
    trials: Any = None,
    ziformula: str = "~ 0",
    dispformula: str = "~ 1",
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    priors: Mapping[str, str] | str | None = None,
    start: Mapping[str, Any] | None = None,
    fixed: Mapping[str, Any] | None = None,
    covariances: Mapping[str, Covariance] | None = None,
    control: Control | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Many:
    """Fit one model to many responses, or to many data sets, in one compiled program, and return a :class:`Many`.

    The model, the likelihood and the Laplace approximation are those of :func:`glmmjax.glmm`; log-likelihoods agree
    with single fits to 1e-8, whatever else is in the batch. A data set that cannot be fitted never stops the others:
    its status says why.

    Args:
        formula: as in :func:`glmmjax.glmm`; with ``responses`` the left-hand side is left out: ``~ x + (1 | id)``.
        data: a data frame or a mapping of columns, n rows.
        responses: the responses, a column for each fit: an array (n, m), a data frame whose columns name the fits, or a
            SciPy sparse matrix (such as AnnData's ``X``). NaN is missing. Counts may be of any integer type.
        family: as in :func:`glmmjax.glmm`, but for families of categories and intervals.
        by: instead of ``responses``, a column (or several) of ``data`` whose every value is a data set of its own.
        keys: names of the fits; default the columns' names, or 0 to m - 1.
        trials: numbers of trials for "binomial" and its like, (n,) or (n, m), where ``responses`` counts successes.
        ziformula, dispformula, weights, offset, contrasts, priors, start, fixed, covariances, control: as in
            :func:`glmmjax.glmm`; ``weights`` and ``offset`` are shared by all responses.
        progress: show a bar with the rate and the time left (needs the tqdm package).
        checkpoint: a file to which the run is saved every 20 seconds and when it is interrupted with Ctrl-C. The same
            call goes on from there, with the same results as an uninterrupted run.

    Raises:
        FormulaError, DataError, FamilyError, ArgumentError: what is wrong with the model or the design, and the remedy.

    Source: as :func:`glmmjax.glmm`.

    >>> from glmmjax import datasets, fit_many
    >>> data = datasets.load("salamanders")
    >>> Y = np.random.default_rng(1).poisson(2.0, size=(len(data), 3))
    >>> many = fit_many("~ mined + (1 | site)", data, Y, "poisson")
    >>> len(many), many.params.shape
    (3, (3, 2))
    """
    began = time.perf_counter()
    control = checked_control(control)
    if (responses is None) == (by is None):
        raise ArgumentError("fit_many: give either responses=, or by= with the response in the formula.")
    if control.optimizer != "newton":
        raise ArgumentError(f"fit_many: the optimizer of a batch is 'newton', not {control.optimizer!r}.")
    record = resolve_family(family)
    if record.response in ("categories", "interval"):
        raise ArgumentError(f"fit_many: the family {record.name!r} cannot be fitted in a batch: use glmm() or clmm().")
    options = Options(control, False, priors, dict(start or {}), dict(fixed or {}), covariances)
    texts = {"cond": formula, "disp": dispformula, "zi": ziformula}
    inputs = {"weights": weights, "offset": offset, "contrasts": contrasts}
    if by is not None:
        if keys is not None or trials is not None:
            raise ArgumentError("fit_many: keys= and trials= go with responses=; with by= both are in the data.")
        batches = _by_batches(texts, data, by, record, inputs, options)
    else:
        batches = [_response_batch(texts, data, responses, record, trials, keys, inputs, options)]
    return run_batches(batches, formula, options, began, progress, checkpoint)


@dataclass(frozen=True, eq=False)
class Batch:
    """Lanes of one layout, ready to be run, and what is known of them.

    Attributes:
        lanes, family: what is fitted.
        positions: (m,) where each lane stands among all keys.
        keys: of the lanes.
        names: of the parameters.
        problems: why a lane cannot be run, by lane.
        log_base: (m,) the terms of the log-likelihood in the responses alone.
        nobs: (m,) observations used.
        options: for the fits on demand; with what the model itself holds fixed.
    """

    lanes: Lanes
    family: Family
    positions: np.ndarray
    keys: tuple[Any, ...]
    names: tuple[str, ...]
    problems: dict[int, str]
    log_base: np.ndarray
    nobs: np.ndarray
    options: Options


# One design, many responses -------------------------------------------------------------------------------------------
def _response_batch(
    texts: Mapping[str, str],
    data: Any,
    responses: Any,
    family: Family,
    trials: Any,
    keys: Sequence[Any] | None,
    inputs: Mapping[str, Any],
    options: Options,
) -> Batch:
    matrix, names = _as_matrix(responses)
    left, _, right = texts["cond"].partition("~")
    if left.strip():
        raise ArgumentError(
            f"fit_many: the responses come from responses=, so the formula begins with '~': '~{right}'. To fit one "
            "response for every value of a column, use by=."
        )
    frame = _with_column(data, matrix.shape[0], family)
    formulas, family, held = read_formulas({**texts, "cond": f"{RESPONSE} {texts['cond'].strip()}"}, family)
    design = build_design(
        formulas, frame, **inputs, response_kind=family.response, rank_deficient=options.control.rank_deficient
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
    labels = _checked_keys(keys if keys is not None else names, found.size)
    return prepare_responses(design, family, found, labels, replace(options, fixed={**held, **options.fixed}))


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
        first, family, options.control.structure, options.covariances, options.priors, in_runs=True
    )
    scale = {name: orthonormal_scale(part.X) for name, part in design.components.items()}
    names, sizes = _blocks(design, layout)
    starts = np.full((responses.size, sum(sizes.values())), np.nan)
    if np.any(good):
        starts = lane_starts(first, family, layout, scale, responses, good)
    starts, T = _constrained(starts, names, sizes, scale, family, options)
    lanes = response_lanes(first, layout, template, arrange(first, bucket, True), responses, starts, T)
    labels = parameter_names(design, layout, family)
    return Batch(lanes, family, np.arange(responses.size), keys, labels, problems, log_base, nobs, options)


def _as_matrix(responses: Any) -> tuple[Any, Sequence[Any] | None]:
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
    value = {"unit": 0.5, "trials": 1.0}.get(family.response, 1.0)
    return {**columns, RESPONSE: np.full(n, value)}


def _checked_keys(keys: Sequence[Any] | None, m: int) -> tuple[Any, ...]:
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


# Many data sets, one formula ------------------------------------------------------------------------------------------
def _by_batches(
    texts: Mapping[str, str],
    data: Any,
    by: str | Sequence[str],
    family: Family,
    inputs: Mapping[str, Any],
    options: Options,
) -> list[Batch]:
    """The data sets, in batches of equal layouts and padded sizes."""
    columns = [by] if isinstance(by, str) else list(by)
    frame, groups = _split(data, columns)
    formulas, family, held = read_formulas(texts, family)
    options = replace(options, fixed={**held, **options.fixed})
    sorted_lanes: dict[Any, list[tuple[int, Design, ModelData, np.ndarray, np.ndarray]]] = {}
    layouts: dict[Any, tuple[Layout, tuple[str, ...]]] = {}
    keys, problems = [], {}
    for position, (key, rows) in enumerate(groups):
        keys.append(key)
        try:
            part = frame.iloc[rows]
            own = {name: x[rows] if isinstance(x, np.ndarray) else x for name, x in inputs.items()}
            design = build_design(
                formulas, part, **own, response_kind=family.response, rank_deficient=options.control.rank_deficient
            )
            check_response(design, family)
            control = options.control
            layout, arrays = lay_out(
                design, family, control.structure, options.covariances, options.priors, size=power_of_two
            )
            scale = {name: orthonormal_scale(p.X) for name, p in design.components.items()}
            names, sizes = _blocks(design, layout)
            params = start_values(design, family, layout, scale)
            flat = np.concatenate([params[name] for name in names])[None]
            starts, T = _constrained(flat, names, sizes, scale, family, options)
        except GlmmjaxError as error:
            problems[position] = str(error)
            continue
        labels = parameter_names(design, layout, family)
        shapes = tuple((x.shape, x.dtype.str) for x in _leaves(arrays))
        label = (layout, labels, shapes)
        layouts[label] = (layout, labels)
        sorted_lanes.setdefault(label, []).append((position, design, arrays, starts[0], T))
    if not sorted_lanes:
        first = next(iter(problems.values()), "there are no rows")
        raise DataError(f"fit_many: none of the {len(keys)} data sets can be fitted; the first: {first}")
    batches = []
    for label, members in sorted_lanes.items():
        batches.append(_data_batch(*layouts[label], members, keys, family, options))
    if problems:
        batches.append(_unfit_batch(batches[0], problems, keys))
    return batches


def power_of_two(size: int) -> int:
    """The padded size of ragged data sets: the next power of two, so that few programs serve them.

    >>> [power_of_two(size) for size in (1, 5, 64, 65)]
    [1, 8, 64, 128]
    """
    return 1 << max(0, size - 1).bit_length()


def _split(data: Any, columns: list[str]) -> tuple[Any, list[tuple[Any, np.ndarray]]]:
    """The data as a pandas frame, and the rows of each value of the columns, in the order of their appearance."""
    import pandas as pd

    table = read_table(data)
    for name in columns:
        if name not in table.names:
            raise table.unknown(name, "by=")
    frame = pd.DataFrame({name: table.read(name) for name in table.names})
    grouped = frame.groupby(columns if len(columns) > 1 else columns[0], sort=False, observed=True, dropna=True)
    return frame, [(key, np.asarray(rows)) for key, rows in grouped.indices.items()]


def _leaves(tree: Any) -> list[Any]:
    import jax

    return jax.tree.leaves(tree)


def _data_batch(
    layout: Layout,
    labels: tuple[str, ...],
    members: list[tuple[int, Design, ModelData, np.ndarray, np.ndarray]],
    keys: list[Any],
    family: Family,
    options: Options,
) -> Batch:
    positions, designs, arrays, starts, directions = zip(*members, strict=True)
    template = arrays[0]
    every = dict.fromkeys(("y", "trials", "weights", "X", "offset", "Z", "members", "priors"), 0)
    axes = marked(template, **every, distinct=None if template.distinct is None else (0, 0, 0))
    lanes = Lanes(
        layout,
        len(members),
        lambda i: arrays[i],
        axes,
        lambda i: starts[i],
        lambda i: directions[i],
        lambda i: designs[i],
    )
    log_base = np.array([np.sum(d.weights * family.log_base(d.y, d.trials)) for d in designs])
    nobs = np.array([len(d.y) for d in designs])
    own = tuple(keys[p] for p in positions)
    return Batch(lanes, family, np.array(positions), own, labels, {}, log_base, nobs, options)


def _unfit_batch(like: Batch, problems: dict[int, str], keys: list[Any]) -> Batch:
    """The data sets that cannot be fitted, as lanes that are not run."""
    positions = np.array(sorted(problems))
    nothing = np.full(len(positions), np.nan)
    return replace(
        like,
        lanes=replace(like.lanes, size=len(positions)),
        positions=positions,
        keys=tuple(keys[p] for p in positions),
        problems={i: problems[p] for i, p in enumerate(positions)},
        log_base=nothing,
        nobs=np.zeros(len(positions), dtype=int),
    )


# What both have in common ---------------------------------------------------------------------------------------------
def _blocks(design: Design, layout: Layout) -> tuple[list[str], dict[str, int]]:
    """The blocks of parameters in flat order and their sizes."""
    sizes = {beta_name(name): part.X.shape[1] for name, part in design.components.items()}
    if layout.family.shape is not None:
        sizes["psi"] = layout.n_psi
    sizes["theta"] = sum(term.n_theta for term in layout.terms)
    return sorted(sizes), sizes


def _constrained(
    starts: np.ndarray,
    names: list[str],
    sizes: dict[str, int],
    scale: dict[str, np.ndarray],
    family: Family,
    options: Options,
) -> tuple[np.ndarray, np.ndarray]:
    """The starts (m, k) with what the user gave or holds, and the directions (k, r) in which parameters may move."""
    bounds = np.cumsum([sizes[name] for name in names])
    where = {name: slice(end - sizes[name], end) for name, end in zip(names, bounds, strict=True)}
    starts = starts.copy()
    for name, value in options.start.items():
        if name not in where:
            raise ArgumentError(f"start: no parameters are called {name!r}.")
        starts[:, where[name]] = np.broadcast_to(np.asarray(value, dtype=float), (len(starts), sizes[name]))
    held: dict[str, Any] = {} if family.shape is None or family.shape.held is None else {"psi": True}
    fixed = {**held, **options.fixed}
    if not fixed:
        blocks = {beta_name(name): T for name, T in scale.items()}
        return starts, block_diagonal([blocks.get(name, np.eye(sizes[name])) for name in names])
    good = np.flatnonzero(np.all(np.isfinite(starts), axis=1))
    T = np.eye(starts.shape[1])
    for lane in good:
        starts[lane], T = constrain({name: starts[lane, where[name]] for name in names}, fixed)
    return starts, T


def run_batches(
    batches: list[Batch],
    formula: str,
    options: Options,
    began: float,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Many:
    """Run batches and put their results together in the order of the keys."""
    if checkpoint is not None and len(batches) > 1:
        raise ArgumentError("checkpoint= needs one layout for all data sets: use it with responses=.")
    total = sum(len(batch.keys) - len(batch.problems) for batch in batches)
    prepared = time.perf_counter()
    compile_time, done, parts = 0.0, 0, []
    with progress_bar(total, progress) as show:
        for batch in batches:
            chosen = np.array([i for i in range(len(batch.keys)) if i not in batch.problems], dtype=int)
            report = _from(show, done)
            mark = "" if checkpoint is None else _fingerprint(batch)
            results, seconds = run_lanes(batch.lanes, chosen, options.control, report, checkpoint, mark)
            compile_time += seconds
            done += len(chosen)
            parts.append((batch, results, judge_lanes(batch.lanes, results, batch.problems, batch.names)))
    ran = time.perf_counter()
    timings = {"design": prepared - began, "compile": compile_time, "run": ran - prepared - compile_time}
    return _collect(parts, formula, timings)


def _from(show: Callable[[int, int], None] | None, before: int) -> Callable[[int, int], None] | None:
    return None if show is None else lambda done, total: show(before + done, total)


def _fingerprint(batch: Batch) -> str:
    """A digest of the model, the data and the responses."""
    described = repr((batch.lanes.layout, batch.names, batch.keys, batch.options))
    digest = hashlib.sha256(re.sub(" at 0x[0-9a-f]+", "", described).encode())
    for lane in range(batch.lanes.size):
        if lane not in batch.problems:
            digest.update(batch.lanes.data(lane).y.tobytes())
            digest.update(batch.lanes.start(lane).tobytes())
    for part in batch.lanes.design(0).components.values():
        digest.update(np.ascontiguousarray(part.X).tobytes() + part.offset.tobytes())
    return digest.hexdigest()


def _collect(parts: list[tuple[Batch, LaneResults, Verdicts]], formula: str, timings: Mapping[str, float]) -> Many:
    """The results of all batches in the order of the keys; parameters that a batch lacks are NaN."""
    names = tuple(dict.fromkeys(name for batch, _, _ in parts for name in batch.names))
    m = sum(len(batch.keys) for batch, _, _ in parts)
    k = len(names)
    n_effects = max(results.variances.shape[1] for _, results, _ in parts)
    results = LaneResults.empty(m, k, n_effects)
    vcov = np.full((m, k, k), np.nan)
    status = np.full(m, "", dtype=object)
    flags = {name: np.zeros(m, dtype=bool) for name in ("converged", "singular", "separated")}
    llf, nobs, sigma = np.full(m, np.nan), np.zeros(m, dtype=int), np.ones(m)
    first = parts[0][0]
    labels = _sd_names(first)
    sd = np.full((m, len(labels)), np.nan)
    keys: list[Any] = [None] * m
    home: dict[int, tuple[Batch, int]] = {}
    for batch, own, verdicts in parts:
        at, columns = batch.positions, np.array([names.index(name) for name in batch.names])
        place = np.ix_(at, columns)
        results.flat[place], results.gradient[place] = own.flat, own.gradient
        square = (at[:, None, None], columns[:, None], columns)
        results.hessian[square], vcov[square] = own.hessian, verdicts.vcov
        results.value[at], results.outcome[at], results.iterations[at] = own.value, own.outcome, own.iterations
        results.variances[at, : own.variances.shape[1]] = own.variances
        status[at] = verdicts.status
        for name, flag in flags.items():
            flag[at] = getattr(verdicts, name)
        nobs[at] = batch.nobs
        llf[at] = batch.log_base - own.value - _log_priors(batch, own)
        done = own.done
        if np.any(done):
            sd[at[done]] = _standard_deviations(batch, own.flat[done])
            sigma[at[done]] = _dispersions(batch, own.flat[done])
        for lane, position in enumerate(at):
            keys[position], home[int(position)] = batch.keys[lane], (batch, lane)
    flat = results.flat

    def rebuild(position: int) -> FormulaFit:
        batch, lane = home[position]
        columns = [names.index(name) for name in batch.names]
        return _whole(batch, lane, flat[position, columns])

    p = sum(part.X.shape[1] for part in first.lanes.design(0).components.values())
    reported = np.array([i for i, name in enumerate(names) if name in _reported(first, p)], dtype=int)
    return Many(
        keys=tuple(keys),
        formula=formula,
        family=first.family.name,
        parameter_names=names,
        reported=reported,
        effect_names=tuple(names[i] for i in reported),
        results=results,
        verdicts=Verdicts(status, flags["converged"], flags["singular"], flags["separated"], vcov),
        llf=llf,
        nobs=nobs,
        sd=sd,
        sd_names=labels,
        sigma=sigma,
        timings=timings,
        rebuild=rebuild,
    )


def _reported(batch: Batch, p: int) -> set[str]:
    """The fixed effects that are reported: all but a dispersion that is one number."""
    design = batch.lanes.design(0)
    disp = design.components.get("disp")
    constant = disp is not None and disp.columns == ("(Intercept)",) and not disp.terms
    return {name for name in batch.names[:p] if not (constant and name == "disp:(Intercept)")}


def _whole(batch: Batch, lane: int, flat: np.ndarray) -> FormulaFit:
    """The fit of one lane, from its estimates."""
    design = batch.lanes.design(lane)
    design = take_rows(design, design.weights > 0) if np.any(design.weights == 0) else design
    names, sizes = _blocks(design, batch.lanes.layout)
    bounds = np.cumsum([sizes[name] for name in names])[:-1]
    start = dict(zip(names, np.split(flat, bounds), strict=True))
    return fit_design(design, batch.family, replace(batch.options, start=start))


def _log_priors(batch: Batch, results: LaneResults) -> np.ndarray:
    layout = batch.lanes.layout
    if not layout.priors:
        return np.zeros(batch.lanes.size)
    out = np.full(batch.lanes.size, np.nan)
    for lane in np.flatnonzero(results.done):
        data = batch.lanes.data(int(lane))
        out[lane] = log_prior_density(layout, data, to_numpy(unflatten(layout, results.flat[lane], data)))
    return out


def _sd_names(batch: Batch) -> tuple[str, ...]:
    """The effects whose standard deviations are reported, as in ``(x | g)``."""
    terms = batch.lanes.design(0).terms
    return tuple(
        f"{'' if component == 'cond' else component + ':'}{'1' if column == '(Intercept)' else column} | {term.group}"
        for component, term in terms
        for column in term.columns
    )


def _sd_program(layout: Layout, theta: Any) -> Any:
    import jax
    import jax.numpy as jnp

    def one(theta: Any) -> Any:
        parts = [jnp.sqrt(jnp.sum(L**2, axis=1)) for L in factors(layout, {"theta": theta})]
        return jnp.concatenate(parts) if parts else jnp.zeros(0)

    return jax.vmap(one)(theta)


def _standard_deviations(batch: Batch, flat: np.ndarray) -> np.ndarray:
    """Standard deviations of all effects (lanes, s)."""
    layout = batch.lanes.layout
    theta = flat[:, flat.shape[1] - sum(term.n_theta for term in layout.terms) :]
    with double_precision():
        program, _ = compiled(_sd_program, (layout,), (theta,), "quick")
        return np.asarray(program(theta))


def _dispersions(batch: Batch, flat: np.ndarray) -> np.ndarray:
    """The dispersion of each lane as the family reports it; the geometric mean over rows where it varies."""
    family = batch.family
    if not family.has_dispersion:
        return np.ones(len(flat))
    part = batch.lanes.design(0).components["disp"]
    names, sizes = _blocks(batch.lanes.design(0), batch.lanes.layout)
    first = sum(sizes[name] for name in names[: names.index(beta_name("disp"))])
    own = flat[:, first : first + sizes[beta_name("disp")]]
    return np.asarray(family.sigma(np.exp(own @ np.mean(part.X, axis=0) + np.mean(part.offset))))
