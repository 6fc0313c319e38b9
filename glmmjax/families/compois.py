"""Conway-Maxwell-Poisson counts by their mean; ``phi = 1 / nu``, more than one for overdispersed counts.

    f(y) = lambda^y / (y!)^nu / Z(lambda, nu),    log lambda chosen so that the mean is mu

Every derivative of ``log Z`` and of ``log lambda`` is a polynomial in the joint central moments of Y and ``log Y!``, so
that one pass over the support serves them all, whatever the order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._errors import FamilyError
from glmmjax._links import Link
from glmmjax.families._family import Bound, Family, Given, count_family, inside

LARGEST_COUNT = 5000
TERMS = 512
TOLERANCE = 1e-13
MAX_STEPS = 60
MOST_NUMBERS = 1_000_000  # of probabilities that are held at a time
# Of log nu: at the lower end the distribution is geometric to rounding, at the upper one it has a variance of next to
# nothing at whole means, by which the derivatives divide.
LOG_NU = (-40.0, 3.5)

Moments = dict[Any, Any]


def _log_factorials(terms: int) -> np.ndarray:
    from scipy.special import gammaln

    return np.asarray(gammaln(np.arange(float(terms)) + 1.0))


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def moments(terms: int, order: int, theta: Any, nu: Any) -> Moments:
    """``(0, 0)``: log Z; ``(1, 0)``, ``(0, 1)``: the means of Y and ``L = log Y!``; ``(a, b)``: central moments.

    Up to ``order``, which is 0 or at least 2.

    ``theta`` (n,) is ``log lambda``, ``nu`` of the same shape; the sums have ``terms`` terms.
    """
    j, L = np.arange(float(terms)), _log_factorials(terms)
    logits = theta[..., None] * j - nu[..., None] * L
    largest = jnp.max(logits, axis=-1, keepdims=True)
    weight = jnp.exp(logits - largest)
    total = jnp.sum(weight, axis=-1)
    # where 0 is the mode log Z may be tiny
    log_total = jnp.where(largest[..., 0] == 0, jnp.log1p(jnp.sum(weight[..., 1:], axis=-1)), jnp.log(total))
    found: Moments = {(0, 0): log_total + largest[..., 0]}
    if order == 0:
        return found
    p = weight / total[..., None]
    found[1, 0], found[0, 1] = p @ j, p @ L
    D, E = j - found[1, 0][..., None], L - found[0, 1][..., None]
    for b in range(order + 1):
        power = p
        for a in range(order + 1 - b):
            if a + b >= 2:
                found[a, b] = jnp.sum(power, axis=-1)
            power = power * D
        p = p * E
    return found


@moments.defjvp
def _moments_jvp(terms: int, order: int, primals: Any, tangents: Any) -> Any:
    at = moments(terms, max(order + 1, 2), *primals)
    theta_dot, nu_dot = tangents

    def central(a: int, b: int) -> Any:
        return {0: 1.0, 1: 0.0}[a + b] if a + b < 2 else at[a, b]

    def slope(key: Any) -> Any:
        if key == (0, 0):
            return at[1, 0] * theta_dot - at[0, 1] * nu_dot
        if sum(key) == 1:
            return at[(key[0] + 1, key[1])] * theta_dot - at[(key[0], key[1] + 1)] * nu_dot
        a, b = key
        own = central(a + 1, b) * theta_dot - central(a, b + 1) * nu_dot
        if a:
            own = own - a * central(a - 1, b) * (at[2, 0] * theta_dot - at[1, 1] * nu_dot)
        if b:
            own = own - b * central(a, b - 1) * (at[1, 1] * theta_dot - at[0, 2] * nu_dot)
        return own

    value = {key: x for key, x in at.items() if sum(key) <= order}
    return value, {key: slope(key) for key in value}


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def log_rate(terms: int, log_mu: Any, nu: Any) -> Any:
    """``log lambda`` (n,) of the distribution with the mean ``exp(log_mu)``, by Newton's method on the log mean."""
    mu = jnp.exp(log_mu)
    middle = mu + (nu - 1.0) / (2.0 * nu)
    start = jnp.where(middle > 0.1, nu * jnp.log(jnp.where(middle > 0.1, middle, 1.0)), log_mu)

    def step(state: Any) -> Any:
        theta, _, count = state
        at = moments(terms, 2, theta, nu)
        change = (log_mu - jnp.log(at[1, 0])) * at[1, 0] / at[2, 0]
        change = jnp.clip(jnp.where(jnp.isfinite(change), change, 0.0), -2.0, 2.0)
        return theta + change, jnp.max(jnp.abs(change) / (1.0 + jnp.abs(theta))), count + 1

    first = (start, jnp.array(jnp.inf), jnp.array(0))
    return jax.lax.while_loop(lambda s: (s[1] > TOLERANCE) & (s[2] < MAX_STEPS), step, first)[0]


