"""The examples' likelihoods agree with R's TMB: objective, estimates, standard errors, modes, reports, corrections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TMB_EXAMPLES, run_example
from jax.scipy.stats import norm

import glmmjax as gj

FOLDER = Path(__file__).parent / "tmb"
SLOW = ("theophylline", "sv2")  # three effects, and eight parameters, take longer to compile
SOME = [pytest.param(model, marks=pytest.mark.slow) if model in SLOW else model for model in TMB_EXAMPLES]
STRUCTURES = {"thetalog": "banded", "spatial": "dense", "orange_big": "blocks", "spde": "sparse", "sv2": "banded"}


def expected(model: str) -> dict[str, Any]:
    file = FOLDER / f"{model}.json"
    if file.exists():
        return json.loads(file.read_text())["expected"]
    return json.loads((FOLDER / "classic.json").read_text())[model]["expected"]


def fitted(model: str) -> Any:
    """The fit that an example makes."""
    return run_example(TMB_EXAMPLES[model])[0]["fit"]


def in_order(fit: Any, names: list[str]) -> np.ndarray:
    """Where TMB's parameters stand among ours: vectors one after the other, ours sorted by name."""
    positions, used = [], dict.fromkeys(names, 0)
    for name in names:
        own = [i for i, label in enumerate(fit.parameter_names) if label.partition("[")[0] == name]
        positions.append(own[used[name]])
        used[name] += 1
    return np.array(positions)


@pytest.mark.parametrize("model", SOME)
def test_agrees_with_tmb(model: str) -> None:
    fit, theirs = fitted(model), expected(model)
    recorded = model in ("thetalog", "spatial", "orange_big")  # with TMB's default tolerances
    assert fit.status == "converged" and fit.status in run_example(TMB_EXAMPLES[model])[1]
    assert fit.structure.startswith(STRUCTURES.get(model, "blocks"))
    assert -fit.llf == pytest.approx(theirs["objective"], rel=1e-8 if recorded else 1e-10)
    order, se = in_order(fit, theirs["par_names"]), np.array(theirs["se"])
    np.testing.assert_allclose((fit.flat[order] - theirs["par"]) / se, 0.0, atol=1e-4)
    np.testing.assert_allclose(fit.bse.to_numpy()[order], se, rtol=1e-4 if recorded else 1e-6)

    report = fit.sdreport(bias_correct="bias_corrected" in theirs)
    (random,), (random_se,) = report.random.values(), report.random_se.values()
    head = len(theirs["random_head"])
    np.testing.assert_allclose(random.reshape(-1)[:head], theirs["random_head"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(random_se.reshape(-1)[:head], theirs["random_sd_head"], rtol=1e-4)

    for name in dict.fromkeys(theirs.get("report_names", [])):
        own = [i for i, label in enumerate(theirs["report_names"]) if label == name]
        value, error = np.array(theirs["report"])[own], np.array(theirs["report_se"])[own]
        np.testing.assert_allclose(np.reshape(report.report[name], -1), value, rtol=1e-4)
        np.testing.assert_allclose(np.reshape(report.report_se[name], -1), error, rtol=1e-4)
        if "bias_corrected" in theirs:
            corrected = np.array(theirs["bias_corrected"])[own]
            np.testing.assert_allclose(np.reshape(report.bias_corrected[name], -1), corrected, rtol=1e-4)


@pytest.mark.parametrize("model", ["nmixture", pytest.param("theophylline", marks=pytest.mark.slow)])
def test_profile_limits_agree_with_tmb(model: str) -> None:
    fit, theirs = fitted(model), expected(model)
    for limit in theirs["profile"]:
        name = fit.parameter_names[in_order(fit, theirs["par_names"])[limit["index"]]]
        bounds = fit.conf_int(method="uniroot", parameters=[name]).to_numpy()[0]
        np.testing.assert_allclose(bounds, [limit["lower"], limit["upper"]], rtol=1e-4, atol=1e-5)


def sv_nll(params: Any, random: Any, data: Any) -> Any:
    """Stochastic volatility of one series, as README.md states it."""
    h, mu = random["h"], params["mu"]
    phi, sigma = jnp.tanh(params["atanh_phi"]), jnp.exp(params["log_sigma"])
    first = norm.logpdf(h[0], mu, sigma / jnp.sqrt(1.0 - phi**2))
    shocks = norm.logpdf(h[1:], mu + phi * (h[:-1] - mu), sigma)
    returns = norm.logpdf(data["y"], 0.0, jnp.exp(0.5 * h))
    return -first - jnp.sum(shocks) - jnp.sum(returns)


def sv_report(params: Any, random: Any, data: Any) -> Any:
    return {
        "phi": jnp.tanh(params["atanh_phi"]),
        "sigma": jnp.exp(params["log_sigma"]),
        "last_volatility": jnp.exp(0.5 * random["h"][-1]),
        "mean_volatility": jnp.mean(jnp.exp(0.5 * random["h"])),
    }


@pytest.mark.slow
def test_stochastic_volatility_agrees_with_tmb() -> None:
    recorded = json.loads((FOLDER / "sv.json").read_text())
    y = np.array(recorded["data"]["y"])
    fit = gj.fit(sv_nll, recorded["start"], {"h": np.zeros(len(y))}, {"y": y}, gj.Banded(1), sv_report)
    theirs = recorded["expected"]
    assert -fit.llf == pytest.approx(theirs["objective"], rel=1e-10)
    order, se = in_order(fit, theirs["par_names"]), np.array(theirs["se"])
    np.testing.assert_allclose((fit.flat[order] - theirs["par"]) / se, 0.0, atol=1e-4)
    np.testing.assert_allclose(fit.bse.to_numpy()[order], se, rtol=1e-6)
    report = fit.sdreport(bias_correct=True)
    values = [report.report[name] for name in theirs["report_names"]]
    corrected = [report.bias_corrected[name] for name in theirs["report_names"]]
    np.testing.assert_allclose(values, theirs["report"], rtol=1e-5)
    np.testing.assert_allclose([report.report_se[n] for n in theirs["report_names"]], theirs["report_se"], rtol=1e-4)
    np.testing.assert_allclose(corrected, theirs["bias_corrected"], rtol=1e-4)
