"""Start values from NumPy alone: the model without random effects, then its linearization with them.

beta           iteratively reweighted least squares (Nelder & Wedderburn 1972), without the zeros of a hurdle model
beta_zi        logistic regression of y == 0
psi            where the family says
Sigma_t, phi   from the last working response; see :mod:`glmmjax.start_variances`
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from glmmjax._links import Link
from glmmjax._special import NUMPY
from glmmjax.centering import centering, far_columns, moved
from glmmjax.coordinates import PURE, residual_unit
from glmmjax.design import Design, Term
from glmmjax.families import Family, binomial
from glmmjax.layout import Layout, TermLayout, beta_name
from glmmjax.start_variances import Working, em

IRLS_STEPS = 8
HALVINGS = 6
PLAIN_VARIANCE = {"zi": 1.0}  # of effects about which nothing is known yet, on the scale of a linear predictor
OTHER_VARIANCE = 0.25
LARGEST_START = 6.0


class _Working(NamedTuple):
    """The linearized response: residuals on the link scale (n,), dmu / deta, means and linear predictors (n,)."""

    beta: np.ndarray
    residual: np.ndarray
    slope: np.ndarray
    mu: np.ndarray
    eta: np.ndarray

    def alone(self, design: Design) -> Working:
        """As the only one of several."""
        residual, slope, mu, eta = (x[None] for x in (self.residual, self.slope, self.mu, self.eta))
        return Working(residual, slope, mu, eta, design.trials, design.weights)


def constant_predictor(X: np.ndarray) -> np.ndarray:
    """The coefficients (p,) for which ``X b`` comes nearest to one in every row."""
    return np.linalg.lstsq(X, np.ones(len(X)), rcond=None)[0]


class Start(NamedTuple):
    """Start values of all parameters by name, and the residual standard deviation of :func:`residual_unit`."""

    params: dict[str, np.ndarray]
    unit: float


def start_values(design: Design, family: Family, layout: Layout, scale: dict[str, np.ndarray]) -> Start:
    """Start values; ``scale`` has the matrix of :func:`glmmjax.coordinates.orthonormal_scale` per component."""
    unit = 1.0
    params = {beta_name(c): np.zeros(part.X.shape[1]) for c, part in design.components.items()}
    Sigmas = [PLAIN_VARIANCE.get(placed.component, OTHER_VARIANCE) * np.eye(placed.width) for placed in layout.terms]
    if family.shape is not None:
        held = family.shape.held
        params["psi"] = np.asarray(family.shape.start(design.y, design.trials) if held is None else held, dtype=float)
    if family.zero_inflated:
        params["beta_zi"] = _zero_start(design, scale["zi"])
    if family.response != "categories":
        if family.response == "trials":  # rows without trials say nothing
            none = design.trials == 0
            one = np.where(none, 1.0, design.trials)
            design = replace(design, weights=np.where(none, 0.0, design.weights), trials=one)
        used = _where_not_zero(design) if family.zero_inflated and not family.has_zeros else design
        if family.response == "interval":
            middle = np.asarray(family.start_mu(design.y, design.trials), dtype=float)
            used = replace(used, y=middle, trials=np.ones_like(middle))
        working = _irls(used, family, scale["cond"])
        unit = float(residual_unit(family.link, working.residual, used.weights))
        params["beta"] = working.beta
        psi = () if family.shape is None else tuple(family.shape.natural(params["psi"]))
        own, phi = em(used, layout, family, working.alone(used), psi)
        for t, Sigma in own.items():
            Sigmas[t] = Sigma[0]
        if family.has_dispersion:
            params["beta_disp"] = constant_predictor(design.components["disp"].X) * np.log(phi)
    parts = [start_theta(*each) for each in zip(layout.terms, design.terms, Sigmas, strict=True)]
    params["theta"] = np.concatenate(parts) if parts else np.zeros(0)
    return Start(params, unit)


def start_theta(placed: TermLayout, of: tuple[str, Term], Sigma: np.ndarray) -> np.ndarray:
    """The theta of a term whose effects have the covariance Sigma, where slopes that are far from zero are centered."""
    theta = placed.covariance.start(Sigma)
    return moved(theta, centering(of[1])) if far_columns(placed.covariance, of[1]) else theta


def _where_not_zero(design: Design) -> Design:
    """The design with weight zero in the rows whose response is zero."""
    return replace(design, weights=np.where(design.y == 0, 0.0, design.weights))


def _zero_start(design: Design, T: np.ndarray) -> np.ndarray:
    """Coefficients of the zeros, all of them laid to zero inflation: from few, a mixture finds a spurious maximum."""
    zero = (design.y == 0).astype(float)
    part = replace(design.components["zi"], terms=())
    logistic = replace(design, y=zero, trials=np.ones_like(zero), components={"cond": part})
    return np.clip(_irls(logistic, binomial(None), T).beta, -LARGEST_START, LARGEST_START)


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
        if change < 0.1 * residual_unit(link, current.residual, design.weights):  # what is left is about its square
            break
    return current._replace(beta=T @ current.beta)


def slope_of(link: Link, eta: np.ndarray) -> np.ndarray:
    """``dmu / deta`` by a central difference: these are only start values."""
    size = np.abs(eta)
    if link.name in PURE:
        h = 1e-5 * (1.0 + size)
    else:  # in the unit of eta
        h = 1e-5 * np.where(size > 0.0, size, np.max(size, initial=0.0) or 1.0)
    return (link.inverse(eta + h, NUMPY) - link.inverse(eta - h, NUMPY)) / (2.0 * h)
