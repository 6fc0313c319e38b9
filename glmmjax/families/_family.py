"""The Family record: a response distribution as pure functions of the linear predictors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._errors import FamilyError, did_you_mean
from glmmjax._links import LINKS, POSITIVE, PROBABILITY, Link
from glmmjax._precision import double_precision
from glmmjax._special import NUMPY, log_gamma_excess

#: Links of the families of counts.
COUNT_LINKS = {name: POSITIVE[name] for name in ("log", "identity", "sqrt")}


class Given(NamedTuple):
    """What the distribution of each row is given: NumPy arrays (n,), or numbers that are the same for all rows.

    Attributes:
        mu: ``link^-1(eta["cond"])``.
        phi: the dispersion parameter; 1 without one.
        trials: numbers of trials; 1 unless the response counts successes.
        psi: the shape parameters on their natural scale, shared by all rows.
        zi: the probability of an extra zero.
        eta: every linear predictor, by component.
    """

    mu: Any
    phi: Any = 1.0
    trials: Any = 1.0
    psi: tuple[Any, ...] = ()
    zi: Any = 0.0
    eta: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Shape:
    """Shape parameters ``psi`` of a family: estimated, or held by the user, and shared by all rows.

    Attributes:
        names: what they are called in print, on their natural scale.
        natural: ``psi`` (r,) on the unconstrained scale ``->`` the parameters on their natural scale; NumPy.
        start: ``(y, trials) -> psi`` where the optimizer begins; NumPy.
        held: the unconstrained values at which they are held; None if they are estimated.
    """

    names: tuple[str, ...]
    natural: Callable[[Any], Any]
    start: Callable[[Any, Any], Any]
    held: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Bound:
    """``function(first, ...)`` as a function of the rest; equal, and hashed, by value, unlike functools.partial."""

    function: Callable[..., Any]
    first: Any

    def __call__(self, *rest: Any) -> Any:
        return self.function(self.first, *rest)


def _no_base(y: Any, trials: Any) -> Any:
    return np.zeros(np.shape(y))


def _missing(what: str, call: str) -> FamilyError:
    return FamilyError(f"this family has no {what} function: give Family(..., {what}=f) with f({call}).")


def _no_variance(at: Given) -> Any:
    raise _missing("variance", "at")


def _no_simulate(rng: np.random.Generator, at: Given) -> Any:
    raise FamilyError("this family cannot simulate: give Family(..., simulate=f) with f(rng, at).")


def _no_cdf(y: Any, at: Given) -> Any:
    raise _missing("cdf", "y, at")


def no_deviance(y: Any, at: Given) -> Any:
    raise FamilyError("deviance residuals are not defined for this family: use type='quantile' or 'pearson'.")


def _mu(at: Given) -> Any:
    return at.mu


def sigma_is_phi(phi: Any) -> Any:
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

    ``log density = log_base(y, trials) - nll(y, eta, trials, link) - shared_nll(y, eta, trials)``

    A private family needs a name, a link of :data:`glmmjax.families.LINKS` and ``nll``, written with ``jax.numpy``; the
    rest has defaults that say less. Its functions must be module-level if a fit is to be pickled. ``y`` and ``trials``
    are (n,) throughout; ``trials`` is 1 but for families whose ``y`` counts successes. The functions of NumPy below
    take what the distribution of each row is given as one :class:`Given`.

    Attributes:
        name: what prints.
        link: the link of the conditional mean.
        nll: ``(y, eta, trials, link) -> (n,)`` negative log-density, without the terms in ``y`` and ``trials`` alone.
            ``eta["cond"]`` is the linear predictor, ``eta["disp"]`` is ``log phi`` if there is a dispersion parameter,
            ``eta["psi"]`` (r,) the shape parameters on their unconstrained scale if there are any.
        links: names of the links that the family may have, default first. Default: the one it has.
        log_base: ``(y, trials) -> (n,)`` the terms that ``nll`` leaves out; NumPy. Default: 0. What the optimizer sees
            is ``nll`` with ``shared_nll``, and it stops where a further fall is lost in their rounding: large terms in
            the data alone belong here. For counts it is the log-density of the best fit to each of them (a Poisson
            count at ``mu = y``), so that what is left is half a deviance, of the order of one in every row. It is 0 at
            ``y = 0`` where a family has zeros.
        shared_nll: ``(y, eta, trials) -> (n,)`` a part of the negative log-density that no predictor but ``disp`` and
            ``psi`` enters: where these are the same for all rows it is evaluated once for each distinct ``y``. It must
            be 0 at ``y = 0``. Default: None.
        has_dispersion: whether there is a ``phi``.
        shape: the shape parameters. Default: none.
        predictors: linear predictors besides those of the mean, the dispersion and zero inflation.
        mean: ``at -> E(y)`` of the response as reported, a proportion for families with trials. Default: ``mu``.
        variance: ``at -> Var(y)`` of the same. Default: raises FamilyError when asked for.
        sigma: ``phi -> `` what ``sigma`` reports. Default: ``phi``.
        simulate: ``(rng, at) -> y`` with a NumPy generator. Default: raises FamilyError when asked for.
        cdf: ``(y, at) -> P(Y <= y)`` for any real ``y``. Default: raises FamilyError when asked for.
        deviance: ``(y, at) -> (n,)`` twice the distance in log-likelihood from the saturated model, times ``phi`` where
            that is a scale. Default: raises FamilyError when asked for.
        probabilities: ``at -> (n, categories)`` for ordered and unordered categories. Default: None.
        response: "real", "positive", "count", "trials", "unit", "categories" or "interval".
        support: the values that ``y`` may have, in words that follow "must be".
        in_support: ``(y, trials) -> (n,) bool``. Default: finite.
        has_zeros: whether ``y = 0`` has a positive probability. If not, zero inflation makes the model a hurdle model,
            for which the density must be that of the values other than 0. Default: for counts and trials, whether the
            density is positive there; False for the others, which are continuous (for "real" it must be said where
            extra zeros are to be fitted to whole numbers).
        interior: a ``y`` well inside the support.
        zero_inflated: whether there is a predictor of zero inflation.
        start_mu: ``(y, trials) -> (n,)`` mean at which GLM iterations start, inside its range. Default: the mean of y.
        start_variance: ``(mu, trials) -> (n,)`` variance function of those iterations, up to a constant. Default: 1.
        working_variance: ``at -> `` a variance of the mean's part that is cheap to compute, where ``variance`` is not,
            for the same start values. Default: None, that is ``variance``.
        phi_name: what ``phi`` is called in print; None without one.
        categories: labels of the categories, for families that have them.
        without_intercept: the components whose intercept something else takes the place of, as thresholds do; such a
            family has a "disp" only where it is asked for.
        bind: ``(family, y, categories, components) -> `` the family for these data, where it must know something of
            them before it is compiled, as the number of categories. Default: None, the same for all data.

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
    shared_nll: Callable[[Any, Mapping[str, Any], Any], Any] | None = None
    has_dispersion: bool = False
    shape: Shape | None = None
    predictors: tuple[str, ...] = ()
    mean: Callable[[Given], Any] = _mu
    variance: Callable[[Given], Any] = _no_variance
    sigma: Callable[[Any], Any] = sigma_is_phi
    simulate: Callable[[np.random.Generator, Given], Any] = _no_simulate
    cdf: Callable[[Any, Given], Any] = _no_cdf
    deviance: Callable[[Any, Given], Any] = no_deviance
    probabilities: Callable[[Given], Any] | None = None
    response: str = "real"
    support: str = "finite numbers"
    in_support: Callable[[Any, Any], Any] = _finite
    has_zeros: bool | None = None
    interior: float = 1.0
    zero_inflated: bool = False
    start_mu: Callable[[Any, Any], Any] = _mean_everywhere
    start_variance: Callable[[Any, Any], Any] = _constant_variance
    working_variance: Callable[[Given], Any] | None = None
    phi_name: str | None = None
    categories: tuple[Any, ...] = ()
    without_intercept: tuple[str, ...] = ()
    bind: Callable[[Family, Any, tuple[Any, ...], tuple[str, ...]], Family] | None = None

    @property
    def components(self) -> tuple[str, ...]:
        """The linear predictors of the family: "cond", its further ones, "disp", "zi"."""
        disp, zi = ("disp",) * self.has_dispersion, ("zi",) * self.zero_inflated
        return ("cond", *self.predictors, *disp, *zi)

    def full_nll(self, y: Any, eta: Mapping[str, Any], trials: Any) -> Any:
        """The negative log-density of each row less ``log_base``; JAX."""
        own = self.nll(y, eta, trials, self.link)
        return own if self.shared_nll is None else own + self.shared_nll(y, eta, trials)

    def __post_init__(self) -> None:
        if not isinstance(self.link, Link):
            raise FamilyError(
                f"the link of family {self.name!r} must be a Link, got {self.link!r}: take one from "
                "glmmjax.families.LINKS, as in LINKS['log']."
            )
        if not self.links:
            object.__setattr__(self, "links", (self.link.name,))
        if self.has_zeros is None and self.response not in ("real", "count", "trials"):
            object.__setattr__(self, "has_zeros", False)
        if self.has_dispersion and self.phi_name is None:
            object.__setattr__(self, "phi_name", "dispersion parameter")


@lru_cache(maxsize=64)
def check_private(family: Family) -> None:
    """Raise unless a family that is not of this package gives one log-density for each row.

    Raises:
        FamilyError: ``nll`` returns another shape.
    """
    own = family.nll if hasattr(family.nll, "__module__") else type(family.nll)
    if str(own.__module__).startswith("glmmjax.") or family.bind is not None:
        return
    n = 3
    rows = np.full(n, family.interior)
    eta = {name: np.zeros(n) for name in family.components}
    if family.shape is not None:
        eta["psi"] = np.asarray(family.shape.start(rows, np.ones(n)), dtype=float)
    with double_precision():
        out = jax.eval_shape(lambda eta: family.full_nll(rows, eta, np.ones(n)), eta)
    if getattr(out, "shape", None) != (n,):
        shape = getattr(out, "shape", type(out).__name__)
        raise FamilyError(
            f"family {family.name!r}: nll must return the negative log-density of each row, (n,), but for {n} rows it "
            f"returns {shape}: leave out the sum."
        )


def variance_if_known(variance: Callable[[Given], Any], at: Given) -> Any | None:
    """What a variance function gives; None for that of a private family without one."""
    try:
        return variance(at)
    except FamilyError:
        return None


def has_plain_mean(family: Family) -> bool:
    """Whether the mean of the response, without extra zeros, is that of the link: ``g^-1(eta)``."""
    mean = family.mean
    if family.zero_inflated and isinstance(mean, Bound):
        return has_plain_mean(mean.first)
    return mean is _mu


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


def unit_link(family: str, link: str | Link | None, allowed: Mapping[str, Link] = PROBABILITY) -> Link:
    """A link onto the unit interval; see :func:`choose_link`.

    Raises:
        FamilyError: the link is another one.
    """
    chosen = choose_link(family, link, allowed)
    if chosen.log1m_inverse is None:
        raise FamilyError(
            f"family {family!r} needs a link onto the unit interval: give {chosen.name!r} a log1m_inverse."
        )
    return chosen


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


def log_ratio(y: Any, mu: Any) -> Any:
    """``y log(y / mu)``, 0 at ``y = 0``; NumPy."""
    from scipy.special import xlogy

    return xlogy(y, y) - xlogy(y, mu)


def one(phi: Any) -> float:
    """What ``sigma`` reports for a family without dispersion."""
    return 1.0


def log_factorial_excess(y: Any) -> Any:
    """``log y! - y log y + y``, 0 at ``y = 0``; NumPy.

    >>> log_factorial_excess(np.array([0.0, 1.0, 2.0])).round(6).tolist()
    [0.0, 1.0, 1.306853]
    """
    y = np.asarray(y, dtype=float)
    log_y = np.log(np.where(y > 0, y, 1.0))
    return np.where(y > 0, log_gamma_excess(log_y, NUMPY) + log_y, 0.0)


def poisson_base(y: Any, trials: Any) -> Any:
    """The Poisson log-density of each count at ``mu = y``, the base of the families of counts."""
    return -log_factorial_excess(y)


def nbinom_cdf(y: Any, size: Any, success: Any) -> Any:
    """``P(Y <= y)`` of a negative binomial count with a size and a probability of success; NumPy."""
    from scipy.special import betainc

    y = np.floor(y)
    return np.where(y < 0, 0.0, betainc(size, np.maximum(y, 0.0) + 1.0, success))


def nbinom_above(y: Any, size: Any, success: Any) -> Any:
    """``P(Y > y)`` at y >= 0, to full relative accuracy where it is tiny; success is ``mu / (mu + size)``; NumPy."""
    from scipy.special import betainc

    return betainc(y + 1.0, size, success)


def in_counts(y: Any, trials: Any) -> Any:
    """Where ``y`` is a count."""
    return is_whole(y)


def in_positive(y: Any, trials: Any) -> Any:
    """Where ``y`` is a positive number."""
    return np.isfinite(y) & (np.asarray(y) > 0)


def start_at_y(y: Any, trials: Any) -> Any:
    """The responses themselves."""
    return np.asarray(y, dtype=float)


def squared_mean_variance(mu: Any, trials: Any) -> Any:
    """``V(mu) = mu^2``."""
    return mu**2


def start_count(y: Any, trials: Any) -> Any:
    """The counts, with 1/6 in place of 0, as MASS's ``negative.binomial`` does."""
    y = np.asarray(y, dtype=float)
    return np.where(y == 0, 1.0 / 6.0, y)


def mean_variance(mu: Any, trials: Any) -> Any:
    """``V(mu) = mu``."""
    return mu


def count_family(
    name: str, link: str | Link | None, nll: Callable[[Any, Mapping[str, Any], Any, Link], Any], **rest: Any
) -> Family:
    """A family of counts from 0 on, with the links and the support that they share; ``rest`` goes before these.

    >>> count_family("mine", None, lambda y, eta, trials, link: y).links
    ('log', 'identity', 'sqrt')
    """
    common = {
        "links": tuple(COUNT_LINKS),
        "response": "count",
        "support": "whole numbers of 0 or more",
        "in_support": in_counts,
        "has_zeros": True,
        "start_mu": start_count,
        "start_variance": mean_variance,
    }
    return Family(name, choose_link(name, link, COUNT_LINKS), nll, **{**common, **rest})
