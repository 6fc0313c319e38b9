"""The linear predictors of a fit, for its own rows or new ones, and the variance of what is computed from them.

    eta_c = x_c' beta_c + offset + sum over the terms t of component c of  z_t' b_t
    Var(h) = J V J' + w' C w,    J = sum_c dh/deta_c [x_c, sum_t z_t' db_t/dparams] + dh/dpsi,    w_t = dh/deta_c z_t

for any h of the linear predictors and the shape parameters, with V the covariance of all parameters and C that of the
row's random effects given the parameters: the uncertainty of fixed effects, variance parameters and conditional modes
together. A group that the fit did not have contributes ``w' Sigma w``. Kass & Steffey (1989), J. Am. Stat. Assoc. 84,
equation 3.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._errors import ArgumentError, did_you_mean
from glmmjax._frames import read_table
from glmmjax._links import LINKS
from glmmjax._precision import double_precision
from glmmjax._special import NUMPY
from glmmjax._tokens import split_at, tokenize
from glmmjax._types import Array
from glmmjax.design import Component, new_design
from glmmjax.families import Family, Given
from glmmjax.formula import Bar, parse_formula
from glmmjax.hessians import zeros
from glmmjax.information import involves
from glmmjax.layout import Layout, ModelData, beta_name
from glmmjax.model import joint_model
from glmmjax.programs import compiled

if TYPE_CHECKING:
    from glmmjax.formula_fit import FormulaFit

CHUNK_BYTES = 2**25
LARGEST_CHUNK = 64


def linear_predictors(fit: FormulaFit, effects: Sequence[np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """The linear predictor (n,) of every component for the rows of the fit.

    Args:
        effects: random effects (G, q) for each of ``fit.terms``; None for the conditional modes.
    """
    effects = [term.b for term in fit.terms] if effects is None else effects
    eta = {}
    for name, part in fit.design.components.items():
        own = [b for b, term in zip(effects, fit.terms, strict=True) if term.component == name]
        eta[name] = _linear(part, fit.estimates[beta_name(name)], own)
    return eta


def conditional_mean(family: Family, eta: np.ndarray) -> np.ndarray:
    """``g^-1(eta)`` in the shape of ``eta``: the mean for most families, for the binomial family a probability."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return np.asarray(family.link.inverse(eta, NUMPY))


