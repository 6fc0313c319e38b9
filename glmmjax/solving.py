"""From a model with its data to its optimum: which programs run, in which order, whatever door it came by."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from glmmjax import _memory
from glmmjax._errors import ArgumentError, DataError
from glmmjax._precision import double_precision, to_numpy
from glmmjax._status import Outcome
from glmmjax._types import Data, Random
from glmmjax.control import Control
from glmmjax.hessians import Structure
from glmmjax.joint import JointModel
from glmmjax.laplace import Marginal
from glmmjax.optimizer import NewtonState, minimize_scipy, newton_start
from glmmjax.programs import Report, Source, compiled, gradient_program, jaxopt_program, newton_program


@dataclass(frozen=True, eq=False)
class Problem:
    """A model with its data: what is minimized, and what can be evaluated again later.

    Attributes:
        source: ``(build, spec)``, from which the :class:`JointModel` is made.
        data: a pytree of NumPy arrays.
        modes: where the first search for the modes begins.
        names: a name for every flat parameter.
        inside: moves a start (k,) along directions T (k, r) away from boundaries, where an optimizer would stay.
    """

    source: Source
    data: Data
    modes: Random
    names: tuple[str, ...]
    inside: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None

    @property
    def model(self) -> JointModel:
        """The joint density."""
        build, spec = self.source
        return build(spec)


class Solution(NamedTuple):
    """Where the outer iteration ended, what the model reports there, and the seconds spent compiling; NumPy."""

    state: NewtonState
    report: Report
    compile_time: float


def solve(problem: Problem, control: Control, flat: np.ndarray, T: np.ndarray, modes: Random | None = None) -> Solution:
    """The minimum of the marginal negative log-likelihood over ``flat + T x``.

    Columns of ``T`` (k, r) span the directions in which the parameters may move: a parameter that is held has a row of
    zeros, two that are tied have equal rows, and a column of zeros does nothing.

    Raises:
        ArgumentError: the device is not there.
        DataError: the structure of the Hessian does not fit into memory.
    """
    structure = problem.model.structure
    check_memory(structure, len(flat))
    with double_precision(chosen_device(control)):
        data = placed(problem.data, structure, control)
        modes = problem.modes if modes is None else modes
        compile_time = 0.0
        flat = flat if problem.inside is None else problem.inside(flat, T)
        if control.optimizer != "newton":
            flat, compile_time = _quasi_newton(problem, control, flat, T, modes, data)
        state = newton_start(flat, modes)
        steps, seconds = _newton(problem, control, state, T, data)
        if control.optimizer == "newton" and structure.costly:
            state = _few_hessians(steps, state)
        state, report = to_numpy(steps(state))
        return Solution(state, report, compile_time + seconds)


def placed(data: Data, structure: Structure, control: Control) -> Data:
    """The data on the device where programs will read them again and again; one that runs once takes them as they are.

    Whoever owns the data and calls this early spares the memory of a second copy.
    """
    if not (control.progress or control.optimizer != "newton" or structure.costly):
        return data
    with double_precision(chosen_device(control)):
        return jax.device_put(data)


def evaluate(problem: Problem, control: Control, flat: np.ndarray, modes: Random | None = None) -> Marginal:
    """The marginal likelihood at one point with its exact derivatives; NumPy. Uses the program of :func:`solve`."""
    return solve_at(problem, control, flat, modes).state.at


def solve_at(problem: Problem, control: Control, flat: np.ndarray, modes: Random | None = None) -> Solution:
    """What :func:`solve` would return if it stopped at the point where it begins."""
    with double_precision(chosen_device(control)):
        T = np.eye(len(flat))
        start = newton_start(np.asarray(flat), problem.modes if modes is None else modes)
        steps, seconds = _newton(problem, control, start, T, problem.data)
        state, report = to_numpy(steps(start, budget=1))
        return Solution(state, report, seconds)


def resume(problem: Problem, control: Control, state: NewtonState, T: np.ndarray) -> NewtonState:
    """The end of an outer iteration that has come as far as ``state``; NumPy. Call in double precision."""
    data = jax.device_put(problem.data)
    steps, _ = _newton(problem, control, state, T, data)
    return to_numpy(steps(state)[0])


def check_memory(structure: Structure, n_params: int) -> None:
    """Raise where the structure's own arrays cannot fit into the memory that this process may have."""
    needed, there = structure.memory(n_params), _memory.available()
    if needed > there:
        raise DataError(
            f"The Hessian of the random effects ({structure}) would need about {needed / 2**30:.0f} GiB of memory, and "
            f"there are {there / 2**30:.0f}: about {np.sqrt(there / needed):.0%} of these effects would fit. Use fewer "
            "random slopes or levels, nested factors where the design allows it, or for a likelihood of your own a "
            "structure that stores less, such as Banded or Sparse."
        )


