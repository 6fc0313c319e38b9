"""Every family under every link it may have meets every property; then what is particular to one."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from laws import BAD, EDGES, IN_RANGE, LARGEST, TRIALS, Law
from laws import LAWS as OWN_LAWS
from laws_counts import LAWS as COUNT_LAWS
from scipy import special, stats

from glmmjax._errors import FamilyError
from glmmjax._links import POSITIVE
from glmmjax._special import NUMPY
from glmmjax.families import (
    FAMILIES,
    LINKS,
    Family,
    Given,
    Link,
    gaussian,
    nbinom12,
    poisson,
    resolve_family,
    skewnormal,
    t,
)
from glmmjax.families._family import no_deviance
from glmmjax.programs import QUICK

#: Families with tests of their own: their distribution is not one of a mean.
OTHERS = {"censored_gaussian", "censored_lognormal", "cumulative", "categorical"}
LAWS: dict[str, Law] = {**OWN_LAWS, **COUNT_LAWS}
NAMES = [name for name in FAMILIES if name in LAWS]
EVERY = [(name, link) for name in NAMES for link in FAMILIES[name](None).links]


def table(pairs: list[tuple[str, str]], extended: bool) -> Any:
    """The pairs as parameters of a test; with ``extended`` all but default links are left to the extended tests."""
    rows = []
    for name, link in pairs:
        marks = [pytest.mark.extended] if extended and link != FAMILIES[name](None).link.name else []
        rows.append(pytest.param(name, link, id=f"{name}-{link}", marks=marks))
    return pytest.mark.parametrize(("name", "link"), rows)


every = table(EVERY, extended=False)
every_compiled = table(EVERY, extended=True)
each_name = pytest.mark.parametrize("name", NAMES)
DESCRIBED = [(name, link) for name, link in EVERY if not LAWS[name].links or link in LAWS[name].links]
RESTRICTED = [pair for pair in EVERY if FAMILIES[pair[0]](pair[1]).link.valid is not None]


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def nll(family: Family, y: Any, cond: Any, log_phi: Any, *psi: Any, trials: Any = TRIALS) -> Any:
    eta = {"cond": cond}
    if family.has_dispersion:
        eta["disp"] = log_phi
    if family.shape is not None:
        eta["psi"] = jnp.stack([jnp.asarray(value, dtype=float) for value in psi])
    return family.full_nll(y, eta, trials)


def cases(name: str) -> list[tuple[float, float, tuple[float, ...]]]:
    law = LAWS[name]
    return [(mu, phi, psi) for mu in law.mu for phi in law.phi for psi in law.psi]


def given(family: Family, mu: Any, phi: Any, psi: tuple[float, ...], trials: Any = TRIALS) -> Given:
    natural = () if family.shape is None else tuple(family.shape.natural(np.array(psi)))
    return Given(mu, phi, trials, natural, eta={"cond": np.asarray(family.link.link(mu), dtype=float)})


def edges(family: Family) -> np.ndarray:
    kind = EDGES[family.response]
    return np.array(LAWS[family.name].edges or [y for y in kind if y > 0 or family.has_zeros or kind[0] < 0])


def in_range(family: Family) -> tuple[float, ...]:
    kind = IN_RANGE[family.response]
    return LAWS[family.name].in_range or tuple(y for y in kind if y > 0 or family.has_zeros or kind[0] < 0)


def points(name: str, mu: float, phi: float) -> tuple[np.ndarray, np.ndarray]:
    """Values of y and weights that sum its density, atoms included."""
    law = LAWS[name]
    y, weights = law.y(mu, phi)
    return np.append(y, law.atoms), np.append(weights, np.ones(len(law.atoms)))


ROWS = 64


@cache
def derivatives(family: Family, argument: int) -> Callable[..., list[Any]]:
    """(y, cond, log_phi, *psi) -> value and derivatives, elementwise: four in the predictor (0), two in the others."""
    n_psi = len(LAWS[family.name].psi[0])

    def orders(y: Any, *rest: Any) -> tuple[Any, ...]:
        # one row at a time, so that each has shape parameters of its own
        def f(x: Any) -> tuple[Any, ...]:
            return (nll(family, y, *(x if i == argument else value for i, value in enumerate(rest))),)

        def up(g: Any) -> Any:
            def with_next(x: Any) -> tuple[Any, ...]:
                lower, slopes = jax.jvp(g, (x,), (jnp.ones_like(x),))
                return (*lower, slopes[-1])

            return with_next

        for _ in range(4 if argument == 0 else 2):
            f = up(f)
        return f(rest[argument])

    compiled = jax.jit(jax.vmap(orders), compiler_options=QUICK)

    def evaluate(y: Any, cond: Any, log_phi: Any, *psi: Any) -> list[Any]:
        # always ROWS rows, so that a family is compiled once
        assert len(psi) == n_psi
        rows = np.stack([np.ravel(column) for column in np.broadcast_arrays(y, cond, log_phi, *psi)]).astype(float)
        n = rows.shape[1]
        parts = [rows[:, i : i + ROWS] for i in range(0, n, ROWS)]
        values = [compiled(*np.pad(part, ((0, 0), (0, ROWS - part.shape[1])), mode="edge")) for part in parts]
        return [np.concatenate(order)[:n] for order in zip(*values, strict=True)]

    return evaluate


@cache
def value(family: Family) -> Callable[..., Any]:
    """(y, cond, log_phi, *psi) -> (n,), compiled for as many rows as the sums over y have."""
    n = len(points(family.name, *cases(family.name)[0][:2])[0])
    compiled = jax.jit(lambda y, *rest: nll(family, y, *rest), compiler_options=QUICK)

    def evaluate(y: Any, cond: Any, log_phi: float, *psi: float) -> Any:
        rows = [np.resize(np.asarray(column, dtype=float), n) for column in np.broadcast_arrays(y, cond)]
        return np.asarray(compiled(*rows, *(np.float64(number) for number in (log_phi, *psi))))[: np.size(y)]

    return evaluate


# Every family under every link ------------------------------------------------------------------------------------


def test_every_family_has_a_row() -> None:
    assert set(LAWS) == set(FAMILIES) - OTHERS


@table(DESCRIBED, extended=True)
def test_density_equals_scipy_and_sums_to_one(name: str, link: str) -> None:
    family, law = FAMILIES[name](link), LAWS[name]
    scale = TRIALS if family.response == "trials" else 1.0
    for mu, phi, psi in cases(name):
        y, weights = points(name, mu, phi)
        cond = family.link.link(np.full_like(y, mu))
        logpdf = family.log_base(y, np.full_like(y, TRIALS)) - value(family)(y, cond, np.log(phi), *psi)
        # NumPy is asked about the same density
        near = logpdf > -200
        np.testing.assert_allclose(logpdf[near], law.logpdf(y, mu, phi, psi)[near], rtol=1e-9, atol=2e-11)
        mass = weights * np.exp(logpdf)
        assert mass.sum() == pytest.approx(1.0, abs=1e-10)
        mean = (mass * y).sum()
        assert mean / scale == pytest.approx(law.mean(mu, phi, psi), rel=1e-9)
        variance = (mass * (y - mean) ** 2).sum()
        assert variance == pytest.approx(law.variance(mu, phi, psi), rel=1e-8)
        at = given(family, mu, phi, psi)
        assert family.mean(at) * scale == pytest.approx(mean, rel=1e-9)
        assert family.variance(at) * scale**2 == pytest.approx(variance, rel=1e-8)


def compare_with_differences(family: Family, argument: int) -> None:
    """Each derivative against differences of the one below it; the value was compared with SciPy."""
    h, stencil = 1e-2, ((1, 4 / 5), (2, -1 / 5), (3, 4 / 105), (4, -1 / 280))
    grid = [
        (y, family.link.link(mu), np.log(phi), *psi) for mu, phi, psi in cases(family.name) for y in in_range(family)
    ]
    y, *rest = (np.array(column) for column in zip(*grid, strict=True))
    d = derivatives(family, argument)
    step = np.full_like(y, h) * (np.minimum(np.abs(rest[0]), 1.0) if argument == 0 else 1.0)
    step = np.where(step == 0, h, step)
    moved = {k: d(y, *(x + k * step * (i == argument) for i, x in enumerate(rest))) for k in range(-4, 5)}
    # an underdispersed response may lie at the end of its support, over which a difference must not reach
    inside = np.all([np.isfinite(at[0]) for at in moved.values()], axis=0)
    assert np.mean(inside) > 0.8
    moved = {k: [x[inside] for x in at] for k, at in moved.items()}
    step, grid = step[inside], [case for case, kept in zip(grid, inside, strict=True) if kept]
    # with the identity link y log(mu) cancels against log(1 - p(0)) as mu goes to zero
    tolerance = 1e-4 if family.name.startswith("truncated") and family.link.name == "identity" else 1e-6
    for order in range(1, len(moved[0])):
        slope = sum(c * (moved[k][order - 1] - moved[-k][order - 1]) for k, c in stencil) / step
        size = np.maximum(np.abs(slope), np.abs(moved[0][order - 1]) * 1e-2 / step * h) + 1e-3
        error = np.abs(moved[0][order] - slope) / size
        assert np.max(error) < tolerance, (order, grid[int(np.argmax(error))])


@every_compiled
def test_derivatives_in_the_predictor_equal_differences(name: str, link: str) -> None:
    compare_with_differences(FAMILIES[name](link), 0)


OTHER_ARGUMENTS = [
    pytest.param(
        name,
        link,
        argument,
        id=f"{name}-{link}-{argument}",
        marks=[]
        if link == FAMILIES[name](None).link.name and name in ("gaussian", "Gamma", "nbinom2")
        else pytest.mark.extended,
    )
    for name, link in EVERY
    for argument in range(1 if FAMILIES[name](None).has_dispersion else 2, 2 + len(LAWS[name].psi[0]))
]


@pytest.mark.parametrize(("name", "link", "argument"), OTHER_ARGUMENTS)
def test_derivatives_in_dispersion_and_shape_equal_differences(name: str, link: str, argument: int) -> None:
    compare_with_differences(FAMILIES[name](link), argument)


@every_compiled
def test_extreme_predictors_give_no_nan(name: str, link: str) -> None:
    family, law = FAMILIES[name](link), LAWS[name]
    largest = law.largest or LARGEST.get(family.response, 700.0)
    sizes = [size for size in (0.0, 1e-9, 1.0, 30.0, 38.6, 100.0, 300.0, 700.0) if size <= largest]
    eta = np.array([sign * size for size in sizes for sign in (-1.0, 1.0)])
    valid = np.ones_like(eta, bool) if family.link.valid is None else family.link.valid(eta)
    if link in ("inverse", "identity", "sqrt"):
        eta, valid = eta[(np.abs(eta) > 1e-3) | ~valid], valid[(np.abs(eta) > 1e-3) | ~valid]
    for y in in_range(family) + ((TRIALS,) if family.response == "trials" else ()):
        found, *slopes = derivatives(family, 0)(y, eta, 0.3, *law.psi[0])
        assert np.all(np.isfinite(found[valid])), (y, eta[valid & ~np.isfinite(found)])
        assert np.all(found[~valid] == np.inf)
        for order, slope in enumerate(slopes, 1):
            assert np.all(np.isfinite(slope[valid])), (y, order, eta[valid & ~np.isfinite(slope)])
            assert np.all(slope[~valid] == 0.0)


@table(RESTRICTED, extended=True)
def test_a_predictor_without_a_mean_has_no_reverse_slope(name: str, link: str) -> None:
    family = FAMILIES[name](link)
    eta = np.array([-2.0, -1e-9, 0.0, 1e-9, 2.0])
    outside = ~family.link.valid(eta)  # type: ignore[misc]
    assert 0 < outside.sum() < 5
    slope = jax.jit(jax.grad(lambda x, y: jnp.sum(nll(family, y, x, 0.3, *LAWS[name].psi[0]))))
    for y in (0.3, 0.9) if family.response == "unit" else (1.0, TRIALS):
        got = np.asarray(slope(eta, np.full(5, y)))
        assert np.all(got[outside] == 0.0)
        assert np.all(got[~outside & (np.abs(eta) > 1.0)] != 0.0)  # near a mean of zero one count may say nothing


@every
def test_start_means_are_inside_the_range(name: str, link: str) -> None:
    family = FAMILIES[name](link)
    y = edges(family)
    zeros = np.zeros(3) if family.has_zeros or family.response == "real" else y
    for response in (y, zeros, y[-1:]):
        trials = np.full_like(response, TRIALS)
        assert np.all(family.in_support(response, trials))
        mu = family.start_mu(response, trials)
        eta = family.link.link(mu)
        assert mu.shape == response.shape
        assert np.all(np.isfinite(eta))
        assert family.link.valid is None or np.all(family.link.valid(eta))
        assert np.all(family.start_variance(mu, trials) > 0)
        psi = () if family.shape is None else tuple(family.shape.start(response, trials))
        if link == FAMILIES[name](None).link.name:
            assert np.all(np.isfinite(value(family)(response, eta, 0.0, *psi)))
        assert len(psi) == len(LAWS[name].psi[0])
        if family.shape is not None:
            assert np.all(np.isfinite(family.shape.natural(np.array(psi))))
            assert len(family.shape.names) == len(family.shape.natural(np.array(psi)))


@every
def test_families_pickle_hash_and_compare(name: str, link: str) -> None:
    family = FAMILIES[name](link)
    copy = pickle.loads(pickle.dumps(family))
    assert copy == family == FAMILIES[name](link)
    assert hash(copy) == hash(family)
    assert family.name == name
    assert family.link.name == link
    assert (family.phi_name is not None) == family.has_dispersion


# Every family ------------------------------------------------------------------------------------------------------


@each_name
def test_an_equal_family_compiles_nothing(name: str) -> None:
    family = FAMILIES[name](None)
    traced = jax.jit(lambda x, family: family.link.inverse(x), static_argnums=1)
    assert traced._cache_size() == 0
    traced(1.0, family), traced(1.0, pickle.loads(pickle.dumps(family)))
    assert traced._cache_size() == 1


@each_name
def test_simulated_moments_and_ranks(name: str) -> None:
    family, law, n = FAMILIES[name](None), LAWS[name], 20_000
    rng = np.random.default_rng(1)
    for mu, phi, psi in cases(name):
        at = given(family, np.full(n, mu), phi, psi, np.full(n, TRIALS))
        y = family.simulate(rng, at)
        assert y.shape == (n,)
        assert np.all(family.in_support(y, np.full(n, TRIALS)))
        variance = law.variance(mu, phi, psi)
        mean = law.mean(mu, phi, psi) * (TRIALS if family.response == "trials" else 1.0)
        assert abs(y.mean() - mean) < 5 * np.sqrt(variance / n)
        squares = (y - y.mean()) ** 2
        # Student's t has no fourth moment in every case
        if name != "t" or np.exp(psi[0]) > 5:
            assert abs(squares.mean() - variance) < 6 * squares.std() / np.sqrt(n)
        # the distribution function of a draw is uniform, and across a jump it is spread over the jump
        few = given(family, np.full(2000, mu), phi, psi, np.full(2000, TRIALS))
        below, to = family.cdf(np.nextafter(y[:2000], -np.inf), few), family.cdf(y[:2000], few)
        rank = below + rng.uniform(size=2000) * (to - below)
        assert stats.kstest(rank, "uniform").pvalue > 1e-4, (mu, phi, psi)


@each_name
def test_the_distribution_function_cumulates_the_density(name: str) -> None:
    family, law = FAMILIES[name](None), LAWS[name]
    discrete = family.response in ("count", "trials")
    for mu, phi, psi in cases(name):
        y, weights = law.y(mu, phi)
        at = given(family, mu, phi, psi)
        mass = weights * np.exp(law.logpdf(y, mu, phi, psi))
        total = np.cumsum(mass) - (0.0 if discrete else 0.5 * mass + np.gradient(mass) / 12)  # Euler, Maclaurin
        if 0.0 in law.atoms:
            total += np.exp(law.logpdf(np.zeros(1), mu, phi, psi))
        some = np.searchsorted(total, (0.05, 0.3, 0.6, 0.95))
        some = some[some < len(y)]
        np.testing.assert_allclose(family.cdf(y[some], at), total[some], atol=1e-10 if discrete else 1e-5)
        if discrete:
            np.testing.assert_allclose(family.cdf(y[some] + 0.5, at), total[some], atol=1e-10)
        if family.response != "real":
            assert np.all(family.cdf(np.array([-1e9, -0.5, -1e-9]), at) == 0.0)
        ends = family.cdf(np.array([-1e15, 1e15]), at)
        np.testing.assert_allclose(ends, [0.0, 1.0], atol=1e-12)
        if family.response in ("unit", "trials"):
            last = 1.0 if family.response == "unit" else TRIALS
            np.testing.assert_allclose(family.cdf(np.array([last, last + 0.5]), at), 1.0, atol=1e-14)
        for point in law.atoms:
            jump = family.cdf(point, at) - family.cdf(np.nextafter(point, -np.inf), at)
            assert jump == pytest.approx(np.exp(law.logpdf(np.array(point), mu, phi, psi)), rel=1e-6)


# the best mean for a count is the count itself, but for nbinom1
HAS_DEVIANCE = [name for name in NAMES if FAMILIES[name](None).deviance is not no_deviance and name != "nbinom1"]


@pytest.mark.parametrize("name", HAS_DEVIANCE)
def test_deviance_is_twice_the_distance_from_the_saturated_model(name: str) -> None:
    family, law = FAMILIES[name](None), LAWS[name]
    y = np.array([value for value in (*in_range(family), 3.0) if value > 0])
    own = y / TRIALS if family.response == "trials" else y
    for mu, phi, psi in cases(name):
        at = given(family, mu, phi, psi)
        np.testing.assert_allclose(family.deviance(y, given(family, own, phi, psi)), 0.0, atol=1e-12)
        deviance = family.deviance(y, at)
        assert np.all(deviance[own != mu] > 0)
        distance = np.array(
            [law.logpdf(v, m, phi, psi) - law.logpdf(v, mu, phi, psi) for v, m in zip(y, own, strict=True)]
        )
        scale = {"gaussian": phi**2, "Gamma": 1 / phi, "inverse_gaussian": phi, "tweedie": phi}.get(name, 1.0)
        np.testing.assert_allclose(deviance, 2 * scale * distance, rtol=1e-8, atol=1e-10)
        if family.has_zeros:
            assert np.all(np.isfinite(family.deviance(np.zeros(1), at)))


@each_name
def test_what_zero_inflation_relies_on(name: str) -> None:
    family = FAMILIES[name](None)
    assert np.all(family.in_support(np.array([family.interior]), np.array([TRIALS])))
    zero, trials = np.zeros(1), np.full(1, TRIALS)
    if family.response != "real":
        assert bool(family.in_support(zero, trials)[0]) == family.has_zeros
    if family.has_zeros:
        np.testing.assert_allclose(family.log_base(zero, trials), 0.0, atol=1e-14)
    if family.shared_nll is not None:
        eta = {"disp": jnp.asarray(0.3), "psi": jnp.asarray(LAWS[name].psi[0])}
        assert float(jax.jit(family.shared_nll)(0.0, eta, TRIALS)) == 0.0


# Limits ------------------------------------------------------------------------------------------------------------

Y = np.array([0.0, 1.0, 2.0, 9.0, 300.0])


@pytest.mark.parametrize(("name", "sign"), [("nbinom2", 1.0), ("nbinom1", -1.0)])
def test_poisson_is_the_limit(name: str, sign: float) -> None:
    family, eta = FAMILIES[name](None), 1.2
    limit = np.exp(eta) - Y * eta + special.xlogy(Y, Y) - Y
    d_eta, d_phi = derivatives(family, 0), derivatives(family, 1)
    for size in (23.0, 40.0, 59.0, 61.0, 700.0, 5000.0):
        log_phi = sign * size
        # beyond Poisson there is (y - mu)^2 / (2 phi)
        ahead = d_eta(Y, eta, log_phi)
        np.testing.assert_allclose(ahead[0], limit, atol=1e-12 + 1e5 * np.exp(-size), rtol=1e-13)
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


@each_name
def test_sigma(name: str) -> None:
    family, expected = FAMILIES[name](None), LAWS[name].sigma
    default = 4.0 if family.has_dispersion else 1.0
    assert float(family.sigma(4.0)) == (default if expected is None else expected)


@each_name
def test_support(name: str) -> None:
    family = FAMILIES[name](None)
    bad = np.array(LAWS[name].bad or BAD[family.response])
    assert not np.any(family.in_support(bad, np.full_like(bad, TRIALS)))


def test_support_allows_the_rounding_of_proportions() -> None:
    family = FAMILIES["binomial"](None)
    trials = np.array([10.0, 49.0, 1e6])
    successes = trials * (np.array([3.0, 7.0, 333333.0]) / trials)
    assert np.all(family.in_support(successes, trials))
    assert not np.any(family.in_support(np.ones(2), np.array([1.5, np.nan])))


# Shape parameters and limits of the families that have more than one ------------------------------------------------


def test_shape_parameters_may_be_held() -> None:
    for held, free, expected in (
        (t(df=4.0), t(), np.log(4.0)),
        (nbinom12(size=3.0), nbinom12(), np.log(3.0)),
        (skewnormal(shape=-2), skewnormal(), -2.0),
    ):
        assert held.shape is not None and free.shape is not None
        assert free.shape.held is None
        assert held.shape.held == pytest.approx((expected,))
        assert hash(held) != hash(free)
        assert pickle.loads(pickle.dumps(held)) == held
    for wrong in (0.0, -1.0, np.nan):
        with pytest.raises(FamilyError, match="df must be"):
            t(df=wrong)
    for wrong in (np.nan, np.inf):
        with pytest.raises(FamilyError, match="shape must be"):
            skewnormal(shape=wrong)


def test_degrees_of_freedom_and_moments() -> None:
    variance = [float(FAMILIES["t"](None).variance(Given(0.0, 2.0, psi=(df,)))) for df in (4.0, 2.0, 1.5, 1.0)]
    assert variance[:3] == [8.0, np.inf, np.inf]
    assert np.isnan(variance[3])


def test_limits_of_the_shape_parameters() -> None:
    y, eta = np.array([0.0, 1.0, 2.0, 9.0]), 0.7
    for log_df in (36.0, 60.0, 700.0):
        found = value(FAMILIES["t"](None))(y, eta, 0.3, log_df)
        np.testing.assert_allclose(found, value(FAMILIES["gaussian"](None))(y, eta, 0.3), rtol=1e-13)
    base = np.log(2.0)
    found = value(FAMILIES["skewnormal"](None))(y, eta, 0.3, 0.0)
    np.testing.assert_allclose(found - base, value(FAMILIES["gaussian"](None))(y, eta, 0.3), rtol=1e-13)
    nbinom12 = value(FAMILIES["nbinom12"](None))
    for far in (45.0, 700.0):
        np.testing.assert_allclose(
            nbinom12(y, eta, -far, 0.4), value(FAMILIES["nbinom2"](None))(y, eta, 0.4), rtol=1e-13, atol=1e-14
        )
        np.testing.assert_allclose(
            nbinom12(y, eta, 0.4, far), value(FAMILIES["nbinom1"](None))(y, eta, 0.4), rtol=1e-13, atol=1e-14
        )
        np.testing.assert_allclose(nbinom12(y, eta, -far, far), value(poisson())(y, eta, 0.0), rtol=1e-13)


def test_binomial_is_the_limit_of_betabinomial() -> None:
    y, eta = np.arange(TRIALS + 1), -0.4
    for log_phi in (45.0, 61.0, 700.0):
        found = value(FAMILIES["betabinomial"](None))(y, eta, log_phi)
        np.testing.assert_allclose(found, value(FAMILIES["binomial"](None))(y, eta, 0.0), rtol=1e-13, atol=1e-14)


def test_beta_of_huge_precision_is_gaussian() -> None:
    family, mu, phi = FAMILIES["beta"](None), 0.3, 1e8
    sd = np.sqrt(mu * (1 - mu) / phi)
    y = mu + sd * np.array([-2.0, 0.0, 1.0])
    logpdf = family.log_base(y, None) - value(family)(y, special.logit(mu), np.log(phi))
    np.testing.assert_allclose(logpdf, stats.norm.logpdf(y, mu, sd), atol=2e-4)
    np.testing.assert_allclose(logpdf, stats.beta.logpdf(y, mu * phi, (1 - mu) * phi), atol=3e-7)


def test_ordered_beta_with_cutpoints_far_out_is_beta() -> None:
    y = np.array([0.1, 0.5, 0.95])
    found = value(FAMILIES["ordbeta"](None))(y, 0.4, 1.2, -60.0, np.log(120.0))
    np.testing.assert_allclose(found, value(FAMILIES["beta"](None))(y, 0.4, 1.2), rtol=1e-13)


@pytest.mark.parametrize("link", ["probit", pytest.param("cloglog", marks=pytest.mark.extended)])
def test_ordered_beta_chooses_by_the_logistic_under_every_link(link: str) -> None:
    family, eta, phi, cuts = FAMILIES["ordbeta"](link), 0.4, 3.0, (-1.0, 0.5)
    y, mu = np.array([0.0, 0.2, 0.7, 1.0]), float(family.link.inverse(0.4, NUMPY))
    zero, one = special.expit(cuts[0] - eta), special.expit(eta - cuts[1])
    inner = stats.beta.logpdf(y[1:3], mu * phi, (1 - mu) * phi) + np.log(1 - zero - one)
    logpdf = family.log_base(y, None) - value(family)(y, eta, np.log(phi), cuts[0], np.log(cuts[1] - cuts[0]))
    np.testing.assert_allclose(logpdf, [np.log(zero), *inner, np.log(one)], rtol=1e-12)
    mean = family.mean(Given(mu, phi, psi=cuts, eta={"cond": eta}))
    assert mean == pytest.approx(one + (1 - zero - one) * mu)


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
    ("beta family(probit)", "beta", "probit"),
    ("t_family", "t", "identity"),
    ("Student", "t", "identity"),
    ("inverse.gaussian", "inverse_gaussian", "log"),
]


@pytest.mark.parametrize(("spec", "name", "link"), SPECS)
def test_resolve(spec: str, name: str, link: str) -> None:
    family = resolve_family(spec)
    assert (family.name, family.link.name) == (name, link)
    assert resolve_family(family) is family
    assert resolve_family(FAMILIES[name]) == FAMILIES[name](None)


ERRORS = [
    ("poison", r"unknown family 'poison'. Did you mean 'poisson'\? Known: 'Gamma', 'be"),
    ("quasi", r"unknown family 'quasi'.*Known: 'Gamma'"),
    ("binomial(probti)", r"unknown link 'probti' for family 'binomial'. Did you mean 'probit'\?"),
    (
        "binomial(identity)",
        r"'binomial' cannot have the link 'identity'. Its links: logit, probit, cloglog, loglog, cauchit, log",
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
        family.variance(Given(y))
    with pytest.raises(FamilyError, match=r"give Family.*simulate="):
        family.simulate(np.random.default_rng(0), Given(y))
    with pytest.raises(FamilyError, match=r"give Family.*cdf="):
        family.cdf(y, Given(y))
    with pytest.raises(FamilyError, match="deviance residuals are not defined"):
        family.deviance(y, Given(y))


def test_a_private_link() -> None:
    assert poisson(POSITIVE["inverse"]).link.name == "inverse"
    assert gaussian(LINKS["sqrt"]).link.name == "sqrt"
    with pytest.raises(FamilyError, match="needs a link onto the unit interval: give 'log' a log1m_inverse"):
        FAMILIES["binomial"](LINKS["log"])
    with pytest.raises(FamilyError, match="the link of family 'mine' must be a Link, got 'log'"):
        Family("mine", "log", laplace_nll)  # type: ignore[arg-type]
