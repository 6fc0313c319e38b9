"""The front doors: formula and data in, :class:`glmmjax.Fit` out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from glmmjax._errors import ArgumentError, ResponseError, did_you_mean
from glmmjax.constraints import constrain
from glmmjax.control import Control, checked_control
from glmmjax.covariance import Covariance
from glmmjax.design import Design, build_design
from glmmjax.estimates import parameter_names, term_estimates, term_label
from glmmjax.families import Family, resolve_family
from glmmjax.formula import parse_formula
from glmmjax.formula_fit import FormulaFit, formula_problem
from glmmjax.layout import Layout, beta_name, lay_out
from glmmjax.solving import solve
from glmmjax.start import orthonormal_scale, start_values
from glmmjax.verdict import judge


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
    fixed: Mapping[str, Any] | None = None,
    covariances: Mapping[str, Covariance] | None = None,
    control: Control | None = None,
    **unknown: Any,
) -> FormulaFit:
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
        fixed: parameters that are not estimated, by the same names: numbers to hold them at (NaN where free), ``True``
            to hold them where they start, or :func:`glmmjax.tied` labels.
        covariances: covariance structures of your own by the name that the formula uses, ``mine(0 + x | g)``.
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
    control = checked_control(control)
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
    return fit_design(design, family, control, start, fixed, covariances, began)


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


def fit_design(
    design: Design,
    family: Family,
    control: Control,
    start: Mapping[str, Any] | None = None,
    fixed: Mapping[str, Any] | None = None,
    covariances: Mapping[str, Covariance] | None = None,
    began: float | None = None,
) -> FormulaFit:
    """Fit a design: lay it out, find start values, run the compiled program, collect the result."""
    began = time.perf_counter() if began is None else began
    layout, data = lay_out(design, family, control.structure, covariances)
    scale = {name: orthonormal_scale(part.X) for name, part in design.components.items()}
    blocks = {beta_name(name): S for name, S in scale.items()}
    params = _checked_start(start_values(design, family, layout, scale), start)
    names = sorted(params)
    flat, free = constrain({name: params[name] for name in names}, fixed)
    T = free if fixed else _block_diagonal([blocks.get(name, np.eye(len(params[name]))) for name in names])
    labels = parameter_names(design, layout)
    problem = formula_problem(layout, data, labels)
    prepared = time.perf_counter()
    state, report, compile_time = solve(problem, control, flat, T)
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
    verdict = judge(design, family, layout, state, modes_vcov, T, labels)
    log_base = np.sum(design.weights * family.log_base(design.y, design.trials))
    return FormulaFit(
        design=design,
        family=family,
        covariances=dict(covariances or {}),
        control=control,
        fixed=dict(fixed or {}),
        estimates=estimates,
        parameter_names=labels,
        flat=state.flat,
        directions=T,
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
