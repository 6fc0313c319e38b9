"""The result of fitting a likelihood of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from glmmjax._errors import ArgumentError, FitError
from glmmjax._precision import double_precision, to_numpy
from glmmjax.custom import LikelihoodSpec
from glmmjax.hessians import BorderedHessian
from glmmjax.laplace import Marginal
from glmmjax.observations import ObservationSpec
from glmmjax.result import Fit
from glmmjax.solving import Problem
from glmmjax.surroundings import Surroundings, check_hashable, warn_if_changed

if TYPE_CHECKING:
    import pandas as pd

    from glmmjax.summary import Summary


@dataclass(frozen=True, eq=False)
class LikelihoodFit(Fit):
    """A fitted likelihood.

    Attributes:
        spec, data, start_modes: the model and its data.
        build: what makes the joint density of the spec.
        estimates: all parameters in the shapes of ``params``.
        modes: the conditional modes in the shapes of ``random``.
        at: the marginal likelihood at the estimates with its derivatives.
        report: ``(params, random, data) -> `` what :meth:`sdreport` reports; or None.
        simulator: what :meth:`simulate` draws with; or None.
        n_observations: the number of observations, None where it is not known.
        groups: per factor of a model by observation, the labels of its groups.
        read: what its functions read besides their arguments when it was fitted.
    """

    spec: LikelihoodSpec | ObservationSpec
    build: Callable[[Any], Any]
    data: Any
    start_modes: Any
    estimates: Any
    modes: Any
    at: Marginal
    report: Callable[..., Any] | None
    simulator: Callable[..., Any] | None
    n_observations: int | None
    groups: Mapping[str, tuple[Any, ...]]
    read: Surroundings | None

    @property
    def problem(self) -> Problem:
        """The model and its data, ready to be evaluated."""
        warn_if_changed(self.read, (self.spec,))
        return self._problem

    @cached_property
    def _problem(self) -> Problem:
        return Problem((self.build, self.spec), self.data, self.start_modes, self.parameter_names)

    @cached_property
    def marginal(self) -> Marginal:
        """The marginal likelihood at the estimates with its derivatives, the modes and theirs; NumPy."""
        return self.at

    @cached_property
    def params(self) -> pd.Series:
        """All parameters by name, unconstrained."""
        return self._series(self.flat)

    @property
    def default_report(self) -> Callable[..., Any] | None:
        """The report that the model was fitted with."""
        return self.report

    @property
    def reported(self) -> np.ndarray:
        """Every parameter is reported."""
        return np.arange(len(self.flat))

    @property
    def nobs(self) -> int:
        """The number of observations.

        Raises:
            FitError: it was not given.
        """
        if self.n_observations is None:
            raise FitError("the number of observations is not known for this likelihood: fit with nobs=.")
        return self.n_observations

    @property
    def df(self) -> int:
        """The number of estimated parameters, those of ``profile=`` among them."""
        return super().df + self.n_profiled

    @property
    def n_profiled(self) -> int:
        """How many parameters were solved for together with the random effects."""
        storage = self.spec.storage
        return sum(int(np.prod(s, dtype=int)) for s in storage.shapes[len(storage.shapes) - storage.n_border :])

    @cached_property
    def random_se(self) -> Any:
        """Standard errors of the modes, in the shapes of ``random``: ``diag(H^-1) + J V J'``."""
        V = self.known_vcov
        variances = []
        for block, jacobian in zip(self._modes_vcov, self.at.modes_jacobian, strict=True):
            own = np.einsum("iig->ig", block)
            variances.append(np.sqrt(own + np.einsum("...k,kl,...l->...", jacobian, V, jacobian)))
        if not self.pd_hess:
            variances = [np.full_like(x, np.nan) for x in variances]
        return self._unpack(tuple(variances))

    @property
    def _modes_vcov(self) -> Any:
        """The diagonal blocks of ``H^-1``; where parameters were profiled out, those of the whole H."""
        if not isinstance(self.spec.storage.structure, BorderedHessian):
            return self.at.modes_vcov
        model, data = self.problem.model, self.data
        structure = self.spec.storage.structure
        with double_precision():

            def blocks(x: Any, u: Any) -> Any:
                return structure.inverse_diagonal(model.hessian(model.unflatten(x, data), u, data), model.members(data))

            return to_numpy(jax.jit(blocks)(self.flat, self.at.modes))

    def _unpack(self, u: Any) -> Any:
        with double_precision():
            effects = to_numpy(self.spec.storage.unpack(u)) if u else jax.tree.unflatten(self.spec.storage.tree, [])
        return effects

    def random_report(self) -> tuple[Any, Any]:
        """The conditional modes in the shapes of ``random``, and their standard errors."""
        se = self.random_se
        return self.modes, (se[0] if self.spec.storage.n_border else se)

    def params_report(self) -> tuple[Any, Any]:
        """All parameters in the shapes of ``params``, and their standard errors."""
        with double_precision():
            se = to_numpy(self.spec.params.unflatten(np.sqrt(np.diag(self.vcov))))
        return self.estimates, ({**se, **self.random_se[1]} if self.spec.storage.n_border else se)

    @property
    def random_order(self) -> np.ndarray:
        """Where each effect of the engine's storage stands in the flattened ``random``."""
        index = self.spec.storage.index if self.spec.storage.size else ()
        return np.concatenate([np.zeros(0, dtype=int), *(x.reshape(-1) for x in index)])

    @property
    def random_labels(self) -> tuple[str, ...]:
        """A name for every random effect, in the order of the flattened ``random``."""
        storage = self.spec.storage
        return tuple(storage.label(i) for i in range(storage.size))

    def ranef(self) -> Any:
        """The conditional modes: a data frame per factor of a model by observation, else the pytree ``modes``."""
        if not self.groups:
            return self.modes
        import pandas as pd

        return {name: pd.DataFrame(self.modes[name], index=list(levels)) for name, levels in self.groups.items()}

    def simulate(self, n: int = 1, seed: Any = 0, re: str = "unconditional") -> list[Any]:
        """``n`` draws from the fitted model; see :func:`glmmjax.likelihood_simulation.simulate_likelihood`."""
        from glmmjax.likelihood_simulation import simulate_likelihood

        return simulate_likelihood(self, n, seed, re)

    def one_step_ahead(self, observed: str, support: Any = None, order: Any = None, seed: int = 0) -> np.ndarray:
        """One-step-ahead quantile residuals; see :func:`glmmjax.one_step.one_step_ahead`."""
        from glmmjax.one_step import one_step_ahead

        return one_step_ahead(self, observed, support, order, seed)

    def summary(self) -> Summary:
        """A printable summary with ``as_text()``, ``as_html()`` and ``as_latex()``."""
        from glmmjax.summary import summarize_likelihood

        return summarize_likelihood(self)

    def __repr__(self) -> str:
        return f"<glmmjax.Fit of a likelihood, {len(self.flat)} parameters, llf {self.llf:.3f}, {self.status}>"


def check_callable(name: str, function: Any) -> None:
    """Raise ArgumentError unless it can be called, and be part of the key of a program."""
    if not callable(function):
        raise ArgumentError(f"{name} must be a function, not {type(function).__name__}.")
    check_hashable(name, function)
