"""Start values from NumPy alone: the model without random effects, then moments of its residuals.

    beta    iteratively reweighted least squares (Nelder & Wedderburn 1972)
    phi     the dispersion that makes the Pearson statistic equal to its degrees of freedom
    theta   variances of the groups' own coefficients beyond sampling error (DerSimonian & Laird 1986), no correlation
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from glmmjax._links import Link
from glmmjax._special import NUMPY
from glmmjax.design import Design, Term
from glmmjax.families import Family
from glmmjax.layout import Layout, beta_name

IRLS_STEPS = 8
LARGEST_SAMPLE = 20_000


class _Working(NamedTuple):
    """The linearized response: residuals on the link scale (n,), their variances (n,) for phi = 1, the means (n,)."""

    beta: np.ndarray
    residual: np.ndarray
    slope: np.ndarray
    mu: np.ndarray


def start_values(design: Design, family: Family, layout: Layout, scale: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Start values of all parameters, by name; ``scale`` has the matrix of :func:`orthonormal_scale` per component."""
    working = _irls(design, family, scale["cond"])
    params = {"beta": working.beta}
    phi = 1.0
    if family.has_dispersion:
        phi = _dispersion(design, family, working)
        beta_disp = np.zeros(design.components["disp"].X.shape[1])
        constant = np.linalg.lstsq(design.components["disp"].X, np.full(len(design.y), np.log(phi)), rcond=None)[0]
        params[beta_name("disp")] = constant if np.all(np.isfinite(constant)) else beta_disp
    variance = family.variance(working.mu, phi, design.trials) / working.slope**2
    terms = [term for part in design.components.values() for term in part.terms]
    parts = [
        placed.covariance.start(_spread(term, working.residual, variance, design.weights))
        for placed, term in zip(layout.terms, terms, strict=True)
    ]
    params["theta"] = np.concatenate(parts) if parts else np.zeros(0)
    return params


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
    mu = np.asarray(family.start_mu(design.y, design.trials), dtype=float)
    eta = np.asarray(link.link(mu), dtype=float)
    coefficients = np.zeros(X.shape[1])
    slope = _slope(link, eta)
    for _ in range(IRLS_STEPS):
        weights = design.weights * slope**2 / family.start_variance(mu, design.trials)
        target = eta - part.offset + (y - mu) / slope
        new = np.linalg.lstsq((X.T * weights) @ X, X.T @ (weights * target), rcond=None)[0]
        new_eta = X @ new + part.offset
        new_mu, new_slope = link.inverse(new_eta, NUMPY), _slope(link, new_eta)
        usable = np.isfinite(new_mu) & np.isfinite(new_slope) & (new_slope != 0)
        if not np.all(usable) or (link.valid is not None and not np.all(link.valid(new_eta))):
            break
        change = np.max(np.abs(new - coefficients), initial=0.0)
        coefficients, eta, mu, slope = new, new_eta, new_mu, new_slope
        if change < 1e-4:
            break
    return _Working(T @ coefficients, (y - mu) / slope, slope, mu)


def _slope(link: Link, eta: np.ndarray) -> np.ndarray:
    """``dmu / deta`` by a central difference: these are only start values."""
    h = 1e-5 * (1.0 + np.abs(eta))
    return (link.inverse(eta + h, NUMPY) - link.inverse(eta - h, NUMPY)) / (2.0 * h)


def _dispersion(design: Design, family: Family, working: _Working) -> float:
    """The phi for which the weighted mean of ``(y - mu)^2 / Var(y)`` is one, found by bisection on the log scale."""
    some = slice(None, None, max(1, len(design.y) // LARGEST_SAMPLE))
    mu, trials, weights = working.mu[some], design.trials[some], design.weights[some]
    squared = (design.y[some] / trials - mu) ** 2

    def excess(log_phi: float) -> float:
        return float(np.sum(weights * squared / family.variance(mu, np.exp(log_phi), trials)) - np.sum(weights))

    low, high = -20.0, 20.0
    rising = excess(low) < excess(high)
    for _ in range(40):
        middle = 0.5 * (low + high)
        if (excess(middle) > 0) == rising:
            high = middle
        else:
            low = middle
    # Counts that are not overdispersed send the moment estimate to the end of the range: begin from a mild excess.
    bound = (-20.0, 20.0) if family.response in ("real", "positive") else (-3.0, 3.0)
    return float(np.exp(np.clip(middle, *bound)))


def _spread(term: Term, residual: np.ndarray, variance: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A standard deviation for each column of a term (q,)."""
    n_groups = len(term.levels)
    precision = weights / variance
    sds = []
    for z in term.Z.T:
        information = np.bincount(term.index, precision * z**2, minlength=n_groups)
        score = np.bincount(term.index, precision * z * residual, minlength=n_groups)
        seen = information > 1e-8 * np.max(information)
        information, score = information[seen], score[seen]
        total = np.sum(information)
        spare = total - np.sum(information**2) / total
        excess = np.sum(score**2 / information) - (len(information) - 1)
        typical = 1.0 / np.sqrt(np.mean(information))
        largest = 3.0 * np.sqrt(np.average(residual**2, weights=weights) / np.mean(z**2))
        moment = np.sqrt(max(excess, 0.0) / spare) if spare > 0 else 0.0
        sds.append(np.clip(moment, min(0.3 * typical, largest), largest))
    return np.array(sds)
