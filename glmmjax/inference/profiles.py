"""The profile likelihood of a parameter, of a combination of some, or of an estimate of ``tidy()``; and its intervals.

    zeta(t) = sign(t - t_hat) sqrt(2 (l(t) - l_hat)),    l(t) = min over c'theta = t of the negative log-likelihood

The interval of level 1 - alpha is where ``|zeta|`` is below the normal quantile; it ends where the range of the
quantity does, at a standard deviation of zero or a correlation of one, if zeta gets there before it gets to the
quantile. Each point is a constrained fit, begun where the quadratic approximation expects its minimum.

Sources: Venzon & Moolgavkar (1988), Appl. Stat. 37: 87-94; Bates & Watts (1988), section 6.1, for zeta.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from glmmjax._errors import ArgumentError, FitError, GlmmjaxWarning
from glmmjax.formula_fit import FormulaFit
from glmmjax.inference.paths import END, FLAT_SIDE, FOLLOWED, Path
from glmmjax.inference.quantities import combination, quantity
from glmmjax.result import Fit, normal_quantile

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Profile:
    """A profile likelihood.

    Attributes:
        name: the quantity.
        estimate: its estimate.
        points: a data frame in order of value: "value", "zeta", "nll" (the minimized negative log-likelihood, less the
            logarithm of the prior where there is one) and every parameter.
        sides: how each side ends, below and above: "" where it was followed to its level; "flat" where the likelihood
            does not fall any more; "the end of its range", such as a variance of zero; or what broke it off.
        ends: what the limits are on a side that is flat or at its end.
    """

    name: str
    estimate: float
    points: pd.DataFrame
    sides: tuple[str, str] = (FOLLOWED, FOLLOWED)
    ends: tuple[float, float] = (-np.inf, np.inf)

    def conf_int(self, level: float = 0.95) -> tuple[float, float]:
        """The limits, from a monotone curve through the points.

        On a side that is flat below the quantile the limit is that of the range: 0 for a standard deviation, -1 or 1
        for a correlation, infinity for a coefficient. On one that broke off it is NaN, with a warning that says why.

        Raises:
            ArgumentError: the level is not between 0 and 1.
            FitError: the level is higher than the points reach.
        """
        z = normal_quantile(level)
        return self._limit(0, -z, level), self._limit(1, z, level)

    def _limit(self, side: int, z: float, level: float) -> float:
        from scipy.interpolate import PchipInterpolator

        zeta, value = self.points["zeta"].to_numpy(), self.points["value"].to_numpy()
        zeta, value = zeta[np.isfinite(value)], value[np.isfinite(value)]
        if zeta[0] <= z <= zeta[-1]:
            rising = np.r_[True, np.diff(np.maximum.accumulate(zeta)) > 0]
            return float(PchipInterpolator(zeta[rising], value[rising])(z))
        if self.sides[side] == FOLLOWED:
            raise FitError(
                f"the profile of {self.name} was not followed to level {level}: call profile(level={level})."
            )
        if self.sides[side] in (END, FLAT_SIDE):
            return self.ends[side]
        _warn(self.name, side, self.sides[side])
        return np.nan


def _warn(name: str, side: int, reason: str) -> None:
    which = ("lower", "upper")[side]
    warnings.warn(f"the {which} limit of {name} is not known: {reason}.", GlmmjaxWarning, stacklevel=4)


def profile(fit: Fit, parameter: Any, *, level: float = 0.99) -> Profile:
    """The profile of a quantity to beyond the limits of ``level``.

    Args:
        parameter: a name among ``fit.parameter_names``, on the unconstrained scale; or a standard deviation,
            correlation, dispersion or shape by its name in ``fit.tidy()``, on the scale of ``tidy()``; where that
            stands for several, with its grouping factor, ``"sd__(Intercept) | site"``; or a mapping of names among
            ``parameter_names`` to coefficients; or coefficients (k,).

    Raises:
        ArgumentError: a name is unknown or stands for several, or the quantity is held.
        FitError: the fit has no covariance to start from, or is not the maximum.

    >>> from glmmjax import datasets, glmm
    >>> fit = glmm("Yield ~ 1 + (1 | Batch)", datasets.load("dyestuff"))
    >>> low, high = fit.profile("(Intercept)").conf_int(0.95)
    >>> round(low, 1), round(high, 1)
    (1486.4, 1568.6)
    """
    import pandas as pd

    path = _path(fit, parameter)
    z = normal_quantile(level)
    down, low = path.side(-1, z)
    up, high = path.side(1, z)
    center = [] if path.at_end[0] or path.at_end[1] else [path.start]
    points = [*reversed(down), *center, *up]
    values = [path.value_of(p.w) for p in points]
    sides, ends = (low, high), path.quantity.ends
    if values[-1] < values[0]:
        points, values, sides = points[::-1], values[::-1], (high, low)
        points = [replace(p, zeta=-p.zeta) for p in points]
    frame = pd.DataFrame({"value": values, "zeta": [p.zeta for p in points]})
    reached = fit.llf + (fit.log_prior if isinstance(fit, FormulaFit) else 0.0)
    frame["nll"] = 0.5 * frame["zeta"] ** 2 - reached
    columns = pd.DataFrame([p.flat for p in points], columns=list(fit.parameter_names))
    estimate = path.quantity.natural(path.estimate)
    low_end, high_end = sorted(ends)
    return Profile(path.quantity.name, estimate, pd.concat([frame, columns], axis=1), sides, (low_end, high_end))


def intervals(fit: Fit, level: float, method: str, wanted: Sequence[Any]) -> list[tuple[str, float, float]]:
    """Name and limits of each quantity by "wald", "profile" or "uniroot"; NaN where it is held.

    Raises:
        ArgumentError, FitError: see :func:`profile`.
    """
    return [_interval(fit, level, method, asked) for asked in wanted]


def _interval(fit: Fit, level: float, method: str, asked: Any) -> tuple[str, float, float]:
    half = normal_quantile(level)
    of_tidy = isinstance(asked, str) and asked not in fit.parameter_names and isinstance(fit, FormulaFit)
    if method == "wald" and not of_tidy:
        name, c = combination(fit, asked)
        estimate, error = float(c @ fit.flat), float(fit.combination_errors(c[None])[0])
        return name, estimate - half * error, estimate + half * error
    if fit.no_profile and method != "wald":
        raise ArgumentError(f"profile: {fit.no_profile}.")
    own = quantity(fit, asked)
    if own.held:
        return own.name, np.nan, np.nan
    if method == "wald":
        return own.name, *_wald_of_tidy(fit, asked, level)
    if method == "profile":
        return own.name, *profile(fit, asked, level=level).conf_int(level)
    path = _path(fit, asked)
    found = [path.limit(-1, half), path.limit(1, half)]
    for side, (_, reason) in enumerate(found):
        if reason not in (FOLLOWED, END, FLAT_SIDE):
            _warn(own.name, side, reason)
    low, high = (value for value, _ in found)
    return (own.name, high, low) if high < low else (own.name, low, high)


def _wald_of_tidy(fit: Any, asked: str, level: float) -> tuple[float, float]:
    """The limits that ``tidy()`` has for one of its estimates."""
    from glmmjax.tidying import tidy

    table = tidy(fit, level=level, effects=("shape", "ran_pars"))
    name, _, group = asked.partition(" | ")
    component, _, plain = name.rpartition(":") if name.partition("__")[0] not in ("sd", "cor") else ("", "", name)
    rows = table["term"] == (plain or name)
    if group:
        rows &= (table["group"] == group) & (table["component"] == (component or "cond"))
    row = table[rows].iloc[0]
    return float(row["conf_low"]), float(row["conf_high"])


def _path(fit: Fit, parameter: Any) -> Path:
    if fit.no_profile:
        raise ArgumentError(f"profile: {fit.no_profile}.")
    own = quantity(fit, parameter)
    if own.held:
        raise ArgumentError(f"profile: {own.name} is held fixed.")
    separated = own.name in fit.verdict.separated
    unknown = (np.isnan(own.error) or separated) and not any(own.bounded)
    if unknown and isinstance(fit, FormulaFit) and own.c @ fit.flat != 0.0:  # it may have gone to infinity
        far = abs(float(own.c @ fit.flat))
        own, unknown = replace(own, bounded=(True, True), error=np.nan, unit=0.25 * far), False
    if unknown:
        raise FitError(f"profile: {own.name} has no standard error to start from: {fit.status}.")
    return Path(own, fit.control)
