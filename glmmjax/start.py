"""Start values from NumPy alone: the model without random effects, then its linearization with them.

beta           iteratively reweighted least squares (Nelder & Wedderburn 1972), without the zeros of a hurdle model
beta_zi        logistic regression of y == 0
psi            where the family says
Sigma_t, phi   a few steps of the EM algorithm for the linear mixed model that the last working response follows,
               term by term (Laird & Ware 1982); phi makes the expected Pearson statistic match its variance
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from glmmjax._errors import FamilyError
from glmmjax._links import Link
from glmmjax._special import NUMPY
from glmmjax.design import Design, Term
from glmmjax.families import Family, Given, binomial
from glmmjax.layout import Layout, beta_name

IRLS_STEPS = 8
HALVINGS = 6
EM_STEPS = 6
LARGEST_SAMPLE = 20_000
PLAIN_VARIANCE = {"zi": 1.0}  # of effects about which nothing is known yet, on the scale of a linear predictor
OTHER_VARIANCE = 0.25
LARGEST_START = 6.0
ALL = slice(None)


class _Working(NamedTuple):
    """The linearized response: residuals on the link scale (n,), dmu / deta, means and linear predictors (n,)."""

    beta: np.ndarray
    residual: np.ndarray
    slope: np.ndarray
    mu: np.ndarray
    eta: np.ndarray


def start_values(design: Design, family: Family, layout: Layout, scale: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Start values of all parameters, by name; ``scale`` has the matrix of :func:`orthonormal_scale` per component."""
    params = {beta_name(c): np.zeros(part.X.shape[1]) for c, part in design.components.items()}
    Sigmas = [PLAIN_VARIANCE.get(placed.component, OTHER_VARIANCE) * np.eye(placed.width) for placed in layout.terms]
    if family.shape is not None:
        held = family.shape.held
        params["psi"] = np.asarray(family.shape.start(design.y, design.trials) if held is None else held, dtype=float)
    if family.zero_inflated:
        params["beta_zi"] = _zero_start(design, scale["zi"])
    if family.response != "categories":
        used = _where_not_zero(design) if family.zero_inflated and not family.has_zeros else design
        if family.response == "interval":
            middle = np.asarray(family.start_mu(design.y, design.trials), dtype=float)
            used = replace(used, y=middle, trials=np.ones_like(middle))
        working = _irls(used, family, scale["cond"])
        params["beta"] = working.beta
        psi = () if family.shape is None else tuple(family.shape.natural(params["psi"]))
        own, phi = _em(used, family, layout, working, psi)
        for t, Sigma in own.items():
            Sigmas[t] = Sigma
        if family.has_dispersion:
            X = design.components["disp"].X
            params["beta_disp"] = np.linalg.lstsq(X, np.full(len(X), np.log(phi)), rcond=None)[0]
    parts = [placed.covariance.start(Sigma) for placed, Sigma in zip(layout.terms, Sigmas, strict=True)]
    params["theta"] = np.concatenate(parts) if parts else np.zeros(0)
    return params


def _where_not_zero(design: Design) -> Design:
    """The design with weight zero in the rows whose response is zero."""
    return replace(design, weights=np.where(design.y == 0, 0.0, design.weights))


def _zero_start(design: Design, T: np.ndarray) -> np.ndarray:
    """Coefficients of the zeros, all of them laid to zero inflation: from few, a mixture finds a spurious maximum."""
    zero = (design.y == 0).astype(float)
    part = replace(design.components["zi"], terms=())
    logistic = replace(design, y=zero, trials=np.ones_like(zero), components={"cond": part})
    return np.clip(_irls(logistic, binomial(None), T).beta, -LARGEST_START, LARGEST_START)


def orthonormal_scale(X: np.ndarray) -> np.ndarray:
    """The upper-triangular T (p, p) for which the columns of ``X T`` are orthogonal with mean square one.

    >>> X = np.column_stack([np.ones(4), [1.0, 2.0, 3.0, 4.0]])
    >>> np.allclose((X @ orthonormal_scale(X)).T @ (X @ orthonormal_scale(X)), 4 * np.eye(2))
    True
    """
    if X.shape[1] == 0:
        return np.zeros((0, 0))
    R = np.linalg.qr(X, mode="r")
    return np.linalg.solve(R, np.eye(len(R))) * np.sqrt(len(X))


