"""Proportions strictly between 0 and 1; ``phi`` is the precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._links import PROBABILITY, Link
from glmmjax._special import log_gamma_excess
from glmmjax.families._family import Family, Given, inside, unit_link


def beta_nll(y: Any, cond: Any, log_phi: Any, link: Link) -> Any:
    """The negative log-density less ``log(y (1 - y))``, for y inside the unit interval; JAX.

    With ``G(a) = log Gamma(a) - a log a + a`` the powers gather in ``phi`` times the Kullback-Leibler divergence of a
    coin with probability ``mu`` from one with probability ``y``, which is 0 at ``y = mu``.
    """
    assert link.log1m_inverse is not None
    log_mu, log_rest = link.log_inverse(cond), link.log1m_inverse(cond)
    divergence = jnp.exp(log_mu) * (log_mu - jnp.log(y)) + jnp.exp(log_rest) * (log_rest - jnp.log1p(-y))
    excess = log_gamma_excess(log_phi + log_mu) + log_gamma_excess(log_phi + log_rest) - log_gamma_excess(log_phi)
    return jnp.exp(log_phi) * divergence + excess


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    log_phi = jnp.where(eta["disp"] < 60.0, eta["disp"], 60.0)
    return inside(link, eta["cond"], lambda cond: beta_nll(y, cond, log_phi, link))


def _log_base(y: Any, trials: Any) -> Any:
    return -np.log(y) - np.log1p(-np.asarray(y))


def _variance(at: Given) -> Any:
    return at.mu * (1.0 - at.mu) / (1.0 + at.phi)


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    return rng.beta(at.mu * at.phi, (1.0 - at.mu) * at.phi)


def _cdf(y: Any, at: Given) -> Any:
    from scipy.special import betainc

    return betainc(at.mu * at.phi, (1.0 - at.mu) * at.phi, np.clip(y, 0.0, 1.0))


def _in_support(y: Any, trials: Any) -> Any:
    y = np.asarray(y, dtype=float)
    return (y > 0) & (y < 1)


def start_unit(y: Any, trials: Any) -> Any:
    """The proportions, kept off both ends."""
    return np.clip(np.asarray(y, dtype=float), 0.01, 0.99)


def start_unit_variance(mu: Any, trials: Any) -> Any:
    """``mu (1 - mu)``."""
    return mu * (1.0 - mu)


def beta(link: str | Link | None = None) -> Family:
    """The beta family with shapes ``mu phi`` and ``(1 - mu) phi``: ``Var(y) = mu (1 - mu) / (1 + phi)``.

    Links: logit, probit, cloglog, loglog, cauchit, log.

    Source: Ferrari & Cribari-Neto (2004), J. Applied Statistics 31(7).

    >>> from glmmjax.families import Given
    >>> beta().variance(Given(0.5, 4.0))
    0.05
    """
    return Family(
        "beta",
        unit_link("beta", link),
        _nll,
        links=tuple(PROBABILITY),
        log_base=_log_base,
        has_dispersion=True,
        variance=_variance,
        simulate=_simulate,
        cdf=_cdf,
        response="unit",
        support="strictly between 0 and 1 (add ziformula= for zeros, or use the family 'ordbeta' for zeros and ones)",
        in_support=_in_support,
        interior=0.5,
        start_mu=start_unit,
        start_variance=start_unit_variance,
        phi_name="precision",
    )
