"""Residuals given the conditional modes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from glmmjax._arguments import generator
from glmmjax._errors import ArgumentError, did_you_mean
from glmmjax.families import Given
from glmmjax.prediction import slope
from glmmjax.predictors import conditional_mean, given, linear_predictors

if TYPE_CHECKING:
    from glmmjax.formula_fit import FormulaFit

TYPES = ("response", "pearson", "deviance", "working", "quantile")


def residuals(fit: FormulaFit, type: str = "response", seed: Any = 0) -> np.ndarray:
    """Residuals (nobs,) given the conditional modes of the random effects.

        response   y - m
        pearson    (y - m) sqrt(w / Var(y))
        deviance   sign(y - m) sqrt(w d)
        working    (y - mu) deta/dmu
        quantile   Phi^-1(v), v uniform between P(Y < y) and P(Y <= y)

    ``m`` and ``Var(y)`` are mean and variance of the response as it is observed, extra zeros and truncation included,
    ``d`` is twice the distance in log-likelihood from the best mean for each row, times phi where that is a scale.
    ``y`` and ``m`` are proportions for families with trials, NaN without trials; ``w`` are the weights that multiply
    the likelihood. ``Var(y)`` includes the dispersion: for gaussian and Gamma responses these Pearson residuals are
    those of lme4 and of glmmTMB 1.1.5 divided by ``sigma``. Randomized quantile residuals are standard normal if the
    model is right, for every family; those of a censored row lie at random within what it leaves open.

    Args:
        seed: of the random numbers of "quantile": an integer, None, or a NumPy ``Generator``.

    Raises:
        ArgumentError: the type is unknown, or not defined for a response of categories.
        FamilyError: Pearson residuals of a family without variance function, deviance residuals of one for which they
            are not defined, quantile residuals of one without distribution function.

    Source: McCullagh & Nelder (1989), Generalized Linear Models, sections 2.4 and 2.5; Dunn & Smyth (1996), J.
    Computational and Graphical Statistics 5(3), for quantile residuals.

    >>> from glmmjax import datasets, glmm
    >>> fit = glmm("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> residuals(fit, "pearson")[:2].round(3)
    array([-0.182, -0.588])
    """
    if type not in TYPES:
        raise ArgumentError(f"resid: unknown type={type!r}. {did_you_mean(type, TYPES)}")
    design, family = fit.design, fit.family
    if family.response == "categories" and type != "quantile":
        remedy = "use type='quantile'" if family.shape is not None else "compare predict(type='probs') with the data"
        raise ArgumentError(f"resid: categories have no {type} residuals: {remedy}.")
    eta = linear_predictors(fit)
    at = given(fit, eta, trials=design.trials if family.response == "trials" else 1.0)
    if type == "quantile":
        return _quantile(fit, at, seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        y = observed(fit)
        if type == "working":
            error = y - conditional_mean(family, eta["cond"])
            return error / slope(lambda x: conditional_mean(family, x), eta["cond"], family.link.valid is not None)
        error = y - family.mean(at)
        if type == "pearson":
            return error * np.sqrt(design.weights / family.variance(at))
        if type == "deviance":
            unit = np.maximum(family.deviance(design.y, at), 0.0)
            return np.sign(error) * np.sqrt(design.weights * unit)
    return np.asarray(error)


def observed(fit: FormulaFit) -> np.ndarray:
    """The response (nobs,) on the scale of its mean: a proportion with trials, NaN where it is censored."""
    design = fit.design
    if fit.family.response == "trials":
        return np.asarray(design.y / design.trials)
    if fit.family.response == "interval":
        return np.where(design.y == design.trials, design.y, np.nan)
    return design.y


def _quantile(fit: FormulaFit, at: Given, seed: Any) -> np.ndarray:
    from scipy.special import ndtri

    design, family = fit.design, fit.family
    upper = design.trials if family.response == "interval" else design.y
    below_lower = np.where(design.y < upper, design.y, np.nextafter(design.y, -np.inf))
    with np.errstate(invalid="ignore", over="ignore"):
        low, high = family.cdf(below_lower, at), family.cdf(upper, at)
    level = low + (high - low) * generator("resid", seed).uniform(size=len(design.y))
    # a level that rounds to 0 or 1 is still a number inside
    return np.asarray(ndtri(np.clip(level, 1e-300, 1.0 - 1e-16)))
