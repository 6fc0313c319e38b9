"""Estimates and standard errors in the shapes that the model's owner wrote them in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._arguments import check_flags
from glmmjax._errors import ArgumentError, FitError
from glmmjax._precision import double_precision
from glmmjax.constraints import n_free
from glmmjax.custom import shape_of
from glmmjax.hessians import as_matrix
from glmmjax.inference.delta import bias_corrected, delta_method
from glmmjax.promises import path_name
from glmmjax.result import Fit
from glmmjax.surroundings import check_hashable

if TYPE_CHECKING:
    import pandas as pd

LARGEST_PRECISION = 5000


@dataclass(frozen=True, eq=False)
class SdReport:
    """What a fit estimates, with standard errors; NumPy arrays in the shapes of the model.

    Attributes:
        params, params_se: the parameters, unconstrained.
        random, random_se: the conditional modes of the random effects; their standard errors include the error of the
            estimates.
        report, report_se: the reported quantities, None without a report.
        report_vcov: their joint covariance in flattened order (m, m); None above 1,000 numbers.
        bias_corrected, bias_corrected_se: their expectations given the data, if asked for.
        joint_precision: of random effects and parameters (n_u + k, n_u + k) with labels, if asked for.
    """

    params: Any
    params_se: Any
    random: Any
    random_se: Any
    report: Any = None
    report_se: Any = None
    report_vcov: np.ndarray | None = None
    bias_corrected: Any = None
    bias_corrected_se: Any = None
    joint_precision: pd.DataFrame | None = None

    def to_frame(self, what: str = "params") -> pd.DataFrame:
        """One row per number of "params", "random", "report" or "bias_corrected": estimate and std_error.

        Raises:
            ArgumentError: another name, or one that was not asked for.
        """
        import pandas as pd

        if what not in ("params", "random", "report", "bias_corrected") or getattr(self, what) is None:
            raise ArgumentError(f"to_frame: {what!r} is not in this report; ask for it in sdreport(...).")
        values, errors = getattr(self, what), getattr(self, f"{what}_se")
        flat = [
            np.concatenate([np.zeros(0), *(np.reshape(x, -1) for x in jax.tree.leaves(t))]) for t in (values, errors)
        ]
        return pd.DataFrame(
            {"estimate": flat[0], "std_error": flat[1]}, index=list(shape_of(values, path_name).labels())
        )

    def __str__(self) -> str:
        parts = [name for name in ("params", "report", "bias_corrected") if getattr(self, name) is not None]
        return "\n\n".join(f"{name}:\n{self.to_frame(name).to_string()}" for name in parts)


def sdreport(
    fit: Fit,
    report: Callable[[Any, Any, Any], Any] | None = None,
    *,
    bias_correct: bool = False,
    joint_precision: bool = False,
) -> SdReport:
    """Estimates and standard errors of parameters, random effects and derived quantities.

    Args:
        fit: from any door.
        report: ``(params, random, data) -> `` an array or pytree of derived quantities. Default: the one that the model
            was fitted with, if any.
        bias_correct: add ``E[report | data]`` by the epsilon method; see
            :func:`glmmjax.inference.delta.bias_corrected`.
        joint_precision: add the joint precision of random effects and parameters, a dense matrix.

    Raises:
        ArgumentError: ``bias_correct`` without a report.
        FitError: the joint precision would have more than 5,000 rows, or see ``bias_corrected``.

    Source: Kristensen et al. (2016), J. Stat. Softw. 70(5), section 2.3.

    >>> from glmmjax import datasets, glmm
    >>> fit = glmm("Yield ~ 1 + (1 | Batch)", datasets.load("dyestuff"))
    >>> out = fit.sdreport(lambda params, random, data: {"mean": params["beta"][0]})
    >>> bool(np.isclose(out.report["mean"], 1527.5)), bool(np.isclose(out.report_se["mean"], fit.bse.iloc[0]))
    (True, True)
    """
    check_flags("sdreport", bias_correct=bias_correct, joint_precision=joint_precision)
    if report is not None and not callable(report):
        raise ArgumentError(f"sdreport: report must be a function of (params, random, data), not {report!r}.")
    report = fit.default_report if report is None else report
    if report is not None:
        check_hashable("report", report)
    params, random = fit.params_report(), fit.random_report()
    extra: dict[str, Any] = {}
    if report is not None:
        delta = delta_method(fit, report)
        extra |= {"report": delta.value, "report_se": delta.se, "report_vcov": delta.vcov}
    if bias_correct:
        if report is None:
            raise ArgumentError("sdreport: bias_correct=True needs report=, the quantities to correct.")
        corrected = bias_corrected(fit, report)
        extra |= {"bias_corrected": corrected.value, "bias_corrected_se": corrected.se}
    if joint_precision:
        extra["joint_precision"] = _joint_precision(fit)
    return SdReport(*params, *random, **extra)


def _joint_precision(fit: Fit) -> pd.DataFrame:
    """``[[H, -H J], [., J'HJ + l'']]`` with J the modes' derivative: the inverse of the joint covariance.

    Parameters that are held have no row, those that are tied together one for all of them.
    """
    import pandas as pd

    at, model, data = fit.marginal, fit.problem.model, fit.problem.data
    M, names = _free(fit)
    n, k = sum(x.size for x in at.modes), len(names)
    if n + k > LARGEST_PRECISION:
        raise FitError(
            f"joint_precision: {n + k} rows are too many for a dense matrix; the limit is {LARGEST_PRECISION}."
        )
    with double_precision():
        members = model.members(data)
        H = model.hessian(model.unflatten(jnp.asarray(fit.flat), data), at.modes, data)
        matrix = np.asarray(jax.jit(lambda H: as_matrix(model.structure, H, members))(H)) if n else np.zeros((0, 0))
    J = np.concatenate([x.reshape(-1, len(M)) @ M for x in at.modes_jacobian]) if at.modes else np.zeros((0, k))
    across = -matrix @ J
    Q = np.block([[matrix, across], [across.T, J.T @ matrix @ J + M.T @ fit.hessian @ M]])
    order = np.concatenate([np.argsort(fit.random_order, kind="stable"), n + np.arange(k)])
    labels = [*fit.random_labels, *names]
    return pd.DataFrame(Q[np.ix_(order, order)], index=labels, columns=labels)


def _free(fit: Fit) -> tuple[np.ndarray, list[str]]:
    """The map (k, r) from the parameters that were estimated to all of them, and the names of the former."""
    T, names = fit.directions, np.array(fit.parameter_names, dtype=object)
    if T.shape == (len(names),) * 2 and n_free(T) == len(names):
        return np.eye(len(names)), list(names)
    # parameters that are tied have equal rows, those that are held have none
    free = np.flatnonzero(np.any(T != 0.0, axis=1))
    leader = {int(i): int(next(j for j in free if np.array_equal(T[i], T[j]))) for i in free}
    moves = [np.array([leader.get(i) == j for i in range(len(names))]) for j in dict.fromkeys(leader.values())]
    M = np.stack(moves, axis=1).astype(float) if moves else np.zeros((len(names), 0))
    return M, [" = ".join(names[own]) for own in moves]
