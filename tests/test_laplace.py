"""The Laplace approximation and its derivatives: exact cases, an independent Laplace, finite differences, an oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import (
    DEFAULTS,
    FAMILY_LINKS,
    STRUCTURES,
    Problem,
    central_differences,
    compiled_marginal,
    compiled_value,
    data_for,
    problem,
)
from scipy import integrate, optimize, stats

from glmmjax._precision import double_precision, to_numpy
from glmmjax._status import Outcome
from glmmjax.hessians import zeros
from glmmjax.laplace import marginal_derivatives, marginal_nll
from glmmjax.modes import find_modes
from glmmjax.programs import QUICK

# By default every family with one structure, every structure with one family, and the structure that has most parts
# with a dispersion; the product, with the other links, is slow. Links have tests of their own.
SOME = [(family, "slope") for family in DEFAULTS]
SOME += [("poisson(log)", structure) for structure in STRUCTURES]
SOME += [("nbinom2(log)", "crossed slope")]
SOME = list(dict.fromkeys(SOME))
REST = [(family, structure) for family in FAMILY_LINKS for structure in STRUCTURES if (family, structure) not in SOME]


@pytest.fixture(autouse=True)
def forget_programs() -> Iterator[None]:
    """Each test compiles its own program, of hundreds of memory maps; a process has a limited number."""
    yield
    compiled_marginal.cache_clear()
    compiled_value.cache_clear()
    jax.clear_caches()


def check_derivatives(family: str, structure: str) -> None:
    p = problem(family, structure)
    at = p.marginal(p.flat)
    assert at.stats.outcome == Outcome.CONVERGED
    gradient = central_differences(lambda x: p.marginal(x).value, p.flat, 1e-4)
    hessian = central_differences(lambda x: p.marginal(x).gradient, p.flat, 1e-4)
    np.testing.assert_allclose(at.gradient, gradient, rtol=1e-6, atol=1e-7 * (1 + abs(at.value)))
    np.testing.assert_allclose(at.hessian, hessian, rtol=1e-6, atol=1e-7 * np.max(np.abs(hessian)))
    for k, jacobian in enumerate(at.modes_jacobian):
        moved = central_differences(lambda x, k=k: p.marginal(x).modes[k], p.flat, 1e-4)
        np.testing.assert_allclose(jacobian, moved, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("family", "structure"), SOME)
def test_derivatives_equal_finite_differences(family: str, structure: str) -> None:
    check_derivatives(family, structure)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "structure"), REST)
def test_derivatives_equal_finite_differences_everywhere(family: str, structure: str) -> None:
    check_derivatives(family, structure)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_gaussian_equals_the_closed_form(structure: str) -> None:
    """``y ~ N(X beta, Z Sigma Z' + phi^2 I)`` exactly."""
    p = problem("gaussian", structure)
    params = p.params(p.flat)
    cond = p.design.components["cond"]
    n = len(p.design.y)
    V = np.exp(2 * params["beta_disp"][0]) * np.eye(n)
    start = 0
    with double_precision():
        for placed, term in zip(p.layout.terms, cond.terms, strict=True):
            theta = params["theta"][start : start + placed.n_theta]
            start += placed.n_theta
            L = np.asarray(placed.covariance.cholesky(jnp.asarray(theta), placed.width))
            same = term.index[:, None] == term.index[None, :]
            V += same * (term.Z @ L @ L.T @ term.Z.T)
    exact = -stats.multivariate_normal(cond.X @ params["beta"], V).logpdf(p.design.y)
    base = np.sum(p.layout.family.log_base(p.design.y, p.design.trials))
    assert p.value(p.flat) - base == pytest.approx(exact, rel=1e-12)


def log_density(p: Problem, row: int, eta: float) -> float:
    """The log density of one observation from SciPy, not from the family."""
    y, trials = p.design.y[row], p.design.trials[row]
    name, link = p.layout.family.name, p.layout.family.link.name
    mu = {
        "logit": lambda e: 1 / (1 + np.exp(-e)),
        "log": np.exp,
        "probit": stats.norm.cdf,
        "cloglog": lambda e: -np.expm1(-np.exp(e)),
    }[link](eta)
    phi = np.exp(p.params(p.flat)["beta_disp"][0]) if p.layout.family.has_dispersion else 1.0
    if name == "binomial":
        return stats.binom.logpmf(y, trials, mu)
    if name == "poisson":
        return stats.poisson.logpmf(y, mu)
    if name == "Gamma":
        return stats.gamma.logpdf(y, phi, scale=mu / phi)
    size = phi if name == "nbinom2" else mu / phi
    return stats.nbinom.logpmf(y, size, size / (size + mu))


@pytest.mark.parametrize(
    "family",
    [
        "binomial(logit)",
        "binomial(probit)",
        "binomial(cloglog)",
        "poisson(log)",
        "nbinom1(log)",
        "nbinom2(log)",
        "Gamma(log)",
    ],
)
def test_one_effect_equals_its_definition_and_is_near_quadrature(family: str) -> None:
    """SciPy's minimum and numerical curvature of each integrand give the Laplace value; the integral is near."""
    p = problem(family, "intercept")
    params = p.params(p.flat)
    cond = p.design.components["cond"]
    sd = np.exp(params["theta"][0])
    laplace = exact = 0.0
    for group in range(len(cond.terms[0].levels)):
        rows = np.flatnonzero(cond.terms[0].index == group)

        def joint(b: float, rows: np.ndarray = rows) -> float:
            eta = cond.X[rows] @ params["beta"] + b
            return -sum(log_density(p, r, e) for r, e in zip(rows, eta, strict=True)) - stats.norm.logpdf(b, scale=sd)

        mode = optimize.minimize_scalar(joint, bracket=(-sd, sd), options={"xtol": 1e-12}).x
        h = 1e-3
        curvature = (
            -joint(mode - 2 * h) + 16 * joint(mode - h) - 30 * joint(mode) + 16 * joint(mode + h) - joint(mode + 2 * h)
        ) / (12 * h * h)
        top = joint(mode)
        laplace += top + 0.5 * np.log(curvature / (2 * np.pi))
        integral = integrate.quad(
            lambda b, top=top, joint=joint: np.exp(top - joint(b)),
            mode - 12 * sd,
            mode + 12 * sd,
            points=[mode],
            limit=200,
        )[0]
        exact += top - np.log(integral)
    base = np.sum(p.layout.family.log_base(p.design.y, p.design.trials))
    value = p.value(p.flat) - base
    assert value == pytest.approx(laplace, abs=1e-6)
    assert value == pytest.approx(exact, abs=0.1)


def gradient_and_hessian(f: Callable[[jax.Array], jax.Array], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """JAX's derivatives of a scalar function: forward over reverse, one program."""

    def twice(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        gradient = jax.grad(f)(x)
        return gradient, gradient

    hessian, gradient = to_numpy(jax.jit(jax.jacfwd(twice, has_aux=True), compiler_options=QUICK)(x))
    return gradient, hessian


@pytest.mark.parametrize("structure", ["slope", pytest.param("nested", marks=pytest.mark.slow), "crossed"])
def test_derivatives_equal_those_of_unrolled_newton_steps(structure: str) -> None:
    """No custom rule: the mode is a constant, then two Newton steps through dense algebra are differentiated."""
    p = problem("poisson", structure)
    shapes = [u.shape for u in p.modes]
    sizes = [int(np.prod(s)) for s in shapes]

    def unpack(flat_u: jax.Array) -> tuple[jax.Array, ...]:
        parts = jnp.split(flat_u, np.cumsum(sizes)[:-1])
        return tuple(part.reshape(s) for part, s in zip(parts, shapes, strict=True))

    def oracle(flat: jax.Array, modes: tuple[jax.Array, ...]) -> jax.Array:
        joint = lambda u: p.model.nll(p.params(flat), unpack(u), p.data)  # noqa: E731
        u = jax.lax.stop_gradient(jnp.concatenate([x.reshape(-1) for x in modes]))
        for _ in range(2):
            u = u - jnp.linalg.solve(jax.hessian(joint)(u), jax.grad(joint)(u))
        return joint(u) + 0.5 * jnp.linalg.slogdet(jax.hessian(joint)(u))[1]

    at = p.marginal(p.flat)
    with double_precision():
        value = jax.jit(oracle, compiler_options=QUICK)(p.flat, at.modes)
        gradient, hessian = gradient_and_hessian(lambda flat: oracle(flat, at.modes), p.flat)
    np.testing.assert_allclose(at.value, value, rtol=1e-12)
    np.testing.assert_allclose(at.gradient, gradient, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(at.hessian, hessian, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("structure", ["slope", "nested slope", "crossed slope"])
def test_modes_do_not_depend_on_the_start(structure: str) -> None:
    p = problem("poisson", structure)
    rng = np.random.default_rng(0)
    far = tuple(10.0 * rng.normal(size=u.shape) for u in p.modes)
    with double_precision():
        find = jax.jit(lambda flat, u: find_modes(p.model, p.params(flat), u, p.data), compiler_options=QUICK)
        near, stats_near = to_numpy(find(p.flat, p.modes))
        other, stats_far = to_numpy(find(p.flat, far))
        score = to_numpy(jax.jit(lambda u: p.model.score(p.params(p.flat), u, p.data), compiler_options=QUICK)(near))
    assert stats_near.outcome == stats_far.outcome == Outcome.CONVERGED
    for a, b, g in zip(near, other, score, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)
        assert np.max(np.abs(g)) < 1e-8


def test_undamped_newton_would_fail_where_the_damped_one_converges() -> None:
    """Counts near 1e4 with effects that start at zero: the first Newton step overflows."""
    p = problem("poisson", "intercept", data_for("poisson").assign(y=lambda d: 10_000.0 + np.arange(len(d))))
    flat = np.array([0.0, 0.0, np.log(3.0)])

    def overshoot(flat: jax.Array) -> jax.Array:
        at = p.model.expand(p.params(flat), p.modes, p.data)
        step = p.model.structure.solve(p.model.structure.factor(at.hessian, p.data.members), at.score)
        return p.model.nll(p.params(flat), tuple(-s for s in step), p.data)

    with double_precision():
        assert not np.isfinite(jax.jit(overshoot, compiler_options=QUICK)(flat))
    at = p.marginal(flat)
    assert at.stats.outcome == Outcome.CONVERGED and np.isfinite(at.value)


def test_a_search_that_fails_gives_no_value() -> None:
    p = problem("poisson", "intercept")
    at = p.marginal(np.array([np.nan, 0.0, 0.0]))
    assert np.isinf(at.value) and at.stats.outcome != Outcome.CONVERGED


@pytest.mark.parametrize(("family", "structure"), [("nbinom2", "slope"), ("poisson", "crossed")])
def test_the_modes_bring_their_own_derivative(family: str, structure: str) -> None:
    """Reverse mode through the marginal, and forward over reverse, equal the explicit formulas."""
    p = problem(family, structure)

    def value(flat: jax.Array) -> jax.Array:
        return marginal_nll(p.model, p.params(flat), p.modes, p.data)[0]

    with double_precision():
        gradient, hessian = gradient_and_hessian(value, p.flat)
    np.testing.assert_allclose(gradient, p.marginal(p.flat).gradient, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(hessian, p.marginal(p.flat).hessian, rtol=1e-8, atol=1e-8)


def test_derivatives_by_rows_are_those_of_the_whole() -> None:
    p = problem("nbinom2", "slope")
    with double_precision():
        whole = jax.jit(
            lambda flat: marginal_derivatives(replace(p.model, rows=None), flat, p.modes, p.data),
            compiler_options=QUICK,
        )(p.flat)
    by_rows = p.marginal(p.flat)
    for a, b in zip(jax.tree.leaves(by_rows), jax.tree.leaves(to_numpy(whole)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


def test_padding_is_neutral() -> None:
    """More groups and rows than the data have, with no weight, change nothing."""
    p = problem("gaussian", "slope")
    n, extra, level = len(p.data.y), 7, p.layout.structure.levels[0]
    wide = replace(level, n_groups=level.n_groups + 5)
    layout = replace(p.layout, structure=replace(p.layout.structure, levels=(wide,)))

    def grow(x: np.ndarray, axis: int) -> np.ndarray:
        first = np.take(x, [0] * extra, axis=axis)
        return np.concatenate([x, first], axis=axis) if x.shape[axis] == n else x

    data = replace(
        jax.tree.map(lambda x: grow(x, -1), p.data),
        X={name: grow(x, 0) for name, x in p.data.X.items()},
        weights=np.concatenate([p.data.weights, np.zeros(extra)]),
    )
    modes = zeros((wide,))
    with double_precision():
        padded = to_numpy(compiled_marginal(layout)(p.flat, modes, data))
    assert data.y.shape == (n + extra,)
    np.testing.assert_allclose(padded.value, p.marginal(p.flat).value, rtol=1e-13)
    np.testing.assert_allclose(padded.hessian, p.marginal(p.flat).hessian, rtol=1e-10, atol=1e-10)
