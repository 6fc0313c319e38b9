"""A population over time: theta-logistic growth seen through measurement error (Pedersen et al. 2011).

The state of one year depends on the year before, so that the curvature in the 200 states is a band of half-bandwidth
one: `gj.Banded(1)` says so, and the cost is linear in the number of years.
"""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

import glmmjax as gj

recorded = json.loads((Path(__file__).parents[1] / "tests/reference/tmb/classic.json").read_text())["thetalog"]
data = {"log_counts": np.array(recorded["data"]["Y"])}


def nll(params, random, data):
    """States follow the growth law with process noise; counts follow the states with measurement noise."""
    x = random["log_abundance"]
    r0, theta, K = jnp.exp(params["logr0"]), jnp.exp(params["logtheta"]), jnp.exp(params["logK"])
    expected = x[:-1] + r0 * (1.0 - (jnp.exp(x[:-1]) / K) ** theta)
    process = norm.logpdf(x[1:], expected, jnp.exp(0.5 * params["logQ"]))
    measurement = norm.logpdf(data["log_counts"], x, jnp.exp(0.5 * params["logR"]))
    return -jnp.sum(process) - jnp.sum(measurement)


def report(params, random, data):
    """Derived quantities; they get standard errors by the delta method."""
    return {"capacity": jnp.exp(params["logK"]), "last_abundance": jnp.exp(random["log_abundance"][-1])}


start = {"logr0": 0.0, "logtheta": 0.0, "logK": 6.0, "logQ": 0.0, "logR": 0.0}
fit = gj.fit(nll, start, {"log_abundance": np.zeros(200)}, data, structure=gj.Banded(1), report=report)
print(fit.summary())

low, high = fit.conf_int(method="uniroot", parameters=["logK"]).loc["logK"]
print(f"\nCarrying capacity, 95% profile likelihood interval: {np.exp(low):.0f} to {np.exp(high):.0f}")
