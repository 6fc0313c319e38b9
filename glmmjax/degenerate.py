"""Responses that a model reproduces without error: their likelihood has no maximum where a dispersion is estimated."""

from __future__ import annotations

import numpy as np

from glmmjax._special import NUMPY
from glmmjax.design import Design
from glmmjax.families import Family, Given, variance_if_known

EXACT = 1e-9  # a residual below this share of the response is rounding
NO_VARIANCE = 1e-13  # as a share of the variance of the response
NEARLY = 1e-4  # a column with a smaller share outside the earlier ones is nearly collinear with them


def has_scale(family: Family) -> bool:
    """Whether the family has a dispersion that a response reproduced exactly drives to the end of its range."""
    continuous = family.response in ("real", "positive", "interval") or (family.response == "unit" and not family.shape)
    return continuous and family.has_dispersion


def informative(design: Design, family: Family) -> np.ndarray:
    """The rows that tell about the mean and the dispersion: those with weight that are not zeros of a hurdle model."""
    used = design.weights > 0
    hurdle = family.zero_inflated and not family.has_zeros
    return used & (design.y != 0) if hurdle else used


def is_constant(design: Design, family: Family) -> bool:
    """Whether the response is the same number in every row, and nothing but a constant is needed to reproduce it."""
    used = informative(design, family)
    y = design.y[used]
    if not len(y) or np.ptp(y) > 0 or np.ptp(design.components["cond"].offset[used]) > 0:
        return False
    observed = family.response != "interval" or bool(np.all(design.trials[used] == y))
    return observed and bool(np.isfinite(y[0])) and not (y[0] == 0 and family.has_zeros)


def without_variance(design: Design, family: Family, log_phi: np.ndarray, psi: np.ndarray) -> bool:
    """Whether the dispersion, with its logarithm in every row, leaves the response no variance worth the name."""
    y = design.y[informative(design, family)]
    if not len(y):
        return False
    phi = np.exp(np.clip(np.mean(log_phi), -700.0, 700.0))
    natural = () if family.shape is None else tuple(family.shape.natural(psi))
    with np.errstate(all="ignore"):
        left = variance_if_known(family.variance, Given(mu=np.mean(y), phi=phi, psi=natural))
        return left is not None and bool(np.asarray(left, dtype=float) < NO_VARIANCE * np.var(y))


def is_reproduced(design: Design, family: Family) -> bool:
    """Whether the fixed effects alone reproduce the response."""
    used, part = informative(design, family), design.components["cond"]
    y, X, offset = design.y[used], part.X[used], part.offset[used]
    with np.errstate(all="ignore"):
        target = np.asarray(family.link.link(y), dtype=float) - offset
        if not len(y) or not np.all(np.isfinite(target)):
            return False
        fitted = X @ np.linalg.lstsq(X, target, rcond=None)[0] + offset
        rest = np.abs(y - np.asarray(family.link.inverse(fitted, NUMPY), dtype=float))
    return bool(np.max(rest) <= EXACT * max(float(np.ptp(y)), float(np.finfo(float).tiny)))


def nearly_collinear(design: Design) -> tuple[str, ...]:
    """The columns of fixed effects that earlier ones determine but for a share of less than 1e-4, in words."""
    found = []
    for name, part in design.components.items():
        X = part.X - part.X.mean(axis=0) if part.columns[:1] == ("(Intercept)",) else part.X
        lengths = np.linalg.norm(X, axis=0)
        scaled = X / np.where(lengths > 0, lengths, 1.0)
        outside = np.abs(np.diag(np.linalg.qr(scaled, mode="r"))) if len(X) else np.zeros(0)
        prefix = "" if name == "cond" else f"{name}:"
        found += [
            f"{prefix}{column}"
            for column, share, length in zip(part.columns, outside, lengths, strict=False)
            if length > 0 and share < NEARLY
        ]
    return tuple(found)
