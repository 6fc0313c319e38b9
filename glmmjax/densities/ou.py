"""The Ornstein-Uhlenbeck process: an AR(1) process in continuous time."""

from __future__ import annotations

from dataclasses import dataclass
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
class OU(Gaussian):
    """A stationary Ornstein-Uhlenbeck process at ``times`` (n,) with unit variance."""

    times: Array
    rate: Array

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.times.shape[-1],)

    def whiten(self, x: Array) -> Array:
        return _chain.whiten(x, *self._steps())

    def color(self, z: Array) -> Array:
        return _chain.color(z, *self._steps())

    def logdet_covariance(self) -> Array:
        return jnp.sum(jnp.log(self._steps()[1]))

    def _steps(self) -> tuple[Array, Array]:
        """Correlation and innovation variance of each step, (n - 1, 1); ``expm1`` keeps the digits of short steps."""
        lag = self.rate * jnp.diff(self.times)[:, None]
        return jnp.exp(-lag), -jnp.expm1(-2.0 * lag)


def ou(times: Any, rate: Any) -> Density:
    """The density of a stationary Ornstein-Uhlenbeck process at n times, with unit variance.

    ``corr(x[i], x[j]) = exp(-rate |times[i] - times[j]|)``: an AR(1) process on irregular times, with ``rho =
    exp(-rate)`` per unit of time.

    Args:
        times: (n,), increasing.
        rate: how fast correlation is lost, a positive number per unit of time.

    Raises:
        ArgumentError: ``times`` are known not to increase, or ``rate`` not to be positive.

    Linear in n.

    >>> import numpy as np
    >>> print(np.asarray(ou([0.0, 1.0, 3.0], 0.7).covariance()[0]).round(3))  # exp(0), exp(-0.7), exp(-2.1)
    [1.    0.497 0.122]
    """
    times = _checks.parameter(times, "times", ndim=1)
    known = _checks.concrete(times)
    if not len(times) or (known is not None and not np.all(np.diff(known) > 0)):
        raise ArgumentError(
            "times must increase from each to the next: sort them, and let equal times share one value."
        )
    return OU(times, _checks.positive(rate, "rate", ndim=0))
