"""Successes out of trials whose probability varies like a beta variable; ``phi`` is the precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._deviances import betabinomial_half_deviance
from glmmjax._links import PROBABILITY, Link
from glmmjax._special import log_gamma_step
from glmmjax.families._family import Family, Given, inside, unit_link
from glmmjax.families.binomial import binomial


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    # It tends to binomial's as phi grows; from log phi = 60 on, where they agree to rounding, phi is held.
    log_phi = jnp.where(eta["disp"] < 60.0, eta["disp"], 60.0)
    assert link.log1m_inverse is not None
    log_failure = link.log1m_inverse

    def density(cond: Any) -> Any:
        log_mu, log_rest = link.log_inverse(cond), log_failure(cond)
        failures = trials - y
        steps = log_gamma_step(log_phi + log_mu, y) + log_gamma_step(log_phi + log_rest, failures)
        return betabinomial_half_deviance(log_mu, log_rest, log_phi, y, failures) - steps

    return inside(link, eta["cond"], density) + log_gamma_step(log_phi, trials)


def _variance(at: Given) -> Any:
    trials = np.maximum(at.trials, 1.0)
    return at.mu * (1.0 - at.mu) * (at.phi + trials) / (at.phi + 1.0) / trials


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    return rng.binomial(np.rint(at.trials).astype(np.int64), rng.beta(at.mu * at.phi, (1.0 - at.mu) * at.phi))


def _cdf(y: Any, at: Given) -> Any:
    from scipy.special import betaln

    y, mu, phi, trials = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (y, at.mu, at.phi, at.trials)))
    a, b = mu * phi, (1.0 - mu) * phi
    total = np.zeros(y.shape)
    last = np.minimum(np.max(trials, initial=0.0), np.max(y, initial=-1.0))
    for k in range(int(np.floor(last)) + 1):
        with np.errstate(invalid="ignore"):
            choose = -np.log1p(trials) - betaln(k + 1.0, np.maximum(trials - k, 0.0) + 1.0)
            term = np.exp(choose + betaln(a + k, np.maximum(trials - k, 0.0) + b) - betaln(a, b))
        total += np.where((k <= np.floor(y)) & (k <= trials), term, 0.0)
    return np.minimum(total, 1.0)


def betabinomial(link: str | Link | None = None) -> Family:
    """The beta-binomial family: for a proportion ``Var = mu (1 - mu) (phi + n) / (phi + 1) / n`` with n trials.

    Links: logit, probit, cloglog, loglog, cauchit, log. Binomial is its limit at infinite ``phi``.

    Source: Williams (1975), Biometrics 31(4); the precision as in Harrison (2015), PeerJ 3:e1114.

    >>> from glmmjax.families import Given
    >>> float(betabinomial().variance(Given(0.5, 3.0, 1.0)))
    0.25
    """
    own = binomial(unit_link("betabinomial", link))
    return Family(
        "betabinomial",
        own.link,
        _nll,
        links=tuple(PROBABILITY),
        log_base=own.log_base,
        has_dispersion=True,
        variance=_variance,
        simulate=_simulate,
        cdf=_cdf,
        response="trials",
        support=own.support,
        in_support=own.in_support,
        has_zeros=True,
        start_mu=own.start_mu,
        start_variance=own.start_variance,
        phi_name="precision",
    )
