"""A likelihood of one's own: the same model through every door and structure, exact cases, simulation, keeping."""

from __future__ import annotations

import pickle
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from likelihoods import (
    EACH,
    GROUPS,
    NORMAL_START,
    WALK_START,
    count_data,
    normal_data,
    normal_fit,
    normal_nll,
    normal_row_fit,
    normal_simulate,
    walk_nll,
)
from scipy import integrate, stats
from scipy.special import gammaln

import glmmjax as gj


def exact_nll(flat: np.ndarray) -> float:
    """The marginal likelihood of the normal model from its covariance matrix."""
    data = normal_data()
    sd = np.exp(flat[2:])
    same = data["group"][:, None] == data["group"][None, :]
    V = sd[0] ** 2 * same + sd[1] ** 2 * np.eye(len(same))
    return -stats.multivariate_normal(flat[0] + flat[1] * data["x"], V).logpdf(data["y"])


def test_normal_model_equals_its_closed_form_and_the_formula() -> None:
    fit = normal_fit()
    assert fit.status == "converged"
    assert -fit.llf == pytest.approx(exact_nll(fit.flat), rel=1e-12)
    formula = gj.glmm("y ~ x + (1 | group)", normal_data())
    assert fit.llf == pytest.approx(formula.llf, abs=1e-8)
    np.testing.assert_allclose(fit.params[:2], formula.params, atol=1e-6)
    np.testing.assert_allclose(fit.bse[:2], formula.bse, rtol=1e-5)
    np.testing.assert_allclose(fit.modes["u"], formula.ranef()["group"].iloc[:, 0], atol=1e-6)


def test_the_model_by_observation_is_the_same() -> None:
    whole, rows = normal_fit(), normal_row_fit()
    assert rows.status == "converged"
    assert rows.llf == pytest.approx(whole.llf, abs=1e-9)
    np.testing.assert_allclose(rows.flat, whole.flat, atol=1e-6)
    np.testing.assert_allclose(rows.bse, whole.bse, rtol=1e-5)
    np.testing.assert_allclose(rows.ranef()["group"].iloc[:, 0], whole.modes["u"], atol=1e-6)
    assert rows.nobs == whole.nobs == GROUPS * EACH
    assert rows.aic == pytest.approx(whole.aic) and rows.bic == pytest.approx(whole.bic)