class Steps(Protocol):
    """Newton steps from a state to the end, or ``budget`` of them, with exact Hessians or updated ones.

    They return the last state and the report on its best point.
    """

    def __call__(self, state: NewtonState, exact: bool = True, budget: int = 0) -> tuple[NewtonState, Report]: ...


def _newton(problem: Problem, control: Control, start: NewtonState, T: np.ndarray, data: Data) -> tuple[Steps, float]:
    """What takes Newton steps from states like ``start``, and the seconds spent compiling."""

    def given(state: NewtonState, exact: bool, budget: int) -> tuple[Any, ...]:
        numbers = (np.array(control.tol), np.array(control.max_iter), np.array(budget))
        return (np.array(exact), state, T, *numbers, data)

    program, seconds = compiled(newton_program, (problem.source,), given(start, True, 1), control.compilation)

    def steps(state: NewtonState, exact: bool = True, budget: int = 0) -> tuple[NewtonState, Report]:
        at_once = budget or (1 if control.progress else control.max_iter)
        state, report = program(*given(state, exact, at_once))
        try:
            while not budget and int(state.outcome) == Outcome.RUNNING:
                _show(state)
                state, report = program(*given(state, exact, at_once))
        except KeyboardInterrupt:
            pass
        if control.progress:
            _show(state)
        return state, report

    return steps, seconds


def _few_hessians(steps: Steps, state: NewtonState) -> NewtonState:
    """The start at the optimum that is found with a Hessian that is exact at the start only, then updated."""
    state, _ = steps(state, budget=1)
    state, _ = steps(state, exact=False)
    return newton_start(np.asarray(state.flat), to_numpy(state.at.modes))


def _quasi_newton(
    problem: Problem, control: Control, flat: np.ndarray, T: np.ndarray, modes: Random, data: Data
) -> tuple[np.ndarray, float]:
    """The optimum that a quasi-Newton method of jaxopt or SciPy finds."""
    kind, _, method = control.optimizer.partition("-")
    x, tolerance = np.zeros(T.shape[1]), np.sqrt(control.tol)
    if kind == "jaxopt":
        given = (x, T, flat, np.array(tolerance), np.array(control.max_iter), modes, data)
        program, seconds = compiled(jaxopt_program, (problem.source, method), given, control.compilation)
        return flat + T @ np.asarray(program(*given)), seconds
    program, seconds = compiled(gradient_program, (problem.source,), (x, T, flat, modes, data), control.compilation)
    last = [modes]  # each search for the modes starts at the last ones found

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        (value, u), g = program(x, T, flat, last[0], data)
        if not np.isfinite(value):
            return 1e100, np.zeros_like(x)
        last[0] = u
        return float(value), np.asarray(g)

    return flat + T @ minimize_scipy(method, value_and_gradient, x, tolerance, control.max_iter), seconds


def _show(state: NewtonState) -> None:
    largest: Any = np.max(np.abs(state.at.gradient), initial=0.0)
    print(
        f"iteration {int(state.iterations):3d}   nll {float(state.at.value):.6f}   largest gradient {largest:.2e}",
        file=sys.stderr,
    )


def chosen_device(control: Control) -> jax.Device | None:
    """The first device of the platform that was asked for; None for JAX's default.

    Raises:
        ArgumentError: there is none.
    """
    if control.device is None:
        return None
    try:
        return jax.devices(control.device)[0]
    except RuntimeError as error:
        raise ArgumentError(f"device {control.device!r} is not there: {error}") from error
