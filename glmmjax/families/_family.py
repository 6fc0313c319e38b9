"""The Family record: a response distribution as pure functions of the linear predictors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from glmmjax._errors import FamilyError, did_you_mean
from glmmjax._links import LINKS, POSITIVE, Link

#: Links of the families of counts.
COUNT_LINKS = {name: POSITIVE[name] for name in ("log", "identity", "sqrt")}


def _no_base(y: Any, trials: Any) -> Any:
    return np.zeros(np.shape(y))


def _no_variance(mu: Any, phi: Any, trials: Any) -> Any:
    raise FamilyError("this family has no variance function: give Family(..., variance=f) with f(mu, phi, trials).")


def _no_simulate(rng: np.random.Generator, mu: Any, phi: Any, trials: Any) -> Any:
    raise FamilyError("this family cannot simulate: give Family(..., simulate=f) with f(rng, mu, phi, trials).")


def _sigma_is_phi(phi: Any) -> Any:
    return phi


def _finite(y: Any, trials: Any) -> Any:
    return np.isfinite(y)


def _mean_everywhere(y: Any, trials: Any) -> Any:
    return np.full(np.shape(y), np.mean(y))


def _constant_variance(mu: Any, trials: Any) -> Any:
    return np.ones(np.shape(mu))


@dataclass(frozen=True)
class Family:
    """A response distribution: what a model needs to know about it, as pure functions; hashable, picklable.

    ``log density = log_base(y, trials) - nll(y, eta, trials, link)``

    A private family needs a name, a link of :data:`glmmjax.families.LINKS` and ``nll``, written with ``jax.numpy``; the
    rest has defaults that say less. Its functions must be module-level if a fit is to be pickled. ``y`` and ``trials``
    are (n,) throughout; ``trials`` is 1 but for the binomial family, whose ``y`` counts successes.

    Attributes:
        name: what prints.
        link: the link of the conditional mean.
        nll: ``(y, eta, trials, link) -> (n,)`` negative log-density, without the terms in ``y`` and ``trials`` alone.
            ``eta["cond"]`` is the linear predictor, ``eta["disp"]`` is ``log phi`` if there is a dispersion parameter.
        links: names of the links that the family may have, default first. Default: the one it has.
        log_base: ``(y, trials) -> (n,)`` the terms that ``nll`` leaves out; NumPy. Default: 0.
        has_dispersion: whether there is a ``phi``.
        variance: ``(mu, phi, trials) -> Var(y)`` of the response as reported, a proportion for the binomial family.
            Default: raises FamilyError when asked for.
        sigma: ``phi -> `` what ``sigma`` reports. Default: ``phi``.
        simulate: ``(rng, mu, phi, trials) -> y`` with a NumPy generator. Default: raises FamilyError when asked for.
        response: "real", "positive", "count" or "trials".
        support: the values that ``y`` may have, in words that follow "must be".
        in_support: ``(y, trials) -> (n,) bool``. Default: finite.
        start_mu: ``(y, trials) -> (n,)`` mean at which GLM iterations start, inside its range. Default: the mean of y.
        start_variance: ``(mu, trials) -> (n,)`` variance function of those iterations, up to a constant. Default: 1.
        phi_name: what ``phi`` is called in print; None without one.

    >>> import jax.numpy as jnp
    >>> laplace = Family("laplace", LINKS["identity"], lambda y, eta, trials, link: jnp.abs(y - eta["cond"]))
    >>> laplace.links, laplace.response
    (('identity',), 'real')
    """

    name: str
    link: Link
    nll: Callable[[Any, Mapping[str, Any], Any, Link], Any]
    links: tuple[str, ...] = ()
    log_base: Callable[[Any, Any], Any] = _no_base
    has_dispersion: bool = False
    variance: Callable[[Any, Any, Any], Any] = _no_variance
    sigma: Callable[[Any], Any] = _sigma_is_phi
    simulate: Callable[[np.random.Generator, Any, Any, Any], Any] = _no_simulate
    response: str = "real"
    support: str = "finite numbers"
    in_support: Callable[[Any, Any], Any] = _finite
    start_mu: Callable[[Any, Any], Any] = _mean_everywhere
    start_variance: Callable[[Any, Any], Any] = _constant_variance
    phi_name: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.link, Link):
            raise FamilyError(
                f"the link of family {self.name!r} must be a Link, got {self.link!r}: take one from "
                "glmmjax.families.LINKS, as in LINKS['log']."
            )
        if not self.links:
            object.__setattr__(self, "links", (self.link.name,))
        if self.has_dispersion and self.phi_name is None:
            object.__setattr__(self, "phi_name", "dispersion parameter")


def choose_link(family: str, link: str | Link | None, allowed: Mapping[str, Link]) -> Link:
    """The link of a family: the first allowed one for None, an allowed one by name, a private Link as it is.

    Raises:
        FamilyError: the name is no link, or is one that the family cannot have.
    """
    if link is None:
        return next(iter(allowed.values()))
    if isinstance(link, Link):
        return link
    name = str(link).strip().lower()
    if name in allowed:
        return allowed[name]
    names = ", ".join(allowed)
    if name in LINKS:
        raise FamilyError(f"family {family!r} cannot have the link {name!r}. Its links: {names}.")
    raise FamilyError(f"unknown link {link!r} for family {family!r}. {did_you_mean(link, allowed)}")


def inside(link: Link, eta: Any, density: Callable[[Any], Any]) -> Any:
    """``density(eta)`` where the link gives a mean inside its range, +inf with zero derivatives elsewhere.

    An optimizer that refuses values that are not finite then stays inside, and no derivative is ever NaN.
    """
    if link.valid is None:
        return density(eta)
    valid = link.valid(eta)
    return jnp.where(valid, density(jnp.where(valid, eta, link.interior)), jnp.inf)


def is_whole(y: Any) -> Any:
    """Where ``y`` is a finite whole number >= 0, up to the rounding of a proportion times its trials."""
    y = np.asarray(y, dtype=float)
    finite = np.isfinite(y)
    y = np.where(finite, y, 0.0)
    return finite & (y >= 0) & (np.abs(y - np.rint(y)) <= 1e-9 * np.maximum(y, 1.0))


def one(phi: Any) -> float:
    """What ``sigma`` reports for a family without dispersion."""
    return 1.0


def log_factorial_base(y: Any, trials: Any) -> Any:
    """``-log y!``, the base of the families of counts."""
    from scipy.special import gammaln

    return -gammaln(np.asarray(y, dtype=float) + 1.0)


def in_counts(y: Any, trials: Any) -> Any:
    """Where ``y`` is a count."""
    return is_whole(y)


def start_count(y: Any, trials: Any) -> Any:
    """The counts, with 1/6 in place of 0, as MASS's ``negative.binomial`` does."""
    y = np.asarray(y, dtype=float)
    return np.where(y == 0, 1.0 / 6.0, y)


def mean_variance(mu: Any, trials: Any) -> Any:
    """``V(mu) = mu``."""
    return mu
