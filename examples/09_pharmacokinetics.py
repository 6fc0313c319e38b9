"""Theophylline in the blood of twelve subjects: a one-compartment model with three random effects per subject."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

import glmmjax as gj

recorded = json.loads((Path(__file__).parents[1] / "tests/reference/tmb/theophylline.json").read_text())
data = {name: np.array(values) for name, values in recorded["data"].items()}


def nll_obs(params, effects, row):
    """First-order absorption and elimination; absorption rate, clearance and volume vary between subjects."""
    b = effects["subject"]
    ka = jnp.exp(params["log_ka"] + b[0])
    v = jnp.exp(params["log_v"] + b[2])
    ke = jnp.exp(params["log_cl"] + b[1]) / v
    mean = row["dose"] * ka / (v * (ka - ke)) * (jnp.exp(-ke * row["time"]) - jnp.exp(-ka * row["time"]))
    return -norm.logpdf(row["concentration"], mean, jnp.exp(params["log_sigma"]))


def prior(params):
    """Independent normal effects, each with its own standard deviation: a density, so that it can be drawn from."""
    return gj.densities.scaled(gj.densities.mvnorm(covariance=jnp.eye(3)), jnp.exp(params["log_sd"]))


def report(params, random, rows):
    cl, v = (params[name] + random["subject"][0, i] for name, i in (("log_cl", 1), ("log_v", 2)))
    return {
        "sd": jnp.exp(params["log_sd"]),
        "sigma": jnp.exp(params["log_sigma"]),
        "half_life": jnp.log(2.0) * jnp.exp(params["log_v"] - params["log_cl"]),
        "half_life_first": jnp.log(2.0) * jnp.exp(v - cl),
    }


start = {
    "log_ka": 0.5,
    "log_cl": -3.0,
    "log_v": -1.0,
    "log_sd": np.array(recorded["start"]["log_sd"]),
    "log_sigma": 0.0,
}
fit = gj.fit_observations(nll_obs, start, {"subject": 3}, data, prior=prior, report=report)
print(fit.summary())
print("\nRandom effects (log absorption, log clearance, log volume):")
print(fit.ranef()["subject"].round(3))
