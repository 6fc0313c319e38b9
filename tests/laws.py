"""What is known of each family from elsewhere: the rows of the tables in test_families.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats

TRIALS = 7.0


@dataclass(frozen=True)
class Law:
    """What is known of a family from elsewhere: its density, variance, and the values to try."""

    logpdf: Callable[[Any, Any, Any, Any], Any]  # (y, mu, phi, psi), by SciPy or an independent sum; psi unconstrained
    variance: Callable[[Any, Any, Any], Any]  # (mu, phi, psi), of y itself
    mu: tuple[float, ...]
    phi: tuple[float, ...]
    y: Callable[[float, float], tuple[Any, Any]]  # (mu, phi) -> points and weights that sum any smooth function
    psi: tuple[tuple[float, ...], ...] = ((),)
    mean: Callable[[Any, Any, Any], Any] = lambda mu, phi, psi: mu  # of y itself (of y / trials if it has trials)
    atoms: tuple[float, ...] = ()  # points of positive probability besides the density
    in_range: tuple[float, ...] = ()  # a few values in the support, for derivatives; default by kind of response
    edges: tuple[float, ...] = ()  # values at the ends of the support; default by kind of response
    bad: tuple[float, ...] = ()  # values outside of it; default by kind of response
    sigma: float | None = None  # what it reports for phi = 4; by default that, or 1 without a phi
    largest: float | None = None  # the predictor up to which derivatives must be finite; default by kind of response
    links: tuple[str, ...] = ()  # the links under which the row holds; default all


# Defaults by kind of response
IN_RANGE = {
    "real": (-0.5, 0.5, 2.0),
    "positive": (0.5, 2.0),
    "count": (0.0, 1.0, 6.0),
    "trials": (0.0, 1.0, 6.0),
    "unit": (0.02, 0.3, 0.9),
}
EDGES = {
    "real": (-3.0, 0.0, 2.0),
    "positive": (1e-9, 0.3, 1e9),
    "count": (0.0, 1.0, 400.0),
    "trials": (0.0, 3.0, TRIALS),
    "unit": (1e-9, 0.3, 1.0 - 1e-9),
}
BAD = {
    "real": (np.nan, np.inf),
    "positive": (0.0, -1.0, np.nan, np.inf),
    "count": (-1.0, 0.5, np.nan, np.inf),
    "trials": (-1.0, 2.5, TRIALS + 1, np.nan),
    "unit": (-0.1, 0.0, 1.0, 1.1, np.nan),
}
# a gaussian density under the log link squares its mean: past 150 the fourth derivative overflows
LARGEST = {"real": 100.0}


def counts(mu: float, phi: float) -> tuple[Any, Any]:
    y = np.arange(3000.0)
    return y, np.ones_like(y)


def successes(mu: float, phi: float) -> tuple[Any, Any]:
    y = np.arange(TRIALS + 1)
    return y, np.ones_like(y)


def line(mu: float, phi: float) -> tuple[Any, Any]:
    y = np.linspace(mu - 14 * phi, mu + 14 * phi, 801)
    return y, np.full_like(y, y[1] - y[0])


def half_line(mu: float, phi: float) -> tuple[Any, Any]:
    t = np.linspace(-60 / min(phi, 3), 8, 6001)
    return mu * np.exp(t), mu * np.exp(t) * (t[1] - t[0])


def wide_half_line(mu: float, phi: float) -> tuple[Any, Any]:
    t = np.linspace(-30.0, 30.0, 6001)
    return mu * np.exp(t), mu * np.exp(t) * (t[1] - t[0])


def long_line(mu: float, phi: float) -> tuple[Any, Any]:
    t = np.linspace(-26.0, 26.0, 2001)
    return mu + phi * np.sinh(t), phi * np.cosh(t) * (t[1] - t[0])


def unit_interval(mu: float, phi: float) -> tuple[Any, Any]:
    t = np.linspace(-120.0, 36.0, 6001)
    return special.expit(t), special.expit(t) * special.expit(-t) * (t[1] - t[0])


def scipy_nbinom(y: Any, mu: Any, size: Any) -> Any:
    return stats.nbinom.logpmf(y, size, size / (size + mu))


def size12(mu: Any, phi: Any, psi: Any) -> Any:
    return mu / (phi + mu / np.exp(psi[0]))


def scipy_skewnorm(y: Any, mu: Any, phi: Any, psi: Any) -> Any:
    mean, variance = stats.skewnorm.stats(psi[0], moments="mv")
    scale = phi / np.sqrt(variance)
    return stats.skewnorm.logpdf(y, psi[0], mu - scale * mean, scale)


def scipy_lognorm(y: Any, mu: Any, phi: Any, psi: Any) -> Any:
    sd = np.sqrt(np.log(1 + phi**2 / mu**2))
    return stats.lognorm.logpdf(y, sd, scale=mu * np.exp(-(sd**2) / 2))


def ordered(mu: Any, psi: Any) -> tuple[Any, Any, Any]:
    """The probabilities of 0, of something between and of 1, under the logit link."""
    zero = special.expit(psi[0] - special.logit(mu))
    one = special.expit(special.logit(mu) - psi[0] - np.exp(psi[1]))
    return zero, 1 - zero - one, one


def ordered_beta(y: Any, mu: Any, phi: Any, psi: Any) -> Any:
    zero, between, one = ordered(mu, psi)
    inner = stats.beta.logpdf(np.where((y > 0) & (y < 1), y, 0.5), mu * phi, (1 - mu) * phi)
    return np.where(y == 0, np.log(zero), np.where(y == 1, np.log(one), np.log(between) + inner))


def ordered_beta_mean(mu: Any, phi: Any, psi: Any) -> Any:
    _, between, one = ordered(mu, psi)
    return one + between * mu


def ordered_beta_variance(mu: Any, phi: Any, psi: Any) -> Any:
    zero, between, one = ordered(mu, psi)
    mean = ordered_beta_mean(mu, phi, psi)
    # between the three and within the middle one
    spread = zero * mean**2 + one * (1 - mean) ** 2 + between * (mu - mean) ** 2
    return spread + between * mu * (1 - mu) / (1 + phi)


LAWS = {
    "gaussian": Law(
        lambda y, mu, phi, psi: stats.norm.logpdf(y, mu, phi), lambda mu, phi, psi: phi**2, (0.4, 3.0), (0.3, 2.0), line
    ),
    "binomial": Law(
        lambda y, mu, phi, psi: stats.binom.logpmf(y, TRIALS, mu),
        lambda mu, phi, psi: TRIALS * mu * (1 - mu),
        (0.03, 0.4, 0.98),
        (1.0,),
        successes,
    ),
    "poisson": Law(
        lambda y, mu, phi, psi: stats.poisson.logpmf(y, mu), lambda mu, phi, psi: mu, (0.05, 1.0, 40.0), (1.0,), counts
    ),
    "nbinom1": Law(
        lambda y, mu, phi, psi: scipy_nbinom(y, mu, mu / phi),
        lambda mu, phi, psi: mu * (1 + phi),
        (0.05, 1.0, 40.0),
        (0.02, 1.3, 8.0),
        counts,
    ),
    "nbinom2": Law(
        lambda y, mu, phi, psi: scipy_nbinom(y, mu, phi),
        lambda mu, phi, psi: mu + mu**2 / phi,
        (0.05, 1.0, 15.0),
        (0.4, 1.3, 50.0),
        counts,
    ),
    "Gamma": Law(
        lambda y, mu, phi, psi: stats.gamma.logpdf(y, phi, scale=mu / phi),
        lambda mu, phi, psi: mu**2 / phi,
        (0.2, 5.0),
        (0.6, 4.0, 90.0),
        half_line,
        sigma=0.5,
    ),
    "beta": Law(
        lambda y, mu, phi, psi: stats.beta.logpdf(y, mu * phi, (1 - mu) * phi),
        lambda mu, phi, psi: mu * (1 - mu) / (1 + phi),
        (0.1, 0.4, 0.8),
        (6.5, 40.0),
        unit_interval,
    ),
    "betabinomial": Law(
        lambda y, mu, phi, psi: stats.betabinom.logpmf(y, TRIALS, mu * phi, (1 - mu) * phi),
        lambda mu, phi, psi: TRIALS * mu * (1 - mu) * (phi + TRIALS) / (phi + 1),
        (0.03, 0.4, 0.98),
        (0.3, 2.0, 50.0),
        successes,
    ),
    "ordbeta": Law(
        ordered_beta,
        ordered_beta_variance,
        (0.1, 0.4, 0.8),
        (6.5, 40.0),
        unit_interval,
        psi=((-1.0, 0.7), (-2.5, 1.4)),
        mean=ordered_beta_mean,
        atoms=(0.0, 1.0),
        in_range=(0.0, 0.3, 0.9, 1.0),
        edges=(0.0, 0.3, 1.0),
        bad=(-0.1, 1.1, np.nan),
        links=("logit",),
    ),
    "lognormal": Law(scipy_lognorm, lambda mu, phi, psi: phi**2, (0.5, 5.0), (0.3, 2.0), wide_half_line),
    "folded_normal": Law(
        lambda y, mu, phi, psi: stats.foldnorm.logpdf(y, mu / phi, scale=phi),
        lambda mu, phi, psi: stats.foldnorm.var(mu / phi, scale=phi),
        (0.5, 2.0),
        (0.4, 1.5),
        wide_half_line,
        mean=lambda mu, phi, psi: stats.foldnorm.mean(mu / phi, scale=phi),
        largest=100.0,
    ),
    "t": Law(
        lambda y, mu, phi, psi: stats.t.logpdf(y, np.exp(psi[0]), mu, phi),
        lambda mu, phi, psi: phi**2 * np.exp(psi[0]) / (np.exp(psi[0]) - 2),
        (0.4, 3.0),
        (0.3, 2.0),
        long_line,
        psi=((1.25,), (2.0,), (4.0,)),
    ),
    "skewnormal": Law(
        scipy_skewnorm, lambda mu, phi, psi: phi**2, (0.4, 3.0), (0.5, 2.0), line, psi=((-3.0,), (0.0,), (0.8,))
    ),
    "inverse_gaussian": Law(
        lambda y, mu, phi, psi: stats.invgauss.logpdf(y, mu * phi, scale=1 / phi),
        lambda mu, phi, psi: phi * mu**3,
        (0.3, 2.0),
        (0.1, 1.5),
        wide_half_line,
        sigma=2.0,
    ),
    "nbinom12": Law(
        lambda y, mu, phi, psi: scipy_nbinom(y, mu, size12(mu, phi, psi)),
        lambda mu, phi, psi: mu * (1 + phi + mu / np.exp(psi[0])),
        (0.05, 1.0, 15.0),
        (0.02, 1.3),
        counts,
        psi=((-0.5,), (3.0,)),
    ),
}
