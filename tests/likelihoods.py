"""Likelihoods that several tests share, each with data and, where there is one, the answer in closed form."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

import glmmjax as gj

GROUPS, EACH = 12, 5


@cache
def normal_data() -> dict[str, np.ndarray]:
    """Balanced normal data in groups."""
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(GROUPS), EACH)
    x = rng.normal(size=group.size)
    y = 1.0 + 0.5 * x + rng.normal(size=GROUPS)[group] + 0.7 * rng.normal(size=group.size)
    return {"y": y, "x": x, "group": group}


NORMAL_START = {"beta": np.zeros(2), "log_sd": np.zeros(2)}


def normal_nll(params: Any, random: Any, data: Any) -> Any:
    """``y = beta0 + beta1 x + sd0 u[group] + sd1 e``: the Laplace approximation is exact."""
    sd = jnp.exp(params["log_sd"])
    mean = params["beta"][0] + params["beta"][1] * data["x"] + random["u"][data["group"]]
    return -jnp.sum(norm.logpdf(data["y"], mean, sd[1])) - jnp.sum(norm.logpdf(random["u"], 0.0, sd[0]))


def normal_simulate(key: Any, params: Any, random: Any, data: Any) -> Any:
    for_u, for_y = jax.random.split(key)
    sd = jnp.exp(params["log_sd"])
    u = random["u"] if random is not None else sd[0] * jax.random.normal(for_u, (GROUPS,))
    mean = params["beta"][0] + params["beta"][1] * data["x"] + u[data["group"]]
    y = mean + sd[1] * jax.random.normal(for_y, data["y"].shape)
    return {"u": u}, {**data, "y": y}


def normal_report(params: Any, random: Any, data: Any) -> Any:
    sd = jnp.exp(params["log_sd"])
    return {"icc": sd[0] ** 2 / jnp.sum(sd**2), "first": params["beta"][0] + random["u"][0]}


def normal_row(params: Any, effects: Any, row: Any) -> Any:
    """The same model, one observation."""
    mean = params["beta"][0] + params["beta"][1] * row["x"] + effects["group"][0]
    return -norm.logpdf(row["y"], mean, jnp.exp(params["log_sd"][1]))


def normal_prior(params: Any) -> Any:
    sd = jnp.exp(params["log_sd"][0])
    return gj.densities.scaled(gj.densities.mvnorm(covariance=jnp.eye(1)), sd)


def normal_row_simulate(key: Any, params: Any, effects: Any, row: Any) -> Any:
    mean = params["beta"][0] + params["beta"][1] * row["x"] + effects["group"][0]
    return {"y": mean + jnp.exp(params["log_sd"][1]) * jax.random.normal(key)}


@cache
def normal_fit() -> gj.Fit:
    return gj.fit(
        normal_nll,
        NORMAL_START,
        {"u": np.zeros(GROUPS)},
        normal_data(),
        gj.Blocks(),
        normal_report,
        normal_simulate,
        nobs=GROUPS * EACH,
    )


@cache
def normal_row_fit() -> gj.Fit:
    return gj.fit_observations(
        normal_row, NORMAL_START, {"group": 1}, normal_data(), prior=normal_prior, simulate=normal_row_simulate
    )


@cache
def count_data() -> dict[str, np.ndarray]:
    """Counts along a random walk."""
    rng = np.random.default_rng(2)
    level = np.cumsum(0.3 * rng.normal(size=60))
    return {"y": rng.poisson(np.exp(1.0 + level)).astype(float)}


WALK_START = {"mu": 0.0, "log_sd": -1.0}


def walk_nll(params: Any, random: Any, data: Any) -> Any:
    """Counts whose log mean is a random walk that begins at mu: half-bandwidth one."""
    level = random["level"]
    sd = jnp.exp(params["log_sd"])
    prior = -norm.logpdf(level[0], params["mu"], 1.0) - jnp.sum(norm.logpdf(jnp.diff(level), 0.0, sd))
    return prior + jnp.sum(jnp.exp(level) - data["y"] * level + jax.lax.lgamma(data["y"] + 1.0))
