"""Predictions with standard errors: on the scale of the linear predictor, of the mean, and of the dispersion.

    eta = x' beta + offset + sum over the terms t of  z_t' b_t
    Var(eta_hat - eta) = J V J' + z' C z,    J = [x, 0, sum_t z_t' db_t/dparams]

with V the covariance of all parameters and C that of the row's random effects given the parameters: the uncertainty of
fixed effects, variance parameters and conditional modes together. A group that the fit did not have contributes
``z' Sigma z``. Kass & Steffey (1989), J. Am. Stat. Assoc. 84, equation 3.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._errors import ArgumentError, did_you_mean
from glmmjax._frames import missing_in, read_table
from glmmjax._precision import double_precision
from glmmjax._special import NUMPY
from glmmjax._tokens import split_at, tokenize
from glmmjax._types import Array
from glmmjax.design import Component, new_design
from glmmjax.families import Family
from glmmjax.formula import Bar, parse_formula
from glmmjax.hessians import zeros
from glmmjax.layout import Layout, ModelData, beta_name
from glmmjax.model import joint_model
from glmmjax.programs import compiled
from glmmjax.result import normal_quantile

if TYPE_CHECKING:
    import pandas as pd

    from glmmjax.formula_fit import FormulaFit

#: What can be predicted, and the component whose linear predictor it comes from.
TYPES = {"response": "cond", "link": "cond", "disp": "disp"}
INTERVALS = ("confidence",)
CHUNK_BYTES = 2**25
LARGEST_CHUNK = 64


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predictions for n rows with their uncertainty; NaN in rows with a missing predictor.

    Attributes:
        linear, linear_se: the linear predictor (n,) and its standard errors; these are NaN if the Hessian of the fit is
            not positive definite.
        type: "response", "link" or "disp": the scale of everything that is reported.
        family: the family of the fit.
        labels: what the rows are called in :meth:`summary_frame`.
    """

    linear: np.ndarray
    linear_se: np.ndarray
    type: str
    family: Family
    labels: Any

    @cached_property
    def predicted_mean(self) -> np.ndarray:
        """The predictions (n,)."""
        return _scale(self.family, self.type)(self.linear)

    @cached_property
    def se(self) -> np.ndarray:
        """Standard errors of the predictions (n,), by the delta method if they are not on the link scale."""
        if self.type == "link":
            return self.linear_se
        relative = self.type == "response" and self.family.link.valid is not None
        return np.abs(slope(_scale(self.family, self.type), self.linear, relative)) * self.linear_se

    def conf_int(self, level: float = 0.95) -> np.ndarray:
        """Confidence limits (n, 2), built on the link scale and transformed.

        Raises:
            ArgumentError: level is not between 0 and 1.
        """
        half = normal_quantile(level) * self.linear_se
        ends = np.stack([self.linear - half, self.linear + half], axis=1)
        if self.type == "response" and self.family.link.valid is not None:
            # The range of these links ends at 0, beyond which the inverse is not monotone or no mean.
            center = self.linear[:, None]
            ends = np.where(ends * center < 0, np.copysign(0.0, center), ends)
        return np.sort(_scale(self.family, self.type)(ends), axis=1)

    def summary_frame(self, level: float = 0.95) -> pd.DataFrame:
        """A data frame with columns mean, mean_se, mean_ci_lower and mean_ci_upper, as statsmodels names them.

        Raises:
            ArgumentError: level is not between 0 and 1.
        """
        import pandas as pd

        lower, upper = self.conf_int(level).T
        columns = {"mean": self.predicted_mean, "mean_se": self.se, "mean_ci_lower": lower, "mean_ci_upper": upper}
        return pd.DataFrame(columns, index=self.labels)


def predict(
    fit: FormulaFit,
    newdata: Any = None,
    type: str = "response",
    re_form: str | None = None,
    allow_new_levels: bool = False,
    se: bool = False,
    interval: str | None = None,
    level: float = 0.95,
    offset: Any = None,
) -> Any:
    """Predictions (n,); with ``se`` a :class:`Prediction`, with ``interval="confidence"`` a data frame with limits.

    Args:
        newdata: a data frame or a mapping of names to arrays of length n; None for the rows used in the fit. A row with
            a missing predictor is predicted as NaN.
        type: "response", the conditional mean (a probability for the binomial family); "link", the linear predictor;
            "disp", the dispersion as ``sigma`` reports it, row by row.
        re_form: None: all random effects at their conditional modes. "NA" or "~0": none, the level of the population,
            for which ``newdata`` need no grouping columns. "~ (1 | g)": these terms of the fit only. A missing value in
            a grouping column means the population.
        allow_new_levels: take groups that the fit did not have as groups with effect 0; otherwise they are an error.
        se, interval, level: what to return; the interval has coverage ``level`` and the data frame is that of
            :meth:`Prediction.summary_frame`.
        offset: the offsets of the new rows (n,), if the fit had an array as ``offset=``.

    Raises:
        ArgumentError: an argument is unknown or missing, or ``re_form`` has a term that the fit has not.
        DataError: a column, a level of a factor or a group is not known.

    >>> from glmmjax import datasets, glmm
    >>> fit = glmm("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> predict(fit, {"Days": 0.0, "Subject": "308"}).round(1), predict(fit, {"Days": 9.0}, re_form="NA").round(1)
    (array([254.2]), array([345.6]))
    """
    if interval is not None and interval not in INTERVALS:
        raise ArgumentError(f"predict: unknown interval={interval!r}. {did_you_mean(interval, INTERVALS)}")
    if se or interval is not None:
        prediction = get_prediction(fit, newdata, type, re_form, allow_new_levels, offset)
        return prediction if interval is None else prediction.summary_frame(level)
    rows = _rows(fit, newdata, type, re_form, allow_new_levels, offset)
    return rows.all_rows(_scale(fit.family, type)(_predictor(fit, rows)))


