"""No structure at all: one dense symmetric matrix over all effects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._types import Array, Random
from glmmjax.hessians import _dense
from glmmjax.hessians._levels import Level
from glmmjax.hessians._structure import COSTLY


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DenseFactor:
    """The Cholesky factor (n, n) and whether the matrix is positive definite (1,)."""

    L: Array
    positive: Array


@dataclass(frozen=True)
class DenseHessian:
    """``n`` effects, any of which may be coupled with any other; H is one (n, n) array."""

    n: int

    @property
    def levels(self) -> tuple[Level, ...]:
        """One level of n groups with one effect each."""
        return (Level(self.n, 1),)

    @property
    def n_blocks(self) -> int:
        """One: everything may be coupled."""
        return 1

    @property
    def costly(self) -> bool:
        """Whether a factorization is; it takes ``n^3 / 3`` operations."""
        return self.n**3 / 3.0 > COSTLY

    def __str__(self) -> str:
        return f"dense: {self.n} effects"

    @property
    def shared_bytes(self) -> float:
        """About ten copies of the matrix."""
        return 8.0 * 10.0 * float(self.n) ** 2

    def spread_blocks(self, values: Array, level: int, members: Any) -> Array:
        """The value (1,) of the only block for every effect."""
        return jnp.broadcast_to(values, (self.n,))

    def sum_blocks(self, values: Array, level: int, members: Any) -> Array:
        """The sum over all effects: (1,)."""
        return jnp.sum(values)[None]

    def add(self, H: Array, blocks: tuple[Array, ...], members: Any) -> Array:
        """H with numbers (1, 1, n) added on its diagonal."""
        return H + jnp.diag(jnp.broadcast_to(blocks[0][0, 0], (self.n,)))

    def multiply(self, H: Array, v: Random, members: Any) -> Random:
        """``H v``."""
        return ((H @ v[0][0])[None],)

    def diagonal(self, H: Array, members: Any) -> tuple[Array, ...]:
        """The diagonal (1, 1, n)."""
        return (jnp.diagonal(H)[None, None],)

    def logdet(self, H: Array, members: Any, factor: Any = None) -> Array:
        """``log |H|``."""
        return _dense.logdet(H)

    def factor(self, H: Array, members: Any) -> DenseFactor:
        """The Cholesky factor."""
        L, positive = _dense.factor(H)
        return DenseFactor(L, jnp.reshape(positive, (1,)))

    def solve(self, factor: DenseFactor, g: Random) -> Random:
        """``H^-1 g``."""
        return (_dense.solve(factor.L, g[0][0])[None],)

    def probes(self, members: Any) -> Random:
        """Every unit vector."""
        return (np.eye(self.n)[:, None, :],)

    def from_products(self, products: Random, members: Any) -> Array:
        """H from its columns."""
        return 0.5 * (products[0][:, 0] + products[0][:, 0].T)

    def memory(self, n_params: int) -> float:
        """About ``n_params + 4`` copies of the matrix."""
        return 8.0 * (n_params + 4) * float(self.n) ** 2
