"""Densities that are sums without closed form, against closed forms of special cases, direct sums, and their limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws_counts import bell as bell_law
from laws_counts import genpois as genpois_law
from scipy import special, stats

from glmmjax._errors import FamilyError
from glmmjax.families import FAMILIES, Family, Given, zero_inflated

Y = np.array([0.0, 1.0, 2.0, 9.0, 60.0])


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def log_density(family: Family, y: Any, log_mu: Any, log_phi: Any = 0.0, psi: Any = ()) -> Any:
    y = np.asarray(y, dtype=float)
    eta = {"cond": jnp.asarray(log_mu), "disp": jnp.asarray(log_phi), "psi": jnp.asarray(psi)}
    return family.log_base(y, np.ones_like(y)) - np.asarray(family.full_nll(jnp.asarray(y), eta, 1.0))


# Tweedie -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phi", [1e-3, 0.1, 3.0, 100.0])
@pytest.mark.parametrize("mu", [0.02, 1.0, 300.0])
def test_tweedie_of_power_three_halves_is_a_bessel_function(mu: float, phi: float) -> None:
    """The series at p = 3/2 is ``sqrt(z) I_1(2 sqrt(z))``."""
    y = mu * np.exp(np.linspace(-3.0, 3.0, 9)) if phi > 0.01 else mu * np.linspace(0.9, 1.1, 9)
    rate, scale = 2 * np.sqrt(mu) / phi, phi * np.sqrt(mu) / 2
    z = rate * y / scale
    expected = 0.5 * np.log(z) + np.log(special.ive(1, 2 * np.sqrt(z))) + 2 * np.sqrt(z) - rate - y / scale - np.log(y)
    got = log_density(FAMILIES["tweedie"](None), y, np.log(mu), np.log(phi), [0.0])
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10 + 1e-15 * np.max(rate))


@pytest.mark.parametrize("p", [1.05, 1.2, 1.5, 1.8, 1.95])
def test_tweedie_equals_its_direct_sum(p: float) -> None:
    family, psi = FAMILIES["tweedie"](None), np.log(p - 1) - np.log(2 - p)
    shape = (2 - p) / (p - 1)
    for y in (1e-3, 0.05, 1.0, 30.0, 2e3, 1e5):
        for phi in (1e-3, 0.02, 0.5, 7.0, 100.0):
            peak = y ** (2 - p) / (phi * (2 - p))
            if peak > 2e5:
                continue
            mu, reach = 1.1 * y, 12 * np.sqrt(peak) + 60
            j = np.arange(max(1.0, np.floor(peak - reach)), peak + reach)
            rate, scale = mu ** (2 - p) / (phi * (2 - p)), phi * (p - 1) * mu ** (p - 1)
            number = special.xlogy(j, rate) - rate - special.gammaln(j + 1)
            sizes = (j * shape - 1) * np.log(y) - y / scale - j * shape * np.log(scale) - special.gammaln(j * shape)
            expected = special.logsumexp(number + sizes)
            lost = 1e-15 * np.max(np.abs(special.gammaln(j + 1)) + np.abs(special.gammaln(j * shape)))
            got = log_density(family, [y], np.log(mu), np.log(phi), [psi])[0]
            assert got == pytest.approx(expected, rel=1e-10, abs=1e-10 + 30 * lost), (y, phi)


@pytest.mark.parametrize("p", [1.05, 1.3, 1.7, 1.95])
def test_tweedie_of_a_small_dispersion_is_its_saddlepoint_approximation(p: float) -> None:
    """``f -> exp(-d / (2 phi)) / sqrt(2 pi phi y^p)``, also where the sum would have 1e12 terms."""
    family, psi, y = FAMILIES["tweedie"](None), np.log(p - 1) - np.log(2 - p), 1e3
    for phi in (1e-5, 1e-8):
        small = phi * y ** (p - 2)
        mu = y * (1 + 2 * np.sqrt(small))
        deviance = family.deviance(np.array([y]), Given(mu, phi, 1.0, (p,)))[0]
        d = np.log(mu / y)
        exact = 2 * y ** (2 - p) * (np.expm1((2 - p) * d) / (2 - p) + np.expm1((1 - p) * d) / (p - 1))
        assert deviance == pytest.approx(exact, rel=1e-6)
        expected = -exact / (2 * phi) - 0.5 * np.log(2 * np.pi * phi * y**p)
        assert log_density(family, [y], np.log(mu), np.log(phi), [psi])[0] == pytest.approx(expected, abs=1e-6 + small)


@pytest.mark.extended
def test_derivatives_of_the_series_stay_finite() -> None:
    family = FAMILIES["tweedie"](None)

    def value(x: Any, y: Any) -> Any:
        return jnp.sum(family.full_nll(y, {"cond": jnp.float64(0.3), "disp": x[0], "psi": x[1:]}, 1.0))

    both = jax.jit(jax.vmap(jax.hessian(value), (0, 0)))
    grid = [
        (d, s, y)
        for d in (-30.0, -5.0, 0.0, 5.0, 30.0)
        for s in (-30.0, -4.0, 0.0, 4.0, 30.0)
        for y in (0.0, 1e-3, 1e5)
    ]
    d, s, y = (np.array(column) for column in zip(*grid, strict=True))
    assert np.all(np.isfinite(both(np.stack([d, s], axis=1), y)))


def test_the_power_of_tweedie_may_be_held() -> None:
    shape = FAMILIES["tweedie"](None, power=1.7).shape  # type: ignore[call-arg]
    assert shape is not None
    assert shape.held is not None
    assert float(shape.natural(np.array(shape.held))[0]) == pytest.approx(1.7)
    for power in (1.0, 2.0, 0.3):
        with pytest.raises(FamilyError, match="power"):
            FAMILIES["tweedie"](None, power=power)  # type: ignore[call-arg]


# Conway-Maxwell-Poisson and generalized Poisson ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["genpois", "compois"])
@pytest.mark.parametrize("mu", [1e-9, 0.3, 4.0, 90.0])
def test_poisson_is_in_the_family(name: str, mu: float) -> None:
    family = FAMILIES[name](None)
    expected = stats.poisson.logpmf(Y, mu)
    for log_phi in (0.0, 1e-22):
        np.testing.assert_allclose(log_density(family, Y, np.log(mu), log_phi), expected, rtol=1e-11, atol=1e-11)


def test_conway_maxwell_of_a_huge_dispersion_is_geometric() -> None:
    for mu in (0.01, 1.0, 5.0):
        got = log_density(FAMILIES["compois"](None), Y, np.log(mu), 37.0)
        np.testing.assert_allclose(got, stats.geom.logpmf(Y + 1, 1 / (1 + mu)), rtol=1e-9, atol=1e-11)


def test_conway_maxwell_between_two_counts() -> None:
    """Strongly underdispersed with mean 2.3, y is 2 or 3."""
    p = np.exp(log_density(FAMILIES["compois"](None), np.arange(8.0), np.log(2.3), np.log(0.035)))
    assert p[2] == pytest.approx(0.7, abs=0.01)
    assert p[3] == pytest.approx(0.3, abs=0.01)
    assert p @ np.arange(8.0) == pytest.approx(2.3, rel=1e-10)


def test_conway_maxwell_sums_are_as_long_as_the_counts_need() -> None:
    y = np.array([0.0, 900.0])
    for make in (
        FAMILIES["compois"],
        FAMILIES["truncated_compois"],
        lambda link: zero_inflated(FAMILIES["compois"](link)),
    ):
        family = make(None)
        assert family.bind is not None
        bound = family.bind(family, y, (), ("cond", "disp"))
        eta = {"cond": jnp.log(850.0), "disp": jnp.log(1.0), "zi": jnp.asarray(-800.0)}
        own = bound.log_base(y[1:], 1.0) - np.asarray(bound.full_nll(y[1:], eta, 1.0))
        np.testing.assert_allclose(own, stats.poisson.logpmf(900, 850.0), rtol=1e-9)
        with pytest.raises(FamilyError, match="nbinom2"):
            family.bind(family, np.array([9000.0]), (), ())


@pytest.mark.parametrize("name", ["compois", "genpois"])
def test_extreme_parameters_give_finite_derivatives(name: str) -> None:
    family = FAMILIES[name](None)

    def value(x: Any, y: Any) -> Any:
        return jnp.sum(family.full_nll(y, {"cond": x[0], "disp": x[1]}, 1.0))

    both = jax.jit(jax.vmap(lambda x, y: (value(x, y), jax.grad(value)(x, y), jax.hessian(value)(x, y))))
    grid = [
        (m, d, y) for m in (-40.0, -3.0, 0.0, 2.0, 9.0, 40.0) for d in (-9.0, 0.0, 9.0, 60.0) for y in (0.0, 1.0, 30.0)
    ]
    m, d, y = (np.array(column) for column in zip(*grid, strict=True))
    own, slope, curvature = (np.asarray(part) for part in both(np.stack([m, d], axis=1), y))
    impossible = np.isinf(own)
    assert not np.any(np.isnan(own))
    assert np.all(np.isfinite(slope))
    assert np.all(np.isfinite(curvature))
    # only an underdispersed generalized Poisson count has an end, and the sums of the other a largest mean
    assert np.all(~impossible | ((d < 0) if name == "genpois" else (m > 5.0)))


def test_underdispersed_generalized_poisson() -> None:
    mu, phi = 2.0, 0.6
    y = np.arange(15.0)
    theta, rate = mu / np.sqrt(phi), 1 - 1 / np.sqrt(phi)
    possible = theta + rate * y > 0
    got = log_density(FAMILIES["genpois"](None), y, np.log(mu), np.log(phi))
    assert 0 < possible.sum() < 15
    np.testing.assert_allclose(got[possible], genpois_law(y[possible], mu, phi, ()), rtol=1e-12)
    assert np.all(got[~possible] == -np.inf)


# Bell ----------------------------------------------------------------------------------------------------------------


def test_bell_numbers() -> None:
    family = FAMILIES["bell"](None)
    y = np.arange(11.0)
    theta = special.lambertw(y).real
    best = special.xlogy(y, theta) - np.expm1(theta)  # of the density at mu = y
    base = family.log_base(y, np.ones(11)) + special.gammaln(y + 1) - best
    np.testing.assert_allclose(np.exp(base), [1, 1, 2, 5, 15, 52, 203, 877, 4140, 21147, 115975], rtol=1e-12)


def test_bell_far_out() -> None:
    y = np.array([0.0, 3.0, 200.0, 449.0])
    for mu in (1e-200, 1e-8, 0.5, 60.0, 1e4):
        got = log_density(FAMILIES["bell"](None), y, np.log(mu))
        np.testing.assert_allclose(got, bell_law(y, mu, 1.0, ()), rtol=1e-11)


# Without zeros -------------------------------------------------------------------------------------------------------

TRUNCATED = [name for name in FAMILIES if name.startswith("truncated_")]


@pytest.mark.parametrize("name", TRUNCATED)
def test_a_truncated_count_of_a_tiny_mean(name: str) -> None:
    family, y, phi = FAMILIES[name](None), np.array([1.0, 2.0]), 1.3
    for mu in (1e-8, 1e-20, 1e-200):
        p = np.exp(log_density(family, y, np.log(mu), np.log(phi)))
        # for a given phi these two do not tend to Poisson's
        first = {"truncated_nbinom1": phi / (1 + phi) / np.log1p(phi), "truncated_genpois": np.exp(-(1 - phi**-0.5))}
        assert p[0] == pytest.approx(first.get(name, 1.0), rel=1e-6)
        assert float(family.mean(Given(mu, phi))) == pytest.approx(
            {"truncated_nbinom1": phi / np.log1p(phi), "truncated_genpois": np.sqrt(phi)}.get(name, 1.0), rel=1e-6
        )


@pytest.mark.parametrize("name", TRUNCATED)
def test_a_truncated_count_is_what_is_left(name: str) -> None:
    base, family = FAMILIES[name.removeprefix("truncated_")](None), FAMILIES[name](None)
    y, at = np.arange(1.0, 9.0), Given(2.0, 1.4)
    p = np.exp(log_density(base, np.arange(9.0), np.log(2.0), np.log(1.4)))
    q = np.exp(log_density(family, y, np.log(2.0), np.log(1.4)))
    np.testing.assert_allclose(q, p[1:] / (1 - p[0]), rtol=1e-11)
    np.testing.assert_allclose(family.cdf(y + 0.5, at), np.cumsum(q), rtol=1e-10)
    np.testing.assert_allclose(family.cdf(np.array([-1.0, 0.0, 0.9]), at), 0.0, atol=0.0)
