"""Likelihood-ratio tests and information criteria, against R and SciPy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.stats import chi2

import glmmjax as gj

if TYPE_CHECKING:
    from glmmjax.result import Fit

FORMULA = "count ~ spp + mined + (1 | site)"


@pytest.fixture(scope="module")
def poisson(fitted: Any) -> Fit:
    return fitted("salamanders_poisson")


@pytest.fixture(scope="module")
def negative_binomial(fitted: Any) -> Fit:
    return fitted("salamanders_nb2")


@pytest.fixture(scope="module")
def slopes(fitted: Any) -> Fit:
    return fitted("sleepstudy_us_ml")


@pytest.fixture(scope="module")
def intercepts(fitted: Any) -> Fit:
    return fitted("sleepstudy_intercept")


def test_anova_agrees_with_r(poisson: Fit, negative_binomial: Fit) -> None:
    table = gj.anova(negative_binomial, poisson)
    assert list(table.columns) == ["df", "aic", "bic", "llf", "deviance", "chisq", "chi_df", "p_value", "status"]
    assert list(table.index) == [f"poisson(log): {FORMULA}", f"nbinom2(log): {FORMULA}"]
    # anova() of glmmTMB 1.1.5
    assert list(table["df"]) == [9, 10]
    np.testing.assert_allclose(table["aic"], [1962.80746566, 1672.40440913], rtol=1e-8)
    np.testing.assert_allclose(table["bic"], [2003.01675419, 1717.08139638], rtol=1e-8)
    np.testing.assert_allclose(table["deviance"], [1944.80746566, 1652.40440913], rtol=1e-8)
    np.testing.assert_allclose(table["chisq"], [np.nan, 292.403056527], rtol=1e-7)
    np.testing.assert_allclose(table["chi_df"], [np.nan, 1.0])
    np.testing.assert_allclose(table["p_value"], [np.nan, 1.48922173696e-65], rtol=1e-5)
    assert list(table["status"]) == ["converged", "converged"]


def test_each_model_is_tested_against_the_one_before(slopes: Fit, intercepts: Fit) -> None:
    smallest = replace(intercepts, llf=intercepts.llf - 3.0, directions=intercepts.directions[:, :3])
    table = gj.anova(slopes, smallest, intercepts)
    assert list(table["df"]) == [3, 4, 6]
    chisq = [6.0, 2 * (slopes.llf - intercepts.llf)]
    np.testing.assert_allclose(table["chisq"].iloc[1:], chisq, rtol=1e-9)
    np.testing.assert_allclose(table["p_value"].iloc[1:], chi2.sf(chisq, [1, 2]), rtol=1e-9)
    labels = ["#2: disp ~ 1: gaussian(identity)", "#3: disp ~ 1: gaussian(identity)"]
    assert list(table.index[:2]) == [f"{label}: {intercepts.formula}" for label in labels]
    assert table.index[2] == slopes.formula


def test_a_larger_model_that_fits_worse_is_no_test(slopes: Fit, intercepts: Fit) -> None:
    table = gj.anova(intercepts, replace(slopes, llf=intercepts.llf - 1.0))
    assert table["chisq"].iloc[1] == pytest.approx(-2.0)
    assert np.isnan(table["p_value"].iloc[1])
    assert "not nested" in table["status"].iloc[1] and table["status"].iloc[0] == "converged"
    rounding = gj.anova(intercepts, replace(slopes, llf=intercepts.llf - 1e-7))
    assert rounding["chisq"].iloc[1] == 0.0 and rounding["p_value"].iloc[1] == 1.0
    assert rounding["status"].iloc[1] == "converged"


def test_a_flagged_fit_shows(slopes: Fit, intercepts: Fit) -> None:
    flagged = replace(slopes, verdict=replace(slopes.verdict, status="converged; singular: this one"))
    assert list(gj.anova(intercepts, flagged)["status"]) == ["converged", "converged; singular: this one"]
    assert "converged; singular: this one" in list(gj.aic_table(intercepts, flagged)["status"])


def test_aic_table(poisson: Fit, negative_binomial: Fit) -> None:
    near = replace(negative_binomial, llf=negative_binomial.llf - 1.0)
    table = gj.aic_table(poisson, near, negative_binomial)
    assert list(table.columns) == ["df", "aic", "delta", "weight", "status"]
    np.testing.assert_allclose(table["delta"], [0.0, 2.0, poisson.aic - negative_binomial.aic], atol=1e-9)
    np.testing.assert_allclose(table["weight"].iloc[:2], np.array([1.0, np.exp(-1.0)]) / (1 + np.exp(-1.0)), rtol=1e-9)
    assert table["weight"].sum() == pytest.approx(1.0)
    labels = ["#3: disp ~ 1: nbinom2(log)", "#2: disp ~ 1: nbinom2(log)", "poisson(log)"]
    assert list(table.index) == [f"{label}: {FORMULA}" for label in labels]


@pytest.mark.parametrize("compare", [gj.anova, gj.aic_table])
def test_only_fits_of_the_same_data_are_compared(compare: Any, slopes: Fit, intercepts: Fit, poisson: Fit) -> None:
    design = intercepts.design
    fewer = {"y": design.y[1:], "rows": design.rows[1:]}
    shifted = {"rows": design.rows + 1}
    others = {
        "180 and 179 rows": replace(intercepts, design=replace(design, **fewer)),
        "different rows": replace(intercepts, design=replace(design, **shifted)),
        "different responses": replace(intercepts, design=replace(design, y=np.log(design.y))),
        "different weights": replace(intercepts, design=replace(design, weights=2 * design.weights)),
        "180 and 644 rows": poisson,
    }
    for message, other in others.items():
        with pytest.raises(gj.ArgumentError, match=message):
            compare(slopes, other)
    with pytest.raises(gj.ArgumentError, match="two fits or more"):
        compare(slopes)
    with pytest.raises(gj.ArgumentError, match="got 'str'"):
        compare(slopes, "y ~ x")


def test_models_of_the_same_size_have_no_test(slopes: Fit) -> None:
    with pytest.raises(gj.ArgumentError, match=r"both have 6 parameters.*aic_table"):
        gj.anova(slopes, slopes)


COUNTS = {
    "k": np.random.default_rng(2).poisson(2.0, size=60),
    "x": np.tile(np.arange(3.0), 20),
    "g": np.repeat(np.arange(12), 5),
}


@pytest.fixture(scope="module")
def counted() -> Any:
    """Fits of the same counts."""
    control = gj.Control(compilation="quick")

    def fit(formula: str, family: str = "poisson", **more: Any) -> Any:
        return gj.glmm(formula, COUNTS, family, control=control, **more)

    return fit


@pytest.mark.parametrize(
    ("smaller", "larger", "message"),
    [
        ({"family": "gaussian"}, {"formula": "k ~ x + (1 | g)"}, "made of probabilities, that of 'gaussian' of densit"),
        ({}, {"formula": "k ~ x", "priors": {"beta": "normal(0, 1)"}}, "have different priors"),
        ({"family": "nbinom2"}, {"formula": "k ~ x + (1 | g)"}, "'nbinom2' is no special case of 'poisson'"),
        ({"family": "poisson(sqrt)"}, {"formula": "k ~ x"}, "link 'sqrt' is no special case of one with 'log'"),
    ],
)
def test_models_that_are_not_nested_have_no_test(
    smaller: dict[str, Any], larger: dict[str, Any], message: str, counted: Any
) -> None:
    """One by one, and in batches."""
    fits = [counted(**{"formula": "k ~ 1", **given}) for given in (smaller, larger)]
    with pytest.raises(gj.ArgumentError, match=message):
        gj.anova(*fits)
    batches = [
        gj.fit_many(
            given.get("formula", "k ~ 1").removeprefix("k"),
            COUNTS,
            COUNTS["k"][:, None],
            given.get("family", "poisson"),
            priors=given.get("priors"),
        )
        for given in (smaller, larger)
    ]
    with pytest.raises(gj.ArgumentError, match=message):
        batches[1].likelihood_ratio_test(batches[0])
    if "no special case" not in message:
        with pytest.raises(gj.ArgumentError, match=message):
            gj.aic_table(*fits)


def test_penalized_fits_are_compared_with_a_word(counted: Any) -> None:
    priors = {"beta_disp": "normal(0, 1)"}
    fits = [counted(f"k ~ {right}", "nbinom2", dispformula="~ x", priors=priors) for right in ("1", "x")]
    for table in (gj.anova(*fits), gj.aic_table(*fits)):
        assert all("penalized" in status for status in table["status"])


def test_a_lane_whose_larger_model_fits_worse_has_no_test() -> None:
    Y = np.stack([COUNTS["k"], COUNTS["k"][::-1]], axis=1)
    small, large = (gj.fit_many(right, COUNTS, Y, "poisson") for right in ("~ 1", "~ x"))
    sound = large.likelihood_ratio_test(small)
    np.testing.assert_allclose(sound["p_value"], chi2.sf(2 * (large.llf - small.llf), 1), rtol=1e-9)
    assert list(sound["status"]) == ["converged", "converged"]
    worse = replace(large, llf=small.llf - np.array([1.0, 1e-7]))
    table = worse.likelihood_ratio_test(small)
    assert np.isnan(table["p_value"][0]) and table["statistic"][0] == pytest.approx(-2.0)
    assert "not nested, or not at its maximum" in table["status"][0]
    assert table["p_value"][1] == 1.0 and table["status"][1] == "converged"


@pytest.mark.parametrize("priors", [{"beta": "normal(1, 0.05)", "sd": "gamma(3, 9)"}, "weak"], ids=str)
def test_priors_are_no_disagreement_of_density_and_simulator(priors: Any, counted: Any) -> None:
    fit = counted("k ~ x + (1 | g)", priors=priors)
    result = gj.check.consistency(fit, 100)
    assert result.joint_p_value > 0.01 and "agree" in str(result)
