"""The densities against dense normal distributions, closed forms and finite differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import sparse
from scipy.linalg import block_diag, solve_discrete_lyapunov
from scipy.spatial import Delaunay
from scipy.special import kv
from scipy.stats import multivariate_normal, norm

from glmmjax import ArgumentError
from glmmjax import densities as D
from glmmjax._precision import double_precision, to_numpy
from glmmjax.covariance import COVARIANCES
from glmmjax.programs import QUICK

STEP = 1e-5
#: On arrays this small the compiler takes all the time, half of it to make programs fast.
compiled = partial(jax.jit, compiler_options=QUICK)
RHO, PHI2, PHI3 = 0.6, np.array([0.5, -0.3]), np.array([0.4, 0.2, -0.5])
TIMES = np.array([0.0, 0.3, 1.0, 1.1, 3.0])
THETA = np.array([0.5, -0.4, 0.8])
S3 = np.array([[2.0, 0.3, -0.5], [0.3, 1.0, 0.2], [-0.5, 0.2, 1.5]])
S2 = np.array([[1.3, 0.4], [0.4, 0.7]])
SD = np.array([0.5, 2.0, 1.2])
MESH = D.finite_elements(
    [[0.0, 0.0], [1.0, 0.1], [0.2, 0.9], [1.1, 1.2], [2.0, 0.5]], [[0, 1, 2], [1, 3, 2], [1, 4, 3]]
)
SPDE = D.spde_precision(*MESH)


# What the dense covariances are, by other means than the densities use.


def ar1_covariance(rho: float, n: int) -> np.ndarray:
    return rho ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))


def ark_covariance(phi: np.ndarray, n: int) -> np.ndarray:
    """Unit variance, from the Lyapunov equation of the companion form and its powers."""
    k = len(phi)
    A = np.vstack([phi, np.eye(k)[:-1]])
    P = solve_discrete_lyapunov(A, np.outer(np.eye(k)[0], np.eye(k)[0]))
    acf = np.array([(np.linalg.matrix_power(A, lag) @ P)[0, 0] for lag in range(n)]) / P[0, 0]
    return acf[np.abs(np.subtract.outer(np.arange(n), np.arange(n)))]


def grid_precision(shape: tuple[int, ...], kappa: float, order: int, periodic: bool) -> np.ndarray:
    """Neighbor by neighbor."""
    points = list(itertools.product(*(range(n) for n in shape)))
    Q = kappa**2 * np.eye(len(points))
    for i, point in enumerate(points):
        for axis, step in itertools.product(range(len(shape)), (-1, 1)):
            other = list(point)
            other[axis] += step
            if periodic:
                other[axis] %= shape[axis]
            if 0 <= other[axis] < shape[axis]:
                Q[i, i] += 1.0
                Q[i, points.index(tuple(other))] -= 1.0
    return np.linalg.matrix_power(Q, order)


def correlation(theta: np.ndarray, n: int) -> np.ndarray:
    C = np.eye(n)
    C[np.tril_indices(n, -1)] = theta
    C /= np.linalg.norm(C, axis=1, keepdims=True)
    return C @ C.T


def spde_covariance(kappa: float, tau: float) -> np.ndarray:
    C0, G1, G2 = (M.toarray() for M in MESH)
    return np.linalg.inv(tau**2 * (kappa**4 * C0 + 2 * kappa**2 * G1 + G2))


def spde(kappa: Any, tau: Any, **given: Any) -> D.Density:
    return D.gmrf_sparse(SPDE.rows, SPDE.cols, SPDE.values(kappa, tau), SPDE.n, **given)


class Case(NamedTuple):
    """A density as a function of parameters, and the dense covariance and mean that it stands for."""

    build: Callable[..., D.Density]
    params: tuple[Any, ...]
    covariance: np.ndarray
    mean: Any = 0.0


CASES = {
    "mvnorm by covariance": Case(lambda s: D.mvnorm(s * S3), (1.3,), 1.3 * S3),
    "mvnorm by factor": Case(lambda L: D.mvnorm(cholesky=L), (np.linalg.cholesky(S3),), S3),
    "mvnorm by precision": Case(lambda s: D.mvnorm(precision=S3 / s), (1.3,), 1.3 * np.linalg.inv(S3)),
    "mvnorm with a mean": Case(lambda m: D.mvnorm(S3, mean=m), (SD,), S3, SD),
    "unstructured": Case(D.unstructured_corr, (THETA,), correlation(THETA, 3)),
    "ar1": Case(lambda r: D.ar1(r, 4), (-0.6,), ar1_covariance(-0.6, 4)),
    "ar1 of one": Case(lambda r: D.ar1(r, 1), (RHO,), np.eye(1)),
    "ar2": Case(lambda p: D.ark(p, 5), (PHI2,), ark_covariance(PHI2, 5)),
    "ar3": Case(lambda p: D.ark(p, 6), (PHI3,), ark_covariance(PHI3, 6)),
    "ar3, a short series": Case(lambda p: D.ark(p, 2), (PHI3,), ark_covariance(PHI3, 2)),
    "ou": Case(lambda r: D.ou(TIMES, r), (0.8,), np.exp(-0.8 * np.abs(np.subtract.outer(TIMES, TIMES)))),
    "gmrf": Case(lambda s: D.gmrf(S3 / s), (1.3,), 1.3 * np.linalg.inv(S3)),
    "gmrf with a mean": Case(lambda m: D.gmrf(S3, mean=m), (0.4,), np.linalg.inv(S3), 0.4),
    "gmrf by entries": Case(spde, (0.9, 1.4), spde_covariance(0.9, 1.4)),
    "line": Case(lambda k: D.gmrf_grid(5, k, order=3), (0.8,), np.linalg.inv(grid_precision((5,), 0.8, 3, False))),
    "plane": Case(
        lambda k: D.gmrf_grid((3, 4), k, order=2), (0.8,), np.linalg.inv(grid_precision((3, 4), 0.8, 2, False))
    ),
    "torus": Case(
        lambda k: D.gmrf_grid((3, 4), k, boundary="periodic"),
        (0.8,),
        np.linalg.inv(grid_precision((3, 4), 0.8, 1, True)),
    ),
    "scaled by a number": Case(lambda s: D.scaled(D.ar1(RHO, 3), s), (0.7,), 0.49 * ar1_covariance(RHO, 3)),
    "scaled by a vector": Case(
        lambda t, s: D.scaled(D.unstructured_corr(t), s), (THETA, SD), np.outer(SD, SD) * correlation(THETA, 3)
    ),
    "scaled with a mean": Case(
        lambda s, m: D.scaled(D.shifted(D.ar1(RHO, 3), m), s),
        (SD, 2.0),
        np.outer(SD, SD) * ar1_covariance(RHO, 3),
        2.0 * SD,
    ),
    "separable, scaled": Case(
        lambda r, s, sd: D.scaled(D.separable(D.ar1(r, 4), D.mvnorm(s * S2)), sd),
        (RHO, 1.3, 0.7),
        0.49 * np.kron(ar1_covariance(RHO, 4), 1.3 * S2),
    ),
    "separable, scaled along one axis": Case(
        lambda p, s: D.scaled(D.separable(D.mvnorm(S2), D.ark(p, 3)), s),
        (PHI2, SD),
        np.outer(np.tile(SD, 2), np.tile(SD, 2)) * np.kron(S2, ark_covariance(PHI2, 3)),
    ),
    "separable of years and a plane": Case(
        lambda r, k: D.separable(D.ar1(r, 2), D.gmrf_grid((2, 3), k)),
        (RHO, 0.8),
        np.kron(ar1_covariance(RHO, 2), np.linalg.inv(grid_precision((2, 3), 0.8, 1, False))),
    ),
    "separable of three, two without whitening": Case(
        lambda kappa, k, s: D.separable(spde(kappa, 1.0), D.scaled(D.gmrf_grid(2, k), s), D.mvnorm(S2)),
        (0.9, 0.8, SD[:2]),
        np.kron(
            spde_covariance(0.9, 1.0),
            np.kron(np.outer(SD[:2], SD[:2]) * np.linalg.inv(grid_precision((2,), 0.8, 1, False)), S2),
        ),
    ),
}


#: One of each kind of arithmetic: the fourth derivatives take long to compile.
KINDS = ("mvnorm by covariance", "ar2", "ou", "plane", "scaled by a vector")


def at(case: Case) -> tuple[D.Density, np.ndarray, np.ndarray]:
    """The density, its mean as an array, and a point."""
    density = case.build(*case.params)
    mean = np.broadcast_to(case.mean, density.event_shape)
    return density, mean, mean + np.random.default_rng(5).normal(size=density.event_shape)


@cache
def computed(name: str) -> dict[str, np.ndarray]:
    """Everything that is checked of a density, from one compiled program that takes the record as an argument.

    The record is made outside the scope: it holds what it was given, so that nothing is less precise inside.
    """
    case = CASES[name]
    density, _, x = at(case)
    steps = STEP * np.eye(sum(np.size(value) for value in (*case.params, x)))

    def everything(density: D.Density, x: Any) -> dict[str, Any]:
        flat, unravel = ravel_pytree((case.params, x))

        def nll(flat: Any) -> Any:
            params, point = unravel(flat)
            return case.build(*params).nll(point)

        return {
            "nll": density.nll(x),
            "covariance": density.covariance(),
            "precision": density.precision(),
            "draws": density.sample(jax.random.key(0), (100, 50)),
            "gradient": jax.grad(nll)(flat),
            "batch": jax.vmap(nll)(jnp.concatenate([flat + steps, flat - steps])),
        }

    with double_precision():
        return to_numpy(compiled(everything)(density, x))


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_the_dense_normal(name: str) -> None:
    S = CASES[name].covariance
    _, mean, x = at(CASES[name])
    found = computed(name)
    np.testing.assert_allclose(found["nll"], -multivariate_normal(mean.ravel(), S).logpdf(x.ravel()), rtol=1e-10)
    np.testing.assert_allclose(found["covariance"], S, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found["precision"], np.linalg.inv(S), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_draws_have_the_covariance(name: str) -> None:
    """Within 5 standard errors, ``sqrt((S_ii S_jj + S_ij^2) / draws)``, for every entry: about one in two million."""
    S = CASES[name].covariance
    density, mean, _ = at(CASES[name])
    draws = computed(name)["draws"]
    assert draws.shape == (100, 50, *density.event_shape)
    check_moments(draws.reshape(5000, -1) - mean.ravel(), S)


def check_moments(draws: np.ndarray, S: np.ndarray) -> None:
    variance = np.diag(S)
    error = np.sqrt((np.outer(variance, variance) + S**2) / len(draws))
    assert np.all(np.abs(draws.T @ draws / len(draws) - S) < 5.0 * error)
    assert np.all(np.abs(draws.mean(axis=0)) < 5.0 * np.sqrt(variance / len(draws)))


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_in_parameters_and_point(name: str) -> None:
    """Against central differences of a batch: an error of 1e-10 from the step, 1e-10 from rounding."""
    found = computed(name)
    above, below = np.split(found["batch"], 2)
    np.testing.assert_allclose(found["gradient"], (above - below) / (2.0 * STEP), rtol=1e-6, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_the_fourth_derivative(name: str) -> None:
    """Along a line through parameters and point, against central differences of the third."""
    case = CASES[name]
    with double_precision():
        _, _, x = at(case)
        start, unravel = ravel_pytree((case.params, x))
        line = np.random.default_rng(6).normal(size=len(start)) / 10.0

        def nll(t: Any) -> Any:
            params, point = unravel(start + t * line)
            return case.build(*params).nll(point)

        third = derivative(derivative(derivative(nll)))
        t = np.array([-1e-4, 0.0, 1e-4])
        batch = compiled(jax.vmap(lambda t: jax.jvp(third, (t,), (jnp.ones_like(t),))))(t)
    thirds, fourths = to_numpy(batch)
    np.testing.assert_allclose(fourths[1], (thirds[2] - thirds[0]) / 2e-4, rtol=1e-5, atol=1e-6)


def derivative(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda t: jax.jvp(f, (t,), (jnp.ones_like(t),))[1]


@pytest.mark.parametrize("name", CASES)
def test_single_precision_outside_the_scope(name: str) -> None:
    density, mean, x = at(CASES[name])
    single = compiled(lambda density, x: density.nll(x))(density, x)
    assert single.dtype == jnp.float32
    expected = -multivariate_normal(mean.ravel(), CASES[name].covariance).logpdf(x.ravel())
    np.testing.assert_allclose(single, expected, rtol=1e-5)


# Improper densities: of increments, or of the part of the space that a singular precision sees.


def increments(n: int, order: int) -> np.ndarray:
    return np.diff(np.eye(n), order, axis=0)


@pytest.mark.parametrize("order", [1, 2])
def test_a_random_walk_is_the_density_of_its_increments(order: int) -> None:
    x = np.random.default_rng(3).normal(size=6)
    with double_precision():
        walk = D.random_walk(6, order, sd=0.7)
        np.testing.assert_allclose(walk.nll(x), -np.sum(norm(0, 0.7).logpdf(np.diff(x, order))), rtol=1e-12)
        np.testing.assert_allclose(D.scaled(D.random_walk(6, order), 0.7).nll(x), walk.nll(x), rtol=1e-12)
        P = increments(6, order).T @ increments(6, order) / 0.49
        np.testing.assert_allclose(walk.precision(), P, atol=1e-12)
        draws = np.asarray(walk.sample(jax.random.key(1), (4000,)))
    np.testing.assert_array_equal(draws[:, :order], 0.0)
    assert np.std(np.diff(draws, order)) == pytest.approx(0.7, rel=0.03)  # 16,000 increments: 0.6 % standard error


def test_walks_that_are_correlated() -> None:
    """A separable density of an improper factor is that of its increments."""
    x = np.random.default_rng(3).normal(size=(5, 2))
    with double_precision():
        value = D.separable(D.random_walk(5, 2), D.mvnorm(S2)).nll(x)
    np.testing.assert_allclose(value, -np.sum(multivariate_normal(cov=S2).logpdf(np.diff(x, 2, axis=0))), rtol=1e-12)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_an_intrinsic_field_of_known_rank(kind: Callable[[np.ndarray], Any]) -> None:
    """Two separate lines: rank 5 of 7. The density is that of the coordinates along the eigenvectors."""
    Q = 2.5 * block_diag(*(increments(n, 1).T @ increments(n, 1) for n in (3, 4)))
    values, vectors = np.linalg.eigh(Q)
    logdet = np.sum(np.log(values[2:]))
    x = np.random.default_rng(3).normal(size=7)
    with double_precision():
        field = D.gmrf(kind(Q), logdet=logdet, rank=5)
        expected = -np.sum(norm(0, values[2:] ** -0.5).logpdf(vectors[:, 2:].T @ x))
        np.testing.assert_allclose(field.nll(x), expected, rtol=1e-12)
        draws = np.asarray(field.sample(jax.random.key(2), (5000,)))
    np.testing.assert_allclose(draws @ vectors[:, :2], 0.0, atol=1e-10)
    check_moments(draws, np.linalg.pinv(Q))
    with pytest.raises(ArgumentError, match="has no covariance"):
        field.covariance()


@pytest.mark.parametrize("density", [D.ar1(0.8, 2), D.gmrf_grid(2, 1.5), D.scaled(D.ark([0.3, 0.4], 2), [0.8, 1.2])])
def test_densities_integrate_to_one(density: D.Density) -> None:
    axis = np.linspace(-8.0, 8.0, 161)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    with double_precision():
        nll = jax.vmap(density.nll)(points)
    assert np.sum(np.exp(-nll)) * (axis[1] - axis[0]) ** 2 == pytest.approx(1.0, abs=1e-9)


# Correlations and autoregressions.


def test_correlations_are_those_of_unstructured_terms() -> None:
    theta = np.random.default_rng(3).normal(size=10)
    with double_precision():
        L = np.asarray(COVARIANCES["us"].cholesky(np.concatenate([np.zeros(5), theta]), 5))
        np.testing.assert_allclose(D.correlation(theta), L @ L.T, atol=1e-14)
        np.testing.assert_allclose(D.unstructured_corr(theta, 5).covariance(), L @ L.T, atol=1e-14)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_any_numbers_make_a_stationary_process(k: int) -> None:
    """The partial autocorrelations of the process are those it was made from."""
    r = 2.0 * np.random.default_rng(3).normal(size=k)
    with double_precision():
        phi, R = to_numpy(compiled(lambda r: (D.partial_to_ar(r), D.ark(D.partial_to_ar(r), k + 2).covariance()))(r))
    assert np.all(np.abs(np.roots([1.0, *-phi])) < 1.0)
    for lag in range(1, k + 2):
        last = np.linalg.solve(R[:lag, :lag], R[1 : lag + 1, 0])[-1]
        assert last == pytest.approx(r[lag - 1] / np.sqrt(1 + r[lag - 1] ** 2) if lag <= k else 0.0, abs=1e-8)


def test_one_coefficient_is_ar1_and_equal_steps_are_too() -> None:
    x = np.random.default_rng(3).normal(size=200)
    with double_precision():
        expected = D.ar1(RHO, 200).nll(x)
        np.testing.assert_allclose(D.ark([RHO], 200).nll(x), expected, rtol=1e-12)
        np.testing.assert_allclose(D.ou(np.arange(200.0), -np.log(RHO)).nll(x), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "nll",
    [
        lambda bad: D.ar1(bad, 3).nll(np.ones(3)),
        lambda bad: D.ark(bad * jnp.array([0.7, 0.4]), 4).nll(np.ones(4)),
        lambda bad: D.mvnorm(-bad * np.eye(2)).nll(np.ones(2)),
    ],
)
def test_a_traced_parameter_out_of_range_gives_nan(nll: Callable[[Any], Any]) -> None:
    assert np.isnan(compiled(nll)(1.2))


# Markov random fields.


@pytest.mark.parametrize("shape", [(1,), (7,), (4, 5), (3, 1, 4), (2, 2)])
@pytest.mark.parametrize("boundary", ["free", "periodic"])
def test_the_log_determinant_of_a_grid(shape: tuple[int, ...], boundary: str) -> None:
    Q = grid_precision(shape, 0.6, 2, boundary == "periodic")
    with double_precision():
        density = D.gmrf_grid(shape, 0.6, order=2, boundary=boundary)
        at_zero, precision = to_numpy(compiled(lambda d: (d.nll(np.zeros(shape)), d.precision()))(density))
    np.testing.assert_allclose(precision, Q, atol=1e-12)
    np.testing.assert_allclose(2.0 * at_zero - len(Q) * np.log(2.0 * np.pi), -np.linalg.slogdet(Q)[1], atol=1e-10)


def test_the_pattern_of_a_mesh_is_in_order_and_holds_both_triangles() -> None:
    order = np.lexsort((SPDE.cols, SPDE.rows))
    np.testing.assert_array_equal(order, np.arange(len(order)))
    pairs = set(zip(SPDE.rows.tolist(), SPDE.cols.tolist(), strict=True))
    assert len(pairs) == len(order) and pairs == {(j, i) for i, j in pairs}


@pytest.mark.parametrize("by", [lambda Q: D.mvnorm(precision=Q), D.gmrf])
def test_derivatives_in_a_record(by: Callable[[Any], D.Density]) -> None:
    """A record of numbers can be differentiated in them: nothing of it was computed beforehand and forgotten."""
    with double_precision():
        (leaf,) = jax.tree.leaves(compiled(jax.grad(lambda d: d.nll(np.zeros(3))))(by(S3)))
    L = np.linalg.cholesky(S3)
    expected = -0.5 * np.linalg.inv(S3) if by is D.gmrf else -np.diag(1.0 / np.diag(L))
    np.testing.assert_allclose(leaf, expected, rtol=1e-12, atol=1e-12)


def test_a_log_determinant_by_a_function_of_the_values() -> None:
    def logdet(values: Any) -> Any:
        Q = jnp.zeros((SPDE.n, SPDE.n)).at[SPDE.rows, SPDE.cols].add(values)
        return jnp.linalg.slogdet(Q)[1]

    x = np.random.default_rng(3).normal(size=SPDE.n)
    with double_precision():
        own = compiled(jax.value_and_grad(lambda k: spde(k, 1.4).nll(x)))(0.9)
        given = compiled(jax.value_and_grad(lambda k: spde(k, 1.4, logdet=logdet).nll(x)))(0.9)
    np.testing.assert_allclose(given, own, rtol=1e-10)


def test_a_large_sparse_matrix_of_numbers() -> None:
    """Its log-determinant comes from a sparse factorization; here it is known in closed form."""
    n, kappa = 3000, 0.5
    D1 = sparse.diags_array([-np.ones(n - 1), np.ones(n - 1)], offsets=[0, 1], shape=(n - 1, n))
    Q = D1.T @ D1 + kappa**2 * sparse.diags_array(np.ones(n))
    x = np.random.default_rng(3).normal(size=n)
    with double_precision():
        np.testing.assert_allclose(D.gmrf(Q).nll(x), D.gmrf_grid(n, kappa).nll(x), rtol=1e-12)


def test_the_hessian_of_a_sparse_field_is_its_precision() -> None:
    with double_precision():
        H = compiled(jax.hessian(lambda x: spde(0.9, 1.4, logdet=0.0).nll(x)))(np.zeros(SPDE.n))
        np.testing.assert_allclose(H, np.linalg.inv(spde_covariance(0.9, 1.4)), rtol=1e-9, atol=1e-12)


# Finite elements.


def test_finite_elements_of_a_square_by_hand() -> None:
    """The unit square in two right triangles, by the integrals of their linear functions."""
    C0, G1, G2 = D.finite_elements([[0, 0], [1, 0], [0, 1], [1, 1]], [[0, 1, 2], [3, 1, 2]])
    stiffness = 0.5 * np.array([[2, -1, -1, 0], [-1, 2, 0, -1], [-1, 0, 2, -1], [0, -1, -1, 2]])
    np.testing.assert_allclose(C0.toarray(), np.diag([1, 2, 2, 1]) / 6.0, atol=1e-15)
    np.testing.assert_allclose(G1.toarray(), stiffness, atol=1e-15)
    np.testing.assert_allclose(G2.toarray(), stiffness @ np.diag([6, 3, 3, 6]) @ stiffness, atol=1e-14)


def test_identities_of_finite_elements() -> None:
    """Constants have no gradient; a linear function has one of constant length, whatever the mesh."""
    points = np.vstack([np.random.default_rng(3).uniform(size=(60, 2)), [[0, 0], [1, 0], [0, 1], [1, 1]]]) * [2.0, 3.0]
    C0, G1, G2 = D.finite_elements(points, Delaunay(points).simplices)
    assert C0.sum() == pytest.approx(6.0)
    for G in (G1, G2):  # flat triangles at the edge of the mesh have large entries
        assert np.all(np.abs(G.sum(axis=1)) < 1e-12 * np.abs(G).sum(axis=1))
        assert np.max(np.abs((G - G.T).data), initial=0.0) < 1e-12 * np.max(G.data)
    np.testing.assert_allclose(points.T @ (G1 @ points), 6.0 * np.eye(2), atol=1e-10)


def test_the_spde_approximates_a_matern_field() -> None:
    """Variance and correlation in the middle of a mesh; the error of linear elements of this size is some percent."""
    m, kappa, tau = 31, 1.0, 0.7
    side = np.linspace(-5.0, 5.0, m)
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    index = np.arange(m * m).reshape(m, m)
    corners = [index[:-1, :-1].ravel(), index[:-1, 1:].ravel(), index[1:, :-1].ravel(), index[1:, 1:].ravel()]
    triangles = np.vstack([np.stack(corners[:3], axis=1), np.stack(corners[1:], axis=1)])
    C0, G1, _ = D.finite_elements(points, triangles)
    matern = D.spde_precision(C0, G1)
    with double_precision():
        values = np.asarray(matern.values(kappa, tau))
    Q = sparse.coo_array((values, (matern.rows, matern.cols))).toarray()
    middle = index[m // 2, m // 2]
    row = np.linalg.solve(Q, np.eye(m * m)[middle])
    assert row[middle] == pytest.approx(1.0 / (4.0 * np.pi * kappa**2 * tau**2), rel=0.05)
    distance = side[m // 2 + 6] - side[m // 2]
    expected = kappa * distance * kv(1, kappa * distance)
    assert row[index[m // 2, m // 2 + 6]] / row[middle] == pytest.approx(expected, abs=0.02)


# Mistakes are named.


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: D.ar1(1.0, 3), "rho must be between -1 and 1"),
        (lambda: D.ar1([0.1, 0.2], 3), "rho must be a number"),
        (lambda: D.ar1("a", 3), "rho must be a number"),
        (lambda: D.ar1(0.5, 2.5), "n must be a whole number"),
        (lambda: D.ar1(0.5, 0), "n must be at least 1"),
        (lambda: D.ar1(0.5, 3).nll(np.zeros(4)), r"x has shape \(4,\).* shape \(3,\).*jax.vmap"),
        (lambda: D.ark([0.9, 0.2], 3), "not stationary: partial_to_ar"),
        (lambda: D.ark([], 3), "phi needs at least one value"),
        (lambda: D.ou([0.0, 1.0, 1.0], 0.5), "times must increase"),
        (lambda: D.ou([0.0, 1.0], -0.5), "rate must be positive"),
        (lambda: D.random_walk(5, 3), "order must be 1 or 2"),
        (lambda: D.random_walk(2, 2), "n must be at least 3"),
        (lambda: D.random_walk(5, sd=0.0), "sd must be positive"),
        (lambda: D.mvnorm(), "mvnorm needs one of"),
        (lambda: D.mvnorm(S2, precision=S2), "got covariance and precision"),
        (lambda: D.mvnorm(np.ones((2, 3))), r"covariance must be a square matrix, got shape \(2, 3\)"),
        (lambda: D.mvnorm([[1.0, 0.5], [0.0, 1.0]]), "covariance must be a symmetric matrix"),
        (lambda: D.mvnorm([[1.0, 2.0], [2.0, 1.0]]), "covariance must be positive definite"),
        (lambda: D.mvnorm(cholesky=-np.eye(2)), "positive diagonal"),
        (lambda: D.mvnorm(S2, mean=np.zeros(3)), "mean of shape .* does not broadcast"),
        (lambda: D.unstructured_corr([0.1, 0.2]), "the correlations of 2 variables need 1 values of theta, got 2"),
        (lambda: D.correlation([0.1], 3), "the correlations of 3 variables need 3"),
        (lambda: D.gmrf(np.ones((2, 3))), "Q must be a square matrix"),
        (lambda: D.gmrf([[1.0, 2.0], [2.0, 1.0]]), "Q must be positive definite"),
        (lambda: D.gmrf(sparse.csr_array([[1.0, 2.0], [2.0, 1.0]])), "Q must be positive definite"),
        (lambda: D.gmrf(sparse.csr_array(np.ones((2, 3)))), "Q must be a square matrix"),
        (lambda: D.gmrf(sparse.csr_array([[1.0, 0.2], [0.1, 1.0]])), "Q must be a symmetric matrix"),
        (lambda: D.gmrf(np.ones((2, 2)), rank=1), "a singular precision needs logdet"),
        (lambda: D.gmrf(np.eye(2), logdet=0.0, rank=3), "rank must be at most 2"),
        (lambda: D.gmrf_sparse([0, 1, 1], [0, 1, 0], [1.0, 1.0, 0.1], 2), "both triangles"),
        (lambda: D.gmrf_sparse([0, 2], [0, 2], [1.0, 1.0], 2), "rows must be between 0 and 1"),
        (lambda: D.gmrf_sparse([0], [0, 1], [1.0, 1.0], 2), "rows must be one whole number for each of the 2"),
        (lambda: D.gmrf_sparse([0], [0], [1.0], 2000), "more than 1000 values needs logdet"),
        (lambda: D.gmrf_grid((2, 2, 2, 2), 1.0), "one, two or three axes"),
        (lambda: D.gmrf_grid(3, 0.0), "kappa must be positive"),
        (lambda: D.gmrf_grid(3, 1.0, boundary="period"), "Did you mean 'periodic'"),
        (lambda: D.separable(), "at least one density"),
        (lambda: D.separable(D.ar1(0.5, 2), D.mvnorm(S2, mean=1.0)), "have mean zero"),
        (lambda: D.scaled(D.ar1(0.5, 2), [1.0, -1.0]), "sd must be positive"),
        (lambda: D.scaled(D.ar1(0.5, 2), np.ones((2, 2))), "sd of shape .* does not broadcast"),
        (lambda: D.scaled(D.random_walk(3), SD), "sd must be one number for an improper density"),
        (lambda: D.scaled(lambda x: x, 1.0), "needs a density of glmmjax.densities"),  # type: ignore[arg-type]
        (lambda: D.finite_elements(np.zeros((3, 3)), [[0, 1, 2]]), r"vertices must have shape \(n, 2\)"),
        (lambda: D.finite_elements(np.zeros((3, 2)), [[0.0, 1.0, 2.0]]), "triangles must be whole numbers"),
        (lambda: D.finite_elements(np.eye(3)[:, :2], [[0, 1, 3]]), "between 0 and 2"),
        (lambda: D.finite_elements([[0, 0], [1, 1], [2, 2]], [[0, 1, 2]]), "triangle 0 has no area"),
        (lambda: D.finite_elements([[0, 0], [1, 0], [0, 1], [5, 5]], [[0, 1, 2]]), "vertex 3 belongs to no triangle"),
        (lambda: D.spde_precision(np.eye(2), np.eye(2)), "must be SciPy sparse matrices"),
        (lambda: D.spde_precision(sparse.csr_array(np.eye(2)), sparse.csr_array(np.eye(3))), "square and of one size"),
        (lambda: D.spde_precision(sparse.csr_array(S2), sparse.csr_array(S2)), "C0 must be diagonal"),
    ],
)
def test_mistakes_are_named(mistake: Callable[[], Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        mistake()
