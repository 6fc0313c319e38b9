"""A formula model as a joint negative log-likelihood: the generative model, written out.

eta[c] = X[c] beta[c] + offset[c] + sum over the terms t of component c of  z_t' L_t(theta_t) u_t
y_i    ~ family(eta_i),      u ~ N(0, I)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._types import Array, Params, Random
from glmmjax.hessians._levels import Pairs, take
from glmmjax.joint import JointModel
from glmmjax.layout import Layout, ModelData, beta_name


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
        L @ u[term.level][term.first : term.first + term.width]
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
    """The joint negative log-likelihood of a layout, with its Hessian assembled from each observation's derivatives."""
    family, structure = layout.family, layout.structure

    def observed(eta: dict[str, Array], data: ModelData) -> Array:
        return data.weights * family.nll(data.y, eta, data.trials, family.link)

    def pieces(params: Params, u: Random, data: ModelData) -> Array:
        total = structure.sum_rows(observed(predictors(layout, params, u, data), data), data.members)
        for k, level in enumerate(u):
            total = total + structure.sum_blocks(0.5 * jnp.sum(level**2, axis=0), k, data.members)
        return total

    def curvature(params: Params, u: Random, data: ModelData) -> Pairs:
        eta = predictors(layout, params, u, data)
        random = {c: eta[c] for c in layout.random_components}
        W = _second_derivatives(lambda e: observed({**eta, **e}, data), random)
        by_level = [layout.terms_at(k) for k in range(len(structure.levels))]
        component = [[layout.terms[t].component for t in terms for _ in data.Z[t]] for terms in by_level]
        Z = tuple(jnp.concatenate([data.Z[t] for t in terms]) for terms in by_level)
        cholesky = factors(layout, params)
        L = tuple(jax.scipy.linalg.block_diag(*(cholesky[t] for t in terms)) for terms in by_level)
        S = structure.assemble(lambda k, a, m, b: W[component[k][a], component[m][b]], Z, data.members)
        return structure.transform(S, L)

    def report(params: Params, data: ModelData) -> Any:
        return [
            _spread(L, term.covariance.correlated)
            for term, L in zip(layout.terms, factors(layout, params), strict=True)
        ]

    return JointModel(pieces, curvature, structure, lambda data: data.members, report)


def _second_derivatives(f: Callable[[dict[str, Array]], Array], eta: dict[str, Array]) -> dict[tuple[str, str], Array]:
    """``d2 f_i / d eta_i[a] d eta_i[b]`` for a function that acts on each observation alone: nested forward mode."""
    W = {}
    for i, a in enumerate(eta):
        for b in list(eta)[i:]:
            slope = _directional(f, eta, a)
            W[a, b] = W[b, a] = _directional(slope, eta, b)(eta)
    return W


def _directional(
    f: Callable[[dict[str, Array]], Array], eta: dict[str, Array], along: str
) -> Callable[[dict[str, Array]], Array]:
    """The derivative of ``f`` when one predictor moves, as a function of all of them."""
    direction = {c: jnp.full_like(x, float(c == along)) for c, x in eta.items()}
    return lambda e: jax.jvp(f, (e,), (direction,))[1]


def _spread(L: Array, correlated: bool) -> tuple[Array, Array, Array]:
    """L itself, standard deviations (q,) and correlations below the diagonal, row by row, of ``Sigma = L L'``."""
    Sigma = L @ L.T
    sd = jnp.sqrt(jnp.diag(Sigma))
    rows, columns = np.tril_indices(len(sd), -1)
    return L, sd, (Sigma / jnp.outer(sd, sd))[rows, columns] if correlated else jnp.zeros(0)
