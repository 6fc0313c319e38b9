"""A few effects that are coupled with everything, around a structure for the rest.

    H = [[A, C], [C', E]],   S = E - C' A^-1 C

The border holds fixed effects that are solved for together with the random effects. If they are *integrated*
(restricted maximum likelihood) the log-determinant is that of H; if they are only *profiled out* it is that of A, so
that the value at the joint minimum is the Laplace approximation at the best border.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._types import Array, Random
from glmmjax.hessians import _dense
from glmmjax.hessians._levels import Level
from glmmjax.hessians._structure import Structure


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BorderedMatrix:
    """A as its structure stores it, C as one column of effects per border effect (p, d, G), E (p, p)."""

    A: Any
    C: Random
    E: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BorderedFactor:
    """A's factor, ``X = A^-1 C`` and C (p, d, G), the Cholesky factor of S, the flag (1,)."""

    A: Any
    C: Random
    X: Random
    S: Array
    positive: Array


@dataclass(frozen=True)
class BorderedHessian:
    """``size`` effects around ``inner``, whose blocks are judged together.

    Attributes:
        integrated: whether the border counts in the log-determinant.
    """

    inner: Structure
    size: int
    integrated: bool = False

    @property
    def levels(self) -> tuple[Level, ...]:
        """The inner levels, then one group of ``size`` effects."""
        return (*self.inner.levels, Level(1, self.size))

    @property
    def n_blocks(self) -> int:
        """One: the border ties everything together."""
        return 1

    @property
    def costly(self) -> bool:
        """Whether the inner structure is."""
        return self.inner.costly

    def __str__(self) -> str:
        return f"{self.inner}, bordered by {self.size} effects"

    @property
    def shared_bytes(self) -> float:
        """That of the inner structure."""
        return self.inner.shared_bytes

    def spread_blocks(self, values: Array, level: int, members: Any) -> Array:
        """The value (1,) of the only block, for each group of a level."""
        return jnp.broadcast_to(values, (self.levels[level].n_groups,))

    def sum_blocks(self, values: Array, level: int, members: Any) -> Array:
        """The sum over the groups of a level: (1,)."""
        return jnp.sum(values)[None]

    def add(self, H: BorderedMatrix, blocks: tuple[Array, ...], members: Any) -> BorderedMatrix:
        """H with blocks added on its diagonal."""
        return BorderedMatrix(self.inner.add(H.A, blocks[:-1], members), H.C, H.E + blocks[-1][:, :, 0])

    def multiply(self, H: BorderedMatrix, v: Random, members: Any) -> Random:
        """``H v``."""
        border = v[-1][:, 0]
        inner = self.inner.multiply(H.A, v[:-1], members)
        return (
            *(x + jnp.tensordot(border, c, 1) for x, c in zip(inner, H.C, strict=True)),
            (_dots(H.C, v[:-1]) + H.E @ border)[:, None],
        )

    def diagonal(self, H: BorderedMatrix, members: Any) -> tuple[Array, ...]:
        """The diagonal blocks of a stored matrix."""
        return (*self.inner.diagonal(H.A, members), H.E[:, :, None])

    def logdet(self, H: BorderedMatrix, members: Any, factor: BorderedFactor | None = None) -> Array:
        """``log |H|``, or ``log |A|`` where the border is profiled out."""
        inner = self.inner.logdet(H.A, members, None if factor is None else factor.A)
        if not self.integrated:
            return inner
        A = self.inner.factor(H.A, members) if factor is None else factor.A
        X = _solve_columns(self.inner, A, H.A, H.C, members)
        return inner + _dense.logdet(H.E - _gram(H.C, X))

    def factor(self, H: BorderedMatrix, members: Any) -> BorderedFactor:
        """The factors of A and of S."""
        A = self.inner.factor(H.A, members)
        X = jax.vmap(lambda c: self.inner.solve(A, c))(H.C) if H.C else ()
        S, positive = _dense.factor(H.E - _gram(H.C, X))
        return BorderedFactor(A, H.C, X, S, (jnp.all(A.positive) & positive)[None])

    def solve(self, factor: BorderedFactor, g: Random) -> Random:
        """``H^-1 g``."""
        border = _dense.solve(factor.S, g[-1][:, 0] - _dots(factor.X, g[:-1]))
        inner = self.inner.solve(factor.A, g[:-1])
        return (*(x - jnp.tensordot(border, c, 1) for x, c in zip(inner, factor.X, strict=True)), border[:, None])

    def inverse_diagonal(self, H: BorderedMatrix, members: Any) -> tuple[Array, ...]:
        """The diagonal blocks of ``H^-1`` whether or not the border counts in the log-determinant."""
        factor = self.factor(H, members)
        V = jax.grad(lambda A: self.inner.logdet(A, members, factor.A))(H.A)
        S = _dense.solve(factor.S, jnp.eye(self.size))
        inner = self.inner.diagonal(V, members)
        return (
            *(
                0.5 * (v + jnp.swapaxes(v, 0, 1)) + jnp.einsum("pag,pq,qbg->abg", x, S, x)
                for v, x in zip(inner, factor.X, strict=True)
            ),
            S[:, :, None],
        )

    def probes(self, members: Any) -> Random:
        """The inner probes, then every border effect alone."""
        inner = self.inner.probes(members)
        n = len(inner[0]) if inner else 0
        border = np.concatenate([np.zeros((n, self.size)), np.eye(self.size)])[:, :, None]
        return (*(np.concatenate([x, np.zeros((self.size, *x.shape[1:]))]) for x in inner), border)

    def from_products(self, products: Random, members: Any) -> BorderedMatrix:
        """H from its products with the probes."""
        n = len(products[-1]) - self.size
        E = products[-1][n:, :, 0]
        A = self.inner.from_products(tuple(x[:n] for x in products[:-1]), members)
        return BorderedMatrix(A, tuple(x[n:] for x in products[:-1]), 0.5 * (E + E.T))

    def memory(self, n_params: int) -> float:
        """That of the inner structure and of the border's columns."""
        n = sum(level.n_effects * level.n_groups for level in self.inner.levels)
        return self.inner.memory(n_params) + 8.0 * (n_params + 4) * self.size * (n + self.size)


def _dots(C: Random, v: Random) -> Array:
    """The inner product of each column (p, d, G) with v (d, G): (p,)."""
    return sum((jnp.einsum("pdg,dg->p", c, x) for c, x in zip(C, v, strict=True)), start=jnp.zeros(()))


def _gram(C: Random, X: Random) -> Array:
    """``C' X`` (p, p), symmetric."""
    G = sum((jnp.einsum("pdg,qdg->pq", c, x) for c, x in zip(C, X, strict=True)), start=jnp.zeros(()))
    return 0.5 * (G + G.T)


def _solve_columns(inner: Structure, factor: Any, A: Any, C: Random, members: Any) -> Random:
    """``A^-1 C``, differentiable without passing through the factorization."""
    if not C:
        return ()
    factor = jax.lax.stop_gradient(factor)

    def column(c: Random) -> Random:
        return jax.lax.custom_linear_solve(
            lambda v: inner.multiply(A, v, members), c, lambda _, g: inner.solve(factor, g), symmetric=True
        )

    return jax.vmap(column)(C)
