"""Simulated responses: their moments against theory, their reproducibility, and fits that recover what made them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from glmmjax import ArgumentError, FamilyError, Fit, FitError
from glmmjax.families import LINKS, Family, Given, resolve_family

Fitted = Callable[[str], Fit]
N = 4000


def standardized(draws: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """How many standard errors the mean of the draws is off, for each row."""
    return (draws.mean(axis=0) - mean) / (draws.std(axis=0) / np.sqrt(len(draws)))


@pytest.mark.parametrize("name", ["sleepstudy_us_ml", "salamanders_nb2", "cbpp_nested", "sleepstudy_gamma"])
def test_conditional_draws_have_the_mean_and_variance_of_the_family(name: str, fitted: Fitted) -> None:
    fit = fitted(name)
    draws = fit.simulate(N, re="conditional") / fit.design.trials
    mu = fit.fitted()
    assert np.max(np.abs(standardized(draws, mu))) < 5
    phi = np.exp(fit.log_phi()) if fit.family.has_dispersion else 1.0
    ratio = draws.var(axis=0) / fit.family.variance(Given(mu, phi, fit.design.trials))
    assert abs(ratio.mean() - 1) < 0.02


def test_unconditional_draws_share_effects_within_groups(fitted: Fitted) -> None:
    fit = fitted("sleepstudy_us_ml")
    draws, part, term = fit.simulate(N), fit.design.components["cond"], fit.terms[0]
    assert draws.shape == (N, 180)
    assert np.max(np.abs(standardized(draws, part.X @ fit.params.to_numpy()))) < 5
    same = part.terms[0].index[:, None] == part.terms[0].index
    Z = part.terms[0].Z
    V = same * (Z @ term.L @ term.L.T @ Z.T) + fit.sigma**2 * np.eye(180)
    error = (np.cov(draws, rowvar=False) - V) / np.sqrt((np.outer(np.diag(V), np.diag(V)) + V**2) / N)
    assert np.max(np.abs(error)) < 6 and abs(error.std() - 1) < 0.1


def test_nested_terms_add_their_variances(fitted: Fitted) -> None:
    fit = fitted("cbpp_nested")
    noiseless = replace(resolve_family("gaussian"), simulate=lambda rng, at: at.mu)
    draws = replace(fit, family=noiseless).simulate(N)
    herd, cell = (term.index for term in fit.design.components["cond"].terms)
    herd_variance, cell_variance = (term.sd.item() ** 2 for term in fit.terms)
    V = herd_variance * (herd[:, None] == herd) + cell_variance * (cell[:, None] == cell)
    assert_allclose(np.cov(draws, rowvar=False), V, atol=0.1 * V.max())


def test_unconditional_means_of_a_log_link(fitted: Fitted) -> None:
    fit = fitted("salamanders_nb2")
    mean = np.exp(fit.predict(type="link", re_form="NA") + 0.5 * fit.terms[0].sd.item() ** 2)
    assert np.max(np.abs(standardized(fit.simulate(N), mean))) < 5


def test_binomial_draws_are_counts_among_the_trials(fitted: Fitted) -> None:
    fit = fitted("cbpp_nested")
    draws = fit.simulate(50)
    assert_array_equal(draws, np.round(draws))
    assert np.all((draws >= 0) & (draws <= fit.design.trials)) and draws.max() > 1


@pytest.mark.parametrize("re", ["conditional", "unconditional"])
def test_a_replicate_depends_on_the_seed_alone(re: str, fitted: Fitted) -> None:
    fit = fitted("salamanders_nb2")
    three = fit.simulate(3, re=re, seed=5)
    assert_array_equal(fit.simulate(2, re=re, seed=5), three[:2])
    assert_array_equal(fit.simulate(3, re=re, seed=np.random.default_rng(5)), three)
    assert not np.array_equal(three[0], three[1])
    assert not np.array_equal(fit.simulate(1, re=re, seed=6), three[:1])
    assert not np.array_equal(fit.simulate(1, re=re, seed=None), fit.simulate(1, re=re, seed=None))
    rng = np.random.default_rng(5)
    assert not np.array_equal(fit.simulate(1, re=re, seed=rng), fit.simulate(1, re=re, seed=rng))


def test_refits_recover_the_parameters(fitted: Fitted) -> None:
    fit = fitted("sleepstudy_us_ml")
    refits = [fit.refit(y) for y in fit.simulate(40, seed=1)]
    for value, draws in [
        (fit.params["Days"], [f.params["Days"] for f in refits]),
        (np.log(fit.sigma), [np.log(f.sigma) for f in refits]),
    ]:
        assert abs(np.mean(draws) - value) < 4 * np.std(draws) / np.sqrt(len(draws))
    spread = np.std([f.params["Days"] for f in refits])
    assert_allclose(spread, fit.bse["Days"], rtol=0.4)


def test_refit_takes_simulated_counts(fitted: Fitted) -> None:
    fit = fitted("cbpp_nested")
    again = fit.refit(fit.simulate(1)[0])
    assert again.converged and np.all(np.abs(again.params - fit.params) < 4 * fit.bse)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"re": "new"}, "'conditional', 'unconditional'"),
        ({"n": 0}, "n must be a whole number"),
        ({"n": 2.5}, "n must be a whole number"),
        ({"n": True}, "n must be a whole number"),
        ({"seed": -1}, "seed must be"),
        ({"seed": "a"}, "seed must be"),
        ({"seed": True}, "seed must be"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str, fitted: Fitted) -> None:
    with pytest.raises(ArgumentError, match=message):
        fitted("sleepstudy_us_ml").simulate(**arguments)


def test_means_out_of_range_are_an_error(fitted: Fitted) -> None:
    fit = fitted("sleepstudy_us_ml")
    wild = replace(fit, family=resolve_family("poisson(identity)"), terms=(replace(fit.terms[0], L=1e3 * np.eye(2)),))
    with pytest.raises(FitError, match=r"replicate 0 .*'poisson'.*re='conditional'"):
        wild.simulate(1)


def test_a_family_that_cannot_simulate_says_so(fitted: Fitted) -> None:
    private = Family("private", LINKS["identity"], lambda y, eta, trials, link: (y - eta["cond"]) ** 2)
    with pytest.raises(FamilyError, match="cannot simulate"):
        replace(fitted("sleepstudy_us_ml"), family=private).simulate(1)
