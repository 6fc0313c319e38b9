"""The one door to the engine: a joint negative log-likelihood and the structure of its random effects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from glmmjax._types import Array, Data, Params, Random
from glmmjax.hessians import Membership, Structure
from glmmjax.hessians._levels import Pairs


@dataclass(frozen=True)
class JointModel:
    """``nll(params, random, data)``: what is optimized, what is integrated out, what is given.

    Attributes:
        pieces: (params, random, data) -> the joint negative log-likelihood of each independent block of random effects,
            (n_blocks,). Their sum is the joint negative log-likelihood.
        curvature: (params, random, data) -> its Hessian in the random effects, stored by pairs of levels.
        structure: how that Hessian is stored, factored and solved.
        members: data -> the :class:`Membership` of its observations.
        report: (params, data) -> a pytree of quantities that want standard errors.

    All functions are pure and can be traced. Two models are the same if their functions are.
    """

    pieces: Callable[[Params, Random, Data], Array]
    curvature: Callable[[Params, Random, Data], Pairs]
    structure: Structure
    members: Callable[[Data], Membership]
    report: Callable[[Params, Data], Any]

    def nll(self, params: Params, random: Random, data: Data) -> Array:
        """The joint negative log-likelihood; the prior of the effects is ``u'u / 2``, without its constant."""
        return jnp.sum(self.pieces(params, random, data))

    def score(self, params: Params, random: Random, data: Data) -> Random:
        """The gradient of the joint negative log-likelihood in the random effects."""
        return jax.grad(self.nll, argnums=1)(params, random, data)
