"""The front doors: formula and data in, :class:`glmmjax.Fit` out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from glmmjax._arguments import by_name, check_flags, numbers
from glmmjax._errors import ArgumentError, DataError, FamilyError, FormulaError, ResponseError, did_you_mean
from glmmjax._rank import dependent_columns
from glmmjax.alternatives import Ended, alternatives, called_for, wanted
from glmmjax.constraints import constrain
from glmmjax.control import Control, checked_control
from glmmjax.coordinates import coordinates, orthonormal_scale
from glmmjax.covariance import Covariance
from glmmjax.degenerate import has_scale, informative, is_constant
from glmmjax.design import TEXT_NUMBERS, Design, build_design
from glmmjax.estimates import parameter_names, term_estimates, term_label
from glmmjax.families import Family, cumulative, resolve_family, zero_inflated
from glmmjax.formula import Formula, parse_formula
from glmmjax.formula_fit import FormulaFit, Options, formula_problem, own_parts
from glmmjax.information import smallest_variances
from glmmjax.interior import Interior
from glmmjax.layout import Layout, group_counts, lay_out
from glmmjax.model import log_prior_density
from glmmjax.multistart import best_of
from glmmjax.restricted import solve_restricted
from glmmjax.solving import Solution, placed, solve
from glmmjax.start import start_values
from glmmjax.surroundings import read_surroundings
from glmmjax.verdict import judge, warn_unless_good


def glmm(
    formula: str,
    data: Any,
    family: Any = "gaussian",
    *,
    ziformula: str = "~ 0",
    dispformula: str = "~ 1",
    weights: Any = None,
    offset: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    na_action: str = "drop",
    reml: bool = False,
    priors: Mapping[str, str] | str | None = None,
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
            ``cbind(k, n - k) ~ ...``, ``cens(y, status) ~ ...``, ``(x || g)``, ``(1 | a/b)``, ``offset(log(t))``.
            Without bars the model is a GLM.
        data: a pandas or polars data frame or a mapping of names to arrays of length n.
        family: a name such as "binomial", "nbinom2", "Gamma(log)", "binomial(probit)", or a ``Family``.
        ziformula: the probability of an extra zero, on the logit scale; "~ 0" for none, "~ ." for the right-hand side
            of ``formula`` without its offsets. Families without zeros, such as "truncated_poisson" or "Gamma", then
            make a hurdle model. May have random effects and offsets.
        dispformula: the log of the dispersion parameter, for families that have one; likewise. For ordered categories
            the log of the scale, which has no intercept. "~ 0" holds a gaussian standard deviation near zero.
        weights: column name or array (n,). Trials where the response is a proportion or 0/1 with whole weights,
            otherwise the factor by which each row's log-likelihood is multiplied, as in glmmTMB. The precision weights
            of ``lmer(weights = w)``, with variance ``sigma^2 / w``, are ``dispformula="~ 1 + offset(-0.5 * log(w))"``.
        offset: column name, expression or array (n,) on the scale of the linear predictor; adds to ``offset()`` terms.
        contrasts: per factor, "treatment", "sum", "helmert", "poly" or a formulaic contrast.
        na_action: "drop" rows with missing values, counting them, or "raise".
        reml: restricted maximum likelihood: the fixed effects of the mean are integrated out as well, under a flat
            prior, for any family. Likelihoods of models with different fixed effects are then not comparable.
        priors: densities by what they belong to, ``{"beta": "normal(0, 2)", "sd[site]": "gamma(1, 2)"}``, or "weak" for
            data that are separated; see :func:`glmmjax.priors.read_priors`. The fit maximizes the penalized likelihood;
            ``fit.llf`` is without, ``fit.log_prior`` is the logarithm of the prior.
        start: start values by name: "beta", "beta_disp", "beta_zi", "psi", "theta"; unconstrained scale.
        fixed: parameters that are not estimated, by the same names: finite numbers to hold them at (NaN where free),
            ``True`` to hold them where they start, True and False to hold some, or :func:`glmmjax.tied` labels.
        covariances: covariance structures of your own by the name that the formula uses, ``mine(0 + x | g)``.
        control: a :class:`Control`.

    Raises:
        FormulaError, DataError, FamilyError, ResponseError, ArgumentError: what is wrong, where, and the remedy.

    Warns:
        GlmmjaxWarning: the fit did not converge, is separated or not identified; see ``Control(warn=)``.

    Such a fit does not raise, and neither does one at a boundary: ``fit.status`` says what it is.

    Source: Kristensen et al. (2016), J. Stat. Softw. 70(5); parameterizations as in glmmTMB (Brooks et al. 2017).

    >>> from glmmjax import datasets, glmm
    >>> fit = glmm("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> round(fit.llf, 3), float(round(fit.params["Days"], 3))
    (-875.97, 10.467)
    """
    if unknown:
        name = next(iter(unknown))
        raise ArgumentError(f"glmm() has no argument {name!r}. {did_you_mean(name, _ARGUMENTS)}")
    began = time.perf_counter()
    check_flags("glmm", reml=reml)
    formulas = {"cond": formula, "disp": dispformula, "zi": ziformula}
    inputs = {"weights": weights, "offset": offset, "contrasts": contrasts, "na_action": na_action}
    options = Options(
        checked_control(control), reml, priors, by_name("start", start), by_name("fixed", fixed), covariances
    )
    fit = fit_formulas(formulas, data, resolve_family(family), inputs, options, began)
    warn_unless_good(fit.verdict, options.control.warn)
    return fit


