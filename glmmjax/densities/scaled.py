"""A density with other standard deviations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from glmmjax._errors import ArgumentError
from glmmjax._types import Array
from glmmjax.densities import _checks
from glmmjax.densities._density import Density, Gaussian
from glmmjax.densities.shifted import Shifted, shifted


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Scaled(Gaussian):
    """The density of ``sd x``."""

    density: Gaussian
    sd: Array

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.density.event_shape

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return self.density.noise_shape

    def _columns(self) -> Array:
        return jnp.broadcast_to(self.sd, self.event_shape)[..., None]

    def whiten(self, x: Array) -> Array:
        return self.density.whiten(x / self._columns())

    def weigh(self, z: Array) -> Array:
        return self.density.weigh(z)

    def color(self, z: Array) -> Array:
        return self._columns() * self.density.color(z)

    def logdet_covariance(self) -> Array:
        repeats = math.prod(self.noise_shape) / math.prod(jnp.shape(self.sd))
        return self.density.logdet_covariance() + 2.0 * repeats * jnp.sum(jnp.log(self.sd))


def scaled(density: Density, sd: Any) -> Density:
    """The density of ``sd * x``, for x of the given density: ``nll(x / sd)`` plus the sum of ``log sd`` over the event.

    ``sd`` is a positive number, or an array of them that broadcasts against the event: over a density with unit
    variances they are the standard deviations.

    Raises:
        ArgumentError: ``sd`` is not positive or does not broadcast against the event, or it varies although the density
            is improper, so that the density of the result has no one meaning.

    >>> import numpy as np
    >>> from glmmjax.densities import ar1
    >>> print(np.asarray(scaled(ar1(0.5, 2), [1.0, 2.0]).covariance()).round(3))
    [[1. 1.]
     [1. 4.]]
    """
    if not isinstance(density, Gaussian | Shifted):
        raise ArgumentError(f"scaled needs a density of glmmjax.densities, got {type(density).__name__}.")
    sd = _checks.positive(_checks.broadcasts(sd, density.event_shape, "sd"), "sd")
    if isinstance(density, Shifted):
        return shifted(scaled(density.density, sd), sd * density.mean)
    proper = math.prod(density.noise_shape) == math.prod(density.event_shape)
    if not proper and sd.size != 1:
        raise ArgumentError(f"sd must be one number for an improper density, got shape {sd.shape}.")
    return Scaled(density, sd)
