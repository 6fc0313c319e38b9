"""statsmodels: linear mixed models only; its GLMMs are approximate Bayes, another estimator."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from benchmarks.peers import NOT_INSTALLED, Fitters, timed

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.models import Model


def fitters(model: Model, data: pd.DataFrame) -> Fitters:
    if find_spec("statsmodels") is None:
        return {"statsmodels": NOT_INSTALLED}
    if model.family != "gaussian" or len(model.random) > 1:
        return {"statsmodels": "no maximum likelihood for this model"}
    import statsmodels.formula.api as smf

    ((effects, group),) = model.random

    def fit() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            formula = f"{model.response} ~ {model.fixed}"
            return smf.mixedlm(formula, data, groups=group, re_formula=f"~ {effects}").fit(reml=False)

    return {"statsmodels": timed(fit, lambda result: result.llf)}