def get_prediction(
    fit: FormulaFit,
    newdata: Any = None,
    type: str = "response",
    re_form: str | None = None,
    allow_new_levels: bool = False,
    offset: Any = None,
) -> Prediction:
    """The :class:`Prediction` for new data, with standard errors; arguments and errors as in :func:`predict`.

    The standard error on the link scale covers the uncertainty of fixed effects, variance parameters and random effects
    together. Variance parameters at a boundary count as known. Rows that have several random-effects terms cost one
    solve with the Hessian in the random effects for every distinct combination of groups and columns.

    >>> from glmmjax import datasets, glmm
    >>> fit = glmm("Reaction ~ Days + (Days | Subject)", datasets.load("sleepstudy"))
    >>> fit.get_prediction({"Days": 9.0}, re_form="NA").summary_frame().round(1).to_numpy()
    array([[345.6,  14.2, 317.7, 373.5]])
    """
    rows = _rows(fit, newdata, type, re_form, allow_new_levels, offset)
    variance = _variance(fit, rows) if fit.pd_hess else np.full(len(rows.kept), np.nan)
    linear, linear_se = rows.all_rows(_predictor(fit, rows)), rows.all_rows(np.sqrt(variance))
    return Prediction(linear, linear_se, type, fit.family, rows.labels)


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
    """The mean of the response, ``g^-1(eta)``, in the shape of ``eta``; for the binomial family a probability."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return np.asarray(family.link.inverse(eta, NUMPY))


def slope(f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, relative: bool) -> np.ndarray:
    """The derivative of an elementwise function by central differences, to about ten digits.

    Args:
        relative: whether the step shrinks with x, so that it never crosses 0.
    """
    step = np.cbrt(np.finfo(float).eps) * (np.abs(x) if relative else np.maximum(np.abs(x), 1.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (f(x + step) - f(x - step)) / (2.0 * step)


def _scale(family: Family, type: str) -> Callable[[np.ndarray], np.ndarray]:
    """From the linear predictor to what is reported."""
    if type == "link":
        return lambda eta: eta
    if type == "response":
        return lambda eta: conditional_mean(family, eta)
    return lambda eta: np.asarray(family.sigma(np.exp(eta)))


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows to predict: a component coded with the chosen terms alone.

    Attributes:
        name, part: the component.
        chosen: which of the fit's terms are the terms of ``part``.
        fresh: for each of them, which rows have a group that the fit did not have (n,).
        kept, n: where the coded rows stand among all n.
        labels: what all rows are called.
    """

    name: str
    part: Component
    chosen: tuple[int, ...]
    fresh: tuple[np.ndarray, ...]
    kept: np.ndarray
    n: int
    labels: Any

    def all_rows(self, values: np.ndarray) -> np.ndarray:
        """The values of the coded rows among NaN for the others: (n,)."""
        out = np.full(self.n, np.nan)
        out[self.kept] = values
        return out


