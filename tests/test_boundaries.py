"""A start at a boundary is pulled inside: refits, bootstraps and starts of the user end where fresh fits end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import glmmjax as gj

QUIET = gj.Control(warn=False)
GROUPS, EACH = 12, 10
N = GROUPS * EACH
X = np.tile(np.linspace(-1.0, 1.0, EACH), GROUPS)
G = np.repeat(np.arange(GROUPS), EACH)


def mean(u: np.ndarray, slopes: Any = 0.0) -> np.ndarray:
    return np.asarray(0.7 + 0.4 * X + u[G] + slopes * X)


def draw(family: str, eta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    mu, p = np.exp(eta), 1.0 / (1.0 + np.exp(-eta))
    made = {
        "gaussian": lambda: eta + rng.normal(size=N),
        "t": lambda: eta + rng.standard_t(5, size=N),
        "binomial": lambda: rng.binomial(1, p),
        "binomial(cloglog)": lambda: rng.binomial(1, p),
        "poisson": lambda: rng.poisson(mu),
        "nbinom2": lambda: rng.negative_binomial(3.0, 3.0 / (3.0 + mu)),
        "nbinom1": lambda: rng.poisson(rng.gamma(mu / 0.8, 0.8)),
        "genpois": lambda: rng.poisson(mu),
        "Gamma(log)": lambda: rng.gamma(4.0, mu / 4.0),
        "beta": lambda: np.clip(rng.beta(8.0 * p, 8.0 * (1.0 - p)), 1e-6, 1.0 - 1e-6),
        "tweedie": lambda: np.where(rng.random(N) < 0.2, 0.0, rng.gamma(2.0, mu / 2.0)),
        "cumulative": lambda: np.digitize(eta + rng.logistic(size=N), [-0.5, 0.5, 1.5]),
    }
    return np.asarray(made[family](), dtype=float)


def singular(family: str) -> np.ndarray:
    """The same responses in every group, so that their variance between groups is less than chance would give."""
    return np.tile(draw(family, mean(np.zeros(GROUPS)), np.random.default_rng(8))[:EACH], GROUPS)


def spread(family: str) -> np.ndarray:
    rng = np.random.default_rng(9)
    return draw(family, mean(1.2 * rng.normal(size=GROUPS)), rng)


def slow(*row: Any) -> Any:
    return pytest.param(*row, marks=pytest.mark.slow)


ROWS = [(f, False) for f in ("gaussian", "binomial", "nbinom2", "Gamma(log)", "cumulative")]
ROWS += [slow(f, False) for f in ("t", "binomial(cloglog)", "poisson", "nbinom1", "genpois", "beta", "tweedie")]
ROWS += [("poisson", True), slow("gaussian", True), slow("Gamma(log)", True)]


@pytest.mark.parametrize(("family", "reml"), ROWS)
def test_a_fit_at_the_boundary_refitted_equals_the_fresh_fit(family: str, reml: bool) -> None:
    data = pd.DataFrame({"y": singular(family), "x": X, "g": G})
    at_zero = gj.glmm("y ~ x + (1 | g)", data, family, reml=reml, control=QUIET)
    assert at_zero.terms[0].sd[0] < 1e-2 * (1.0 if at_zero.family.link.name != "identity" else at_zero.sigma)
    y = spread(family)
    if family == "cumulative":
        y = np.minimum(y, np.max(data["y"]))
    fresh = gj.glmm("y ~ x + (1 | g)", data.assign(y=y), family, reml=reml)
    codes = np.searchsorted(np.unique(y), y) if family == "cumulative" else y
    assert at_zero.refit(codes).llf == pytest.approx(fresh.llf, abs=1e-6)
    low = gj.glmm("y ~ x + (1 | g)", data.assign(y=y), family, reml=reml, start={"theta": [-20.0]})
    assert low.llf == pytest.approx(fresh.llf, abs=1e-6) and low.status == fresh.status
    if family in ("gaussian", "nbinom2"):
        many = gj.fit_many("~ x + (1 | g)", data, y[:, None], family, reml=reml, start={"theta": [-20.0]})
        assert np.asarray(many.llf)[0] == pytest.approx(fresh.llf, abs=1e-6)


BOUNDARIES = {
    "size infinite": ("nbinom2", {}, {"beta_disp": [20.0]}),
    "size zero": ("nbinom2", {}, {"beta_disp": [-12.0]}),
    "phi zero": ("nbinom1", {}, {"beta_disp": [-20.0]}),
    "no extra zeros": ("poisson", {"ziformula": "~ 1"}, {"beta_zi": [-20.0]}),
    "all extra zeros": ("poisson", {"ziformula": "~ 1"}, {"beta_zi": [20.0]}),
    "correlation of minus one": ("gaussian", {}, {"theta": [0.0, 0.0, -1e6]}),
    "correlation of one, no slopes": ("poisson", {}, {"theta": [0.0, -20.0, 1e6]}),
    "normal tails": ("t", {}, {"psi": [20.0]}),
    "far away": ("binomial", {}, {"beta": [60.0, -40.0]}),
}


@pytest.mark.parametrize("name", BOUNDARIES)
def test_starts_at_other_boundaries(name: str) -> None:
    family, options, start = BOUNDARIES[name]
    rng = np.random.default_rng(4)
    slopes = 0.6 * rng.normal(size=GROUPS)[G] if "correlation" in name else 0.0
    y = draw(family, mean(0.6 * rng.normal(size=GROUPS), slopes), rng)
    if "ziformula" in options:
        y = np.where(rng.random(N) < 0.3, 0.0, y)
    formula = "y ~ x + (x | g)" if "correlation" in name else "y ~ x + (1 | g)"
    data = pd.DataFrame({"y": y, "x": X, "g": G})
    fresh = gj.glmm(formula, data, family, **options)
    assert gj.glmm(formula, data, family, start=start, **options).llf == pytest.approx(fresh.llf, abs=1e-6)


def test_a_held_parameter_stays_where_it_starts() -> None:
    data = pd.DataFrame({"y": spread("gaussian"), "x": X, "g": G})
    fit = gj.glmm("y ~ x + (1 | g)", data, start={"theta": [-9.0]}, fixed={"theta": True})
    assert fit.theta[0] == -9.0


def test_bootstrap_of_a_singular_fit_leaves_zero_as_often_as_fresh_fits() -> None:
    data = pd.DataFrame({"y": singular("gaussian"), "x": X, "g": G})
    fit = gj.glmm("y ~ x + (1 | g)", data, control=QUIET)
    Y = fit.simulate(40, seed=3)
    fresh = gj.fit_many("~ x + (1 | g)", data, Y.T)
    found = gj.bootstrap(fit, 40, seed=3)
    np.testing.assert_allclose(found.many.llf, fresh.llf, atol=1e-6)
    inside = np.asarray(fresh.sd)[:, 0] > 1e-3
    assert 0.2 < np.mean(inside) < 0.8
    np.testing.assert_array_equal(np.asarray(found.many.sd)[:, 0] > 1e-3, inside)


def test_profile_of_a_fixed_effect_of_a_singular_fit() -> None:
    """At each value of the slope the variance is estimated anew: the interval is wider than one with it at zero."""
    rng = np.random.default_rng(0)
    g = np.repeat([0, 1], 20)
    x = g + 0.3 * rng.normal(size=40)
    data = pd.DataFrame({"y": 0.5 * x + rng.normal(size=40), "x": x, "g": g})
    fit = gj.glmm("y ~ x + (1 | g)", data, control=QUIET)
    assert fit.terms[0].sd[0] < 1e-3 * fit.sigma
    low, high = fit.conf_int(method="uniroot", parameters=["x"]).to_numpy()[0]
    for limit in (low, high):
        held = gj.glmm("y ~ x + (1 | g)", data, fixed={"beta": [np.nan, limit]}, control=QUIET)
        assert 2.0 * (fit.llf - held.llf) == pytest.approx(1.959964**2, abs=1e-3)