@log_rate.defjvp
def _log_rate_jvp(terms: int, primals: Any, tangents: Any) -> Any:
    log_mu, nu = primals
    theta = log_rate(terms, log_mu, nu)
    at = moments(terms, 2, theta, nu)
    return theta, (jnp.exp(log_mu) * tangents[0] + at[1, 1] * tangents[1]) / at[2, 0]


def _nll(terms: int, y: Any, eta: Mapping[str, Any], trials: Any, link: Link) -> Any:
    log_nu = jnp.clip(-eta["disp"], *LOG_NU)
    log_factorial = jax.scipy.special.gammaln(y + 1.0)

    def density(cond: Any) -> Any:
        log_mu = link.log_inverse(cond)
        possible = log_mu < np.log(0.5 * terms)  # beyond, the sums would end where the distribution begins
        safe, nu = jnp.broadcast_arrays(jnp.where(possible, log_mu, 0.0), jnp.exp(log_nu))
        theta = log_rate(terms, safe, nu)
        own = moments(terms, 0, theta, nu)[0, 0] - y * theta + nu * log_factorial
        return jnp.where(possible, own, jnp.inf)

    return inside(link, eta["cond"], density)


def bind_terms(family: Family, y: Any, categories: tuple[Any, ...], components: tuple[str, ...]) -> Family:
    """The family with sums that are long enough for the largest count.

    Raises:
        FamilyError: the counts are too large for sums.
    """
    largest = float(np.max(y, initial=0.0))
    if largest > LARGEST_COUNT:
        raise FamilyError(
            f"family {family.name!r} sums over all counts, and the largest is {largest:g}, above {LARGEST_COUNT}: use "
            "'genpois' or 'nbinom2'."
        )
    return replace(family, nll=Bound(_nll, 1 << int(np.ceil(np.log2(6.0 * largest + 100.0)))))


