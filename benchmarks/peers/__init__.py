"""One small adapter per package.

An adapter is a module with ``fitters(model, data)``: a dictionary from what is timed to a function that fits once and
returns a :class:`Sample`, or to a sentence that says why this model is not fitted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.models import Model

ADAPTERS = ("with_glmmjax", "with_glmm", "with_gpboost", "with_statsmodels", "with_r")
NOT_INSTALLED = "not installed"


@dataclass(frozen=True)
class Sample:
    """One fit: wall time in seconds, log-likelihood, seconds of its parts where known, a warning if there was one."""

    seconds: float
    llf: float
    parts: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


Fitter = Callable[[], Sample]
Fitters = dict[str, Fitter | str]


def timed(fit: Callable[[], Any], llf: Callable[[Any], float]) -> Fitter:
    """The fitter that times ``fit()``; the log-likelihood is read from its result outside the timing."""

    def sample() -> Sample:
        began = time.perf_counter()
        result = fit()
        return Sample(time.perf_counter() - began, float(llf(result)))

    return sample


def all_fitters(model: Model, data: pd.DataFrame) -> Fitters:
    """Everything that there is to time for a model, glmmjax first."""
    found: Fitters = {}
    for name in ADAPTERS:
        found |= import_module(f"benchmarks.peers.{name}").fitters(model, data)
    return found
