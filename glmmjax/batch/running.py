"""Batches -> :class:`Many`: run them, judge them, put their results together in the order of the keys."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from glmmjax._arguments import check_flags
from glmmjax._errors import ArgumentError
from glmmjax._precision import double_precision, to_numpy
from glmmjax.batch.batches import Batch, blocks
from glmmjax.batch.engine import LaneResults, run_lanes
from glmmjax.batch.many import Many
from glmmjax.batch.progress import progress_bar
from glmmjax.batch.verdicts import Verdicts, judge_lanes
from glmmjax.design import take_rows
from glmmjax.fitting import fit_design
from glmmjax.formula_fit import FormulaFit, Options
from glmmjax.layout import Layout, beta_name
from glmmjax.model import factors, log_prior_density, unflatten
from glmmjax.programs import compiled
from glmmjax.solving import chosen_device


@dataclass(frozen=True)
class Run:
    """How batches are run; see :func:`glmmjax.fit_many`."""

    progress: bool = False
    checkpoint: str | os.PathLike[str] | None = None
    executor: Any = None
    devices: Sequence[Any] | None = None

    def check(self) -> None:
        """Raise where these cannot be done together.

        Raises:
            ArgumentError: which, and the remedy.
        """
        check_flags("progress=", progress=self.progress)
        if self.checkpoint is not None and not Path(self.checkpoint).absolute().parent.is_dir():
            raise ArgumentError(f"checkpoint: there is no folder {str(Path(self.checkpoint).parent)!r}: make it first.")
        if self.executor is not None and self.checkpoint is not None:
            raise ArgumentError("checkpoint= is for a run in this process: leave out executor=.")
        if self.devices is not None and self.executor is not None:
            raise ArgumentError("devices= are those of this process, which executor= does not use: give one of them.")
        if self.devices is not None and not len(self.devices):
            raise ArgumentError("devices= must hold a device at least, as jax.devices() does.")
        for device in self.devices or ():
            if not (hasattr(device, "platform") and hasattr(device, "id")):
                raise ArgumentError(f"devices= must be devices such as jax.devices() gives, not {device!r}.")
        if self.devices is not None and len(set(self.devices)) != len(self.devices):
            raise ArgumentError("devices= names a device twice.")


def run_batches(
    batches: list[Batch],
    formula: str,
    options: Options,
    began: float,
    run: Run,
) -> Many:
    """Run batches and put their results together in the order of the keys."""
    run.check()
    prepared = time.perf_counter()
    chosen = [np.array([i for i in range(len(b.keys)) if i not in b.problems], dtype=int) for b in batches]
    with progress_bar(sum(map(len, chosen)), run.progress) as show:
        if run.executor is None:
            results, problems, compile_time = _run_here(batches, chosen, options, run, show)
        else:
            from glmmjax.batch.workers import run_elsewhere

            lanes = [batch.lanes for batch in batches]
            results, problems, compile_time = run_elsewhere(lanes, chosen, options.control, run.executor, show)
    parts = [
        (batch, own, judge_lanes(batch.lanes, own, batch.problems | more, batch.names))
        for batch, own, more in zip(batches, results, problems, strict=True)
    ]
    ran = time.perf_counter()
    timings = {"design": prepared - began, "compile": compile_time, "run": ran - prepared - compile_time}
    return _collect(parts, formula, timings)


def _run_here(
    batches: list[Batch],
    chosen: list[np.ndarray],
    options: Options,
    run: Run,
    show: Callable[[int, int], None] | None,
) -> tuple[list[LaneResults], list[dict[int, str]], float]:
    """Run the chosen lanes in this process, batch by batch."""
    compile_time, done, results = 0.0, 0, []
    device = chosen_device(options.control)
    devices = tuple(run.devices or (() if device is None else (device,)))
    interrupted = False
    for position, (batch, some) in enumerate(zip(batches, chosen, strict=True)):
        some = some[:0] if interrupted else some
        # a file for each batch, the first under the name that was given
        file = None if run.checkpoint is None else Path(f"{run.checkpoint}{f'.{position}' if position else ''}")
        fingerprint = "" if file is None else _fingerprint(batch, len(devices))
        report = _from(show, done)
        own, seconds = run_lanes(batch.lanes, some, options.control, report, file, fingerprint, devices)
        interrupted = interrupted or not np.all(own.done[some])
        compile_time += seconds
        done += len(some)
        results.append(own)
    return results, [{} for _ in batches], compile_time


def _from(show: Callable[[int, int], None] | None, before: int) -> Callable[[int, int], None] | None:
    return None if show is None else lambda done, total: show(before + done, total)


def _fingerprint(batch: Batch, n_devices: int) -> str:
    """A digest of all that a run depends on: the model, the data, the start values, the number of slots."""
    lanes = batch.lanes
    described = repr((lanes.layout, batch.names, batch.keys, batch.options, n_devices))
    digest = hashlib.sha256(re.sub(" at 0x[0-9a-f]+", "", described).encode())

    def note(tree: Any) -> None:
        for leaf in jax.tree.leaves(tree):
            digest.update(np.ascontiguousarray(leaf).tobytes())

    runnable = [lane for lane in range(lanes.size) if lane not in batch.problems]
    note([lanes.data(lane) for lane in runnable[:1]])
    for lane in runnable:
        note((lanes.arrays(np.array([lane])), lanes.starts[lane]))
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
    llf, nobs, sigma, marks = np.full(m, np.nan), np.zeros(m, dtype=int), np.ones(m), np.full(m, np.nan)
    labels = tuple(dict.fromkeys(name for batch, _, _ in parts for name in _sd_names(batch)))
    df = np.zeros(m, dtype=int)
    sd = np.full((m, len(labels)), np.nan)
    keys: list[Any] = [None] * m
    home: dict[int, tuple[int, int]] = {}
    for place_of_batch, (batch, own, verdicts) in enumerate(parts):
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
        nobs[at], marks[at] = batch.nobs, batch.marks
        llf[at] = batch.log_base - own.value - _log_priors(batch, own)
        done = own.done
        df[at] = batch.lanes.df
        if np.any(done):
            own_sds = np.array([labels.index(name) for name in _sd_names(batch)], dtype=int)
            sd[np.ix_(at[done], own_sds)] = _standard_deviations(batch, own.flat[done])
            sigma[at[done]] = _dispersions(batch, own.flat[done])
        for lane, position in enumerate(at):
            keys[position], home[int(position)] = batch.keys[lane], (place_of_batch, lane)
    shown = set().union(*(_reported(batch) for batch, _, _ in parts))
    reported = np.array([i for i, name in enumerate(names) if name in shown], dtype=int)
    return Many(
        keys=tuple(keys),
        formula=formula,
        family=parts[0][0].family.name,
        parameter_names=names,
        reported=reported,
        effect_names=tuple(names[i] for i in reported),
        results=results,
        verdicts=Verdicts(status, flags["converged"], flags["singular"], flags["separated"], vcov),
        llf=llf,
        nobs=nobs,
        marks=marks,
        df=df,
        reml=parts[0][0].options.reml,
        sd=sd,
        sd_names=labels,
        sigma=sigma,
        timings=timings,
        record=parts[0][0].family,
        priors=parts[0][0].options.priors,
        rebuild=Rebuild(tuple(batch for batch, _, _ in parts), home, names, results.flat),
    )


def _reported(batch: Batch) -> set[str]:
    """The fixed effects that are reported: all but a dispersion that is one number."""
    design = batch.lanes.design(0)
    p = sum(part.X.shape[1] for part in design.components.values())
    disp = design.components.get("disp")
    constant = disp is not None and disp.columns == ("(Intercept)",) and not disp.terms
    return {name for name in batch.names[:p] if not (constant and name == "disp:(Intercept)")}


@dataclass(frozen=True, eq=False)
class Rebuild:
    """The whole fit of the lane at some position among all keys; picklable.

    Attributes:
        batches: all of them.
        home: position -> the number of the batch and the lane in it.
        names, flat: of the parameters of all fits, and their estimates (m, k).
    """

    batches: tuple[Batch, ...]
    home: Mapping[int, tuple[int, int]]
    names: tuple[str, ...]
    flat: np.ndarray

    def __call__(self, position: int) -> FormulaFit:
        number, lane = self.home[position]
        batch = self.batches[number]
        return _whole(batch, lane, self.flat[position, [self.names.index(name) for name in batch.names]])


def _whole(batch: Batch, lane: int, flat: np.ndarray) -> FormulaFit:
    """The fit of one lane, from its estimates."""
    design = batch.lanes.design(lane)
    design = take_rows(design, design.weights > 0) if np.any(design.weights == 0) else design
    names, sizes = blocks(design, batch.lanes.layout)
    bounds = np.cumsum([sizes[name] for name in names])[:-1]
    start = dict(zip(names, np.split(flat, bounds), strict=True))
    return fit_design(design, batch.family, replace(batch.options, start=start), starts=1)


def _log_priors(batch: Batch, results: LaneResults) -> np.ndarray:
    layout = replace(batch.lanes.layout, reml=0)
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
    names, sizes = blocks(batch.lanes.design(0), batch.lanes.layout)
    first = sum(sizes[name] for name in names[: names.index(beta_name("disp"))])
    own = flat[:, first : first + sizes[beta_name("disp")]]
    return np.asarray(family.sigma(np.exp(own @ np.mean(part.X, axis=0) + np.mean(part.offset))))
