"""Compiled programs: one per model, shapes, optimizer and device; data are arguments.

A model comes as ``source = (build, spec)``: a function and a hashable value from which it makes the
:class:`~glmmjax.joint.JointModel`, so that the same model is recognized in a later call and, on disk, in
a later process. Functions of the user in it count with what they read besides their arguments.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from glmmjax import _memory, compilation_cache
from glmmjax._types import Array, Data, Random
from glmmjax.joint import JointModel
from glmmjax.laplace import Marginal, marginal_derivatives, marginal_nll
from glmmjax.optimizer import NewtonState, minimize_jaxopt, newton_steps, updated_hessian
from glmmjax.surroundings import read_surroundings, tracing

Source: TypeAlias = tuple[Callable[[Any], JointModel], Any]

traces = 0  # how many programs have been traced in this process; a second data set of the same shape adds none


class Report(NamedTuple):
    """What the model reports at the best point, and its derivatives in the flat parameters (..., k)."""

    value: Any
    jacobian: Any


def newton_program(
    source: Source,
    exact: Array,
    state: NewtonState,
    T: Array,
    tolerance: Array,
    max_iter: Array,
    budget: Array,
    data: Data,
) -> tuple[NewtonState, Report]:
    """The state after at most ``budget`` more evaluations, and the report on its best point.

    Every evaluation has the exact Hessian. Where that is costly it has if ``exact``, which is read when the program
    runs, is true; otherwise the Hessian is updated from the gradients.
    """
    model = source[0](source[1])

    def derivatives(flat: Array, modes: Random, last: NewtonState) -> Marginal:
        if not model.structure.costly:
            return marginal_derivatives(model, flat, modes, data)
        new = marginal_derivatives(model, flat, modes, data, exact)
        hessian = updated_hessian(last.at.hessian, flat - last.flat, new.gradient - last.at.gradient)
        without = new._replace(hessian=hessian, modes_jacobian=last.at.modes_jacobian)
        return jax.tree.map(lambda a, b: jnp.where(exact, a, b), new, without)

    state = newton_steps(derivatives, T, state, tolerance, max_iter, budget, model.unit_free)

    def report(flat: Array) -> Any:
        return model.report(model.unflatten(flat, data), data)

    return state, Report(report(state.flat), jax.jacfwd(report)(state.flat))


def gradient_program(
    source: Source, x: Array, T: Array, flat: Array, modes: Random, data: Data
) -> tuple[tuple[Array, Random], Array]:
    """Marginal negative log-likelihood, modes and gradient in the coordinates ``x``, ``params = flat + T x``."""
    model = source[0](source[1])

    def value(x: Array) -> tuple[Array, Random]:
        nll, (u, _) = marginal_nll(model, model.unflatten(flat + T @ x, data), modes, data)
        return nll, u

    return jax.value_and_grad(value, has_aux=True)(x)


def jaxopt_program(
    source: Source,
    method: str,
    x: Array,
    T: Array,
    flat: Array,
    tolerance: Array,
    max_iter: Array,
    modes: Random,
    data: Data,
) -> Array:
    """The coordinates ``x`` of the optimum that a jaxopt solver finds."""

    def value_and_gradient(x: Array) -> tuple[Array, Array]:
        (nll, _), g = gradient_program(source, x, T, flat, modes, data)
        return jnp.where(jnp.isfinite(nll), nll, 1e100), jnp.where(jnp.isfinite(nll), g, 0.0)

    return minimize_jaxopt(method, value_and_gradient, x, tolerance, max_iter)


# Every program holds hundreds of memory maps, of which a process has a limited number: only the last ones are kept.
MAX_PROGRAMS = 64

# Most of the wait for a first fit is the compiler's optimization, which a few small fits do not repay: it makes them
# about four times faster and takes about five times longer. So a program is first compiled with these options, and
# in full once the numbers that it was given over all its runs would have repaid that. The rule counts and does not
# time, so that the same script always runs the same programs.
QUICK: dict[str, str | bool] = {"xla_backend_optimization_level": "0", "xla_cpu_use_fusion_emitters": False}
ENOUGH_WORK = 2_000_000
WORK_OF_A_RUN = 5_000


# Options belong to a version of the compiler, which refuses those that it does not know: found once in a process.
_refused: set[str] = set()


@dataclass
class _Entry:
    """A compiled program, whether it was compiled quickly, and the work it was asked for so far."""

    executable: Any
    quick: bool
    work: int


_compiled: OrderedDict[Any, _Entry] = OrderedDict()


def compiled(
    program: Any, static: tuple[Any, ...], arguments: tuple[Any, ...], compilation: str = "auto"
) -> tuple[Any, float]:
    """The compiled form of ``program(*static, *arguments)`` for these shapes, and the seconds it took to get it now.

    It comes from this process, from the cache on disk where one is enabled, or from the compiler. ``compilation`` is
    that of :class:`glmmjax.Control`. Call inside :func:`glmmjax._precision.double_precision`.
    """
    leaves, tree = jax.tree.flatten(arguments)
    shapes = tuple((x.shape, x.dtype.str) for x in leaves)
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    around, lower = _surrounded(program, static, arguments)
    key = (program, static, tree, shapes, device, around)
    entry = _compiled.pop(key, None)
    work = sum(x.size for x in leaves if x.dtype.kind == "f") + WORK_OF_A_RUN + (entry.work if entry else 0)
    platform = device.platform if device is not None else jax.default_backend()
    in_full = compilation == "full" or (compilation == "auto" and work > ENOUGH_WORK) or platform != "cpu"
    began = time.perf_counter()
    if entry is None or (in_full and entry.quick):
        signature = (str(tree), shapes, str(device))
        entry = _Entry(*_made(program, static, lower, signature, in_full), work)
        seconds = time.perf_counter() - began
    else:
        entry.work, seconds = work, 0.0
    _compiled[key] = entry
    if len(_compiled) > MAX_PROGRAMS:
        _compiled.popitem(last=False)
    return entry.executable, seconds


def _surrounded(
    program: Any, static: tuple[Any, ...], arguments: tuple[Any, ...]
) -> tuple[bytes | None, Callable[[], Any]]:
    """What the user's functions read besides their arguments, as a key, and what traces the program with it.

    Where they read something that cannot be compared, the key is the traced program itself.
    """
    read = read_surroundings(static)

    def lower() -> Any:
        with tracing(read):
            return jax.jit(partial(program, *static)).lower(*arguments)

    if read is None or not read.opaque:
        return None if read is None else read.digest, lower
    lowered = lower()
    return hashlib.blake2b(lowered.as_text().encode(), digest_size=16).digest(), lambda: lowered


def _made(
    program: Any, static: tuple[Any, ...], lower: Callable[[], Any], signature: Any, in_full: bool
) -> tuple[Any, bool]:
    """The program from the disk, in full where it is there, or compiled and stored; and whether it is a quick one."""
    for quick in (False,) if in_full else (False, True):
        executable = compilation_cache.read(program, static, (signature, quick))
        if executable is not None:
            _memory.return_freed()
            return executable, quick
    global traces
    traces += 1
    lowered = lower()
    executable = lowered.compile() if in_full else _compiled_quickly(lowered)
    compilation_cache.write(program, static, (signature, not in_full), executable)
    _memory.return_freed()
    return executable, not in_full


def _compiled_quickly(lowered: Any) -> Any:
    """The program compiled with those of the quick options that this compiler has."""
    options = {name: value for name, value in QUICK.items() if name not in _refused}
    try:
        return lowered.compile(compiler_options=options)
    except jax.errors.JaxRuntimeError:
        refused = {name for name, value in options.items() if not _is_known(name, value)}
        if not refused:
            raise
    _refused.update(refused)
    return _compiled_quickly(lowered)


def _is_known(option: str, value: str | bool) -> bool:
    """Whether the compiler takes an option: the smallest program is compiled with it."""
    try:
        jax.jit(lambda x: x).lower(0.0).compile(compiler_options={option: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True
