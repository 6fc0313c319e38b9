"""Gaussian and lognormal responses of which some are only known to lie in an interval: left, right, or both sides.

    log f = log density(y) where observed, log(F(upper) - F(lower)) where censored

The response is written ``cens(y, status)`` or ``cens(y, status, upper)``, with status "none", "left", "right" or
"interval" (0, -1, 1, 2); a plain column is observed throughout. ``y`` holds the lower and ``trials`` the upper ends.

Tobin (1958), Econometrica 26(1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import log, pi
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._links import POSITIVE, PROBABILITY, REAL, Link
from glmmjax._special import softplus
from glmmjax.families._family import Bound, Family, choose_link, inside, no_deviance
from glmmjax.families.cumulative import log_probability
from glmmjax.families.gaussian import gaussian
from glmmjax.families.lognormal import lognormal

_NORMAL = PROBABILITY["probit"]
_LOG_LINKS = {name: POSITIVE[name] for name in ("log", "identity")}


def _censored(z: Callable[[Any], Any], lower: Any, upper: Any, log_sd: Any) -> Any:
    """The negative log-likelihood less the constant of an observed row; ``z`` standardizes."""
    left, right, exact = jnp.isinf(lower), jnp.isinf(upper), lower == upper
    low = z(jnp.where(left, jnp.where(right, 1.0, upper), lower))
    high = z(jnp.where(right, jnp.where(left, 1.0, lower), upper))
    inside_log = log_probability(_NORMAL, jnp.where(exact, 1.0, high), jnp.where(exact, 0.0, low), left, right)
    known = 0.5 * low**2 + log_sd
    return jnp.where(exact, known, jnp.where(left & right, 0.0, -inside_log))


def _gaussian_nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    log_sd = eta["disp"]

    def density(cond: Any) -> Any:
        return _censored(lambda x: (x - link.inverse(cond)) * jnp.exp(-log_sd), y, trials, log_sd)

    return inside(link, eta["cond"], density)


def _lognormal_nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    log_phi = eta["disp"]

    def density(cond: Any) -> Any:
        log_mu = link.log_inverse(cond)
        variance = softplus(2.0 * (log_phi - log_mu))  # of log y
        sd = jnp.sqrt(variance)

        def z(x: Any) -> Any:
            return (jnp.log(x) - log_mu + 0.5 * variance) / sd

        return _censored(z, jnp.where(y > 0, y, -jnp.inf), trials, jnp.log(sd))

    return inside(link, eta["cond"], density)


def _log_base(log_scale: bool, y: Any, trials: Any) -> Any:
    y, upper = np.asarray(y, dtype=float), np.asarray(trials, dtype=float)
    exact = y == upper
    own = -0.5 * log(2.0 * pi) - (np.log(np.where(exact, y, 1.0)) if log_scale else 0.0)
    return np.where(exact, own, 0.0)


def _in_support(positive: bool, y: Any, trials: Any) -> Any:
    y, upper = np.asarray(y, dtype=float), np.asarray(trials, dtype=float)
    known = ~np.isnan(y) & ~np.isnan(upper) & (y <= upper) & ~((y == upper) & np.isinf(y))
    return known & ((not positive) | np.isneginf(y) | (y > 0)) & ((not positive) | (upper > 0))


def _middle(y: Any, trials: Any) -> Any:
    """A value inside each interval, for start values: the middle, or the end of a half line."""
    y, upper = np.asarray(y, dtype=float), np.asarray(trials, dtype=float)
    low, high = np.where(np.isinf(y), upper, y), np.where(np.isinf(upper), y, upper)
    middle = 0.5 * (low + high)
    known = np.isfinite(middle)
    return np.where(known, middle, np.mean(middle[known]) if np.any(known) else 0.0)


def _with_censoring(own: Family, nll: Callable[..., Any], links: tuple[str, ...], positive: bool) -> Family:
    """The censored form of a family: its likelihood, and what is known of an interval; the rest is the family's."""
    kind = "positive" if positive else "finite"
    return replace(
        own,
        name=f"censored_{own.name}",
        nll=nll,
        links=links,
        log_base=Bound(_log_base, positive),
        deviance=no_deviance,
        response="interval",
        support=f"{kind} numbers, or cens(y, status)",
        in_support=Bound(_in_support, positive),
        start_mu=_middle,
    )


def censored_gaussian(link: str | Link | None = None) -> Family:
    """The gaussian family with censoring: ``phi`` is the standard deviation of the uncensored response.

    Links: identity, log, inverse. Means, variances and simulated responses are those of the uncensored response.

    >>> censored_gaussian().response
    'interval'
    """
    own = gaussian(choose_link("censored_gaussian", link, REAL))
    return _with_censoring(own, _gaussian_nll, tuple(REAL), positive=False)


def censored_lognormal(link: str | Link | None = None) -> Family:
    """The lognormal family with censoring: ``mu`` and ``phi`` are mean and standard deviation of the response itself.

    Links: log, identity. ``log y`` has the variance ``log(1 + (phi / mu)^2)``, as in the family ``lognormal``.

    >>> censored_lognormal().link.name
    'log'
    """
    own = lognormal(choose_link("censored_lognormal", link, _LOG_LINKS))
    return _with_censoring(own, _lognormal_nll, tuple(_LOG_LINKS), positive=True)
