"""What can be said against a researcher's likelihood before anything is fitted, each with its remedy."""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._errors import ArgumentError, DataError, GlmmjaxWarning
from glmmjax._precision import to_numpy
from glmmjax._types import Array, Data, Random
from glmmjax.custom import LikelihoodSpec
from glmmjax.hessians import as_matrix
from glmmjax.observations import ObservationData, ObservationSpec
from glmmjax.programs import Source, compiled
from glmmjax.promises import Storage
from glmmjax.solving import Problem
from glmmjax.surroundings import read_surroundings, tracing

# Arrays of at least so many numbers that a likelihood finds around it are taken for data.
CAPTURED = 20
MISMATCH = 1e-6


def check_number(what: str, function: Callable[..., Any], *arguments: Any) -> None:
    """Raise ArgumentError unless a function gives one float64 number; call in double precision."""
    with tracing(read_surroundings((function,))):
        traced, out = jax.make_jaxpr(function, return_shape=True)(*arguments)
    leaves = jax.tree.leaves(out)
    if len(leaves) != 1 or not hasattr(out, "shape"):
        raise ArgumentError(f"{what} must return one number, but it returns a {type(out).__name__}.")
    if out.shape != ():
        raise ArgumentError(f"{what} must return one number, but it returns an array of shape {out.shape}: sum it.")
    narrow = "float32" if out.dtype != jnp.float64 else _narrowed(traced.jaxpr)
    if narrow:
        raise ArgumentError(
            f"{what} computes in {narrow}, not float64: somewhere in it an array is made or cast with a narrower dtype "
            "(jnp.float32, .astype, dtype=). The Laplace approximation needs double precision: leave the dtype out."
        )


