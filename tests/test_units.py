"""A fit of s * y, of x / s and of x - c is the same fit: in any unit, from any origin, through every door."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.stats import norm

import glmmjax as gj

SCALES = (1e-12, 1e-6, 14.0, 1e6, 1e12)
N, GROUPS = 120, 12


@cache
def design() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(GROUPS), N // GROUPS)
    return pd.DataFrame({"x": rng.normal(size=N), "z": rng.uniform(1, 2, size=N), "g": g})


@cache
def response(family: str) -> np.ndarray:
    """A response of each family that is closed under scaling, in units in which it is about one."""
    rng, data = np.random.default_rng(4), design()
    x = data["x"].to_numpy()
    b = 0.5 * rng.normal(size=GROUPS)[data["g"]]
    line, mean = 2.0 + 0.5 * x + b, np.exp(0.3 + 0.3 * x + b)
    steep = 6.0 + 0.5 * x + b
    made = {
        "gaussian": line + rng.normal(size=N),
        "t": line + rng.standard_t(4, size=N),
        "skewnormal": line + rng.gamma(2.0, size=N),
        "lognormal(identity)": steep * np.exp(0.2 * rng.normal(size=N)),
        "Gamma": rng.gamma(8.0, 1.0 / (8.0 * (1.5 + 0.1 * x + 0.3 * b))),
        "Gamma(log)": rng.gamma(5.0, mean / 5.0),
        "Gamma(identity)": rng.gamma(15.0, steep / 15.0),
        "inverse_gaussian(log)": rng.wald(mean, 8.0),
        "inverse_gaussian(inverse)": rng.wald(1.0 / (0.5 + 0.03 * x + 0.08 * b), 20.0),
        "tweedie": np.where(rng.random(N) < 0.2, 0.0, rng.gamma(2.0, mean / 2.0)),
        "folded_normal": np.abs(mean + rng.normal(size=N)),
    }
    return made[family]


def expected(family: str, s: float, fit: gj.Fit, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Coefficients, their standard errors and the log-likelihood of the same fit to ``s * y``."""
    link = fit.family.link.name
    factor = {"identity": s, "inverse": 1.0 / s, "log": 1.0}[link]
    params = fit.params.to_numpy() * factor
    params[0] += np.log(s) if link == "log" else 0.0
    jacobian = np.sum(y > 0) if family == "tweedie" else N
    reml = 2.0 * np.log(factor) if fit.options.reml else 0.0
    return params, fit.bse.to_numpy() * factor, fit.llf - jacobian * np.log(s) + reml


def slow(*row: Any) -> Any:
    return pytest.param(*row, marks=pytest.mark.slow)


ROWS = [(f, False) for f in ("gaussian", "t", "Gamma", "Gamma(identity)", "inverse_gaussian(inverse)", "tweedie")]
ROWS += [slow(f, False) for f in ("skewnormal", "lognormal(identity)", "Gamma(log)", "inverse_gaussian(log)")]
ROWS += [slow("folded_normal", False), ("gaussian", True), slow("t", True), slow("Gamma", True)]
IN_BATCHES = [("gaussian", False), ("Gamma(identity)", False), ("gaussian", True)]
IN_BATCHES += [slow(f, False) for f in ("t", "skewnormal", "Gamma", "inverse_gaussian(inverse)", "tweedie")]


def check(fit: gj.Fit, s: float, plain: gj.Fit, family: str) -> None:
    params, bse, llf = expected(family, s, plain, response(family))
    assert fit.converged and fit.status == plain.status
    assert fit.llf == pytest.approx(llf, abs=1e-7)
    np.testing.assert_allclose(fit.params, params, rtol=1e-6)
    np.testing.assert_allclose(fit.bse, bse, rtol=1e-5)


@cache
def plain_fit(family: str, reml: bool) -> gj.Fit:
    return gj.glmm("y ~ x + (1 | g)", design().assign(y=response(family)), family, reml=reml)


@pytest.mark.parametrize(("family", "reml"), ROWS)
def test_scaled_responses_have_the_same_fit(family: str, reml: bool) -> None:
    for s in SCALES:
        data = design().assign(y=s * response(family))
        check(gj.glmm("y ~ x + (1 | g)", data, family, reml=reml), s, plain_fit(family, reml), family)


@pytest.mark.parametrize(("family", "reml"), IN_BATCHES)
def test_scaled_responses_have_the_same_fit_in_a_batch(family: str, reml: bool) -> None:
    Y, plain = np.stack([s * response(family) for s in SCALES], axis=1), plain_fit(family, reml)
    many = gj.fit_many("~ x + (1 | g)", design(), Y, family, reml=reml)
    assert set(many.status) == {plain.status}
    for i, s in enumerate(SCALES):
        params, bse, llf = expected(family, s, plain, response(family))
        assert np.asarray(many.llf)[i] == pytest.approx(llf, abs=1e-7)
        np.testing.assert_allclose(many.params.iloc[i], params, rtol=1e-6)
        np.testing.assert_allclose(many.bse.iloc[i], bse, rtol=1e-5)


LONG = "y ~ x + (x | g)"


