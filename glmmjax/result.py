"""The result of a fit: what was estimated, how well, and everything that readers need to work from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from glmmjax._errors import ArgumentError, DataError, did_you_mean
from glmmjax.control import Control
from glmmjax.design import Design
from glmmjax.estimates import TermEstimate
from glmmjax.families import Family
from glmmjax.layout import beta_name
from glmmjax.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd

    from glmmjax.prediction import Prediction


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted model. Frozen, picklable, NumPy and pandas only; compiled programs are found again when needed.

    Attributes:
        design, family, control: what was fitted, and how.
        estimates: all parameters by name, on the unconstrained scale: "beta", "beta_disp" (log phi), "theta".
        parameter_names: a name for each of them, in the order of ``vcov``.
        vcov: their joint covariance (k, k).
        terms: the estimates of each random-effects term.
        llf: log-likelihood (Laplace approximation).
        gradient: of the negative log-likelihood in the parameters (k,).
        hessian: its exact second derivatives (k, k).
        verdict: what became of the fit.
        iterations: evaluations of the outer optimizer.
        timings: seconds for "design", "compile" and "run".
    """

    design: Design
    family: Family
    control: Control
    estimates: Mapping[str, np.ndarray]
    parameter_names: tuple[str, ...]
    vcov: np.ndarray
    terms: tuple[TermEstimate, ...]
    llf: float
    gradient: np.ndarray
    hessian: np.ndarray
    verdict: Verdict
    iterations: int
    timings: Mapping[str, float]

    # -- what became of it ---------------------------------------------------------------------------------------------
    @property
    def status(self) -> str:
        """How the fit ended, in words; "converged" alone means that nothing is wrong."""
        return self.verdict.status

    @property
    def converged(self) -> bool:
        """Whether the optimizer met its criterion."""
        return self.verdict.converged

    @property
    def pd_hess(self) -> bool:
        """Whether the Hessian is positive definite in the parameters that are not at a boundary."""
        return self.verdict.pd_hess

    @property
    def max_gradient(self) -> float:
        """The largest absolute derivative of the negative log-likelihood in the parameters."""
        return float(np.max(np.abs(self.gradient), initial=0.0))

    # -- size and likelihood -------------------------------------------------------------------------------------------
    @property
    def formula(self) -> str:
        """The formula as it was written."""
        return self.design.formulas["cond"].text

    @property
    def nobs(self) -> int:
        """The number of observations used."""
        return len(self.design.y)

    @property
    def df(self) -> int:
        """The number of estimated parameters."""
        return len(self.vcov)

    @property
    def df_resid(self) -> int:
        """Observations less parameters."""
        return self.nobs - self.df

    @property
    def aic(self) -> float:
        """Akaike's information criterion, ``-2 llf + 2 df``."""
        return -2.0 * self.llf + 2.0 * self.df

    @property
    def bic(self) -> float:
        """The Bayesian information criterion, ``-2 llf + log(nobs) df``."""
        return -2.0 * self.llf + np.log(self.nobs) * self.df

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
    def bse(self) -> pd.Series:
        """Standard errors of the fixed effects; NaN where the Hessian is not positive definite."""
        return self._series(np.sqrt(np.diag(self.cov_params().to_numpy())))

    @property
    def tvalues(self) -> pd.Series:
        """z statistics of the fixed effects."""
        return self.params / self.bse

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of the z statistics."""
        from scipy.special import ndtr

        return self._series(2.0 * ndtr(-np.abs(self.tvalues.to_numpy())))

    def conf_int(self, level: float = 0.95, method: str = "wald") -> pd.DataFrame:
        """Confidence limits of the fixed effects, columns "lower" and "upper".

        Args:
            level: coverage, between 0 and 1.
            method: "wald", ``estimate +- z se``.

        Raises:
            ArgumentError: level or method is out of range.
        """
        import pandas as pd

        if method != "wald":
            raise ArgumentError(f"conf_int: method must be 'wald', not {method!r}.")
        half = normal_quantile(level) * self.bse
        return pd.DataFrame({"lower": self.params - half, "upper": self.params + half})

    def cov_params(self, full: bool = False) -> pd.DataFrame:
        """The covariance of the fixed effects, or of all parameters on the unconstrained scale if ``full``."""
        import pandas as pd

        names = self.parameter_names
        keep = np.arange(len(names)) if full else self._fixed_positions
        labels = [names[i] for i in keep]
        return pd.DataFrame(self.vcov[np.ix_(keep, keep)], index=labels, columns=labels)

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
    def ngroups(self) -> dict[str, int]:
        """The number of groups of each grouping factor."""
        return {term.group: len(term.levels) for term in self.terms}

    def varcorr(self) -> pd.DataFrame:
        """Variances and correlations of the random effects; see :func:`glmmjax.effects.varcorr`."""
        from glmmjax.effects import varcorr

        return varcorr(self)

    def ranef(self, cond_var: bool = False) -> Any:
        """Conditional modes of the random effects by group; see :func:`glmmjax.effects.ranef`."""
        from glmmjax.effects import ranef

        return ranef(self, cond_var=cond_var)

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
        effects: str | Sequence[str] = ("fixed", "ran_pars"),
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

    def resid(self, type: str = "response") -> np.ndarray:
        """Residuals (nobs,), "response", "pearson" or "working"; see :func:`glmmjax.residuals.residuals`."""
        from glmmjax.residuals import residuals

        return residuals(self, type=type)

    def simulate(self, n: int = 1, re: str = "unconditional", seed: Any = 0) -> np.ndarray:
        """Simulated responses (n, nobs); see :func:`glmmjax.simulation.simulate`."""
        from glmmjax.simulation import simulate

        return simulate(self, n, re=re, seed=seed)

    def refit(self, y: Any) -> Fit:
        """The same model fitted to another response (nobs,), starting from these estimates.

        Raises:
            DataError: the response has the wrong length.
        """
        from dataclasses import replace

        from glmmjax.fitting import check_response, fit_design

        values = np.asarray(y, dtype=float).reshape(-1)
        if values.shape != self.design.y.shape:
            raise DataError(f"refit: the response must have {self.nobs} values, one per row used, not {len(values)}.")
        design = replace(self.design, y=values)
        check_response(design, self.family)
        return fit_design(design, self.family, self.control, self.estimates)

    def save(self, path: Any) -> None:
        """Write the fit to a file that :func:`glmmjax.load` reads; a pickle, so load only files that you trust."""
        import pickle
        from pathlib import Path

        Path(path).write_bytes(pickle.dumps(self))

    def __str__(self) -> str:
        return str(self.summary())

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
    def _fixed_positions(self) -> np.ndarray:
        return np.concatenate([self.positions(beta_name(c)) for c in self.components])

    def _series(self, values: np.ndarray) -> pd.Series:
        import pandas as pd

        return pd.Series(values, index=[self.parameter_names[i] for i in self._fixed_positions])


def normal_quantile(level: float) -> float:
    """The half-width, in standard errors, of a two-sided normal interval with coverage ``level``.

    Raises:
        ArgumentError: the level is not between 0 and 1.

    >>> round(normal_quantile(0.95), 2)
    1.96
    """
    from scipy.special import ndtri

    if not 0.0 < level < 1.0:
        raise ArgumentError(f"level must lie between 0 and 1, not {level!r}.")
    return float(ndtri(0.5 + 0.5 * level))


def load(path: Any) -> Fit:
    """Read a fit written by :meth:`Fit.save`; a pickle, so load only files that you trust.

    Raises:
        DataError: the file does not hold a fit.
    """
    import pickle
    from pathlib import Path

    fit = pickle.loads(Path(path).read_bytes())
    if not isinstance(fit, Fit):
        raise DataError(f"{path} does not hold a glmmjax fit.")
    return fit