def _narrowed(jaxpr: Any) -> str:
    """The type of the first float64 that a program casts to a narrower one, within programs that it calls as well."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "convert_element_type":
            before, after = equation.invars[0].aval.dtype, equation.outvars[0].aval.dtype
            if before == jnp.float64 and jnp.issubdtype(after, jnp.floating) and after.itemsize < before.itemsize:
                return str(after)
        for value in jax.tree.leaves(
            tuple(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ):
            inner = getattr(value, "jaxpr", value)
            found = _narrowed(inner) if hasattr(inner, "eqns") else ""
            if found:
                return found
    return ""


def warn_of_captured(function: Callable[..., Any]) -> None:
    """Warn of arrays that a function finds around it instead of getting them as data."""
    captured = _captured(function, set())
    if captured:
        listed = ", ".join(f"{name} {shape}" for name, shape in captured.items())
        warnings.warn(
            f"nll uses arrays that are not among its arguments: {listed}. They become constants of the compiled "
            "program, which is compiled anew for other values: pass them in data=.",
            GlmmjaxWarning,
            stacklevel=4,
        )


def _captured(function: Any, seen: set[int]) -> dict[str, tuple[int, ...]]:
    """The arrays around a function, by name: in its closure, in partial arguments, around functions that it calls."""
    if id(function) in seen:
        return {}
    seen.add(id(function))
    if isinstance(function, partial):
        around = {"an argument of partial": list(function.args), **function.keywords, "": function.func}
    else:
        try:
            variables = inspect.getclosurevars(inspect.unwrap(function))
        except TypeError:  # not a plain function
            return {}
        around = {**variables.globals, **variables.nonlocals}
    found: dict[str, tuple[int, ...]] = {}
    for name, value in around.items():
        if isinstance(value, (dict, list, tuple)) or dataclasses.is_dataclass(value):
            leaves = jax.tree.leaves(value)
        else:
            leaves = [value]
        for leaf in leaves:
            if isinstance(leaf, (np.ndarray, jax.Array)) and np.size(leaf) >= CAPTURED:
                found[name] = np.shape(leaf)
            elif callable(leaf) and not isinstance(leaf, type) and _of_the_user(leaf):
                found |= _captured(leaf, seen)
    return found


def _of_the_user(function: Any) -> bool:
    module = getattr(inspect.unwrap(function), "__module__", "") or ""
    return module.partition(".")[0] not in ("jax", "jaxlib", "numpy", "scipy", "glmmjax", "builtins", "functools")


def check_start(problem: Problem, spec: LikelihoodSpec | ObservationSpec, flat: np.ndarray) -> None:
    """Raise where the density is not usable at the start, or its Hessian is not what the structure promises.

    Raises:
        DataError: value or gradient is not finite.
        ArgumentError: a random effect does not enter, or effects are coupled that the structure keeps apart.
    """
    model, data, storage = problem.model, problem.data, spec.storage
    program, _ = compiled(_values_program, (problem.source,), (flat, problem.modes, data))
    value, g, score = to_numpy(program(flat, problem.modes, data))
    if not np.isfinite(value):
        raise DataError(
            f"nll is {value} at the start values{_where(spec, model, flat, problem)}: check the start values, and the "
            "data for missing values."
        )
    if not np.all(np.isfinite(g)):
        name = problem.names[int(np.argmin(np.isfinite(g)))]
        raise DataError(
            f"the gradient of nll in {name} is not finite at the start values, although nll is. A usual cause is "
            "jnp.where around an expression that overflows or divides by zero: guard its argument as well."
        )
    bad = _first_effect(storage, tuple(~np.isfinite(s) for s in score))
    if bad:
        raise DataError(f"the gradient of nll in random {bad} is not finite at the start values.")
    if storage.size:
        rng = np.random.default_rng(1)
        # effects may be coupled through a parameter that is zero at the start
        check_promise(problem, spec, flat + 0.1 * rng.normal(size=flat.shape), problem.modes)
        check_promise(problem, spec, flat, problem.modes)


def _values_program(source: Source, flat: Array, u: Random, data: Data) -> tuple[Array, Array, Random]:
    model = source[0](source[1])

    def nll(flat: Any, u: Random) -> Any:
        return model.nll(model.unflatten(flat, data), u, data)

    value, (g, score) = jax.value_and_grad(nll, (0, 1))(flat, u)
    return value, g, score


def check_promise(problem: Problem, spec: LikelihoodSpec | ObservationSpec, flat: np.ndarray, modes: Random) -> None:
    """Compare the assembled Hessian with a Hessian-vector product near some effects, if both are finite.

    Raises:
        ArgumentError: a random effect does not enter, or effects are coupled that the structure keeps apart.
    """
    model, storage = problem.model, spec.storage
    rng = np.random.default_rng(0)
    v = tuple(rng.normal(size=u.shape) for u in modes)
    moved = tuple(u + 0.1 * rng.normal(size=u.shape) for u in modes)

    compare, _ = compiled(_products_program, (problem.source,), (flat, moved, v, problem.data))
    slope, exact, stored = to_numpy(compare(flat, moved, v, problem.data))
    if not all(np.all(np.isfinite(x)) for x in (*exact, *slope)):  # too far away: look at the effects themselves
        slope, exact, stored = to_numpy(compare(flat, modes, v, problem.data))
    if not all(np.all(np.isfinite(x)) for x in (*exact, *slope)):
        return
    idle = _first_effect(storage, tuple((x == 0.0) & (g == 0.0) for x, g in zip(exact, slope, strict=True)))
    if idle:
        raise ArgumentError(
            f"random {idle} does not enter nll, so that it cannot be integrated out: leave it out, or give it a prior."
        )
    size = max(float(np.max(np.abs(x), initial=0.0)) for x in exact)
    wrong = tuple(np.abs(a - b) > MISMATCH * (1.0 + size) for a, b in zip(exact, stored, strict=True))
    if any(np.any(x) for x in wrong):
        raise ArgumentError(
            f"the structure ({model.structure}) does not hold: random {_first_effect(storage, wrong)} is coupled in "
            f"nll with effects that it keeps apart ({sum(int(np.sum(x)) for x in wrong)} such effects). Promise "
            "less, or gj.Dense()."
        )


def _products_program(source: Source, flat: Array, u: Random, v: Random, data: Data) -> tuple[Random, Random, Random]:
    """The score, and ``H v`` by differentiation and from the assembled Hessian."""
    model = source[0](source[1])
    params, members = model.unflatten(flat, data), model.members(data)
    slope, exact = jax.jvp(jax.grad(lambda u: model.nll(params, u, data)), (u,), (v,))
    return slope, exact, model.structure.multiply(model.hessian(params, u, data), v, members)


def name_weak_effects(problem: Problem, storage: Storage, flat: np.ndarray, u: Random) -> str | None:
    """Which random effects make the Hessian at ``u`` indefinite, in words; None if none does."""
    model, data = problem.model, problem.data
    members = model.members(data)
    H = jax.jit(lambda x, u: model.hessian(model.unflatten(x, data), u, data))(flat, u)
    if bool(np.all(np.asarray(model.structure.factor(H, members).positive))):
        return None
    if storage.size > 2000:
        diagonal = [np.einsum("iig->ig", np.asarray(d)) for d in model.structure.diagonal(H, members)]
        worst = _label(storage, int(np.argmin(np.concatenate([d.reshape(-1) for d in diagonal]))))
        return f"the Hessian in the random effects is not positive definite, least so at {worst}"
    matrix = np.asarray(as_matrix(model.structure, H, members))
    if not np.all(np.isfinite(matrix)):
        return "the Hessian in the random effects is not finite"
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    weight = np.abs(vectors[:, 0])
    most = np.argsort(-weight)[:3]
    named = ", ".join(_label(storage, int(i)) for i in most if weight[i] > 0.1 * weight[most[0]])
    return (
        f"the Hessian in the random effects is not positive definite (smallest eigenvalue {values[0]:.2g}), at {named}"
    )


def _where(spec: LikelihoodSpec | ObservationSpec, model: Any, flat: np.ndarray, problem: Problem) -> str:
    """The first observation or group whose piece of the density is not finite, for models by observation."""
    if not isinstance(spec, ObservationSpec):
        return ""
    data: ObservationData = problem.data
    params, effects = model.view(model.unflatten(jnp.asarray(flat), data), problem.modes, data)[:2]
    own = {name: effects[name][data.members.rows[k]] for k, name in enumerate(spec.factors)}
    each = np.asarray(jax.vmap(spec.nll, in_axes=(None, 0, 0))(params, own, data.rows))
    if not np.all(np.isfinite(each)):
        row = int(np.argmin(np.isfinite(each)))
        values = {name: np.asarray(x)[row].tolist() for name, x in data.rows.items()}
        return f", first in observation {row} ({values}; {int(np.sum(~np.isfinite(each)))} such observations)"
    for k, name in enumerate(spec.factors):
        prior = np.asarray(jax.vmap(lambda b, k=k: spec.prior_nll(k, params, b))(effects[name]))
        if not np.all(np.isfinite(prior)):
            return f", first in the prior of {name}[{int(np.argmin(np.isfinite(prior)))}]"
    return ""


def _first_effect(storage: Storage, which: Sequence[np.ndarray]) -> str:
    """The label of the first effect that is marked, or nothing."""
    marked = np.concatenate([np.asarray(x).reshape(-1) for x in which]) if which else np.zeros(0, dtype=bool)
    return _label(storage, int(np.argmax(marked))) if np.any(marked) else ""


def _label(storage: Storage, position: int) -> str:
    return storage.label(int(np.concatenate([x.reshape(-1) for x in storage.index])[position]))
