"""A fit as data frames: its estimates (tidy), its statistics (glance), its rows (augment)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from glmmjax._arguments import check_flags
from glmmjax._errors import ArgumentError, did_you_mean
from glmmjax.layout import beta_name
from glmmjax.residuals import observed

if TYPE_CHECKING:
    import pandas as pd

    from glmmjax.estimates import TermEstimate
    from glmmjax.formula_fit import FormulaFit

EFFECTS = ("fixed", "shape", "ran_pars", "ran_vals")
RATIO_LINKS = ("log", "logit", "cloglog")
_LINKS = {"disp": "log", "zi": "logit"}
_LABELS = ["effect", "component", "group", "level", "term"]
_NUMBERS = ["estimate", "std_error", "statistic", "p_value", "conf_low", "conf_high"]


def tidy(
    fit: FormulaFit,
    conf_int: bool = True,
    exponentiate: bool = False,
    level: float = 0.95,
    effects: str | Sequence[str] = ("fixed", "shape", "ran_pars"),
) -> pd.DataFrame:
    """The estimates, one row each, in the layout of R's broom.mixed.

    Columns effect, component, group, level, term, estimate, std_error, statistic, p_value, conf_low, conf_high; what
    does not apply is missing. Standard errors of variance parameters are by the delta method. Wald intervals are taken
    where the estimate is most nearly normal and transformed back: the log of a standard deviation, for a correlation
    ``r / sqrt(1 - r^2)``. A variance at its boundary has neither.

    Args:
        conf_int: with the columns conf_low and conf_high.
        exponentiate: fixed effects as ratios (odds ratios, rate ratios): ``exp`` of the estimate and its limits, the
            standard error multiplied by the new estimate; statistic and p-value are those of the coefficient.
        level: coverage of the intervals, between 0 and 1.
        effects: which rows: "fixed"; "shape", the dispersion and the shape parameters of the family on their natural
            scale; "ran_pars", standard deviations ``sd__x`` and correlations ``cor__(Intercept).x``, for a gaussian
            response also ``sd__Observation``; "ran_vals", the conditional modes of each group.

    Raises:
        ArgumentError: unknown effects, a level out of range, or exponentiate under a link whose coefficients are not
            logs of ratios.

    Source: B. Bolker, D. Robinson, broom.mixed, for the layout.

    >>> from glmmjax import datasets, glmm
    >>> table = tidy(glmm("Yield ~ 1 + (1 | Batch)", datasets.load("dyestuff")))
    >>> table["term"].to_list()
    ['(Intercept)', 'sd__(Intercept)', 'sd__Observation']
    """
    import pandas as pd

    from glmmjax.result import normal_quantile

    check_flags("tidy", conf_int=conf_int, exponentiate=exponentiate)
    half = normal_quantile(level)
    if not isinstance(effects, (str, Sequence)):
        raise ArgumentError(f"tidy: effects must be one of {', '.join(EFFECTS)}, or several, not {effects!r}.")
    wanted = (effects,) if isinstance(effects, str) else tuple(effects)
    for effect in wanted:
        if effect not in EFFECTS:
            raise ArgumentError(f"tidy: unknown effects {effect!r}. {did_you_mean(effect, EFFECTS)}")
    makers = {
        "fixed": lambda: [row for name in fit.components for row in _fixed_rows(fit, name, half, exponentiate)],
        "shape": lambda: [
            ("shape", "cond", None, None, name, value, se, np.nan, np.nan, low, high)
            for name, value, se, low, high in shape_estimates(fit, level)
        ],
        "ran_pars": lambda: [*(row for term in fit.terms for row in _spread_rows(fit, term, half)), *_sigma(fit, half)],
        "ran_vals": lambda: [row for term in fit.terms for row in _mode_rows(fit, term, half)],
    }
    rows = [row for effect in EFFECTS if effect in wanted for row in makers[effect]()]
    # object columns, so that a missing group is None whatever the version of pandas, and levels keep their type
    labels = pd.DataFrame([row[: len(_LABELS)] for row in rows], columns=_LABELS, dtype=object)
    values = pd.DataFrame([row[len(_LABELS) :] for row in rows], columns=_NUMBERS, dtype=float)
    table = pd.concat([labels, values], axis=1)
    return table if conf_int else table.drop(columns=["conf_low", "conf_high"])


def glance(fit: FormulaFit) -> pd.DataFrame:
    """The statistics of a fit in one row.

    Columns nobs, df, llf, aic, aicc, bic, deviance, df_resid, sigma, converged, status; ``deviance = -2 llf``, and
    ``aicc = aic + 2 df (df + 1) / (nobs - df - 1)``, missing where there are not more rows than that.

    Source: C. M. Hurvich, C.-L. Tsai (1989), Biometrika 76(2), for aicc.
    """
    import pandas as pd

    spare = fit.nobs - fit.df - 1
    row = {
        "nobs": fit.nobs,
        "df": fit.df,
        "llf": fit.llf,
        "aic": fit.aic,
        "aicc": fit.aic + 2.0 * fit.df * (fit.df + 1) / spare if spare > 0 else np.nan,
        "bic": fit.bic,
        "deviance": -2.0 * fit.llf,
        "df_resid": fit.df_resid,
        "sigma": fit.sigma,
        "converged": fit.converged,
        "status": fit.status,
    }
    return pd.DataFrame([row])


def augment(fit: FormulaFit, newdata: Any = None) -> pd.DataFrame:
    """The rows of the fit with fitted values and residuals, or new data with fitted values.

    Without ``newdata``: the response (a proportion for binomial families, with its ``trials``), the group of each row
    in each grouping factor, ``fitted``, ``resid`` (response less fitted) and ``pearson``; the index holds the positions
    of the rows in the data of the fit, so that rows dropped for missing values are not there. With ``newdata``: a copy
    of it in pandas with the column ``fitted``.

    Raises:
        DataError: new data that the model cannot be evaluated on.
    """
    import pandas as pd

    if newdata is not None:
        frame = _as_pandas(newdata)
        frame["fitted"] = fit.predict(newdata)
        return frame
    design = fit.design
    if fit.family.response == "categories":
        return _augment_categories(fit)
    with np.errstate(invalid="ignore"):  # no trials, no proportion
        columns: dict[str, Any] = {design.response_name: observed(fit)}
    if fit.family.response == "trials":
        columns["trials"] = design.trials
    for _, term in design.terms:
        columns[term.group] = pd.Series(term.levels).to_numpy()[term.index]
    columns |= {"fitted": fit.fitted(), "resid": fit.resid("response"), "pearson": fit.resid("pearson")}
    return pd.DataFrame(columns, index=design.rows)


def _augment_categories(fit: FormulaFit) -> pd.DataFrame:
    """The rows of a fit to categories: the category, the most probable one, the probability of each."""
    import pandas as pd

    labels = np.array(fit.family.categories, dtype=object)
    columns: dict[str, Any] = {fit.design.response_name: labels[fit.design.y.astype(int)]}
    for _, term in fit.design.terms:
        columns[term.group] = pd.Series(term.levels).to_numpy()[term.index]
    columns["fitted"] = fit.predict(type="class")
    columns |= {f"prob_{label}": p for label, p in zip(labels, fit.predict(type="probs").T, strict=True)}
    return pd.DataFrame(columns, index=fit.design.rows)


def fixed_effects(fit: FormulaFit, component: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Estimates, standard errors, z statistics and two-sided p-values of a component's fixed effects, (p,) each."""
    from scipy.special import ndtr

    name = beta_name(component)
    estimate, se = fit.estimates[name], np.sqrt(np.diag(fit.vcov)[fit.positions(name)])
    z = estimate / se
    return estimate, se, z, 2.0 * ndtr(-np.abs(z))


