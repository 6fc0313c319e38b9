"""Nonlinear growth of 5,000 orange trees: one random effect inside a logistic curve, written for one observation.

`gj.fit_observations` needs no promise about structure: it sees which tree each row belongs to.
"""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import glmmjax as gj

recorded = json.loads((Path(__file__).parents[1] / "tests/reference/tmb/classic.json").read_text())["orange_big"][
    "data"
]
copies = recorded["multiply"]
data = {
    "y": np.tile(recorded["y"], copies),
    "t": np.tile(recorded["t"], copies),
    "tree": np.concatenate([np.array(recorded["tree"]) + 5 * copy for copy in range(copies)]),
}


def nll_obs(params, effects, row):
    """Circumference: logistic in age, the asymptote differs between trees."""
    beta = params["beta"]
    asymptote = 192 + beta[0] + effects["tree"][0]
    mean = asymptote / (1 + jnp.exp(-(row["t"] - 726 - beta[1]) / (356 + beta[2])))
    return params["log_sigma"] + 0.5 * ((row["y"] - mean) / jnp.exp(params["log_sigma"])) ** 2


def prior(params, b):
    """The trees' asymptotes vary normally."""
    return params["log_sigma_u"] + 0.5 * (b[0] / jnp.exp(params["log_sigma_u"])) ** 2


def report(params, random, data):
    return {"sigma": jnp.exp(params["log_sigma"]), "sigma_u": jnp.exp(params["log_sigma_u"])}


start = {"beta": np.zeros(3), "log_sigma": 1.0, "log_sigma_u": 2.0}
fit = gj.fit_observations(nll_obs, start, {"tree": 1}, data, prior=prior, report=report)
print(fit.summary())
