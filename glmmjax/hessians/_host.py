"""The operations of a sparse matrix that run on the host: factor, log-determinant, solve, inverse and its derivative.

They take vectors with any leading axes that broadcast, as compiled programs and ``jax.vmap`` give them, and do with
one factorization whatever shares a matrix.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import blake2b
from importlib import import_module
from typing import Any

import numpy as np

from glmmjax.hessians import _multifrontal as multifrontal
from glmmjax.hessians._fronts import Analysis, analyze

# From so many floating-point operations on, BLAS may use its threads.
THREADS_FROM = 2e10
_ALONE = threading.Lock()


@dataclass(frozen=True, eq=False)
class Pattern:
    """The lower triangle of a symmetric n by n matrix, by columns, diagonal included; equal if the entries are.

    The pattern is analyzed when first needed, and the factor of the last matrix is kept: its determinant, its inverse
    and their derivatives are asked for one by one.
    """

    n: int
    rows: np.ndarray
    columns: np.ndarray

    @cached_property
    def digest(self) -> bytes:
        """A fingerprint of the entries."""
        return blake2b(np.stack([self.rows, self.columns]).astype(np.int64).tobytes(), digest_size=16).digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> Any:
        return Pattern, (self.n, self.rows, self.columns)

    @cached_property
    def analysis(self) -> Analysis:
        """The symbolic analysis of the factorization."""
        return analyze(self.n, self.rows, self.columns)

    @cached_property
    def doubled(self) -> np.ndarray:
        """How often each entry is in the full matrix (nnz,)."""
        return np.where(self.rows == self.columns, 1.0, 2.0)

    @cached_property
    def _kept(self) -> dict[str, tuple[np.ndarray, np.ndarray, bool]]:
        return {}

    def factor(self, H: np.ndarray) -> tuple[np.ndarray, bool]:
        """The packed factor of H (nnz,), and whether H is positive definite."""
        last = self._kept.get("last")
        if last is None or not np.array_equal(last[0], H):
            last = (np.array(H, dtype=float), *multifrontal.factor(self.analysis, H))
            self._kept["last"] = last
        return last[1:]


@dataclass(frozen=True)
class Operation:
    """One of the operations below, by name, on matrices with one pattern: a host function."""

    pattern: Pattern
    name: str

    @property
    def sizes(self) -> tuple[int, ...]:
        """The lengths of the vectors that are returned."""
        if self.name == "factor":
            return self.pattern.analysis.factor_size, 1
        return ({"logdet": 1, "solve": self.pattern.n}.get(self.name, len(self.pattern.rows)),)

    @property
    def is_symmetric(self) -> bool:
        """Whether the result is a symmetric matrix times the last argument."""
        return self.name in ("solve", "hessian")

    def __str__(self) -> str:
        return f"the {self.name} of a sparse matrix"

    def __call__(self, *vectors: np.ndarray) -> tuple[np.ndarray, ...]:
        """The vectors (..., size) for arguments (..., size)."""
        # What is not finite is dealt with by the flag, and needs no warning.
        with _threads(self.pattern.analysis.flops > THREADS_FROM), np.errstate(all="ignore"):
            return _OPERATIONS[self.name](self.pattern, *vectors)


def factor(pattern: Pattern, H: np.ndarray) -> tuple[np.ndarray, ...]:
    """The packed factors, and 1 where H is positive definite, 0 elsewhere (..., 1)."""
    lanes = [pattern.factor(x) for x in _flat(H)]
    packed = np.stack([x for x, _ in lanes]) if len(lanes) > 1 else lanes[0][0]
    lead = H.shape[:-1]
    return packed.reshape(*lead, -1), np.array([float(x) for _, x in lanes]).reshape(*lead, 1)


def logdet(pattern: Pattern, H: np.ndarray) -> tuple[np.ndarray, ...]:
    """``log |H|`` (..., 1)."""
    values = [multifrontal.logdet(pattern.analysis, pattern.factor(x)[0]) for x in _flat(H)]
    return (np.array(values).reshape(*H.shape[:-1], 1),)


def gradient(pattern: Pattern, H: np.ndarray) -> tuple[np.ndarray, ...]:
    """The gradient of the log-determinant: the inverse on the pattern, doubled off the diagonal."""
    lanes = [multifrontal.selected_inverse(pattern.analysis, pattern.factor(x)[0]) for x in _flat(H)]
    return (pattern.doubled * np.stack(lanes).reshape(H.shape),)


def hessian(pattern: Pattern, H: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, ...]:
    """The derivative of the gradient in directions (..., nnz)."""

    def derivative(x: np.ndarray, dH: np.ndarray) -> np.ndarray:
        packed, _ = pattern.factor(x)
        return pattern.doubled * multifrontal.selected_inverse_derivative(pattern.analysis, packed, dH)

    return (_by_matrix(derivative, H, directions),)


def solve(pattern: Pattern, packed: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, ...]:
    """``H^-1 g`` for factors and right-hand sides (..., n)."""

    def solution(one: np.ndarray, g: np.ndarray) -> np.ndarray:
        return multifrontal.solve(pattern.analysis, one, g)

    return (_by_matrix(solution, packed, right),)


_OPERATIONS: dict[str, Callable[..., tuple[np.ndarray, ...]]] = {
    "factor": factor,
    "logdet": logdet,
    "gradient": gradient,
    "hessian": hessian,
    "solve": solve,
}


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, x.shape[-1])


def _by_matrix(
    function: Callable[[np.ndarray, np.ndarray], np.ndarray], matrices: np.ndarray, vectors: np.ndarray
) -> np.ndarray:
    """``function(matrix, its vectors (k, size))`` for each matrix (..., m), with leading axes that broadcast."""
    lead = np.broadcast_shapes(matrices.shape[:-1], vectors.shape[:-1])
    every = np.broadcast_to(vectors, (*lead, vectors.shape[-1]))
    matrices = matrices.reshape(*(1,) * (len(lead) + 1 - matrices.ndim), *matrices.shape)
    out = np.empty(every.shape)
    for index in np.ndindex(matrices.shape[:-1]):
        shared = tuple(i if size > 1 else slice(None) for i, size in zip(index, matrices.shape[:-1], strict=True))
        own = every[shared]
        out[shared] = function(matrices[index], _flat(own)).reshape(own.shape)
    return out


@contextmanager
def _threads(allowed: bool) -> Iterator[None]:
    """One operation at a time; BLAS in one thread unless more are allowed, if threadpoolctl is there to say so."""
    # Products of small matrices gain nothing from threads, and lose tenfold where the threads compete for the cores.
    controller = None if allowed else _thread_pools()
    with _ALONE:
        if controller is None:
            yield
        else:
            with controller.limit(limits=1, user_api="blas"):
                yield


@cache
def _thread_pools() -> Any:
    try:
        return import_module("threadpoolctl").ThreadpoolController()
    except ImportError:
        return None
