"""Any sparse Hessian: its pattern is declared, and the matrix is factored on the host.

    H = L L',   log|H| = 2 sum_i log L_ii,   d log|H| = <V, dH>,   dV = -V dH V,   V = H^-1

where V and dV are needed on the pattern of H only. It is the structure for Gaussian Markov random fields, and for any
density that couples each effect with a few others. Cost and memory are those of a sparse Cholesky factorization: about
n^1.5 and n log n for effects in the plane.

Rue & Held (2005), Gaussian Markov Random Fields, section 2.4; Kristensen et al. (2016), J. Stat. Softw. 70(5).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._errors import ArgumentError
from glmmjax._types import Array, Random
from glmmjax.hessians._coloring import Coloring, color
from glmmjax.hessians._host import Operation, Pattern
from glmmjax.hessians._levels import Level
from glmmjax.hessians._multifrontal import lanes_at_once
from glmmjax.hessians._structure import COSTLY

# Moving an entry of a front takes about as long as this many floating-point operations.
FLOPS_PER_ENTRY = 20.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SparseFactor:
    """The Cholesky factor of H as one vector (size,), and whether H is positive definite (1,)."""

    packed: Array
    positive: Array


@dataclass(frozen=True, init=False, repr=False)
class Sparse:
    """A symmetric matrix with a given pattern, stored as the entries (nnz,) of its lower triangle by columns.

    Structures with the same pattern are equal. The pattern is analyzed when first needed, which takes several times
    as long as a factorization.

    Args:
        pattern: where H may differ from zero: the stored entries of a SciPy sparse array or matrix (n, n), or the
            nonzero entries of a dense array (n, n). One triangle is enough, and the diagonal is always included.

    Raises:
        ArgumentError: if the pattern is not a square matrix with at least one row.

    >>> structure = Sparse(np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]]))
    >>> print(structure)
    sparse: 3 effects, 2 pairs of them coupled
    >>> structure.pattern.rows, structure.pattern.columns
    (array([0, 1, 1, 2, 2]), array([0, 0, 1, 1, 2]))
    """

    pattern: Pattern

    def __init__(self, pattern: Any) -> None:
        object.__setattr__(self, "pattern", _lower_triangle(pattern))

    def __str__(self) -> str:
        return f"sparse: {self.n} effects, {len(self.pattern.rows) - self.n} pairs of them coupled"

    __repr__ = __str__

    @property
    def n(self) -> int:
        """The number of effects."""
        return self.pattern.n

    @property
    def levels(self) -> tuple[Level, ...]:
        """One level with one effect per group."""
        return (Level(self.n, 1),)

    @property
    def n_blocks(self) -> int:
        """One: the effects are taken to be all tied together."""
        return 1

    @property
    def costly(self) -> bool:
        """Whether one factorization takes so long that exact outer Hessians should be few."""
        analysis = self.pattern.analysis
        return analysis.flops + FLOPS_PER_ENTRY * analysis.work_size > COSTLY

    def memory(self, n_params: int) -> float:
        """About how many bytes a fit takes for factors, inverses and their derivatives in ``n_params`` directions."""
        analysis = self.pattern.analysis
        on_fronts = 3 * analysis.factor_size + (1 + lanes_at_once(analysis, n_params)) * analysis.work_size
        return 8.0 * (on_fronts + len(self.pattern.rows) * (8 + 4 * n_params))

    @property
    def shared_bytes(self) -> float:
        """About ten copies of the stored entries."""
        return 8.0 * 10.0 * len(self.pattern.rows)

    def spread_blocks(self, values: Array, level: int, members: Any) -> Array:
        """The value (1,) of the only block, for each effect (n,)."""
        return jnp.broadcast_to(values, (self.n,))

    def sum_blocks(self, values: Array, level: int, members: Any) -> Array:
        """The sum over the effects: (1,)."""
        return jnp.sum(values)[None]

    def add(self, H: Array, blocks: tuple[Array, ...], members: Any) -> Array:
        """H with (1, 1, n) or (1, 1, 1) added to its diagonal."""
        return jnp.asarray(H).at[self._diagonal].add(blocks[0][0, 0], mode="promise_in_bounds")

    def multiply(self, H: Array, v: Random, members: Any) -> Random:
        """``H v``."""
        entry, row, column = self._both_triangles
        terms = _take(H, entry) * _take(v[0][0], column)
        out = jnp.zeros(self.n, terms.dtype).at[row].add(terms, indices_are_sorted=True, mode="promise_in_bounds")
        return (out[None],)

    def diagonal(self, H: Array, members: Any) -> tuple[Array, ...]:
        """The diagonal of a stored matrix: (1, 1, n)."""
        return (_take(H, self._diagonal)[None, None],)

    def logdet(self, H: Array, members: Any, factor: Any = None) -> Array:
        """``log |H|``; its gradient is the inverse on the pattern, doubled off the diagonal."""
        return _logdet(self.pattern, H)

    def factor(self, H: Array, members: Any) -> SparseFactor:
        """The Cholesky factor of H, and whether H is positive definite; has no derivative."""
        packed, positive = call(Operation(self.pattern, "factor"), jax.lax.stop_gradient(H))
        return SparseFactor(packed, positive > 0)

    def solve(self, factor: SparseFactor, g: Random) -> Random:
        """``H^-1 g``, with its derivative in g."""
        (x,) = call(Operation(self.pattern, "solve"), factor.packed, g[0][0])
        return (x[None],)

    def probes(self, members: Any = None) -> Random:
        """Sums of unit vectors, one for each color of a star coloring: (c, 1, n)."""
        return (self._coloring.probes()[:, None, :],)

    def from_products(self, products: Random, members: Any) -> Array:
        """H from its products (c, 1, n) with the probes, each entry from one of them."""
        products_of_color = jnp.asarray(products[0])[:, 0]
        return products_of_color.at[self._coloring.product, self._coloring.row].get(mode="promise_in_bounds")

    @cached_property
    def _coloring(self) -> Coloring:
        return color(self.n, self.pattern.rows, self.pattern.columns)

    @cached_property
    def _diagonal(self) -> np.ndarray:
        return np.flatnonzero(self.pattern.rows == self.pattern.columns).astype(np.int32)

    @cached_property
    def _both_triangles(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Entry, row and column of all of H's nonzeros, by rows."""
        rows, columns = self.pattern.rows, self.pattern.columns
        below = np.flatnonzero(rows != columns)
        entry = np.concatenate([np.arange(len(rows)), below])
        row = np.concatenate([rows, columns[below]])
        column = np.concatenate([columns, rows[below]])
        by_row = np.lexsort((column, row))
        entry, row, column = (x[by_row].astype(np.int32) for x in (entry, row, column))
        return entry, row, column


