"""The sparse structure against dense algebra: factor, determinant, inverse on the pattern, derivatives, coloring."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from glmmjax._errors import ArgumentError
from glmmjax._precision import double_precision, to_numpy
from glmmjax.hessians import _elimination as elimination
from glmmjax.hessians._coloring import color
from glmmjax.hessians._structure import damp
from glmmjax.hessians.sparse import Sparse


def band(n: int, k: int) -> sp.csr_array:
    """Entries up to k below the diagonal."""
    return sp.csr_array(sp.diags_array([np.ones(n - j) for j in range(k + 1)], offsets=[-j for j in range(k + 1)]))


def grid(m: int, k: int) -> sp.csr_array:
    """Neighbors on a rectangular grid."""
    return sp.csr_array(sp.kron(sp.eye_array(k), band(m, 1)) + sp.kron(band(k, 1), sp.eye_array(m)))


def arrow(n: int) -> np.ndarray:
    """The first column meets all others."""
    return np.eye(n, dtype=bool) | (np.arange(n) == 0)


def scattered(n: int, share: float) -> sp.coo_array:
    """Entries anywhere, in both triangles."""
    return sp.coo_array(np.random.default_rng(3).random((n, n)) < share)


def tree(n: int) -> sp.coo_array:
    """Each column meets a random one before it."""
    above = np.floor(np.random.default_rng(4).random(n - 1) * np.arange(1, n)).astype(int)
    return sp.coo_array((np.ones(n - 1), (np.arange(1, n), above)), shape=(n, n))


# Pattern, and the most products with vectors that may be needed to find H.
CASES: dict[str, tuple[Any, int]] = {
    "one by one": (np.ones((1, 1)), 1),
    "diagonal": (sp.csc_array((6, 6)), 1),
    "tridiagonal": (band(50, 1), 3),
    "band": (band(70, 3), 7),
    "arrow": (arrow(40), 2),
    "dense": (np.ones((9, 9), dtype=bool), 9),
    "grid": (grid(30, 21), 8),
    "second neighbors on a grid": (grid(15, 12) @ grid(15, 12).T, 20),
    "random": (scattered(150, 0.015), 20),
    "equal blocks": (sp.kron(sp.eye_array(20), np.ones((3, 3))), 3),
    "tree": (tree(200), 8),
    "disconnected": (sp.block_diag([band(30, 1), grid(6, 5), sp.coo_array((4, 4)), np.ones((5, 5))]), 8),
}


def structure(name: str) -> Sparse:
    return Sparse(CASES[name][0])


def positive_definite(S: Sparse, seed: int = 0) -> np.ndarray:
    """Values of a matrix with the pattern whose diagonal dominates."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=len(S.pattern.rows))
    sums = np.abs(full(S, values)).sum(axis=0)
    on_diagonal = S.pattern.rows == S.pattern.columns
    values[on_diagonal] = sums + rng.uniform(0.1, 1.0, S.n)
    return values


def full(S: Sparse, values: np.ndarray) -> np.ndarray:
    """The matrix with these entries."""
    H = np.zeros((S.n, S.n))
    H[S.pattern.rows, S.pattern.columns] = values
    H[S.pattern.columns, S.pattern.rows] = values
    return H


def gradient(S: Sparse, matrix: np.ndarray) -> np.ndarray:
    """The entries of a symmetric matrix on the pattern, doubled off the diagonal."""
    return np.where(S.pattern.rows == S.pattern.columns, 1.0, 2.0) * matrix[S.pattern.rows, S.pattern.columns]


