"""The parametric bootstrap: the model fitted again to responses that it simulates, all of them as one batch."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from glmmjax.batch.many import Many
from glmmjax.batch.refitting import check_refittable, refit_many
from glmmjax.batch.running import Run
from glmmjax.formula_fit import FormulaFit
from glmmjax.result import check_level

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Refits to simulated responses.

    Attributes:
        fit: the fit that the responses were simulated from.
        many: the refits; see :class:`Many`.
    """

    fit: FormulaFit
    many: Many

    @property
    def used(self) -> np.ndarray:
        """Which replicates converged (n,); only these count."""
        return self.many.verdicts.converged

    @property
    def replicates(self) -> pd.DataFrame:
        """The estimates of every replicate that converged: fixed effects, then standard deviations, then sigma.

        One that is separated has converged to wherever the likelihood was flat enough, and is among them: its
        coefficients say nothing, and means and standard errors of such coefficients say as little.
        """
        import pandas as pd

        effects = self.many.results.flat[:, self.many.reported]
        parts = [effects, self.many.sd] + ([self.many.sigma[:, None]] if self.fit.family.has_dispersion else [])
        names = [*self.many.effect_names, *(f"sd {name}" for name in self.many.sd_names)]
        names += ["sigma"] if self.fit.family.has_dispersion else []
        return pd.DataFrame(np.concatenate(parts, axis=1)[self.used], columns=names)

    @property
    def estimates(self) -> pd.Series:
        """The same quantities as the fit estimates them."""
        import pandas as pd

        values = [*self.fit.params, *(x for term in self.fit.terms for x in term.sd)]
        values += [self.fit.sigma] if self.fit.family.has_dispersion else []
        return pd.Series(values, index=self.replicates.columns, dtype=float)

    def summary(self, level: float = 0.95) -> pd.DataFrame:
        """Estimate, bias, standard error and percentile limits of each quantity.

        Raises:
            ArgumentError: level is not between 0 and 1.

        Source: Davison & Hinkley (1997), Bootstrap Methods and their Application, chapters 2 and 5.
        """
        import pandas as pd

        check_level(level)
        draws, estimates = self.replicates, self.estimates
        low, high = draws.quantile(0.5 - level / 2.0), draws.quantile(0.5 + level / 2.0)
        columns = {"estimate": estimates, "bias": draws.mean() - estimates, "std_error": draws.std()}
        return pd.DataFrame({**columns, "conf_low": low, "conf_high": high})

    def __repr__(self) -> str:
        separated = int(np.sum(self.used & self.many.verdicts.separated))
        counts = f"{len(self.many)} replicates, {self.used.sum()} converged"
        counts += f", {separated} of them separated: see many.failed" if separated else ""
        return f"<glmmjax.Bootstrap of {self.fit.formula!r}: {counts}>"


def bootstrap(
    fit: FormulaFit,
    n: int = 1000,
    seed: Any = 0,
    *,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    executor: Any = None,
    devices: Sequence[Any] | None = None,
) -> Bootstrap:
    """Simulate ``n`` responses from a fit, new random effects in each, and fit the model to all of them.

    Args:
        fit: of :func:`glmmjax.glmm`.
        n: the number of replicates.
        seed: an integer or a NumPy ``Generator``; see ``fit.simulate``.
        progress, checkpoint, executor, devices: see :func:`glmmjax.fit_many`.

    Raises:
        ArgumentError: the fit is not one that can be refitted in a batch.
        FamilyError: the family cannot simulate.

    >>> from glmmjax import bootstrap, datasets, glmm
    >>> fit = glmm("incidence ~ period + (1 | herd)", datasets.load("cbpp"), "poisson")
    >>> bootstrap(fit, 20).summary().index.tolist()[-1]
    'sd 1 | herd'
    """
    began, run = time.perf_counter(), Run(progress, checkpoint, executor, devices)
    check_refittable(fit, "bootstrap")
    return Bootstrap(fit, refit_many(fit, fit.simulate(n, seed=seed).T, run, began))
