"""Components together: zero inflation, dispersion, restricted likelihood, priors, ordered and unordered categories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from laws import LAWS as OWN_LAWS
from laws import TRIALS, scipy_skewnorm
from laws_counts import LAWS as COUNT_LAWS
from problems import central_differences
from scipy import integrate, optimize, stats

import glmmjax as gj
from glmmjax._precision import double_precision
from glmmjax.coordinates import orthonormal_scale
from glmmjax.design import build_design
from glmmjax.families import FAMILIES, Given, zero_inflated
from glmmjax.fitting import bind, read_formulas
from glmmjax.formula_fit import Options
from glmmjax.hessians import zeros
from glmmjax.laplace import marginal_derivatives
from glmmjax.layout import lay_out
from glmmjax.model import joint_model
from glmmjax.programs import QUICK
from glmmjax.start import start_values

LAWS = {**OWN_LAWS, **COUNT_LAWS}
GROUPS, PER_GROUP = 10, 14

# Every family under each of its links with every component, with an intercept and with a slope that varies.
COMPONENTS = {
    "plain": {},
    "zi": {"zi": "~ x + (1 | g)"},
    "disp": {"disp": "~ x + (1 | g)"},
    "zi + disp": {"zi": "~ x", "disp": "~ x"},
}
EFFECTS = ("(1 | g)", "(x | g)")
TABLE = [
    (name, link, parts, random)
    for name in LAWS
    for link in FAMILIES[name](None).links
    for parts in COMPONENTS
    for random in EFFECTS
    if "disp" not in parts or FAMILIES[name](None).has_dispersion
]


def responses(family: Any, rng: np.random.Generator, x: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Responses drawn with a group effect, near the middle of what the law tries."""
    law = LAWS[family.name]
    # under an identity link the modes of groups with few counts lie at the wall, a mean of zero: stay away from it
    walled = family.response == "count" and family.link.name == "identity"
    mu0 = max(law.mu) if walled else sorted(law.mu)[len(law.mu) // 2]
    phi, psi = sorted(law.phi)[len(law.phi) // 2], law.psi[0]
    center = float(family.link.link(mu0))
    eta = center + 0.15 * max(abs(center), 0.5) * (0.5 * x + rng.normal(size=GROUPS)[g])
    natural = () if family.shape is None else tuple(family.shape.natural(np.array(psi)))
    mu = np.asarray(family.link.inverse(eta), dtype=float)
    return np.asarray(family.simulate(rng, Given(mu, phi, np.full(len(x), TRIALS), natural, eta={"cond": eta})))


@pytest.mark.extended
@pytest.mark.parametrize(("name", "link", "parts", "random"), TABLE)
def test_value_gradient_and_hessian(name: str, link: str, parts: str, random: str) -> None:
    """The value is finite, and each derivative equals the differences of the one below it."""
    family, others = FAMILIES[name](link), COMPONENTS[parts]
    rng = np.random.default_rng(7)
    g = np.repeat(np.arange(GROUPS), PER_GROUP)
    x = rng.uniform(-1.0, 1.0, size=len(g))
    with double_precision():
        y = responses(family, rng, x, g)
    if "zi" in others:
        y = np.where(rng.uniform(size=len(y)) < 0.25, 0.0, y)
    left = "cbind(y, n - y)" if family.response == "trials" else "y"
    texts = {"cond": f"{left} ~ x + {random}", "disp": "~ 1", "zi": "~ 0", **others}
    formulas, family, _ = read_formulas(texts, family)
    data = {"y": y, "x": x, "g": g, "n": np.full(len(y), TRIALS)}
    design, family = bind(build_design(formulas, data, response_kind=family.response), family)
    layout, arrays = lay_out(design, family)
    scale = {c: orthonormal_scale(part.X) for c, part in design.components.items()}
    params = start_values(design, family, layout, scale).params
    flat = np.concatenate([params[key] for key in sorted(params)])
    flat = flat + 0.03 * np.cos(np.arange(len(flat)))
    with double_precision():
        model = joint_model(layout)
        program = jax.jit(
            lambda flat: marginal_derivatives(model, flat, zeros(layout.structure.levels), arrays),
            compiler_options=QUICK,
        )
        at = program(flat)
        assert np.isfinite(at.value)
        slope = central_differences(lambda p: np.asarray(program(p).value), flat)
        curvature = central_differences(lambda p: np.asarray(program(p).gradient), flat)
    size = 1.0 + np.abs(at.gradient).max()
    np.testing.assert_allclose(at.gradient, slope, atol=2e-6 * max(size, abs(float(at.value))))
    np.testing.assert_allclose(at.hessian, curvature, atol=2e-5 * (1.0 + np.abs(curvature).max()))


RECOVERED: dict[str, dict[str, Any]] = {
    "poisson": {"ziformula": "~ x"},
    "truncated_nbinom2": {"ziformula": "~ x"},
    "Gamma(log)": {"ziformula": "~ 1"},
    "beta": {"ziformula": "~ 1"},
    "nbinom1": {"dispformula": "~ x"},
    "tweedie": {},
    "ordbeta": {},
    "t": {},
    "lognormal": {},
    "genpois": {},
}


@pytest.mark.extended
@pytest.mark.parametrize("name", RECOVERED)
def test_parameters_are_recovered_and_simulations_have_the_predicted_mean(name: str) -> None:
    rng = np.random.default_rng(11)
    g = np.repeat(np.arange(60), 30)
    x = rng.uniform(-1, 1, size=len(g))
    family = gj.families.resolve_family(name)
    true = {"beta": np.array([0.6, 0.4]), "beta_disp": np.array([0.7]), "beta_zi": np.array([-0.8])}
    if "x" in RECOVERED[name].get("ziformula", ""):
        true["beta_zi"] = np.array([-0.8, 0.7])
    if "dispformula" in RECOVERED[name]:
        true["beta_disp"] = np.array([0.3, 0.5])
    psi = {"tweedie": [0.3], "ordbeta": [-1.2, np.log(2.6)], "t": [np.log(4.0)]}.get(name, [])
    wrapped = zero_inflated(family) if "ziformula" in RECOVERED[name] else family

    def line(beta: np.ndarray) -> np.ndarray:
        return beta[0] + (beta[1] * x if len(beta) > 1 else 0.0)

    eta = {"cond": line(true["beta"]) + 0.5 * rng.normal(size=60)[g], "zi": line(true["beta_zi"])}
    natural = () if family.shape is None else tuple(family.shape.natural(np.array(psi)))
    phi = np.exp(line(true["beta_disp"])) * np.ones(len(x))
    with double_precision():
        mu = np.asarray(family.link.inverse(eta["cond"]), dtype=float)
    at = Given(mu, phi, 1.0, natural, 1 / (1 + np.exp(-eta["zi"])), eta)
    y = wrapped.simulate(rng, at)
    fit = gj.glmm("y ~ x + (1 | g)", {"y": y, "x": x, "g": g}, family, **RECOVERED[name])
    assert fit.converged and fit.pd_hess
    se = np.sqrt(np.diag(fit.vcov))
    for block, value in {**true, "psi": np.array(psi)}.items():
        if block in fit.estimates and len(value):
            assert np.all(np.abs(fit.estimates[block] - value) < 4.5 * se[fit.positions(block)]), block
    assert fit.terms[0].sd[0] == pytest.approx(0.5, abs=0.2)
    draws = fit.simulate(200, re="conditional")
    error = (draws.mean(axis=0) - fit.predict()) / (draws.std(axis=0) / np.sqrt(200) + 1e-9)
    assert abs(np.mean(error)) < 0.5 and np.std(error) < 1.6
    assert stats.kstest(fit.resid("quantile"), "norm").pvalue > 1e-4
    pearson = fit.resid("pearson")
    if name != "t":  # whose fourth moment is infinite
        # how far their mean square is from one depends on the tails: as far as that of simulated responses
        variance = ((y - fit.predict()) / pearson) ** 2
        squares = np.mean((draws - fit.predict()) ** 2 / variance, axis=1)
        assert np.mean(squares) == pytest.approx(1.0, abs=4.0 * np.std(squares) / np.sqrt(200))
        assert np.mean(pearson**2) == pytest.approx(1.0, abs=4.0 * np.std(squares))


# A hurdle model is two models ---------------------------------------------------------------------------------------


@cache
def salamanders() -> Any:
    return gj.datasets.load("salamanders")


def test_a_hurdle_separates_into_its_two_parts() -> None:
    data = salamanders()
    hurdle = gj.glmm("count ~ mined", data, "truncated_poisson", ziformula="~ mined")
    data = data.assign(zero=(data["count"] == 0).astype(int))
    zeros_part = gj.glmm("zero ~ mined", data, "binomial")
    rest = gj.glmm("count ~ mined", data[data["count"] > 0], "truncated_poisson")
    assert hurdle.llf == pytest.approx(zeros_part.llf + rest.llf, abs=1e-8)
    np.testing.assert_allclose(hurdle.estimates["beta"], rest.estimates["beta"], atol=1e-6)
    np.testing.assert_allclose(hurdle.estimates["beta_zi"], zeros_part.estimates["beta"], atol=1e-6)
    # truncated mean, times the probability of being there
    mu = np.exp(hurdle.predict(type="link"))
    np.testing.assert_allclose(hurdle.predict(type="conditional"), mu / -np.expm1(-mu), rtol=1e-12)
    expected = (1 - hurdle.predict(type="zprob")) * hurdle.predict(type="conditional")
    np.testing.assert_allclose(hurdle.predict(), expected, rtol=1e-12)
    assert "hurdle" in hurdle.summary().as_text()


def test_standard_errors_of_a_zero_inflated_mean_are_by_the_delta_method() -> None:
    fit = gj.glmm("count ~ mined", salamanders(), "poisson", ziformula="~ mined")
    prediction = fit.predict(se=True)
    names = ("beta", "beta_zi")
    flat = np.concatenate([fit.estimates[name] for name in names])
    X = fit.design.components["cond"].X
    mean: Callable[[np.ndarray], np.ndarray] = lambda p: np.exp(X @ p[:2]) / (1 + np.exp(X @ p[2:]))  # noqa: E731
    J = central_differences(mean, flat)
    se = np.sqrt(np.einsum("ij,jk,ik->i", J, fit.vcov, J))
    np.testing.assert_allclose(prediction.se, se, rtol=1e-6)
    low, high = prediction.conf_int().T
    assert np.all((0 < low) & (low < fit.predict()) & (fit.predict() < high))


def test_zero_inflation_of_nothing_is_said() -> None:
    rng = np.random.default_rng(0)
    y = 1 + rng.poisson(3.0, size=300)
    fit = gj.glmm("y ~ 1", {"y": y}, "poisson", ziformula="~ 1")
    assert "the probability of an extra zero is 0" in fit.status


# Priors -------------------------------------------------------------------------------------------------------------


def test_a_prior_makes_the_penalized_maximum() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=80)
    y = rng.poisson(np.exp(0.3 + 0.8 * x))
    data = {"y": y, "x": x}
    fit = gj.glmm("y ~ x", data, "poisson", priors={"beta": "normal(0, 0.1)", "beta[(Intercept)]": "t(1, 0.5, 3)"})

    def log_prior(beta: np.ndarray) -> float:
        return float(stats.norm.logpdf(beta[1], 0, 0.1) + stats.t.logpdf(beta[0], 3, 1, 0.5))

    def llf(beta: np.ndarray) -> float:
        return float(np.sum(stats.poisson.logpmf(y, np.exp(beta[0] + beta[1] * x))))

    best = optimize.minimize(lambda b: -llf(b) - log_prior(b), np.zeros(2), tol=1e-10).x
    np.testing.assert_allclose(fit.estimates["beta"], best, atol=1e-5)
    assert fit.llf == pytest.approx(llf(fit.estimates["beta"]), abs=1e-9)
    assert fit.log_prior == pytest.approx(log_prior(fit.estimates["beta"]), abs=1e-9)
    assert "enalized" in fit.summary().as_text()


def test_densities_of_priors_are_scipys() -> None:
    from glmmjax.priors import Term, read_priors

    terms = [Term("cond", "g", ("(Intercept)", "x"), 0, 3, True)]
    theta = np.array([0.2, -0.4, 0.7])
    r = theta[2] / np.sqrt(1 + theta[2] ** 2)
    cases = {
        ("sd", "gamma(1.5, 2.5)"): stats.gamma.logpdf(np.exp(theta[:2]), 2.5, scale=1.5 / 2.5).sum(),
        ("sd[g]", "cauchy(0, 2)"): stats.cauchy.logpdf(np.exp(theta[:2]), 0, 2).sum(),
        # for two effects the LKJ density is a beta density of (r + 1) / 2
        ("cor", "lkj(2.5)"): stats.beta.logpdf((r + 1) / 2, 2.5, 2.5) - np.log(2),
    }
    for (key, text), expected in cases.items():
        priors, numbers = read_priors({key: text}, {}, terms)
        with double_precision():
            found = sum(float(p.log_density({"theta": theta}, n)) for p, n in zip(priors, numbers, strict=True))
        assert found == pytest.approx(float(expected), rel=1e-12), key


def test_a_prior_on_standard_deviations_can_be_that_of_one_component() -> None:
    from glmmjax.priors import Term, read_priors

    terms = [Term(c, "g", ("(Intercept)",), k, 1, True) for k, c in enumerate(("cond", "zi"))]
    where = {
        key: [prior.positions for prior in read_priors({key: "gamma(1, 2)"}, {}, terms)[0]]
        for key in ("sd", "sd_cond", "sd_zi", "sd_zi[g]")
    }
    assert where == {"sd": [(0,), (1,)], "sd_cond": [(0,)], "sd_zi": [(1,)], "sd_zi[g]": [(1,)]}
    with pytest.raises(gj.ArgumentError, match="no parameters 'sd_disp'"):
        read_priors({"sd_disp": "gamma(1, 2)"}, {}, terms)
    owls = gj.datasets.load("owls")
    formulas = ("SiblingNegotiation ~ FoodTreatment + (1 | Nest)", owls, "nbinom2")
    free = gj.glmm(*formulas, ziformula="~ 1 + (1 | Nest)")
    held = gj.glmm(*formulas, ziformula="~ 1 + (1 | Nest)", priors={"sd_zi": "normal(0, 0.01)"})
    assert free.terms[1].sd[0] > 0.5 and held.terms[1].sd[0] < 0.05
    assert held.terms[0].sd[0] > 0.1


def test_a_weak_prior_keeps_separated_estimates_finite() -> None:
    x = np.linspace(-1, 1, 40)
    data = {"y": (x > 0).astype(int), "x": x}
    with pytest.warns(gj.GlmmjaxWarning, match=r"complete separation: infinite estimates of \(Intercept\), x"):
        gj.glmm("y ~ x", data, "binomial")
    fit = gj.glmm("y ~ x", data, "binomial", priors="weak")
    assert fit.status == "converged"
    assert 2.0 < fit.params["x"] < 30.0 and np.isfinite(fit.bse["x"])


def test_a_weak_prior_holds_every_predictor_that_can_run_away() -> None:
    """Intercepts, zero inflation, the predictor of each category, effects on each threshold."""
    x = np.linspace(-1, 1, 60)
    rng = np.random.default_rng(3)
    none = gj.glmm("y ~ 1", {"y": np.zeros(30)}, "binomial", priors="weak")
    assert none.status == "converged" and -10.0 < none.params.iloc[0] < -3.0
    counts = {"y": np.where(x > 0, 1.0 + rng.poisson(2.0, 60), 0.0), "x": x}
    hurdle = {"family": "truncated_poisson", "ziformula": "~ x"}
    with pytest.warns(gj.GlmmjaxWarning, match=r"separation: infinite estimates of zi:\(Intercept\), zi:x"):
        gj.glmm("y ~ 1", counts, **hurdle)
    fit = gj.glmm("y ~ 1", counts, **hurdle, priors="weak")
    assert fit.status == "converged" and np.max(np.abs(fit.params)) < 40.0
    three = {"y": np.array(["a", "b", "c"])[np.digitize(x, [-0.3, 0.3])], "x": x}
    fit = gj.glmm("y ~ x", three, "categorical", priors="weak")
    assert np.max(np.abs(fit.params)) < 60.0
    fit = gj.glmm("y ~ x", three, "categorical", priors={"beta": "normal(0, 0.01)"})
    assert np.all(np.abs(fit.params[fit.params.index.str.endswith("x")]) < 0.05)


def test_a_dispersion_has_an_interval() -> None:
    fit = gj.glmm("count ~ mined", gj.datasets.load("salamanders"), "nbinom2")
    row = fit.tidy(effects="shape").iloc[0]
    assert row["estimate"] == pytest.approx(fit.sigma)
    low, high = fit.conf_int(parameters=["disp:(Intercept)"]).iloc[0]
    np.testing.assert_allclose([row["conf_low"], row["conf_high"]], np.exp([low, high]), rtol=1e-6)
    assert "Dispersion" in fit.summary().as_text()


def test_a_density_that_is_summed_is_refused() -> None:
    def summed(y: Any, eta: Any, trials: Any, link: Any) -> Any:
        return jax.numpy.sum(0.5 * (y - eta["cond"]) ** 2)

    family = gj.families.Family("summed", gj.families.LINKS["identity"], summed)
    with pytest.raises(gj.FamilyError, match="leave out the sum"):
        gj.glmm("y ~ 1", {"y": [1.0, 2.0, 4.0]}, family)


def test_the_scale_of_ordered_categories_is_predicted_by_row() -> None:
    fit = gj.clmm("rating ~ temp + contact", gj.datasets.load("wine"), scale="~ temp")
    scale = fit.predict(type="disp")
    expected = np.exp(fit.estimates["beta_disp"][0] * (gj.datasets.load("wine")["temp"] == "warm"))
    np.testing.assert_allclose(scale, expected, rtol=1e-10)
    assert fit.get_prediction(type="disp").se.shape == scale.shape


def test_refits_of_categories_and_of_censored_responses() -> None:
    wine = gj.datasets.load("wine")
    fit = gj.clmm("rating ~ temp", wine)
    with pytest.raises(gj.DataError, match="numbers of categories, 0 to 4"):
        fit.refit(wine["rating"].astype(float))
    rng = np.random.default_rng(1)
    x = np.linspace(0, 1, 80)
    y = 1.0 + x + rng.normal(size=80)
    data = {"x": x, "y": np.minimum(y, 1.8), "status": np.where(y > 1.8, "right", "none")}
    censored = gj.glmm("cens(y, status) ~ x", data, "censored_gaussian")
    np.testing.assert_allclose(censored.refit(y).params, gj.glmm("y ~ x", {"x": x, "y": y}).params, rtol=1e-6)


def test_categories_are_said_to_be_ordered_by_the_alphabet_or_absent() -> None:
    data = {"y": ["low", "high", "medium"] * 10, "x": np.arange(30.0) % 7}
    assert any("order of the alphabet: 'high', 'low', 'medium'" in note for note in gj.clmm("y ~ x", data).design.notes)
    ordered = pd.Categorical(data["y"], ["none", "low", "medium", "high"], ordered=True)
    assert gj.clmm("y ~ x", {**data, "y": ordered}).design.notes == (
        "Categories of 'y' that do not occur were left out: 'none'.",
    )


def test_an_effect_on_the_mean_and_on_each_threshold_is_refused() -> None:
    with pytest.raises(gj.ArgumentError, match=r"nominal: the effect of 'temp\[T.warm\]'"):
        gj.clmm("rating ~ temp + contact", gj.datasets.load("wine"), nominal="~ temp")


def test_a_component_may_copy_the_formula_of_the_mean_but_not_its_offset() -> None:
    data = gj.datasets.load("salamanders")
    right = "mined + (1 | site)"
    fit = gj.glmm(f"count ~ {right} + offset(DOP)", data, "poisson", ziformula="~ .")
    assert fit.design.formulas["zi"].text == f"~ {right}"
    same = gj.glmm(f"count ~ {right} + offset(DOP)", data, "poisson", ziformula=f"~ {right}")
    assert fit.llf == pytest.approx(same.llf, abs=1e-9)


@pytest.mark.extended
def test_a_prior_with_restricted_likelihood() -> None:
    """A normal prior on beta with REML: the same linear mixed model with the prior's rows added to the data."""
    data = gj.datasets.load("sleepstudy")
    free = gj.glmm("Reaction ~ Days + (1 | Subject)", data, reml=True)
    fit = gj.glmm("Reaction ~ Days + (1 | Subject)", data, reml=True, priors={"beta": "normal(0, 0.5)"})
    assert fit.converged and abs(fit.params["Days"]) < abs(free.params["Days"])
    flat = gj.glmm("Reaction ~ Days + (1 | Subject)", data, reml=True, priors={"beta": "normal(0, 1e6)"})
    np.testing.assert_allclose(flat.params, free.params, rtol=1e-6)
    assert flat.llf + flat.log_prior == pytest.approx(free.llf - np.log(1e6) - 0.5 * np.log(2 * np.pi), abs=1e-5)


# Restricted maximum likelihood ---------------------------------------------------------------------------------------


def test_reml_of_a_linear_model_is_the_unbiased_variance() -> None:
    rng = np.random.default_rng(5)
    X = rng.normal(size=(40, 3))
    y = X @ np.array([1.0, -2.0, 0.5]) + rng.normal(size=40)
    data = {"y": y, "a": X[:, 0], "b": X[:, 1], "c": X[:, 2]}
    fit = gj.glmm("y ~ a + b + c", data, reml=True)
    design = np.column_stack([np.ones(40), X])
    beta, rss = np.linalg.lstsq(design, y)[:2]
    assert fit.sigma**2 == pytest.approx(rss[0] / 36, rel=1e-6)
    np.testing.assert_allclose(fit.params, beta, rtol=1e-8)
    se = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * rss[0] / 36)
    np.testing.assert_allclose(fit.bse, se, rtol=1e-6)
    with pytest.raises(gj.ArgumentError, match="none can be held"):
        gj.glmm("y ~ a", data, reml=True, fixed={"beta": [0.0, np.nan]})


