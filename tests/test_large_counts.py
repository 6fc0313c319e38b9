"""Counts of any size, and continuous responses in any unit: the densities keep their digits, and fits their optimum."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from math import log, log1p
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from glmmjax import glmm
from glmmjax._deviances import betabinomial_half_deviance, binomial_half_deviance, nbinom_half_deviance
from glmmjax._precision import double_precision
from glmmjax.families import FAMILIES, Family, Given


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    with double_precision():
        yield


# A count of a million whose mean is off by one in a thousand.
H, Y = 1e-3, 1e6


def negative_binomial(k: float) -> float:
    return (Y + k) * log1p(Y * H / (Y + k)) - Y * log1p(H)


@pytest.mark.parametrize("log_size", [-3.0, 2.0, log(1e5), log(1e6), log(1e7), 40.0])
def test_the_distance_of_a_large_count_keeps_its_digits(log_size: float) -> None:
    got = float(nbinom_half_deviance(log(Y) + log1p(H), log_size, Y))
    assert got == pytest.approx(negative_binomial(np.exp(log_size)), abs=1e-11)


@pytest.mark.parametrize("phi", [1e2, 1e6, 1e9])
def test_the_distance_of_many_trials_keeps_its_digits(phi: float) -> None:
    n, p, delta = 1e6, 0.5, 1e-4

    def divergence(p: float, move: float) -> float:
        return -p * log1p(move / p) - (1 - p) * log1p(-move / (1 - p))

    mu = p + delta
    move = delta * phi / (n + phi)
    expected = n * divergence(p, move) + phi * divergence(mu, move - delta)
    at = (log(mu), log1p(-mu))
    assert float(betabinomial_half_deviance(*at, log(phi), p * n, n - p * n)) == pytest.approx(expected, abs=3e-10)
    assert float(binomial_half_deviance(*at, p * n, n - p * n)) == pytest.approx(n * divergence(p, delta), abs=1e-11)


DISCRETE = ["poisson", "nbinom1", "nbinom2", "nbinom12", "genpois", "binomial", "betabinomial", "bell"]
DISCRETE += [f"truncated_{name}" for name in ("poisson", "nbinom1", "nbinom2", "genpois")]


@pytest.mark.parametrize("size", [10.0, 1e3, 1e6])
@pytest.mark.parametrize("name", DISCRETE)
def test_what_the_optimizer_sees_holds_no_constant_of_the_data(name: str, size: float) -> None:
    family = FAMILIES[name](None)
    y = jnp.asarray([size])
    trials = jnp.asarray([3.0 * size])
    mean = 1.0 / 3.0 if family.response == "trials" else size
    eta = {"cond": jnp.asarray(family.link.link(np.array([mean]))), "disp": jnp.asarray(0.7), "psi": jnp.asarray([0.5])}
    assert abs(float(family.full_nll(y, eta, trials)[0])) < 15.0


@pytest.mark.parametrize("mean", [1e3, 1e6])
@pytest.mark.parametrize("name", [pytest.param("nbinom1", marks=pytest.mark.slow), "nbinom2"])
def test_a_fit_of_large_counts_reaches_its_optimum(name: str, mean: float) -> None:
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(12), 6)
    mu = mean * np.exp(0.4 * rng.normal(size=12)[g])
    y = rng.negative_binomial(3.0, 3.0 / (3.0 + mu))
    fit = glmm("y ~ 1 + (1 | g)", pd.DataFrame({"y": y, "g": g}), name)
    assert fit.converged
    assert fit.gradient @ np.linalg.solve(fit.hessian, fit.gradient) < 1e-10  # squared, in standard errors


@pytest.mark.slow
def test_rare_events_among_many_trials() -> None:
    rng = np.random.default_rng(0)
    g = np.repeat(np.arange(10), 6)
    p = 4e-5 * np.exp(0.3 * rng.normal(size=10))[g]
    k = rng.binomial(500_000, rng.beta(p * 1e5, (1 - p) * 1e5))
    fit = glmm("cbind(k, 500000 - k) ~ 1 + (1 | g)", pd.DataFrame({"k": k, "g": g}), "betabinomial")
    assert fit.converged
    # against quadrature in every group
    at = np.linspace(-6.0, 6.0, 401)
    mu, phi, sd = 1 / (1 + np.exp(-fit.params.iloc[0] - fit.terms[0].sd[0] * at)), fit.sigma, 1.0
    rows = stats.betabinom.logpmf(k[:, None], 500_000, mu * phi, (1 - mu) * phi)
    groups = np.array([rows[g == j].sum(axis=0) for j in range(10)]) + stats.norm.logpdf(at)
    expected = np.sum(np.log(np.sum(np.exp(groups), axis=1) * (at[1] - at[0]) / sd))
    assert fit.llf == pytest.approx(expected, abs=0.05)


# Conway-Maxwell-Poisson --------------------------------------------------------------------------------


def test_the_variance_of_many_means_needs_little_memory() -> None:
    mu = 491 * np.exp(0.2 * np.random.default_rng(0).normal(size=800))
    tracemalloc.start()
    found = FAMILIES["compois"](None).variance(Given(mu, 1.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6
    np.testing.assert_allclose(found, mu, rtol=1e-10)


def test_rows_of_a_conway_maxwell_count_are_read_in_any_order() -> None:
    mu, y = np.array([3.0, 2000.0, 0.2, 3.0, 50.0]), np.array([2.0, 1990.0, 0.0, 5.0, -1.0])
    family = FAMILIES["compois"](None)
    np.testing.assert_allclose(family.cdf(y, Given(mu, 1.0)), stats.poisson.cdf(y, mu), atol=1e-12)
    phi = np.array([1.0, 1.0, 1.0, 3.0, 1.0])
    one_by_one = [float(family.variance(Given(m, f))) for m, f in zip(mu, phi, strict=True)]
    np.testing.assert_allclose(family.variance(Given(mu, phi)), one_by_one, rtol=1e-12)


# Truncated counts of tiny means ------------------------------------------------------------------------------------

# P(Y = 1 | Y > 0) as the mean goes to zero, at phi = 1.3
FIRST = {
    "truncated_poisson": 1.0,
    "truncated_nbinom1": 1.3 / 2.3 / log(2.3),
    "truncated_nbinom2": 1.0,
    "truncated_genpois": np.exp(-(1 - 1.3**-0.5)),
    "truncated_compois": 1.0,
}


@pytest.mark.parametrize("mu", [1e-8, 1e-17, 1e-40, 1e-300])
@pytest.mark.parametrize("name", FIRST)
def test_truncated_counts_of_a_tiny_mean(name: str, mu: float) -> None:
    family, at = FAMILIES[name](None), Given(np.full(400, mu), 1.3)
    y = family.simulate(np.random.default_rng(0), at)
    assert np.all((y >= 1) & (y < 40))
    assert np.mean(y == 1) == pytest.approx(FIRST[name], abs=0.09)
    assert float(family.cdf(1.0, Given(mu, 1.3))) == pytest.approx(FIRST[name], abs=1e-7)
    assert float(family.cdf(0.0, Given(mu, 1.3))) == 0.0


# Deviance ----------------------------------------------------------------------------------------------------------


def test_the_deviance_of_nbinom1_is_measured_from_the_best_mean() -> None:
    phi, mu = 0.7, 3.0
    y = np.array([0.0, 1.0, 5.0, 200.0])
    size = np.linspace(0.01, 400.0, 40_001)
    best = [np.max(stats.nbinom.logpmf(v, size, 1 / (1 + phi))) if v else 0.0 for v in y]
    expected = 2 * (np.array(best) - stats.nbinom.logpmf(y, mu / phi, 1 / (1 + phi)))
    np.testing.assert_allclose(FAMILIES["nbinom1"](None).deviance(y, Given(mu, phi)), expected, atol=1e-5)
    poisson = FAMILIES["poisson"](None).deviance(y, Given(mu))
    np.testing.assert_allclose(FAMILIES["nbinom1"](None).deviance(y, Given(mu, 1e-9)), poisson, rtol=1e-4)


# Units -------------------------------------------------------------------------------------------------------------

# the power of the unit in phi
CONTINUOUS = {
    "gaussian": 1.0,
    "t": 1.0,
    "skewnormal": 1.0,
    "lognormal": 1.0,
    "folded_normal": 1.0,
    "censored_gaussian": 1.0,
    "censored_lognormal": 1.0,
    "Gamma": 0.0,
    "inverse_gaussian": -1.0,
    "tweedie": 0.5,
}
UNITS = [(name, link) for name in CONTINUOUS for link in FAMILIES[name](None).links]
SIZES = np.array([0.3, 0.8, 1.0, 1.7, 4.0])


def responses(family: Family, unit: float) -> tuple[np.ndarray, np.ndarray]:
    y = SIZES * unit
    return y, np.where(np.arange(5) == 2, 1.5 * y, y) if family.response == "interval" else np.ones(5)


@pytest.mark.parametrize(("name", "link"), UNITS)
def test_a_density_in_another_unit_is_the_same_density(name: str, link: str) -> None:
    family = FAMILIES[name](link)

    def log_density(unit: float) -> Any:
        y, trials = responses(family, unit)
        eta = {
            "cond": jnp.asarray(family.link.link(np.full(5, 1.2 * unit))),
            "disp": jnp.asarray(log(0.7) + CONTINUOUS[name] * log(unit)),
        }
        if family.shape is not None:
            eta["psi"] = jnp.asarray(family.shape.start(y, trials))
        own = family.log_base(y, trials) - np.asarray(value(jnp.asarray(y), eta, jnp.asarray(trials)))
        exact = y == trials if family.response == "interval" else np.ones(5, bool)
        return own + np.where(exact, log(unit), 0.0)

    value = jax.jit(family.full_nll)
    expected = log_density(1.0)
    for unit in (1e-12, 1e-6, 1e6, 1e12):
        np.testing.assert_allclose(log_density(unit), expected, atol=1e-9)


@pytest.mark.parametrize(("name", "link"), UNITS)
def test_start_values_in_another_unit_are_the_same(name: str, link: str) -> None:
    family = FAMILIES[name](link)
    for sign in (1.0, -1.0) if family.response == "real" and link == "identity" else (1.0,):
        first = family.start_mu(*responses(family, sign))
        for unit in (1e-12, 1e12):
            y, trials = responses(family, sign * unit)
            np.testing.assert_allclose(family.start_mu(y, trials) / unit, first, rtol=1e-12)
            if family.shape is not None:
                expected = family.shape.start(*responses(family, sign))
                np.testing.assert_allclose(family.shape.start(y, trials), expected)
