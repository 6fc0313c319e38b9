"""Random walks: the improper densities of their increments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from glmmjax._errors import ArgumentError
from glmmjax._types import Array
from glmmjax.densities import _checks
from glmmjax.densities._density import Density, Gaussian


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class RandomWalk(Gaussian):
    """A walk of length ``n`` whose differences of the given order are independent normals."""

    sd: Array
    n: int = field(metadata={"static": True})
    order: int = field(metadata={"static": True})

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.n,)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.n - self.order,)

    def whiten(self, x: Array) -> Array:
        return jnp.diff(x, self.order, axis=0) / self.sd

    def color(self, z: Array) -> Array:
        x = self.sd * z
        for _ in range(self.order):
            x = jnp.concatenate([jnp.zeros_like(x[:1]), jnp.cumsum(x, axis=0)])
        return x

    def logdet_covariance(self) -> Array:
        return 2.0 * (self.n - self.order) * jnp.log(self.sd)


def random_walk(n: int, order: int = 1, sd: Any = 1.0) -> Density:
    """The density of the increments of a random walk of length n: improper in the walk itself.

    Order 1: ``x[t] - x[t-1] ~ N(0, sd^2)``; order 2, a smoother path: ``x[t] - 2 x[t-1] + x[t-2] ~ N(0, sd^2)``.
    The density does not depend on the level (nor, for order 2, on the slope) of the walk, which the data must tell.
    Draws start at 0 (order 2: with slope 0).

    Raises:
        ArgumentError: an order other than 1 and 2, ``n`` not above it, ``sd`` not a positive number.

    Source: H. Rue and L. Held (2005), Gaussian Markov Random Fields, Chapman & Hall, chapter 3.

    >>> walk = random_walk(3)
    >>> bool(walk.nll([0.0, 1.0, 2.0]) == walk.nll([5.0, 6.0, 7.0]))
    True
    """
    if order not in (1, 2):
        raise ArgumentError(f"order must be 1 or 2, got {order!r}.")
    return RandomWalk(_checks.positive(sd, "sd", ndim=0), _checks.count(n, "n", least=order + 1), order)
