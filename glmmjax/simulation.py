"""New responses from a fitted model.

    b_t = L_t u,  u ~ N(0, I)  for every group of every term, or the conditional modes
    y   ~ family(eta, psi), with eta = X beta + offset + sum_t Z_t b_t in every component

Every replicate has a random generator of its own, so that it is the same however many are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from glmmjax._arguments import generator, whole
from glmmjax._errors import ArgumentError, FamilyError, FitError, did_you_mean
from glmmjax.predictors import given, linear_predictors

if TYPE_CHECKING:
    from glmmjax.formula_fit import FormulaFit

RANDOM_EFFECTS = ("unconditional", "conditional")


def simulate(fit: FormulaFit, n: int = 1, re: str = "unconditional", seed: Any = 0) -> np.ndarray:
    """Responses drawn from the fitted model (n, nobs), for the rows used in the fit; :meth:`Fit.refit` takes each.

    A binomial response is the number of successes among the trials of its row, a categorical one the number of the
    category, from 0; a censored response is drawn as if nothing were censored. Weights that multiply the likelihood
    play no part. The parameters are taken as known.

    Args:
        n: the number of replicates.
        re: "unconditional" draws new random effects in every replicate, one set for each group; "conditional" keeps
            those of the fit, at their conditional modes.
        seed: an integer, None for a different result each time, or a NumPy ``Generator``, from which one child is
            spawned per replicate. With the same seed a replicate does not depend on how many follow it.

    Raises:
        ArgumentError: an argument is unknown or out of range.
        FitError: effects that were drawn lead to a mean outside the range of the family, as can happen under the
            identity and inverse links.
        FamilyError: the family cannot simulate.

    >>> from glmmjax import datasets, glmm
    >>> fit = glmm("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> simulate(fit, 3, seed=1).shape
    (3, 180)
    """
    if re not in RANDOM_EFFECTS:
        raise ArgumentError(f"simulate: unknown re={re!r}. {did_you_mean(re, RANDOM_EFFECTS)}")
    return _simulate(fit, whole("simulate: n", n), re == "unconditional", seed)[0]


def simulate_with_effects(fit: FormulaFit, n: int, seed: Any) -> tuple[np.ndarray, list[np.ndarray]]:
    """Responses (n, nobs) and, per term, the spherical effects (n, groups, q) that they were drawn with."""
    return _simulate(fit, n, True, seed)


def _simulate(fit: FormulaFit, n: int, unconditional: bool, seed: Any) -> tuple[np.ndarray, list[np.ndarray]]:
    eta = linear_predictors(fit)
    out = np.empty((n, len(fit.design.y)))
    effects = [np.zeros((n, *term.b.shape)) for term in fit.terms]
    for i, rng in enumerate(generator("simulate", seed).spawn(n)):
        if unconditional:
            for u in effects:
                u[i] = rng.standard_normal(u.shape[1:])
            eta = linear_predictors(fit, [u[i] @ term.L.T for u, term in zip(effects, fit.terms, strict=True)])
        try:
            out[i] = fit.family.simulate(rng, given(fit, eta, trials=fit.design.trials))
        except FamilyError:
            raise
        except ValueError as error:  # what NumPy's generators say to a mean outside their range
            raise FitError(
                f"simulate: replicate {i} has a mean that the family {fit.family.name!r} cannot have ({error}). "
                "Simulate with re='conditional', or fit with a link whose means are all in range, such as 'log'."
            ) from error
    return out, effects
