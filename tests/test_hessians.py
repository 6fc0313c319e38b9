"""Structures of the Hessian against dense linear algebra."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from glmmjax._precision import double_precision, to_numpy
from glmmjax.hessians import Blocks, Crossed, Level, Membership, damp, identity, parent_groups

N = 60


def nested(sizes: tuple[int, ...], effects: tuple[int, ...]) -> tuple[Blocks, Membership]:
    """Factors nested in a chain, finest first."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, sizes[0], N)]
    for size in sizes[1:]:
        rows.append(rows[-1] * size // (rows[-1].max() + 1))
    parents = {
        (k, m): parent_groups(rows[k], rows[m], sizes[k]) for k in range(len(sizes)) for m in range(k + 1, len(sizes))
    }
    assert all(parent is not None for parent in parents.values())
    levels = tuple(Level(size, d) for size, d in zip(sizes, effects, strict=True))
    return Blocks(levels), Membership(tuple(r.astype(np.int32) for r in rows), parents)  # type: ignore[arg-type]


def crossed(sizes: tuple[int, ...], effects: tuple[int, ...]) -> tuple[Crossed, Membership]:
    rng = np.random.default_rng(1)
    levels = tuple(Level(size, d) for size, d in zip(sizes, effects, strict=True))
    return Crossed(levels), Membership(tuple(rng.integers(0, size, N).astype(np.int32) for size in sizes), {})


CASES = {
    "one effect": nested((7,), (1,)),
    "two effects": nested((7,), (2,)),
    "four effects": nested((5,), (4,)),
    "six effects, by LAPACK": nested((4,), (6,)),
    "nested": nested((12, 4), (1, 2)),
    "three levels": nested((14, 6, 2), (2, 1, 3)),
    "crossed": crossed((9, 5), (1, 1)),
    "crossed slopes": crossed((8, 4, 3), (2, 1, 2)),
}


def dense(structure: Any, H: Any, members: Membership) -> np.ndarray:
    """H as one matrix, column by column."""
    shapes = [(level.n_effects, level.n_groups) for level in structure.levels]
    bounds = np.cumsum([np.prod(s) for s in shapes])
    parts = np.split(np.eye(bounds[-1]), bounds[:-1], axis=1)
    basis = tuple(part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True))
    columns = jax.jit(jax.vmap(lambda v: structure.multiply(H, v, members)))(basis)
    return np.concatenate([np.asarray(x).reshape(len(x), -1) for x in columns], axis=1).T


def flatten(v: Any) -> np.ndarray:
    return np.concatenate([np.asarray(x).reshape(-1) for x in v])


def expected(
    structure: Any, members: Membership, Z: tuple[np.ndarray, ...], w: np.ndarray, L: tuple[np.ndarray, ...]
) -> np.ndarray:
    """``L' Z' W Z L + I`` from the full Z, effects slowest and groups fastest within a level."""
    blocks = []
    for k, level in enumerate(structure.levels):
        full = np.zeros((N, level.n_effects, level.n_groups))
        full[np.arange(N), :, members.rows[k]] = (L[k].T @ Z[k]).T
        blocks.append(full.reshape(N, -1))
    A = np.concatenate(blocks, axis=1)
    return A.T @ (w[:, None] * A) + np.eye(A.shape[1])


