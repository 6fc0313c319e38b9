"""Multiple imputation: the fits to several completed data sets as one answer, by Rubin's rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from glmmjax._errors import ArgumentError, FitError
from glmmjax.batch.many import Many
from glmmjax.result import Fit, check_level

if TYPE_CHECKING:
    import pandas as pd


def pool(fits: Many | Sequence[Fit], *, level: float = 0.95, df_complete: float | None = None) -> pd.DataFrame:
    """The fixed effects of fits to m imputed data sets, pooled by Rubin's rules; a row for each term.

    With ``Q_i`` the estimates and ``U_i`` their squared standard errors::

        estimate = mean(Q)             within  = mean(U)      between = var(Q), divisor m - 1
        total    = within + (1 + 1/m) between                 lambda  = (1 + 1/m) between / total
        df       = (m - 1) / lambda^2                         r       = (1 + 1/m) between / within
        fmi      = (r + 2 / (df + 3)) / (r + 1)

    Tests and limits are those of a t distribution. With ``df_complete`` the degrees of freedom are those of Barnard &
    Rubin, ``1 / (1 / df + 1 / df_obs)`` with ``df_obs = (1 - lambda) d (d + 1) / (d + 3)``, ``d = df_complete``.

    Columns estimate, std_error, statistic, df, p_value, conf_low, conf_high, var_within, var_between, var_total, lambda
    (the share of the variance that is due to what is missing), fmi (the fraction of missing information).

    Args:
        fits: fits of the same model, or a :class:`Many` in which each fit is of one imputed data set.
        level: of the intervals.
        df_complete: degrees of freedom that the test would have without missing values, for small samples, such as
            ``fit.df_resid``; default infinity, as in the tests of a single fit.

    Raises:
        ArgumentError: fewer than two fits, fits with different terms, a level or degrees of freedom out of range.
        FitError: a fit did not converge, or has no standard errors.

    Source: Rubin (1987), Multiple Imputation for Nonresponse in Surveys, section 3.1; Barnard & Rubin (1999),
    Biometrika 86(4).

    >>> from glmmjax import Control, datasets, fit_many, pool
    >>> data = datasets.load("sleepstudy")
    >>> imputed = data.Reaction.to_numpy()[:, None] + np.random.default_rng(1).normal(0, 5, (len(data), 3))
    >>> table = pool(fit_many("~ Days", data, imputed, control=Control(compilation="quick")))
    >>> round(float(table.loc["Days", "estimate"]), 1)
    10.4
    """
    import pandas as pd
    from scipy.stats import t

    check_level(level)
    real = isinstance(df_complete, (int, float, np.integer, np.floating)) and not isinstance(df_complete, bool)
    if df_complete is not None and not (real and df_complete > 0.0):
        raise ArgumentError(f"pool: df_complete must be positive, not {df_complete!r}.")
    terms, Q, U = _estimates(fits)
    m = len(Q)
    estimate, within, between = Q.mean(axis=0), U.mean(axis=0), Q.var(axis=0, ddof=1)
    extra = (1.0 + 1.0 / m) * between
    total = within + extra
    share = extra / total
    with np.errstate(divide="ignore"):
        df = (m - 1) / share**2
    if df_complete is not None:
        observed = (1.0 - share) * df_complete * (df_complete + 1.0) / (df_complete + 3.0)
        df = 1.0 / (1.0 / df + 1.0 / observed)
    r, se = extra / within, np.sqrt(total)
    half = t.ppf(0.5 + level / 2.0, df) * se
    columns = {
        "estimate": estimate,
        "std_error": se,
        "statistic": estimate / se,
        "df": df,
        "p_value": 2.0 * t.sf(np.abs(estimate / se), df),
        "conf_low": estimate - half,
        "conf_high": estimate + half,
        "var_within": within,
        "var_between": between,
        "var_total": total,
        "lambda": share,
        "fmi": (r + 2.0 / (df + 3.0)) / (r + 1.0),
    }
    return pd.DataFrame(columns, index=pd.Index(terms, name="term"))


def _estimates(fits: Any) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The names of the terms, estimates and squared standard errors (m, p)."""
    if isinstance(fits, Many):
        names, keys = [list(fits.effect_names)], list(fits.keys)
        Q, U, converged = fits.params.to_numpy(), fits.bse.to_numpy() ** 2, fits.verdicts.converged
    else:
        fits = list(fits) if isinstance(fits, Sequence) else [fits]
        if not fits or not all(isinstance(fit, Fit) for fit in fits):
            raise ArgumentError("pool: a list of fits is needed, or the result of fit_many().")
        names, keys = [list(fit.params.index) for fit in fits], list(range(len(fits)))
        if any(own != names[0] for own in names):
            raise ArgumentError(f"pool: the fits have different terms: {names[0]} and {_other(names)}.")
        Q = np.stack([fit.params.to_numpy() for fit in fits])
        U = np.stack([fit.bse.to_numpy() ** 2 for fit in fits])
        converged = np.array([fit.converged for fit in fits])
    if len(keys) < 2:
        raise ArgumentError(f"pool: at least 2 fits are needed, not {len(keys)}.")
    bad = [repr(key) for key, well, u in zip(keys, converged, U, strict=True) if not (well and np.all(np.isfinite(u)))]
    if bad:
        raise FitError(
            f"pool: the fit of {', '.join(bad)} did not converge or has no standard errors: look at its status, and "
            "leave it out only if the reason has nothing to do with its values."
        )
    return names[0], Q, U


def _other(names: list[list[str]]) -> list[str]:
    return next(own for own in names if own != names[0])
