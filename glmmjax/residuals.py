"""Residuals given the conditional modes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from glmmjax._errors import ArgumentError, did_you_mean
from glmmjax.prediction import conditional_mean, linear_predictors, slope

if TYPE_CHECKING:
    from glmmjax.formula_fit import FormulaFit

TYPES = ("response", "pearson", "working")


def residuals(fit: FormulaFit, type: str = "response") -> np.ndarray:
    """Residuals (nobs,) given the conditional modes of the random effects.

        response   y - mu
        pearson    (y - mu) sqrt(w / Var(y))
        working    (y - mu) deta/dmu

    ``y`` and ``mu`` are proportions for the binomial family, NaN without trials; ``w`` are the weights that multiply
    the likelihood. ``Var(y)`` includes the dispersion: for gaussian and Gamma responses these Pearson residuals are
    those of lme4 and of glmmTMB 1.1.5 divided by ``sigma``.

    Raises:
        ArgumentError: the type is unknown.
        FamilyError: Pearson residuals of a family without variance function.

    Source: McCullagh & Nelder (1989), Generalized Linear Models, sections 2.4 and 2.5.

    >>> from glmmjax import datasets, glmm
    >>> fit = glmm("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> residuals(fit, "pearson")[:2].round(3)
    array([-0.182, -0.588])
    """
    if type not in TYPES:
        raise ArgumentError(f"resid: unknown type={type!r}. {did_you_mean(type, TYPES)}")
    design, family = fit.design, fit.family
    eta = linear_predictors(fit)
    mu = conditional_mean(family, eta["cond"])
    with np.errstate(invalid="ignore", divide="ignore"):
        error = design.y / design.trials - mu
        if type == "working":
            return error / slope(lambda x: conditional_mean(family, x), eta["cond"], family.link.valid is not None)
        if type == "pearson":
            phi = np.exp(eta["disp"]) if "disp" in eta else 1.0
            return error * np.sqrt(design.weights / family.variance(mu, phi, design.trials))
    return error