def _irls(design: Design, family: Family, T: np.ndarray) -> _Working:
    part = design.components["cond"]
    link, X = family.link, part.X @ T
    y = design.y / design.trials

    def at(coefficients: np.ndarray) -> _Working:
        eta = X @ coefficients + part.offset
        mu, slope = link.inverse(eta, NUMPY), slope_of(link, eta)
        with np.errstate(divide="ignore", invalid="ignore"):  # a step too far, which usable() sees
            return _Working(coefficients, (y - mu) / slope, slope, mu, eta)

    def usable(working: _Working, eta: np.ndarray) -> bool:
        inside = link.valid is None or bool(np.all(link.valid(eta)))
        return inside and bool(np.all(np.isfinite(working.residual)) and np.all(np.isfinite(working.slope)))

    mu = np.asarray(family.start_mu(design.y, design.trials), dtype=float)
    mu = np.where(design.weights > 0, mu, np.average(mu, weights=design.weights))
    eta = np.asarray(link.link(mu), dtype=float)
    slope = slope_of(link, eta)
    center = float(link.link(np.average(mu, weights=design.weights)))
    y = np.where(design.weights > 0, y, mu)  # rows without weight must not count, nor spoil anything
    current = at(np.linalg.lstsq(X, center - part.offset, rcond=None)[0])
    for _ in range(IRLS_STEPS):
        weights = design.weights * slope**2 / family.start_variance(mu, design.trials)
        target = eta - part.offset + (y - mu) / slope
        full = np.linalg.lstsq((X.T * weights) @ X, X.T @ (weights * target), rcond=None)[0]
        for halving in range(HALVINGS):
            new = at(current.beta + 0.5**halving * (full - current.beta))
            eta = X @ new.beta + part.offset
            if usable(new, eta):
                break
        else:
            break
        change = np.max(np.abs(new.beta - current.beta), initial=0.0)
        current, mu, slope = new, new.mu, new.slope
        if change < 1e-4:
            break
    return current._replace(beta=T @ current.beta)


def slope_of(link: Link, eta: np.ndarray) -> np.ndarray:
    """``dmu / deta`` by a central difference: these are only start values."""
    h = 1e-5 * (1.0 + np.abs(eta))
    return (link.inverse(eta + h, NUMPY) - link.inverse(eta - h, NUMPY)) / (2.0 * h)


def _em(
    design: Design, family: Family, layout: Layout, working: _Working, psi: tuple[Any, ...]
) -> tuple[dict[int, np.ndarray], float]:
    """The covariance (q, q) of each term of the mean, and phi, after a few EM steps on the working response.

    The model of these steps is ``residual = sum_t z_t' b_t + error``.
    """
    terms = {t: term for t, (component, term) in enumerate(design.terms) if component == "cond"}
    weights, residual = design.weights, working.residual
    variance = partial(_variance, design, family, working, psi)
    phi = _dispersion(design, family, variance, (working.slope * residual) ** 2)
    Sigmas = {t: np.zeros((0, 0)) for t in terms}
    fits = {t: np.zeros_like(residual) for t in terms}
    # a factor with few groups can only be seen before those with many have explained its share
    coarse_first = sorted(terms, key=lambda t: len(terms[t].levels))
    for _ in range(EM_STEPS if terms else 0):
        precision = weights * working.slope**2 / variance(phi)
        spare = np.zeros_like(residual)
        for t in coarse_first:
            placed, term = layout.terms[t], terms[t]
            others = sum((fit for s, fit in fits.items() if s != t), start=np.zeros_like(residual))
            b, V, Sigmas[t] = _em_step(term, residual - others, precision, Sigmas[t])
            if not placed.covariance.correlated:
                Sigmas[t] = np.diag(np.diag(Sigmas[t]))
            fits[t] = np.einsum("ij,ij->i", term.Z, b[term.index])
            spare += np.einsum("ij,ijk,ik->i", term.Z, V[term.index], term.Z)
        if family.has_dispersion:
            left = residual - sum(fits.values(), start=np.zeros_like(residual))
            phi = _dispersion(design, family, variance, working.slope**2 * (left**2 + spare))
    return Sigmas, phi


