"""A formula model as a joint negative log-likelihood: the generative model, written out.

eta[c] = X[c] beta[c] + offset[c] + sum over the terms t of component c of  z_t' L_t(theta_t) u_t
y_i    ~ family(eta_i, psi),      u ~ N(0, I)

Priors on the parameters add their negative logarithm. For restricted maximum likelihood ``beta`` stands among the
random effects, as a border that every observation touches (Harville 1974, Biometrika 61(2); for other than gaussian
responses this is what glmmTMB does).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from itertools import combinations_with_replacement
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._precision import double_precision
from glmmjax._types import Array, Params, Random
from glmmjax.families import Family
from glmmjax.hessians import BorderedHessian, BorderedMatrix, identity
from glmmjax.hessians._levels import product, sum_by, take
from glmmjax.joint import Expansion, JointModel, RowForm
from glmmjax.layout import Layout, ModelData, beta_name
from glmmjax.rowwise import derivatives

# Of the spherical effects, whose prior has curvature one, where a mixture lets their posterior have several modes.
LEAST_CURVATURE = 0.1


def split_theta(layout: Layout, theta: Array) -> list[Array]:
    """The part of ``theta`` that belongs to each term."""
    ends = np.cumsum([term.n_theta for term in layout.terms])
    return [theta[end - term.n_theta : end] for term, end in zip(layout.terms, ends, strict=True)]


def factors(layout: Layout, params: Params) -> list[Array]:
    """The Cholesky factor ``L_t`` (q, q) of each term."""
    theta = split_theta(layout, params["theta"])
    return [term.covariance.cholesky(part, term.width) for term, part in zip(layout.terms, theta, strict=True)]


def centered_factors(layout: Layout, params: Params, data: ModelData) -> list[Array]:
    """A factor (q, q) of each term's effects on the columns that ``data.Z`` holds: L, or ``A^-1 L`` where centered."""
    found = factors(layout, params)
    if not data.uncentering:
        return found
    return [L if A is None else A @ L for L, A in zip(found, data.uncentering, strict=True)]


def effects(layout: Layout, params: Params, u: Random) -> list[Array]:
    """The effects on their natural scale, ``b = L u``: (q, groups) for each term."""
    return [
        product(L, u[term.level][term.first : term.first + term.width])
        for term, L in zip(layout.terms, factors(layout, params), strict=True)
    ]


def predictors(layout: Layout, params: Params, u: Random, data: ModelData) -> dict[str, Array]:
    """The linear predictor of each component (n,)."""
    # beta stands first, so that in many directions at once the rows stay the last axis
    eta = {c: jnp.tensordot(params[beta_name(c)], data.X[c], (0, 1)) + data.offset[c] for c in layout.components}
    for term, Z, L in zip(layout.terms, data.Z, centered_factors(layout, params, data), strict=True):
        b = product(L, u[term.level][term.first : term.first + term.width])
        for z, effect in zip(Z, b, strict=True):
            eta[term.component] = eta[term.component] + z * take(effect, data.members.rows[term.level])
    return eta