def test_what_a_restricted_likelihood_cannot_do_is_said() -> None:
    data = gj.datasets.load("dyestuff").assign(x=range(30))
    one, two = (gj.glmm(f"Yield ~ {right}", data, reml=True) for right in ("1", "x"))
    with pytest.raises(gj.ArgumentError, match="different fixed effects"):
        gj.anova(one, two)
    with pytest.raises(gj.ArgumentError, match="restricted maximum likelihood, the other was not"):
        gj.anova(one, gj.glmm("Yield ~ x", data))
    with pytest.raises(gj.ArgumentError, match="fit with reml=False"):
        one.profile("(Intercept)")


def test_predictions_of_a_restricted_fit_have_the_joint_covariance() -> None:
    """Against the mixed-model equations of a balanced one-way layout."""
    data = gj.datasets.load("dyestuff")
    fit = gj.glmm("Yield ~ 1 + (1 | Batch)", data, reml=True)
    s2, t2 = fit.sigma**2, fit.terms[0].sd[0] ** 2
    batch = data["Batch"].astype("category").cat.codes.to_numpy()
    Z = np.eye(6)[batch]
    W = np.column_stack([np.ones(30), Z])
    H = W.T @ W / s2 + np.diag([0.0, *np.full(6, 1 / t2)])
    given_variances = np.einsum("ij,jk,ik->i", W, np.linalg.inv(H), W)
    # the variances are estimated as well, which can only add
    assert np.all(fit.get_prediction().se ** 2 >= given_variances * (1 - 1e-9))
    held = gj.glmm(
        "Yield ~ 1 + (1 | Batch)", data, reml=True, fixed={"theta": fit.theta, "beta_disp": [np.log(fit.sigma)]}
    )
    np.testing.assert_allclose(held.get_prediction().se ** 2, given_variances, rtol=1e-6)


