"""The front doors: formula and data in, :class:`glmmjax.Fit` out."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from glmmjax._errors import ArgumentError, DataError, ResponseError, did_you_mean
from glmmjax._precision import double_precision, to_numpy
from glmmjax._status import Outcome
from glmmjax.control import Control
from glmmjax.design import Design, build_design
from glmmjax.estimates import parameter_names, term_estimates, term_label
from glmmjax.families import Family, resolve_family
from glmmjax.formula import parse_formula
from glmmjax.hessians import Crossed, zeros
from glmmjax.layout import Layout, ModelData, beta_name, lay_out
from glmmjax.optimizer import NewtonState, minimize_scipy, newton_start
from glmmjax.programs import Report, compiled, gradient_program, jaxopt_program, newton_program
from glmmjax.result import Fit
from glmmjax.start import orthonormal_scale, start_values
from glmmjax.verdict import judge

# A quasi-Newton method stops on its gradient; its optimum is then judged by the Newton step that is left.
QUASI_NEWTON_SLACK = 1e-6


def glmm(
    formula: str,
    data: Any,
    family: Any = "gaussian",
    *,
    dispformula: str = "~ 1",
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    na_action: str = "drop",
    start: Mapping[str, Any] | None = None,
    control: Control | None = None,
    **unknown: Any,
) -> Fit:
    """Fit a generalized linear mixed model by maximum likelihood and return a :class:`Fit`.

    ``g(E[y | b]) = X beta + Z b + offset``, ``b ~ N(0, Sigma(theta))``; the random effects are integrated out by the
    Laplace approximation, exact for a gaussian response with identity link.

    Args:
        formula: response, fixed and random part in the language of lme4 and glmmTMB: ``y ~ x + (1 + x | g)``,
            ``cbind(k, n - k) ~ ...``, ``(x || g)``, ``(1 | a/b)``, ``offset(log(t))``. Without bars the model is a GLM.
        data: a pandas or polars data frame or a mapping of names to arrays of length n.
        family: a name such as "binomial", "nbinom2", "Gamma(log)", "binomial(probit)", or a ``Family``.
        dispformula: fixed effects on the log of the dispersion parameter, for families that have one.
        weights: column name or array (n,). Trials where the response is a proportion or 0/1 with whole weights,
            otherwise the factor by which each row's log-likelihood is multiplied.
        offset: column name, expression or array (n,) on the scale of the linear predictor; adds to ``offset()`` terms.
        contrasts: per factor, "treatment", "sum", "helmert", "poly" or a formulaic contrast.
        na_action: "drop" rows with missing values, counting them, or "raise".
        start: start values by name: "beta", "beta_disp", "theta"; unconstrained scale.
        control: a :class:`Control`.

    Raises:
        FormulaError, DataError, FamilyError, ResponseError, ArgumentError: what is wrong, where, and the remedy.

    A fit that did not converge, is singular or separated does not raise: it says so in ``fit.status``.

    Source: Kristensen et al. (2016), J. Stat. Softw. 70(5); parameterizations as in glmmTMB (Brooks et al. 2017).

    >>> from glmmjax import datasets, glmm
    >>> fit = glmm("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> round(fit.llf, 3), float(round(fit.params["Days"], 3))
    (-875.97, 10.467)
    """
    if unknown:
        name = next(iter(unknown))
        raise ArgumentError(f"glmm() has no argument {name!r}. {did_you_mean(name, _ARGUMENTS)}")
    control = Control() if control is None else control
    if not isinstance(control, Control):
        raise ArgumentError(f"control must be a glmmjax.Control, not {type(control).__name__}.")
    began = time.perf_counter()
    family = resolve_family(family)
    formulas = {"cond": parse_formula(formula)}
    if family.has_dispersion:
        formulas["disp"] = parse_formula(dispformula, response=False)
    elif dispformula.replace(" ", "") != "~1":
        raise ArgumentError(f"dispformula: the family {family.name!r} has no dispersion parameter.")
    design = build_design(
        formulas,
        data,
        weights=weights,
        offset=offset,
        contrasts=contrasts,
        na_action=na_action,
        trials_allowed=family.response == "trials",
        rank_deficient=control.rank_deficient,
    )
    check_response(design, family)
    return fit_design(design, family, control, start, began)


_ARGUMENTS = [name for name in glmm.__kwdefaults__ or {}] + ["formula", "data", "family"]


def check_response(design: Design, family: Family) -> None:
    """Raise where the response is outside the support of the family, or an effect is not identified."""
    inside = family.in_support(design.y, design.trials)
    if not np.all(inside):
        first = int(np.argmin(inside))
        raise ResponseError(
            f"{design.response_name}: row {design.rows[first]} is {design.y[first]:g}, but the response of the family "
            f"{family.name!r} must be {family.support} ({np.sum(~inside)} such rows)."
        )
    binary = family.response == "trials" and bool(np.all(design.trials == 1.0))
    if family.name != "gaussian" and not binary:
        return
    for term in design.components["cond"].terms:
        if term.n_levels == len(design.y):
            twin = "the response" if binary else "the residual"
            raise ResponseError(
                f"({term_label(term.columns, term.group)}): the factor has as many levels as there are rows, so its "
                f"variance and that of {twin} cannot be told apart. Use a coarser grouping factor."
            )


def check_memory(layout: Layout, n_params: int) -> None:
    """Raise where the dense part of crossed factors cannot fit into this machine's memory.

    About ``n_params + 4`` copies of the dense matrix and of its coupling to the largest factor are alive at once.
    """
    if not isinstance(layout.structure, Crossed) or not hasattr(os, "sysconf"):
        return
    largest, *rest = (level.n_effects * level.n_groups for level in layout.structure.levels)
    needed = 8.0 * (n_params + 4) * sum(rest) * (sum(rest) + largest)
    there = float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise DataError(
            f"The crossed grouping factors have {sum(rest)} effects besides the {largest} of the largest factor; they "
            f"would need about {needed / 2**30:.0f} GiB of memory, and there are {there / 2**30:.0f}. Use fewer random "
            "slopes, fewer levels, or nested factors where the design allows it."
        )


def fit_design(
    design: Design, family: Family, control: Control, start: Mapping[str, Any] | None = None, began: float | None = None
) -> Fit:
    """Fit a design: lay it out, find start values, run the compiled program, collect the result."""
    began = time.perf_counter() if began is None else began
    layout, data = lay_out(design, family)
    scale = {name: orthonormal_scale(part.X) for name, part in design.components.items()}
    blocks = {beta_name(name): S for name, S in scale.items()}
    params = _checked_start(start_values(design, family, layout, scale), start)
    names = sorted(params)
    check_memory(layout, sum(len(values) for values in params.values()))
    flat = np.concatenate([params[name] for name in names])
    T = _block_diagonal([blocks.get(name, np.eye(len(params[name]))) for name in names])
    modes = zeros(layout.structure.levels)
    prepared = time.perf_counter()
    device = None if control.device is None else _device(control.device)
    with double_precision(device):
        state, report, compile_time = _optimize(layout, control, flat, T, modes, data)
        state, report = to_numpy((state, report))
    done = time.perf_counter()
    timings = {
        "design": prepared - began,
        "compile": compile_time,
        "run": done - prepared - compile_time,
    }
    bounds = np.cumsum([len(params[name]) for name in names])[:-1]
    estimates = dict(zip(names, np.split(state.flat, bounds), strict=True))
    terms = term_estimates(design, layout, state, report)
    modes_vcov = tuple(x[..., : _n_groups(design, layout, k)] for k, x in enumerate(state.at.modes_vcov))
    labels = parameter_names(design, layout)
    verdict = judge(design, family, layout, state, modes_vcov, T, labels)
    log_base = np.sum(design.weights * family.log_base(design.y, design.trials))
    return Fit(
        design=design,
        family=family,
        control=control,
        estimates=estimates,
        parameter_names=labels,
        vcov=verdict.vcov,
        terms=terms,
        llf=float(log_base - state.at.value),
        gradient=state.at.gradient,
        hessian=state.at.hessian,
        verdict=verdict,
        iterations=int(state.iterations),
        timings=timings,
    )


def _n_groups(design: Design, layout: Layout, level: int) -> int:
    """The number of groups of a level without padding."""
    return len(design.terms[layout.terms_at(level)[0]][1].levels)


def _optimize(
    layout: Layout, control: Control, flat: np.ndarray, T: np.ndarray, modes: Any, data: ModelData
) -> tuple[NewtonState, Report, float]:
    """Run the optimizer of ``control`` and evaluate everything at its optimum."""
    compile_time, tolerance, max_iter = 0.0, control.tol, control.max_iter
    kind, _, method = control.optimizer.partition("-")
    data = jax.device_put(data)
    if kind != "newton":
        x = np.linalg.solve(T, flat)
        if kind == "jaxopt":
            static = (layout, method)
            given = (x, T, np.sqrt(control.tol), np.array(control.max_iter), modes, data)
            program, compile_time = compiled(jaxopt_program, static, given)
            flat = T @ np.asarray(program(*given))
        else:
            program, compile_time = compiled(gradient_program, (layout,), (x, T, modes, data))
            flat = T @ minimize_scipy(method, _on_host(program, T, modes, data), x, np.sqrt(control.tol), max_iter)
        tolerance, max_iter = QUASI_NEWTON_SLACK, 1
    state = newton_start(flat, modes)
    budget = np.array(1 if control.progress else max_iter)
    arguments = (state, T, np.array(tolerance), np.array(max_iter), budget, data)
    program, seconds = compiled(newton_program, (layout,), arguments)
    state, report = program(*arguments)
    try:
        while int(state.outcome) == Outcome.RUNNING:
            _show(state)
            state, report = program(state, *arguments[1:])
    except KeyboardInterrupt:
        pass
    if control.progress:
        _show(state)
    return state, report, compile_time + seconds


def _on_host(program: Any, T: np.ndarray, modes: Any, data: ModelData) -> Any:
    """Value and gradient for SciPy, each search for the modes starting at the last ones found."""
    last = [modes]

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        (value, u), g = program(x, T, last[0], data)
        if not np.isfinite(value):
            return 1e100, np.zeros_like(x)
        last[0] = u
        return float(value), np.asarray(g)

    return value_and_gradient


def _show(state: NewtonState) -> None:
    print(
        f"iteration {int(state.iterations):3d}   nll {float(state.at.value):.6f}   "
        f"largest gradient {float(np.max(np.abs(state.at.gradient), initial=0.0)):.2e}",
        file=sys.stderr,
    )


def _checked_start(params: dict[str, np.ndarray], start: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    for name, value in (start or {}).items():
        if name not in params:
            raise ArgumentError(f"start: no parameters are called {name!r}. {did_you_mean(name, params)}")
        given = np.asarray(value, dtype=float).reshape(-1)
        if given.shape != params[name].shape or not np.all(np.isfinite(given)):
            raise ArgumentError(f"start[{name!r}] must be {len(params[name])} finite numbers, got {value!r}.")
        params[name] = given
    return params


def _block_diagonal(blocks: list[np.ndarray]) -> np.ndarray:
    size = sum(len(block) for block in blocks)
    T, start = np.zeros((size, size)), 0
    for block in blocks:
        T[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return T


def _device(name: str) -> jax.Device:
    try:
        return jax.devices(name)[0]
    except RuntimeError as error:
        raise ArgumentError(f"device {name!r} is not there: {error}") from error
