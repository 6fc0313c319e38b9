"""The conditional modes of the random effects: ``u_hat(params) = argmin_u nll(params, u, data)``.

A damped Newton iteration in the manner of Levenberg and Marquardt: a step ``-(H + t I)^-1 g`` that does not lower the
joint negative log-likelihood is taken back and t grows. Every independent block has its own t, so that one difficult
group does not slow the others. Each pass through the loop evaluates value, gradient and Hessian once, at the point it
is about to judge, so that they appear once in the compiled program.

The derivative of the modes comes from the implicit function theorem, ``u_hat' = -H^-1 d/dparams g``.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._status import Outcome
from glmmjax._types import Array, Data, Params, Random
from glmmjax.hessians import damp, select
from glmmjax.joint import Expansion, JointModel

MAX_ITERATIONS = 100
# The last step is taken unseen: Newton's method squares the error, so that a squared step of 1e-10 leaves about 1e-20.
TOLERANCE = 1e-10
FIRST_DAMPING = 1.0
GROWTH = 8.0
ROUNDING = 1e-12
EPSILON = 1e-15  # a fall of the value that it cannot show, as where a start is far away in the unit of the data


class Stats(NamedTuple):
    """How the search for the modes ended: outcome (a code of :class:`Outcome`) and number of evaluations."""

    outcome: Array
    evaluations: Array


class _State(NamedTuple):
    u: Random
    f: Array
    g: Random
    H: Any
    step: Random
    damping: Array
    positive: Array
    done: Array
    iteration: Array


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def find_modes(model: JointModel, params: Params, start: Random, data: Data) -> tuple[Random, Stats]:
    """The modes, searched from ``start``, and how the search ended.

    Differentiable in ``params`` to any order; ``start`` and ``data`` are taken as given.
    """
    structure, members = model.structure, model.members(data)

    def expand(u: Random) -> Expansion:
        return model.expand(params, u, data)

    def choose(ok: Array, new: Random, old: Random) -> Random:
        keep = [structure.spread_blocks(ok, k, members) for k in range(len(new))]
        return tuple(jnp.where(*triple) for triple in zip(keep, new, old, strict=True))

    def decrement(g: Random, step: Random) -> Array:
        own = [-jnp.sum(a * b, axis=0) for a, b in zip(g, step, strict=True)]
        return sum(
            (structure.sum_blocks(x, k, members) for k, x in enumerate(own)), start=jnp.zeros(structure.n_blocks)
        )

    def advance(state: _State) -> _State:
        trial = tuple(a + b for a, b in zip(state.u, state.step, strict=True))
        f, g, H = expand(trial)
        ok = jnp.isfinite(f) & (f <= state.f + ROUNDING * (1.0 + jnp.abs(f)))
        u, g, H = choose(ok, trial, state.u), choose(ok, g, state.g), select(structure, ok, H, state.H, members)
        f = jnp.where(ok, f, state.f)
        relaxed = jnp.where(state.damping > FIRST_DAMPING, state.damping / GROWTH, 0.0)
        grown = GROWTH * jnp.maximum(state.damping, FIRST_DAMPING)
        damping = jnp.where(state.positive, jnp.where(ok, relaxed, grown), state.damping)
        factor = structure.factor(damp(structure, H, damping, members), members)
        positive = factor.positive
        newton = structure.solve(factor, g)
        step = choose(positive, tuple(-x for x in newton), tuple(jnp.zeros_like(x) for x in newton))
        reached = decrement(g, step) < TOLERANCE + EPSILON * jnp.abs(f)
        settled = positive & (damping == 0) & jnp.isfinite(f) & reached
        damping = jnp.where(positive, damping, GROWTH * jnp.maximum(damping, FIRST_DAMPING))
        return _State(u, f, g, H, step, damping, positive, jnp.all(settled), state.iteration + 1)

    # The base point is u = 0 with a value that anything finite improves on; the first step leads to the start.
    origin = jax.tree.map(jnp.zeros_like, start)
    shapes = jax.eval_shape(expand, origin)
    f, g, H = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    first = _State(
        u=origin,
        f=jnp.full_like(f, jnp.inf),
        g=g,
        H=damp(structure, H, jnp.ones_like(f), members),
        step=start,
        damping=jnp.zeros_like(f),
        positive=jnp.ones(f.shape, dtype=bool),
        done=jnp.array(False),
        iteration=jnp.array(0),
    )
    last = jax.lax.while_loop(lambda s: ~s.done & (s.iteration < MAX_ITERATIONS), advance, first)
    u = tuple(a + b for a, b in zip(last.u, last.step, strict=True))
    outcome = jnp.where(last.done, Outcome.CONVERGED, Outcome.MAX_ITERATIONS)
    return u, Stats(outcome, last.iteration)


@find_modes.defjvp
def _find_modes_jvp(model: JointModel, primals: Any, tangents: Any) -> Any:
    params, start, data = primals
    params_dot = tangents[0]
    u, stats = find_modes(model, params, start, data)
    _, score_dot = jax.jvp(lambda p: model.score(p, u, data), (params,), (params_dot,))
    u_dot = solve_hessian(model, model.hessian(params, u, data), score_dot, data)
    no_tangent = Stats(*(np.zeros(np.shape(x), jax.dtypes.float0) for x in stats))
    return (u, stats), (tuple(-x for x in u_dot), no_tangent)


def solve_hessian(model: JointModel, H: Any, right: Random, data: Data, factor: Any = None) -> Random:
    """``H^-1 right``; derivatives reuse the factorization, given or made here, instead of differentiating it."""
    structure, members = model.structure, model.members(data)
    factor = jax.lax.stop_gradient(structure.factor(H, members) if factor is None else factor)
    return jax.lax.custom_linear_solve(
        lambda v: structure.multiply(H, v, members),
        right,
        lambda _, g: structure.solve(factor, g),
        symmetric=True,
    )
