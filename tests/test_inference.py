"""Standard errors, corrections, profiles and consistency, from every door, against closed forms and brute force."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from likelihoods import (
    GROUPS,
    NORMAL_START,
    WALK_START,
    count_data,
    normal_data,
    normal_fit,
    normal_nll,
    normal_report,
    normal_row_fit,
    walk_nll,
)
from scipy import optimize, stats
from test_likelihood import exact_nll

import glmmjax as gj

DOORS = [normal_fit, pytest.param(normal_row_fit, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def walk() -> gj.Fit:
    return gj.fit(walk_nll, WALK_START, {"level": np.zeros(60)}, count_data(), gj.Banded(1))


def posterior(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the effects of the normal model given the data and the parameters."""
    data = normal_data()
    sd = np.exp(flat[2:])
    Z = np.eye(GROUPS)[data["group"]]
    precision = Z.T @ Z / sd[1] ** 2 + np.eye(GROUPS) / sd[0] ** 2
    covariance = np.linalg.inv(precision)
    return covariance @ Z.T @ (data["y"] - flat[0] - flat[1] * data["x"]) / sd[1] ** 2, covariance


def jacobian(f: Any, x: np.ndarray) -> np.ndarray:
    return optimize.approx_fprime(x, f, 1e-6)


# -- sdreport ----------------------------------------------------------------------------------------------------------
def test_shapes_are_those_of_the_model() -> None:
    report = normal_fit().sdreport()
    assert set(report.params) == set(report.params_se) == {"beta", "log_sd"}
    assert report.params_se["beta"].shape == (2,) and report.random_se["u"].shape == (GROUPS,)
    assert set(report.report) == {"icc", "first"}
    assert report.report_vcov is not None and report.report_vcov.shape == (2, 2)
    assert list(report.to_frame("random").index)[:2] == ["u[0]", "u[1]"]
    with pytest.raises(gj.ArgumentError, match="bias_corrected"):
        report.to_frame("bias_corrected")


def test_errors_of_modes_and_reports_equal_the_formula() -> None:
    """``D_u V_u D_u' + A V A'`` with the posterior's closed form and finite differences."""
    fit = normal_fit()
    V = fit.vcov
    _, covariance = posterior(fit.flat)
    J = jacobian(lambda x: posterior(x)[0], fit.flat)
    exact = np.sqrt(np.diag(covariance + J @ V @ J.T))
    report = fit.sdreport()
    np.testing.assert_allclose(report.random_se["u"], exact, rtol=1e-4)

    def both(x: np.ndarray) -> np.ndarray:
        sd = np.exp(x[2:])
        return np.array([x[0] + posterior(x)[0][0], sd[0] ** 2 / np.sum(sd**2)])

    A = jacobian(both, fit.flat)
    vcov = A @ V @ A.T
    vcov[0, 0] += covariance[0, 0]
    np.testing.assert_allclose(report.report["first"], both(fit.flat)[0], rtol=1e-6)
    np.testing.assert_allclose(report.report_vcov, vcov, rtol=1e-4, atol=1e-8)
    assert report.report_se["icc"] == pytest.approx(np.sqrt(vcov[1, 1]), rel=1e-4)


def test_many_reported_numbers_have_variances_only() -> None:
    fit = normal_fit()
    many = fit.sdreport(lambda p, r, d: jnp.tile(r["u"], 100))
    assert many.report_vcov is None
    np.testing.assert_allclose(many.report_se[:GROUPS], fit.sdreport().random_se["u"], rtol=1e-8)


def test_the_joint_precision_is_the_inverse_of_the_joint_covariance() -> None:
    fit = normal_fit()
    Q = fit.sdreport(joint_precision=True).joint_precision
    assert Q is not None and list(Q.index[-4:]) == list(fit.parameter_names)
    joint = np.linalg.inv(Q.to_numpy())
    np.testing.assert_allclose(joint[GROUPS:, GROUPS:], fit.vcov, rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(joint)[:GROUPS]), fit.sdreport().random_se["u"], rtol=1e-6)


