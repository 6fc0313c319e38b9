"""Every family under every link it may have meets every property; then what is particular to one."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from glmmjax._errors import FamilyError
from glmmjax._links import POSITIVE
from glmmjax.families import FAMILIES, LINKS, Family, Link, gaussian, poisson, resolve_family

TRIALS = 7.0


@dataclass(frozen=True)
class Law:
    """What is known of a family from elsewhere: its density, variance, and the values to try."""

    logpdf: Callable[[Any, Any, Any], Any]  # (y, mu, phi), SciPy's parameters
    variance: Callable[[Any, Any], Any]  # (mu, phi), of y itself
    mu: tuple[float, ...]
    phi: tuple[float, ...]
    y: Callable[[float, float], tuple[Any, Any]]  # (mu, phi) -> points and weights that sum any smooth function


def counts(mu: float, phi: float) -> tuple[Any, Any]:
    y = np.arange(3000.0)
    return y, np.ones_like(y)


def successes(mu: float, phi: float) -> tuple[Any, Any]:
    y = np.arange(TRIALS + 1)
    return y, np.ones_like(y)


def line(mu: float, phi: float) -> tuple[Any, Any]:
    y = np.linspace(mu - 14 * phi, mu + 14 * phi, 801)
    return y, np.full_like(y, y[1] - y[0])


def half_line(mu: float, phi: float) -> tuple[Any, Any]:
    t = np.linspace(-60 / min(phi, 3), 8, 6001)
    return mu * np.exp(t), mu * np.exp(t) * (t[1] - t[0])


def scipy_nbinom(y: Any, mu: Any, size: Any) -> Any:
    return stats.nbinom.logpmf(y, size, size / (size + mu))


LAWS = {
    "gaussian": Law(
        lambda y, mu, phi: stats.norm.logpdf(y, mu, phi), lambda mu, phi: phi**2, (0.4, 3.0), (0.3, 2.0), line
    ),
    "binomial": Law(
        lambda y, mu, phi: stats.binom.logpmf(y, TRIALS, mu),
        lambda mu, phi: TRIALS * mu * (1 - mu),
        (0.03, 0.4, 0.98),
        (1.0,),
        successes,
    ),
    "poisson": Law(
        lambda y, mu, phi: stats.poisson.logpmf(y, mu), lambda mu, phi: mu, (0.05, 1.0, 40.0), (1.0,), counts
    ),
    "nbinom1": Law(
        lambda y, mu, phi: scipy_nbinom(y, mu, mu / phi),
        lambda mu, phi: mu * (1 + phi),
        (0.05, 1.0, 40.0),
        (0.02, 1.3, 8.0),
        counts,
    ),
    "nbinom2": Law(
        lambda y, mu, phi: scipy_nbinom(y, mu, phi),
        lambda mu, phi: mu + mu**2 / phi,
        (0.05, 1.0, 15.0),
        (0.4, 1.3, 50.0),
        counts,
    ),
    "Gamma": Law(
        lambda y, mu, phi: stats.gamma.logpdf(y, phi, scale=mu / phi),
        lambda mu, phi: mu**2 / phi,
        (0.2, 5.0),
        (0.6, 4.0, 90.0),
        half_line,
    ),
}
EVERY = [(name, link) for name, make in FAMILIES.items() for link in make(None).links]
every = pytest.mark.parametrize(("name", "link"), EVERY, ids=[f"{name}-{link}" for name, link in EVERY])
RESTRICTED = [pair for pair in EVERY if FAMILIES[pair[0]](pair[1]).link.valid is not None]


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def nll(family: Family, y: Any, cond: Any, log_phi: Any, trials: Any = TRIALS) -> Any:
    eta = {"cond": cond, "disp": log_phi} if family.has_dispersion else {"cond": cond}
    return family.nll(y, eta, trials, family.link)


def cases(name: str) -> list[tuple[float, float]]:
    return [(mu, phi) for mu in LAWS[name].mu for phi in LAWS[name].phi]


ROWS = 64


@cache
def derivatives(family: Family, argument: int) -> Callable[..., list[Any]]:
    """(y, cond, log_phi) -> value and derivatives, elementwise: four in the predictor (0), two in log phi (1)."""

    def f(x: Any, y: Any, other: Any) -> Any:
        return nll(family, y, *((x, other) if argument == 0 else (other, x)))

    def up(g: Any) -> Any:
        return lambda x, y, other: jax.jvp(lambda v: g(v, y, other), (x,), (jnp.ones_like(x),))[1]

    orders = [f]
    for _ in range(4 if argument == 0 else 2):
        orders.append(up(orders[-1]))
    compiled = jax.jit(lambda x, y, other: [g(x, y, other) for g in orders])

    def evaluate(y: Any, cond: Any, log_phi: Any) -> list[Any]:
        # always ROWS rows, so that a family is compiled once
        rows = [np.ravel(column).astype(float) for column in np.broadcast_arrays(y, cond, log_phi)]
        n = len(rows[0])
        y, cond, log_phi = (np.pad(column, (0, ROWS - n), mode="edge") for column in rows)
        values = compiled(*((cond, y, log_phi) if argument == 0 else (log_phi, y, cond)))
        return [np.asarray(value)[:n] for value in values]

    return evaluate


# Every family under every link ------------------------------------------------------------------------------------


@every
def test_density_equals_scipy_and_sums_to_one(name: str, link: str) -> None:
    family, law = FAMILIES[name](link), LAWS[name]
    value = jax.jit(lambda y, cond, log_phi: nll(family, y, cond, log_phi))
    for mu, phi in cases(name):
        y, weights = law.y(mu, phi)
        cond = jnp.asarray(family.link.link(np.full_like(y, mu)))
        logpdf = family.log_base(y, np.full_like(y, TRIALS)) - np.asarray(value(y, cond, jnp.log(phi)))
        # NumPy is asked about the same density
        near = logpdf > -200
        np.testing.assert_allclose(logpdf[near], law.logpdf(y, mu, phi)[near], rtol=1e-9, atol=2e-11)
        mass = weights * np.exp(logpdf)
        assert mass.sum() == pytest.approx(1.0, abs=1e-10)
        mean = (mass * y).sum()
        scale = TRIALS if family.response == "trials" else 1.0
        assert mean / scale == pytest.approx(mu, rel=1e-9)
        variance = (mass * (y - mean) ** 2).sum()
        assert variance == pytest.approx(law.variance(mu, phi), rel=1e-8)
        assert family.variance(mu, phi, TRIALS) * scale**2 == pytest.approx(variance, rel=1e-8)


@every
def test_derivatives_equal_differences(name: str, link: str) -> None:
    """Each derivative against differences of the one below it; the value was compared with SciPy."""
    family, h = FAMILIES[name](link), 1e-2
    stencil = ((1, 4 / 5), (2, -1 / 5), (3, 4 / 105), (4, -1 / 280))
    for argument in (0, 1) if family.has_dispersion else (0,):
        d = derivatives(family, argument)
        grid = (
            [(mu, phi, y) for mu, phi in cases(name) for y in (0.5, 2.0)]
            if name in ("gaussian", "Gamma")
            else [(mu, phi, y) for mu, phi in cases(name) for y in (0.0, 1.0, 6.0)]
        )
        mu, phi, y = (np.array(column) for column in zip(*grid, strict=True))
        cond, log_phi = family.link.link(mu), np.log(phi)
        step = h * np.minimum(np.abs(cond), 1.0) if argument == 0 else np.full_like(cond, h)
        step = np.where(step == 0, h, step)
        moved = {k: d(y, cond + k * step * (argument == 0), log_phi + k * step * (argument == 1)) for k in range(-4, 5)}
        for order in range(1, len(moved[0])):
            slope = sum(c * (moved[k][order - 1] - moved[-k][order - 1]) for k, c in stencil) / step
            size = np.maximum(np.abs(slope), np.abs(moved[0][order - 1]) * 1e-2 / step * h) + 1e-3
            error = np.abs(moved[0][order] - slope) / size
            assert np.max(error) < 1e-6, (argument, order, grid[int(np.argmax(error))])


@every
def test_extreme_predictors_give_no_nan(name: str, link: str) -> None:
    family = FAMILIES[name](link)
    # a gaussian density under the log link squares its mean: past 150 the fourth derivative overflows
    sizes = [0.0, 1e-9, 1.0, 30.0, 38.6, 100.0] + ([] if name == "gaussian" else [300.0, 700.0])
    eta = np.array([sign * size for size in sizes for sign in (-1.0, 1.0)])
    valid = np.ones_like(eta, bool) if family.link.valid is None else family.link.valid(eta)
    if link in ("inverse", "identity", "sqrt"):
        eta, valid = eta[(np.abs(eta) > 1e-3) | ~valid], valid[(np.abs(eta) > 1e-3) | ~valid]
    for y in (1.0, 3.0) if family.response == "positive" else (0.0, 3.0, TRIALS):
        value, *slopes = derivatives(family, 0)(y, eta, 0.3)
        assert np.all(np.isfinite(value[valid]))
        assert np.all(value[~valid] == np.inf)
        for slope in slopes:
            assert np.all(np.isfinite(slope[valid]))
            assert np.all(slope[~valid] == 0.0)


@pytest.mark.parametrize(("name", "link"), RESTRICTED)
def test_a_predictor_without_a_mean_has_no_reverse_slope(name: str, link: str) -> None:
    family = FAMILIES[name](link)
    eta = np.array([-2.0, -1e-9, 0.0, 1e-9, 2.0])
    outside = ~family.link.valid(eta)  # type: ignore[misc]
    assert 0 < outside.sum() < 5
    slope = jax.jit(jax.grad(lambda x, y: jnp.sum(nll(family, y, x, 0.3))))
    for y in (1.0, TRIALS):
        got = np.asarray(slope(eta, np.full(5, y)))
        assert np.all(got[outside] == 0.0)
        assert np.all(got[~outside] != 0.0)


@every
def test_simulated_moments(name: str, link: str) -> None:
    family, law, n = FAMILIES[name](link), LAWS[name], 40_000
    rng = np.random.default_rng(1)
    for mu, phi in cases(name):
        y = family.simulate(rng, np.full(n, mu), phi, np.full(n, TRIALS))
        assert y.shape == (n,)
        assert np.all(family.in_support(y, np.full(n, TRIALS)))
        variance = law.variance(mu, phi)
        mean = mu * (TRIALS if family.response == "trials" else 1.0)
        assert abs(y.mean() - mean) < 5 * np.sqrt(variance / n)
        squares = (y - y.mean()) ** 2
        assert abs(squares.mean() - variance) < 6 * squares.std() / np.sqrt(n)


EDGES = {
    "real": [-3.0, 0.0, 2.0],
    "positive": [1e-9, 0.3, 1e9],
    "count": [0.0, 1.0, 400.0],
    "trials": [0.0, 3.0, TRIALS],
}


@every
def test_start_means_are_inside_the_range(name: str, link: str) -> None:
    family = FAMILIES[name](link)
    y = np.array(EDGES[family.response])
    for response in (y, np.zeros(3) if name != "Gamma" else y, y[-1:]):
        trials = np.full_like(response, TRIALS)
        assert np.all(family.in_support(response, trials))
        mu = family.start_mu(response, trials)
        eta = family.link.link(mu)
        assert mu.shape == response.shape
        assert np.all(np.isfinite(eta))
        assert family.link.valid is None or np.all(family.link.valid(eta))
        assert np.all(family.start_variance(mu, trials) > 0)
        assert np.all(np.isfinite(derivatives(family, 0)(response, eta, 0.0)[0]))


@every
def test_families_pickle_hash_and_compare(name: str, link: str) -> None:
    family = FAMILIES[name](link)
    copy = pickle.loads(pickle.dumps(family))
    assert copy == family == FAMILIES[name](link)
    assert hash(copy) == hash(family)
    assert family.name == name
    assert family.link.name == link
    assert (family.phi_name is not None) == family.has_dispersion
    traced = jax.jit(lambda x, family: nll(family, 1.0, x, 0.0), static_argnums=1)
    assert traced._cache_size() == 0
    traced(1.0, family), traced(1.0, copy)
    assert traced._cache_size() == 1


# Limits ------------------------------------------------------------------------------------------------------------

Y = np.array([0.0, 1.0, 2.0, 9.0, 300.0])


@pytest.mark.parametrize(("name", "sign"), [("nbinom2", 1.0), ("nbinom1", -1.0)])
def test_poisson_is_the_limit(name: str, sign: float) -> None:
    family, eta = FAMILIES[name](None), 1.2
    limit = np.exp(eta) - Y * eta
    d_eta, d_phi = derivatives(family, 0), derivatives(family, 1)
    for size in (23.0, 40.0, 59.0, 61.0, 700.0, 5000.0):
        log_phi = sign * size
        # beyond Poisson there is (y - mu)^2 / (2 phi)
        ahead = d_eta(Y, eta, log_phi)
        np.testing.assert_allclose(ahead[0], limit, atol=1e-12 + 1e5 * np.exp(-size), rtol=1e-14)
        np.testing.assert_allclose(ahead[1], np.exp(1.2) - Y, rtol=1e-9, atol=1e-12 + 1e5 * np.exp(-size))
        np.testing.assert_allclose(ahead[2], np.exp(1.2), rtol=1e-9, atol=1e-12 + 1e5 * np.exp(-size))
        for value in d_phi(Y, eta, log_phi)[1:]:
            np.testing.assert_allclose(value, 0.0, atol=1e-11 + 1e5 * np.exp(-size))


def test_nbinom2_of_tiny_size() -> None:
    """log f(0) = -phi log(1 + mu / phi); log f(y) = log(phi / y) to first order."""
    family = FAMILIES["nbinom2"](None)
    for phi in (1e-8, 1e-20, 1e-300):
        logpdf = family.log_base(Y, None) - derivatives(family, 1)(Y, 1.2, np.log(phi))[0]
        zero = -phi * (np.log(np.exp(1.2) + phi) - np.log(phi))
        np.testing.assert_allclose(logpdf, [zero, *np.log(phi) - np.log(Y[1:])], rtol=1e-6)
        assert logpdf[0] == pytest.approx(zero, rel=1e-12)
    for value in derivatives(family, 1)(Y, 1.2, -700.0):
        assert np.all(np.isfinite(value))


def test_nbinom1_of_huge_dispersion() -> None:
    family = FAMILIES["nbinom1"](None)
    for log_phi in (30.0, 700.0):
        for argument in (0, 1):
            for value in derivatives(family, argument)(Y, 1.2, log_phi):
                assert np.all(np.isfinite(value))


def test_gamma_of_huge_shape_is_gaussian() -> None:
    family, mu, shape = FAMILIES["Gamma"]("log"), 2.0, 1e10
    y = mu * (1 + np.array([-2.0, 0.0, 1.0]) * 1e-5)
    logpdf = family.log_base(y, None) - derivatives(family, 1)(y, np.log(mu), np.log(shape))[0]
    np.testing.assert_allclose(logpdf, stats.norm.logpdf(y, mu, mu * 1e-5), atol=3e-5)
    for log_shape in (-700.0, -20.0, 30.0):
        for order in derivatives(family, 1)(mu, np.log(mu), log_shape):
            assert np.all(np.isfinite(order))


def test_cheap_derivatives_of_nbinom2_in_the_mean() -> None:
    """The series for log Gamma is in the program of the value and not in that of the derivative in the predictor."""
    family = FAMILIES["nbinom2"](None)
    value = lambda x, y, log_phi: jnp.sum(nll(family, y, x, log_phi))  # noqa: E731
    programs = [jax.jit(f).lower(jnp.ones(5), Y, 0.3).compile().as_text() for f in (value, jax.grad(value))]
    assert ["4.898319567" in program for program in programs] == [True, False]


def test_sigma() -> None:
    reported = {name: float(make(None).sigma(4.0)) for name, make in FAMILIES.items()}
    assert reported == {
        **{"gaussian": 4.0, "binomial": 1.0, "poisson": 1.0},
        **{"nbinom1": 4.0, "nbinom2": 4.0, "Gamma": 0.5},
    }


BAD = {
    "gaussian": [np.nan, np.inf],
    "binomial": [-1.0, 2.5, TRIALS + 1, np.nan],
    "poisson": [-1.0, 0.5, np.nan, np.inf],
    "nbinom1": [-1.0, 0.5, np.nan, np.inf],
    "nbinom2": [-1.0, 0.5, np.nan, np.inf],
    "Gamma": [0.0, -1.0, np.nan, np.inf],
}


@pytest.mark.parametrize("name", FAMILIES)
def test_support(name: str) -> None:
    bad = np.array(BAD[name])
    assert not np.any(FAMILIES[name](None).in_support(bad, np.full_like(bad, TRIALS)))


def test_support_allows_the_rounding_of_proportions() -> None:
    family = FAMILIES["binomial"](None)
    trials = np.array([10.0, 49.0, 1e6])
    successes = trials * (np.array([3.0, 7.0, 333333.0]) / trials)
    assert np.all(family.in_support(successes, trials))
    assert not np.any(family.in_support(np.ones(2), np.array([1.5, np.nan])))


# Names -------------------------------------------------------------------------------------------------------------

SPECS = [
    ("poisson", "poisson", "log"),
    ("Binomial", "binomial", "logit"),
    ("Gamma", "Gamma", "inverse"),
    ("gamma", "Gamma", "inverse"),
    ("Gamma(log)", "Gamma", "log"),
    ("Gamma(link=log)", "Gamma", "log"),
    ("binomial(link='cloglog')", "binomial", "cloglog"),
    (' binomial ( link = "probit" ) ', "binomial", "probit"),
    ("binomial('CAUCHIT')", "binomial", "cauchit"),
    ("nbinom2()", "nbinom2", "log"),
    ("normal", "gaussian", "identity"),
    ("bernoulli(probit)", "binomial", "probit"),
    ("negbin", "nbinom2", "log"),
    ("nbinom", "nbinom2", "log"),
    ("negative_binomial", "nbinom2", "log"),
    ("negative binomial(sqrt)", "nbinom2", "sqrt"),
]


@pytest.mark.parametrize(("spec", "name", "link"), SPECS)
def test_resolve(spec: str, name: str, link: str) -> None:
    family = resolve_family(spec)
    assert (family.name, family.link.name) == (name, link)
    assert resolve_family(family) is family
    assert resolve_family(FAMILIES[name]) == FAMILIES[name](None)


ERRORS = [
    ("poison", r"unknown family 'poison'. Did you mean 'poisson'\? Known: 'Gamma', 'binomial'"),
    ("quasi", r"unknown family 'quasi'.*Known: 'Gamma'"),
    ("binomial(probti)", r"unknown link 'probti' for family 'binomial'. Did you mean 'probit'\?"),
    (
        "binomial(identity)",
        r"'binomial' cannot have the link 'identity'. Its links: logit, probit, cloglog, cauchit, log",
    ),
    ("Gamma(logit)", r"'Gamma' cannot have the link 'logit'. Its links: inverse, log, identity"),
    ("poisson(log", r"cannot read the family 'poisson\(log'"),
    ("binomial('probit)", "cannot read the family"),
    ("", "cannot read the family"),
    (3, "family must be a name .* got int"),
    (None, "got NoneType"),
]


@pytest.mark.parametrize(("spec", "message"), ERRORS)
def test_resolve_errors(spec: Any, message: str) -> None:
    with pytest.raises(FamilyError, match=message):
        resolve_family(spec)


# Private families --------------------------------------------------------------------------------------------------


def laplace_nll(y: Any, eta: Any, trials: Any, link: Link) -> Any:
    return jnp.abs(y - link.inverse(eta["cond"])) * jnp.exp(-eta["disp"]) + eta["disp"] + jnp.log(2.0)


def test_a_private_family_needs_three_things() -> None:
    family = Family("laplace", LINKS["identity"], laplace_nll, has_dispersion=True)
    y = np.array([-1.0, 0.5, 4.0])
    assert family.links == ("identity",)
    assert family.phi_name == "dispersion parameter"
    assert family.log_base(y, None).tolist() == [0.0, 0.0, 0.0]
    assert family.start_mu(y, None).tolist() == [7 / 6] * 3
    assert family.start_variance(y, None).tolist() == [1.0, 1.0, 1.0]
    assert family.in_support(np.array([1.0, np.nan]), None).tolist() == [True, False]
    assert float(family.sigma(2.0)) == 2.0
    np.testing.assert_allclose(-nll(family, y, jnp.zeros(3), jnp.log(2.0)), stats.laplace.logpdf(y, 0, 2))
    assert pickle.loads(pickle.dumps(family)) == family
    assert resolve_family(family) is family
    with pytest.raises(FamilyError, match=r"give Family.*variance="):
        family.variance(y, 1.0, None)
    with pytest.raises(FamilyError, match=r"give Family.*simulate="):
        family.simulate(np.random.default_rng(0), y, 1.0, None)


def test_a_private_link() -> None:
    assert poisson(POSITIVE["inverse"]).link.name == "inverse"
    assert gaussian(LINKS["sqrt"]).link.name == "sqrt"
    with pytest.raises(FamilyError, match="needs a link onto the unit interval: give 'log' a log1m_inverse"):
        FAMILIES["binomial"](LINKS["log"])
    with pytest.raises(FamilyError, match="the link of family 'mine' must be a Link, got 'log'"):
        Family("mine", "log", laplace_nll)  # type: ignore[arg-type]