STRUCTURES: dict[str, Any] = {
    "dense": gj.Dense(),
    "default": None,
    "blocks": gj.Blocks(),
    "banded": gj.Banded(1),
    "diagonal": gj.Banded(0),
    "sparse": gj.Sparse(scipy.sparse.eye(GROUPS)),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_structure_gives_the_same_fit(name: str) -> None:
    fit = gj.fit(normal_nll, NORMAL_START, {"u": np.zeros(GROUPS)}, normal_data(), STRUCTURES[name])
    assert fit.status == "converged"
    assert fit.llf == pytest.approx(normal_fit().llf, abs=1e-9)
    np.testing.assert_allclose(fit.hessian, normal_fit().hessian, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fit.sdreport().random_se["u"], normal_fit().sdreport().random_se["u"], rtol=1e-5)
    word = {"default": "dense", "diagonal": "banded"}.get(name, name)
    assert fit.structure.startswith(word)


def test_a_state_space_model_is_the_same_dense_banded_and_sparse() -> None:
    pattern = scipy.sparse.diags([1.0, 1.0, 1.0], [-1, 0, 1], shape=(60, 60))
    fits = [
        gj.fit(walk_nll, WALK_START, {"level": np.zeros(60)}, count_data(), structure)
        for structure in (gj.Dense(), gj.Banded(1), gj.Banded(3), gj.Sparse(pattern))
    ]
    for fit in fits:
        assert fit.status == "converged"
        assert fit.llf == pytest.approx(fits[0].llf, abs=1e-8)
        np.testing.assert_allclose(fit.flat, fits[0].flat, atol=1e-5)
        np.testing.assert_allclose(fit.hessian, fits[0].hessian, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(fit.sdreport().random_se["level"], fits[0].sdreport().random_se["level"], rtol=1e-5)


def test_crossed_factors() -> None:
    """Two crossed factors as an opaque likelihood, by observation, and as a formula."""
    rng = np.random.default_rng(3)
    a, b = np.repeat(np.arange(9), 5), np.tile(np.arange(5), 9)
    y = rng.poisson(np.exp(0.5 + 0.5 * rng.normal(size=9)[a] + 0.4 * rng.normal(size=5)[b])).astype(float)
    data = {"y": y, "a": a, "b": b}

    def nll(params: Any, random: Any, data: Any) -> Any:
        sd = jnp.exp(params["log_sd"])
        eta = params["mu"] + sd[0] * random["a"][data["a"]] + sd[1] * random["b"][data["b"]]
        prior = sum(-jnp.sum(-0.5 * u**2 - 0.5 * jnp.log(2 * jnp.pi)) for u in random.values())
        return prior + jnp.sum(jnp.exp(eta) - data["y"] * eta)

    def row(params: Any, effects: Any, row: Any) -> Any:
        sd = jnp.exp(params["log_sd"])
        eta = params["mu"] + sd[0] * effects["a"][0] + sd[1] * effects["b"][0]
        return jnp.exp(eta) - row["y"] * eta

    start = {"mu": 0.0, "log_sd": np.full(2, -1.0)}
    whole = gj.fit(nll, start, {"a": np.zeros(9), "b": np.zeros(5)}, data, gj.Crossed())
    rows = gj.fit_observations(row, start, {"a": 1, "b": 1}, data)
    formula = gj.glmm("y ~ 1 + (1 | a) + (1 | b)", data, "poisson")
    linked = gj.glmm("y ~ 1 + (1 | a) + (1 | b)", data, "poisson", control=gj.Control(structure="linked"))
    base = -np.sum(gammaln(y + 1.0))  # the terms that the likelihood of one's own leaves out
    for fit in (whole, rows):
        assert fit.status == "converged" and fit.structure.startswith("crossed")
        assert fit.llf == pytest.approx(formula.llf - base, abs=1e-8)
        np.testing.assert_allclose(fit.modes["b"].reshape(-1), rows.modes["b"].reshape(-1), atol=1e-6)
    assert linked.llf == pytest.approx(formula.llf, abs=1e-9)
    np.testing.assert_allclose(linked.hessian, formula.hessian, rtol=1e-6, atol=1e-6)


def test_one_nonlinear_effect_is_near_quadrature() -> None:
    """Growth curves with a random asymptote: each tree's integral by SciPy."""
    rng = np.random.default_rng(4)
    t = np.tile([1.0, 2.0, 4.0, 7.0], 6)
    tree = np.repeat(np.arange(6), 4)
    y = (5.0 + rng.normal(size=6)[tree]) / (1 + np.exp(2 - t)) + 0.3 * rng.normal(size=24)

    def mean(params: Any, u: Any, t: Any) -> Any:
        return (params["a"] + jnp.exp(params["log_tau"]) * u) / (1 + jnp.exp(params["b"] - t))

    def row(params: Any, effects: Any, row: Any) -> Any:
        z = (row["y"] - mean(params, effects["tree"][0], row["t"])) / jnp.exp(params["log_sigma"])
        return 0.5 * z**2 + params["log_sigma"] + 0.5 * jnp.log(2 * jnp.pi)

    start = {"a": 4.0, "b": 1.0, "log_tau": 0.0, "log_sigma": 0.0}
    fit = gj.fit_observations(row, start, {"tree": 1}, {"y": y, "t": t, "tree": tree})
    assert fit.status == "converged"
    p = {k: float(v) for k, v in fit.estimates.items()}

    def joint(u: float, g: int) -> float:
        own = tree == g
        m = (p["a"] + np.exp(p["log_tau"]) * u) / (1 + np.exp(p["b"] - t[own]))
        return float(np.exp(stats.norm.logpdf(y[own], m, np.exp(p["log_sigma"])).sum() + stats.norm.logpdf(u)))

    exact = sum(np.log(integrate.quad(joint, -8, 8, args=(g,), points=[0])[0]) for g in range(6))
    assert fit.llf == pytest.approx(exact, abs=1e-6)  # gaussian in u: the Laplace approximation is exact


def test_no_random_effects() -> None:
    data = {"y": np.array([1.0, 2.0, 4.0])}
    fit = gj.fit(lambda p, r, d: jnp.sum(jnp.exp(p["a"]) - d["y"] * p["a"]), {"a": 0.0}, data=data)
    assert fit.params["a"] == pytest.approx(np.log(7 / 3))
    assert fit.bse["a"] == pytest.approx(1 / np.sqrt(7))
    assert fit.structure == "no random effects"


def test_profiled_parameters_of_a_normal_model() -> None:
    """Gaussian in beta and u together: profiling beta out changes nothing but the number of outer parameters."""
    full = normal_fit()
    fit = gj.fit(
        normal_nll, NORMAL_START, {"u": np.zeros(GROUPS)}, normal_data(), gj.Blocks(), profile=["beta"], control=None
    )
    assert fit.status == "converged" and list(fit.params.index) == ["log_sd[0]", "log_sd[1]"]
    assert fit.llf == pytest.approx(full.llf, abs=1e-8)
    report = fit.sdreport()
    np.testing.assert_allclose(report.params["beta"], full.estimates["beta"], atol=1e-6)
    np.testing.assert_allclose(report.params_se["beta"], full.bse[:2], rtol=1e-4)
    np.testing.assert_allclose(report.params_se["log_sd"], full.bse[2:], rtol=1e-5)
    np.testing.assert_allclose(report.random_se["u"], full.sdreport().random_se["u"], rtol=1e-4)
    assert "bordered by 2 effects" in fit.structure
    assert fit.df == full.df and fit.aic == pytest.approx(full.aic)
    assert f"{GROUPS} integrated out" in str(fit.summary())


@pytest.mark.parametrize(
    "optimizer",
    ["jaxopt-bfgs", *(pytest.param(name, marks=pytest.mark.slow) for name in ("jaxopt-lbfgs", "scipy-bfgs"))],
)
def test_other_optimizers(optimizer: str) -> None:
    control = gj.Control(optimizer=optimizer)
    fit = gj.fit(normal_nll, NORMAL_START, {"u": np.zeros(GROUPS)}, normal_data(), gj.Blocks(), control=control)
    assert fit.status == "converged"
    assert fit.llf == pytest.approx(normal_fit().llf, abs=1e-9)


@pytest.mark.parametrize("shared_bytes", [0.0, 1e12])
def test_updated_hessians_lead_to_the_same_optimum(shared_bytes: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a factorization is expensive, the Hessian is exact at the ends only, one direction after the other."""
    from glmmjax import programs
    from glmmjax.hessians import DenseHessian

    monkeypatch.setattr(DenseHessian, "costly", property(lambda self: True))
    monkeypatch.setattr(DenseHessian, "shared_bytes", property(lambda self: shared_bytes))
    programs._compiled.clear()  # the programs of this structure were compiled for other settings
    fit = gj.fit(normal_nll, NORMAL_START, {"u": np.zeros(GROUPS)}, normal_data(), gj.Dense())
    programs._compiled.clear()
    assert fit.status == "converged"
    np.testing.assert_allclose(fit.flat, normal_fit().flat, atol=1e-5)
    np.testing.assert_allclose(fit.hessian, normal_fit().hessian, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(fit.sdreport().random_se["u"], normal_fit().sdreport().random_se["u"], rtol=1e-5)


def test_a_fit_can_be_kept(tmp_path: Any) -> None:
    fit = normal_fit()
    fit.save(tmp_path / "fit")
    again = gj.load(tmp_path / "fit")
    assert isinstance(again, gj.Fit) and again.llf == fit.llf
    assert again.sdreport().report["icc"] == fit.sdreport().report["icc"]
    assert pickle.loads(pickle.dumps(fit)).summary().as_text() == fit.summary().as_text()


def test_a_lambda_cannot_be_kept_and_says_so(tmp_path: Any) -> None:
    fit = gj.fit(lambda p, r, d: (p["a"] - 1.0) ** 2, {"a": 0.0})
    with pytest.raises(gj.FitError, match="top level of a module"):
        fit.save(tmp_path / "fit")


def test_summary_names_what_is_there() -> None:
    text = normal_fit().summary().as_text()
    for word in ("converged", "log_sd[0]", "icc", "12 integrated out", "blocks"):
        assert word in text
    assert "log_sd[1]" in normal_fit().summary().as_html()
    assert "Fit of a likelihood" in repr(normal_fit())


# -- simulation --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [normal_fit, normal_row_fit])
def test_simulated_data_look_like_the_model(make: Any) -> None:
    fit = make()
    draws = fit.simulate(400, seed=1)
    sd = np.exp(fit.estimates["log_sd"])
    y = np.stack([draw.data["y"] for draw in draws])
    mean = fit.estimates["beta"][0] + fit.estimates["beta"][1] * normal_data()["x"]
    assert np.abs(np.mean(y, axis=0) - mean).max() < 5 * np.hypot(*sd) / 20
    assert np.var(y - mean) == pytest.approx(np.sum(sd**2), rel=0.1)
    held = fit.simulate(200, seed=1, re="conditional")
    u = np.asarray(fit.modes["u" if "u" in fit.modes else "group"]).reshape(-1)[normal_data()["group"]]
    residual = np.mean([draw.data["y"] for draw in held], axis=0) - mean - u
    assert np.abs(residual).max() < 5 * sd[1] / np.sqrt(200)
    np.testing.assert_array_equal(fit.simulate(1, seed=1)[0].data["y"], draws[0].data["y"])


def test_simulation_needs_a_simulator() -> None:
    fit = gj.fit(walk_nll, WALK_START, {"level": np.zeros(60)}, count_data(), gj.Banded(1))
    with pytest.raises(gj.FitError, match="simulate="):
        fit.simulate()
    with pytest.raises(gj.ArgumentError, match="re="):
        normal_fit().simulate(re="none")


def test_a_simulator_that_changes_shapes_is_refused() -> None:
    def shorter(key: Any, params: Any, random: Any, data: Any) -> Any:
        random, data = normal_simulate(key, params, random, data)
        return random, {**data, "y": data["y"][1:]}

    fit = gj.fit(normal_nll, NORMAL_START, {"u": np.zeros(GROUPS)}, normal_data(), gj.Blocks(), simulate=shorter)
    with pytest.raises(gj.ArgumentError, match="change their shape"):
        fit.simulate()