def _by_chunks(at: Given, read: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """What ``read(p, which)`` says of each row, from the probabilities ``p`` (m, terms) of some distinct mu and phi.

    ``which`` are the positions of the rows in the whole, and ``p`` has one row for each of them. The distinct pairs are
    taken in the order of their sums' lengths, so many at a time that the sums of all of them stay small.
    """
    mu, phi = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (at.mu, at.phi)))
    nu = np.exp(np.clip(-np.log(phi), *LOG_NU))
    # The density is log-concave: 45 standard deviations out a tail has less than exp(-44). The geometric distribution
    # has the largest variance.
    sd = np.sqrt(np.minimum(1.5 * mu * phi + 2.0, mu + mu**2))
    lengths = np.maximum(TERMS, mu + 45.0 * sd + 100.0).reshape(-1)
    order = np.lexsort((nu.reshape(-1), mu.reshape(-1), lengths))
    flat_mu, flat_nu = mu.reshape(-1)[order], nu.reshape(-1)[order]
    new = np.append(True, (np.diff(flat_mu) != 0) | (np.diff(flat_nu) != 0))[: len(order)]
    pair = np.cumsum(new) - 1  # of each row, in this order
    first = np.flatnonzero(new)
    out = np.empty(mu.size)
    begin = 0
    while begin < len(first):
        some = max(1, int(MOST_NUMBERS // lengths[order[first[begin]]]))
        while some > 1 and some * lengths[order[first[min(begin + some, len(first)) - 1]]] > MOST_NUMBERS:
            some //= 2
        end = min(begin + some, len(first))
        p = _solved(int(lengths[order[first[end - 1]]]), flat_mu[first[begin:end]], flat_nu[first[begin:end]])
        rows = slice(first[begin], first[end] if end < len(first) else len(order))
        out[order[rows]] = read(p[pair[rows] - begin], order[rows])
        begin = end
    return out.reshape(mu.shape)


def _solved(terms: int, mu: np.ndarray, nu: np.ndarray) -> np.ndarray:
    """The probabilities (m, terms), by the same iteration as :func:`log_rate` in NumPy."""
    j, L = np.arange(float(terms)), _log_factorials(terms)
    middle = mu + (nu - 1.0) / (2.0 * nu)
    theta = np.where(middle > 0.1, nu * np.log(np.maximum(middle, 0.1)), np.log(mu))
    for _ in range(MAX_STEPS):
        logits = theta[:, None] * j - nu[:, None] * L
        weight = np.exp(logits - np.max(logits, axis=1, keepdims=True))
        p = weight / np.sum(weight, axis=1, keepdims=True)
        mean = p @ j
        variance = np.sum(p * (j - mean[:, None]) ** 2, axis=1)
        change = np.clip((np.log(mu) - np.log(mean)) * mean / variance, -2.0, 2.0)
        if np.all(np.abs(change) <= TOLERANCE * (1.0 + np.abs(theta))):
            break
        theta = theta + change
    return np.asarray(p)


def _variance(at: Given) -> Any:
    def read(p: np.ndarray, which: np.ndarray) -> np.ndarray:
        j = np.arange(float(p.shape[1]))
        return np.sum(p * (j - (p @ j)[:, None]) ** 2, axis=1)

    return _by_chunks(at, read)


def nll_of_zero(at: Given) -> Any:
    """``-log f(0) = log Z``, to full relative accuracy for tiny means."""

    def read(p: np.ndarray, which: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return -np.log1p(-np.sum(p[:, 1:], axis=1))

    return _by_chunks(at, read)


def _working_variance(at: Given) -> Any:
    return at.mu * at.phi


def _simulate(rng: np.random.Generator, at: Given) -> Any:
    level = rng.uniform(size=np.broadcast_shapes(np.shape(at.mu), np.shape(at.phi))).reshape(-1)

    def read(p: np.ndarray, which: np.ndarray) -> np.ndarray:
        return np.sum(np.cumsum(p[:, :-1], axis=1) < level[which, None], axis=1).astype(float)

    return _by_chunks(at, read)


def _summed(first: int, y: Any, at: Given) -> np.ndarray:
    """``P(first <= Y <= y | Y >= first)``."""
    mu, phi, y = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (at.mu, at.phi, y)))
    counts = np.floor(y).reshape(-1)

    def read(p: np.ndarray, which: np.ndarray) -> np.ndarray:
        total = np.cumsum(p[:, first:], axis=1)
        picked = np.clip(counts[which] - first, 0, total.shape[1] - 1).astype(int)
        own = np.take_along_axis(total, picked[:, None], axis=1)[:, 0] / (total[:, -1] if first else 1.0)
        return np.where(counts[which] < first, 0.0, np.minimum(own, 1.0))

    return _by_chunks(at._replace(mu=mu, phi=phi), read)


def _cdf(y: Any, at: Given) -> Any:
    return _summed(0, y, at)


def within(y: Any, at: Given) -> Any:
    """``P(Y <= y | Y > 0)``."""
    return _summed(1, y, at)


def compois(link: str | Link | None = None) -> Family:
    """The Conway-Maxwell-Poisson family with mean ``mu`` and ``nu = 1 / phi``; Poisson at ``phi = 1``.

    The variance has no closed form; it is about ``mu phi`` where the mean is not small. Links: log, identity, sqrt. The
    sums have at least ``6 max(y) + 100`` terms; counts may be up to 5000.

    Source: Huang (2017), Statistical Modelling 17(6).

    >>> from glmmjax.families import Given
    >>> round(float(compois().variance(Given(2.0, 1.0))), 6)
    2.0
    """
    return count_family(
        "compois",
        link,
        Bound(_nll, TERMS),
        has_dispersion=True,
        variance=_variance,
        simulate=_simulate,
        cdf=_cdf,
        working_variance=_working_variance,
        phi_name="1 / nu",
        bind=bind_terms,
    )
