"""Power by simulation against closed forms; designs that are extended row by row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, norm

import glmmjax as gj
from glmmjax.batch import extending
from glmmjax.batch.power import clopper_pearson
from glmmjax.design import build_design
from glmmjax.formula import parse_formula

QUICK = gj.Control(compilation="quick")
N = 400
SD, SIGMA = 0.5, 1.0


def two_sided(effect: float, se: float) -> float:
    """Power of a z-test of level 5 % whose estimate is normal."""
    z = norm.isf(0.025)
    return float(norm.sf(z - effect / se) + norm.cdf(-z - effect / se))


def assert_near(row: pd.Series, expected: float) -> None:
    """Within four Monte Carlo standard errors."""
    assert row.power == pytest.approx(expected, abs=4.0 * np.sqrt(expected * (1.0 - expected) / row.n))


def pilot(formula: str = "y ~ x + (1 | id)", family: str = "gaussian", **rest: Any) -> Any:
    """Twelve groups of five rows, the treatment between groups, which are sorted by it."""
    ids = np.repeat(np.arange(12), 5)
    rng = np.random.default_rng(3)
    y = rng.normal(size=60) if family == "gaussian" else rng.poisson(2.0, size=60)
    data = {"y": y, "x": (ids >= 6).astype(float), "id": ids, "t": np.tile(np.arange(5), 12)}
    return gj.glmm(formula, data, family, control=QUICK, **rest)


@pytest.fixture(scope="module")
def known() -> Any:
    """Known variances, so that the test is exactly normal."""
    return pilot(fixed={"theta": [np.log(SD)], "beta_disp": [np.log(SIGMA)]})


def standard_error(n_groups: int, n_rows: int) -> float:
    return float(np.sqrt(4.0 / n_groups * (SD**2 + SIGMA**2 / n_rows)))


def test_power_of_a_balanced_design_is_the_closed_form(known: Any) -> None:
    found = gj.power(known, {"x": 0.7}, sizes={"id": [8, 24]}, n=N)
    table = found.summary()
    assert table.index.tolist() == [8, 24] and table.index.name == "id"
    for size, row in table.iterrows():
        assert_near(row, two_sided(0.7, standard_error(size, 5)))
        assert row.converged == N
        assert row.mean_estimate == pytest.approx(0.7, abs=4.0 * standard_error(size, 5) / np.sqrt(N))
    # given that they were rejected, estimates exaggerate: the mean of a truncated normal
    se, z = standard_error(8, 5), norm.isf(0.025)
    draws = 0.7 + se * np.random.default_rng(0).normal(size=100_000)
    significant = draws[np.abs(draws) > z * se]
    assert table.type_m[8] == pytest.approx(np.mean(np.abs(significant)) / 0.7, rel=0.1)
    assert table.type_s[24] < 0.01
    limits = binomtest(int(table.rejected[8]), N).proportion_ci(0.95)
    assert (table.conf_low[8], table.conf_high[8]) == pytest.approx((limits.low, limits.high))
    assert "Wald test of x" in repr(found) and "did not converge" not in repr(found)


def test_rows_within_groups(known: Any) -> None:
    table = gj.power(known, {"x": 0.7}, within={"id": [10]}, n=N).summary()
    assert table.index.name == "rows per id"
    for size, row in table.iterrows():
        assert_near(row, two_sided(0.7, standard_error(12, size)))


def test_without_an_effect_the_test_has_its_level(known: Any) -> None:
    row = gj.power(known, {"x": 0.0}, n=N, alpha=0.1, seed=2).summary().iloc[0]
    assert_near(row, 0.1)
    assert np.isnan(row.type_m)


def test_with_known_variances_the_three_tests_are_one(known: Any) -> None:
    smaller = pilot("y ~ 1 + (1 | id)", fixed={"theta": [np.log(SD)], "beta_disp": [np.log(SIGMA)]})
    given = {"params": {"x": 0.7}, "n": 50}
    wald, joint, ratio = (gj.power(known, test=test, **given) for test in ("x", ["x"], smaller))
    np.testing.assert_allclose(ratio.points[0].p_values, wald.points[0].p_values, rtol=1e-6)
    np.testing.assert_array_equal(joint.points[0].p_values, wald.points[0].p_values)
    assert "likelihood ratio test against 'y ~ 1 + (1 | id)'" in repr(ratio)


def test_counts() -> None:
    """Two groups of 30 counts: the log rate ratio has the variance 1 / (30 rate_0) + 1 / (30 rate_1)."""
    fit = pilot("y ~ x", "poisson")
    row = gj.power(fit, {"(Intercept)": np.log(2.0), "x": 0.4}, test="x", n=N).summary().iloc[0]
    assert_near(row, two_sided(0.4, np.sqrt(1 / 60 + 1 / (60 * np.exp(0.4)))))


def test_estimated_variances_by_name_and_what_did_not_converge() -> None:
    fit = pilot(family="poisson")
    few = gj.Control(compilation="quick", max_iter=3)
    theta = fit.parameter_names[-1]
    by_name, by_block = (
        gj.power(fit, {"x": 0.5, name: np.log(0.6)}, sizes={"id": [12]}, n=30) for name in (theta, "theta")
    )
    np.testing.assert_array_equal(by_name.points[0].p_values, by_block.points[0].p_values)
    hurried = gj.power(fit_with(fit, few), {"x": 3.0}, n=10)
    row = hurried.summary().iloc[0]
    assert row.converged < 10 and row.rejected <= row.converged
    assert "did not converge and count as not rejected" in repr(hurried)


def fit_with(fit: Any, control: gj.Control) -> Any:
    """The fit, whose refits are computed in another way."""
    return replace(fit, options=replace(fit.options, control=control))


def test_copies_are_spread_evenly_and_nested_groups_are_new() -> None:
    data = pd.DataFrame(
        {
            "y": np.random.default_rng(0).normal(size=24),
            "school": np.repeat([0, 1, 2, 3], 6),
            "pupil": np.repeat(np.arange(12), 2),
            "item": np.tile([0, 1], 12),
        }
    )
    design = build_design({"cond": parse_formula("y ~ 1 + (1 | school/pupil) + (1 | item)")}, data)
    terms = {term.group: term for _, term in design.terms}
    copies = extending.groups(terms["school"].index, 6)
    new = {term.group: term for _, term in extending.extended(design, copies).terms}
    assert sorted(np.unique(copies.rows // 6, return_counts=True)[1].tolist()) == [6, 6, 12, 12]
    assert [new[name].n_levels for name in ("school", "item")] == [6, 2]
    assert next(term for name, term in new.items() if ":" in name).n_levels == 18
    assert np.bincount(new["school"].index).tolist() == [6] * 6
    assert len(set(new["school"].levels)) == 6
    assert extending.spread(10, 4)[0].tolist() == [0, 2, 5, 7]
    rows = extending.within(terms["school"].index, 4)
    assert np.bincount(extending.extended(design, rows).terms[0][1].index).sum() == 16


def test_limits_at_the_ends() -> None:
    assert clopper_pearson(0, 10)[0] == 0.0 and clopper_pearson(10, 10)[1] == 1.0
    assert clopper_pearson(0, 10)[1] == pytest.approx(1.0 - 0.025**0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params": {"z": 1.0}}, "no parameter is called 'z'"),
        ({"params": {"x": [1.0, 2.0]}}, "must be 1 finite numbers"),
        ({"params": {}}, "say with test="),
        ({"test": "z"}, "no effect is called 'z'"),
        ({"test": 3}, "must be an effect"),
        ({"sizes": {"site": [3]}}, "names no grouping factor"),
        ({"sizes": {"id": [1]}}, "at least 2 groups"),
        ({"sizes": {"id": [2.5]}}, "at least 2 groups"),
        ({"sizes": {"id": [3]}, "within": {"id": [3]}}, "one at a time"),
        ({"sizes": [3]}, "must name one grouping factor"),
        ({"alpha": 5}, "alpha must lie"),
        ({"n": 0}, "n must be a whole number"),
    ],
)
def test_bad_input(known: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(gj.ArgumentError, match=message):
        gj.power(known, **{"params": {"x": 0.5}, "n": 2, **change})


def test_what_cannot_be_refitted_is_refused(known: Any) -> None:
    with pytest.raises(gj.ArgumentError, match="a fit of glmm"):
        gj.power("y ~ x", {"x": 0.5})  # type: ignore[arg-type]
    with pytest.raises(gj.ArgumentError, match="a smaller model to the same rows"):
        gj.power(known, {"x": 0.5}, test=known)
