"""What rows count for: without trials, of weight zero, whole but for rounding, with a weight of their own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from glmmjax import clmm, datasets, fit_many, glmm
from glmmjax._errors import FamilyError
from glmmjax.families import LINKS, Family, Link

RNG = np.random.default_rng(0)
G = np.repeat(np.arange(8), 6)
TRIALS = RNG.integers(1, 9, size=48)
DATA = pd.DataFrame(
    {
        "g": G,
        "n": TRIALS,
        "k": RNG.binomial(TRIALS, 1 / (1 + np.exp(-RNG.normal(size=8)[G]))),
        "x": RNG.normal(size=48),
        "w": RNG.uniform(0.2, 4.0, size=48),
        "row": np.arange(48),
    }
)


# Rows without trials -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "family",
    [
        "binomial",
        pytest.param("binomial(cloglog)", marks=pytest.mark.slow),
        pytest.param("betabinomial", marks=pytest.mark.slow),
    ],
)
def test_rows_without_trials_say_nothing(family: str) -> None:
    empty = pd.DataFrame({"g": [0, 1], "n": 0, "k": 0, "x": [9.0, -9.0], "w": 1.0, "row": [48, 49]})
    data = pd.concat([DATA, empty], ignore_index=True)
    formula = "cbind(k, n - k) ~ x + (1 | g)"
    fit, expected = glmm(formula, data, family), glmm(formula, DATA, family)
    assert fit.llf == pytest.approx(expected.llf, abs=1e-9)
    np.testing.assert_allclose(fit.params, expected.params, atol=1e-6)
    assert fit.nobs == expected.nobs == 48
    assert np.all(fit.simulate(1)[0][48:] == 0)
    assert np.all(np.isfinite(fit.resid("quantile")))
    many = fit_many("~ x + (1 | g)", data, responses=data[["k"]].to_numpy(), family=family, trials="n")
    np.testing.assert_allclose(many.llf, expected.llf, atol=1e-8)
    assert many.nobs.tolist() == [48]


# Rows of weight zero -----------------------------------------------------------------------------------------------


def test_rows_of_weight_zero_are_no_observations_at_any_door() -> None:
    weights = np.where(DATA["row"] < 5, 0.0, 1.0)
    data = DATA.assign(weight=weights, all="a")
    fit, expected = glmm("x ~ 1 + (1 | g)", data, weights="weight"), glmm("x ~ 1 + (1 | g)", DATA[5:])
    assert (fit.nobs, fit.df_resid) == (expected.nobs, expected.df_resid) == (43, 40)
    assert fit.bic == pytest.approx(expected.bic, abs=1e-8)
    assert fit.simulate(1).shape == (1, 48)
    many = fit_many("~ 1 + (1 | g)", data, responses=data[["x"]].to_numpy(), weights=weights)
    by = fit_many("x ~ 1 + (1 | g)", data, by="all", weights="weight")
    assert many.nobs.tolist() == by.nobs.tolist() == [43]


# Counts that are whole but for rounding ----------------------------------------------------------------------------


def test_counts_are_rounded_once() -> None:
    exact = np.array([29.0, 57.0, 58.0, 31.0, 40.0])
    rough = np.array([0.29 * 100, 0.57 * 100, 0.58 * 100, 31.0, 40.0])
    assert np.any(rough != exact)
    expected = glmm("y ~ 1", {"y": exact}, "poisson")
    for fit in (glmm("y ~ 1", {"y": rough}, "poisson"), expected.refit(rough)):
        np.testing.assert_allclose(fit.resid("quantile"), expected.resid("quantile"), atol=1e-7)
        assert fit.design.y.tolist() == exact.tolist()
    many = fit_many("~ 1", {"x": np.ones(5)}, responses=np.column_stack([rough, exact]), family="poisson")
    assert many.llf[0] == many.llf[1]
    both = [glmm("cbind(y, 100 - y) ~ 1", {"y": y}, "binomial") for y in (rough, exact)]
    assert both[0].llf == both[1].llf


# Precision weights, and an effect for each row ---------------------------------------------------------------------


@pytest.mark.parametrize("reml", [False, True])
def test_weights_of_lmer_are_an_offset_of_the_dispersion(reml: bool) -> None:
    fit = glmm("x ~ k + (1 | g)", DATA, dispformula="~ 1 + offset(-0.5 * log(w))", reml=reml)
    Z, X = (G[:, None] == np.arange(8)).astype(float), np.column_stack([np.ones(48), DATA["k"]])
    y, w = DATA["x"].to_numpy(), DATA["w"].to_numpy()

    def deviance(at: Any) -> float:
        V = np.exp(2 * at[0]) * Z @ Z.T + np.diag(np.exp(2 * at[1]) / w)
        A = X.T @ np.linalg.solve(V, X)
        r = y - X @ np.linalg.solve(A, X.T @ np.linalg.solve(V, y))
        own = np.linalg.slogdet(V)[1] + r @ np.linalg.solve(V, r) + 48 * np.log(2 * np.pi)
        return own + (np.linalg.slogdet(A)[1] - 2 * np.log(2 * np.pi) if reml else 0.0)

    log_sd = [float(fit.theta[0]), float(fit.fixef["disp"].iloc[0])]
    assert -2 * fit.llf == pytest.approx(deviance(log_sd), abs=1e-8)
    for i in (0, 1):  # and no nearby value is better
        for step in (-0.05, 0.05):
            assert deviance([x + step * (i == j) for j, x in enumerate(log_sd)]) >= deviance(log_sd) - 1e-9


def test_an_effect_for_each_row_takes_the_place_of_the_residual() -> None:
    fit = glmm("x ~ 1 + (1 | row)", DATA, dispformula="~ 0")
    sd = float(DATA["x"].std(ddof=0))
    assert fit.llf == pytest.approx(float(np.sum(stats.norm.logpdf(DATA["x"], DATA["x"].mean(), sd))), abs=1e-6)
    assert fit.varcorr()["group"].tolist() == ["row"]
    assert fit.refit(DATA["x"] * 2).llf == pytest.approx(fit.llf - 48 * np.log(2), abs=1e-5)


# Thresholds with effects of their own ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("threshold", "llf", "df"), [("flexible", -86.2086, 9), ("symmetric", -87.7636, 7), ("equidistant", -87.7953, 5)]
)
def test_the_thresholds_of_every_nominal_level_have_the_structure(threshold: str, llf: float, df: int) -> None:
    fit = clmm("rating ~ temp", datasets.load("wine"), threshold=threshold, nominal="~ contact")
    assert fit.df == df
    assert fit.llf == pytest.approx(llf, abs=6e-5)
    p = np.asarray(fit.predict(type="probs"))
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-12)
    # the likelihood once more, from the probabilities
    assert np.sum(np.log(p[np.arange(len(p)), fit.design.y.astype(int)])) == pytest.approx(fit.llf, abs=1e-9)
    fit.summary().as_text()


# Private families of counts with extra zeros -----------------------------------------------------------------------


def counts(y: Any, eta: Any, trials: Any, link: Link) -> Any:
    return link.inverse(eta["cond"]) - y * link.log_inverse(eta["cond"]) + jax.scipy.special.gammaln(y + 1.0)


def counts_from_one(y: Any, eta: Any, trials: Any, link: Link) -> Any:
    own = counts(y, eta, trials, link) + jnp.log(-jnp.expm1(-link.inverse(eta["cond"])))
    return jnp.where(y > 0, own, jnp.inf)


ZEROS = {"y": np.where(RNG.uniform(size=120) < 0.3, 0.0, RNG.poisson(2.0, size=120))}
PRIVATE = [
    (Family("mine", LINKS["log"], counts, response="count"), "poisson"),
    (Family("mine", LINKS["log"], counts, has_zeros=True), "poisson"),
    (Family("mine", LINKS["log"], counts_from_one, response="count"), "truncated_poisson"),
    (Family("mine", LINKS["log"], counts_from_one, has_zeros=False), "truncated_poisson"),
]


@pytest.mark.parametrize(("family", "like"), PRIVATE)
def test_a_private_family_of_counts_with_extra_zeros(family: Family, like: str) -> None:
    expected = glmm("y ~ 1", ZEROS, like, ziformula="~ 1")
    assert glmm("y ~ 1", ZEROS, family, ziformula="~ 1").llf == pytest.approx(expected.llf, abs=1e-8)


def test_a_private_family_says_whether_it_has_zeros() -> None:
    silent = Family("mine", LINKS["log"], counts)
    with pytest.raises(FamilyError, match=r"'mine' does not say whether it has zeros.*has_zeros=True"):
        glmm("y ~ 1", ZEROS, silent, ziformula="~ 1")
    with pytest.raises(FamilyError, match="does not say"):
        fit_many("~ 1", ZEROS, responses=ZEROS["y"][:, None], family=silent, ziformula="~ 1")
