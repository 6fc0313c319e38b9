"""What a density is, and what all Gaussian ones have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from glmmjax._errors import ArgumentError
from glmmjax._types import Array
from glmmjax.densities import _checks


class Density(Protocol):
    """The distribution of an array of a fixed shape: an immutable record and a pytree.

    A density can be built inside a function that JAX traces, or be passed to one.

    >>> from glmmjax.densities import ar1
    >>> ar1(0.5, 3).event_shape
    (3,)
    """

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of the array."""

    def nll(self, x: Any) -> Array:
        """The negative log-density at ``x`` (event_shape), with all its constants: a scalar."""

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        """Independent draws, ``shape + event_shape``; ``key`` is one of ``jax.random.key``."""

    def covariance(self) -> Array:
        """The covariance (N, N) of the array written out as a vector of length N, last axis fastest."""

    def precision(self) -> Array:
        """The inverse of the covariance, (N, N)."""


class Gaussian(ABC):
    """A Gaussian density with mean zero, stated by what its kind does fast.

    A kind writes its precision as ``Q = W' M W`` and a square root of its covariance, each as a function that works on
    columns: on an array of ``event_shape + (columns,)``, one independent event per column.

        whiten     x -> W x, an array with as many axes
        weigh      z -> M z, the identity unless a kind says otherwise; then W x is white
        color      A with A A' = Q^-1, of white noise ``noise_shape + (columns,)``, with as many axes as the event

    Where there are fewer numbers of noise than of the event, the density is improper: that of W x.

    >>> import jax
    >>> from glmmjax.densities import ar1
    >>> ar1(0.5, 3).sample(jax.random.key(0), (10, 2)).shape
    (10, 2, 3)
    """

    @property
    @abstractmethod
    def event_shape(self) -> tuple[int, ...]:
        """The shape of the array."""

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """The shape of the white noise behind one event; its size is the rank of the precision."""
        return self.event_shape

    @abstractmethod
    def whiten(self, x: Array) -> Array:
        """``W x``."""

    def weigh(self, z: Array) -> Array:
        """``M z``."""
        return z

    @abstractmethod
    def color(self, z: Array) -> Array:
        """``A z``: standard normal z become draws."""

    @abstractmethod
    def logdet_covariance(self) -> Array:
        """``-log |Q|``."""

    def nll(self, x: Any) -> Array:
        """``1/2 (x' Q x - log |Q| + rank log 2 pi)``: the negative log-density at ``x`` (event_shape).

        Raises:
            ArgumentError: ``x`` has another shape.
        """
        z = self.whiten(_checks.event(x, self.event_shape)[..., None])
        constant = math.prod(self.noise_shape) * math.log(2.0 * math.pi)
        return 0.5 * (jnp.sum(z * self.weigh(z)) + self.logdet_covariance() + constant)

    def sample(self, key: Array, shape: tuple[int, ...] = ()) -> Array:
        """Independent draws, ``shape + event_shape``."""
        z = jax.random.normal(key, (*self.noise_shape, math.prod(shape)))
        return jnp.moveaxis(self.color(z), -1, 0).reshape(*shape, *self.event_shape)

    def covariance(self) -> Array:
        """The covariance (N, N) of the array written out as a vector; dense, for looking at small cases.

        Raises:
            ArgumentError: the density is improper.
        """
        rank, size = math.prod(self.noise_shape), math.prod(self.event_shape)
        if rank < size:
            raise ArgumentError(f"an improper density has no covariance: {rank} of {size} directions have a variance.")
        A = self.color(jnp.eye(rank).reshape(*self.noise_shape, rank)).reshape(size, rank)
        return A @ A.T

    def precision(self) -> Array:
        """The precision ``Q`` (N, N); dense, for looking at small cases."""
        size = math.prod(self.event_shape)
        z = self.whiten(jnp.eye(size).reshape(*self.event_shape, size))
        return z.reshape(-1, size).T @ self.weigh(z).reshape(-1, size)
