"""Proportions with zeros and ones: ordered beta regression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._links import PROBABILITY, Link
from glmmjax._special import NUMPY, log1mexp
from glmmjax.families._family import Family, Given, Shape, inside, unit_link
from glmmjax.families.beta import beta_nll, start_unit, start_unit_variance

_LOGIT = PROBABILITY["logit"]


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    low, gap = eta["psi"][0], jnp.exp(eta["psi"][1])
    log_phi = jnp.where(eta["disp"] < 60.0, eta["disp"], 60.0)
    assert _LOGIT.log1m_inverse is not None
    upper = eta["cond"] - low
    zero = -_LOGIT.log1m_inverse(upper)
    one = -_LOGIT.log_inverse(upper - gap)
    # F(a) - F(b) of the logistic is F(a) (1 - F(b)) (1 - exp(b - a))
    between = -_LOGIT.log_inverse(upper) - _LOGIT.log1m_inverse(upper - gap) - log1mexp(gap)
    interior = jnp.where((y > 0) & (y < 1), y, 0.5)

    def density(cond: Any) -> Any:
        middle = between + beta_nll(interior, cond, log_phi, link)
        return jnp.where(y == 0, zero, jnp.where(y == 1, one, middle))

    # without a mean of the proportions in between there is no distribution, at 0 and 1 either
    return inside(link, eta["cond"], density)


def _natural(psi: Any) -> Any:
    return np.array([psi[0], psi[0] + np.exp(psi[1])])


def _start(y: Any, trials: Any) -> Any:
    return np.array([-1.0, np.log(2.0)])


def _log_base(y: Any, trials: Any) -> Any:
    y = np.asarray(y, dtype=float)
    interior = np.where((y > 0) & (y < 1), y, 0.5)
    return np.where((y > 0) & (y < 1), -np.log(interior) - np.log1p(-interior), 0.0)


def _weights(at: Given) -> tuple[Any, Any]:
    """The probabilities of the interior and of one."""
    cond = np.asarray(at.eta["cond"])
    above, one = (_LOGIT.inverse(cond - cut, NUMPY) for cut in at.psi)
    return above - one, one


def _mean(at: Given) -> Any:
    between, one = _weights(at)
    return between * at.mu + one


def _variance(at: Given) -> Any:
    between, one = _weights(at)
    second = at.mu * (1.0 - at.mu) / (1.0 + at.phi) + at.mu**2
    return between * second + one - (between * at.mu + one) ** 2


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    between, one = _weights(at)
    y = rng.beta(at.mu * at.phi, (1.0 - at.mu) * at.phi)
    where = rng.uniform(size=np.shape(y))
    return np.where(where < one, 1.0, np.where(where < one + between, y, 0.0))


def _cdf(y: Any, at: Given) -> Any:
    from scipy.special import betainc

    between, one = _weights(at)
    own = betainc(at.mu * at.phi, (1.0 - at.mu) * at.phi, np.clip(y, 0.0, 1.0))
    return np.where(np.asarray(y) < 0, 0.0, np.where(np.asarray(y) >= 1, 1.0, 1.0 - one - between + between * own))


def _in_support(y: Any, trials: Any) -> Any:
    y = np.asarray(y, dtype=float)
    return (y >= 0) & (y <= 1)


def ordbeta(link: str | Link | None = None) -> Family:
    """The ordered beta family: ``P(0) = 1 - F(eta - c1)``, ``P(1) = F(eta - c2)``, a beta variable in between.

    ``F`` is logistic; the beta part has mean ``mu`` and precision ``phi``. ``psi`` holds the cutpoints ``c1 < c2``. The
    mean of the response is ``P(1) + P(0 < y < 1) mu``. Links: logit, probit, cloglog, loglog, cauchit, log.

    Source: Kubinec (2023), Political Analysis 31(4).

    >>> ordbeta().shape.names
    ('lower cutpoint', 'upper cutpoint')
    """
    return Family(
        "ordbeta",
        unit_link("ordbeta", link),
        _nll,
        links=tuple(PROBABILITY),
        log_base=_log_base,
        has_dispersion=True,
        shape=Shape(("lower cutpoint", "upper cutpoint"), _natural, _start),
        mean=_mean,
        variance=_variance,
        simulate=_simulate,
        cdf=_cdf,
        response="unit",
        support="between 0 and 1",
        in_support=_in_support,
        has_zeros=True,
        interior=0.5,
        start_mu=start_unit,
        start_variance=start_unit_variance,
        phi_name="precision",
    )
