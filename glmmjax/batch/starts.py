"""Start values of many responses at once: the steps of :mod:`glmmjax.start`, without the loop over lanes.

beta       iteratively reweighted least squares, all lanes together
the rest   variances and dispersion from the working responses; others medians of the start values of a few lanes
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from glmmjax._special import NUMPY
from glmmjax.batch.lanes import Responses
from glmmjax.coordinates import residual_unit
from glmmjax.design import Design
from glmmjax.families import Family
from glmmjax.layout import Layout, beta_name
from glmmjax.start import constant_predictor, slope_of, start_theta, start_values
from glmmjax.start_variances import Working, em

PILOTS = 5
STEPS = 4
AT_ONCE = 100_000  # numbers in one array: as many as stay in the cache


def lane_starts(
    design: Design, family: Family, layout: Layout, scale: dict[str, np.ndarray], responses: Responses, good: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Start values (m, k) of all parameters, their blocks in alphabetical order, and the residual units (m,).

    The start values are NaN where ``good`` (m,) is not true.
    """
    lanes = np.flatnonzero(good)
    pilots = lanes[np.unique(np.linspace(0, len(lanes) - 1, PILOTS).astype(int))]
    found = [start_values(_with(design, responses, int(i)), family, layout, scale).params for i in pilots]
    names = sorted(found[0])
    common = {name: np.median([params[name] for params in found], axis=0) for name in names}
    k = sum(len(common[name]) for name in names)
    starts, units = np.full((len(good), k), np.nan), np.ones(len(good))
    step = max(1, AT_ONCE // len(design.y))
    for first in range(0, len(lanes), step):
        some = lanes[first : first + step]
        own, units[some] = _regressions(design, family, layout, scale["cond"], responses, some, common)
        starts[some] = np.concatenate([np.broadcast_to(own[n], (len(some), len(common[n]))) for n in names], axis=1)
    return starts, units


def _with(design: Design, responses: Responses, i: int) -> Design:
    y, trials, weights = responses.lane(i)
    return replace(design, y=y, trials=trials, weights=weights)


def _regressions(
    design: Design,
    family: Family,
    layout: Layout,
    T: np.ndarray,
    responses: Responses,
    lanes: np.ndarray,
    common: dict[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Start values by block, (lanes, size) for those that differ between lanes, and the residual units (lanes,)."""
    part, link = design.components["cond"], family.link
    X = part.X @ T
    y, trials, weights = responses.take(lanes)
    weights = weights * _counted(family, y)
    own = dict(common)
    if family.response == "categories":
        if family.shape is not None and family.shape.held is None:
            own["psi"] = np.stack([family.shape.start(*lane) for lane in zip(y, np.ones_like(y), strict=True)])
        return own, np.ones(len(lanes))
    with np.errstate(all="ignore"):
        mu = np.asarray(family.start_mu(y, trials), dtype=float)
        average = np.sum(weights * mu, axis=1, keepdims=True) / np.sum(weights, axis=1, keepdims=True)
        mu = np.where(weights > 0, mu, average)
        target = y / trials
        beta = np.linalg.lstsq(X, (link.link(np.broadcast_to(average, y.shape)) - part.offset).T, rcond=None)[0].T
        for _ in range(STEPS):
            eta = np.asarray(link.link(mu), dtype=float)
            slope = slope_of(link, eta)
            w = weights * slope**2 / family.start_variance(mu, trials)
            z = eta - part.offset + np.where(weights > 0, target - mu, 0.0) / slope
            new = _solve(X, w, z)
            eta = new @ X.T + part.offset
            new_mu = link.inverse(eta, NUMPY)
            usable = np.all(np.isfinite(new), axis=1) & np.all(np.isfinite(link.link(new_mu)), axis=1)
            beta = np.where(usable[:, None], new, beta)
            mu = np.where(usable[:, None], new_mu, mu)
    own["beta"] = beta @ T.T
    eta = beta @ X.T + part.offset
    slope = slope_of(link, eta)
    with np.errstate(all="ignore"):
        residual = np.where(weights > 0, target - mu, 0.0) / slope
        usable = np.isfinite(residual) & np.isfinite(slope)
    residual, slope = np.where(usable, residual, 0.0), np.where(usable, slope, 0.0)
    working = Working(residual, slope, mu, eta, trials, weights)
    psi = () if family.shape is None else tuple(family.shape.natural(common["psi"]))
    with np.errstate(all="ignore"):
        Sigmas, phi = em(design, layout, family, working, psi)
    if family.has_dispersion:
        own[beta_name("disp")] = np.log(phi)[:, None] * constant_predictor(design.components["disp"].X)
    ends = np.cumsum([placed.n_theta for placed in layout.terms])
    theta = np.repeat(common["theta"][None], len(lanes), axis=0)
    for t, Sigma in Sigmas.items():
        placed = layout.terms[t]
        theta[:, ends[t] - placed.n_theta : ends[t]] = [start_theta(placed, design.terms[t], one) for one in Sigma]
    own["theta"] = np.where(np.isfinite(theta), theta, common["theta"])
    return own, residual_unit(link, residual, weights)


def _counted(family: Family, y: np.ndarray) -> np.ndarray:
    """Which responses tell about the mean: not the zeros of a hurdle model."""
    return (y != 0).astype(float) if family.zero_inflated and not family.has_zeros else np.ones_like(y)


def _solve(X: np.ndarray, w: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The weighted least squares coefficients (lanes, p); NaN where they are not finite."""
    p = X.shape[1]
    if p == 0:
        return np.zeros((len(w), 0))
    pairs = (X[:, :, None] * X[:, None, :]).reshape(len(X), p * p)
    A = (w @ pairs).reshape(-1, p, p)
    b = (w * z) @ X
    sound = np.all(np.isfinite(A), axis=(1, 2)) & np.all(np.isfinite(b), axis=1)
    A = np.where(sound[:, None, None], A, np.eye(p))
    ridge = 1e-8 * np.trace(A, axis1=1, axis2=2)[:, None, None] * np.eye(p)
    return np.where(sound[:, None], np.linalg.solve(A + ridge, b[..., None])[..., 0], np.nan)
