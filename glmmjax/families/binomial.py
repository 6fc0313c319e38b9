"""Binomial responses: successes out of ``trials``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from glmmjax._deviances import binomial_half_deviance, logistic_half_deviance
from glmmjax._links import PROBABILITY, Link
from glmmjax.families._family import Family, Given, inside, is_whole, log_factorial_excess, log_ratio, one, unit_link


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    log_failure = link.log1m_inverse
    assert log_failure is not None

    def density(cond: Any) -> Any:
        if link == PROBABILITY["logit"]:
            return logistic_half_deviance(cond, y, trials - y)
        return binomial_half_deviance(link.log_inverse(cond), log_failure(cond), y, trials - y)

    return inside(link, eta["cond"], density)


def _log_base(y: Any, trials: Any) -> Any:
    y, trials = np.asarray(y, dtype=float), np.asarray(trials, dtype=float)
    own = log_factorial_excess(trials) - log_factorial_excess(y) - log_factorial_excess(trials - y)
    return np.where((y > 0) & (y < trials), own, 0.0)


def _variance(at: Given) -> Any:
    return at.mu * (1.0 - at.mu) / np.maximum(at.trials, 1.0)


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    return rng.binomial(np.rint(at.trials).astype(np.int64), at.mu)


def _cdf(y: Any, at: Given) -> Any:
    from scipy.special import betainc

    y = np.floor(y)
    inside = np.clip(y, 0.0, np.maximum(at.trials - 1.0, 0.0))
    own = betainc(np.maximum(at.trials - inside, 1.0), inside + 1.0, 1.0 - np.asarray(at.mu))
    return np.where(y < 0, 0.0, np.where(y >= at.trials, 1.0, own))


def _deviance(y: Any, at: Given) -> Any:
    failures = at.trials - y
    return 2.0 * (log_ratio(y, at.trials * at.mu) + log_ratio(failures, at.trials * (1.0 - at.mu)))


def _in_support(y: Any, trials: Any) -> Any:
    return is_whole(y) & is_whole(trials) & (np.asarray(y) <= np.asarray(trials))


def _start_mu(y: Any, trials: Any) -> Any:
    return (y + 0.5) / (trials + 1.0)


def _start_variance(mu: Any, trials: Any) -> Any:
    return mu * (1.0 - mu) / np.maximum(trials, 1.0)


def binomial(link: str | Link | None = None) -> Family:
    """The binomial family: ``y`` successes out of ``trials``, each with probability ``mu``.

    Links: logit, probit, cloglog, cauchit, log. No dispersion parameter. Under the log link a linear predictor of 0 or
    more is no probability: the density is 0 there.

    >>> binomial("probit").link.name
    'probit'
    """
    return Family(
        "binomial",
        unit_link("binomial", link),
        _nll,
        links=tuple(PROBABILITY),
        log_base=_log_base,
        variance=_variance,
        sigma=one,
        simulate=_simulate,
        cdf=_cdf,
        deviance=_deviance,
        has_zeros=True,
        response="trials",
        support="whole numbers of successes between 0 and the trials",
        in_support=_in_support,
        start_mu=_start_mu,
        start_variance=_start_variance,
    )
