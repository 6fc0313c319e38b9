"""One-step-ahead residuals against the innovations of a normal model, and against quadrature for counts."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from likelihoods import GROUPS, normal_data, normal_fit, normal_row_fit
from scipy import integrate, stats

import glmmjax as gj


def test_normal_residuals_are_the_standardized_innovations() -> None:
    """``L^-1 (y - X beta)`` with the Cholesky factor L of the marginal covariance, in the order of observation."""
    fit, data = normal_row_fit(), normal_data()
    sd = np.exp(fit.estimates["log_sd"])
    V = sd[0] ** 2 * (data["group"][:, None] == data["group"][None, :]) + sd[1] ** 2 * np.eye(len(data["y"]))
    residual = data["y"] - fit.estimates["beta"][0] - fit.estimates["beta"][1] * data["x"]
    np.testing.assert_allclose(fit.one_step_ahead("y"), np.linalg.solve(np.linalg.cholesky(V), residual), atol=1e-5)
    order = np.random.default_rng(0).permutation(len(residual))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    L = np.linalg.cholesky(V[np.ix_(order, order)])
    np.testing.assert_allclose(
        fit.one_step_ahead("y", order=rank)[order], np.linalg.solve(L, residual[order]), atol=1e-5
    )


def count_row(params: Any, effects: Any, row: Any) -> Any:
    eta = params["mu"] + jnp.exp(params["log_sd"]) * effects["g"][0]
    return jnp.exp(eta) - row["y"] * eta + gammaln_of(row["y"])


def gammaln_of(y: Any) -> Any:
    from jax.scipy.special import gammaln

    return gammaln(y + 1.0)


@pytest.fixture(scope="module")
def counts() -> gj.Fit:
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(10), 3)
    y = rng.poisson(np.exp(0.8 + 0.6 * rng.normal(size=10)[g])).astype(float)
    return gj.fit_observations(count_row, {"mu": 0.0, "log_sd": 0.0}, {"g": 1}, {"y": y, "g": g})


def test_residuals_of_counts_are_near_quadrature(counts: gj.Fit) -> None:
    y, g = counts.data.rows["y"], np.repeat(np.arange(10), 3)
    mu, sd = float(counts.estimates["mu"]), float(np.exp(counts.estimates["log_sd"]))
    U = stats.norm.cdf(counts.one_step_ahead("y", support="counts", seed=3))
    v = np.random.default_rng(3).uniform(size=30)
    exact = np.empty(30)
    for i in range(30):
        past = [j for j in range(i) if g[j] == g[i]]

        def weight(b: float, values: Any) -> float:
            return float(np.prod(stats.poisson.pmf(values, np.exp(mu + sd * b))) * stats.norm.pdf(b))

        whole = integrate.quad(weight, -8, 8, args=(y[past],))[0]
        below = [integrate.quad(weight, -8, 8, args=(np.append(y[past], k),))[0] for k in np.arange(y[i] + 1)]
        exact[i] = (sum(below[:-1]) + v[i] * below[-1]) / whole
    np.testing.assert_allclose(U, exact, atol=0.01)


def test_a_given_support_is_the_same_as_counts(counts: gj.Fit) -> None:
    largest = float(np.max(counts.data.rows["y"]))
    ours = counts.one_step_ahead("y", support=np.arange(3 * largest + 30), seed=3)
    np.testing.assert_allclose(ours, counts.one_step_ahead("y", support="counts", seed=3), atol=1e-10)


def test_arguments(counts: gj.Fit) -> None:
    with pytest.raises(gj.FitError, match="fit_observations"):
        normal_fit().one_step_ahead("y")
    fit = normal_row_fit()
    with pytest.raises(gj.ArgumentError, match="no column is called 'z'"):
        fit.one_step_ahead("z")
    with pytest.raises(gj.ArgumentError, match="support='count'"):
        fit.one_step_ahead("y", support="count")
    with pytest.raises(gj.DataError, match="not all whole numbers"):
        fit.one_step_ahead("y", support="counts")
    with pytest.raises(gj.DataError, match="is not among the possible"):
        counts.one_step_ahead("y", support=[0.0])
    with pytest.raises(gj.DataError, match="order must have 60"):
        fit.one_step_ahead("y", order=np.arange(GROUPS))


def test_whole_numbers_must_say_what_they_are(counts: gj.Fit) -> None:
    with pytest.raises(gj.ArgumentError, match="support='counts'"):
        counts.one_step_ahead("y")