# Categories ---------------------------------------------------------------------------------------------------------


def test_probabilities_of_categories() -> None:
    wine = gj.datasets.load("wine")
    fit = gj.clmm("rating ~ temp + contact", wine, scale="~ contact")
    probs = fit.predict(type="probs")
    assert probs.shape == (72, 5)
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=1e-12)
    own = probs[np.arange(72), fit.design.y.astype(int)]
    assert np.log(own).sum() == pytest.approx(fit.llf, abs=1e-8)
    assert set(fit.predict(type="class")) <= {1, 2, 3, 4, 5}
    frame = fit.predict(interval="confidence")
    assert len(frame) == 360 and np.all(frame["mean_ci_lower"] <= frame["mean"])
    draws = fit.simulate(2000, re="conditional")
    np.testing.assert_allclose((draws == 2).mean(axis=0), probs[:, 2], atol=0.06)
    assert stats.kstest(fit.resid("quantile"), "norm").pvalue > 1e-3
    assert fit.refit(fit.simulate(1)[0]).converged


def test_binary_categories_are_logistic_regression() -> None:
    data = salamanders().assign(there=lambda d: (d["count"] > 0).astype(int))
    logistic = gj.glmm("there ~ mined", data, "binomial")
    for fit in (gj.clmm("there ~ mined", data), gj.glmm("there ~ mined", data, "categorical")):
        assert fit.llf == pytest.approx(logistic.llf, abs=1e-8)
        assert fit.params["mined[T.yes]"] == pytest.approx(logistic.params["mined[T.yes]"], abs=1e-6)


