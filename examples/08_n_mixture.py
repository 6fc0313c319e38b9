"""How many animals are there if every visit misses some? An N-mixture model (Royle 2004) with random site effects.

The unknown abundance of a site is summed out inside the likelihood of one observation, here a site with its visits.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, logsumexp

import glmmjax as gj

recorded = json.loads((Path(__file__).parents[1] / "tests/reference/tmb/nmixture.json").read_text())
LARGEST = recorded["data"]["K"]
data = {
    "y": np.array(recorded["data"]["y"], dtype=float),
    "x": np.array(recorded["data"]["x"]),
    "site": np.arange(len(recorded["data"]["x"])),
}


def nll_obs(params, effects, row):
    """log sum over N of Poisson(N; lambda) times Binomial(y_t; N, p) for every visit t."""
    log_lambda = params["beta0"] + params["beta1"] * row["x"] + jnp.exp(params["log_sigma"]) * effects["site"][0]
    N = jnp.arange(0.0, LARGEST + 1.0)
    y = row["y"][:, None]
    possible = N >= y
    misses = jnp.where(possible, N - y, 0.0)
    ways = gammaln(N + 1) - gammaln(y + 1) - gammaln(misses + 1)
    detected = ways + y * jax.nn.log_sigmoid(params["logit_p"]) + misses * jax.nn.log_sigmoid(-params["logit_p"])
    seen = jnp.sum(jnp.where(possible, detected, -jnp.inf), axis=0)
    abundance = N * log_lambda - jnp.exp(log_lambda) - gammaln(N + 1)
    return -logsumexp(abundance + seen, where=jnp.all(possible, axis=0))


def simulate(key, params, effects, row):
    """Animals, then detections."""
    log_lambda = params["beta0"] + params["beta1"] * row["x"] + jnp.exp(params["log_sigma"]) * effects["site"][0]
    for_n, for_y = jax.random.split(key)
    N = jax.random.poisson(for_n, jnp.exp(log_lambda)).astype(float)
    return {"y": jax.random.binomial(for_y, N, jax.nn.sigmoid(params["logit_p"]), shape=row["y"].shape)}


def report(params, random, rows):
    eta = params["beta0"] + params["beta1"] * rows["x"] + jnp.exp(params["log_sigma"]) * random["site"][:, 0]
    return {
        "sigma": jnp.exp(params["log_sigma"]),
        "p": jax.nn.sigmoid(params["logit_p"]),
        "mean_abundance": jnp.mean(jnp.exp(eta)),
    }


start = {"beta0": 0.0, "beta1": 0.0, "logit_p": 0.0, "log_sigma": 0.0}
fit = gj.fit_observations(nll_obs, start, {"site": 1}, data, report=report, simulate=simulate)
print(fit.summary())

print("\nMean abundance, with the bias of plugging in the modes removed:")
corrected = fit.sdreport(bias_correct=True)
mean, error = corrected.bias_corrected["mean_abundance"], corrected.bias_corrected_se["mean_abundance"]
print(f"{mean:.3f} (standard error {error:.3f})")