def component_link(fit: FormulaFit, component: str) -> str:
    """The name of the link on whose scale a component's linear predictor is."""
    return _LINKS.get(component, fit.family.link.name)


def shape_estimates(fit: FormulaFit, level: float = 0.95) -> list[tuple[str, float, float, float, float]]:
    """Name, estimate, standard error and limits of the dispersion and of each shape parameter, on the natural scale.

    A dispersion that varies between rows has fixed effects instead, and that of a gaussian response is with the
    variances. Standard errors are by the delta method. Limits are Wald's on the unconstrained scale, transformed, where
    each parameter is a function of one there, otherwise on the natural scale. A parameter that is held has neither.
    """
    from glmmjax.result import normal_quantile

    shape, found = fit.family.shape, _dispersion(fit, level)
    if shape is None:
        return found
    psi, where = fit.estimates["psi"], fit.positions("psi")
    value = np.asarray(shape.natural(psi), dtype=float)
    steps = 1e-6 * np.eye(len(psi)) * np.maximum(np.abs(psi), 1.0)
    J = np.stack([(shape.natural(psi + h) - shape.natural(psi - h)) / (2.0 * np.sum(h)) for h in steps], axis=1)
    wide = np.zeros((len(value), len(fit.flat)))
    wide[:, where] = J
    se = fit.combination_errors(wide)
    half = normal_quantile(level)
    if len(value) == len(psi) and np.array_equal(J, np.diag(np.diag(J))):
        reach = half * np.sqrt(np.diag(fit.vcov)[where])
        ends = np.sort([shape.natural(psi - reach), shape.natural(psi + reach)], axis=0)
    else:
        ends = np.array([value - half * se, value + half * se])
    return [*found, *zip(shape.names, value.tolist(), se.tolist(), *ends.tolist(), strict=True)]