def test_unordered_categories_against_their_own_likelihood() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=150)
    eta = np.stack([np.zeros(150), 0.3 + x, -0.2 - 0.5 * x], axis=1)
    p = np.exp(eta) / np.exp(eta).sum(axis=1, keepdims=True)
    y = np.array(["a", "b", "c"])[(rng.uniform(size=(150, 1)) > np.cumsum(p, axis=1)[:, :2]).sum(axis=1)]
    fit = gj.glmm("y ~ x", {"y": y, "x": x}, "categorical")
    codes = np.searchsorted(["a", "b", "c"], y)

    def nll(b: np.ndarray) -> float:
        eta = np.stack([np.zeros(150), b[0] + b[1] * x, b[2] + b[3] * x], axis=1)
        return float(-(eta[np.arange(150), codes] - np.log(np.exp(eta).sum(axis=1))).sum())

    best = optimize.minimize(nll, np.zeros(4), tol=1e-10)
    assert fit.llf == pytest.approx(-best.fun, abs=1e-7)
    np.testing.assert_allclose(
        np.concatenate([fit.estimates["beta"], fit.estimates["beta_category2"]]), best.x, atol=1e-4
    )
    assert "of category c against a" in fit.summary().as_text()


# What clmm2 reports for this model; with nAGQ = 50 it is -81.53179.
CLMM2_LLF = -81.46307
CLMM2 = ([-1.537072, 1.435740, 3.971669, 5.679113], [2.864785, 1.725374], -0.132410, 1.051954)


