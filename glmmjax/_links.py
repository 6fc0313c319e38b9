"""Link records and the table LINKS: what joins a linear predictor to a mean, exact in both tails.

Everything is written against a namespace ``xp`` of :mod:`glmmjax._special`, so that likelihoods run it in JAX and
predictions in NumPy. A family works on ``log_inverse`` and ``log1m_inverse``, never on the logarithm of ``inverse``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import pi
from typing import Any

import numpy as np

from glmmjax._special import JAX, Namespace, log1mexp, log_normal_tail, logistic, magnitude, softplus


@dataclass(frozen=True)
class Link:
    """A link function and its inverse, ``eta = link(mu)``; hashable and picklable, the functions living in modules.

    Attributes:
        name: as R spells it.
        link: ``mu -> eta``, NumPy; for start values.
        inverse: ``(eta, xp=JAX) -> mu``.
        log_inverse: ``(eta, xp=JAX) -> log mu``.
        log1m_inverse: ``(eta, xp=JAX) -> log(1 - mu)``; None unless the link is onto the unit interval.
        valid: ``eta -> bool``, where the mean is inside its range; None if it is for every ``eta``.
        interior: an ``eta`` whose mean is well inside the range.
    """

    name: str
    link: Callable[[Any], Any]
    inverse: Callable[..., Any]
    log_inverse: Callable[..., Any]
    log1m_inverse: Callable[..., Any] | None = None
    valid: Callable[[Any], Any] | None = None
    interior: float = 0.0


def _positive(eta: Any) -> Any:
    return eta > 0


def _negative(eta: Any) -> Any:
    return eta < 0


def _nonzero(eta: Any) -> Any:
    return eta != 0


def _itself(x: Any, xp: Namespace = JAX) -> Any:
    return x


def _identity_log(eta: Any, xp: Namespace = JAX) -> Any:
    return xp.log(eta)


def _log_inverse(eta: Any, xp: Namespace = JAX) -> Any:
    return xp.exp(eta)


def _log_log1m(eta: Any, xp: Namespace = JAX) -> Any:
    return log1mexp(-eta, xp)


def _reciprocal(x: Any, xp: Namespace = JAX) -> Any:
    return 1.0 / x


def _reciprocal_log(eta: Any, xp: Namespace = JAX) -> Any:
    return -xp.log(eta)


def _sqrt_inverse(eta: Any, xp: Namespace = JAX) -> Any:
    return eta * eta


def _sqrt_log(eta: Any, xp: Namespace = JAX) -> Any:
    return 2.0 * xp.log(magnitude(eta, xp))


# The symmetric links, 1 - mu(eta) = mu(-eta): probit and cauchit from the two logarithms at -|eta|. Both log mu and
# log(1 - mu) are built from the same |eta|, so that a compiler computes the transcendental functions once for the pair.


def _probit_tails(size: Any, xp: Namespace) -> tuple[Any, Any]:
    lower = log_normal_tail(size, xp)
    return lower, xp.log1p(-xp.exp(lower))


def _cauchit_tails(size: Any, xp: Namespace) -> tuple[Any, Any]:
    tail = xp.arctan2(1.0, size) / pi
    return xp.log(tail), xp.log1p(-tail)


def _logit(mu: Any) -> Any:
    return np.log(mu) - np.log1p(-mu)


def _logit_inverse(eta: Any, xp: Namespace = JAX) -> Any:
    return logistic(eta, xp)[0]


def _logit_log(eta: Any, xp: Namespace = JAX) -> Any:
    return -softplus(-eta, xp)


def _logit_log1m(eta: Any, xp: Namespace = JAX) -> Any:
    return -softplus(eta, xp)


def _probit(mu: Any) -> Any:
    from scipy.special import ndtri

    return ndtri(mu)


def _probit_inverse(eta: Any, xp: Namespace = JAX) -> Any:
    tail = xp.exp(log_normal_tail(magnitude(eta, xp), xp))
    return xp.where(eta < 0, tail, 1.0 - tail)


def _probit_log(eta: Any, xp: Namespace = JAX) -> Any:
    lower, upper = _probit_tails(magnitude(eta, xp), xp)
    return xp.where(eta < 0, lower, upper)


def _probit_log1m(eta: Any, xp: Namespace = JAX) -> Any:
    lower, upper = _probit_tails(magnitude(eta, xp), xp)
    return xp.where(eta < 0, upper, lower)


def _cauchit(mu: Any) -> Any:
    tail = pi * np.minimum(mu, 1.0 - mu)
    return np.sign(mu - 0.5) * np.cos(tail) / np.sin(tail)


def _cauchit_inverse(eta: Any, xp: Namespace = JAX) -> Any:
    return xp.arctan2(1.0, -eta) / pi


def _cauchit_log(eta: Any, xp: Namespace = JAX) -> Any:
    lower, upper = _cauchit_tails(magnitude(eta, xp), xp)
    return xp.where(eta < 0, lower, upper)


def _cauchit_log1m(eta: Any, xp: Namespace = JAX) -> Any:
    lower, upper = _cauchit_tails(magnitude(eta, xp), xp)
    return xp.where(eta < 0, upper, lower)


# log(sinh(h) / h) in powers of (2 h)^2, from the square on: the Bernoulli numbers B_2k / (2k (2k)!)
_LOG_SINHC = (
    *(0.0, 1 / 24, -1 / 2880, 1 / 181440, -1 / 9676800, 1 / 479001600, -691 / 15692092416000),
    *(1 / 1046139494400, -3617 / 170729965486080000, 43867 / 91963695909076992000),
)


def _cloglog(mu: Any) -> Any:
    return np.log(-np.log1p(-mu))


def _cloglog_inverse(eta: Any, xp: Namespace = JAX) -> Any:
    return -xp.expm1(-xp.exp(xp.where(eta < 7.0, eta, 7.0)))


def _cloglog_log(eta: Any, xp: Namespace = JAX) -> Any:
    # With m = exp(eta): on the left eta - m/2 + log(sinh(m/2) / (m/2)), whose derivatives are small where they should
    # be; on the right log(1 - exp(-m)), held at eta = 7, where exp(-m) has long been 0 and m's powers would overflow.
    left = eta < -0.7
    m = xp.exp(xp.where(eta < 7.0, eta, 7.0))
    small, large = xp.where(left, m, 0.0), xp.where(left, 1.0, m)
    return xp.where(left, eta - 0.5 * small + xp.polynomial(_LOG_SINHC, small * small), xp.log1p(-xp.exp(-large)))


def _cloglog_log1m(eta: Any, xp: Namespace = JAX) -> Any:
    # finite for all eta, so that it may be multiplied by zero failures
    return -xp.exp(xp.where(eta < 700.0, eta, 700.0))


# loglog is cloglog mirrored: mu(eta) = 1 - cloglog^-1(-eta)


def _loglog(mu: Any) -> Any:
    return -np.log(-np.log(mu))


def _loglog_inverse(eta: Any, xp: Namespace = JAX) -> Any:
    return xp.exp(_cloglog_log1m(-eta, xp))


def _loglog_log(eta: Any, xp: Namespace = JAX) -> Any:
    return _cloglog_log1m(-eta, xp)


def _loglog_log1m(eta: Any, xp: Namespace = JAX) -> Any:
    return _cloglog_log(-eta, xp)


_IDENTITY = Link("identity", _itself, _itself, _identity_log, interior=1.0)
_LOG = Link("log", np.log, _log_inverse, _itself)
_INVERSE = Link("inverse", _reciprocal, _reciprocal, _reciprocal_log, valid=_nonzero, interior=1.0)
_SQRT = Link("sqrt", np.sqrt, _sqrt_inverse, _sqrt_log, valid=_nonzero, interior=1.0)


def _table(*links: Link) -> dict[str, Link]:
    return {link.name: link for link in links}


#: Links onto the real line.
REAL = _table(_IDENTITY, _LOG, _INVERSE)
#: Links onto the positive numbers. ``sqrt`` takes either sign of ``eta``, ``mu = eta^2``, as glmmTMB does.
POSITIVE = _table(
    _LOG,
    replace(_IDENTITY, valid=_positive),
    replace(_INVERSE, valid=_positive),
    _SQRT,
)
#: Links onto the unit interval; all have ``log1m_inverse``.
PROBABILITY = _table(
    Link("logit", _logit, _logit_inverse, _logit_log, _logit_log1m),
    Link("probit", _probit, _probit_inverse, _probit_log, _probit_log1m),
    Link("cloglog", _cloglog, _cloglog_inverse, _cloglog_log, _cloglog_log1m),
    Link("loglog", _loglog, _loglog_inverse, _loglog_log, _loglog_log1m),
    Link("cauchit", _cauchit, _cauchit_inverse, _cauchit_log, _cauchit_log1m),
    replace(_LOG, log1m_inverse=_log_log1m, valid=_negative, interior=-1.0),
)
#: Every link by its name, with the widest range it has: "identity" is onto the real line, "log" onto positive numbers.
LINKS = {**POSITIVE, **PROBABILITY, **REAL}
