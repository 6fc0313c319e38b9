"""Crossed factors coupled by links, and the algebra of one large matrix, against dense linear algebra."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from glmmjax._precision import double_precision, to_numpy
from glmmjax.hessians import _dense, _links
from glmmjax.hessians._levels import Level
from glmmjax.hessians._links import Links, link, prefer_links
from glmmjax.hessians.linked import Linked

N = 70


class Case(NamedTuple):
    structure: Linked
    members: Links
    Z: tuple[np.ndarray, ...]
    L: tuple[np.ndarray, ...]
    w: np.ndarray
    g: tuple[np.ndarray, ...]

    @property
    def sizes(self) -> list[int]:
        return [level.n_effects * level.n_groups for level in self.structure.levels]

    def split(self, v: np.ndarray) -> tuple[np.ndarray, ...]:
        """Vectors (..., effects) by level; effects slowest, groups fastest within a level."""
        parts = np.split(v, np.cumsum(self.sizes)[:-1], axis=-1)
        levels = self.structure.levels
        return tuple(x.reshape(*v.shape[:-1], a.n_effects, a.n_groups) for x, a in zip(parts, levels, strict=True))

    def entries(self, A: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
        """A full matrix as the structure stores it."""
        out, starts = {}, np.concatenate([[0], np.cumsum(self.sizes)])
        for k, low in enumerate(self.structure.levels):
            for m, high in enumerate(self.structure.levels[k:], start=k):
                block = A[starts[k] : starts[k + 1], starts[m] : starts[m + 1]]
                block = block.reshape(low.n_effects, low.n_groups, high.n_effects, high.n_groups)
                groups = (np.arange(low.n_groups),) * 2 if k == m else self.members.ends[k, m]
                out[k, m] = np.moveaxis(block[:, groups[0], :, groups[1]], 0, 2)
        return out

    def hessian(self, w: Any) -> Any:
        """``L' Z' W Z L + I`` as stored."""
        S = self.structure.congruence(self.structure.assemble(lambda k, a, m, b: w, self.Z, self.members), self.L)
        return self.structure.add(
            S, tuple(np.eye(a.n_effects)[:, :, None] for a in self.structure.levels), self.members
        )

    def expected(self, w: np.ndarray) -> np.ndarray:
        """``L' Z' W Z L + I`` from the full Z."""
        columns = []
        for k, level in enumerate(self.structure.levels):
            full = np.zeros((N, level.n_effects, level.n_groups))
            full[np.arange(N), :, self.members.rows[k]] = (self.L[k].T @ self.Z[k]).T
            columns.append(full.reshape(N, -1))
        A = np.concatenate(columns, axis=1)
        return A.T @ (w[:, None] * A) + np.eye(A.shape[1])

    def logdet(self, H: Any) -> Any:
        return self.structure.logdet(H, self.members)


def case(rows: list[np.ndarray], sizes: tuple[int, ...], effects: tuple[int, ...]) -> Case:
    rng = np.random.default_rng(2)
    levels = tuple(Level(size, d) for size, d in zip(sizes, effects, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_links, "CHUNK", 64)  # several chunks, the last of them padded
        members = link(rows, levels)
    return Case(
        Linked(levels, members.n_links, members.n_pairs),
        members,
        tuple(rng.normal(size=(d, N)) for d in effects),
        tuple(np.tril(rng.normal(size=(d, d))) for d in effects),
        rng.uniform(0.1, 2.0, N),
        tuple(rng.normal(size=(d, size)) for size, d in zip(sizes, effects, strict=True)),
    )


def crossed(sizes: tuple[int, ...], effects: tuple[int, ...], padding: int = 0) -> Case:
    """Factors that are drawn at random, with groups that occur in no row."""
    rng = np.random.default_rng(1)
    return case([rng.integers(0, size, N) for size in sizes], tuple(size + padding for size in sizes), effects)


def partly_nested() -> Case:
    """The second factor is nested in the third."""
    rng = np.random.default_rng(3)
    middle = rng.integers(0, 8, N)
    return case([rng.integers(0, 20, N), middle, middle // 3], (20, 8, 3), (1, 2, 1))


CASES: dict[str, Callable[[], Case]] = {
    "two factors": lambda: crossed((25, 9), (1, 1)),
    "padded": lambda: crossed((25, 9, 3), (1, 1, 1), padding=2),
    "slopes": lambda: crossed((15, 6, 3), (2, 1, 3)),
    "five effects, by LAPACK": lambda: crossed((9, 5), (5, 1)),
    "partly nested": partly_nested,
    "five factors": lambda: crossed((18, 6, 4, 3, 2), (1, 1, 2, 1, 1)),
}


@cache
def made(name: str) -> Case:
    return CASES[name]()


class Results(NamedTuple):
    """Everything there is, at one set of weights and along one direction."""

    H: Any
    columns: Any
    again: Any
    positive: Any
    solved: Any
    inverse_columns: Any
    value: Any
    gradient: Any
    diagonal: Any
    slope: Any
    rates: Any


STEPS = (-2, -1, 1, 2)
H_STEP = 1e-4


@cache
def results(name: str) -> tuple[np.ndarray, list[Results]]:
    """Weights (7, n) and the results for each: at w, near it along a direction, and where H is not positive definite.

    One batched program.
    """
    c = made(name)
    structure, members = c.structure, c.members
    direction = np.random.default_rng(5).normal(size=N)
    unit = c.split(np.eye(sum(c.sizes)))

    def work(w: Any) -> Results:
        H = c.hessian(w)
        factor = structure.factor(H, members)
        product = jax.vmap(lambda v: structure.multiply(H, v, members))
        solve = jax.vmap(lambda g: structure.solve(factor, g))
        (value, gradient), (slope, rates) = jax.jvp(
            lambda w: jax.value_and_grad(c.logdet)(c.hessian(w)), (w,), (direction,)
        )
        return Results(
            H=H,
            columns=product(unit),
            again=structure.from_products(product(structure.probes(members)), members),
            positive=factor.positive,
            solved=structure.solve(factor, c.g),
            inverse_columns=solve(unit),
            value=value,
            gradient=gradient,
            diagonal=structure.diagonal(gradient, members),
            slope=slope,
            rates=rates,
        )

    near = [c.w + i * H_STEP * direction for i in STEPS]
    bad = [np.where(members.rows[k] == 0, -50.0, 1.0) for k in (0, -1)]
    weights = np.stack([c.w, *near, *bad])
    with double_precision():
        batch = to_numpy(jax.jit(jax.vmap(work))(weights))
    return weights, [jax.tree.map(lambda x, i=i: x[i], batch) for i in range(len(weights))]


def flatten(v: Any) -> np.ndarray:
    return np.concatenate([np.asarray(x).reshape(-1) for x in v])


def close(a: Any, b: Any, atol: float) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a, b)


def difference(f: list[Any]) -> Any:
    """The derivative from four values around a point."""
    return jax.tree.map(lambda a, b, c, d: (8 * (c - b) - (d - a)) / (12 * H_STEP), *f)


# the larger ones take longer to compile
SLOW = ("five effects, by LAPACK", "five factors")
SOME = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CASES]


@pytest.mark.parametrize("name", SOME)
def test_every_operation_equals_dense_algebra(name: str) -> None:
    c = made(name)
    weights, found = results(name)
    for w, r in zip(weights[:2], found, strict=False):
        exact = c.expected(w)
        inverse = np.linalg.inv(exact)
        close(c.split(exact), r.columns, 1e-11)
        close(c.entries(exact), r.H, 1e-11)
        close(r.again, r.H, 1e-11)
        assert r.positive.shape == (1,) and r.positive[0]
        np.testing.assert_allclose(flatten(r.solved), np.linalg.solve(exact, flatten(c.g)), atol=1e-10)
        close(c.split(inverse), r.inverse_columns, 1e-10)
        assert r.value == pytest.approx(np.linalg.slogdet(exact)[1], rel=1e-12)
        once_or_twice = {(k, m): (1 if k == m else 2) * block for (k, m), block in c.entries(inverse).items()}
        close(r.gradient, once_or_twice, 1e-10)
        close(r.diagonal, tuple(once_or_twice[k, k] for k in range(len(r.diagonal))), 1e-10)


@pytest.mark.parametrize("name", SOME)
def test_derivatives_equal_finite_differences(name: str) -> None:
    """Of the log-determinant by dense algebra, and of its gradient."""
    c = made(name)
    weights, (at, *near) = results(name)
    numeric = difference([np.linalg.slogdet(c.expected(w))[1] for w in weights[1:5]])
    assert at.slope == pytest.approx(numeric, rel=1e-8)
    close(at.rates, difference([r.gradient for r in near[:4]]), 1e-8)


@pytest.mark.parametrize("name", SOME)
def test_a_matrix_that_is_not_positive_definite_is_flagged(name: str) -> None:
    """Nothing is NaN, nothing is raised, and the others of the batch do not mind."""
    _, found = results(name)
    assert [bool(r.positive[0]) for r in found] == [True] * 5 + [False] * 2
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(found))


def test_a_batch_holds_what_single_calls_return() -> None:
    c = made("slopes")
    weights, found = results("slopes")

    def work(w: Any) -> Any:
        H = c.hessian(w)
        return c.structure.solve(c.structure.factor(H, c.members), c.g), *jax.value_and_grad(c.logdet)(H)

    with double_precision():
        single = to_numpy(jax.jit(work)(weights[1]))
    close(single, (found[1].solved, found[1].value, found[1].gradient), 1e-11)


def test_one_independent_block_damped_as_one() -> None:
    c = made("padded")
    with double_precision():
        assert c.structure.n_blocks == 1
        assert c.structure.sum_rows(np.ones(N), c.members) == np.array([N])
        assert c.structure.sum_blocks(np.ones(5), 1, c.members) == np.array([5])
        np.testing.assert_array_equal(c.structure.spread_blocks(np.array([3.0]), 2, c.members), np.full(5, 3.0))


def test_pairs_of_strands_are_what_occurs() -> None:
    """Against a loop over the groups of the largest factor."""
    c = made("slopes")
    with double_precision():
        group, column = to_numpy(c.structure._strands(c.members))
    real = c.members.first < len(group)
    first, second = c.members.first[real], c.members.second[real]
    wanted = []
    for g in range(c.structure.levels[0].n_groups):
        for a in column[group == g]:
            wanted += [(g, a, b) for b in column[group == g] if b < a]
    assert sorted(zip(group[first], column[first], column[second], strict=True)) == sorted(wanted)
    np.testing.assert_array_equal(group[first], group[second])
    assert np.all(np.diff(column) >= 0) and np.all(np.diff(first) >= 0)


def test_one_elimination_and_one_pass_more_make_the_gradient() -> None:
    """With the factor at hand; each is one scan over the pairs."""
    c = made("slopes")

    def scans(jaxpr: Any) -> int:
        here = sum(e.primitive.name == "scan" for e in jaxpr.eqns)
        inner = [getattr(p, "jaxpr", p) for e in jaxpr.eqns for p in e.params.values()]
        return here + sum(scans(p) for p in inner if hasattr(p, "eqns"))

    def gradient(H: Any) -> Any:
        factor = c.structure.factor(H, c.members)
        return jax.grad(lambda H: c.structure.logdet(H, c.members, factor))(H)

    with double_precision():
        H = c.hessian(c.w)
        assert scans(jax.make_jaxpr(lambda H: c.structure.factor(H, c.members))(H).jaxpr) == 1
        assert scans(jax.make_jaxpr(gradient)(H).jaxpr) == 2


def test_nothing_is_kept_of_every_pair_for_a_second_derivative() -> None:
    c = made("two factors")
    with double_precision():
        H = c.hessian(c.w)
        _, moves = jax.linearize(jax.grad(c.logdet), H)
        kept = [np.shape(x) for x in jax.make_jaxpr(moves)(H).consts if np.asarray(x).dtype.kind == "f"]
    assert kept and c.members.first.shape not in kept


def test_a_third_derivative_equals_finite_differences() -> None:
    c = made("slopes")
    direction = np.random.default_rng(5).normal(size=N)

    def second(w: Any) -> Any:
        slope = lambda w: jax.jvp(lambda w: c.logdet(c.hessian(w)), (w,), (direction,))[1]  # noqa: E731
        return jax.jvp(slope, (w,), (direction,))[1]

    with double_precision():
        exact = to_numpy(jax.jit(lambda w: jax.jvp(second, (w,), (direction,))[1])(c.w))
        near = to_numpy(jax.jit(jax.vmap(second))(np.stack([c.w + i * H_STEP * direction for i in STEPS])))
    assert exact == pytest.approx(difference(list(near)), rel=1e-6)


def test_one_chunk_is_enough_for_few_pairs_and_none_for_no_pairs() -> None:
    c = made("two factors")
    assert c.members.first.shape[0] > 1
    one = link(c.members.rows, c.structure.levels)
    assert one.first.shape == (1, np.sum(c.members.first < len(c.members.ends[0, 1][0])))
    alone = np.arange(4)
    levels = (Level(4, 1), Level(4, 1))
    members = link([alone, alone], levels)
    assert members.n_pairs == 0
    structure = Linked(levels, members.n_links, members.n_pairs)
    H = {(0, 0): np.full((1, 1, 4), 2.0), (1, 1): np.full((1, 1, 4), 3.0), (0, 1): np.ones((1, 1, 4))}
    with double_precision():
        value, gradient = to_numpy(jax.jit(jax.value_and_grad(structure.logdet))(H, members))
    assert value == pytest.approx(4 * np.log(5))
    close(gradient, {(0, 0): H[1, 1] / 5, (1, 1): H[0, 0] / 5, (0, 1): -2 * H[0, 1] / 5}, 1e-14)


def test_describes_itself() -> None:
    c = made("slopes")
    assert str(c.structure) == f"crossed: 15 x 6 x 3 groups, coupling by {c.members.n_links} links"
    assert not c.structure.costly
    assert Linked((Level(3000, 1), Level(1200, 1)), 70_000, 2_000_000).costly
    assert c.structure.memory(4) > c.structure.memory(0) > 8 * c.structure.n_rest**2
    assert hash(c.structure) == hash(Linked(c.structure.levels, c.members.n_links, c.members.n_pairs))


@pytest.mark.parametrize("n", [1, 40])
def test_one_large_matrix(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions act on the symmetric part; their derivatives are those of the matrix."""
    monkeypatch.setattr(_dense, "SOLVED_AT_ONCE", 12)  # a larger one by quarters
    rng = np.random.default_rng(6)
    half, dA = rng.normal(size=(n, n)), rng.normal(size=(n, n))
    A = half @ half.T + np.eye(n)
    skew = rng.normal(size=(n, n))
    given = A + skew - skew.T
    b = rng.normal(size=(n, 3))
    with double_precision():
        L, positive = to_numpy(_dense.factor(given))
        value, gradient = to_numpy(jax.value_and_grad(_dense.logdet)(given))
        V, dV = to_numpy(jax.jvp(_dense.inverse, (given,), (dA,)))
        x, one = to_numpy((_dense.solve(L, b), _dense.solve(L, b[:, 0])))
    inverse = np.linalg.inv(A)
    assert positive
    np.testing.assert_allclose(L, np.linalg.cholesky(A), atol=1e-12)
    assert value == pytest.approx(np.linalg.slogdet(A)[1], rel=1e-12)
    np.testing.assert_allclose(gradient, inverse, atol=1e-12)
    np.testing.assert_allclose(V, inverse, atol=1e-12)
    np.testing.assert_allclose(dV, -inverse @ (dA + dA.T) @ inverse / 2, atol=1e-11)
    np.testing.assert_allclose(x, inverse @ b, atol=1e-11)
    np.testing.assert_allclose(one, x[:, 0], atol=1e-13)


