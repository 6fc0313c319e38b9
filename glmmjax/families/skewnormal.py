"""Skewed responses on the real line, by mean and standard deviation; ``phi`` is the latter."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, log, pi, sqrt
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._errors import FamilyError
from glmmjax._links import PROBABILITY, REAL, Link
from glmmjax.families._family import Family, Given, Shape, choose_link, inside
from glmmjax.families.gaussian import start_real

_LOG_PHI = PROBABILITY["probit"].log_inverse


def _nll(y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    alpha = eta["psi"][0]
    delta = alpha / jnp.sqrt(1.0 + alpha * alpha)
    log_omega = eta["disp"] - 0.5 * jnp.log1p(-2.0 * delta * delta / pi)
    shift = delta * sqrt(2.0 / pi)

    def density(cond: Any) -> Any:
        z = (y - link.inverse(cond)) * jnp.exp(-log_omega) + shift
        return 0.5 * z * z - _LOG_PHI(alpha * z)

    return inside(link, eta["cond"], density) + log_omega


def _log_base(y: Any, trials: Any) -> Any:
    return np.full(np.shape(y), log(2.0) - 0.5 * log(2.0 * pi))


def _natural(psi: Any) -> Any:
    return np.asarray(psi)


def _start(y: Any, trials: Any) -> Any:
    """A shape of the sign of the skewness: at zero the density is even in it, and nothing tells the sides apart."""
    y = np.asarray(y, dtype=float)
    return np.array([1.0 if np.mean((y - np.mean(y)) ** 3) >= 0 else -1.0])


def _standard(at: Given) -> tuple[Any, Any, Any]:
    """Location, scale and shape of Azzalini's parameterization."""
    alpha = at.psi[0]
    delta = alpha / np.sqrt(1.0 + alpha**2)
    omega = at.phi / np.sqrt(1.0 - 2.0 * delta**2 / pi)
    return at.mu - omega * delta * sqrt(2.0 / pi), omega, alpha


def _variance(at: Given) -> Any:
    return at.phi**2 + 0.0 * at.mu


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    xi, omega, alpha = _standard(at)
    delta = alpha / np.sqrt(1.0 + alpha**2)
    size = np.broadcast_shapes(np.shape(xi), np.shape(omega))
    return xi + omega * (delta * np.abs(rng.normal(size=size)) + np.sqrt(1.0 - delta**2) * rng.normal(size=size))


def _cdf(y: Any, at: Given) -> Any:
    from scipy.special import ndtr, owens_t

    xi, omega, alpha = _standard(at)
    z = (y - xi) / omega
    return np.clip(ndtr(z) - 2.0 * owens_t(z, alpha), 0.0, 1.0)


def skewnormal(link: str | Link | None = None, shape: float | None = None) -> Family:
    """The skew normal family with mean ``mu``, standard deviation ``phi`` and shape ``psi``: ``Var(y) = phi^2``.

    Density ``2 / omega phi(z) Phi(psi z)``, ``z = (y - xi) / omega``. ``shape`` is held if given, otherwise estimated;
    its sign is that of the skewness, and at 0 the density is gaussian. Links: identity, log, inverse.

    Raises:
        FamilyError: the shape is not finite.

    Source: Azzalini (1985), Scand. J. Statistics 12(2).

    >>> from glmmjax.families import Given
    >>> skewnormal().variance(Given(0.0, 3.0, psi=(2.0,)))
    9.0
    """
    if shape is not None and not isfinite(shape):
        raise FamilyError(f"family 'skewnormal': the shape must be a finite number, not {shape!r}.")
    chosen = choose_link("skewnormal", link, REAL)
    return Family(
        "skewnormal",
        chosen,
        _nll,
        links=tuple(REAL),
        log_base=_log_base,
        has_dispersion=True,
        shape=Shape(("shape",), _natural, _start, None if shape is None else (float(shape),)),
        variance=_variance,
        simulate=_simulate,
        cdf=_cdf,
        has_zeros=False,
        start_mu=start_real(chosen),
        phi_name="standard deviation",
    )
