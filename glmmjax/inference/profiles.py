"""The profile likelihood of a parameter or a linear combination of parameters, and the intervals it gives.

    zeta(t) = sign(t - t_hat) sqrt(2 (l(t) - l_hat)),    l(t) = min over c'theta = t of the negative log-likelihood

The interval of level 1 - alpha is where ``|zeta|`` is below the normal quantile. Each point is a constrained fit: the
optimizer moves in the directions orthogonal to c, starting where the quadratic approximation expects the minimum.

Sources: Venzon & Moolgavkar (1988), Appl. Stat. 37: 87-94; Bates & Watts (1988), section 6.1, for zeta.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from glmmjax._errors import ArgumentError, FitError
from glmmjax._status import Outcome
from glmmjax.result import Fit, normal_quantile
from glmmjax.solving import solve

if TYPE_CHECKING:
    import pandas as pd

STEP = 0.5  # between the points of a curve, in units of zeta
MOST_STEPS = 40
TOLERANCE = 1e-6  # of zeta at a root


class Point(NamedTuple):
    """One constrained minimum: the value t, its zeta, dzeta/dt, and all parameters there."""

    t: float
    zeta: float
    slope: float
    flat: np.ndarray


@dataclass(frozen=True, eq=False)
class Profile:
    """A profile likelihood.

    Attributes:
        name: the parameter, or the combination in words.
        estimate: its estimate.
        points: a data frame with columns "value", "zeta", "nll" and every parameter, in order of value.
    """

    name: str
    estimate: float
    points: pd.DataFrame

    def conf_int(self, level: float = 0.95) -> tuple[float, float]:
        """The limits, from a monotone curve through the points; infinite where the profile ends below the quantile.

        Raises:
            ArgumentError: the level is not between 0 and 1.
            FitError: the level is higher than the points reach.
        """
        from scipy.interpolate import PchipInterpolator

        z = normal_quantile(level)
        zeta, value = self.points["zeta"].to_numpy(), self.points["value"].to_numpy()
        if z > max(zeta[-1], -zeta[0]):
            raise FitError(
                f"the profile of {self.name} was not followed to level {level}: call profile(level={level})."
            )
        curve = PchipInterpolator(zeta, value, extrapolate=False)
        low, high = float(curve(-z)), float(curve(z))
        return (low if np.isfinite(low) else -np.inf), (high if np.isfinite(high) else np.inf)


def profile(fit: Fit, parameter: Any, *, level: float = 0.99) -> Profile:
    """The profile of a parameter by name, or of a linear combination, to beyond the limits of ``level``.

    Args:
        parameter: a name among ``fit.parameter_names``; or a mapping of names to coefficients; or coefficients (k,).

    Raises:
        ArgumentError: a name is unknown, or the combination cannot move.
        FitError: the fit has no covariance to start from.

    >>> from glmmjax import datasets, glmm
    >>> fit = glmm("Yield ~ 1 + (1 | Batch)", datasets.load("dyestuff"))
    >>> low, high = fit.profile("(Intercept)").conf_int(0.95)
    >>> round(low, 1), round(high, 1)
    (1486.4, 1568.6)
    """
    import pandas as pd

    path = _Path(fit, parameter)
    z = normal_quantile(level)
    down, up = path.follow(-1, z), path.follow(1, z)
    points = [*reversed(down), Point(path.estimate, 0.0, 1.0 / path.se, fit.flat), *up]
    frame = pd.DataFrame({"value": [p.t for p in points], "zeta": [p.zeta for p in points]})
    frame["nll"] = 0.5 * frame["zeta"] ** 2 - fit.llf
    columns = pd.DataFrame([p.flat for p in points], columns=list(fit.parameter_names))
    return Profile(path.name, path.estimate, pd.concat([frame, columns], axis=1))


def limits(fit: Fit, parameter: Any, level: float, method: str) -> tuple[float, float]:
    """The limits by "profile" or "uniroot"."""
    if method == "profile":
        return profile(fit, parameter, level=level).conf_int(level)
    path = _Path(fit, parameter)
    z = normal_quantile(level)
    return path.root(-z), path.root(z)


class _Path:
    """The curve of constrained minima of one combination ``c'theta`` of a fit."""

    def __init__(self, fit: Fit, parameter: Any) -> None:
        if fit.no_profile:
            raise ArgumentError(f"profile: {fit.no_profile}.")
        self.fit = fit
        self.name, self.c = combination(fit, parameter)
        self.estimate = float(self.c @ fit.flat)
        a = fit.directions.T @ self.c
        if not np.any(a):
            raise ArgumentError(f"profile: {self.name} is held fixed.")
        V = fit.known_vcov
        variance = float(self.c @ V @ self.c)
        if not fit.pd_hess or not variance > 0 or np.any(np.isnan(np.diag(fit.vcov)[self.c != 0.0])):
            raise FitError(f"profile: {self.name} has no standard error to start from: {fit.status}.")
        self.se = np.sqrt(variance)
        self.tangent = V @ self.c / variance
        # an orthonormal basis of the directions that leave c'theta alone; a column of zeros keeps the program's shape
        rest = np.linalg.svd(a[None])[2][1:].T
        self.T = np.concatenate([fit.directions @ rest, np.zeros((len(fit.flat), 1))], axis=1)
        self.along = fit.directions @ (a / (a @ a))
        self.modes = fit.marginal.modes

    def point(self, t: float, near: Point) -> Point:
        """The constrained minimum at t, searched from a neighbor."""
        start = near.flat + self.tangent * (t - near.t)
        state = solve(self.fit.problem, self.fit.control, start, self.T, self.modes).state
        if int(state.outcome) not in (Outcome.CONVERGED, Outcome.NO_PROGRESS):
            return Point(t, np.nan, np.nan, state.flat)
        rise = float(state.at.value - self.fit.marginal.value)
        if rise < -1e-6 * (1.0 + abs(rise)):
            raise FitError(
                f"profile: at {self.name} = {t:.6g} the log-likelihood is {-rise:.2g} above that of the fit, which is "
                "not the maximum. Fit again with start= near these values."
            )
        zeta = np.sign(t - self.estimate) * np.sqrt(2.0 * max(rise, 0.0))
        slope = float(state.at.gradient @ self.along) / zeta if zeta else 1.0 / self.se
        return Point(t, float(zeta), slope, state.flat)

    def follow(self, side: int, z: float) -> list[Point]:
        """Points on one side until zeta is beyond z, or the curve goes on without rising."""
        last = Point(self.estimate, 0.0, 1.0 / self.se, self.fit.flat)
        points: list[Point] = []
        for _ in range(MOST_STEPS):
            step = np.clip(
                STEP / max(last.slope, 1e-300), 0.1 * STEP * self.se, 4.0 * STEP * self.se * (1 + len(points))
            )
            new = self.point(last.t + side * step, last)
            if not np.isfinite(new.zeta) or side * new.zeta <= side * last.zeta:
                break
            points.append(new)
            last = new
            if side * new.zeta > z + 0.25 * STEP:
                break
        return points

    def root(self, z: float) -> float:
        """Where zeta is z, by Newton's method kept inside a bracket; infinite if zeta never gets there."""
        inner = Point(self.estimate, 0.0, 1.0 / self.se, self.fit.flat)
        outer: Point | None = None
        side, last = np.sign(z), inner
        for _ in range(MOST_STEPS):
            t = last.t + (z - last.zeta) / last.slope if last.slope > 0 else np.nan
            ahead = side * (t - inner.t) > 0
            if outer is not None and not (ahead and side * (outer.t - t) > 0):
                t = 0.5 * (inner.t + outer.t)
            elif outer is None and not ahead:
                t = inner.t + 2.0 * side * max(abs(inner.t - self.estimate), self.se)
            # no further than where a normal likelihood would be twenty times beyond
            if abs(t - self.estimate) > 20.0 * abs(z) * self.se:
                return float(side * np.inf)
            new = self.point(float(t), inner)
            if np.isfinite(new.zeta) and abs(new.zeta - z) < TOLERANCE:
                return new.t
            if not np.isfinite(new.zeta) or side * new.zeta > side * z:
                outer = new
            else:
                inner = new
            last = new if np.isfinite(new.zeta) else inner
        raise FitError(f"uniroot: the limit of {self.name} was not found in {MOST_STEPS} fits.")


def combination(fit: Fit, parameter: Any) -> tuple[str, np.ndarray]:
    """A name and coefficients (k,) for a parameter's name, a mapping of names to coefficients, or coefficients.

    Raises:
        ArgumentError: a name is unknown, or the coefficients are not as many as the parameters, or all zero.
    """
    c = np.zeros(len(fit.flat))
    if isinstance(parameter, str):
        c[fit.position(parameter)] = 1.0
        return parameter, c
    if isinstance(parameter, Mapping):
        for name, weight in parameter.items():
            c[fit.position(name)] = weight
        return " + ".join(f"{weight:g} {name}" for name, weight in parameter.items()), c
    given = np.asarray(parameter, dtype=float).reshape(-1)
    if given.shape != c.shape or not np.any(given) or not np.all(np.isfinite(given)):
        raise ArgumentError(
            f"profile: give the name of a parameter, a mapping of names to coefficients, or {len(c)} coefficients of "
            f"which one is not zero, not {parameter!r}."
        )
    return "the combination", given