def test_the_joint_precision_knows_what_is_held_or_tied() -> None:
    """Its inverse has the standard errors of the fit; what is held has no row, what is tied one for all."""
    data = normal_data()
    for fixed, label in (
        ({"beta": [np.nan, 0.5]}, "beta[0]"),
        ({"beta": gj.tied(["a", "a"])}, "beta[0] = beta[1]"),
    ):
        fit = gj.fit(normal_nll, NORMAL_START, {"u": np.zeros(GROUPS)}, data, gj.Blocks(), fixed=fixed)
        Q = fit.sdreport(joint_precision=True).joint_precision
        assert list(Q.index[GROUPS:]) == [label, "log_sd[0]", "log_sd[1]"]
        covariance = np.linalg.inv(Q.to_numpy())
        assert np.sqrt(covariance[GROUPS, GROUPS]) == pytest.approx(fit.bse["beta[0]"], rel=1e-6)
        np.testing.assert_allclose(np.sqrt(np.diag(covariance)[:GROUPS]), fit.sdreport().random_se["u"], rtol=1e-6)


def test_limits_of_a_parameter_that_is_held_are_missing() -> None:
    data = normal_data()
    fit = gj.fit(normal_nll, NORMAL_START, {"u": np.zeros(GROUPS)}, data, gj.Blocks(), fixed={"beta": [np.nan, 0.5]})
    limits = fit.conf_int(method="uniroot")
    assert limits.loc["beta[1]"].isna().all() and limits.drop("beta[1]").notna().all(axis=None)


def test_a_report_from_the_formula_door() -> None:
    fit = gj.glmm("y ~ x + (1 | group)", normal_data())
    report = fit.sdreport(lambda p, r, d: {"first": p["beta"][0] + r["1 | group"][0, 0]})
    ours = normal_fit().sdreport()
    assert report.report["first"] == pytest.approx(ours.report["first"], abs=1e-5)
    assert report.report_se["first"] == pytest.approx(ours.report_se["first"], rel=1e-4)
    np.testing.assert_allclose(report.random_se["1 | group"][:, 0], ours.random_se["u"], rtol=1e-4)


def test_reports_that_are_not_numbers() -> None:
    with pytest.raises(gj.ArgumentError, match="report must return numbers"):
        normal_fit().sdreport(lambda p, r, d: "text")
    bare = gj.fit(lambda p, r, d: (p["a"] - 1.0) ** 2, {"a": 0.0})
    with pytest.raises(gj.ArgumentError, match="needs report="):
        bare.sdreport(bias_correct=True)


# -- bias correction ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", DOORS)
def test_epsilon_method_is_exact_for_the_lognormal_mean(make: Any) -> None:
    """``E[exp u] = exp(mean + variance / 2)`` where the posterior is normal, to the order of the approximation."""
    fit = make()
    name = "u" if "u" in fit.modes else "group"
    report = fit.sdreport(lambda p, r, d: jnp.exp(r[name].reshape(-1)[0]), bias_correct=True)
    mean, covariance = posterior(fit.flat)

    def expected(x: np.ndarray) -> np.ndarray:
        m, C = posterior(x)
        return np.array([np.exp(m[0] + 0.5 * C[0, 0])])

    plain, corrected = np.exp(mean[0]), expected(fit.flat)[0]
    assert report.report == pytest.approx(plain, rel=1e-6)
    assert abs(report.bias_corrected - corrected) < 0.1 * abs(plain - corrected)
    # the sum u is gaussian: mean and variance are exact
    total = fit.sdreport(lambda p, r, d: jnp.sum(r[name]), bias_correct=True)
    J = jacobian(lambda x: np.array([posterior(x)[0].sum()]), fit.flat)
    variance = covariance.sum() + (J @ fit.vcov @ J.T).item()
    assert total.bias_corrected == pytest.approx(mean.sum(), abs=1e-6)
    assert total.bias_corrected_se == pytest.approx(np.sqrt(variance), rel=1e-4)


