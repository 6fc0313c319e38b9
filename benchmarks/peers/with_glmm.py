"""glmm, a Rust core with a Python interface: formula and arrays to the result with standard errors."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from benchmarks.peers import NOT_INSTALLED, Fitters, timed

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.models import Model

FAMILIES = {"gaussian": "gaussian", "binomial": "binomial", "poisson": "poisson", "nbinom2": "negativebinomial"}


def fitters(model: Model, data: pd.DataFrame) -> Fitters:
    if find_spec("glmm") is None:
        return {"glmm": NOT_INSTALLED}
    if model.family not in FAMILIES:
        return {"glmm": f"no family {model.family}"}
    import glmm

    columns: dict[str, Any] = {name: data[name].to_numpy() for name in data}
    options: dict[str, Any] = {"family": FAMILIES[model.family]}
    response = model.response
    if model.trials is not None:
        response = "proportion"
        columns[response] = columns[model.response] / columns[model.trials]
        options["weights"] = columns[model.trials].astype(float)
    if model.family == "gaussian":  # z tests, as the others report them
        options |= {"reml": False, "satterthwaite": False}
    formula = model.with_response(response).replace("**", "^")

    def fit() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return glmm.fit(columns, formula, **options)

    return {"glmm": timed(fit, lambda result: result.loglik)}
