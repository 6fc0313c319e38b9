"""The one interface of all structures of the random-effects Hessian."""

from __future__ import annotations

from typing import Any, Protocol

from glmmjax._types import Array, Random
from glmmjax.hessians._levels import Level, Membership, Pairs, Weights


class Structure(Protocol):
    """How the Hessian H of the joint density in the random effects is stored, factored and solved.

    Implementations are frozen and hashable; their methods are pure, can be traced, differentiated and batched, and
    report a matrix that is not positive definite by a flag. An *independent block* is a set of groups that shares no
    observation with the rest, so that a step in it can be judged alone.
    """

    @property
    def levels(self) -> tuple[Level, ...]:
        """The grouping factors, finest first."""

    @property
    def n_blocks(self) -> int:
        """The number of independent blocks."""

    def spread_blocks(self, values: Array, level: int, members: Membership) -> Array:
        """The value (n_blocks,) of the independent block of each group of a level: (G,)."""

    def sum_blocks(self, values: Array, level: int, members: Membership) -> Array:
        """The sum over the groups (G,) of a level in each independent block: (n_blocks,)."""

    def sum_rows(self, values: Array, members: Membership) -> Array:
        """The sum over the observations (n,) in each independent block: (n_blocks,)."""

    def assemble(self, W: Weights, Z: tuple[Array, ...], members: Membership) -> Pairs:
        """``sum_i Z_i' W_i Z_i`` from columns ``Z[k]`` (d_k, n) and weights."""

    def transform(self, S: Pairs, L: tuple[Array, ...]) -> Pairs:
        """``L' S L + I`` for one factor ``L[k]`` (d_k, d_k) per level."""

    def damp(self, H: Pairs, damping: Array, members: Membership) -> Pairs:
        """``H + t I`` with one t per independent block."""

    def multiply(self, H: Pairs, v: Random, members: Membership) -> Random:
        """``H v``."""

    def logdet(self, H: Pairs, members: Membership) -> Array:
        """``log |H|``, differentiable."""

    def factor(self, H: Pairs, members: Membership) -> Any:
        """What :meth:`solve` needs of H; its ``positive`` (n_blocks,) says which blocks are positive definite."""

    def solve(self, factor: Any, g: Random) -> Random:
        """``H^-1 g``."""

    def marginal_blocks(self, factor: Any) -> tuple[Array, ...]:
        """The diagonal blocks of ``H^-1``, (d_k, d_k, G_k) per level."""
