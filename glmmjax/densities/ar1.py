"""First-order autoregressive processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._errors import ArgumentError
from glmmjax._types import Array
from glmmjax.densities import _chain, _checks
from glmmjax.densities._density import Density, Gaussian


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class AR1(Gaussian):
    """A stationary AR(1) process of length ``n`` with unit variance."""

    rho: Array
    n: int = field(metadata={"static": True})

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.n,)

    def whiten(self, x: Array) -> Array:
        return _chain.whiten(x, self.rho, self._variance())

    def color(self, z: Array) -> Array:
        return _chain.color(z, self.rho, self._variance())

    def logdet_covariance(self) -> Array:
        return (self.n - 1) * jnp.log(self._variance())

    def _variance(self) -> Array:
        return (1.0 - self.rho) * (1.0 + self.rho)


def ar1(rho: Any, n: int) -> Density:
    """The stationary AR(1) density of series of length n, with unit variance.

    ``x[t] = rho x[t-1] + N(0, 1 - rho^2)``, so that ``corr(x[s], x[t]) = rho^|s - t|``.

    Args:
        rho: the correlation of neighbors, a number in (-1, 1).
        n: the length of the series.

    Raises:
        ArgumentError: ``rho`` is known to be outside (-1, 1).

    A traced ``rho`` outside (-1, 1) gives NaN. Linear in n.

    >>> import numpy as np
    >>> print(np.asarray(ar1(0.5, 3).covariance()).round(3))
    [[1.   0.5  0.25]
     [0.5  1.   0.5 ]
     [0.25 0.5  1.  ]]
    """
    rho = _checks.parameter(rho, "rho", ndim=0)
    known = _checks.concrete(rho)
    if known is not None and not np.abs(known) < 1:
        raise ArgumentError(
            f"rho must be between -1 and 1 for a stationary process, got {known}; see random_walk for 1."
        )
    return AR1(rho, _checks.count(n, "n"))
