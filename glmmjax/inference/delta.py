"""Standard errors of any function of parameters and random effects: the delta method, exact through the modes.

With the joint covariance of Kristensen et al. (2016), J. Stat. Softw. 70(5), section 2.3,

    Cov(phi) = D_u H^-1 D_u' + A V A',    A = D_theta + D_u du_hat/dtheta,

where V is the covariance of the estimates and D the derivatives of phi. The second part is the error of the estimates,
the first what the data leave open about the random effects.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from glmmjax._errors import ArgumentError, FitError
from glmmjax._precision import double_precision, to_numpy
from glmmjax._types import Array, Data, Random
from glmmjax.hessians import DenseHessian, Structure, as_matrix
from glmmjax.joint import Expansion, JointModel
from glmmjax.laplace import marginal_derivatives
from glmmjax.programs import Source, compiled
from glmmjax.result import Fit

# Up to so many numbers their whole covariance is kept, beyond only their variances.
LARGEST_COVARIANCE = 1000
BATCH = 64
# Up to so many effects are treated as dense where a report couples them all.
LARGEST_DENSE = 1000

Function = Callable[[Any, Any, Any], Any]


class Delta(NamedTuple):
    """Reported numbers (m,), their standard errors (m,), and their covariance (m, m) if there are not too many."""

    value: Any
    se: Any
    vcov: np.ndarray | None


def delta_method(fit: Fit, function: Function) -> Delta:
    """``function(params, random, data)`` at the estimates, with standard errors in the same shapes.

    Raises:
        ArgumentError: the function does not give an array or pytree of numbers.
    """
    at, function = fit.marginal, fit.on_engine(function)
    given = (fit.flat, at.modes, at.modes_jacobian, fit.known_vcov, fit.problem.data)
    with double_precision():
        program, _ = compiled(_delta_program, (fit.problem.source, function), given)
        value, sd, vcov = to_numpy(program(*given))
    if not fit.pd_hess:
        sd, vcov = jax.tree.map(lambda x: np.full_like(x, np.nan), (sd, vcov))
    return Delta(value, sd, vcov if vcov.size else None)


def _delta_program(
    source: Source, function: Function, flat: Array, u: Random, jacobian: Random, V: Array, data: Data
) -> tuple[Any, Any, Array]:
    model = source[0](source[1])
    members = model.members(data)
    unravel, phi = _flat_function(model, function, flat, u, data)
    value, pull = jax.vjp(phi, flat, u)
    factor = model.structure.factor(model.hessian(model.unflatten(flat, data), u, data), members) if u else None

    def row(seed: Array) -> tuple[Array, Random, Random]:
        d_theta, d_u = pull(seed)
        solved = model.structure.solve(factor, d_u) if u else ()
        through = sum((jnp.tensordot(d, j, 2) for d, j in zip(d_u, jacobian, strict=True)), start=jnp.zeros_like(flat))
        return d_theta + through, d_u, solved

    def variance(seed: Array) -> Array:
        a, d_u, solved = row(seed)
        return a @ V @ a + sum((jnp.vdot(d, s) for d, s in zip(d_u, solved, strict=True)), start=jnp.zeros(()))

    m = value.size
    if m > LARGEST_COVARIANCE:
        variances = jax.lax.map(lambda i: variance(jnp.zeros(m).at[i].set(1.0)), jnp.arange(m), batch_size=BATCH)
        return unravel(value), unravel(jnp.sqrt(variances)), jnp.zeros((0, 0))
    A, D, solved = jax.vmap(row)(jnp.eye(m))
    vcov = A @ V @ A.T
    for d, s in zip(D, solved, strict=True):
        vcov = vcov + d.reshape(m, -1) @ s.reshape(m, -1).T
    return unravel(value), unravel(jnp.sqrt(jnp.diagonal(vcov))), 0.5 * (vcov + vcov.T)


def _flat_function(
    model: JointModel, function: Function, flat: Array, u: Random, data: Data
) -> tuple[Callable[[Array], Any], Callable[[Array, Random], Array]]:
    """What gives a flat vector the shape of the report, and the report as a flat vector."""

    def report(flat: Array, u: Random) -> Any:
        out = function(*model.view(model.unflatten(flat, data), u, data))
        try:
            return jax.tree.map(lambda x: jnp.asarray(x, dtype=jnp.float64), out)
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"report must return numbers, arrays, or a pytree of them: {error}") from error

    shapes = jax.eval_shape(report, flat, u)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return ravel_pytree(zeros)[1], lambda flat, u: ravel_pytree(report(flat, u))[0]


# -- epsilon method ----------------------------------------------------------------------------------------------------
class Corrected(NamedTuple):
    """Expectations of reported numbers given the data, with their standard errors, in the report's shapes."""

    value: Any
    se: Any


