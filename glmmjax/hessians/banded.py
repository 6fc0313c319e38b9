"""A band: effects are coupled with the few before and after them. Time series, random walks, state space models.

The band of half-bandwidth k is kept as a block-tridiagonal matrix with blocks of k effects; the last block is filled up
with effects that are coupled with nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._errors import ArgumentError
from glmmjax._types import Array, Random
from glmmjax.hessians import _tridiagonal as tridiagonal
from glmmjax.hessians._levels import Level


@dataclass(frozen=True)
class Banded:
    """The promise that effects more than ``half_bandwidth`` apart are not coupled: ``H_ij = 0`` for ``|i - j| > k``.

    Cost: linear in the number of effects, cubic in the half-bandwidth; 0 is a diagonal matrix.

    Raises:
        ArgumentError: the half-bandwidth is not a whole number of at least 0.

    >>> Banded(1)
    Banded(half_bandwidth=1)
    """

    half_bandwidth: int

    def __post_init__(self) -> None:
        k = self.half_bandwidth
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 0:
            raise ArgumentError(f"Banded: the half-bandwidth must be a whole number of at least 0, not {k!r}.")

    def bind(self, n: int) -> BandedHessian:
        """The structure for ``n`` effects."""
        return BandedHessian(n, int(min(self.half_bandwidth, max(n - 1, 0))))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BandedMatrix:
    """Diagonal blocks D (b, b, N), symmetric, and the blocks below them E (b, b, N - 1)."""

    D: Array
    E: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BandedFactor:
    """What elimination leaves, by block: ``A^-1`` and F (N, b, b); the flag (1,)."""

    V: Array
    F: Array
    positive: Array


@dataclass(frozen=True)
class BandedHessian:
    """A band of ``half_bandwidth`` on either side of the diagonal of ``n`` effects."""

    n: int
    half_bandwidth: int

    @property
    def levels(self) -> tuple[Level, ...]:
        """One level of n groups with one effect each."""
        return (Level(self.n, 1),)

    @property
    def n_blocks(self) -> int:
        """One: the band ties everything together."""
        return 1

    @property
    def costly(self) -> bool:
        """Never: the cost is linear in the number of effects."""
        return False

    @property
    def size(self) -> int:
        """The number of effects in one block."""
        return max(self.half_bandwidth, 1)

    @property
    def length(self) -> int:
        """The number of blocks."""
        return -(-self.n // self.size)

    def __str__(self) -> str:
        return f"banded: {self.n} effects, half-bandwidth {self.half_bandwidth}"

    @property
    def shared_bytes(self) -> float:
        """Little."""
        return 0.0

    def spread_blocks(self, values: Array, level: int, members: Any) -> Array:
        """The value (1,) of the only block for every effect."""
        return jnp.broadcast_to(values, (self.n,))

    def sum_blocks(self, values: Array, level: int, members: Any) -> Array:
        """The sum over all effects: (1,)."""
        return jnp.sum(values)[None]

    def add(self, H: BandedMatrix, blocks: tuple[Array, ...], members: Any) -> BandedMatrix:
        """H with numbers (1, 1, n) added on its diagonal."""
        t = self._in_blocks(jnp.broadcast_to(blocks[0][0, 0], (self.n,)))
        return BandedMatrix(H.D + jnp.eye(self.size)[:, :, None] * t.T[None], H.E)

    def multiply(self, H: BandedMatrix, v: Random, members: Any) -> Random:
        """``H v``."""
        x = self._in_blocks(v[0][0]).T
        out = jnp.sum(H.D * x[None], axis=1)
        out = out.at[:, 1:].add(jnp.sum(H.E * x[None, :, :-1], axis=1))
        out = out.at[:, :-1].add(jnp.sum(H.E * x[:, None, 1:], axis=0))
        return (out.T.reshape(-1)[None, : self.n],)

    def diagonal(self, H: BandedMatrix, members: Any) -> tuple[Array, ...]:
        """The diagonal of a stored matrix (1, 1, n)."""
        return (jnp.diagonal(H.D).reshape(-1)[None, None, : self.n],)

    def logdet(self, H: BandedMatrix, members: Any, factor: Any = None) -> Array:
        """``log |H|``."""
        return tridiagonal.logdet(H.D, H.E)

    def factor(self, H: BandedMatrix, members: Any) -> BandedFactor:
        """H after elimination, with one flag that says whether it is positive definite."""
        V, F, _, positive = tridiagonal.eliminate(H.D, H.E)
        return BandedFactor(V, F, jnp.all(positive)[None])

    def solve(self, factor: BandedFactor, g: Random) -> Random:
        """``H^-1 g``."""
        x = tridiagonal.solve(factor.V, factor.F, self._in_blocks(g[0][0]))
        return (x.reshape(-1)[None, : self.n],)

    def probes(self, members: Any) -> Random:
        """``2 k + 1`` directions, each with every ``2 k + 1``-th effect."""
        colors = 2 * self.half_bandwidth + 1
        return ((np.arange(self.n) % colors == np.arange(colors)[:, None]).astype(float)[:, None],)

    def from_products(self, products: Random, members: Any) -> BandedMatrix:
        """H from its products with the probes: ``H_ij`` is the i-th entry of the product with j's probe."""
        rows, columns, inside = self._places()
        colors = 2 * self.half_bandwidth + 1
        fill = (self._padding(), np.zeros(1))
        D, E = (
            jnp.where(keep, products[0][:, 0][j % colors, i], other)
            for i, j, keep, other in zip(rows, columns, inside, fill, strict=True)
        )
        return BandedMatrix(0.5 * (D + jnp.swapaxes(D, 0, 1)), E)

    def memory(self, n_params: int) -> float:
        """About ``4 (n_params + 4)`` copies of the blocks."""
        return 8.0 * 4.0 * (n_params + 4) * 2.0 * self.length * self.size**2

    def _in_blocks(self, x: Array) -> Array:
        """Numbers (n,) by block (N, b), filled up with zeros."""
        return jnp.pad(x, (0, self.length * self.size - self.n)).reshape(self.length, self.size)

    def _places(self) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """Rows, columns and presence of the entries of D (b, b, N) and of E (b, b, N - 1)."""
        b, k = self.size, self.half_bandwidth
        a, c, block = np.ogrid[:b, :b, : self.length]
        out = []
        for row, column in ((block * b + a, block * b + c), ((block[..., 1:]) * b + a, block[..., :-1] * b + c)):
            row, column = np.broadcast_arrays(row, column)
            inside = (np.abs(row - column) <= k) & (row < self.n) & (column < self.n)
            out.append((np.minimum(row, self.n - 1), np.minimum(column, self.n - 1), inside))
        return tuple(zip(*out, strict=True))  # type: ignore[return-value]

    def _padding(self) -> np.ndarray:
        """Ones on the diagonal of the effects that fill the last block up (b, b, N)."""
        filler = np.arange(self.length * self.size).reshape(self.length, self.size) >= self.n
        return np.eye(self.size)[:, :, None] * filler.T[None]