_ARGUMENTS = [name for name in glmm.__kwdefaults__ or {}] + ["formula", "data", "family"]


def clmm(
    formula: str,
    data: Any,
    link: str = "logit",
    threshold: str = "flexible",
    *,
    scale: str = "~ 0",
    nominal: str = "~ 0",
    weights: Any = None,
    contrasts: Mapping[str, Any] | None = None,
    na_action: str = "drop",
    priors: Mapping[str, str] | str | None = None,
    start: Mapping[str, Any] | None = None,
    fixed: Mapping[str, Any] | None = None,
    covariances: Mapping[str, Covariance] | None = None,
    control: Control | None = None,
    **unknown: Any,
) -> FormulaFit:
    """Fit a cumulative link mixed model to ordered categories and return a :class:`Fit`.

    ``P(Y <= j) = F((threshold_j + nominal_j - eta) / exp(scale))``, ``eta = X beta + Z b``: a positive coefficient
    moves the response to higher categories. The random effects are integrated out by the Laplace approximation.

    Args:
        formula: the response and what moves all thresholds alike, ``rating ~ temp + contact + (1 | judge)``. The order
            of the categories is that of an ordered factor, or of their sorted values. There is no intercept.
        link: of F: "logit", "probit", "cloglog", "loglog" or "cauchit". As in ordinal::clm, MASS::polr and brms,
            "cloglog" is ``F(x) = 1 - exp(-exp(x))`` and "loglog" ``exp(-exp(-x))``; ordinal::clmm has the two names
            exchanged.
        threshold: "flexible", "symmetric" around the center, or "equidistant".
        scale: predictors of the log of the scale, ``~ contact``; may have random effects. "~ 0" for none.
        nominal: predictors whose effects differ between the thresholds (partial proportional odds), ``~ temp``: a
            positive one moves the response to lower categories. With structured thresholds it acts on their parts, so
            that they keep the structure for every value of the predictors, as in ordinal::clm: "nominal1" is the effect
            on the first or central threshold, the next ones are those on the steps.
        weights, contrasts, na_action, priors, start, fixed, covariances, control: as for :func:`glmm`.

    Raises:
        FamilyError: an unknown link or threshold, or thresholds that so few categories cannot have.
        FormulaError, DataError, ResponseError, ArgumentError: as for :func:`glmm`.

    Warns:
        GlmmjaxWarning: as :func:`glmm`.

    Source: Christensen (2018), Cumulative link models for ordinal regression with the R package ordinal.

    >>> from glmmjax import clmm, datasets
    >>> fit = clmm("rating ~ temp + contact + (1 | judge)", datasets.load("wine"))
    >>> round(fit.llf, 4), float(round(fit.params["temp[T.warm]"], 3))
    (-81.5654, 3.063)
    """
    if unknown:
        name = next(iter(unknown))
        raise ArgumentError(f"clmm() has no argument {name!r}. {did_you_mean(name, _CLMM_ARGUMENTS)}")
    began = time.perf_counter()
    formulas = {"cond": formula, "disp": scale, "nominal": nominal, "zi": "~ 0"}
    inputs = {"weights": weights, "offset": None, "contrasts": contrasts, "na_action": na_action}
    options = Options(
        checked_control(control), False, priors, by_name("start", start), by_name("fixed", fixed), covariances
    )
    fit = fit_formulas(formulas, data, cumulative(link, threshold), inputs, options, began)
    warn_unless_good(fit.verdict, options.control.warn)
    return fit


