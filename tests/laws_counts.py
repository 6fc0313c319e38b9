"""Rows of the tables in test_families.py: families whose density is a sum without closed form, truncated counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from math import log
from typing import Any

import numpy as np
from laws import LAWS as OTHER_LAWS
from laws import Law, counts
from scipy import optimize, special, stats


def genpois(y: Any, mu: Any, phi: Any, psi: Any) -> Any:
    theta, rate = mu / np.sqrt(phi), 1 - 1 / np.sqrt(phi)
    return np.log(theta) + special.xlogy(y - 1, theta + rate * y) - theta - rate * y - special.gammaln(y + 1)


@cache
def conway_maxwell(mu: float, phi: float) -> tuple[Any, float]:
    """Log-probabilities of 0, 1, ..., 5999, and the variance, by a search for the rate and sums."""
    j = np.arange(6000.0)

    def logpmf(theta: float) -> Any:
        terms = j * theta - special.gammaln(j + 1) / phi
        return terms - special.logsumexp(terms)

    theta = optimize.brentq(lambda t: np.sum(j * np.exp(logpmf(t))) - mu, -20.0, 30.0, xtol=1e-15, rtol=1e-15)
    return logpmf(theta), float(np.sum((j - mu) ** 2 * np.exp(logpmf(theta))))


def compois(y: Any, mu: Any, phi: Any, psi: Any) -> Any:
    return conway_maxwell(float(mu), float(phi))[0][np.asarray(y, dtype=int)]


BELL = 450


@cache
def log_bell_numbers() -> Any:
    """Logarithms of the numbers themselves, from their triangle of whole numbers; 0 from ``BELL`` on."""
    row, found = [1], [0.0]
    for _ in range(1, BELL):
        next_row = [row[-1]]
        for above in row:
            next_row.append(next_row[-1] + above)
        row = next_row
        found.append(log(row[0]))
    return np.append(found, np.full(3000 - BELL, -np.inf))


def bell(y: Any, mu: Any, phi: Any, psi: Any) -> Any:
    theta = special.lambertw(mu).real
    own = log_bell_numbers()[np.asarray(y, dtype=int)] - special.gammaln(np.asarray(y) + 1)
    return own + y * np.log(theta) - np.expm1(theta)


def power(psi: Any) -> Any:
    return 1 + special.expit(psi[0])


def tweedie(y: Any, mu: Any, phi: Any, psi: Any) -> Any:
    """A Poisson number of Gamma variables, the number summed over."""
    p = power(psi)
    rate, shape, scale = mu ** (2 - p) / (phi * (2 - p)), (2 - p) / (p - 1), phi * (p - 1) * mu ** (p - 1)
    y = np.asarray(y, dtype=float)
    j = np.arange(1.0, 300.0)
    parts = np.array_split(np.atleast_1d(np.where(y > 0, y, 1.0)), 20)
    number = stats.poisson.logpmf(j, rate)
    some = [special.logsumexp(number + stats.gamma.logpdf(v[:, None], j * shape, scale=scale), axis=1) for v in parts]
    return np.where(y > 0, np.concatenate(some).reshape(y.shape), -rate)


def far_half_line(mu: float, phi: float) -> tuple[Any, Any]:
    # towards 0 the density is that of a Gamma variable with a shape below 1
    t = np.linspace(-80.0, 6.0, 6001)
    return mu * np.exp(t), mu * np.exp(t) * (t[1] - t[0])


def few_counts(mu: float, phi: float) -> tuple[Any, Any]:
    y = np.arange(300.0)
    return y, np.ones_like(y)


def without_zero(law: Law) -> Law:
    """The law given that y is not 0."""

    def positive(mu: Any, phi: Any, psi: Any) -> Any:
        return -np.expm1(law.logpdf(np.zeros(1), mu, phi, psi)[0])

    def logpdf(y: Any, mu: Any, phi: Any, psi: Any) -> Any:
        return law.logpdf(y, mu, phi, psi) - np.log(positive(mu, phi, psi))

    def variance(mu: Any, phi: Any, psi: Any) -> Any:
        return (law.variance(mu, phi, psi) + mu**2) / positive(mu, phi, psi) - (mu / positive(mu, phi, psi)) ** 2

    mean: Callable[[Any, Any, Any], Any] = lambda mu, phi, psi: mu / positive(mu, phi, psi)  # noqa: E731

    def from_one(mu: float, phi: float) -> tuple[Any, Any]:
        y, weights = law.y(mu, phi)
        return y[1:], weights[1:]

    edges = tuple(y for y in law.edges if y > 0)
    bad = (0.0, -1.0, 0.5, np.nan)
    return replace(law, logpdf=logpdf, variance=variance, mean=mean, y=from_one, edges=edges, bad=bad)


COUNTS = {
    "genpois": Law(genpois, lambda mu, phi, psi: mu * phi, (0.05, 1.0, 15.0), (1.0, 1.5, 4.0), counts),
    "compois": Law(
        compois,
        lambda mu, phi, psi: conway_maxwell(float(mu), float(phi))[1],
        (0.05, 1.0, 15.0),
        (0.3, 1.0, 3.0),
        few_counts,
        largest=5.0,  # its sums end at twice exp(5)
        edges=(0.0, 1.0, 100.0),
    ),
}

LAWS: dict[str, Law] = {
    **COUNTS,
    "bell": Law(bell, lambda mu, phi, psi: mu * (1 + special.lambertw(mu).real), (0.05, 1.0, 15.0), (1.0,), few_counts),
    "tweedie": Law(
        tweedie,
        lambda mu, phi, psi: phi * mu ** power(psi),
        (0.5, 4.0),
        (0.4, 1.7),
        far_half_line,
        psi=((-1.0,), (0.0,), (0.8,)),
        atoms=(0.0,),
        in_range=(0.0, 0.5, 2.0),
        edges=(0.0, 1e-9, 0.3, 1e6),
        bad=(-0.1, np.nan, np.inf),
    ),
    **{
        f"truncated_{name}": without_zero(law)
        for name, law in {**OTHER_LAWS, **COUNTS}.items()
        if name in ("poisson", "nbinom1", "nbinom2", "genpois", "compois")
    },
}
