"""Compiled programs: one per layout, shapes, optimizer and device; data are arguments.

A program takes the state of the outer iteration some evaluations further and reports on the best point so far.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from glmmjax import compilation_cache
from glmmjax._types import Array, Params, Random
from glmmjax.laplace import Marginal, marginal_derivatives, marginal_nll
from glmmjax.layout import Layout, ModelData, beta_name
from glmmjax.model import joint_model
from glmmjax.optimizer import NewtonState, minimize_jaxopt, newton_steps

traces = 0  # how many programs have been traced in this process; a second data set of the same shape adds none


class Report(NamedTuple):
    """What is reported of the best point, with derivatives.

    Attributes:
        spread: per term, Cholesky factor (q, q), standard deviations (q,) and correlations below the diagonal.
        spread_jacobian: their derivatives in ``theta``.
    """

    spread: Any
    spread_jacobian: Any


def unflatten(layout: Layout, flat: Array, data: ModelData) -> Params:
    """The parameters by name from their flat vector: beta of each component, then theta."""
    sizes = {beta_name(c): data.X[c].shape[-1] for c in layout.components}
    sizes["theta"] = sum(term.n_theta for term in layout.terms)
    params, start = {}, 0
    for name in sorted(sizes):
        params[name] = flat[start : start + sizes[name]]
        start += sizes[name]
    return params


def newton_program(
    layout: Layout, state: NewtonState, T: Array, tolerance: Array, max_iter: Array, budget: Array, data: ModelData
) -> tuple[NewtonState, Report]:
    """The state after at most ``budget`` more evaluations, and the report on its best point."""
    global traces
    traces += 1
    model = joint_model(layout)

    def derivatives(flat: Array, modes: Random) -> Marginal:
        return marginal_derivatives(model, unflatten(layout, flat, data), modes, data)

    state = newton_steps(derivatives, T, state, tolerance, max_iter, budget)
    params = unflatten(layout, state.flat, data)
    spread = lambda theta: model.report({**params, "theta": theta}, data)  # noqa: E731
    return state, Report(spread(params["theta"]), jax.jacfwd(spread)(params["theta"]))


def gradient_program(
    layout: Layout, x: Array, T: Array, modes: Random, data: ModelData
) -> tuple[tuple[Array, Random], Array]:
    """Marginal negative log-likelihood, modes and gradient in the scaled coordinates ``x``, ``params = T x``."""
    model = joint_model(layout)

    def value(x: Array) -> tuple[Array, Random]:
        nll, (u, _) = marginal_nll(model, unflatten(layout, T @ x, data), modes, data)
        return nll, u

    return jax.value_and_grad(value, has_aux=True)(x)


def jaxopt_program(
    layout: Layout, method: str, x: Array, T: Array, tolerance: Array, max_iter: Array, modes: Random, data: ModelData
) -> Array:
    """The scaled coordinates of the optimum that a jaxopt solver finds."""

    def value_and_gradient(x: Array) -> tuple[Array, Array]:
        (nll, _), g = gradient_program(layout, x, T, modes, data)
        return jnp.where(jnp.isfinite(nll), nll, 1e100), jnp.where(jnp.isfinite(nll), g, 0.0)

    return minimize_jaxopt(method, value_and_gradient, x, tolerance, max_iter)


# Every program holds hundreds of memory maps, of which a process has a limited number: only the last ones are kept.
MAX_PROGRAMS = 64
_compiled: OrderedDict[Any, Any] = OrderedDict()


def compiled(program: Any, static: tuple[Any, ...], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    """The compiled form of ``program(*static, *arguments)`` for these shapes, and the seconds it took to get it now.

    It comes from this process, from the cache on disk where one is enabled, or from the compiler. Call inside
    :func:`glmmjax._precision.double_precision`.
    """
    leaves, tree = jax.tree.flatten(arguments)
    shapes = tuple((x.shape, x.dtype.str) for x in leaves)
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    key = (program, static, tree, shapes, device)
    if key in _compiled:
        _compiled.move_to_end(key)
        return _compiled[key], 0.0
    began = time.perf_counter()
    signature = (str(tree), shapes, str(device))
    executable = compilation_cache.read(program, static, signature)
    if executable is None:
        executable = jax.jit(partial(program, *static)).lower(*arguments).compile()
        compilation_cache.write(program, static, signature, executable)
    _compiled[key] = executable
    if len(_compiled) > MAX_PROGRAMS:
        _compiled.popitem(last=False)
    return executable, time.perf_counter() - began