_CLMM_ARGUMENTS = [name for name in clmm.__kwdefaults__ or {}] + ["formula", "data", "link", "threshold"]


def fit_formulas(
    texts: Mapping[str, str],
    data: Any,
    family: Family,
    inputs: Mapping[str, Any],
    options: Options,
    began: float,
) -> FormulaFit:
    """Fit the model whose components have these formulas."""
    formulas, family, fixed = read_formulas(texts, family)
    design = build_design(
        formulas,
        data,
        **inputs,
        response_kind=family.response,
        without_intercept=family.without_intercept,
        rank_deficient=options.control.rank_deficient,
    )
    design, family = bind(design, family)
    options = replace(options, fixed={**fixed, **options.fixed})
    check_response(design, family, options.fixed)
    return fit_design(design, family, options, began)


def read_formulas(texts: Mapping[str, str], family: Family) -> tuple[dict[str, Formula], Family, dict[str, Any]]:
    """The formulas of the components that the model has, the family with zero inflation, and what is held fixed.

    Raises:
        ArgumentError: a component that the family cannot have.
    """
    cond = parse_formula(texts["cond"])
    formulas, fixed = {"cond": cond}, {}
    ordinal = bool(family.without_intercept)
    if "nominal" in texts and not _is_none(texts["nominal"]):
        if not ordinal:
            raise ArgumentError(f"nominal: the family {family.name!r} has no thresholds: it is for ordered categories.")
        formulas["nominal"] = _one_sided(texts["nominal"], cond)
    if family.has_dispersion or (ordinal and not (_is_none(texts["disp"]) or _is_constant(texts["disp"]))):
        text = texts["disp"]
        if _is_none(text):
            if family.name != "gaussian":
                raise ArgumentError("dispformula '~ 0' is for the family 'gaussian': use '~ 1' for a constant.")
            fixed["beta_disp"] = LOG_SD_OF_ZERO
            formulas["disp"] = replace(_one_sided("~ 1", cond), text="~ 0")
        else:
            formulas["disp"] = _one_sided(text, cond)
    elif not (_is_constant(texts["disp"]) or ordinal):
        raise ArgumentError(f"dispformula: the family {family.name!r} has no dispersion parameter.")
    if not _is_none(texts["zi"]):
        if family.response == "categories" or family.response == "interval":
            raise ArgumentError(f"ziformula: the family {family.name!r} cannot have extra zeros.")
        formulas["zi"] = _one_sided(texts["zi"], cond)
        family = zero_inflated(family)
    return formulas, family, fixed


# The standard deviation that dispformula "~ 0" stands for, eps^(1/4), as in glmmTMB.
LOG_SD_OF_ZERO = 0.25 * float(np.log(np.finfo(float).eps))


def _squeezed(text: Any) -> str:
    return "".join(text.split()) if isinstance(text, str) else ""


def _is_none(text: str) -> bool:
    return _squeezed(text) in ("~0", "~-1")


def _is_constant(text: str) -> bool:
    return _squeezed(text) == "~1"


def _one_sided(text: str, cond: Formula) -> Formula:
    """A formula without a response; "~ ." is that of the mean without its offsets."""
    if _squeezed(text) == "~.":
        right = " + ".join(dict.fromkeys([cond.fixed, *(bar.text for bar in cond.bars)]))
        return replace(cond, text=f"~ {right}", response=None, offsets=())
    return parse_formula(text, response=False)


def bind(design: Design, family: Family) -> tuple[Design, Family]:
    """The family for these data, and the design with a component for each of its predictors.

    Predictors beyond the usual ones share a formula: those of the categories that of the mean, those of the thresholds
    that of ``nominal``.
    """
    if family.bind is None:
        return design, family
    family = family.bind(family, design.y, design.response_levels or (), tuple(design.components))
    if family.response != "categories":
        return design, family
    parts, formulas = dict(design.components), dict(design.formulas)
    source = "nominal" if "nominal" in parts else "cond"
    for name in family.predictors:
        parts[name], formulas[name] = parts[source], formulas[source]
    if source == "nominal":
        del parts[source], formulas[source]
    in_order = [name for name in family.components if name in parts]
    return replace(design, components={c: parts[c] for c in in_order}, formulas=formulas), family


