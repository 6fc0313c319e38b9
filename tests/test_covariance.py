"""Covariance structures: meaning of theta, and start as its inverse."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from problems import data_for

import glmmjax as gj
from glmmjax import FormulaError
from glmmjax._precision import double_precision
from glmmjax.covariance import COVARIANCES, Covariance, resolve_covariance


@pytest.mark.parametrize("name", COVARIANCES)
@pytest.mark.parametrize("q", [1, 2, 3, 4])
def test_theta_starts_with_log_standard_deviations(name: str, q: int) -> None:
    record = COVARIANCES[name]
    theta = np.random.default_rng(q).normal(size=record.n_theta(q))
    with double_precision():
        L = np.asarray(record.cholesky(theta, q))
    Sigma = L @ L.T
    np.testing.assert_allclose(np.sqrt(np.diag(Sigma)), np.exp(theta[:q]), rtol=1e-12)
    np.testing.assert_array_equal(L, np.tril(L))
    if record.correlated or q == 1:
        np.testing.assert_allclose(record.start(Sigma), theta, rtol=1e-9, atol=1e-12)
    else:
        np.testing.assert_array_equal(Sigma, np.diag(np.diag(Sigma)))
        np.testing.assert_allclose(record.start(Sigma), theta)


def test_two_effects_have_the_correlation_that_glmmtmb_documents() -> None:
    t = 1.7
    with double_precision():
        L = np.asarray(COVARIANCES["us"].cholesky(np.array([0.3, -0.2, t]), 2))
    Sigma = L @ L.T
    assert Sigma[0, 1] / np.sqrt(Sigma[0, 0] * Sigma[1, 1]) == pytest.approx(t / np.sqrt(1 + t**2))


def test_the_lower_triangle_is_filled_row_by_row() -> None:
    """Correlations of three effects from the rows of [[1], [a, 1], [b, c, 1]], each scaled to length one."""
    a, b, c = 0.5, -0.4, 0.8
    unit = np.array([[1, 0, 0], [a, 1, 0], [b, c, 1]])
    rows = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    with double_precision():
        L = np.asarray(COVARIANCES["us"].cholesky(np.array([0.0, 0.0, 0.0, a, b, c]), 3))
    np.testing.assert_allclose(L @ L.T, rows @ rows.T, atol=1e-14)


def test_an_unknown_structure_is_named() -> None:
    with pytest.raises(FormulaError, match=r"Unknown covariance structure 'dig'. Did you mean 'diag'"):
        resolve_covariance("dig")


def homogeneous_cholesky(theta: Any, q: int) -> Any:
    return jnp.exp(theta[0]) * jnp.eye(q)


def homogeneous_start(Sigma: np.ndarray) -> np.ndarray:
    return np.array([0.5 * np.log(np.mean(np.diag(Sigma)))])


def test_a_private_structure_is_used_by_its_name() -> None:
    """One variance for intercept and slope: the same as independent effects whose standard deviations are tied."""
    data = data_for("poisson")
    private = Covariance("same", lambda q: 1, homogeneous_cholesky, homogeneous_start, correlated=False)
    fit = gj.glmm("y ~ x + same(1 + x | g)", data, "poisson", covariances={"same": private})
    tied = gj.glmm("y ~ x + (x || g)", data, "poisson", fixed={"theta": gj.tied([0, 0])})
    assert fit.df == tied.df == 3
    assert fit.llf == pytest.approx(tied.llf, abs=1e-7)
    assert fit.terms[0].sd[0] == fit.terms[0].sd[1]
    with pytest.raises(gj.FormulaError, match="Unknown covariance structure 'same'"):
        gj.glmm("y ~ x + same(1 + x | g)", data, "poisson")
    with pytest.raises(gj.FormulaError, match=r"must be a glmmjax.covariance.Covariance"):
        gj.glmm("y ~ x + same(1 + x | g)", data, "poisson", covariances={"same": 3})  # type: ignore[dict-item]