def call(operation: Operation, *vectors: Array) -> tuple[Array, ...]:
    """Run an operation on the host from a compiled program."""
    from glmmjax.hessians._callback import call  # needs parts of JAX that are slow to import

    return call(operation, *vectors)


def _take(x: Array, index: np.ndarray) -> Array:
    return jnp.asarray(x).at[index].get(mode="promise_in_bounds")


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _logdet(pattern: Pattern, H: Array) -> Array:
    return call(Operation(pattern, "logdet"), H)[0][0]


@_logdet.defjvp
def _logdet_jvp(pattern: Pattern, primals: Any, tangents: Any) -> Any:
    (H,), (dH,) = primals, tangents
    return _logdet(pattern, H), jnp.vdot(_gradient(pattern, H), dH)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _gradient(pattern: Pattern, H: Array) -> Array:
    """The gradient of the log-determinant (nnz,)."""
    return call(Operation(pattern, "gradient"), H)[0]


@_gradient.defjvp
def _gradient_jvp(pattern: Pattern, primals: Any, tangents: Any) -> Any:
    (H,), (dH,) = primals, tangents
    return _gradient(pattern, H), call(Operation(pattern, "hessian"), H, dH)[0]


def _lower_triangle(pattern: Any) -> Pattern:
    """The entries of both triangles and the diagonal, reflected into the lower triangle."""
    import scipy.sparse as sp  # loads when first needed

    stored: Any = pattern if sp.issparse(pattern) else np.asarray(pattern)
    if stored.ndim != 2 or stored.shape[0] != stored.shape[1] or stored.shape[0] == 0:
        raise ArgumentError(
            f"the pattern of a sparse Hessian has shape {stored.shape}: give a square matrix with one row and one "
            "column per random effect, a scipy.sparse array or a dense array of booleans"
        )
    if stored.dtype.kind not in "biuf":
        raise ArgumentError(
            f"the pattern of a sparse Hessian has entries of type {stored.dtype}: give a scipy.sparse array or a dense "
            "array of booleans that says where the Hessian may differ from zero"
        )
    n = int(stored.shape[0])
    if sp.issparse(stored):
        entries: Any = sp.coo_array(pattern)
        i, j = entries.row, entries.col
    else:
        i, j = np.nonzero(stored)
    low, high = np.minimum(i, j).astype(np.int64), np.maximum(i, j).astype(np.int64)
    keys = np.unique(np.concatenate([low * n + high, np.arange(n) * (n + 1)]))
    return Pattern(n, keys % n, keys // n)
