"""glmmjax: the whole call from formula and data frame to the result with standard errors, compiled in full at once.

What the quick compilation of a first fit costs is in the table of first processes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.peers import Fitters, Sample

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.models import Model


def fitters(model: Model, data: pd.DataFrame) -> Fitters:
    import glmmjax as gj

    def sample() -> Sample:
        began = time.perf_counter()
        fit = gj.glmm(model.formula, data, family=model.family, control=gj.Control(compilation="full"))
        seconds = time.perf_counter() - began
        return Sample(seconds, fit.llf, fit.timings, "" if fit.status == "converged" else fit.status)

    return {"glmmjax": sample}