def test_a_report_that_couples_all_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    """The square of their sum, gaussian given the data: its mean is known, its Hessian dense."""
    fit = normal_fit()
    square = lambda p, r, d: jnp.sum(r["u"]) ** 2  # noqa: E731
    report = fit.sdreport(square, bias_correct=True)
    mean, covariance = posterior(fit.flat)
    assert report.report == pytest.approx(mean.sum() ** 2, abs=1e-6)
    assert report.bias_corrected == pytest.approx(mean.sum() ** 2 + covariance.sum(), rel=1e-6)
    monkeypatch.setattr("glmmjax.inference.delta.LARGEST_DENSE", 5)
    with pytest.raises(gj.FitError, match="couples random effects"):
        fit.sdreport(square, bias_correct=True)


# -- profiles ----------------------------------------------------------------------------------------------------------
def exact_profile_root(position: int, z: float) -> float:
    """The profile limit of the normal model by nested optimization of its closed form."""
    fit = normal_fit()

    def rise(t: float) -> float:
        def rest(x: np.ndarray) -> float:
            return exact_nll(np.insert(x, position, t))

        best = optimize.minimize(rest, np.delete(fit.flat, position), method="BFGS", options={"gtol": 1e-7}).fun
        return 2.0 * (best + fit.llf) - z**2

    step = np.sign(z) * np.sqrt(fit.vcov[position, position])
    return optimize.brentq(rise, fit.flat[position] + 0.3 * step, fit.flat[position] + 5 * step, xtol=1e-7)


@pytest.mark.parametrize("name", ["beta[1]", "log_sd[0]"])
def test_profile_limits_equal_those_of_the_closed_form(name: str) -> None:
    fit = normal_fit()
    exact = [exact_profile_root(fit.position(name), z) for z in (-1.959964, 1.959964)]
    roots = fit.conf_int(method="uniroot", parameters=[name]).to_numpy()[0]
    curve = fit.conf_int(method="profile", parameters=[name]).to_numpy()[0]
    np.testing.assert_allclose(roots, exact, atol=2e-6)
    np.testing.assert_allclose(curve, exact, atol=2e-3)
    points = fit.profile(name).points
    assert np.all(np.diff(points["zeta"]) > 0) and np.all(np.diff(points["value"]) > 0)
    np.testing.assert_allclose(points["nll"].min(), -fit.llf)


def test_linear_combinations() -> None:
    """The sum of two parameters, as the parameter of another writing of the model."""
    fit = normal_fit()

    def moved(params: Any, random: Any, data: Any) -> Any:
        beta = jnp.stack([params["total"] - params["slope"], params["slope"]])
        return normal_nll({"beta": beta, "log_sd": params["log_sd"]}, random, data)

    start = {"total": 0.0, "slope": 0.0, "log_sd": np.zeros(2)}
    other = gj.fit(moved, start, {"u": np.zeros(GROUPS)}, normal_data(), gj.Blocks())
    theirs = other.conf_int(method="uniroot", parameters=["total"]).to_numpy()[0]
    low, high = fit.profile({"beta[0]": 1.0, "beta[1]": 1.0}).conf_int(0.95)
    np.testing.assert_allclose([low, high], theirs, atol=2e-3)
    both = {"beta[0]": 1.0, "beta[1]": 1.0}
    roots = fit.conf_int(method="uniroot", parameters=[both])
    assert list(roots.index) == ["1 beta[0] + 1 beta[1]"]
    np.testing.assert_allclose(roots.to_numpy()[0], theirs, atol=1e-5)
    wald = fit.conf_int(parameters=[both]).to_numpy()[0]
    np.testing.assert_allclose(wald, other.conf_int(parameters=["total"]).to_numpy()[0], atol=1e-5)


