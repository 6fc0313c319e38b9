"""The results of many fits: arrays with a row per fit, tables, tests, and each fit whole on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from glmmjax._arguments import check_flags, numbers
from glmmjax._errors import ArgumentError, did_you_mean
from glmmjax.batch.engine import LaneResults
from glmmjax.batch.verdicts import Verdicts
from glmmjax.families import Family
from glmmjax.formula_fit import FormulaFit
from glmmjax.nesting import SHORTFALL, not_comparable, not_nested, same_priors
from glmmjax.result import normal_quantile

if TYPE_CHECKING:
    import pandas as pd


BEHIND = "; log-likelihood below that of the smaller model: not nested, or not at its maximum"


@dataclass(frozen=True, eq=False)
class Many:
    """Many fits of one model. Frozen; NumPy and pandas only.

    Attributes:
        keys: the name of each fit, in the order given.
        formula, family: what was fitted.
        parameter_names: names of all parameters on the unconstrained scale, in the order of ``flat``.
        reported: positions of the fixed effects among them.
        effect_names: names of the fixed effects.
        results: where each fit ended; see :class:`glmmjax.batch.engine.LaneResults`.
        verdicts: what became of it.
        llf: (m,) log-likelihoods; NaN for those not fitted.
        nobs: (m,) observations used.
        marks: (m,) numbers by which to recognize the responses and rows that were used.
        df: (m,) estimated parameters.
        reml: whether the fixed effects of the mean were integrated out.
        record, priors: the family itself, and the argument priors=.
        sd: (m, s) standard deviations of the random effects, named by ``sd_names``.
        sigma: (m,) dispersions as the family reports them; 1 for families without.
        timings: seconds for "design", "compile" and "run".
        rebuild: position -> the whole fit.
    """

    keys: tuple[Any, ...]
    formula: str
    family: str
    parameter_names: tuple[str, ...]
    reported: np.ndarray
    effect_names: tuple[str, ...]
    results: LaneResults
    verdicts: Verdicts
    llf: np.ndarray
    nobs: np.ndarray
    marks: np.ndarray
    df: np.ndarray
    reml: bool
    sd: np.ndarray
    sd_names: tuple[str, ...]
    sigma: np.ndarray
    timings: Mapping[str, float]
    rebuild: Callable[[int], FormulaFit]
    record: Family
    priors: Any = None

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys)

    def __getitem__(self, key: Any) -> FormulaFit:
        """The whole fit of one key, computed again from its estimates.

        Raises:
            ArgumentError: there is no such key, or its data could not be fitted.
        """
        if key not in self._position:
            raise ArgumentError(f"no fit is called {key!r}. {did_you_mean(str(key), map(str, self.keys))}")
        position = self._position[key]
        if not self.results.done[position]:
            raise ArgumentError(f"{key!r} was {self.verdicts.status[position]}.")
        return self.rebuild(position)

    @cached_property
    def _position(self) -> dict[Any, int]:
        return {key: i for i, key in enumerate(self.keys)}

    # -- arrays --------------------------------------------------------------------------------------------------------
    @property
    def status(self) -> pd.Series:
        """What became of each fit, in words."""
        return self._series(self.verdicts.status, "status")

    @property
    def converged(self) -> pd.Series:
        """Whether each outer iteration met its criterion."""
        return self._series(self.verdicts.converged, "converged")

    @property
    def failed(self) -> pd.Series:
        """The status of those of which it is not just "converged"."""
        return self.status[self.verdicts.status != "converged"]

    @property
    def params(self) -> pd.DataFrame:
        """The fixed effects, a row per fit, on the scale of the linear predictor."""
        return self._frame(self.results.flat[:, self.reported])

    @property
    def bse(self) -> pd.DataFrame:
        """Their standard errors."""
        return self._frame(np.sqrt(np.diagonal(self.vcov, axis1=1, axis2=2)))

    @property
    def vcov(self) -> np.ndarray:
        """The covariance matrices of the fixed effects (m, p, p)."""
        return self.verdicts.vcov[:, self.reported[:, None], self.reported]

    @property
    def aic(self) -> pd.Series:
        """Akaike's information criterion of each fit."""
        return self._series(2.0 * (self.df - self.llf), "aic")

    # -- tables --------------------------------------------------------------------------------------------------------
    def tidy(self, conf_int: bool = True, level: float = 0.95, exponentiate: bool = False) -> pd.DataFrame:
        """The fixed effects of all fits, a row per fit and term.

        Columns key, term, estimate, std_error, statistic (estimate / std_error), p_value (normal, two-sided),
        p_adjusted (Benjamini & Hochberg 1995, over the fits, term by term), conf_low and conf_high.

        Args:
            level: of the intervals.
            exponentiate: estimates and limits as exp(.), standard errors with the delta method.

        Raises:
            ArgumentError: level is not between 0 and 1.
        """
        import pandas as pd
        from scipy.stats import norm

        check_flags("tidy", conf_int=conf_int, exponentiate=exponentiate)
        estimate, se = self.params.to_numpy(), self.bse.to_numpy()
        with np.errstate(all="ignore"):
            z = estimate / se
        p = 2.0 * norm.sf(np.abs(z))
        half = normal_quantile(level) * se
        shown = np.exp if exponentiate else lambda x: x
        columns = {
            "estimate": shown(estimate),
            "std_error": se * np.exp(estimate) if exponentiate else se,
            "statistic": z,
            "p_value": p,
            "p_adjusted": adjust(p),
        }
        if conf_int:
            columns |= {"conf_low": shown(estimate - half), "conf_high": shown(estimate + half)}
        m, n_terms = estimate.shape
        frame = pd.DataFrame({name: values.reshape(-1) for name, values in columns.items()})
        frame.insert(0, "key", np.repeat(self._index.to_numpy(dtype=object), n_terms))
        frame.insert(1, "term", np.tile(np.array(self.effect_names, dtype=object), m))
        return frame

    def glance(self) -> pd.DataFrame:
        """A row per fit: nobs, df, llf, aic, sigma, standard deviations, iterations, converged, status."""
        import pandas as pd

        columns = {"nobs": self.nobs, "df": self.df, "llf": self.llf, "aic": self.aic.to_numpy(), "sigma": self.sigma}
        columns |= {f"sd {name}": self.sd[:, j] for j, name in enumerate(self.sd_names)}
        rest = {"iterations": self.results.iterations, "converged": self.verdicts.converged}
        return pd.DataFrame({**columns, **rest, "status": self.verdicts.status}, index=self._index)

    # -- tests ---------------------------------------------------------------------------------------------------------
    def contrast(self, weights: Any, level: float = 0.95) -> pd.DataFrame:
        """One linear combination of the fixed effects in every fit, with its test.

        Args:
            weights: (p,) numbers, or a mapping of effects to numbers.
            level: of the interval.

        Raises:
            ArgumentError: an effect is unknown, the number of weights is wrong, or level is not between 0 and 1.
        """
        import pandas as pd
        from scipy.stats import norm

        c = self._weights(weights)
        estimate = self.results.flat[:, self.reported] @ c
        se = np.sqrt(np.einsum("i,mij,j->m", c, self.vcov, c))
        with np.errstate(all="ignore"):
            z = estimate / se
        p, half = 2.0 * norm.sf(np.abs(z)), normal_quantile(level) * se
        columns = {"estimate": estimate, "std_error": se, "statistic": z, "p_value": p, "p_adjusted": adjust(p)}
        return pd.DataFrame({**columns, "conf_low": estimate - half, "conf_high": estimate + half}, index=self._index)

    def wald_test(self, effects: Any) -> pd.DataFrame:
        """The joint test that several fixed effects are zero, in every fit: ``b' V^-1 b``, chi-squared.

        Args:
            effects: names of the effects, or one name.

        Raises:
            ArgumentError: an effect is unknown, or none is named.
        """
        import pandas as pd
        from scipy.stats import chi2

        names = [effects] if isinstance(effects, str) else list(dict.fromkeys(effects))
        if not names:
            raise ArgumentError("wald_test: no effect is named.")
        chosen = [int(np.flatnonzero(self._weights({name: 1.0}))[0]) for name in names]
        b, V = self.results.flat[:, self.reported[chosen]], self.vcov[:, chosen][:, :, chosen]
        known = np.all(np.isfinite(V), axis=(1, 2))
        known[known] = np.linalg.eigvalsh(V[known])[:, 0] > 0.0  # not so where an effect was held
        statistic = np.full(len(self), np.nan)
        statistic[known] = np.einsum("mi,mi->m", b[known], np.linalg.solve(V[known], b[known][..., None])[..., 0])
        p = chi2.sf(statistic, len(chosen))
        columns = {"statistic": statistic, "df": len(chosen), "p_value": p, "p_adjusted": adjust(p)}
        return pd.DataFrame(columns, index=self._index)

    def likelihood_ratio_test(self, smaller: Many) -> pd.DataFrame:
        """The likelihood ratio test of a smaller model of the same responses, in every fit.

        Columns statistic, df, p_value, p_adjusted and status. Where the larger model has the smaller log-likelihood,
        beyond rounding, it is not nested or not at its maximum: the p-value is NaN, and the status says so.

        Raises:
            ArgumentError: the keys, the responses or the priors differ, the other model has as many parameters or is no
                special case of this one, or one of the two integrates over other fixed effects.
        """
        import pandas as pd
        from scipy.stats import chi2

        if not isinstance(smaller, Many):
            raise ArgumentError(f"likelihood_ratio_test: the result of fit_many() is needed, not {smaller!r}.")
        reason = not_comparable(smaller.record, self.record) or not_nested(smaller.record, self.record)
        if reason:
            raise ArgumentError(f"likelihood_ratio_test: {reason}.")
        if not same_priors(self.priors, smaller.priors):
            raise ArgumentError(
                "likelihood_ratio_test: the two have different priors, which pull their estimates away from the "
                "maximum of the likelihood. Fit both with the same, or without."
            )
        if self.keys != smaller.keys:
            raise ArgumentError("likelihood_ratio_test: the two have different keys, so different responses.")
        if self.reml != smaller.reml or (self.reml and self.effect_names != smaller.effect_names):
            raise ArgumentError(
                "likelihood_ratio_test: restricted likelihoods of models with different fixed effects cannot be "
                "compared: fit both with reml=False."
            )
        both = self.results.done & smaller.results.done
        same = (self.nobs == smaller.nobs) & np.isclose(self.marks, smaller.marks, rtol=1e-9, atol=0.0)
        if not np.all(same[both]):
            first = int(np.argmin(same | ~both))
            raise ArgumentError(
                f"likelihood_ratio_test: the smaller model of {self.keys[first]!r} has other responses or other rows "
                f"({smaller.nobs[first]} observations, and {self.nobs[first]} here). Rows with a missing predictor are "
                "left out: fit both models to the rows that the larger one can use."
            )
        df = self.df - smaller.df
        if np.any(df <= 0):
            raise ArgumentError("likelihood_ratio_test: the other model must have fewer parameters than this one.")
        statistic = 2.0 * (self.llf - smaller.llf)
        statistic = np.where(self.verdicts.converged & smaller.verdicts.converged, statistic, np.nan)
        behind = statistic < -SHORTFALL
        statistic = np.where(behind, statistic, np.maximum(statistic, 0.0))
        p = np.where(behind, np.nan, chi2.sf(statistic, df))
        status = np.where(self.verdicts.converged, smaller.verdicts.status, self.verdicts.status)
        status = np.where(self.verdicts.converged & smaller.verdicts.converged, self.verdicts.status, status)
        status = np.where(behind, status + BEHIND, status)
        columns = {"statistic": statistic, "df": df, "p_value": p, "p_adjusted": adjust(p), "status": status}
        return pd.DataFrame(columns, index=self._index)

    # -- how it prints -------------------------------------------------------------------------------------------------
    def __repr__(self) -> str:
        wrong = len(self.failed)
        return f"<glmmjax.Many {self.formula!r}, {self.family}: {len(self)} fits, {wrong} with something wrong>"

    def _weights(self, weights: Any) -> np.ndarray:
        if isinstance(weights, Mapping):
            c = np.zeros(len(self.effect_names))
            for name, value in weights.items():
                if name not in self.effect_names:
                    raise ArgumentError(f"no effect is called {name!r}. {did_you_mean(name, self.effect_names)}")
                c[self.effect_names.index(name)] = float(_weight(name, value))
            return c
        c = numbers("contrast: weights", weights).reshape(-1)
        if not np.all(np.isfinite(c)):
            raise ArgumentError(f"contrast: the weights must be finite, not {weights!r}.")
        if len(c) != len(self.effect_names):
            raise ArgumentError(f"contrast: {len(self.effect_names)} weights are needed, not {len(c)}.")
        return c

    @cached_property
    def _index(self) -> pd.Index:
        import pandas as pd

        return pd.Index(self.keys, name="key", tupleize_cols=False)

    def _series(self, values: np.ndarray, name: str) -> pd.Series:
        import pandas as pd

        return pd.Series(values, index=self._index, name=name)

    def _frame(self, values: np.ndarray) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(values, index=self._index, columns=list(self.effect_names))


def _weight(name: str, value: Any) -> np.ndarray:
    weight = numbers(f"the weight of {name!r}", value)
    if weight.shape != () or not np.isfinite(weight):
        raise ArgumentError(f"the weight of {name!r} must be one finite number, not {value!r}.")
    return weight


def adjust(p: np.ndarray) -> np.ndarray:
    """p-values adjusted for the false discovery rate, column by column; NaN stay NaN and do not count.

    Source: Benjamini & Hochberg (1995), J. R. Stat. Soc. B 57(1).

    >>> adjust(np.array([0.01, 0.04, 0.03, np.nan])).round(3).tolist()
    [0.03, 0.04, 0.04, nan]
    """
    if p.ndim == 2:
        return np.stack([adjust(column) for column in p.T], axis=1) if p.shape[1] else p
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known])[::-1]]
    raised = p[order] * len(order) / np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum.accumulate(np.minimum(raised, 1.0))
    return adjusted