def _check_thresholds(design: Design) -> None:
    """Raise where an effect that is the same for all thresholds is also there for each of them."""
    nominal = design.components.get("nominal1")
    if nominal is None:
        return
    cond, p = design.components["cond"], nominal.X.shape[1]
    dependent = dependent_columns(np.column_stack([np.ones(design.n), nominal.X, cond.X]))
    twice = [cond.columns[column - 1 - p] for column in dependent if column > p]
    if twice:
        raise ArgumentError(
            f"nominal: the effect of {', '.join(map(repr, twice))} on all thresholds alike cannot be told from its "
            "effects on each of them: leave it out of the formula, or out of nominal=."
        )


def check_response(design: Design, family: Family, fixed: Mapping[str, Any]) -> None:
    """Raise where no model of this form can be fitted to the response.

    Raises:
        ResponseError: it is outside the support of the family, the same number in every row, or as many effects as rows
            take the place of its variation.
        FormulaError: it is among its own predictors.
        DataError: there are as many columns as rows, and a dispersion to be estimated besides.
        ArgumentError: an effect that is the same for all thresholds is also there for each of them.
    """
    _check_thresholds(design)
    _check_predictors(design)
    inside = family.in_support(design.y, design.trials)
    if not np.all(inside):
        first = int(np.argmin(inside))
        raise ResponseError(
            f"{design.response_name}: row {design.rows[first]} is {design.y[first]:g}, but the response of the family "
            f"{family.name!r} must be {family.support} ({np.sum(~inside)} such rows)."
        )
    if family.zero_inflated and family.has_zeros is None and np.all(design.y == np.floor(np.abs(design.y))):
        raise FamilyError(
            f"family {family.name!r} does not say whether it has zeros, and {design.response_name} are counts: for "
            "extra zeros give Family(..., response='count', has_zeros=True), for a hurdle has_zeros=False and a "
            "density of the counts from 1 on."
        )
    if family.zero_inflated and not family.has_zeros and not np.any(design.y != 0):
        raise ResponseError(f"{design.response_name} is zero in every row: there is nothing behind the hurdle.")
    free = has_scale(family) and "disp" in design.components and estimates_dispersion(fixed)
    if free and is_constant(design, family):
        raise ResponseError(
            f"{design.response_name} is {design.y[informative(design, family)][0]:g} in every row: there is no "
            "variation to explain, and the likelihood has no maximum."
        )
    p, n = design.components["cond"].X.shape[1], int(np.sum(informative(design, family)))
    if free and p >= n:
        text = "".join(f" {note}" for note in design.notes if TEXT_NUMBERS in note)
        raise DataError(
            f"The formula {design.formulas['cond'].text!r} has {p} columns for {n} rows: they reproduce the response "
            f"exactly, and nothing is left to estimate its dispersion from. Use fewer predictors.{text}"
        )
    binary = family.response == "trials" and bool(np.all(design.trials == 1.0))
    constant = "disp" not in design.components or _is_constant(design.formulas["disp"].text)
    if not (family.name == "gaussian" and constant and free) and not binary and family.response != "categories":
        return
    for term in design.components["cond"].terms:
        if term.n_levels == len(design.y):
            twin = "the residual" if family.name == "gaussian" else "the response"
            raise ResponseError(
                f"({term_label(term.columns, term.group)}): the factor has as many levels as there are rows, so its "
                f"variance and that of {twin} cannot be told apart. Use a coarser grouping factor."
            )


def estimates_dispersion(fixed: Mapping[str, Any]) -> bool:
    """Whether the rules of ``fixed`` leave something of the dispersion to estimate."""
    rule = fixed.get("beta_disp")
    if rule is None or rule is True:
        return rule is None
    try:
        return not np.all(np.isfinite(np.asarray(rule, dtype=float)))
    except (TypeError, ValueError):
        return True  # a name or labels, which tie parameters


def _check_predictors(design: Design) -> None:
    """Raise where the response is a predictor of itself."""
    name = design.response_name
    for part in design.components.values():
        fixed = [column for column in (*part.columns, *part.dropped) if name in column.split(":")]
        effects = [f"({t.columns[-1]} | {t.group})" for t in part.terms if name in (*t.columns, *t.factors)]
        if fixed or effects or name in part.coding.levels:
            raise FormulaError(
                f"The response {name!r} is a predictor of itself in {part.coding.where}: it explains all of itself. "
                f"Leave {(fixed + effects or [name])[0]!r} out of the right-hand side."
            )