def scaled_ordinal(cuts: Any, beta: Any, log_scale: float, sd: float, power: int) -> tuple[float, float]:
    """The Laplace approximation with curvatures divided by ``scale^power``, and the integral that it approximates."""
    wine = gj.datasets.load("wine")
    y, groups = wine["rating"].to_numpy(), wine.groupby("judge").indices.values()
    x = np.column_stack([wine["temp"] == "warm", wine["contact"] == "yes"]).astype(float)
    cuts, scale, law = np.array([-np.inf, *cuts, np.inf]), np.exp(log_scale * x[:, 1]), stats.logistic
    laplace = exact = 0.0
    for rows in groups:

        def ends(u: float, rows: Any = rows) -> np.ndarray:
            return (np.stack([cuts[y[rows]], cuts[y[rows] - 1]]) - x[rows] @ beta - sd * u) / scale[rows]

        def joint(u: float, ends: Any = ends) -> float:
            return float(u * u / 2 - np.log(-np.diff(law.cdf(ends(u)), axis=0)).sum())

        u = optimize.minimize_scalar(joint, bracket=(-1, 1)).x
        at = ends(u)
        p, d1, d2 = (-np.diff(f, axis=0)[0] for f in (law.cdf(at), law.pdf(at), law.pdf(at) * (1 - 2 * law.cdf(at))))
        curvature = 1 + np.sum(sd**2 * ((d1 / p) ** 2 - d2 / p) / scale[rows] ** power)
        laplace -= joint(u) + 0.5 * np.log(curvature)
        exact += np.log(integrate.quad(lambda v, joint=joint: np.exp(-joint(v)), -12, 12)[0] / np.sqrt(2 * np.pi))
    return laplace, exact


