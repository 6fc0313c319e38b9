"""A likelihood written for one observation, given its parameters and its own few random effects.

f = sum_i w_i nll_obs(params, effects of row i, row i) + sum over factors and groups g of prior(params, b_g)

The Hessian in the effects is assembled from each row's own small derivatives, so that nothing about its structure has
to be promised, and steps towards the modes are judged block by block.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._types import Array, Params, Random
from glmmjax.custom import HALF_LOG_2PI, Shape, nothing
from glmmjax.hessians import RowStructure
from glmmjax.hessians._levels import sum_by, take
from glmmjax.joint import Expansion, JointModel
from glmmjax.promises import Storage
from glmmjax.rowwise import jets


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ObservationData:
    """The numbers of a model by observation.

    Attributes:
        rows: by name, arrays whose first axis counts the observations (n, ...).
        weights: the factor of each observation's negative log-likelihood (n,).
        members: the index data of the structure.
    """

    rows: dict[str, Array]
    weights: Array
    members: Any


@dataclass(frozen=True)
class ObservationSpec:
    """Everything that decides the compiled programs of a model by observation; hashable.

    Attributes:
        nll: ``(params, effects, row) -> `` the negative log-likelihood of one observation, a number.
        factors: the names of the grouping factors in the order of the structure's levels.
        priors: for each of them ``(params, b) -> `` the negative log-density of one group's effects b (d,), or
            ``params -> `` a density of :mod:`glmmjax.densities`, or None for the standard normal.
        storage: where the random effects are kept.
        params: the form of the parameters.
    """

    nll: Callable[[Params, Any, Any], Any]
    factors: tuple[str, ...]
    priors: tuple[Callable[..., Any] | None, ...]
    storage: Storage
    params: Shape

    @property
    def structure(self) -> RowStructure:
        """The structure of the Hessian."""
        return self.storage.structure  # type: ignore[return-value]

    def split(self, params: Params, u: Random) -> tuple[Params, Any]:
        """The parameters, and the effects by factor, (groups, effects) each."""
        return params, self.storage.unpack(u)

    def prior_nll(self, k: int, params: Params, b: Array) -> Array:
        """The negative log-density of one group's effects (d,) of the k-th factor."""
        prior = self.priors[k]
        if prior is None:
            return 0.5 * jnp.sum(b**2) + b.size * HALF_LOG_2PI
        return prior(params).nll(b) if gives_density(prior) else prior(params, b)


def gives_density(prior: Callable[..., Any]) -> bool:
    """Whether a prior is written as ``params -> density`` instead of ``(params, b) -> nll``."""
    return len(inspect.signature(prior).parameters) == 1


@lru_cache(maxsize=256)
def observation_model(spec: ObservationSpec) -> JointModel:
    """The joint negative log-likelihood, expanded from the derivatives of each observation and each group."""
    structure, levels = spec.structure, spec.structure.levels
    first = np.cumsum([0, *(level.n_effects for level in levels)])

    def observed(params: Params, data: ObservationData) -> Callable[[Array], Array]:
        def nll(E: Array) -> Array:
            effects = {name: E[first[k] : first[k + 1]].T for k, name in enumerate(spec.factors)}
            return data.weights * jax.vmap(spec.nll, in_axes=(None, 0, 0))(params, effects, data.rows)

        return nll

    def prior(params: Params, k: int) -> Callable[[Array], Array]:
        return lambda b: jax.vmap(lambda x: spec.prior_nll(k, params, x) - x.size * HALF_LOG_2PI)(b.T)

    def expand(params: Params, u: Random, data: ObservationData) -> Expansion:
        rows = data.members.rows
        own = jnp.concatenate([take(u[k], rows[k]) for k in range(len(levels))])
        value, slope, curvature = jets(observed(params, data), own)
        pieces = structure.sum_rows(value, data.members)
        ones = tuple(jnp.ones((level.n_effects, len(data.weights))) for level in levels)
        S = structure.assemble(lambda k, a, m, b: curvature[first[k] + a, first[m] + b], ones, data.members)
        score, blocks = [], []
        for k, level in enumerate(levels):
            nll, pull, curve = jets(prior(params, k), u[k])
            pieces = pieces + structure.sum_blocks(nll, k, data.members)
            score.append(pull + sum_by(slope[first[k] : first[k + 1]], rows[k], level.n_groups))
            blocks.append(curve)
        return Expansion(pieces, tuple(score), structure.add(S, tuple(blocks), data.members))

    def members(data: ObservationData) -> Any:
        return data.members

    def view(params: Params, u: Random, data: ObservationData) -> tuple[Params, Any, Any]:
        return *spec.split(params, u), data.rows

    return JointModel(expand, structure, members, lambda flat, data: spec.params.unflatten(flat), nothing, view)