@pytest.mark.parametrize("name", CASES)
def test_every_operation_equals_dense_algebra(name: str) -> None:
    structure, members = CASES[name]
    rng = np.random.default_rng(2)
    Z = tuple(rng.normal(size=(level.n_effects, N)) for level in structure.levels)
    L = tuple(np.tril(rng.normal(size=(level.n_effects,) * 2)) for level in structure.levels)
    w = rng.uniform(0.1, 2.0, N)
    g = tuple(rng.normal(size=(level.n_effects, level.n_groups)) for level in structure.levels)
    damping = rng.uniform(0, 1, structure.n_blocks)

    def assembled(w: Any) -> Any:
        S = structure.congruence(structure.assemble(lambda k, a, m, b: w, Z, members), L)
        return structure.add(S, identity(structure), members)

    def work(w: Any) -> Any:
        H = assembled(w)
        factor = structure.factor(H, members)
        damped = damp(structure, H, damping, members)
        V = jax.grad(lambda H: structure.logdet(H, members))(H)
        return H, damped, factor.positive, structure.solve(factor, g), structure.diagonal(V, members)

    def logdet_of(w: Any) -> Any:
        return structure.logdet(assembled(w), members)

    with double_precision():
        H, H_damped, positive, x, blocks = to_numpy(jax.jit(work)(w))
        matrix, damped = dense(structure, H, members), dense(structure, H_damped, members)
        logdet, slope = to_numpy(jax.jit(jax.value_and_grad(logdet_of))(w))
        many = to_numpy(jax.jit(jax.vmap(logdet_of))(np.stack([w, 2 * w])))
        spread = [np.asarray(structure.spread_blocks(damping, k, members)) for k in range(len(structure.levels))]
    exact = expected(structure, members, Z, w, L)
    np.testing.assert_allclose(matrix, exact, atol=1e-10)
    assert np.all(positive)
    np.testing.assert_allclose(flatten(x), np.linalg.solve(exact, flatten(g)), atol=1e-9)
    assert logdet == pytest.approx(np.linalg.slogdet(exact)[1], rel=1e-12)
    inverse = np.linalg.inv(exact)
    start = 0
    for k, level in enumerate(structure.levels):
        size = level.n_effects * level.n_groups
        own = inverse[start : start + size, start : start + size].reshape(
            level.n_effects, level.n_groups, level.n_effects, level.n_groups
        )
        mean = 0.5 * (blocks[k] + np.swapaxes(blocks[k], 0, 1))
        np.testing.assert_allclose(mean, np.einsum("igjg->ijg", own), atol=1e-9)
        start += size
    added = np.concatenate([np.tile(t, level.n_effects) for t, level in zip(spread, structure.levels, strict=True)])
    np.testing.assert_allclose(damped - matrix, np.diag(added), atol=1e-10)
    h = 1e-6
    step = np.zeros(N)
    step[3] = h
    up, down = (np.linalg.slogdet(expected(structure, members, Z, w + s, L))[1] for s in (step, -step))
    assert slope[3] == pytest.approx((up - down) / (2 * h), rel=1e-6)
    assert many[1] == pytest.approx(np.linalg.slogdet(expected(structure, members, Z, 2 * w, L))[1], rel=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_a_matrix_that_is_not_positive_definite_is_flagged(name: str) -> None:
    """Only the block that is bad is flagged, nothing is NaN, nothing is raised."""
    structure, members = CASES[name]
    w = np.where(members.rows[-1] == 0, -50.0, 1.0)
    Z = tuple(np.ones((level.n_effects, N)) + np.arange(level.n_effects)[:, None] for level in structure.levels)
    L = tuple(np.eye(level.n_effects) for level in structure.levels)
    ones = tuple(np.ones((level.n_effects, level.n_groups)) for level in structure.levels)

    def work(w: Any) -> Any:
        S = structure.congruence(structure.assemble(lambda k, a, m, b: w, Z, members), L)
        factor = structure.factor(structure.add(S, identity(structure), members), members)
        return factor.positive, structure.solve(factor, ones)

    with double_precision():
        positive, solved = to_numpy(jax.jit(work)(w))
    assert not positive[0]
    assert np.all(positive[1:])
    assert all(np.all(np.isfinite(x)) for x in solved)


def test_independent_blocks_of_nested_factors_are_the_coarsest_groups() -> None:
    structure, members = CASES["three levels"]
    values = np.arange(N, dtype=float)
    with double_precision():
        sums = np.asarray(structure.sum_rows(values, members))
    np.testing.assert_allclose(sums, np.bincount(members.rows[-1], values))


def test_crossed_factors_have_no_parents() -> None:
    assert parent_groups(np.array([0, 0, 1]), np.array([0, 1, 1]), 2) is None
    np.testing.assert_array_equal(parent_groups(np.array([0, 0, 2]), np.array([1, 1, 0]), 4), [1, 0, 0, 0])