def _variance(
    design: Design, family: Family, working: _Working, psi: tuple[Any, ...], phi: float, rows: slice = ALL
) -> np.ndarray:
    """The variance of the response in some rows, as far as the family knows it."""
    mu, eta, trials = working.mu[rows], working.eta[rows], design.trials[rows]
    base = family.start_variance(mu, trials)
    try:
        own = (family.working_variance or family.variance)(Given(mu, phi, trials, psi, eta={"cond": eta}))
    except FamilyError:  # a private family without a variance
        return np.asarray(base)
    return np.where(np.isfinite(own) & (own > 0), own, base)


def _em_step(
    term: Term, residual: np.ndarray, precision: np.ndarray, Sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means (G, q) and covariances (G, q, q) of the effects given the residuals, and the next Sigma (q, q).

    Without a Sigma yet, (0, 0), it begins from the sampling variance of a typical group's own coefficients.
    """
    n_groups, q = len(term.levels), term.Z.shape[1]
    A = np.empty((n_groups, q, q))
    score = np.empty((n_groups, q))
    for i in range(q):
        score[:, i] = np.bincount(term.index, precision * term.Z[:, i] * residual, minlength=n_groups)
        for j in range(i + 1):
            A[:, i, j] = np.bincount(term.index, precision * term.Z[:, i] * term.Z[:, j], minlength=n_groups)
            A[:, j, i] = A[:, i, j]
    information = np.maximum(np.mean(np.einsum("gii->gi", A), axis=0), 1e-300)
    if Sigma.size == 0:
        Sigma = np.diag(1.0 / information)
    V = np.linalg.inv(A + np.linalg.inv(Sigma))
    b = np.einsum("gij,gj->gi", V, score)
    Sigma = np.einsum("gi,gj->ij", b, b) / n_groups + np.mean(V, axis=0)
    # No variance so small that the iteration would have to find its way back from zero.
    return b, V, Sigma + np.diag(1e-2 / information)


def _dispersion(design: Design, family: Family, variance: Callable[..., np.ndarray], squared: np.ndarray) -> float:
    """The phi for which the weighted mean of ``squared / Var(y)`` is one, found on the log scale."""
    if not family.has_dispersion:
        return 1.0
    some = slice(None, None, max(1, len(squared) // LARGEST_SAMPLE))
    weights, squared = design.weights[some], squared[some]

    def excess(log_phi: float) -> float:
        # as a logarithm, which is linear in log phi where the variance is proportional to phi
        pearson = np.sum(weights * squared / variance(float(np.exp(log_phi)), some))
        return float(np.log(max(float(pearson), 1e-300)) - np.log(np.sum(weights)))

    # Counts that are not overdispersed send the moment estimate to the end of the range: begin from a mild excess.
    low, high = (-20.0, 20.0) if family.response in ("real", "positive") else (-3.0, 3.0)
    return float(np.exp(_root(excess, low, high)))


def _root(f: Callable[[float], float], low: float, high: float, tolerance: float = 1e-3) -> float:
    """A root of a monotone function by the Illinois variant of false position; without one, the nearer end.

    >>> round(_root(lambda x: x**3 - 8.0, 0.0, 5.0), 2)
    2.0
    """
    at_low, at_high = f(low), f(high)
    if not at_low * at_high < 0.0:
        return low if abs(at_low) < abs(at_high) else high
    middle = low
    for _ in range(20):
        last, middle = middle, (low * at_high - high * at_low) / (at_high - at_low)
        at_middle = f(middle)
        if abs(middle - last) < tolerance or at_middle == 0.0:
            break
        if at_middle * at_high < 0.0:
            low, at_low = high, at_high
        else:
            at_low *= 0.5
        high, at_high = middle, at_middle
    return middle
