"""Autoregressive processes of any order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._errors import ArgumentError
from glmmjax._types import Array
from glmmjax.densities import _checks, _triangular
from glmmjax.densities._density import Density, Gaussian


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class ARk(Gaussian):
    """A stationary AR(k) process of length ``n`` with unit variance."""

    phi: Array
    n: int = field(metadata={"static": True})

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (self.n,)

    def whiten(self, x: Array) -> Array:
        k, n = self.phi.shape[-1], self.n
        W, variance = self._stationary()
        first = W @ x[:k]
        if n <= k:
            return first
        forecast = sum(self.phi[j - 1] * x[k - j : n - j] for j in range(1, k + 1))
        return jnp.concatenate([first, (x[k:] - forecast) / jnp.sqrt(variance)])

    def color(self, z: Array) -> Array:
        k, n = self.phi.shape[-1], self.n
        W, variance = self._stationary()
        first = _triangular.solve(W, z[:k])
        if n <= k:
            return first

        def advance(past: Array, noise: Array) -> tuple[Array, Array]:
            x = self.phi @ past + noise
            return jnp.concatenate([x[None], past[:-1]]), x

        _, rest = jax.lax.scan(advance, first[::-1], jnp.sqrt(variance) * z[k:])
        return jnp.concatenate([first, rest])

    def logdet_covariance(self) -> Array:
        W, variance = self._stationary()
        return (self.n - len(W)) * jnp.log(variance) - _triangular.logdet_square(W)

    def _stationary(self) -> tuple[Array, Array]:
        """The lower-triangular matrix that whitens the first k values, and the variance of the innovations after them.

        Row t holds the best linear prediction of a value from the t before it, by the recursion of Durbin and Levinson
        run backwards from phi, the prediction from k. The variances of their errors are all positive exactly when the
        process is stationary, so that a traced ``phi`` for which it is not gives NaN.
        """
        predictions = [jnp.asarray(self.phi)]  # nearest value first
        while len(predictions[0]):
            others, partial = predictions[0][:-1], predictions[0][-1]
            predictions.insert(0, (others + partial * others[::-1]) / (1.0 - partial**2))
        partials = jnp.stack([prediction[-1] for prediction in predictions[1:]])
        variances = jnp.concatenate([jnp.ones(1), jnp.cumprod(1.0 - partials**2)])
        unit = np.eye(len(partials))
        rows = [jnp.concatenate([-p[::-1], unit[t, t:]]) for t, p in enumerate(predictions[:-1])]
        W = jnp.stack(rows) / jnp.sqrt(variances[:-1, None])
        return W[: self.n, : self.n], variances[-1]


def ark(phi: Any, n: int) -> Density:
    """The stationary AR(k) density of series of length n, with unit variance.

    ``x[t] = phi[0] x[t-1] + ... + phi[k-1] x[t-k] + noise``, where the variance of the noise and the joint distribution
    of the first k values are those of the stationary process. :func:`partial_to_ar` makes stationary coefficients from
    any real numbers.

    Args:
        phi: (k,) coefficients.
        n: the length of the series.

    Raises:
        ArgumentError: ``phi`` is known not to belong to a stationary process.

    The cost is that of n k + k^3 multiplications.

    Source: P. J. Brockwell and R. A. Davis (1991), Time Series: Theory and Methods, 2nd ed., Springer, section 5.2.

    >>> import numpy as np
    >>> print(np.asarray(ark([0.6, -0.2], 4).covariance()[0]).round(3))  # 0.1 = 0.6 * 0.5 - 0.2 * 1
    [ 1.    0.5   0.1  -0.04]
    """
    phi = _coefficients(phi, "phi")
    known = _checks.concrete(phi)
    if known is not None and not np.all(np.abs(np.roots(np.concatenate([[1.0], -known]))) < 1):
        raise ArgumentError(f"phi = {known} is not stationary: partial_to_ar gives coefficients that are.")
    return ARk(phi, _checks.count(n, "n"))


def partial_to_ar(r: Any) -> Array:
    """The coefficients ``phi`` (k,) of a stationary AR(k) process from k unconstrained numbers.

    ``p[j] = r[j] / sqrt(1 + r[j]^2)`` are the partial autocorrelations; every sequence of them in (-1, 1) belongs to
    exactly one stationary process, whose coefficients follow by the recursion of Durbin and Levinson.

    Source: O. Barndorff-Nielsen and G. Schou (1973), On the parametrization of autoregressive models by partial
    autocorrelations, Journal of Multivariate Analysis 3, 408-419.

    >>> import numpy as np
    >>> print(np.asarray(partial_to_ar([0.75, -0.75])).round(3))  # partial autocorrelations 0.6 and -0.6
    [ 0.96 -0.6 ]
    """
    r = _coefficients(r, "r")
    partial = r / jnp.sqrt(1.0 + r**2)
    phi = partial[:1]
    for j in range(1, len(r)):
        phi = jnp.concatenate([phi - partial[j] * phi[::-1], partial[j : j + 1]])
    return phi


def _coefficients(value: Any, name: str) -> Array:
    array = _checks.parameter(value, name, ndim=1)
    if not len(array):
        raise ArgumentError(f"{name} needs at least one value.")
    return array
