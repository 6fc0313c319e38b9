"""Zero inflation, a wrapper around any family: a mixture with extra zeros, or a hurdle where the family has none.

    P(Y = 0) = pi + (1 - pi) f(0),   f_zi(y) = (1 - pi) f(y) elsewhere,    logit pi = eta["zi"]

A family without zeros (truncated counts, Gamma, beta, lognormal) has f(0) = 0, and the two parts separate: a hurdle
model. A continuous density on the real line takes the value 0 with probability zero, so that zeros in its data are all
extra ones: it becomes a hurdle as well, whatever its density at 0.

Lambert (1992), Technometrics 34(1); Mullahy (1986), J. Econometrics 33(3), for the hurdle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._links import Link
from glmmjax._precision import double_precision
from glmmjax._special import softplus
from glmmjax.families._family import Bound, Family, Given, no_deviance


def zero_inflated(family: Family) -> Family:
    """The family with extra zeros, whose probability has the linear predictor "zi" under the logit link.

    Its ``mean`` and ``variance`` are ``(1 - pi) m`` and ``(1 - pi) (v + pi m^2)``, with those of the family.

    >>> from glmmjax.families import FAMILIES, Given
    >>> float(zero_inflated(FAMILIES["poisson"](None)).variance(Given(mu=2.0, zi=0.5)))
    2.0
    """
    if family.zero_inflated:
        return family
    if family.has_zeros is None and family.response in ("count", "trials"):
        family = replace(family, has_zeros=_density_at_zero(family))
    return replace(
        family,
        nll=Bound(_mixture if family.has_zeros else _hurdle, family),
        log_base=Bound(_log_base, family),
        shared_nll=None if family.shared_nll is None else Bound(_shared_nll, family),
        zero_inflated=True,
        mean=Bound(_mean, family),
        variance=Bound(_variance, family),
        simulate=Bound(_simulate, family),
        cdf=Bound(_cdf, family),
        deviance=no_deviance,
        support=family.support if family.has_zeros else f"0, or {family.support.partition(' (')[0]}",
        in_support=Bound(_in_support, family),
        start_mu=Bound(_start_mu, family),
        bind=None if family.bind is None else Bound(_bind, family),
    )


def _density_at_zero(family: Family) -> bool:
    """Whether the density of a private family of counts that does not say so is positive at 0."""
    rows = np.zeros(3)
    if not np.all(family.in_support(rows, np.ones(3))):
        return False
    eta = {name: np.full(3, family.link.interior if name == "cond" else 0.0) for name in family.components}
    if family.shape is not None:
        eta["psi"] = np.asarray(family.shape.start(np.ones(3), np.ones(3)), dtype=float)
    with double_precision():
        return bool(np.all(np.isfinite(np.asarray(family.full_nll(jnp.asarray(rows), eta, np.ones(3))))))


def _bind(family: Family, own: Family, y: Any, categories: tuple[Any, ...], components: tuple[str, ...]) -> Family:
    assert family.bind is not None
    return zero_inflated(family.bind(family, y, categories, components))


def _mixture(family: Family, y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    own = family.nll(y, eta, trials, link)
    finite = jnp.isfinite(own)
    # own + softplus(zi) - softplus(zi + own) is -log(pi + (1 - pi) exp(-own))
    safe = jnp.where(finite, own, 1.0)
    zero = jnp.where(y == 0, softplus(eta["zi"] + safe), 0.0)
    return jnp.where(finite, safe + softplus(eta["zi"]) - zero, jnp.inf)


def _hurdle(family: Family, y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    own = family.nll(jnp.where(y == 0, family.interior, y), eta, trials, link)
    return jnp.where(y == 0, softplus(-eta["zi"]), own + softplus(eta["zi"]))


def _shared_nll(family: Family, y: Any, eta: Mapping[str, Any], trials: Any) -> Any:
    assert family.shared_nll is not None
    own = family.shared_nll(jnp.where(y == 0, family.interior, y), eta, trials)
    return jnp.where(y == 0, 0.0, own)


def _positive(family: Family, y: Any) -> np.ndarray:
    return np.where(np.asarray(y) == 0, family.interior, y)


def _log_base(family: Family, y: Any, trials: Any) -> Any:
    return np.where(np.asarray(y) == 0, 0.0, family.log_base(_positive(family, y), trials))


def _mean(family: Family, at: Given) -> Any:
    return (1.0 - at.zi) * family.mean(at)


def _variance(family: Family, at: Given) -> Any:
    return (1.0 - at.zi) * (family.variance(at) + at.zi * family.mean(at) ** 2)


def _simulate(family: Family, rng: np.random.Generator, at: Given) -> Any:
    own = family.simulate(rng, at)
    return np.where(rng.uniform(size=np.shape(own)) < at.zi, 0.0, own)


def _cdf(family: Family, y: Any, at: Given) -> Any:
    return at.zi * (np.asarray(y) >= 0) + (1.0 - at.zi) * family.cdf(y, at)


def _in_support(family: Family, y: Any, trials: Any) -> Any:
    return (np.asarray(y) == 0) | family.in_support(_positive(family, y), trials)


def _start_mu(family: Family, y: Any, trials: Any) -> Any:
    y = np.asarray(y, dtype=float)
    return family.start_mu(y if family.has_zeros else _positive(family, y), trials)
