"""Start values of variances and dispersion from working responses, of one fit or of many with the same design.

Sigma_t, phi   a few steps of the EM algorithm for the linear mixed model that the working response follows, term by
               term (Laird & Ware 1982); phi makes the expected Pearson statistic match its variance

Arrays (m, ...) have a row for each of the m responses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from glmmjax.centering import centering, far_columns
from glmmjax.design import Design, Term
from glmmjax.families import Family, Given, variance_if_known
from glmmjax.layout import Layout

# Beside a dispersion, with which the variances compete, too few steps end in worse maxima; beside the wall of a link
# that allows only some predictors, a variance that is still too large may have no modes.
EM_STEPS, EM_STEPS_OF_OTHERS = 6, 3
LARGEST_SAMPLE = 20_000
TINY = 1e-300


class Working(NamedTuple):
    """Linearized responses: residuals on the link scale, dmu / deta, means, linear predictors; all (m, n).

    Attributes:
        trials, weights: (m, n) or (n,).
    """

    residual: np.ndarray
    slope: np.ndarray
    mu: np.ndarray
    eta: np.ndarray
    trials: np.ndarray
    weights: np.ndarray

    def some(self, step: int) -> Working:
        """Every so many rows."""
        return Working(*(x[..., ::step] for x in self))


def em(
    design: Design, layout: Layout, family: Family, working: Working, psi: tuple[Any, ...]
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """The covariance (m, q, q) of each term of the mean by its position, and phi (m,), after a few EM steps.

    The model of these steps is ``residual = sum_t z_t' b_t + error``, where slopes on predictors that are far from zero
    are centered; see :func:`glmmjax.start.start_theta`.

    Args:
        psi: shape parameters of the family on their natural scale.
    """
    residual, weights = working.residual, working.weights
    phi = dispersion(family, working, psi, (working.slope * residual) ** 2)
    terms = {
        t: replace(term, Z=term.Z @ centering(term)) if far_columns(layout.terms[t].covariance, term) else term
        for t, (component, term) in enumerate(design.terms)
        if component == "cond"
    }
    Sigmas: dict[int, Any] = dict.fromkeys(terms)
    fits: dict[int, Any] = dict.fromkeys(terms, 0.0)
    left, precision = residual, None
    # a factor with few groups can only be seen before those with many have explained its share
    coarse_first = sorted(terms, key=lambda t: len(terms[t].levels))
    steps = EM_STEPS if family.has_dispersion or family.link.valid is not None else EM_STEPS_OF_OTHERS
    for _ in range(steps if terms else 0):
        if precision is None or family.has_dispersion:
            precision = weights * working.slope**2 / _variance(family, working, psi, phi)
        spare: Any = 0.0
        for t in coarse_first:
            term = terms[t]
            b, V, Sigmas[t] = _em_step(term, left + fits[t], precision, Sigmas[t])
            if not layout.terms[t].covariance.correlated:
                Sigmas[t] = Sigmas[t] * np.eye(Sigmas[t].shape[-1])
            if family.has_dispersion or len(terms) > 1:
                last, fits[t] = fits[t], np.einsum("ij,mij->mi", term.Z, b[:, term.index])
                left = left + last - fits[t]
            if family.has_dispersion:
                spare += np.einsum("ij,mijk,ik->mi", term.Z, V[:, term.index], term.Z)
        if family.has_dispersion:
            phi = dispersion(family, working, psi, working.slope**2 * (left**2 + spare), phi)
    return Sigmas, phi


def dispersion(
    family: Family, working: Working, psi: tuple[Any, ...], squared: np.ndarray, last: np.ndarray | None = None
) -> np.ndarray:
    """The phi (m,) for which the weighted mean of ``squared / Var(y)`` is one, found on the log scale.

    With a ``last`` one it goes a step of one from there at most.
    """
    if not family.has_dispersion:
        return np.ones(len(squared))
    step = max(1, squared.shape[-1] // LARGEST_SAMPLE)
    squared, working = squared[:, ::step], working.some(step)
    total = np.sum(np.broadcast_to(working.weights, squared.shape), axis=1)

    def excess(log_phi: np.ndarray) -> np.ndarray:
        # as a logarithm, which is linear in log phi where the variance is proportional to phi
        pearson = np.sum(working.weights * squared / _variance(family, working, psi, np.exp(log_phi)), axis=1)
        return np.log(np.maximum(pearson, TINY)) - np.log(np.maximum(total, TINY))

    # Counts that are not overdispersed send the moment estimate to the end of the range: begin from a mild excess.
    # A dispersion with a unit may have any size.
    end = np.full(len(squared), 80.0 if family.response in ("real", "positive", "interval") else 3.0)
    if last is None:
        return np.exp(root(excess, -end, end))
    return np.exp(root(excess, np.maximum(np.log(last) - 1.0, -end), np.minimum(np.log(last) + 1.0, end)))


def root(
    f: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray, tolerance: float = 0.01
) -> np.ndarray:
    """Roots (m,) of monotone functions by the Illinois variant of false position.

    Where there is none it is the nearer end, where the function is constant the middle.

    >>> def f(x):
    ...     return x**3 * np.array([1.0, 1.0, 0.0]) - np.array([8.0, 1e9, 1.0])
    >>> root(f, np.zeros(3), np.full(3, 5.0)).round(2).tolist()
    [2.0, 5.0, 2.5]
    """
    at_low, at_high = f(low), f(high)
    bracketed = at_low * at_high < 0.0
    nearer = np.where(np.abs(at_low) < np.abs(at_high), low, high)
    nearer = np.where(at_low == at_high, 0.5 * (low + high), nearer)
    middle = nearer
    for _ in range(20 if np.any(bracketed) else 0):
        last = middle
        with np.errstate(all="ignore"):
            middle = np.where(bracketed, (low * at_high - high * at_low) / (at_high - at_low), nearer)
        middle = np.where(np.isfinite(middle), middle, last)  # where both ends have met
        if np.all(np.abs(middle - last) < tolerance):
            break
        at_middle = f(middle)
        across = at_middle * at_high < 0.0
        low, at_low = np.where(across, high, low), np.where(across, at_high, 0.5 * at_low)
        high, at_high = middle, at_middle
    return middle


def _variance(family: Family, working: Working, psi: tuple[Any, ...], phi: np.ndarray) -> np.ndarray:
    """The variance of the responses (m, n), as far as the family knows it."""
    base = family.start_variance(working.mu, working.trials)
    given = Given(working.mu, phi[:, None], working.trials, psi, eta={"cond": working.eta})
    own = variance_if_known(family.working_variance or family.variance, given)
    if own is None:
        return np.asarray(base)
    return np.where(np.isfinite(own) & (own > 0), own, base)


def _em_step(
    term: Term, residual: np.ndarray, precision: np.ndarray, Sigma: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means (m, G, q) and covariances (m, G, q, q) of the effects given the residuals, and the next Sigma (m, q, q).

    Without a Sigma yet it begins from the sampling variance of a typical group's own coefficients.
    """
    m, n_groups, q = len(residual), len(term.levels), term.Z.shape[1]
    place = (np.arange(m)[:, None] * n_groups + term.index).reshape(-1)

    def by_group(values: np.ndarray) -> np.ndarray:
        return np.bincount(place, values.reshape(-1), minlength=m * n_groups).reshape(m, n_groups)

    A = np.empty((m, n_groups, q, q))
    score = np.empty((m, n_groups, q))
    for i in range(q):
        own = precision * term.Z[:, i]
        score[..., i] = by_group(own * residual)
        for j in range(i + 1):
            A[..., i, j] = A[..., j, i] = by_group(own * term.Z[:, j])
    information = np.maximum(np.mean(np.einsum("mgii->mgi", A), axis=1), TINY)
    if Sigma is None:
        Sigma = np.eye(q) / information[:, None]
    V = np.linalg.inv(A + np.linalg.inv(Sigma)[:, None])
    b = np.einsum("mgij,mgj->mgi", V, score)
    Sigma = np.einsum("mgi,mgj->mij", b, b) / n_groups + np.mean(V, axis=1)
    # No variance so small that the iteration would have to find its way back from zero.
    return b, V, Sigma + np.eye(q) * (1e-2 / information)[:, None]
