"""Two stock indices whose volatilities move together: a bivariate stochastic volatility model.

Two states a day, one day after the other: `random={"h": (days, 2)}` has half-bandwidth three.
"""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np

import glmmjax as gj

recorded = json.loads((Path(__file__).parents[1] / "tests/reference/tmb/sv2.json").read_text())
data = {"y": np.array(recorded["data"]["y"])}


def normal2(x, variance, rho):
    """Negative log-density of pairs x (..., 2) with these variances and correlation."""
    z = x / jnp.sqrt(variance)
    squares = z[..., 0] ** 2 - 2.0 * rho * z[..., 0] * z[..., 1] + z[..., 1] ** 2
    logdet = jnp.log(variance[..., 0]) + jnp.log(variance[..., 1]) + jnp.log1p(-(rho**2))
    return 0.5 * (squares / (1.0 - rho**2) + logdet) + jnp.log(2.0 * jnp.pi)


def natural(params):
    return {
        "phi": jnp.tanh(params["atanh_phi"]),
        "sigma": jnp.exp(params["log_sigma"]),
        "rho_y": jnp.tanh(params["atanh_rho_y"]),
        "rho_h": jnp.tanh(params["atanh_rho_h"]),
    }


def nll(params, random, data):
    """Log variances follow autoregressions with correlated shocks; returns are correlated given them."""
    h, mu = random["h"], params["mu"]
    p = natural(params)
    phi, variance = p["phi"], p["sigma"] ** 2
    stationary = variance / (1.0 - phi**2)
    across = p["rho_h"] * jnp.prod(p["sigma"]) / (1.0 - jnp.prod(phi))
    first = normal2(h[0] - mu, stationary, across / jnp.sqrt(jnp.prod(stationary)))
    shocks = normal2(h[1:] - mu - phi * (h[:-1] - mu), variance, p["rho_h"])
    returns = normal2(data["y"], jnp.exp(h), p["rho_y"])
    return first + jnp.sum(shocks) + jnp.sum(returns)


def report(params, random, data):
    return {**natural(params), "last_volatility": jnp.exp(0.5 * random["h"][-1])}


start = {
    "mu": np.zeros(2),
    "atanh_phi": np.array(recorded["start"]["atanh_phi"]),
    "log_sigma": np.array(recorded["start"]["log_sigma"]),
    "atanh_rho_y": 0.0,
    "atanh_rho_h": 0.0,
}
fit = gj.fit(nll, start, {"h": np.zeros(data["y"].shape)}, data, structure=gj.Banded(3), report=report)
print(fit.summary())
