"""Arrays whose covariance is a Kronecker product: one density per axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from glmmjax._errors import ArgumentError
from glmmjax._types import Array
from glmmjax.densities._density import Density, Gaussian

Map = Callable[[Array], Array]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Separable(Gaussian):
    """The density of an array whose axes are those of the factors, in turn."""

    factors: tuple[Gaussian, ...]

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(n for factor in self.factors for n in factor.event_shape)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return tuple(n for factor in self.factors for n in factor.noise_shape)

    def whiten(self, x: Array) -> Array:
        return _axis_by_axis([f.whiten for f in self.factors], self._n_axes(), x)

    def weigh(self, z: Array) -> Array:
        return _axis_by_axis([f.weigh for f in self.factors], self._n_axes(), z)

    def color(self, z: Array) -> Array:
        return _axis_by_axis([f.color for f in self.factors], self._n_axes(), z)

    def logdet_covariance(self) -> Array:
        """``log |A x B| = rank(B) log |A| + rank(A) log |B|``."""
        rank = math.prod(self.noise_shape)
        return sum(rank / math.prod(f.noise_shape) * f.logdet_covariance() for f in self.factors)

    def _n_axes(self) -> list[int]:
        return [len(f.event_shape) for f in self.factors]


def _axis_by_axis(maps: Sequence[Map], n_axes: Sequence[int], x: Array) -> Array:
    """The Kronecker product of the maps: each takes its own axes as the event and all others as columns.

    Once treated, its axes move behind those of the other factors, so that the next one's lead, and after all factors
    the axes are in order again.
    """
    for apply, d in zip(maps, n_axes, strict=True):
        own, others = x.shape[:d], x.shape[d:]
        y = apply(x.reshape(*own, math.prod(others)))
        x = jnp.moveaxis(y.reshape(*y.shape[:-1], *others), range(d), range(-d - 1, -1))
    return x


def separable(*densities: Density) -> Density:
    """The density of an array with covariance ``S_1 x S_2 x ...``, the Kronecker product of those of the factors.

    The axes of the array are those of the factors in the order given. ``separable(ar1(rho, T), mvnorm(S))`` has events
    (T, p) whose rows follow each other as an AR(1) process and whose columns are correlated by S. The cost is that of
    each factor for each line of the array along it; the product is never formed.

    Raises:
        ArgumentError: no factors, or one with a mean (put :func:`shifted` outside).

    Source: A. P. Dawid (1981), Some matrix-variate distribution theory, Biometrika 68, 265-274.

    >>> import numpy as np
    >>> from glmmjax.densities import ar1
    >>> print(np.asarray(separable(ar1(0.5, 2), ar1(0.1, 2)).covariance()).round(3))
    [[1.   0.1  0.5  0.05]
     [0.1  1.   0.05 0.5 ]
     [0.5  0.05 1.   0.1 ]
     [0.05 0.5  0.1  1.  ]]
    """
    factors = tuple(density for density in densities if isinstance(density, Gaussian))
    if not densities:
        raise ArgumentError("separable needs at least one density.")
    if len(factors) < len(densities):
        raise ArgumentError("the factors of a separable density have mean zero: give the mean to shifted, outside it.")
    return Separable(factors)
