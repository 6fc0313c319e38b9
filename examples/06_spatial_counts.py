"""Counts at 100 places with a Gaussian random field: every place is correlated with every other, a dense structure."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import glmmjax as gj

recorded = json.loads((Path(__file__).parents[1] / "tests/reference/tmb/classic.json").read_text())["spatial"]
places = np.array(recorded["data"]["Z"])
distance = np.linalg.norm(places[:, None] - places[None, :], axis=2)
data = {"y": np.array(recorded["data"]["y"]), "X": np.array(recorded["data"]["X"]), "distance": distance}


def nll(params, random, data):
    """Poisson counts whose log mean has a field with correlation exp(-a distance)."""
    field = gj.densities.mvnorm(covariance=jnp.exp(-params["a"] * data["distance"]))
    eta = data["X"] @ params["b"] + jnp.exp(params["log_sigma"]) * random["u"]
    return field.nll(random["u"]) - jnp.sum(data["y"] * eta - jnp.exp(eta))


start = {"b": np.zeros(2), "a": 1.428571, "log_sigma": -0.6931472}
fit = gj.fit(nll, start, {"u": np.zeros(100)}, data, structure=gj.Dense())
print(fit.summary())
