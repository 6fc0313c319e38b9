"""A formula model as a joint negative log-likelihood: the generative model, written out.

eta[c] = X[c] beta[c] + offset[c] + sum over the terms t of component c of  z_t' L_t(theta_t) u_t
y_i    ~ family(eta_i),      u ~ N(0, I)
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._types import Array, Params, Random
from glmmjax.hessians import identity
from glmmjax.hessians._levels import product, sum_by, take
from glmmjax.joint import Expansion, JointModel
from glmmjax.layout import Layout, ModelData, beta_name
from glmmjax.rowwise import derivatives


def split_theta(layout: Layout, theta: Array) -> list[Array]:
    """The part of ``theta`` that belongs to each term."""
    ends = np.cumsum([term.n_theta for term in layout.terms])
    return [theta[end - term.n_theta : end] for term, end in zip(layout.terms, ends, strict=True)]


def factors(layout: Layout, params: Params) -> list[Array]:
    """The Cholesky factor ``L_t`` (q, q) of each term."""
    theta = split_theta(layout, params["theta"])
    return [term.covariance.cholesky(part, term.width) for term, part in zip(layout.terms, theta, strict=True)]


def effects(layout: Layout, params: Params, u: Random) -> list[Array]:
    """The effects on their natural scale, ``b = L u``: (q, groups) for each term."""
    return [
        product(L, u[term.level][term.first : term.first + term.width])
        for term, L in zip(layout.terms, factors(layout, params), strict=True)
    ]


def predictors(layout: Layout, params: Params, u: Random, data: ModelData) -> dict[str, Array]:
    """The linear predictor of each component (n,)."""
    eta = {c: data.X[c] @ params[beta_name(c)] + data.offset[c] for c in layout.components}
    for term, Z, b in zip(layout.terms, data.Z, effects(layout, params, u), strict=True):
        for z, effect in zip(Z, b, strict=True):
            eta[term.component] = eta[term.component] + z * take(effect, data.members.rows[term.level])
    return eta


@lru_cache(maxsize=256)
def joint_model(layout: Layout) -> JointModel:
    """The joint negative log-likelihood of a layout, expanded from each observation's own few derivatives.

    With l, l', l'' the density of an observation and its derivatives in its linear predictors,

        f = sum l + u'u / 2,    f_u = L' Z' l' + u,    f_uu = L' Z' l'' Z L + I
    """
    family, structure = layout.family, layout.structure
    by_level = [layout.terms_at(k) for k in range(len(structure.levels))]
    component = [[layout.terms[t].component for t in terms for _ in range(layout.terms[t].width)] for terms in by_level]

    def expand(params: Params, u: Random, data: ModelData) -> Expansion:
        eta = predictors(layout, params, u, data)
        random = {c: eta[c] for c in layout.random_components}

        def observed(moved: Mapping[str, Array]) -> Array:
            return data.weights * family.nll(data.y, {**eta, **moved}, data.trials, family.link)

        value, slope, curvature = derivatives(observed, random)
        pieces = structure.sum_rows(value, data.members)
        for k, level in enumerate(u):
            pieces = pieces + structure.sum_blocks(0.5 * jnp.sum(level**2, axis=0), k, data.members)

        cholesky = factors(layout, params)
        L = tuple(_block_diagonal([cholesky[t] for t in terms]) for terms in by_level)
        Z = tuple(jnp.concatenate([data.Z[t] for t in terms]) for terms in by_level)
        score = tuple(
            u[k] + product(L[k].T, sum_by(_weighted(Z[k], slope, component[k]), data.members.rows[k], level.n_groups))
            for k, level in enumerate(structure.levels)
        )
        S = structure.assemble(lambda k, a, m, b: curvature[component[k][a], component[m][b]], Z, data.members)
        H = structure.add(structure.congruence(S, L), identity(structure), data.members)
        return Expansion(pieces, score, H)

    def report(params: Params, data: ModelData) -> Any:
        return [
            _spread(L, term.covariance.correlated)
            for term, L in zip(layout.terms, factors(layout, params), strict=True)
        ]

    def view(params: Params, u: Random, data: ModelData) -> tuple[Params, Any, Any]:
        return params, effects(layout, params, u), data

    return JointModel(expand, structure, lambda data: data.members, partial(unflatten, layout), report, view)


def unflatten(layout: Layout, flat: Array, data: ModelData) -> Params:
    """The parameters by name from their flat vector: beta of each component, then theta."""
    sizes = {beta_name(c): data.X[c].shape[-1] for c in layout.components}
    sizes["theta"] = sum(term.n_theta for term in layout.terms)
    params, start = {}, 0
    for name in sorted(sizes):
        params[name] = flat[start : start + sizes[name]]
        start += sizes[name]
    return params


def _block_diagonal(blocks: list[Array]) -> Array:
    return blocks[0] if len(blocks) == 1 else jax.scipy.linalg.block_diag(*blocks)


def _weighted(Z: Array, slope: dict[str, Array], component: list[str]) -> Array:
    """``z_i l'_i`` for each effect's column, with the slope of the component that the effect belongs to."""
    return jnp.stack([z * slope[c] for z, c in zip(Z, component, strict=True)])


def _spread(L: Array, correlated: bool) -> tuple[Array, Array, Array]:
    """L itself, standard deviations (q,) and correlations below the diagonal, row by row, of ``Sigma = L L'``."""
    Sigma = L @ L.T
    sd = jnp.sqrt(jnp.diag(Sigma))
    rows, columns = np.tril_indices(len(sd), -1)
    return L, sd, (Sigma / jnp.outer(sd, sd))[rows, columns] if correlated else jnp.zeros(0)
