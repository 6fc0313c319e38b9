"""Chains of first order: each value is a multiple of the one before plus independent noise, from variance one on.

x[0] ~ N(0, 1),    x[t] = phi[t] x[t-1] + N(0, variance[t])
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from glmmjax._types import Array


def whiten(x: Array, phi: Array, variance: Array) -> Array:
    """The standardized innovations (n, columns) for ``phi`` and ``variance`` numbers or (n - 1, 1)."""
    return jnp.concatenate([x[:1], (x[1:] - phi * x[:-1]) / jnp.sqrt(variance)])


def color(z: Array, phi: Array, variance: Array) -> Array:
    """The chains (n, columns) with standardized innovations ``z``."""

    def advance(x: Array, given: tuple[Array, Array]) -> tuple[Array, Array]:
        x = given[0] * x + given[1]
        return x, x

    noise = jnp.sqrt(variance) * z[1:]
    _, rest = jax.lax.scan(advance, z[0], (jnp.broadcast_to(phi, (len(noise), 1)), noise))
    return jnp.concatenate([z[:1], rest])