@pytest.mark.slow
def test_clmm2_leaves_out_a_factor_of_the_curvature_where_there_is_a_scale() -> None:
    """One model, (threshold - eta - sd u) / scale, but clmm2 divides its curvature in u by the scale only once.

    Its quadrature does not rest on the curvature, and is the integral here.
    """
    fit = gj.clmm("rating ~ temp + contact + (1 | judge)", gj.datasets.load("wine"), scale="~ contact")
    ours = (fit.psi, fit.estimates["beta"], fit.estimates["beta_disp"][0], fit.terms[0].sd[0])
    laplace, exact = scaled_ordinal(*ours, power=2)
    assert fit.llf == pytest.approx(laplace, abs=1e-7)
    assert exact == pytest.approx(-81.53179, abs=2e-4)
    once, exact = scaled_ordinal(*CLMM2, power=1)
    assert once == pytest.approx(CLMM2_LLF, abs=1e-5)
    assert scaled_ordinal(*CLMM2, power=2)[0] < fit.llf - 0.1 and exact < -81.53179 - 0.1


def test_categories_with_gaps_are_said() -> None:
    data = {"y": [1, 2, 4, 1, 2, 4, 4, 1], "x": np.arange(8.0) % 3}
    fit = gj.clmm("y ~ x", data)
    assert any("do not occur were left out: 3" in note for note in fit.design.notes)
    assert fit.family.categories == (1, 2, 4)


