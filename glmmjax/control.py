"""How a fit is computed, as opposed to what is fitted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glmmjax._arguments import check_flags, whole
from glmmjax._errors import ArgumentError, did_you_mean
from glmmjax.optimizer import MAX_ITERATIONS, TOLERANCE

OPTIMIZERS = ("newton", "jaxopt-bfgs", "jaxopt-lbfgs", "scipy-bfgs", "scipy-l-bfgs-b")
RANK_DEFICIENT = ("drop", "raise")
COMPILATIONS = ("auto", "quick", "full")


@dataclass(frozen=True)
class Control:
    """Settings of the computation.

    Args:
        optimizer: the outer optimizer. "newton" is a trust-region Newton method on the exact Hessian, which is updated
            from gradients between its first and last point where it is expensive; "jaxopt-bfgs", "jaxopt-lbfgs",
            "scipy-bfgs" and "scipy-l-bfgs-b" are quasi-Newton methods on the exact gradient, finished by "newton".
        max_iter: the largest number of outer iterations.
        tol: the outer iteration stops when the squared Newton step, measured in standard errors, is below ``tol``
            ("newton"), or when the largest gradient in the scaled coordinates is below ``sqrt(tol)`` (the others).
        device: "cpu", "gpu" or "tpu", the default being JAX's.
        dtype: "float64". The Laplace approximation is not reliable in single precision.
        progress: print one line per outer iteration to stderr; the fit can then be interrupted with Ctrl-C, and what
            has been reached so far is returned with a status that says so.
        structure: how the Hessian in the random effects of a formula is factored: "blocks", "crossed" (a table of every
            pair of groups) or "linked" (the pairs that occur); None chooses, and ``fit.structure`` tells.
        compilation: "auto" compiles a program for the CPU quickly at first, and once more with all optimizations when
            its runs so far, or the size of the data, repay that; "quick" and "full" do the one or the other at once.
            Estimates agree to rounding.
        warn: warn with the status of a fit that did not converge, is separated, or leaves something that the data do
            not identify. One at a boundary, such as a standard deviation of zero, is a sound fit and only has a status;
            batches never warn.
        starts: how many starts the outer iteration is begun from; the best end is kept, and ``fit.starts`` tells what
            each found. "auto" adds others where the first end is suspicious: not converged, or with nearly all scatter
            laid on the dispersion, or on the random effects, where the likelihood may have a second maximum. For a
            likelihood of your own there are others only if a number is given; they are drawn around the given one.
        rank_deficient: "drop" columns of X that earlier ones determine, with a note, or "raise" an error.

    Raises:
        ArgumentError: a setting is unknown or out of range.

    >>> Control(max_iter=50).optimizer
    'newton'
    """

    optimizer: str = "newton"
    max_iter: int = MAX_ITERATIONS
    tol: float = TOLERANCE
    device: str | None = None
    dtype: str = "float64"
    progress: bool = False
    structure: str | None = None
    rank_deficient: str = "drop"
    compilation: str = "auto"
    warn: bool = True
    starts: int | str = "auto"

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ArgumentError(f"Unknown optimizer {self.optimizer!r}. {did_you_mean(self.optimizer, OPTIMIZERS)}")
        if self.rank_deficient not in RANK_DEFICIENT:
            raise ArgumentError(f"rank_deficient must be one of {RANK_DEFICIENT}, not {self.rank_deficient!r}.")
        if self.compilation not in COMPILATIONS:
            raise ArgumentError(f"compilation must be one of {COMPILATIONS}, not {self.compilation!r}.")
        if self.dtype != "float64":
            raise ArgumentError(f"dtype must be 'float64', not {self.dtype!r}: the Laplace approximation needs it.")
        whole("max_iter", self.max_iter)
        for name in ("structure", "device"):
            if not isinstance(getattr(self, name), (str, type(None))):
                raise ArgumentError(f"{name} must be a name or None, not {getattr(self, name)!r}.")
        check_flags("Control", progress=self.progress, warn=self.warn)
        if self.starts != "auto":
            whole("starts", self.starts)
        if not (isinstance(self.tol, (float, np.floating)) and 0 < self.tol < 1):
            raise ArgumentError(f"tol must lie between 0 and 1, not {self.tol!r}.")


def checked_control(control: object) -> Control:
    """The default for None.

    Raises:
        ArgumentError: not a Control.
    """
    if control is not None and not isinstance(control, Control):
        raise ArgumentError(f"control must be a glmmjax.Control, not {type(control).__name__}.")
    return Control() if control is None else control