def _dispersion(fit: FormulaFit, level: float) -> list[tuple[str, float, float, float, float]]:
    """The dispersion phi, where it is one number and not that of a gaussian response."""
    from glmmjax.result import normal_quantile

    family = fit.family
    if not family.has_dispersion or "disp" in fit.components or family.name == "gaussian":
        return []
    return [(family.phi_name or "phi", *_constant_phi(fit, normal_quantile(level)))]


def _constant_phi(fit: FormulaFit, half: float) -> tuple[float, float, float, float]:
    """The one phi of all rows, its standard error by the delta method, and its limits on the log scale."""
    phi = float(np.exp(fit.log_phi()[0]))
    log_se = float(np.sqrt(np.diag(fit.vcov)[fit.positions(beta_name("disp"))][0]))
    spread = float(np.exp(half * log_se))
    return phi, phi * log_se, phi / spread, phi * spread


def coef_table(fit: FormulaFit) -> pd.DataFrame:
    """The fixed effects as the maketables package reads them: index of names, columns b, se, t, p, ci95l, ci95u."""
    import pandas as pd

    limits = fit.conf_int()
    columns = {"b": fit.params, "se": fit.bse, "t": fit.tvalues, "p": fit.pvalues}
    return pd.DataFrame({**columns, "ci95l": limits["lower"], "ci95u": limits["upper"]})


def _fixed_rows(fit: FormulaFit, component: str, half: float, exponentiate: bool) -> list[tuple[Any, ...]]:
    estimate, se, z, p = fixed_effects(fit, component)
    low, high = estimate - half * se, estimate + half * se
    if exponentiate:
        link = component_link(fit, component)
        if link not in RATIO_LINKS:
            raise ArgumentError(
                f"exponentiate=True: exp(coefficient) is a ratio under the links {', '.join(RATIO_LINKS)}, but the "
                f"model has the link {link!r}. Leave exponentiate out."
            )
        estimate, low, high = np.exp(estimate), np.exp(low), np.exp(high)
        se = se * estimate
    names = fit.design.components[component].columns
    return [("fixed", component, None, None, *row) for row in zip(names, estimate, se, z, p, low, high, strict=True)]


def _spread_rows(fit: FormulaFit, term: TermEstimate, half: float) -> list[tuple[Any, ...]]:
    """Standard deviations and correlations of a term."""
    sd, r = term.sd, term.correlations
    sd_se, r_se = (fit.combination_errors(J) for J in (term.sd_jacobian, term.correlations_jacobian))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        spread = np.exp(half * sd_se / sd)
        t, t_se = r / np.sqrt(1.0 - r**2), r_se / (1.0 - r**2) ** 1.5
        sd_limits = sd / spread, sd * spread
        r_low, r_high = (x / np.sqrt(1.0 + x**2) for x in (t - half * t_se, t + half * t_se))
    sd_names = [f"sd__{name}" for name in term.columns]
    r_names = [f"cor__{term.columns[i]}.{term.columns[j]}" for i, j in term.pairs]
    cells = [*zip(sd_names, sd, sd_se, *sd_limits, strict=True), *zip(r_names, r, r_se, r_low, r_high, strict=True)]
    return [_row("ran_pars", term, None, *cell) for cell in cells]


def _sigma(fit: FormulaFit, half: float) -> list[tuple[Any, ...]]:
    """The residual standard deviation of a gaussian response, if it is one number."""
    if fit.family.name != "gaussian" or "disp" in fit.components:
        return []
    sigma, se, low, high = _constant_phi(fit, half)
    return [("ran_pars", "cond", "Residual", None, "sd__Observation", sigma, se, np.nan, np.nan, low, high)]


def _mode_rows(fit: FormulaFit, term: TermEstimate, half: float) -> list[tuple[Any, ...]]:
    """The conditional modes of a term, group by group."""
    se = np.sqrt(np.diagonal(term.b_total_vcov(fit.known_vcov), axis1=1, axis2=2))
    return [
        _row("ran_vals", term, group, name, b, b_se, b - half * b_se, b + half * b_se)
        for group, modes, errors in zip(term.levels, term.b, se, strict=True)
        for name, b, b_se in zip(term.columns, modes, errors, strict=True)
    ]


def _row(
    effect: str, term: TermEstimate, group: Any, name: str, estimate: float, se: float, low: float, high: float
) -> tuple[Any, ...]:
    return (effect, term.component, term.group, group, name, estimate, se, np.nan, np.nan, low, high)


def _as_pandas(data: Any) -> pd.DataFrame:
    import pandas as pd

    from glmmjax._frames import read_table

    if isinstance(data, pd.DataFrame):
        return data.copy()
    table = read_table(data, "newdata")
    return pd.DataFrame({name: table.read(name) for name in table.names})
