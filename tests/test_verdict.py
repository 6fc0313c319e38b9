"""The verdict on fits that are no good: each says so in words, and none passes as a good one."""

from __future__ import annotations

import numpy as np
import pytest

import glmmjax as gj


def test_a_variance_at_zero_is_named_and_the_rest_is_that_of_the_glm() -> None:
    """No variation between groups at all: estimates and standard errors are those of the model without the effect."""
    x = np.tile([0.0, 1.0], 20)
    k = np.tile([1.0, 2.0], 20)
    data = {"k": k, "f": 4 - k, "x": x, "g": np.repeat(np.arange(10), 4)}
    fit = gj.glmm("cbind(k, f) ~ x + (1 | g)", data, "binomial")
    glm = gj.glmm("cbind(k, f) ~ x", data, "binomial")
    assert fit.converged and fit.pd_hess
    assert "singular: the standard deviation of (1 | g) is zero" in fit.status
    assert fit.llf == pytest.approx(glm.llf, abs=1e-6)
    np.testing.assert_allclose(fit.params, glm.params, atol=1e-5)
    np.testing.assert_allclose(fit.bse, glm.bse, rtol=1e-4)
    assert np.isnan(fit.cov_params(full=True).loc["theta_1 | g.1", "theta_1 | g.1"])
    assert glm.status == "converged"


def test_a_correlation_of_one_is_named() -> None:
    """The effects of a group are proportional to each other, and small beside the noise."""
    rng = np.random.default_rng(1)
    y, x, g = rng.normal(size=60), rng.normal(size=60), np.repeat(np.arange(12), 5)
    fit = gj.glmm("y ~ x + (x | g)", {"y": y, "x": x, "g": g})
    assert fit.converged
    assert abs(fit.terms[0].correlations[0]) > 0.999
    assert "singular: (x | g) has a variance of zero or a correlation of one" in fit.status
    assert np.all(np.isfinite(fit.bse))


def test_complete_separation_names_the_column() -> None:
    rng = np.random.default_rng(1)
    x = np.repeat([0.0, 1.0], 40)
    g = np.tile(np.arange(8), 10)
    y = np.where(x == 1, 1.0, rng.binomial(1, 0.4, 80))
    fit = gj.glmm("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}, "binomial")
    assert "separation suspected: x" in fit.status
    assert fit.verdict.separated == ("x",)


def test_an_empty_cell_of_counts_is_separation() -> None:
    rng = np.random.default_rng(2)
    cell = np.repeat(["a", "b", "c"], 30)
    y = np.where(cell == "c", 0, rng.poisson(3.0, 90))
    fit = gj.glmm("y ~ cell + (1 | g)", {"y": y, "cell": cell, "g": np.tile(np.arange(9), 10)}, "poisson")
    assert fit.verdict.separated == ("cell[T.c]",)


def test_large_effects_that_are_well_estimated_are_not_separation() -> None:
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 100, 400)
    y = rng.poisson(np.exp(-4 + 0.1 * x))
    fit = gj.glmm("y ~ x", {"y": y, "x": x}, "poisson")
    assert fit.status == "converged"


def test_effects_that_cannot_be_told_apart_are_named() -> None:
    """Two factors that split the rows in the same way: only the sum of their variances is identified."""
    rng = np.random.default_rng(4)
    g = np.repeat(np.arange(10), 6)
    y = rng.normal(size=10)[g] + rng.normal(size=60)
    fit = gj.glmm("y ~ 1 + (1 | g) + (1 | names)", {"y": y, "g": g, "names": np.array([f"n{i}" for i in g])})
    assert "not identified: the data do not tell apart theta_1 | g.1 and theta_1 | names.1" in fit.status


def test_a_dispersion_at_its_limit_is_said_and_the_rest_is_poisson() -> None:
    """Counts that vary less than Poisson: the negative binomial goes to its limit."""
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, 300)
    data = {"y": np.round(np.exp(1 + 0.5 * x)), "x": x}
    for family in ("nbinom1", "nbinom2"):
        fit, poisson = gj.glmm("y ~ x", data, family), gj.glmm("y ~ x", data, "poisson")
        assert "singular: the dispersion parameter" in fit.status and fit.converged
        assert fit.llf == pytest.approx(poisson.llf, abs=1e-5)
        np.testing.assert_allclose(fit.bse, poisson.bse, rtol=1e-4)


def test_a_fit_that_ran_into_the_limit_of_its_link_says_so() -> None:
    """Groups that are all ones have no mode below a mean of one unless their variance is small."""
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(20), 6)
    y = rng.binomial(1, np.minimum(np.exp(-0.4 + 0.6 * rng.normal(size=20)[group]), 0.99))
    fit = gj.glmm("y ~ 1 + (1 | g)", {"y": y, "g": group}, "binomial(log)")
    assert not fit.converged
    assert "the link 'log' of the family 'binomial' allows only some linear predictors" in fit.status
