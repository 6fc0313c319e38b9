"""Responses with heavy tails, Student's t; ``phi`` is the scale."""

from __future__ import annotations

from collections.abc import Mapping
from math import log, pi
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._errors import FamilyError
from glmmjax._links import REAL, Link
from glmmjax._special import log_gamma_step, softplus
from glmmjax.families._family import Family, Given, Shape, choose_link, inside
from glmmjax.families.gaussian import start_real


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    # From df = exp(36) on it is gaussian to rounding, and df is held.
    log_df = jnp.where(eta["psi"][0] < 36.0, eta["psi"][0], 36.0)
    df = jnp.exp(log_df)
    normalizer = eta["disp"] - _log_gamma_ratio(log_df - log(2.0))

    def density(cond: Any) -> Any:
        z = (y - link.inverse(cond)) * jnp.exp(-eta["disp"])
        return 0.5 * (df + 1.0) * jnp.log1p(z * z / df)

    return inside(link, eta["cond"], density) + normalizer


def _log_gamma_ratio(log_a: Any) -> Any:
    """``log Gamma(a + 1/2) - log Gamma(a) - log(a) / 2``, to rounding for any a."""
    return log_gamma_step(log_a, 0.5) + (jnp.exp(log_a) + 0.5) * softplus(log(0.5) - log_a) - 0.5


def _log_base(y: Any, trials: Any) -> Any:
    return np.full(np.shape(y), -0.5 * log(2.0 * pi))


def _natural(psi: Any) -> Any:
    return np.exp(psi)


def _start(y: Any, trials: Any) -> Any:
    return np.array([log(5.0)])


def _variance(at: Given) -> Any:
    (df,) = at.psi
    factor = df / (df - 2.0) if df > 2.0 else (np.inf if df > 1.0 else np.nan)
    return at.phi**2 * factor + 0.0 * at.mu


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    return at.mu + at.phi * rng.standard_t(at.psi[0], size=np.broadcast_shapes(np.shape(at.mu), np.shape(at.phi)))


def _cdf(y: Any, at: Given) -> Any:
    from scipy.special import stdtr

    return stdtr(at.psi[0], (y - at.mu) / at.phi)


def t(link: str | Link | None = None, df: float | None = None) -> Family:
    """Student's t family: ``(y - mu) / phi`` has ``df`` degrees of freedom; ``Var(y) = phi^2 df / (df - 2)``.

    ``df`` is held if given, otherwise estimated on the log scale. Links: identity, log, inverse. ``phi`` is the scale,
    not the standard deviation. Gaussian is the limit at infinite ``df``.

    Raises:
        FamilyError: df is not positive.

    Source: Lange, Little & Taylor (1989), J. Am. Stat. Assoc. 84.

    >>> from glmmjax.families import Given
    >>> float(t(df=4).variance(Given(0.0, 1.0, psi=(4.0,))))
    2.0
    """
    if df is not None and not df > 0:
        raise FamilyError(f"family 't': df must be positive, not {df!r}.")
    chosen = choose_link("t", link, REAL)
    return Family(
        "t",
        chosen,
        _nll,
        links=tuple(REAL),
        log_base=_log_base,
        has_dispersion=True,
        shape=Shape(("df",), _natural, _start, None if df is None else (log(df),)),
        variance=_variance,
        simulate=_simulate,
        cdf=_cdf,
        has_zeros=False,
        start_mu=start_real(chosen),
        phi_name="scale",
    )