def _rows(fit: FormulaFit, newdata: Any, type: str, re_form: str | None, allow_new_levels: bool, offset: Any) -> _Rows:
    if type not in TYPES:
        raise ArgumentError(f"predict: unknown type={type!r}. {did_you_mean(type, TYPES)}")
    name, design = TYPES[type], fit.design
    if name not in design.components:
        raise ArgumentError(
            f"predict: type={type!r} is for families with a dispersion parameter, and {fit.family.name!r} has none."
        )
    chosen = _chosen_terms(fit, name, re_form)
    part = design.components[name]
    part = replace(part, terms=tuple(part.terms[i] for i in chosen))
    own = [t for t, term in enumerate(fit.terms) if term.component == name]
    positions = tuple(own[i] for i in chosen)
    if newdata is None:
        if offset is not None:
            raise ArgumentError("predict: offset= goes with newdata=; the rows of the fit have their offsets already.")
        nobody = np.zeros(design.n, dtype=bool)
        return _Rows(name, part, positions, (nobody,) * len(chosen), np.arange(design.n), design.n, design.rows)

    # Only what is predicted is coded, so that new data need no other columns.
    needed = replace(design, components={name: part}, offset_given=design.offset_given and name == "cond")
    given = offset if name == "cond" else None
    coded = new_design(needed, newdata, allow_new_levels=allow_new_levels, offset=given)
    table = read_table(newdata, "newdata")
    fresh = []
    for term in coded.components[name].terms:
        missing = np.any([missing_in(table.read(factor)) for factor in term.factors], axis=0)
        fresh.append((term.index < 0) & ~missing[coded.rows])
    labels = range(table.n_rows) if table.labels is None else table.labels
    return _Rows(name, coded.components[name], positions, tuple(fresh), coded.rows, table.n_rows, labels)


def _chosen_terms(fit: FormulaFit, name: str, re_form: str | None) -> tuple[int, ...]:
    """Which terms of a component ``re_form`` asks for."""
    bars = fit.design.formulas[name].bars
    if re_form is None:
        return tuple(range(len(bars)))
    if not isinstance(re_form, str):
        raise ArgumentError(f"re_form must be None, 'NA' or a formula such as '~ (1 | g)', not {re_form!r}.")
    if re_form.strip() == "NA":
        return ()
    asked = parse_formula(re_form, response=False)
    if asked.fixed not in ("0", "1") or asked.offsets:
        raise ArgumentError(f"re_form={re_form!r} must hold random-effects terms only, such as '~ (1 | g)'.")
    known = {_term_key(bar): i for i, bar in enumerate(bars)}
    for bar in asked.bars:
        if _term_key(bar) not in known:
            terms = [f"({own.lhs} | {own.group})" for own in bars]
            raise ArgumentError(
                f"re_form: the fit has no random-effects term ({bar.lhs} | {bar.group}). "
                f"{did_you_mean(f'({bar.lhs} | {bar.group})', terms)}"
            )
    return tuple(sorted({known[_term_key(bar)] for bar in asked.bars}))


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


def _predictor(fit: FormulaFit, rows: _Rows) -> np.ndarray:
    return _linear(rows.part, fit.estimates[beta_name(rows.name)], [fit.terms[t].b for t in rows.chosen])


def _variance(fit: FormulaFit, rows: _Rows) -> np.ndarray:
    """The variance (n,) of the error of the linear predictor."""
    n = len(rows.kept)
    J = np.zeros((n, len(fit.vcov)))
    J[:, fit.positions(beta_name(rows.name))] = rows.part.X
    given, new, n_terms = np.zeros(n), np.zeros(n), np.zeros(n, dtype=int)
    for t, term, fresh in zip(rows.chosen, rows.part.terms, rows.fresh, strict=True):
        estimate, known = fit.terms[t], term.index >= 0
        Z = np.where(known[:, None], term.Z, 0.0)
        for j in range(Z.shape[1]):
            J += Z[:, j, None] * estimate.b_jacobian[term.index, j]
        given += np.einsum("ij,ijk,ik->i", Z, estimate.b_vcov[term.index], Z)
        new += np.where(fresh, np.sum((term.Z @ estimate.L) ** 2, axis=1), 0.0)
        n_terms += known
    several = n_terms > 1
    if np.any(several):
        given[several] = _variance_of_several(fit, rows, several)
    return np.sum((J @ np.nan_to_num(fit.vcov)) * J, axis=1) + given + new


def _variance_of_several(fit: FormulaFit, rows: _Rows, where: np.ndarray) -> np.ndarray:
    """The variance given the parameters in the rows ``where``, whose terms covary: ``w' H^-1 w``, ``w_t = L_t'z_t``."""
    layout, data = fit.problem.source[1], fit.problem.data
    levels = layout.structure.levels
    W = [np.zeros((np.sum(where), level.n_effects)) for level in levels]
    groups = [np.zeros(np.sum(where), dtype=np.int32) for _ in levels]
    for t, term in zip(rows.chosen, rows.part.terms, strict=True):
        placed, index = layout.terms[t], term.index[where]
        own = slice(placed.first, placed.first + placed.width)
        W[placed.level][:, own] = np.where(index[:, None] >= 0, term.Z[where] @ fit.terms[t].L, 0.0)
        groups[placed.level] = np.maximum(index, 0)
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
            part = np.zeros((chunk, distinct.shape[1]))  # always full, so that one program serves every chunk
            part[: len(distinct) - start] = distinct[start : start + chunk]
            g, w = part[:, : len(levels)].T.astype(np.int32), part[:, len(levels) :]
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