@pytest.mark.parametrize(
    ("formula", "family", "options"),
    [
        ("y ~ x + (1 | g)", "gaussian", {"dispformula": "~ z"}),
        slow("y ~ x + (1 | g)", "Gamma(log)", {"dispformula": "~ z + (1 | g)"}),
        ("y ~ x", "gaussian", {}),
        ("y ~ x", "t", {"fixed": {"psi": True}}),
        (LONG, "gaussian", {"reml": True}),
    ],
)
def test_scaled_responses_with_more_components(formula: str, family: str, options: dict[str, Any]) -> None:
    data, y = design(), response(family)
    fits = {s: gj.glmm(formula, data.assign(y=s * y), family, **options) for s in (1.0, *SCALES)}
    link = fits[1.0].family.link.name
    for s in SCALES:
        jacobian = N - (2 if options.get("reml") else 0)
        assert fits[s].status == fits[1.0].status
        assert fits[s].llf + jacobian * np.log(s) == pytest.approx(fits[1.0].llf, abs=1e-7)
        factor = s if link == "identity" else 1.0
        np.testing.assert_allclose(fits[s].params["x"], factor * fits[1.0].params["x"], rtol=1e-6)
        np.testing.assert_allclose(fits[s].bse["x"], factor * fits[1.0].bse["x"], rtol=1e-5)


def test_between_and_within_groups_of_opposite_slopes() -> None:
    rng = np.random.default_rng(1)
    g = np.tile(np.arange(10), 20)
    x = g + rng.normal(size=200)
    data = pd.DataFrame({"g": g, "x": x, "y": 3.0 * g - (x - g) + rng.normal(size=200)})
    plain = gj.glmm("y ~ x + (1 | g)", data)
    for s in (1e-12, 1e-7, 1e4, 1e9, 1e12):
        fit = gj.glmm("y ~ x + (1 | g)", data.assign(y=s * data["y"]))
        np.testing.assert_allclose(fit.params / s, plain.params, rtol=1e-6)
        np.testing.assert_allclose(fit.terms[0].sd / s, plain.terms[0].sd, rtol=1e-6)
        assert fit.sigma / s == pytest.approx(plain.sigma, rel=1e-6)


@pytest.mark.parametrize("family", ["gaussian", "poisson", slow("Gamma(log)"), slow("t")])
def test_predictors_have_no_origin_and_no_unit(family: str) -> None:
    rng, data = np.random.default_rng(6), design()
    b = rng.normal(size=(2, GROUPS))[:, data["g"]]
    eta = 0.5 + 0.4 * data["x"] + 0.6 * b[0] + 0.4 * b[1] * data["x"]
    y = {
        "gaussian": eta + rng.normal(size=N),
        "t": eta + rng.standard_t(5, size=N),
        "poisson": rng.poisson(np.exp(eta)),
        "Gamma(log)": rng.gamma(4.0, np.exp(eta) / 4.0),
    }[family]
    data = data.assign(y=np.asarray(y, dtype=float))
    plain = gj.glmm(LONG, data, family)
    for s, c in ((1.0, 2000.0), (1.0, 1e5), (1e6, 0.0), (1e-6, -300.0)):
        fit = gj.glmm(LONG, data.assign(x=(data["x"] + c) / s), family)
        assert fit.status == plain.status
        assert fit.llf == pytest.approx(plain.llf, abs=1e-7)
        assert fit.params["x"] / s == pytest.approx(plain.params["x"], rel=1e-6)
        assert fit.bse["x"] / s == pytest.approx(plain.bse["x"], rel=1e-5)
        np.testing.assert_allclose(fit.fitted(), plain.fitted(), rtol=1e-5)


@pytest.mark.parametrize("c", [1e4, 1e8])
def test_responses_have_no_origin(c: float) -> None:
    data = design().assign(y=response("gaussian"))
    plain = gj.glmm(LONG, data)
    for fit in (
        gj.glmm(LONG, data.assign(y=data["y"] + c)),
        gj.fit_many("~ x + (x | g)", data, data[["y"]] + c)["y"],
    ):
        assert fit.status == plain.status
        assert fit.llf == pytest.approx(plain.llf, abs=1e-6)
        assert fit.params["x"] == pytest.approx(plain.params["x"], rel=1e-6)
        assert fit.bse["x"] == pytest.approx(plain.bse["x"], rel=1e-5)


def test_powers_of_a_large_predictor_are_counted_as_parameters() -> None:
    rng = np.random.default_rng(2)
    pop = rng.uniform(0.5e7, 1.5e7, size=80)
    data = pd.DataFrame({"pop": pop, "y": 1e-7 * pop + rng.normal(size=80)})
    assert gj.glmm("y ~ pop", data).df == 3
    assert gj.glmm("y ~ pop + I(pop**2)", data).df == 4


def own_nll(params: Any, random: Any, data: Any) -> Any:
    sd = jnp.exp(params["log_sd"])
    mean = params["mu"] + sd[0] * random["u"][data["g"]]
    return -jnp.sum(norm.logpdf(data["y"], mean, sd[1])) - jnp.sum(norm.logpdf(random["u"]))


@pytest.mark.parametrize("s", SCALES)
def test_a_likelihood_of_ones_own_reaches_any_unit(s: float) -> None:
    data = design().assign(y=s * (8.0 + response("gaussian")))
    start = {"mu": 0.0, "log_sd": np.zeros(2)}
    given = {"y": data["y"].to_numpy(), "g": data["g"].to_numpy()}
    own = gj.fit(own_nll, start, {"u": np.zeros(GROUPS)}, given, structure=gj.Blocks())
    plain = gj.glmm("y ~ 1 + (1 | g)", data)
    assert own.status == "converged"
    assert own.llf == pytest.approx(plain.llf, abs=1e-6)
    assert own.estimates["mu"] == pytest.approx(plain.params["(Intercept)"], rel=1e-6)
    assert own.bse["mu"] == pytest.approx(plain.bse["(Intercept)"], rel=1e-4)