def bias_corrected(fit: Fit, function: Function) -> Corrected:
    """``E[phi(theta, u) | y]`` at the estimates instead of ``phi(theta, u_hat)``, by the epsilon method.

    With ``l(theta, eps) = -log int exp(-f + eps'phi) du`` the expectation is ``-dl/deps`` at 0, and its variance
    ``-l_ee + l_et V l_te``; both come from the exact derivatives of the Laplace approximation.

    Source: Thorson & Kristensen (2016), Fish. Res. 175: 66-74.

    Where phi couples random effects that the structure of the Hessian keeps apart, the Hessian is taken as dense.

    Raises:
        FitError: there are too many effects for that.
    """
    at, problem, function = fit.marginal, fit.problem, fit.on_engine(function)
    with double_precision():
        k = len(fit.flat)
        m = len(_report_vector(problem.model, function, fit.flat, at.modes, problem.data))
        dense = not _keeps_pattern(problem.model, function, fit.flat, at.modes, problem.data)
        modes = at.modes
        if dense:
            modes = (np.concatenate([u.reshape(-1) for u in at.modes])[None],)
            if modes[0].size > LARGEST_DENSE:
                raise FitError(
                    "bias correction: a reported quantity couples random effects that the structure "
                    f"({problem.model.structure}) keeps apart, and {modes[0].size} effects are too many to treat as "
                    f"dense; the limit is {LARGEST_DENSE}. Report its parts one by one."
                )
        source = (
            tilted_model,
            Tilted(problem.source, function, k, tuple(u.shape for u in at.modes) if dense else None),
        )
        x = np.concatenate([fit.flat, np.zeros(m)])
        program, _ = compiled(_tilted_program, (source,), (x, modes, problem.data))
        g, H = to_numpy(program(x, modes, problem.data))
        unravel, _ = _flat_function(problem.model, function, fit.flat, at.modes, problem.data)
        across = H[k:, :k]
        vcov = -H[k:, k:] + across @ fit.known_vcov @ across.T
        se = np.sqrt(np.diag(vcov)) if fit.pd_hess else np.full(m, np.nan)
        return Corrected(*to_numpy((unravel(jnp.asarray(-g[k:])), unravel(jnp.asarray(se)))))


class Tilted(NamedTuple):
    """A model whose density is multiplied by ``exp(eps' phi)``; eps follows its first k parameters.

    ``shapes``, those of the effects by level, are given where phi couples effects that the model's structure keeps
    apart: the Hessian is then dense.
    """

    source: Source
    function: Function
    k: int
    shapes: tuple[tuple[int, ...], ...] | None = None


@lru_cache(maxsize=64)
def tilted_model(spec: Tilted) -> JointModel:
    """The joint negative log-likelihood ``f - eps' phi``."""
    base = spec.source[0](spec.source[1])
    structure: Structure = base.structure
    if spec.shapes is not None:
        structure = DenseHessian(sum(int(np.prod(shape)) for shape in spec.shapes))

    def levels(u: Random) -> Random:
        """The effects as the base model keeps them."""
        if spec.shapes is None:
            return u
        bounds = np.cumsum([int(np.prod(shape)) for shape in spec.shapes])[:-1]
        parts = jnp.split(u[0][0], bounds)
        return tuple(part.reshape(shape) for part, shape in zip(parts, spec.shapes, strict=True))

    def tilt(params: Any, u: Random, data: Data) -> Array:
        flat, eps = params
        return -jnp.vdot(eps, _report_vector(base, spec.function, flat, levels(u), data))

    def untilted(params: Any, u: Random, data: Data) -> Expansion:
        at = base.expand(base.unflatten(params[0], data), levels(u), data)
        if spec.shapes is None:
            return at
        members = base.members(data)
        H = as_matrix(base.structure, at.hessian, members)
        score = jnp.concatenate([x.reshape(-1) for x in at.score])[None]
        return Expansion(jnp.sum(at.pieces)[None], (score,), H)

    def expand(params: Any, u: Random, data: Data) -> Expansion:
        at = untilted(params, u, data)
        pieces = at.pieces.at[0].add(tilt(params, u, data))
        if not u:
            return Expansion(pieces, (), at.hessian)
        score, product = jax.linearize(lambda u: jax.grad(tilt, 1)(params, u, data), u)
        members = base.members(data)
        more = structure.from_products(jax.vmap(product)(structure.probes(members)), members)
        together = jax.tree.map(jnp.add, (at.score, at.hessian), (score, more))
        return Expansion(pieces, *together)

    return JointModel(
        expand, structure, base.members, lambda x, data: (x[: spec.k], x[spec.k :]), lambda p, d: (), base.view
    )


def _tilted_program(source: Source, x: Array, modes: Random, data: Data) -> tuple[Array, Array]:
    at = marginal_derivatives(source[0](source[1]), x, modes, data)
    return at.gradient, at.hessian


def _report_vector(model: JointModel, function: Function, flat: Array, u: Random, data: Data) -> Array:
    return _flat_function(model, function, flat, u, data)[1](flat, u)


def _keeps_pattern(model: JointModel, function: Function, flat: Array, u: Random, data: Data) -> bool:
    """Whether the Hessian of the report in the effects has the structure's pattern."""
    if not u:
        return True
    rng = np.random.default_rng(0)
    v = tuple(rng.normal(size=x.shape) for x in u)

    def both(u: Random) -> tuple[Random, Random]:
        total = lambda u: jnp.sum(_report_vector(model, function, flat, u, data))  # noqa: E731
        product = lambda v: jax.jvp(jax.grad(total), (u,), (v,))[1]  # noqa: E731
        members = model.members(data)
        H = model.structure.from_products(jax.vmap(product)(model.structure.probes(members)), members)
        return product(v), model.structure.multiply(H, v, members)

    exact, stored = to_numpy(jax.jit(both)(u))
    size = max(float(np.max(np.abs(x), initial=0.0)) for x in exact)
    return all(np.max(np.abs(a - b), initial=0.0) <= 1e-8 * (1.0 + size) for a, b in zip(exact, stored, strict=True))