# Censoring ----------------------------------------------------------------------------------------------------------


def test_censored_gaussian_against_its_likelihood() -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=120)
    true = 1.0 + 0.5 * x + 0.8 * rng.normal(size=120)
    y, status = true.copy(), np.full(120, "none", dtype=object)
    status[true < 0.3], y[true < 0.3] = "left", 0.3
    status[true > 2.0], y[true > 2.0] = "right", 2.0
    upper = y.copy()
    some = (status == "none") & (np.arange(120) % 4 == 0)
    status[some], y[some], upper[some] = "interval", np.floor(true[some]), np.floor(true[some]) + 1
    data = {"y": y, "status": status, "upper": upper, "x": x}
    fit = gj.glmm("cens(y, status, upper) ~ x", data, "censored_gaussian")

    def nll(p: np.ndarray) -> float:
        m, s = p[0] + p[1] * x, np.exp(p[2])
        lower_tail, upper_tail = stats.norm.cdf(y, m, s), stats.norm.sf(y, m, s)
        between = stats.norm.cdf(upper, m, s) - stats.norm.cdf(y, m, s)
        parts = [stats.norm.pdf(y, m, s), lower_tail, upper_tail, between]
        return float(-np.log(np.select([status == k for k in ("none", "left", "right", "interval")], parts)).sum())

    best = optimize.minimize(
        nll, np.array([0.5, 0.1, 0.0]), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11, "maxiter": 5000}
    )
    assert fit.llf == pytest.approx(-best.fun, abs=1e-7)
    np.testing.assert_allclose(np.concatenate([fit.estimates["beta"], fit.estimates["beta_disp"]]), best.x, atol=1e-4)
    assert np.all(np.isfinite(fit.resid("quantile")))


# Errors -------------------------------------------------------------------------------------------------------------