@pytest.mark.parametrize("name", CASES)
def test_every_operation_equals_dense_algebra(name: str) -> None:
    S = structure(name)
    values, rng = positive_definite(S), np.random.default_rng(1)
    H = full(S, values)
    g, directions = rng.normal(size=(4, 1, S.n)), rng.normal(size=(3, len(values)))

    def slope(x: Any) -> Any:
        return jax.grad(lambda x: S.logdet(x, None))(x)

    def work(x: Any, g: Any, directions: Any) -> Any:
        factor = S.factor(x, None)
        return {
            "positive": factor.positive,
            "logdet": S.logdet(x, None),
            "solved": S.solve(factor, (g[0],))[0],
            "all solved": jax.vmap(lambda v: S.solve(factor, (v,))[0])(g),
            "slope": slope(x),
            "change": jax.jvp(slope, (x,), (directions[0],))[1],
            "changes": jax.vmap(lambda d: jax.jvp(slope, (x,), (d,))[1])(directions),
            "product": S.multiply(x, (g[0],), None)[0],
            "diagonal": S.diagonal(x, None)[0],
            "added": S.add(x, (g[1][None],), None),
            "damped": damp(S, x, jnp.array([0.3]), None),
        }

    with double_precision():
        got = to_numpy(jax.jit(work)(values, g, directions))
    V = np.linalg.inv(H)
    changes = np.stack([gradient(S, -V @ full(S, d) @ V) for d in directions])
    assert got["positive"].shape == (1,) and got["positive"][0]
    assert got["logdet"] == pytest.approx(np.linalg.slogdet(H)[1], rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(got["solved"], g[0] @ V, atol=1e-10)
    np.testing.assert_allclose(got["all solved"], g @ V, atol=1e-10)
    np.testing.assert_allclose(got["slope"], gradient(S, V), atol=1e-10)
    np.testing.assert_allclose(got["change"], changes[0], atol=1e-9)
    np.testing.assert_allclose(got["changes"], changes, atol=1e-9)
    np.testing.assert_allclose(got["product"], g[0] @ H, atol=1e-10)
    np.testing.assert_array_equal(got["diagonal"], np.diag(H)[None, None])
    np.testing.assert_array_equal(full(S, got["added"]), H + np.diag(g[1, 0]))
    np.testing.assert_array_equal(full(S, got["damped"]), H + 0.3 * np.eye(S.n))
    # what the matrices' derivatives are derivatives of
    h = 1e-5
    up, down = (np.linalg.inv(full(S, values + s * directions[0])) for s in (h, -h))
    np.testing.assert_allclose(got["change"], gradient(S, up - down) / (2 * h), atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_matrix_is_recovered_from_few_products(name: str) -> None:
    S = structure(name)
    values = positive_definite(S)
    (probes,) = S.probes()
    assert probes.shape[1:] == (1, S.n) and len(probes) <= CASES[name][1]
    with double_precision():
        products = jax.vmap(lambda v: S.multiply(values, (v,), None))(probes)
        got = np.asarray(S.from_products(products, None))
    np.testing.assert_array_equal(got, values)


@pytest.mark.parametrize("name", ["grid", "random", "disconnected"])
def test_batches_of_matrices_and_of_right_hand_sides(name: str) -> None:
    """One call, whichever of the arguments are batched, in either order."""
    S = structure(name)
    many = np.stack([positive_definite(S, seed) for seed in range(2)])
    g = np.random.default_rng(1).normal(size=(3, 1, S.n))

    def solve(x: Any, v: Any) -> Any:
        return S.solve(S.factor(x, None), (v,))[0]

    def logdet(x: Any) -> Any:
        return S.logdet(x, None)

    with double_precision():
        matrices_first = jax.vmap(jax.vmap(solve, (None, 0)), (0, None))(many, g)
        matrices_last = jax.vmap(jax.vmap(solve, (0, None)), (None, 0))(many, g)
        determinants, slopes = jax.jit(jax.vmap(jax.value_and_grad(logdet)))(many)
        curved = jax.vmap(lambda x: jax.jvp(jax.grad(logdet), (x,), (many[0],))[1])(many)
        to_numpy((matrices_first, matrices_last, determinants, slopes, curved))
    for i, values in enumerate(many):
        H = full(S, values)
        V = np.linalg.inv(H)
        np.testing.assert_allclose(matrices_first[i], g @ V, atol=1e-10)
        np.testing.assert_allclose(matrices_last[:, i], g @ V, atol=1e-10)
        assert float(determinants[i]) == pytest.approx(np.linalg.slogdet(H)[1], rel=1e-12)
        np.testing.assert_allclose(slopes[i], gradient(S, V), atol=1e-10)
        np.testing.assert_allclose(curved[i], gradient(S, -V @ full(S, many[0]) @ V), atol=1e-9)


def test_derivatives_in_both_modes() -> None:
    """The Hessian of the log-determinant is symmetric; solving is differentiable in the right-hand side."""
    S = structure("band")
    values, g = positive_definite(S), np.random.default_rng(1).normal(size=(1, S.n))

    def logdet(x: Any) -> Any:
        return S.logdet(x, None)

    def quadratic(v: Any) -> Any:
        return jnp.vdot(v, S.solve(S.factor(values, None), (v,))[0])

    with double_precision():
        forward, reverse = (np.asarray(jax.jit(mode(jax.grad(logdet)))(values)) for mode in (jax.jacfwd, jax.jacrev))
        slope = np.asarray(jax.grad(quadratic)(g))
        with pytest.raises(NotImplementedError, match="hessian of a sparse matrix cannot be differentiated"):
            jax.jacfwd(jax.hessian(logdet))(values)
    np.testing.assert_allclose(forward, reverse, atol=1e-12)
    np.testing.assert_allclose(forward, forward.T, atol=1e-12)
    np.testing.assert_allclose(slope, 2.0 * g @ np.linalg.inv(full(S, values)), atol=1e-10)


def test_many_programs_at_once_wait_for_the_host() -> None:
    """Arrays so large that JAX leaves copies of them to other threads: nothing waits for ever."""
    S = Sparse(sp.kron(sp.eye_array(6000), np.ones((3, 3))))
    values = np.where(S.pattern.rows == S.pattern.columns, 5.0, -1.0)
    right = np.random.default_rng(1).normal(size=(1, S.n))

    @jax.jit
    def iterate(values: Any, right: Any) -> Any:
        def step(state: Any) -> Any:
            k, x = state
            H = S.add(values, (jnp.full((1, 1, 1), 1.0 + k),), None)
            return k + 1, S.solve(S.factor(H, None), (x,))[0] * (4.0 + k)

        return jax.lax.while_loop(lambda s: s[0] < 25, step, (0, right))[1]

    def several(scale: float) -> list[np.ndarray]:
        with double_precision():
            started = [iterate(values, right * s * scale) for s in (1.0, 2.0)]
            return [np.asarray(x) for x in started]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(several, [1.0, 2.0, 4.0, 8.0]))
    for k, (one, two) in enumerate(found):
        np.testing.assert_allclose(one, 2.0**k * found[0][0], rtol=1e-10)
        np.testing.assert_allclose(two, 2.0 * one, rtol=1e-10)


BAD = ("negative diagonal entry", "all negative", "not a number", "infinite", "huge", "zero")


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("name", ["one by one", "arrow", "dense", "grid", "random"])
def test_matrix_that_is_not_positive_definite_is_flagged(name: str, kind: str) -> None:
    """Nothing is NaN, nothing is raised."""
    S = structure(name)
    values = positive_definite(S)
    last = len(values) // 2
    on_diagonal = np.flatnonzero(S.pattern.rows == S.pattern.columns)
    change = {
        "negative diagonal entry": (on_diagonal[S.n // 2], -3.0),
        "all negative": (slice(None), -values),
        "not a number": (last, np.nan),
        "infinite": (last, np.inf),
        "huge": (slice(None), np.where(S.pattern.rows == S.pattern.columns, 1.0, 1e200) * -1.0),
        "zero": (slice(None), 0.0),
    }
    at, to = change[kind]
    values[at] = to

    def work(x: Any) -> Any:
        factor = S.factor(x, None)
        slope = jax.grad(lambda x: S.logdet(x, None))
        return factor.positive, S.solve(factor, (jnp.ones((1, S.n)),)), S.logdet(x, None), slope(x)

    with double_precision():
        positive, (solved,), logdet, slope = to_numpy(jax.jit(work)(values))
    assert not positive[0]
    assert np.all(np.isfinite(solved)) and np.isfinite(logdet)
    assert kind == "huge" or np.all(np.isfinite(slope))


def test_patterns_are_compared_by_content() -> None:
    lower = band(20, 2)
    same = [lower, lower.T, lower + lower.T, lower.toarray() != 0, sp.coo_matrix(lower), np.tril(lower.toarray(), -1)]
    structures = [Sparse(pattern) for pattern in same]
    assert len(set(structures)) == 1
    other = Sparse(band(20, 1))
    assert other != structures[0] and other != "sparse" and hash(other) != hash(structures[0])
    assert Sparse(sp.csr_array((3, 3))) != Sparse(sp.csr_array((4, 4)))
    structures[0].costly, structures[0].probes()
    for copied in (pickle.loads(pickle.dumps(structures[0])), copy.deepcopy(structures[0])):
        assert copied == structures[0]
        assert copied.n == 20 and copied.costly == structures[0].costly


def test_equal_structures_share_compiled_programs() -> None:
    traced = []

    def logdet(S: Sparse, x: Any) -> Any:
        traced.append(S)
        return S.logdet(x, None)

    compiled = jax.jit(logdet, static_argnums=0)
    with double_precision():
        for _ in range(2):
            S = Sparse(band(20, 2))
            compiled(S, positive_definite(S))
    assert len(traced) == 1


def test_description_size_and_cost() -> None:
    small, large = structure("grid"), Sparse(np.ones((1100, 1100)))
    assert str(small) == repr(small) == "sparse: 630 effects, 1209 pairs of them coupled"
    assert small.n_blocks == 1 and small.levels[0].n_groups == 630 and small.levels[0].n_effects == 1
    assert not small.costly and large.costly
    assert small.memory(1) < small.memory(10) < large.memory(1)
    with double_precision():
        np.testing.assert_array_equal(small.spread_blocks(jnp.ones(1), 0, None), np.ones(630))
        np.testing.assert_array_equal(small.sum_blocks(jnp.ones(630), 0, None), [630.0])


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        (np.zeros((0, 0)), r"shape \(0, 0\): give a square matrix"),
        (np.ones((2, 3)), r"shape \(2, 3\)"),
        (sp.csr_array((5, 4)), r"shape \(5, 4\)"),
        (np.ones(3), r"shape \(3,\)"),
        (3, r"shape \(\)"),
        (np.array([["a"]]), "entries of type <U1"),
        ([[None]], "entries of type object"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern: Any, says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        Sparse(pattern)


@pytest.mark.parametrize("name", CASES)
def test_symbolic_analysis_equals_elimination_by_hand(name: str) -> None:
    """Column counts are exact; the rows of each front hold all fill and lie in its ancestors."""
    S = structure(name)
    off = S.pattern.rows != S.pattern.columns
    rows, columns = S.pattern.rows[off], S.pattern.columns[off]
    order = elimination.fill_reducing(S.n, rows, columns)
    parent = elimination.elimination_tree(S.n, *elimination.relabel(order, rows, columns))
    post = elimination.postorder(parent)
    low, high = elimination.relabel(order[post], rows, columns)
    counts = elimination.column_counts(elimination.relabel_tree(parent, post), low, high)
    np.testing.assert_array_equal(counts, filled(S.n, low, high).sum(axis=0))
    fronts = elimination.find_fronts(S.n, rows, columns)
    pattern = filled(S.n, *elimination.relabel(fronts.order, rows, columns))
    np.testing.assert_array_equal(np.sort(fronts.order), np.arange(S.n))
    for f, above in enumerate(fronts.parent):
        begin, end = fronts.start[f], fronts.start[f + 1]
        own = fronts.rows[fronts.row_start[f] : fronts.row_start[f + 1]]
        assert set(np.flatnonzero(pattern[:, begin:end].any(axis=1))) <= {*range(begin, end), *own}
        assert (len(own) == 0) == (above < 0)
        if above >= 0:
            assert fronts.level[above] > fronts.level[f]
            rows_above = fronts.rows[fronts.row_start[above] : fronts.row_start[above + 1]]
            assert set(own) <= {*range(fronts.start[above], fronts.start[above + 1]), *rows_above}


def filled(n: int, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Where the Cholesky factor is not zero, one elimination after the other."""
    L = np.eye(n, dtype=bool)
    L[high, low] = True
    for j in range(n):
        below = j + 1 + np.flatnonzero(L[j + 1 :, j])
        L[np.ix_(below, below)] |= np.tril(np.ones((len(below), len(below)), dtype=bool))
    return L


@pytest.mark.parametrize("name", CASES)
def test_coloring_is_a_star_coloring(name: str) -> None:
    """Neighbors differ, and every path of four columns has at least three colors."""
    S = structure(name)
    colors = color(S.n, S.pattern.rows, S.pattern.columns).colors
    neighbors = [set(np.flatnonzero(row)) - {i} for i, row in enumerate(full(S, np.ones(len(S.pattern.rows))))]
    for v in range(S.n):
        for w in neighbors[v]:
            assert colors[v] != colors[w]
            ends = [x for x in neighbors[w] - {v} if colors[x] == colors[v]]
            assert not ends or all(colors[y] != colors[w] for y in neighbors[v] - {w})
