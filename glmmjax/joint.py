"""The one door to the engine: a joint negative log-likelihood, expanded in its random effects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp

from glmmjax._types import Array, Data, Params, Random
from glmmjax.hessians import Structure


class Expansion(NamedTuple):
    """The joint negative log-likelihood f at one point, to second order in the random effects.

    Attributes:
        pieces: the part of f that belongs to each independent block of random effects (n_blocks,); they sum to f.
        score: ``f_u``, one (effects, groups) array per level.
        hessian: ``f_uu``, as the structure stores it.
    """

    pieces: Array
    score: Random
    hessian: Any


Expand: TypeAlias = Callable[[Params, Random, Data], Expansion]


class RowForm(NamedTuple):
    """A density that is a sum over observations, each with a few arguments of its own, in three parts.

    Its expansion is ``assembled(params, random, data, derivatives(arguments(params, random, data), data))``.

    Attributes:
        arguments: (params, random, data) -> the arguments of each row's density, (n,) each, or (1,) where all rows
            share it.
        derivatives: (arguments, data) -> (n,) each: of every row alone, the density and its derivatives that the
            expansion needs.
        assembled: (params, random, data, these) -> the expansion, an affine function of them.
    """

    arguments: Callable[[Params, Random, Data], tuple[Array, ...]]
    derivatives: Callable[[tuple[Array, ...], Data], tuple[Array, ...]]
    assembled: Callable[[Params, Random, Data, tuple[Array, ...]], Expansion]

    def expand(self, params: Params, random: Random, data: Data) -> Expansion:
        """The three together."""
        rows = self.derivatives(self.arguments(params, random, data), data)
        return self.assembled(params, random, data, rows)


@dataclass(frozen=True)
class JointModel:
    """``f(params, random, data)``: what is optimized, what is integrated out, what is given.

    Attributes:
        expand: (params, random, data) -> :class:`Expansion`.
        structure: how the Hessian is stored, factored and solved.
        members: data -> the index data that the structure needs.
        unflatten: (flat, data) -> params, from one vector (k,).
        report: (params, data) -> a pytree of quantities that every fit reports with their derivatives.
        view: (params, random, data) -> the three as the model's owner writes them.
        least_curvature: the least eigenvalue of the Hessian at the modes with which the approximation counts. Without
            log-concavity two modes can merge, where ``log |H|`` has a pole that would pass for a maximum.
        rows: the parts of ``expand`` where it is a sum over observations; its derivatives then cost less.
        unit_free: whether its parameters come with coordinates that have no units; see :mod:`glmmjax.optimizer`.

    All functions are pure and can be traced. Two models are the same if their functions are.
    """

    expand: Expand
    structure: Structure
    members: Callable[[Data], Any]
    unflatten: Callable[[Array, Data], Params]
    report: Callable[[Params, Data], Any]
    view: Callable[[Params, Random, Data], tuple[Params, Any, Data]]
    least_curvature: float = 0.0
    rows: RowForm | None = None
    unit_free: bool = False

    def nll(self, params: Params, random: Random, data: Data) -> Array:
        """The joint negative log-likelihood f."""
        return jnp.sum(self.expand(params, random, data).pieces)

    def score(self, params: Params, random: Random, data: Data) -> Random:
        """``f_u``."""
        return self.expand(params, random, data).score

    def hessian(self, params: Params, random: Random, data: Data) -> Any:
        """``f_uu``."""
        return self.expand(params, random, data).hessian
