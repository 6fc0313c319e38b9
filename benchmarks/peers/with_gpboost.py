"""gpboost, C++: arrays in, so reading the formula is not in its time. Standard errors are a second call."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.peers import NOT_INSTALLED, Fitters, timed

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.models import Model

LIKELIHOODS = {
    "gaussian": "gaussian",
    "binomial": "bernoulli_logit",
    "poisson": "poisson",
    "nbinom2": "negative_binomial",
}
# The default, 1e-6, stops up to 2e-3 below the largest log-likelihood; this is the loosest power of ten that reaches it
# within 1e-4 on every model here.
TOLERANCE = 1e-7


def fitters(model: Model, data: pd.DataFrame) -> Fitters:
    bare, full = "gpboost without SEs", "gpboost"
    if find_spec("gpboost") is None:
        return {full: NOT_INSTALLED}
    if model.has_slopes:
        return {full: "has no correlation between random intercept and slope"}
    if model.family not in LIKELIHOODS:
        return {full: f"no family {model.family}"}
    import gpboost
    from formulaic import model_matrix

    X = np.asarray(model_matrix(model.fixed, data), dtype=float)
    groups = data[[group for _, group in model.random]].to_numpy()
    y = data[model.response].to_numpy(dtype=float)
    options: dict[str, Any] = {"likelihood": LIKELIHOODS[model.family]}
    if model.trials is not None:
        trials = data[model.trials].to_numpy(dtype=float)
        y, options = y / trials, {"likelihood": "binomial_logit", "weights": trials}

    def fit() -> Any:
        result = gpboost.GPModel(
            group_data=groups, matrix_inversion_method="cholesky", num_parallel_threads=1, **options
        )
        result.fit(y=y, X=X, params={"delta_rel_conv": TOLERANCE})
        return result

    def fit_with_errors() -> Any:
        result = fit()
        result.get_coef(std_err=True)
        result.get_cov_pars(std_err=True)
        return result

    def llf(result: Any) -> float:
        return -float(result.get_current_neg_log_likelihood())

    return {bare: timed(fit, llf), full: timed(fit_with_errors, llf)}