def given(fit: FormulaFit, eta: Mapping[str, np.ndarray], psi: np.ndarray | None = None, trials: Any = 1.0) -> Given:
    """What the distribution of each row is given, from its linear predictors.

    Args:
        psi: shape parameters on the unconstrained scale; None for the estimates.
    """
    shape = fit.family.shape
    with np.errstate(over="ignore"):
        natural = () if shape is None else tuple(shape.natural(fit.estimates["psi"] if psi is None else psi))
        return Given(
            mu=conditional_mean(fit.family, eta["cond"]),
            phi=np.exp(eta["disp"]) if "disp" in eta else 1.0,
            trials=trials,
            psi=natural,
            zi=LINKS["logit"].inverse(eta["zi"], NUMPY) if "zi" in eta else 0.0,
            eta=eta,
        )


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows to predict: components coded with the chosen terms alone.

    Attributes:
        parts: the components that are needed.
        chosen: for each of them, which of the fit's terms are its terms.
        fresh: for each of these terms, which rows have a group that the fit did not have (n,).
        kept, n: where the coded rows stand among all n.
        labels: what all rows are called.
    """

    parts: Mapping[str, Component]
    chosen: Mapping[str, tuple[int, ...]]
    fresh: Mapping[str, tuple[np.ndarray, ...]]
    kept: np.ndarray
    n: int
    labels: Any

    def all_rows(self, values: np.ndarray) -> np.ndarray:
        """The values of the coded rows among NaN for the others: (n, ...)."""
        out = np.full((self.n, *values.shape[1:]), np.nan)
        out[self.kept] = values
        return out


def code_rows(
    fit: FormulaFit, names: Sequence[str], newdata: Any, re_form: str | None, allow_new_levels: bool, offset: Any
) -> Rows:
    """The rows of the fit, or of new data, coded for some components.

    Raises:
        ArgumentError, DataError: as :func:`glmmjax.prediction.predict` says.
    """
    design = fit.design
    asked = _chosen_terms(fit, names, re_form)
    parts, chosen = {}, {}
    for name in names:
        part = design.components[name]
        own = [t for t, term in enumerate(fit.terms) if term.component == name]
        parts[name] = replace(part, terms=tuple(part.terms[i] for i in asked[name]))
        chosen[name] = tuple(own[i] for i in asked[name])
    if newdata is None:
        if offset is not None:
            raise ArgumentError("predict: offset= goes with newdata=; the rows of the fit have their offsets already.")
        nobody = np.zeros(design.n, dtype=bool)
        fresh = {name: (nobody,) * len(chosen[name]) for name in names}
        return Rows(parts, chosen, fresh, np.arange(design.n), design.n, design.rows)

    # Only what is predicted is coded, so that new data need no other columns.
    with_offset = design.offset_given and "cond" in names
    needed = replace(design, components=parts, offset_given=with_offset)
    given_offset = offset if "cond" in names else None
    coded = new_design(needed, newdata, allow_new_levels=allow_new_levels, offset=given_offset)
    table = read_table(newdata, "newdata")

    def fresh_rows(name: str) -> tuple[np.ndarray, ...]:
        out = []
        for term in coded.components[name].terms:
            missing = np.any([table.missing(factor) for factor in term.factors], axis=0)
            out.append((term.index < 0) & ~missing[coded.rows])
        return tuple(out)

    labels = range(table.n_rows) if table.labels is None else table.labels
    fresh = {name: fresh_rows(name) for name in names}
    return Rows(coded.components, chosen, fresh, coded.rows, table.n_rows, labels)


def row_predictors(fit: FormulaFit, rows: Rows) -> dict[str, np.ndarray]:
    """The linear predictor (n,) of each coded component."""
    return {
        name: _linear(part, fit.estimates[beta_name(name)], [fit.terms[t].b for t in rows.chosen[name]])
        for name, part in rows.parts.items()
    }


def _chosen_terms(fit: FormulaFit, names: Sequence[str], re_form: str | None) -> dict[str, tuple[int, ...]]:
    """Which terms of each component ``re_form`` asks for."""
    bars = {name: fit.design.formulas[name].bars for name in names}
    if re_form is None:
        return {name: tuple(range(len(own))) for name, own in bars.items()}
    if not isinstance(re_form, str):
        raise ArgumentError(f"re_form must be None, 'NA' or a formula such as '~ (1 | g)', not {re_form!r}.")
    if re_form.strip() == "NA":
        return {name: () for name in names}
    asked = parse_formula(re_form, response=False)
    if asked.fixed not in ("0", "1") or asked.offsets:
        raise ArgumentError(f"re_form={re_form!r} must hold random-effects terms only, such as '~ (1 | g)'.")
    known = {_term_key(bar) for own in bars.values() for bar in own}
    for bar in asked.bars:
        if _term_key(bar) not in known:
            terms = [f"({own.lhs} | {own.group})" for part in bars.values() for own in part]
            raise ArgumentError(
                f"re_form: the fit has no random-effects term ({bar.lhs} | {bar.group}). "
                f"{did_you_mean(f'({bar.lhs} | {bar.group})', terms)}"
            )
    wanted = {_term_key(bar) for bar in asked.bars}
    return {name: tuple(i for i, bar in enumerate(own) if _term_key(bar) in wanted) for name, own in bars.items()}


def _term_key(bar: Bar) -> tuple[frozenset[str], frozenset[str]]:
    """What a term is: its summands, the intercept written out, and its grouping columns."""
    runs = ["".join(token.text for token in run) for run in split_at(tokenize(bar.lhs), 0, "+")]
    without = "0" in runs or any(run.endswith("-1") for run in runs)
    summands = {run.removesuffix("-1") for run in runs} - {"0", ""}
    return frozenset(summands if without else summands | {"1"}), frozenset(bar.factors)


def _linear(part: Component, beta: np.ndarray, effects: Sequence[np.ndarray]) -> np.ndarray:
    """``X beta + offset + sum_t Z_t b_t`` (n,); groups numbered -1 have effect 0."""
    eta = part.X @ beta + part.offset
    for term, b in zip(part.terms, effects, strict=True):
        for column, effect in zip(term.Z.T, b.T, strict=True):
            eta = eta + np.where(term.index >= 0, column * effect[term.index], 0.0)
    return eta


def variance(
    fit: FormulaFit, rows: Rows, slopes: Mapping[str, np.ndarray], psi_slopes: np.ndarray | None = None
) -> np.ndarray:
    """The variance (n,) of a function of the linear predictors.

    Args:
        slopes: its derivative (n,) in the linear predictor of each coded component.
        psi_slopes: its derivatives (n, r) in the shape parameters, on the unconstrained scale.
    """
    n = len(rows.kept)
    J = np.zeros((n, len(fit.vcov)))
    if psi_slopes is not None:
        J[:, fit.positions("psi")] = psi_slopes
    conditional, new, n_terms = np.zeros(n), np.zeros(n), np.zeros(n, dtype=int)
    for name, part in rows.parts.items():
        scale = slopes[name][:, None]
        J[:, fit.positions(beta_name(name))] += scale * part.X
        for t, term, fresh in zip(rows.chosen[name], part.terms, rows.fresh[name], strict=True):
            estimate, known = fit.terms[t], term.index >= 0
            Z = np.where(known[:, None], scale * term.Z, 0.0)
            for j in range(Z.shape[1]):
                J += Z[:, j, None] * estimate.b_jacobian[term.index, j]
            conditional += np.einsum("ij,ijk,ik->i", Z, estimate.b_vcov[term.index], Z)
            new += np.where(fresh, np.sum((scale * term.Z @ estimate.L) ** 2, axis=1), 0.0)
            n_terms += known
    several = n_terms > 1
    if np.any(several):
        conditional[several] = _variance_of_several(fit, rows, slopes, several)
    of_parameters = np.where(involves(J, fit.verdict.lost), np.nan, np.sum((J @ fit.known_vcov) * J, axis=1))
    return of_parameters + conditional + new


def _variance_of_several(
    fit: FormulaFit, rows: Rows, slopes: Mapping[str, np.ndarray], where: np.ndarray
) -> np.ndarray:
    """The variance given the parameters in the rows ``where``, whose terms covary: ``w' H^-1 w``, ``w_t = L_t'z_t``."""
    layout, data = fit.problem.source[1], fit.problem.data
    levels = layout.structure.levels
    W = [np.zeros((np.sum(where), level.n_effects)) for level in levels]
    groups = [np.zeros(np.sum(where), dtype=np.int32) for _ in levels]
    for name, part in rows.parts.items():
        for t, term in zip(rows.chosen[name], part.terms, strict=True):
            placed, index = layout.terms[t], term.index[where]
            own = slice(placed.first, placed.first + placed.width)
            Z = slopes[name][where, None] * term.Z[where]
            W[placed.level][:, own] = np.where(index[:, None] >= 0, Z @ fit.terms[t].L, 0.0)
            groups[placed.level] = np.maximum(groups[placed.level], index)
    flat = np.concatenate(list(fit.estimates.values()))
    distinct, back = np.unique(np.column_stack([*groups, *W]), axis=0, return_inverse=True)
    chunk = min(LARGEST_CHUNK, 1 + CHUNK_BYTES // (8 * sum(level.n_effects * level.n_groups for level in levels)))
    out = np.zeros(len(distinct))
    with double_precision():
        program, _ = compiled(_factor_program, (layout,), (flat, _modes(fit, layout), data))
        factor = program(flat, _modes(fit, layout), data)
        if not np.all(factor.positive):
            return np.full(len(back), np.nan)
        for start in range(0, len(distinct), chunk):
            some = np.zeros((chunk, distinct.shape[1]))  # always full, so that one program serves every chunk
            some[: len(distinct) - start] = distinct[start : start + chunk]
            g, w = some[:, : len(levels)].T.astype(np.int32), some[:, len(levels) :]
            program, _ = compiled(_variance_program, (layout,), (factor, g, w))
            out[start : start + chunk] = np.asarray(program(factor, g, w))[: len(distinct) - start]
    return out[back.reshape(-1)]


def _modes(fit: FormulaFit, layout: Layout) -> tuple[np.ndarray, ...]:
    """Spherical effects ``u`` with ``L u = b``, padded as the layout is; any solution will do where L is singular."""
    modes = zeros(layout.structure.levels)
    for placed, term in zip(layout.terms, fit.terms, strict=True):
        own = slice(placed.first, placed.first + placed.width)
        modes[placed.level][own, : len(term.b)] = np.linalg.lstsq(term.L, term.b.T)[0]
    return modes


def _factor_program(layout: Layout, flat: Array, u: tuple[Array, ...], data: ModelData) -> Any:
    """The factored Hessian of the joint negative log-likelihood in the spherical effects."""
    model = joint_model(layout)
    return model.structure.factor(model.hessian(model.unflatten(flat, data), u, data), data.members)


def _variance_program(layout: Layout, factor: Any, groups: Array, W: Array) -> Array:
    """``w' H^-1 w`` (m,) of rows that have the columns ``W`` (m, d), level by level, in the groups (n_levels, m)."""
    structure = layout.structure
    bounds = np.cumsum([level.n_effects for level in structure.levels])[:-1]

    def variance(g: Array, w: Array) -> Array:
        parts = jnp.split(w, bounds)
        right = tuple(
            jnp.zeros((level.n_effects, level.n_groups)).at[:, i].set(part)
            for level, i, part in zip(structure.levels, g, parts, strict=True)
        )
        solved = structure.solve(factor, right)
        return sum((part @ x[:, i] for x, i, part in zip(solved, g, parts, strict=True)), start=jnp.zeros(()))

    return jax.vmap(variance, in_axes=(1, 0))(groups, W)