def fit_design(
    design: Design, family: Family, options: Options, began: float | None = None, starts: int | str | None = None
) -> FormulaFit:
    """Fit a design: lay it out, find start values, run the compiled program, collect the result.

    ``starts`` goes before that of the control.
    """
    began = time.perf_counter() if began is None else began
    control, held = options.control, {} if family.shape is None or family.shape.held is None else {"psi": True}
    layout, data = lay_out(design, family, control.structure, options.covariances, options.priors, options.reml)
    data = placed(data, layout.structure, control)
    scale = {name: orthonormal_scale(part.X) for name, part in design.components.items()}
    plain, unit = start_values(design, family, layout, scale)
    params = {**plain, **checked_start(plain, options.start)}
    names = sorted(params)
    fixed = {**held, **options.fixed}
    flat, free = constrain({name: params[name] for name in names}, fixed)
    T = coordinates(design, layout, params, scale, free if fixed else None).in_unit(unit)
    if options.start:
        flat = Interior(design, family, layout, plain).move(flat, T)
    labels = parameter_names(design, layout, family)
    read = read_surroundings(own_parts(family, options.covariances))
    prepared = time.perf_counter()

    def run(start: np.ndarray) -> Solution:
        if options.reml:
            return solve_restricted(layout, data, labels, control, start, T)
        return solve(formula_problem(layout, data, labels), control, start, T)

    def others(first: Solution) -> list[tuple[str, np.ndarray]]:
        return _other_starts(design, family, layout, flat, T, first, control.starts if starts is None else starts)

    (state, report, compile_time), searches = best_of(run, flat, others)
    done = time.perf_counter()
    timings = {
        "design": prepared - began,
        "compile": compile_time,
        "run": done - prepared - compile_time,
    }
    bounds = np.cumsum([len(params[name]) for name in names])[:-1]
    estimates = dict(zip(names, np.split(state.flat, bounds), strict=True))
    terms = term_estimates(design, layout, state, report)
    counts = group_counts(design, layout)
    modes_vcov = tuple(x[..., :count] for x, count in zip(state.at.modes_vcov, counts, strict=True))
    verdict = judge(design, family, layout, state, modes_vcov, T, labels)
    log_base = np.sum(design.weights * family.log_base(design.y, design.trials))
    log_prior = log_prior_density(layout, data, estimates)
    return FormulaFit(
        design=design,
        family=family,
        options=options,
        control=control,
        estimates=estimates,
        parameter_names=labels,
        flat=state.flat,
        directions=T,
        vcov=verdict.vcov,
        terms=terms,
        llf=float(log_base - state.at.value - log_prior),
        log_prior=log_prior,
        gradient=state.at.gradient,
        hessian=state.at.hessian,
        verdict=verdict,
        iterations=int(state.iterations),
        timings=timings,
        searches=searches,
        read=read,
    )


def _other_starts(
    design: Design, family: Family, layout: Layout, flat: np.ndarray, T: np.ndarray, first: Solution, starts: int | str
) -> list[tuple[str, np.ndarray]]:
    """The starts beside ``flat`` that were asked for, or that the end of the first search calls for."""
    if starts == 1:
        return []
    if isinstance(starts, int):
        found = alternatives(design, family, layout, T, starts - 1)
        return [(name, flat + shift) for name, shift in found.items()]
    state = first.state
    variances = smallest_variances(
        tuple(x[None] for x in state.at.modes_vcov), np.array([group_counts(design, layout)])
    )
    ends = Ended(state.flat[None], np.asarray(state.outcome)[None], variances, state.at.hessian[None], T[None])
    chosen = wanted(design, family, layout, ends)[0]
    if not np.any(chosen):
        return []
    found = alternatives(design, family, layout, T)
    return [(name, flat + found[name]) for name in called_for(found, chosen)]


def checked_start(params: Mapping[str, np.ndarray], start: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The start values that were given, by the names of ``params``.

    Raises:
        ArgumentError: an unknown name, a wrong number of values, or one that is not finite.
    """
    found = {}
    for name, value in start.items():
        if name not in params:
            raise ArgumentError(f"start: no parameters are called {name!r}. {did_you_mean(name, params)}")
        given = numbers(f"start[{name!r}]", value).reshape(-1)
        if given.shape != params[name].shape or not np.all(np.isfinite(given)):
            raise ArgumentError(f"start[{name!r}] must be {len(params[name])} finite numbers, got {value!r}.")
        found[name] = given
    return found