N = 12
GOOD = {"y": np.arange(N) % 4, "p": np.linspace(0, 0.9, N), "x": np.cos(np.arange(N)), "one": np.ones(N)}
WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: gj.glmm("p ~ x", GOOD, "beta"), gj.ResponseError, "add ziformula= for zeros, or use the family 'ordbeta'"),
    (lambda: gj.glmm("y ~ x", GOOD, "truncated_poisson"), gj.ResponseError, "add ziformula="),
    (lambda: gj.glmm("p ~ x", GOOD, "genpois"), gj.ResponseError, "whole numbers"),
    (lambda: gj.clmm("one ~ x", GOOD), gj.ResponseError, "one category only"),
    (lambda: gj.clmm("y ~ x", GOOD, threshold="equal"), gj.FamilyError, "Known: 'equidistant', 'flexible'"),
    (lambda: gj.clmm("y ~ x", GOOD, link="log"), gj.FamilyError, "cannot have the link 'log'"),
    (lambda: gj.clmm("y > 1 ~ x", GOOD, threshold="symmetric"), gj.FamilyError, "three or more categories"),
    (lambda: gj.clmm("y ~ x", GOOD, thresholds="flexible"), gj.ArgumentError, "Did you mean 'threshold'"),
    (lambda: gj.glmm("y ~ x", GOOD, "beta(identity)"), gj.FamilyError, "cannot have the link 'identity'"),
    (lambda: gj.glmm("y ~ x", GOOD, "poisson", dispformula="~ x"), gj.ArgumentError, "no dispersion parameter"),
    (lambda: gj.glmm("y ~ x", GOOD, "nbinom2", dispformula="~ 0"), gj.ArgumentError, "is for the family 'gaussian'"),
    (lambda: gj.glmm("y ~ x", GOOD, "cumulative", ziformula="~ 1"), gj.ArgumentError, "cannot have extra zeros"),
    (lambda: gj.glmm("y ~ x", GOOD, "poisson", ziformula="~ z"), gj.DataError, "z"),
    (
        lambda: gj.glmm("y ~ x", GOOD, "poisson", priors={"beta": "norm(0, 1)"}),
        gj.ArgumentError,
        "Did you mean 'normal'",
    ),
    (lambda: gj.glmm("y ~ x", GOOD, "poisson", priors={"beta[z]": "normal(0, 1)"}), gj.ArgumentError, "no column 'z'"),
    (lambda: gj.glmm("y ~ x", GOOD, "poisson", priors={"beta": "normal(0, -1)"}), gj.ArgumentError, "positive"),
    (lambda: gj.glmm("y ~ x", GOOD, "poisson", priors={"sd": "gamma(1, 1)"}), gj.ArgumentError, "no parameters 'sd'"),
    (lambda: gj.glmm("cens(y, x) ~ x", GOOD, "gaussian"), gj.ResponseError, "censored_gaussian"),
    (lambda: gj.glmm("cens(y, x) ~ x", GOOD, "censored_gaussian"), gj.ResponseError, "no kind of censoring"),
    (lambda: gj.families.t(df=-1), gj.FamilyError, "df must be positive"),
    (lambda: gj.families.tweedie(power=2.5), gj.FamilyError, "between 1 and 2"),
    (lambda: gj.families.skewnormal(shape=np.nan), gj.FamilyError, "shape must be a finite number"),
]


@pytest.mark.parametrize("call", range(len(WRONG)))
def test_errors_name_what_is_wrong(call: int) -> None:
    wrong, kind, message = WRONG[call]
    with pytest.raises(kind, match=message):
        wrong()


HELD = [
    (gj.families.t(df=4.0), "df", 4.0, lambda y, mu, phi: stats.t.logpdf(y, 4, mu, phi)),
    (gj.families.skewnormal(shape=2), "shape", 2.0, lambda y, mu, phi: scipy_skewnorm(y, mu, phi, (2.0,))),
]


@pytest.mark.parametrize(("family", "name", "value", "logpdf"), HELD)
def test_a_held_shape_is_no_parameter(family: Any, name: str, value: float, logpdf: Callable[..., Any]) -> None:
    data = gj.datasets.load("sleepstudy")
    fit = gj.glmm("Reaction ~ Days", data, family)
    assert fit.psi[name] == pytest.approx(value)
    assert fit.df == 3
    y, X = data["Reaction"].to_numpy(), np.column_stack([np.ones(180), data["Days"]])
    assert fit.llf == pytest.approx(logpdf(y, X @ fit.params, fit.sigma).sum(), abs=1e-8)


def test_options_travel_with_the_fit() -> None:
    fit = gj.glmm("count ~ mined", salamanders(), "nbinom2", priors={"beta": "normal(0, 1)"})
    assert isinstance(fit.options, Options)
    again = fit.refit(fit.design.y)
    assert again.llf == pytest.approx(fit.llf, abs=1e-8)
    assert replace(fit.options, priors=None) != fit.options