@pytest.mark.parametrize("bad", [-1.0, 0.0, np.nan, np.inf])
@pytest.mark.parametrize("place", [(0, 0), (3, 3), (3, 1)])
def test_one_large_matrix_that_is_not_positive_definite(bad: float, place: tuple[int, int]) -> None:
    A = np.diag(np.arange(1.0, 6.0))
    A[place] = A[place[::-1]] = bad if place[0] == place[1] or not np.isfinite(bad) else 100.0
    with double_precision():
        L, positive = to_numpy(_dense.factor(A))
        value, gradient = to_numpy(jax.value_and_grad(_dense.logdet)(A))
    assert not positive
    np.testing.assert_array_equal(L, np.eye(5))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.eye(5))


PREFERENCES = {
    "students and lecturers": ((3000, 1100), (1, 1), 70_000, False, True),
    "on an accelerator": ((3000, 1100), (1, 1), 70_000, True, False),
    "very large, on an accelerator": ((20_000, 5000), (1, 1), 200_000, True, True),
    "persons and items, all crossed": ((316, 24), (1, 1), 20_000, False, False),
    "too small to matter": ((200, 100), (1, 1), 400, False, False),
    "dense": ((1000, 300), (1, 1), 200_000, False, False),
    "slopes of the largest factor": ((3000, 1100), (2, 1), 70_000, False, True),
    "slopes of another factor": ((3000, 500), (1, 3), 30_000, False, True),
    "one factor": ((300,), (1,), 1000, False, False),
}


@pytest.mark.parametrize("name", PREFERENCES)
def test_links_are_preferred_where_they_are_faster(name: str) -> None:
    sizes, effects, n, accelerator, wanted = PREFERENCES[name]
    rng = np.random.default_rng(8)
    rows = [rng.integers(0, size, n) for size in sizes]
    levels = tuple(Level(size, d) for size, d in zip(sizes, effects, strict=True))
    assert prefer_links(rows, levels, accelerator) is wanted