def test_profile_of_a_formula_equals_that_of_the_likelihood() -> None:
    formula = gj.glmm("y ~ x + (1 | group)", normal_data())
    ours = formula.conf_int(method="uniroot").to_numpy()
    theirs = normal_fit().conf_int(method="uniroot", parameters=["beta[0]", "beta[1]"]).to_numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_arguments_of_profiles() -> None:
    fit = normal_fit()
    with pytest.raises(gj.ArgumentError, match="No parameter is called"):
        fit.profile("beta")
    assert list(fit.conf_int(method="uniroot", parameters="beta[0]").index) == ["beta[0]"]
    twice = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
    np.testing.assert_array_equal(fit.conf_int(parameters=twice), fit.conf_int(parameters=["beta[0]", "beta[1]"]))
    with pytest.raises(gj.ArgumentError, match="4 coefficients"):
        fit.profile([1.0, 2.0])
    with pytest.raises(gj.ArgumentError, match="method must be"):
        fit.conf_int(method="exact")
    with pytest.raises(gj.FitError, match="was not followed"):
        fit.profile("beta[0]", level=0.5).conf_int(0.99)
    held = gj.fit(normal_nll, NORMAL_START, {"u": np.zeros(GROUPS)}, normal_data(), gj.Blocks(), fixed={"beta": True})
    with pytest.raises(gj.ArgumentError, match="held fixed"):
        held.profile("beta[0]")


# -- consistency -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", DOORS)
def test_an_exact_approximation_is_consistent(make: Any) -> None:
    result = gj.check.consistency(make(), 200, seed=1)
    assert result.failed == 0 and result.joint.shape == result.marginal.shape == (200, 4)
    assert result.joint_p_value > 0.01 and result.marginal_p_value > 0.01
    assert np.all(np.abs(result.bias) < 4 * result.bias_se)
    assert "agree" in str(result)


def test_a_simulator_that_disagrees_is_found() -> None:
    def wrong(key: Any, params: Any, random: Any, data: Any) -> Any:
        from likelihoods import normal_simulate

        random, data = normal_simulate(key, params, random, data)
        return random, {**data, "y": data["y"] + 0.5}

    fit = gj.fit(normal_nll, NORMAL_START, {"u": np.zeros(GROUPS)}, normal_data(), gj.Blocks(), simulate=wrong)
    result = gj.check.consistency(fit, 100)
    assert result.joint_p_value < 1e-6 and "DISAGREE" in str(result)


def test_tiny_binary_clusters_are_biased() -> None:
    """Two binary outcomes in each group and a large variance: the approximation is known to be poor."""
    rng = np.random.default_rng(6)
    g = np.repeat(np.arange(150), 2)
    y = (0.5 + 2.0 * rng.normal(size=150)[g] + rng.logistic(size=300) > 0).astype(float)
    fit = gj.glmm("y ~ 1 + (1 | g)", {"y": y, "g": g}, "binomial")
    result = gj.check.consistency(fit, 300)
    assert result.joint_p_value > 0.01
    assert result.marginal_p_value < 0.01
    assert "biased" in str(result)


def test_arguments_of_consistency(walk: gj.Fit) -> None:
    with pytest.raises(gj.ArgumentError, match="above"):
        gj.check.consistency(normal_fit(), 3)
    with pytest.raises(gj.FitError, match="simulate="):
        gj.check.consistency(walk, 50)


@pytest.mark.slow
def test_a_report_along_a_walk(walk: gj.Fit) -> None:
    """The last level minus the first, through a banded Hessian and a dense one."""
    dense = gj.fit(walk_nll, WALK_START, {"level": np.zeros(60)}, count_data(), gj.Dense())
    gain = lambda p, r, d: {"gain": r["level"][-1] - r["level"][0], "mean": jnp.exp(r["level"])}  # noqa: E731
    ours, theirs = walk.sdreport(gain, bias_correct=True), dense.sdreport(gain, bias_correct=True)
    np.testing.assert_allclose(ours.report_se["gain"], theirs.report_se["gain"], rtol=1e-5)
    np.testing.assert_allclose(ours.report_se["mean"], theirs.report_se["mean"], rtol=1e-5)
    np.testing.assert_allclose(ours.bias_corrected["mean"], theirs.bias_corrected["mean"], rtol=1e-6)
    np.testing.assert_allclose(ours.bias_corrected_se["mean"], theirs.bias_corrected_se["mean"], rtol=1e-4)


def test_normal_report_is_reported_by_default() -> None:
    again = normal_fit().sdreport(normal_report)
    assert again.report["icc"] == normal_fit().sdreport().report["icc"]
    assert stats.norm.ppf(0.975) * normal_fit().bse["beta[0]"] == pytest.approx(
        normal_fit().params["beta[0]"] - normal_fit().conf_int().loc["beta[0]", "lower"]
    )