@lru_cache(maxsize=256)
def joint_model(layout: Layout) -> JointModel:
    """The joint negative log-likelihood of a layout, expanded from each observation's own few derivatives.

    With l, l', l'' the density of an observation and its derivatives in its linear predictors,

        f = sum l + u'u / 2,    f_u = L' Z' l' + u,    f_uu = L' Z' l'' Z L + I

    and with beta among the effects, from X in the place of Z L, ``f_beta = X' l'``, ``f_u,beta = L' Z' l'' X``.
    """
    family, inner = layout.family, layout.structure
    n_levels = len(inner.levels)
    by_level = [layout.terms_at(k) for k in range(n_levels)]
    component = [[layout.terms[t].component for t in terms for _ in range(layout.terms[t].width)] for terms in by_level]
    moving = tuple(c for c in layout.components if c in layout.random_components or (layout.reml and c == "cond"))
    pairs = tuple(combinations_with_replacement(moving, 2))

    def arguments(params: Params, random: Random, data: ModelData) -> tuple[Array, ...]:
        params, u = _split(layout, params, random)
        eta = predictors(layout, params, u, data)
        return (*(eta[c] for c in layout.components), *(params["psi"][i : i + 1] for i in range(layout.n_psi)))

    def by_row(arguments: tuple[Array, ...], data: ModelData) -> tuple[Array, ...]:
        """l (n,), then its derivatives in the predictors that move: each first one, each second one."""
        eta = dict(zip(layout.components, arguments, strict=False))
        psi = arguments[len(eta) :]
        shape = {"psi": jnp.concatenate(psi)} if psi else {}

        def observed(moved: Mapping[str, Array]) -> Array:
            return data.weights * density(family, {**eta, **moved, **shape}, data)

        value, slope, curvature = derivatives(observed, {c: eta[c] for c in moving})
        return (value, *(slope[c] for c in moving), *(curvature[pair] for pair in pairs))

    def assembled(params: Params, random: Random, data: ModelData, rows: tuple[Array, ...]) -> Expansion:
        params, u = _split(layout, params, random)
        value, first, second = rows[0], rows[1 : len(moving) + 1], rows[len(moving) + 1 :]
        slope = dict(zip(moving, first, strict=True))
        curvature = dict(zip(pairs, second, strict=True))
        curvature |= {(b, a): rows for (a, b), rows in curvature.items()}
        pieces = inner.sum_rows(value, data.members)
        for k, level in enumerate(u):
            pieces = pieces + inner.sum_blocks(0.5 * jnp.sum(level**2, axis=0), k, data.members)
        pieces = pieces.at[0].add(shared_density(family, params, data) + penalty(layout, params, data))

        cholesky = centered_factors(layout, params, data)
        L = tuple(_block_diagonal([cholesky[t] for t in terms]) for terms in by_level)
        Z = tuple(jnp.concatenate([data.Z[t] for t in terms]) for terms in by_level)

        def sum_effects(k: int, rows: Array) -> Array:
            return product(L[k].T, sum_by(rows, data.members.rows[k], inner.levels[k].n_groups))

        score = tuple(u[k] + sum_effects(k, _weighted(Z[k], slope, component[k])) for k in range(n_levels))
        S = inner.assemble(lambda k, a, m, b: curvature[component[k][a], component[m][b]], Z, data.members)
        H = inner.add(inner.congruence(S, L), identity(inner), data.members)
        if not layout.reml:
            return Expansion(pieces, score, H)

        X = data.X["cond"]
        prior_slope, prior_curvature = _prior_on_beta(layout, params, data)
        border = tuple(
            jax.vmap(
                lambda x, k=k: sum_effects(
                    k, jnp.stack([z * curvature[c, "cond"] * x for z, c in zip(Z[k], component[k], strict=True)])
                )
            )(X.T)
            for k in range(n_levels)
        )
        E = X.T @ (curvature["cond", "cond"][:, None] * X) + prior_curvature
        beta_score = X.T @ slope["cond"] + prior_slope
        return Expansion(jnp.sum(pieces)[None], (*score, beta_score[:, None]), BorderedMatrix(H, border, E))

    def report(params: Params, data: ModelData) -> Any:
        return [
            _spread(L, term.covariance.correlated)
            for term, L in zip(layout.terms, factors(layout, params), strict=True)
        ]

    def view(params: Params, random: Random, data: ModelData) -> tuple[Params, Any, Any]:
        params, u = _split(layout, params, random)
        return params, effects(layout, params, u), data

    structure = BorderedHessian(inner, layout.reml, integrated=True) if layout.reml else inner
    least = LEAST_CURVATURE if "zi" in layout.random_components else 0.0
    form = RowForm(arguments, by_row, assembled)
    return JointModel(
        form.expand, structure, lambda data: data.members, partial(unflatten, layout), report, view, least, form, True
    )


def density(family: Family, eta: Mapping[str, Array], data: ModelData) -> Array:
    """The negative log-density of each row (n,) less what :func:`shared_density` has."""
    if data.distinct is None:
        return family.full_nll(data.y, eta, data.trials)
    return family.nll(data.y, eta, data.trials, family.link)


def shared_density(family: Family, params: Params, data: ModelData) -> Array | float:
    """The sum of the terms that are equal in rows with equal responses, from the distinct ones with their counts."""
    if family.shared_nll is None or data.distinct is None:
        return 0.0
    y, trials, weights = data.distinct
    common = {"disp": data.X["disp"] @ params["beta_disp"] + data.offset["disp"]} if "disp" in data.X else {}
    return jnp.sum(weights * family.shared_nll(y, _with_shape(family, common, params), trials))


def penalty(layout: Layout, params: Params, data: ModelData) -> Array | float:
    """The negative log prior density of the parameters, 0 without priors."""
    total: Array | float = 0.0
    for prior, numbers in zip(layout.priors, data.priors, strict=True):
        total = total - prior.log_density(params, numbers)
    return total


def log_prior_density(layout: Layout, data: ModelData, estimates: Mapping[str, Any]) -> float:
    """The log prior density at some parameters, 0 without priors; NumPy in and out."""
    if not layout.priors:
        return 0.0
    with double_precision():
        return -float(penalty(layout, {name: jnp.asarray(x) for name, x in estimates.items()}, data))


def unflatten(layout: Layout, flat: Array, data: ModelData) -> Params:
    """The parameters by name from their flat vector: beta of each component unless integrated, psi, theta."""
    sizes = {beta_name(c): data.X[c].shape[-1] for c in layout.components if not (layout.reml and c == "cond")}
    if layout.family.shape is not None:
        sizes["psi"] = layout.n_psi
    sizes["theta"] = sum(term.n_theta for term in layout.terms)
    params, start = {}, 0
    for name in sorted(sizes):
        params[name] = flat[start : start + sizes[name]]
        start += sizes[name]
    return params


def _with_shape(family: Family, eta: Mapping[str, Array], params: Params) -> Mapping[str, Array]:
    return eta if family.shape is None else {**eta, "psi": params["psi"]}


def _split(layout: Layout, params: Params, random: Random) -> tuple[Params, Random]:
    """The parameters with beta, wherever it stands, and the random effects without."""
    if not layout.reml:
        return params, random
    return {**params, "beta": random[-1][:, 0]}, random[:-1]


def _prior_on_beta(layout: Layout, params: Params, data: ModelData) -> tuple[Array, Array]:
    """Gradient (p,) and Hessian (p, p) of the penalty in beta."""
    beta = params["beta"]
    if not layout.priors:
        return jnp.zeros_like(beta), jnp.zeros((len(beta), len(beta)))

    def own(beta: Array) -> Array | float:
        return penalty(layout, {**params, "beta": beta}, data)

    return jax.grad(own)(beta), jax.hessian(own)(beta)


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
