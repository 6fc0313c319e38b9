"""One fit -> many: the model of a fit refitted to other responses of the same rows, as one batch."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from glmmjax._errors import ArgumentError
from glmmjax.batch.lanes import Responses
from glmmjax.batch.many import Many
from glmmjax.batch.responses import prepare_responses
from glmmjax.batch.running import Run, run_batches
from glmmjax.formula_fit import FormulaFit


def check_refittable(fit: object, who: str) -> None:
    """Raise unless the model of a fit can be fitted in a batch.

    Raises:
        ArgumentError: in the name of ``who``.
    """
    if not isinstance(fit, FormulaFit):
        raise ArgumentError(f"{who}: a fit of glmm() is needed, not {type(fit).__name__}.")
    if fit.family.response == "interval":
        raise ArgumentError(f"{who}: the censoring of the family {fit.family.name!r} cannot be simulated.")


def refit_many(fit: FormulaFit, Y: np.ndarray, run: Run, began: float | None = None) -> Many:
    """The model of a fit refitted to every column of ``Y`` (nobs, m), beginning at its estimates."""
    began = time.perf_counter() if began is None else began
    rows, design = np.arange(len(fit.design.y)), fit.design
    responses = Responses(Y, rows, design.trials, design.weights, bool(np.isnan(Y).any()))
    options = replace(fit.options, start=fit.estimates)
    batch = prepare_responses(design, fit.family, responses, tuple(range(Y.shape[1])), options)
    return run_batches([batch], fit.formula, options, began, run)
