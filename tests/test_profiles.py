"""Profile intervals of standard deviations, correlations and dispersions, on their scale and at the ends of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import optimize

import glmmjax as gj
from glmmjax.inference import Profile

Z = 1.959963984540054
G, EACH = 8, 5
GROUP = np.repeat(np.arange(G), EACH)


def one_way(shrink: float) -> dict[str, np.ndarray]:
    """Normal data whose group means have a share of their differences taken away."""
    y = np.random.default_rng(0).normal(size=G * EACH)
    means = np.array([y[GROUP == k].mean() for k in range(G)])
    return {"y": y - shrink * means[GROUP], "g": GROUP}


def exact_nll(data: dict[str, np.ndarray], sd: float) -> float:
    """Of the balanced one-way model, with the mean and the residual variance at their best."""
    y = data["y"]
    means = np.array([y[GROUP == k].mean() for k in range(G)])
    between, within = EACH * np.sum((means - y.mean()) ** 2), np.sum((y - means[GROUP]) ** 2)

    def nll(log_sigma: float) -> float:
        residual = np.exp(2.0 * log_sigma)
        total = residual + EACH * sd**2
        return 0.5 * (G * (EACH - 1) * np.log(residual) + G * np.log(total) + within / residual + between / total)

    return float(optimize.minimize_scalar(nll, bounds=(-5, 5), method="bounded", options={"xatol": 1e-11}).fun)


@pytest.mark.parametrize("unit", [1.0, 1e-2, 10.0])
def test_a_standard_deviation_of_zero_has_an_upper_limit(unit: float) -> None:
    data = one_way(0.9)
    fit = gj.glmm("y ~ 1 + (1 | g)", {**data, "y": unit * data["y"]})
    best = exact_nll(data, 0.0)
    exact = optimize.brentq(lambda sd: exact_nll(data, sd) - best - 0.5 * Z**2, 0.01, 5.0)
    for method, accuracy in (("uniroot", 1e-5), ("profile", 1e-5)):
        low, high = fit.conf_int(method=method, parameters=["sd__(Intercept)"]).to_numpy()[0]
        assert low == 0.0 and high == pytest.approx(unit * exact, rel=accuracy)
    raw = fit.conf_int(method="uniroot", parameters=["theta_1 | g.1"]).to_numpy()[0]
    assert raw[0] == -np.inf and np.exp(raw[1]) == pytest.approx(unit * exact, rel=1e-5)
    points = fit.profile("sd__(Intercept)").points
    assert points["value"].iloc[0] == 0.0 and points["zeta"].iloc[0] == 0.0
    assert np.all(np.diff(points["zeta"]) > 0) and np.all(np.diff(points["value"]) > 0)
    half = len(points) // 2
    rise = exact_nll(data, points["value"].iloc[half] / unit) - best
    assert points["zeta"].iloc[half] == pytest.approx(np.sqrt(2.0 * rise), rel=1e-5)


def test_a_standard_deviation_that_may_be_zero() -> None:
    data = one_way(0.0)
    best = optimize.minimize_scalar(lambda sd: exact_nll(data, sd), bounds=(0.01, 3), method="bounded")
    fit = gj.glmm("y ~ 1 + (1 | g)", data)
    exact = optimize.brentq(lambda sd: exact_nll(data, sd) - best.fun - 0.5 * Z**2, best.x + 0.1, 5.0)
    assert exact_nll(data, 0.0) - best.fun < 0.5 * Z**2
    for method in ("uniroot", "profile"):
        low, high = fit.conf_int(method=method, parameters=["sd__(Intercept)"]).to_numpy()[0]
        assert low == 0.0 and high == pytest.approx(exact, rel=1e-5)


def test_fixed_effects_where_a_variance_leaves_zero() -> None:
    """Two groups whose means agree: away from the estimate the variance of their means is not zero any more."""
    rng = np.random.default_rng(3)
    g = np.repeat([0, 1], 20)
    y = rng.normal(size=40)
    y += np.where(g == 0, 0.30 - y[g == 0].mean(), 0.32 - y[g == 1].mean())

    def nll(mean: float, at: np.ndarray) -> float:
        sd, residual = np.exp(at[0]), np.exp(2.0 * at[1])
        total, out = residual + 20.0 * sd**2, 0.0
        for k in (0, 1):
            r = y[g == k] - mean
            within = np.sum((r - r.mean()) ** 2) / residual
            out += 0.5 * (19.0 * np.log(residual) + np.log(total) + within + 20.0 * r.mean() ** 2 / total)
        return float(out)

    def profiled(mean: float) -> float:
        starts = [np.array([log_sd, 0.0]) for log_sd in (-12.0, -1.0)]
        return min(optimize.minimize(lambda at: nll(mean, at), start, method="BFGS").fun for start in starts)

    best = profiled(float(y.mean()))
    reach = optimize.brentq(lambda d: profiled(y.mean() + d) - best - 0.5 * Z**2, 0.1, 1.0, xtol=1e-6)
    fit = gj.glmm("y ~ 1 + (1 | g)", {"y": y, "g": g})
    for method, accuracy in (("uniroot", 2e-5), ("profile", 2e-3)):
        found = fit.conf_int(method=method).to_numpy()[0]
        np.testing.assert_allclose(found, [y.mean() - reach, y.mean() + reach], atol=accuracy)


def test_a_coefficient_at_infinity_has_the_limit_that_the_likelihood_gives() -> None:
    x = np.repeat([0.0, 1.0], 10)
    b = np.where(x > 0, 1.0, np.tile([0.0, 1.0], 10))

    def profiled(slope: float) -> float:
        def nll(a: float) -> float:
            return float(5 * np.logaddexp(0, a) + 5 * np.logaddexp(0, -a) + 10 * np.logaddexp(0, -a - slope))

        return float(optimize.minimize_scalar(nll, bounds=(-10, 30), method="bounded", options={"xatol": 1e-10}).fun)

    exact = optimize.brentq(lambda slope: profiled(slope) - 10 * np.log(2.0) - 0.5 * Z**2, 0.0, 5.0)
    for unit in (1.0, 1e-4, -1.0):
        fit = gj.glmm("b ~ x", {"b": b, "x": unit * x}, "binomial", control=gj.Control(warn=False))
        for method in ("uniroot", "profile"):
            found = np.sort(unit * fit.conf_int(method=method, parameters=["x"]).to_numpy()[0])
            assert found[0] == pytest.approx(exact, rel=1e-4) and found[1] == np.inf


# confint(lmer(..., REML = FALSE)) of lme4
SLEEPSTUDY = {
    "sd__(Intercept)": (14.3814, 37.7161),
    "cor__(Intercept).Days": (-0.4815, 0.6850),
    "sd__Days": (3.8012, 8.7534),
    "sd__Observation": (22.8983, 28.8580),
    "Days": (7.3587, 13.5759),
}


@pytest.mark.parametrize("method", ["uniroot", "profile"])
def test_limits_of_sleepstudy_are_those_of_lme4(method: str, fitted: Any) -> None:
    fit = fitted("sleepstudy_us_ml")
    found = fit.conf_int(method=method, parameters=list(SLEEPSTUDY))
    assert list(found.index) == list(SLEEPSTUDY)
    np.testing.assert_allclose(found, list(SLEEPSTUDY.values()), atol=6e-4 if method == "profile" else 2e-4)


def test_wald_limits_under_the_names_of_tidy_are_those_of_tidy(fitted: Any) -> None:
    fit = fitted("sleepstudy_us_ml")
    table = fit.tidy(level=0.9, effects="ran_pars")
    found = fit.conf_int(0.9, parameters=list(table["term"]))
    np.testing.assert_array_equal(found, table[["conf_low", "conf_high"]])


def correlated(seed: int, slope: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(12), 6), np.tile(np.linspace(-1.0, 1.0, 6), 12)
    return {"y": rng.normal(size=12)[g] * (1.0 + slope * x) + 0.5 * rng.normal(size=72), "x": x, "g": g}


def test_correlations_reach_to_one() -> None:
    """A correlation about which nothing is known, and one that may be one."""
    nothing = gj.glmm("y ~ x + (x | g)", correlated(1, 0.0))
    high = gj.glmm("y ~ x + (x | g)", correlated(1, 0.9))
    name = ["cor__(Intercept).x"]
    for method in ("uniroot", "profile"):
        limits = high.conf_int(method=method, parameters=name).to_numpy()[0]
        assert 0.0 < limits[0] < 0.95 and limits[1] == 1.0
        if "singular" in nothing.status:
            assert nothing.conf_int(method=method, parameters=name).to_numpy()[0].tolist() == [-1.0, 1.0]
            assert nothing.conf_int(method=method, parameters=["sd__x"]).iloc[0, 0] == 0.0


@pytest.mark.slow
def test_the_correlation_of_the_last_of_three_effects() -> None:
    """Held at its limits, in the model with these two in front, the likelihood is as far below as it should be."""
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(20), 8)
    x, w = rng.normal(size=160), rng.normal(size=160)
    b = rng.multivariate_normal(np.zeros(3), [[1.0, 0.3, 0.2], [0.3, 0.6, 0.2], [0.2, 0.2, 0.5]], size=20)
    y = b[g, 0] + b[g, 1] * x + b[g, 2] * w + 0.5 * rng.normal(size=160)
    data = {"y": y, "x": x, "w": w, "g": g, "one": np.ones(160)}
    fit = gj.glmm("y ~ x + w + (1 + x + w | g)", data)
    found = fit.conf_int(method="uniroot", parameters=["cor__x.w", "cor__(Intercept).x"])
    for limit, (first, second, last) in (("cor__x.w", "xw1"), ("cor__(Intercept).x", "1xw")):
        names = [{"1": "one"}.get(c, c) for c in (first, second, last)]
        for r in found.loc[limit]:
            theta = np.full(6, np.nan)
            theta[3] = r / np.sqrt(1.0 - r**2)
            other = gj.glmm(f"y ~ x + w + (0 + {' + '.join(names)} | g)", data, fixed={"theta": theta})
            assert 2.0 * (fit.llf - other.llf) == pytest.approx(Z**2, abs=1e-4)


def test_a_dispersion_at_the_end_of_its_range() -> None:
    """Poisson counts: the size of nbinom2 may be infinite, and the probability of extra zeros zero."""
    data = correlated(1, 0.0)
    rng = np.random.default_rng(1)
    counts = {**data, "k": rng.poisson(np.exp(0.5 + 0.5 * data["x"] + 0.5 * rng.normal(size=12)[data["g"]]))}
    fit = gj.glmm("k ~ x + (1 | g)", counts, "nbinom2")
    (name,) = fit.tidy(effects="shape")["term"]
    for method in ("uniroot", "profile"):
        low, high = fit.conf_int(method=method, parameters=[name]).to_numpy()[0]
        held = gj.glmm("k ~ x + (1 | g)", counts, "nbinom2", fixed={"beta_disp": [np.log(low)]})
        assert high == np.inf and 2.0 * (fit.llf - held.llf) == pytest.approx(Z**2, abs=1e-3)


def test_names_that_stand_for_several() -> None:
    data = {**one_way(0.0), "h": np.tile(np.arange(EACH), G)}
    fit = gj.glmm("y ~ 1 + (1 | g) + (1 | h)", data)
    with pytest.raises(gj.ArgumentError, match=r"several: write one of 'sd__\(Intercept\) \| g', 'sd__\(Int"):
        fit.conf_int(method="profile", parameters=["sd__(Intercept)"])
    found = fit.conf_int(method="uniroot", parameters=["sd__(Intercept) | g", "sd__(Intercept) | h"])
    raw = fit.conf_int(method="uniroot", parameters=["theta_1 | g.1", "theta_1 | h.1"])
    np.testing.assert_allclose(found, np.exp(raw), rtol=1e-6)
    with pytest.raises(gj.ArgumentError, match=r"Did you mean 'sd__Observation'"):
        fit.conf_int(method="profile", parameters=["sd__Observations"])
    with pytest.raises(gj.ArgumentError, match="no likelihood to profile"):
        gj.glmm("y ~ 1 + (1 | g)", data, reml=True).profile("sd__Observation")


def test_a_side_that_broke_off_is_not_infinite() -> None:
    import pandas as pd

    points = pd.DataFrame({"value": [0.0, 1.0, 2.0], "zeta": [-1.0, 0.0, 3.0]})
    broken = Profile("b", 1.0, points, ("the fit with b held at -1 did not converge", ""))
    with pytest.warns(gj.GlmmjaxWarning, match="lower limit of b is not known: the fit with b held"):
        low, high = broken.conf_int()
    assert np.isnan(low) and 1.0 < high < 2.0
    assert Profile("b", 1.0, points, ("flat", "")).conf_int()[0] == -np.inf
    assert Profile("b", 1.0, points, ("the end of its range", ""), (0.0, np.inf)).conf_int()[0] == 0.0
    with pytest.raises(gj.FitError, match="was not followed"):
        Profile("b", 1.0, points).conf_int(0.9999)


def test_points_of_a_penalized_fit_are_what_was_minimized() -> None:
    fit = gj.glmm("y ~ 1 + (1 | g)", one_way(0.0), priors={"sd": "gamma(1, 3)"})
    points = fit.profile("sd__Observation", level=0.5).points
    assert points["nll"].min() == pytest.approx(-fit.llf - fit.log_prior, abs=1e-9)
    assert fit.log_prior != 0.0
