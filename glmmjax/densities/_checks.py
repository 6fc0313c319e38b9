"""Checks of what a density is made of; a value that is being traced is checked for its shape alone."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._errors import ArgumentError
from glmmjax._types import Array


def parameter(value: Any, name: str, ndim: int | None = None) -> Array:
    """A parameter as a floating-point array; what is one already stays as it is, in its own precision.

    Raises:
        ArgumentError: it is not numeric, or does not have ``ndim`` axes.
    """
    if not isinstance(value, jax.Array):
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))
        try:
            value = jnp.asarray(value) if traced else np.asarray(value)
        except (TypeError, ValueError):
            raise ArgumentError(f"{name} must be a number or an array of numbers, got {value!r}.") from None
    if value.dtype.kind in "iub":
        value = value.astype(float)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ArgumentError(f"{name} must be a number or an array of numbers, got dtype {value.dtype}.")
    if ndim is not None and value.ndim != ndim:
        wanted = "a number" if ndim == 0 else f"an array with {ndim} axis" + ("es" if ndim > 1 else "")
        raise ArgumentError(f"{name} must be {wanted}, got shape {value.shape}.")
    return value


def concrete(value: Array) -> np.ndarray | None:
    """The value as NumPy, or None while it is being traced."""
    return None if isinstance(value, jax.core.Tracer) else np.asarray(value)


def positive(value: Any, name: str, ndim: int | None = None) -> Array:
    """A parameter whose known entries are above 0."""
    array = parameter(value, name, ndim)
    known = concrete(array)
    if known is not None and not np.all(known > 0):
        raise ArgumentError(f"{name} must be positive, got {known}.")
    return array


def square(value: Any, name: str, symmetric: bool = True) -> Array:
    """A parameter that is a square matrix, symmetric where that can be seen."""
    matrix = parameter(value, name)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise ArgumentError(f"{name} must be a square matrix, got shape {matrix.shape}.")
    known = concrete(matrix) if symmetric else None
    if known is not None and not np.allclose(known, known.T, rtol=1e-5, atol=1e-6 * np.max(np.abs(known))):
        raise ArgumentError(f"{name} must be a symmetric matrix.")
    return matrix


def count(value: Any, name: str, least: int = 1) -> int:
    """A whole number known when the program is written."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ArgumentError(f"{name} must be a whole number, got {value!r}.") from None
    if number < least:
        raise ArgumentError(f"{name} must be at least {least}, got {number}.")
    return number


def broadcasts(value: Any, shape: Sequence[int], name: str) -> Array:
    """A parameter that broadcasts against arrays of ``shape`` without enlarging them."""
    array = parameter(value, name)
    try:
        fits = np.broadcast_shapes(array.shape, tuple(shape)) == tuple(shape)
    except ValueError:
        fits = False
    if not fits:
        raise ArgumentError(f"{name} of shape {array.shape} does not broadcast against the event, {tuple(shape)}.")
    return array


def event(x: Any, shape: tuple[int, ...]) -> Array:
    """The array whose density is asked for.

    Raises:
        ArgumentError: its shape is not the density's; the remedy for a batch is named.
    """
    x = jnp.asarray(x)
    if x.shape != shape:
        raise ArgumentError(
            f"x has shape {x.shape}, but this is a density of arrays of shape {shape}; jax.vmap takes it over a batch."
        )
    return x
