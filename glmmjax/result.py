"""The result of a fit, whatever door the model came through: estimates, how well, and what can be asked of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from glmmjax._arguments import check_flags
from glmmjax._errors import ArgumentError, DataError, FitError, did_you_mean
from glmmjax.constraints import n_free
from glmmjax.control import Control
from glmmjax.information import combination_errors
from glmmjax.laplace import Marginal
from glmmjax.multistart import Search, kept
from glmmjax.solving import Problem, evaluate
from glmmjax.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd

    from glmmjax.inference import Profile, SdReport


@dataclass(frozen=True, eq=False)
class Fit(ABC):
    """A fitted model. Frozen; NumPy and pandas only; compiled programs are found again when needed.

    Attributes:
        control: how it was computed.
        parameter_names: a name for every parameter, in the order of ``flat`` and ``vcov``.
        flat: all parameters on the unconstrained scale (k,).
        directions: in which of them the estimates could move (k, r); see :func:`glmmjax.solving.solve`.
        vcov: their joint covariance (k, k); NaN for those that are held or at a boundary.
        llf: log-likelihood (Laplace approximation).
        gradient: of the negative log-likelihood in the parameters (k,).
        hessian: its exact second derivatives (k, k).
        verdict: what became of the fit.
        iterations: evaluations of the outer optimizer.
        timings: seconds for "design", "compile" and "run".
        searches: where the searches for the maximum ended; the table of them is ``starts``.
    """

    control: Control
    parameter_names: tuple[str, ...]
    flat: np.ndarray
    directions: np.ndarray
    vcov: np.ndarray
    llf: float
    gradient: np.ndarray
    hessian: np.ndarray
    verdict: Verdict
    iterations: int
    timings: Mapping[str, float]
    searches: tuple[Search, ...]

    # -- what each door provides ---------------------------------------------------------------------------------------
    @cached_property
    @abstractmethod
    def problem(self) -> Problem:
        """The model and its data, ready to be evaluated."""

    @cached_property
    @abstractmethod
    def params(self) -> pd.Series:
        """The parameters that a summary reports, by name."""

    @property
    @abstractmethod
    def nobs(self) -> int:
        """The number of observations used."""

    @property
    @abstractmethod
    def reported(self) -> np.ndarray:
        """Where the reported parameters stand in ``flat``."""

    @abstractmethod
    def summary(self) -> Any:
        """A printable summary with ``as_text()``, ``as_html()`` and ``as_latex()``."""

    @abstractmethod
    def random_report(self) -> tuple[Any, Any]:
        """The conditional modes of the random effects as their owner writes them, and their standard errors."""

    @abstractmethod
    def params_report(self) -> tuple[Any, Any]:
        """All parameters as their owner writes them, and their standard errors."""

    @property
    def no_profile(self) -> str:
        """Why there is no likelihood of the parameters to be profiled; empty if there is."""
        return ""

    @property
    def default_report(self) -> Callable[..., Any] | None:
        """What :meth:`sdreport` reports if nothing else is asked for."""
        return None

    @property
    @abstractmethod
    def random_order(self) -> np.ndarray:
        """Where each effect of the engine's storage stands among ``random_labels``."""

    @property
    @abstractmethod
    def random_labels(self) -> tuple[str, ...]:
        """A name for every random effect."""

    def on_engine(self, report: Callable[..., Any]) -> Callable[..., Any]:
        """A report ``(params, random, data)`` as a function of what the engine's model gives it; hashable."""
        return report

    # -- what became of it ---------------------------------------------------------------------------------------------
    @property
    def status(self) -> str:
        """How the fit ended, in words; "converged" alone means that nothing is wrong."""
        return self.verdict.status

    @property
    def converged(self) -> bool:
        """Whether the optimizer met its criterion."""
        return self.verdict.converged

    @property
    def pd_hess(self) -> bool:
        """Whether the Hessian is positive definite in the parameters that are not at a boundary."""
        return self.verdict.pd_hess

    @property
    def max_gradient(self) -> float:
        """The largest absolute derivative of the negative log-likelihood in the directions that are free."""
        return float(np.max(np.abs(self.gradient[self.free]), initial=0.0))

    @property
    def free(self) -> np.ndarray:
        """Which parameters were estimated (k,), as opposed to held; bool."""
        return np.any(self.directions != 0.0, axis=1)

    @property
    def structure(self) -> str:
        """How the Hessian in the random effects is stored and factored, in words."""
        return str(self.problem.model.structure)

    @property
    def starts(self) -> pd.DataFrame:
        """What each start of the search for the maximum led to; see ``Control(starts=)``.

        Columns: "start", its name; "llf", the log-likelihood there, with the log prior density where there are priors;
        "iterations"; "outcome" in words; "kept", whether it is this fit.
        """
        import pandas as pd

        best = kept(self.searches)
        return pd.DataFrame(
            {
                "start": [search.start for search in self.searches],
                "llf": [self.maximized + self.searches[best].value - search.value for search in self.searches],
                "iterations": [search.iterations for search in self.searches],
                "outcome": [search.outcome.sentence for search in self.searches],
                "kept": [i == best for i in range(len(self.searches))],
            }
        )

    @property
    def maximized(self) -> float:
        """What was maximized: the log-likelihood, with the log prior density where there are priors."""
        return self.llf

    # -- size and likelihood -------------------------------------------------------------------------------------------
    @property
    def df(self) -> int:
        """The number of estimated parameters."""
        return int(n_free(self.directions))

    @property
    def df_resid(self) -> int:
        """Observations less parameters."""
        return self.nobs - self.df

    @property
    def aic(self) -> float:
        """Akaike's information criterion, ``-2 llf + 2 df``; with priors, for fits with the same ones only."""
        return -2.0 * self.llf + 2.0 * self.df

    @property
    def bic(self) -> float:
        """The Bayesian information criterion, ``-2 llf + log(nobs) df``."""
        return -2.0 * self.llf + np.log(self.nobs) * self.df

    # -- estimates -----------------------------------------------------------------------------------------------------
    @cached_property
    def bse(self) -> pd.Series:
        """Standard errors of ``params``; NaN where they are held or the Hessian is not positive definite."""
        return self._series(np.sqrt(np.diag(self.vcov)[self.reported]))

    @property
    def tvalues(self) -> pd.Series:
        """z statistics of ``params``."""
        return self.params / self.bse

    @property
    def pvalues(self) -> pd.Series:
        """Two-sided p-values of the z statistics."""
        from scipy.special import ndtr

        return self._series(2.0 * ndtr(-np.abs(self.tvalues.to_numpy())))

    def conf_int(
        self, level: float = 0.95, method: str = "wald", parameters: Sequence[Any] | None = None
    ) -> pd.DataFrame:
        """Confidence limits, columns "lower" and "upper".

        Args:
            level: coverage, between 0 and 1.
            method: "wald", ``estimate +- z se``; "profile", where the profiled deviance crosses its quantile, from a
                curve through a few points; "uniroot", the same crossing found to full accuracy.
            parameters: names among ``parameter_names``, on the unconstrained scale; standard deviations, correlations,
                dispersions and shapes by their names in ``tidy()``, on its scale; or linear combinations as mappings of
                parameter names to coefficients. Default: those of ``params``.

        A limit by "profile" or "uniroot" is the end of the range where the likelihood does not fall enough before:
        0 for a standard deviation, -1 or 1 for a correlation. It is NaN, with a warning that says why, where a
        constrained fit fails on the way.

        Raises:
            ArgumentError: level, method or a name is unknown.
            FitError: the fit has no covariance to start from, or is not the maximum.
        """
        import pandas as pd

        from glmmjax.inference.profiles import intervals

        if method not in CONFIDENCE_METHODS:
            raise ArgumentError(f"conf_int: method must be one of {', '.join(CONFIDENCE_METHODS)}, not {method!r}.")
        check_level(level)
        if parameters is None:
            parameters = [self.parameter_names[i] for i in self.reported]
        elif isinstance(parameters, (str, Mapping)):
            parameters = [parameters]
        found = intervals(self, level, method, list(parameters))
        bounds = np.array([limits for _, *limits in found], dtype=float).reshape(-1, 2)
        return pd.DataFrame(bounds, index=[name for name, *_ in found], columns=["lower", "upper"])

    def cov_params(self, full: bool = False) -> pd.DataFrame:
        """The covariance of ``params``, or of all parameters on the unconstrained scale if ``full``."""
        import pandas as pd

        check_flags("cov_params", full=full)
        keep = np.arange(len(self.flat)) if full else self.reported
        labels = [self.parameter_names[i] for i in keep]
        return pd.DataFrame(self.vcov[np.ix_(keep, keep)], index=labels, columns=labels)

    def position(self, name: str) -> int:
        """Where a parameter stands in ``flat``.

        Raises:
            ArgumentError: there is no such parameter.
        """
        if name not in self.parameter_names:
            raise ArgumentError(f"No parameter is called {name!r}. {did_you_mean(name, self.parameter_names)}")
        return self.parameter_names.index(name)

    # -- inference: each lives in its own module -----------------------------------------------------------------------
    def sdreport(
        self, report: Callable[..., Any] | None = None, bias_correct: bool = False, joint_precision: bool = False
    ) -> SdReport:
        """Estimates and standard errors in the shapes of params, random effects and ``report``.

        See :func:`glmmjax.inference.sdreport`.
        """
        from glmmjax.inference import sdreport

        return sdreport(self, report, bias_correct=bias_correct, joint_precision=joint_precision)

    def profile(self, parameter: Any, level: float = 0.99) -> Profile:
        """The profile likelihood of a parameter or linear combination; see :func:`glmmjax.inference.profile`."""
        from glmmjax.inference import profile

        return profile(self, parameter, level=level)

    # -- keeping -------------------------------------------------------------------------------------------------------
    def save(self, path: Any) -> None:
        """Write the fit to a file that :func:`glmmjax.load` reads; a pickle, so load only files that you trust.

        Raises:
            FitError: the model holds functions that cannot be pickled, such as a lambda.
        """
        import pickle
        from pathlib import Path

        try:
            content = pickle.dumps(self)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise FitError(
                f"save: the fit cannot be pickled ({error}). Functions that are part of a model must stand at the top "
                "level of a module."
            ) from error
        Path(path).write_bytes(content)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in _NOT_KEPT}

    def __str__(self) -> str:
        return str(self.summary())

    # -- for readers ---------------------------------------------------------------------------------------------------
    @cached_property
    def marginal(self) -> Marginal:
        """The marginal likelihood at the estimates with its derivatives, the modes and theirs; NumPy."""
        return evaluate(self.problem, self.control, self.flat)

    @property
    def known_vcov(self) -> np.ndarray:
        """``vcov`` with parameters that are held, at a boundary or not identified counted as known."""
        return self.verdict.known

    def combination_errors(self, J: np.ndarray) -> np.ndarray:
        """Standard errors (m,) of combinations J (m, k); see :func:`glmmjax.information.combination_errors`."""
        return combination_errors(J, self.vcov, self.verdict.known, self.verdict.lost)

    def _series(self, values: np.ndarray) -> pd.Series:
        import pandas as pd

        return pd.Series(values, index=[self.parameter_names[i] for i in self.reported])


CONFIDENCE_METHODS = ("wald", "profile", "uniroot")
_NOT_KEPT = {"problem", "_problem", "marginal"}  # made again when needed


def normal_quantile(level: float) -> float:
    """The half-width, in standard errors, of a two-sided normal interval with coverage ``level``.

    Raises:
        ArgumentError: the level is not between 0 and 1.

    >>> round(normal_quantile(0.95), 2)
    1.96
    """
    from scipy.special import ndtri

    check_level(level)
    return float(ndtri(0.5 + 0.5 * level))


def check_level(level: float) -> None:
    """Raise ArgumentError unless the level of an interval is between 0 and 1."""
    if not (isinstance(level, (float, int, np.floating)) and 0.0 < level < 1.0):
        raise ArgumentError(f"level must lie between 0 and 1, not {level!r}.")


def load(path: Any) -> Fit:
    """Read a fit written by :meth:`Fit.save`; a pickle, so load only files that you trust.

    Raises:
        DataError: the file does not hold a fit.
    """
    import pickle
    from pathlib import Path

    fit = pickle.loads(Path(path).read_bytes())
    if not isinstance(fit, Fit):
        raise DataError(f"{path} does not hold a glmmjax fit.")
    return fit
