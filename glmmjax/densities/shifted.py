"""A density moved to a mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax

from glmmjax._types import Array
from glmmjax.densities import _checks
from glmmjax.densities._density import Density


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Shifted:
    """The density of ``x + mean``."""

    density: Density
    mean: Array

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.density.event_shape

    def nll(self, x: Any) -> Array:
        return self.density.nll(_checks.event(x, self.event_shape) - self.mean)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        return self.density.sample(key, shape) + self.mean

    def covariance(self) -> Array:
        return self.density.covariance()

    def precision(self) -> Array:
        return self.density.precision()


def shifted(density: Density, mean: Any) -> Density:
    """The density of ``x + mean``, for x of the given density; ``mean`` broadcasts against the event.

    Raises:
        ArgumentError: the mean does not broadcast against the event.

    >>> from glmmjax.densities import ar1
    >>> bool(shifted(ar1(0.5, 3), 2.0).nll([2.0, 2.0, 2.0]) == ar1(0.5, 3).nll([0.0, 0.0, 0.0]))
    True
    """
    return Shifted(density, _checks.broadcasts(mean, density.event_shape, "mean"))


def with_mean(density: Density, mean: Any) -> Density:
    """The density itself where the mean is the number 0, so that it can be a factor of a separable one."""
    return density if isinstance(mean, int | float) and mean == 0 else shifted(density, mean)
