"""The result of fitting a formula: what was estimated, how well, and everything that readers need to work from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from glmmjax._arguments import numbers
from glmmjax._errors import ArgumentError, DataError, did_you_mean
from glmmjax._response import whole
from glmmjax.control import Control
from glmmjax.covariance import Covariance
from glmmjax.design import Design
from glmmjax.estimates import TermEstimate
from glmmjax.families import Family
from glmmjax.hessians import zeros
from glmmjax.interior import Interior
from glmmjax.layout import Layout, ModelData, beta_name, lay_out
from glmmjax.model import joint_model
from glmmjax.result import Fit
from glmmjax.solving import Problem
from glmmjax.surroundings import Surroundings, warn_if_changed
from glmmjax.verdict import warn_unless_good

if TYPE_CHECKING:
    import pandas as pd

    from glmmjax.prediction import Prediction


@dataclass(frozen=True)
class Options:
    """How a formula model was asked to be fitted; see :func:`glmmjax.glmm`."""

    control: Control
    reml: bool = False
    priors: Mapping[str, str] | str | None = None
    start: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    covariances: Mapping[str, Covariance] | None = None


@dataclass(frozen=True, eq=False)
class FormulaFit(Fit):
    """A fitted formula model. Frozen, picklable, NumPy and pandas only; compiled programs are found again when needed.

    Attributes:
        design, family, options: what was fitted, and how.
        log_prior: the log prior density of the estimates, not part of ``llf``; 0 without priors.
        estimates: all parameters by name, on the unconstrained scale: "beta", "beta_disp" (log phi), "beta_zi"
            (logit), "psi" (shape), "theta".
        terms: the estimates of each random-effects term.
        read: what functions of the user in the family and the covariances read when it was fitted; None without any.
    """

    design: Design
    family: Family
    options: Options
    log_prior: float
    estimates: Mapping[str, np.ndarray]
    terms: tuple[TermEstimate, ...]
    read: Surroundings | None = None

    # -- size and likelihood -------------------------------------------------------------------------------------------
    @property
    def formula(self) -> str:
        """The formula as it was written."""
        return self.design.formulas["cond"].text

    @property
    def maximized(self) -> float:
        """The log-likelihood with the log prior density."""
        return self.llf + self.log_prior

    @property
    def nobs(self) -> int:
        """The number of observations: the rows used, but for those of weight zero and those without trials."""
        return count_observations(self.family, self.design)

    # -- fixed effects -------------------------------------------------------------------------------------------------
    @property
    def components(self) -> tuple[str, ...]:
        """The components whose fixed effects are reported; a dispersion that is one number is reported as ``sigma``."""
        return tuple(name for name in self.design.components if name != "disp" or not self._constant_dispersion)

    @cached_property
    def params(self) -> pd.Series:
        """The fixed effects on the scale of the linear predictor, named by term."""
        return self._series(np.concatenate([self.estimates[beta_name(c)] for c in self.components]))

    @cached_property
    def fixef(self) -> dict[str, pd.Series]:
        """The fixed effects of each component."""
        import pandas as pd

        parts = self.design.components
        return {c: pd.Series(self.estimates[beta_name(c)], index=list(parts[c].columns), name=c) for c in parts}

    # -- random effects and dispersion ---------------------------------------------------------------------------------
    @property
    def theta(self) -> np.ndarray:
        """Covariance parameters on the unconstrained scale: log standard deviations first, term by term."""
        return self.estimates["theta"]

    @property
    def sigma(self) -> float:
        """The dispersion as the family reports it; 1 if it has none, the geometric mean if it varies between rows."""
        if not self.family.has_dispersion:
            return 1.0
        return float(self.family.sigma(np.exp(np.mean(self.log_phi()))))

    @property
    def psi(self) -> pd.Series:
        """The shape parameters of the family by name, on their natural scale; empty for a family without."""
        import pandas as pd

        shape = self.family.shape
        if shape is None:
            return pd.Series(dtype=float)
        return pd.Series(shape.natural(self.estimates["psi"]), index=list(shape.names))

    @property
    def ngroups(self) -> dict[str, int]:
        """The number of groups of each grouping factor."""
        return {term.group: len(term.levels) for term in self.terms}

    def varcorr(self) -> pd.DataFrame:
        """Variances and correlations of the random effects; see :func:`glmmjax.effects.varcorr`."""
        from glmmjax.effects import varcorr

        return varcorr(self)

    def ranef(self, cond_var: bool = False, component: str = "cond") -> Any:
        """Conditional modes of the random effects by group; see :func:`glmmjax.effects.ranef`."""
        from glmmjax.effects import ranef

        return ranef(self, cond_var=cond_var, component=component)

    def coef(self) -> dict[str, pd.DataFrame]:
        """The coefficients of each group; see :func:`glmmjax.effects.coef`."""
        from glmmjax.effects import coef

        return coef(self)

    # -- readers: each lives in its own module -------------------------------------------------------------------------
    def summary(self) -> Any:
        """A printable summary with ``as_text()``, ``as_html()`` and ``as_latex()``."""
        from glmmjax.summary import summarize

        return summarize(self)

    def tidy(
        self,
        conf_int: bool = True,
        exponentiate: bool = False,
        level: float = 0.95,
        effects: str | Sequence[str] = ("fixed", "shape", "ran_pars"),
    ) -> pd.DataFrame:
        """Estimates as a data frame in the layout of broom.mixed; see :func:`glmmjax.tidying.tidy`."""
        from glmmjax.tidying import tidy

        return tidy(self, conf_int=conf_int, exponentiate=exponentiate, level=level, effects=effects)

    def glance(self) -> pd.DataFrame:
        """One row of fit statistics; see :func:`glmmjax.tidying.glance`."""
        from glmmjax.tidying import glance

        return glance(self)

    def augment(self, newdata: Any = None) -> pd.DataFrame:
        """The data with fitted values and residuals; see :func:`glmmjax.tidying.augment`."""
        from glmmjax.tidying import augment

        return augment(self, newdata)

    def predict(
        self,
        newdata: Any = None,
        type: str = "response",
        re_form: str | None = None,
        allow_new_levels: bool = False,
        se: bool = False,
        interval: str | None = None,
        level: float = 0.95,
        offset: Any = None,
    ) -> Any:
        """Predictions (n,), or with standard errors or limits; see :func:`glmmjax.prediction.predict`."""
        from glmmjax.prediction import predict

        return predict(self, newdata, type, re_form, allow_new_levels, se, interval, level, offset)

    def get_prediction(
        self,
        newdata: Any = None,
        type: str = "response",
        re_form: str | None = None,
        allow_new_levels: bool = False,
        offset: Any = None,
    ) -> Prediction:
        """Predictions with standard errors and limits; see :func:`glmmjax.prediction.get_prediction`."""
        from glmmjax.prediction import get_prediction

        return get_prediction(self, newdata, type, re_form, allow_new_levels, offset)

    def fitted(self) -> np.ndarray:
        """Fitted means given the conditional modes (nobs,)."""
        return self.predict()

    @property
    def fittedvalues(self) -> np.ndarray:
        """Fitted means given the conditional modes (nobs,), as statsmodels calls them."""
        return self.fitted()

    def resid(self, type: str = "response", seed: Any = 0) -> np.ndarray:
        """Residuals (nobs,) of one of several types; see :func:`glmmjax.residuals.residuals`."""
        from glmmjax.residuals import residuals

        return residuals(self, type=type, seed=seed)

    def simulate(self, n: int = 1, re: str = "unconditional", seed: Any = 0) -> np.ndarray:
        """Simulated responses (n, nobs); see :func:`glmmjax.simulation.simulate`."""
        from glmmjax.simulation import simulate

        return simulate(self, n, re=re, seed=seed)

    def refit(self, y: Any) -> FormulaFit:
        """The same model fitted to another response (nobs,), starting from these estimates.

        Categories are given by their numbers, from 0, and the response of a censored family is taken as observed.

        Raises:
            DataError: the response has the wrong length.

        Warns:
            GlmmjaxWarning: as :func:`glmmjax.glmm`.
        """
        from glmmjax.fitting import bind, check_response, fit_design

        values = numbers("refit: the response", y, flags=True).reshape(-1)
        if values.shape != self.design.y.shape:
            raise DataError(
                f"refit: the response must have {len(self.design.y)} values, one per row used, not {len(values)}."
            )
        if self.family.response in ("count", "trials"):
            values = whole(values)
        design, family = replace(self.design, y=values), self.family
        if family.response == "interval":
            design = replace(design, trials=values.copy())
        if family.response == "categories":  # which stay those of this fit
            if not np.all(np.isin(values, np.arange(len(family.categories)))):
                raise DataError(
                    f"refit: the response must be numbers of categories, 0 to {len(family.categories) - 1}, as "
                    f"simulate() gives them: 0 is {family.categories[0]!r}."
                )
        else:
            design, family = bind(design, family)
        check_response(design, family, self.options.fixed)
        fit = fit_design(design, family, replace(self.options, start=self.estimates))
        warn_unless_good(fit.verdict, self.control.warn)
        return fit

    def __repr__(self) -> str:
        return f"<glmmjax.Fit {self.formula!r}, {self.family.name}, llf {self.llf:.3f}, {self.status}>"

    # -- what the maketables package asks of a result ------------------------------------------------------------------
    @property
    def __maketables_coef_table__(self) -> pd.DataFrame:
        from glmmjax.tidying import coef_table

        return coef_table(self)

    @property
    def __maketables_depvar__(self) -> str:
        return self.design.response_name

    @property
    def __maketables_default_stat_keys__(self) -> list[str]:
        return ["N", "ll", "aic", "bic"]

    @property
    def __maketables_stat_labels__(self) -> dict[str, str]:
        return {"ll": "Log-likelihood", "sigma": "Sigma"}

    def __maketables_stat__(self, key: str) -> Any:
        names = {"N": "nobs", "ll": "llf", "aic": "aic", "bic": "bic", "sigma": "sigma"}
        return getattr(self, names[key]) if key in names else None

    # -- for readers ---------------------------------------------------------------------------------------------------
    def log_phi(self, design: Design | None = None) -> np.ndarray:
        """The log of the dispersion parameter of each row (n,), of this design or another coded alike."""
        part = (design or self.design).components["disp"]
        return part.X @ self.estimates[beta_name("disp")] + part.offset

    def positions(self, block: str) -> np.ndarray:
        """Where a block of parameters ("beta", "beta_disp", "theta") stands in ``vcov``."""
        start = 0
        for name, values in self.estimates.items():
            if name == block:
                return start + np.arange(len(values))
            start += len(values)
        raise ArgumentError(f"No parameters are called {block!r}. {did_you_mean(block, self.estimates)}")

    @property
    def _constant_dispersion(self) -> bool:
        part = self.design.components["disp"]
        return part.columns == ("(Intercept)",) and not part.terms and not np.ptp(part.offset)

    @property
    def reported(self) -> np.ndarray:
        """Where the fixed effects stand in ``flat``."""
        return np.concatenate([self.positions(beta_name(c)) for c in self.components])

    @property
    def problem(self) -> Problem:
        """The model and its data, laid out again; with ``beta`` among the parameters however it was estimated."""
        if self.read is not None:
            warn_if_changed(self.read, own_parts(self.family, self.options.covariances))
        return self._problem

    @cached_property
    def _problem(self) -> Problem:
        options = self.options
        layout, data = lay_out(self.design, self.family, options.control.structure, options.covariances, options.priors)
        problem = formula_problem(layout, data, self.parameter_names)
        return replace(problem, inside=Interior(self.design, self.family, layout).move)

    @property
    def no_profile(self) -> str:
        """Restricted maximum likelihood integrates the fixed effects out."""
        return "a fit with reml=True has no likelihood to profile: fit with reml=False" if self.options.reml else ""

    def on_engine(self, report: Callable[..., Any]) -> Callable[..., Any]:
        """A report whose random effects come by term, (groups, effects) each, without padding."""
        return TermReport(report, tuple((term.label, len(term.levels)) for term in self.terms))

    @property
    def random_order(self) -> np.ndarray:
        """Where each spherical effect of the engine's storage stands among ``random_labels``."""
        return np.arange(sum(u.size for u in self.problem.modes))

    @property
    def random_labels(self) -> tuple[str, ...]:
        """A name for every spherical effect: its level, its number there, its group; padding included."""
        return tuple(
            f"u{k}[{', '.join(map(str, place))}]"
            for k, u in enumerate(self.problem.modes)
            for place in np.ndindex(u.shape)
        )

    def params_report(self) -> tuple[Any, Any]:
        """All parameters by name, and their standard errors."""
        se = np.sqrt(np.diag(self.vcov))
        return dict(self.estimates), {name: se[self.positions(name)] for name in self.estimates}

    def random_report(self) -> tuple[Any, Any]:
        """The conditional modes (groups, effects) of each term, and their standard errors."""
        names = [term.label for term in self.terms]
        se = [np.sqrt(np.einsum("gii->gi", term.b_total_vcov(self.known_vcov))) for term in self.terms]
        return dict(zip(names, (term.b for term in self.terms), strict=True)), dict(zip(names, se, strict=True))


def count_observations(family: Family, design: Design) -> int:
    """The rows of a design that enter the likelihood, as R's nobs() counts them."""
    empty = design.weights == 0
    if family.response == "trials":
        empty = empty | (design.trials == 0)
    return len(design.y) - int(np.sum(empty))


@dataclass(frozen=True)
class TermReport:
    """A report of a formula fit, given the effects of each term by its label."""

    report: Callable[..., Any]
    terms: tuple[tuple[str, int], ...]

    def __call__(self, params: Any, effects: Any, data: Any) -> Any:
        random = {label: b[:, :size].T for (label, size), b in zip(self.terms, effects, strict=True)}
        return self.report(params, random, data)


def own_parts(family: Family, covariances: Mapping[str, Covariance] | None) -> tuple[Any, ...]:
    """Where a formula model can hold functions of the user."""
    return (family, *(covariances or {}).values())


def formula_problem(layout: Layout, data: ModelData, names: tuple[str, ...]) -> Problem:
    """A laid-out formula model as a problem to solve."""
    return Problem((joint_model, layout), data, zeros(layout.structure.levels), names)
