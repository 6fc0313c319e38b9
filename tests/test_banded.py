"""The banded structure against dense linear algebra."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glmmjax._errors import ArgumentError
from glmmjax._precision import double_precision, to_numpy
from glmmjax.hessians.banded import Banded, BandedHessian

# (effects, half-bandwidth): one effect, fewer than the band holds, no multiple of the block, a diagonal matrix
CASES = [(1, 0), (1, 1), (3, 5), (7, 0), (12, 1), (13, 2), (10, 3), (17, 5)]


def band(n: int, k: int, seed: int = 0) -> np.ndarray:
    """A symmetric positive definite matrix (n, n) of half-bandwidth k."""
    A = np.random.default_rng(seed).normal(size=(n, n))
    A = A + A.T
    i = np.arange(n)
    A[np.abs(i[:, None] - i) > k] = 0.0
    return A + np.diag(1.0 + np.abs(A).sum(axis=1))


def stored(structure: BandedHessian, A: Any) -> Any:
    """A as the structure keeps it, from its products with the probes."""
    return structure.from_products((jnp.asarray(structure.probes(None)[0]) @ A,), None)


def filled(structure: BandedHessian, A: np.ndarray, diagonal: float = 1.0) -> np.ndarray:
    """A with the effects that fill the last block up."""
    out = diagonal * np.eye(structure.length * structure.size)
    out[: len(A), : len(A)] = A
    return out


def blocks(M: np.ndarray, b: int) -> tuple[np.ndarray, np.ndarray]:
    """The diagonal blocks (b, b, N) of a dense matrix, and those below them (b, b, N - 1)."""
    n = len(M) // b
    X, i = M.reshape(n, b, n, b), np.arange(n)
    return np.moveaxis(X[i, :, i], 0, 2), np.moveaxis(X[i[1:], :, i[:-1]], 0, 2)


@partial(jax.jit, static_argnums=0)
def work(structure: BandedHessian, A: Any, dA: Any, g: Any, t: Any) -> Any:
    """Every operation; ``dA`` and ``g`` have several directions."""

    def slope(A: Any) -> Any:
        return jax.grad(lambda H: structure.logdet(H, None))(stored(structure, A))

    H = stored(structure, A)
    factor = structure.factor(H, None)
    return {
        "H": H,
        "positive": factor.positive,
        "logdet": structure.logdet(H, None),
        "batch": jax.vmap(lambda A: structure.logdet(stored(structure, A), None))(jnp.stack([A, 2.0 * A])),
        "slope": slope(A),
        "one": jax.jvp(slope, (A,), (dA[0],))[1],
        "many": jax.vmap(lambda d: jax.jvp(slope, (A,), (d,))[1])(dA),
        "solve": structure.solve(factor, (g[0],))[0],
        "solves": jax.vmap(lambda g: structure.solve(factor, (g,))[0])(g),
        "diagonal": structure.diagonal(H, None)[0],
        "added": structure.diagonal(structure.add(H, (t,), None), None)[0],
        "product": structure.multiply(H, (g[0],), None)[0],
    }


@pytest.mark.parametrize(("n", "k"), CASES)
def test_every_operation_equals_dense_algebra(n: int, k: int) -> None:
    structure = Banded(k).bind(n)
    rng = np.random.default_rng(1)
    A, dA = band(n, k), np.stack([band(n, k, 2), band(n, k, 3)])
    g, t = rng.normal(size=(2, 1, n)), rng.uniform(size=(1, 1, n))
    with double_precision():
        out = to_numpy(work(structure, A, dA, g, t))
    b, inverse = structure.size, np.linalg.inv(filled(structure, A))
    D, E = blocks(filled(structure, A), b)
    np.testing.assert_allclose(out["H"].D, D, atol=1e-12)
    np.testing.assert_allclose(out["H"].E, E, atol=1e-12)
    assert np.all(out["positive"])
    assert out["logdet"] == pytest.approx(np.linalg.slogdet(A)[1], rel=1e-12)
    np.testing.assert_allclose(out["batch"], [np.linalg.slogdet(s * A)[1] for s in (1.0, 2.0)], rtol=1e-12)
    D, E = blocks(inverse, b)
    np.testing.assert_allclose(out["slope"].D, D, atol=1e-12)
    np.testing.assert_allclose(out["slope"].E, 2.0 * E, atol=1e-12)
    moved = [-inverse @ filled(structure, d, 0.0) @ inverse for d in dA]
    for place, M in enumerate(moved):
        D, E = blocks(M, b)
        np.testing.assert_allclose(out["many"].D[place], D, atol=1e-12)
        np.testing.assert_allclose(out["many"].E[place], 2.0 * E, atol=1e-12)
    np.testing.assert_allclose(out["one"].D, out["many"].D[0], atol=1e-12)
    np.testing.assert_allclose(out["solve"][0], np.linalg.solve(A, g[0, 0]), atol=1e-12)
    np.testing.assert_allclose(out["solves"][:, 0], np.linalg.solve(A, g[:, 0].T).T, atol=1e-12)
    np.testing.assert_allclose(out["diagonal"][0, 0], np.diag(A), atol=1e-12)
    np.testing.assert_allclose(out["added"][0, 0], np.diag(A) + t[0, 0], atol=1e-12)
    np.testing.assert_allclose(out["product"][0], A @ g[0, 0], atol=1e-12)


@pytest.mark.parametrize("k", [0, 1, 2, 5])
def test_a_matrix_that_is_not_positive_definite_is_flagged(k: int) -> None:
    """The flag is down, and what is solved stays finite."""
    structure, A = Banded(k).bind(13), band(13, k)
    A[6, 6] = -3.0
    ones, dA = np.ones((2, 1, 13)), np.stack([A, A])
    with double_precision():
        out = to_numpy(work(structure, A, dA, ones, np.ones((1, 1, 13))))
    assert not np.any(out["positive"])
    assert np.all(np.isfinite(out["solves"]))


def test_memory_is_linear_in_the_number_of_effects() -> None:
    small, large = (Banded(2).bind(n).memory(3) for n in (1_000, 10_000))
    assert large == pytest.approx(10.0 * small)


@pytest.mark.parametrize("k", [-1, 1.5, "1", None, True])
def test_a_half_bandwidth_is_a_whole_number(k: Any) -> None:
    with pytest.raises(ArgumentError, match="half-bandwidth"):
        Banded(k)


def test_a_band_is_no_wider_than_the_matrix() -> None:
    assert Banded(5).bind(3) == BandedHessian(3, 2)
