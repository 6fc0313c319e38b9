"""Functions of vectors that run in NumPy on the host, called from compiled programs.

``jax.pure_callback`` gives its function JAX arrays, which are filled by the very threads that wait for the function to
return: on one core, or with several programs at once, that can wait for ever. The functions here are given the
numbers themselves, as NumPy arrays, and call nothing of JAX, so that they only wait for each other.

A function takes vectors (..., size) whose leading axes broadcast, and returns vectors over the same leading axes:
``jax.vmap`` is one call with more leading axes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from glmmjax._precision import double_precision
from glmmjax._types import Array


class HostFunction(Protocol):
    """A pure function in NumPy; equal ones share compiled programs."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """The lengths of the vectors that are returned."""

    @property
    def is_symmetric(self) -> bool:
        """Whether the only vector returned is a symmetric matrix times the last argument."""

    def __call__(self, *vectors: np.ndarray) -> tuple[np.ndarray, ...]:
        """The vectors (..., size) for arguments (..., size), which are valid during the call and not writable."""

    def __hash__(self) -> int: ...


def call(function: HostFunction, *vectors: Array) -> tuple[Array, ...]:
    """The vectors that a host function returns, in the floating-point type of the first argument.

    Symmetric functions can be differentiated in their last argument, in both modes.
    """
    return tuple(_call.bind(*vectors, function=function))


_call = Primitive("glmmjax_host_call")
_call.multiple_results = True


def _run(*vectors: Any, function: HostFunction) -> list[Any]:
    dtype = vectors[0].dtype
    return [jnp.asarray(x, dtype=dtype) for x in function(*(np.asarray(x) for x in vectors))]


def _shapes(*vectors: Any, function: HostFunction) -> list[Any]:
    lead = np.broadcast_shapes(*(x.shape[:-1] for x in vectors))
    return [ShapedArray((*lead, size), vectors[0].dtype) for size in function.sizes]


def _lower(ctx: Any, *vectors: Any, function: HostFunction) -> Any:
    dtype = ctx.avals_out[0].dtype

    def run(*vectors: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(np.asarray(x, dtype=dtype) for x in function(*(np.asarray(x) for x in vectors)))

    emit: Any = mlir.emit_python_callback
    results, *_ = emit(ctx, run, None, list(vectors), ctx.avals_in, ctx.avals_out, has_side_effect=False)
    # JAX converts what is returned to the precision of the thread that runs the function, which knows nothing of the
    # scope that the program was compiled in.
    callbacks = ctx.module_context.host_callbacks
    callbacks[-1] = _in_double_precision(callbacks[-1])
    return results


def _in_double_precision(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*vectors: np.ndarray) -> Any:
        with double_precision():
            return function(*vectors)

    return run


def _batch(vectors: Any, axes: Any, *, function: HostFunction) -> Any:
    leading = [
        jnp.expand_dims(x, 0) if axis is None else jnp.moveaxis(x, axis, 0)
        for x, axis in zip(vectors, axes, strict=True)
    ]
    rank = max(x.ndim for x in leading)
    aligned = [x.reshape(x.shape[0], *(1,) * (rank - x.ndim), *x.shape[1:]) for x in leading]
    out = _call.bind(*aligned, function=function)
    return out, [0] * len(out)


def _jvp(vectors: Any, tangents: Any, *, function: HostFunction) -> Any:
    *others, last = tangents
    if not function.is_symmetric or any(type(t) is not ad.Zero for t in others):
        raise NotImplementedError(f"{function} cannot be differentiated again")
    return _call.bind(*vectors, function=function), _call.bind(*vectors[:-1], last, function=function)


def _transpose(cotangents: Any, *vectors: Any, function: HostFunction) -> Any:
    (ct,), (*others, last) = cotangents, vectors
    if type(ct) is ad.Zero:
        return [None] * len(others) + [ad.Zero(last.aval)]
    (out,) = _call.bind(*others, ct, function=function)
    shape = last.aval.shape
    repeated = tuple(i for i, (a, b) in enumerate(zip(out.shape, shape, strict=True)) if a != b)
    return [None] * len(others) + [jnp.sum(out, axis=repeated, keepdims=True)]


_call.def_impl(_run)
_call.def_abstract_eval(_shapes)
mlir.register_lowering(_call, _lower)
batching.primitive_batchers[_call] = _batch
ad.primitive_jvps[_call] = _jvp
ad.primitive_transposes[_call] = _transpose
