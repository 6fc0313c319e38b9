"""Priors on the parameters of a formula model, as a penalty on its log-likelihood.

    maximize  llf(params) + sum log prior,    priors on the scale on which they are written, without Jacobians

so that the estimate is the mode of the posterior under a flat measure on ``beta`` and on the standard deviations. The
logarithm of the prior is reported apart from the log-likelihood, ``fit.log_prior``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import lgamma, log, pi
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from glmmjax._coding import INTERCEPT
from glmmjax._errors import ArgumentError, did_you_mean
from glmmjax._types import Array, Params

WEAK = "weak"


@dataclass(frozen=True)
class Prior:
    """The prior of some parameters; hashable, its numbers come as data.

    Attributes:
        kind: a key of :data:`DENSITIES`.
        block: the parameters it belongs to: "beta", "beta_zi", ..., "sd" or "cor".
        positions: where they stand in their block, or in ``theta``.
        width: the number of effects of the term, for correlations.
    """

    kind: str
    block: str
    positions: tuple[int, ...]
    width: int = 0

    def log_density(self, params: Params, numbers: Array) -> Array:
        """The log prior density at the parameters."""
        where = np.array(self.positions)
        if self.block == "cor":
            return _lkj(params["theta"][where], self.width, numbers)
        values = jnp.exp(params["theta"][where]) if self.block == "sd" else params[self.block][where]
        return jnp.sum(DENSITIES[self.kind].log_density(values, numbers))


class _Density(NamedTuple):
    names: tuple[str, ...]  # of the numbers
    log_density: Callable[[Array, Array], Array]


def _normal(x: Array, numbers: Array) -> Array:
    mean, sd = numbers
    return -0.5 * ((x - mean) / sd) ** 2 - jnp.log(sd) - 0.5 * log(2.0 * pi)


def _t(x: Array, numbers: Array) -> Array:
    location, scale, df, constant = numbers
    return constant - jnp.log(scale) - 0.5 * (df + 1.0) * jnp.log1p(((x - location) / scale) ** 2 / df)


def _cauchy(x: Array, numbers: Array) -> Array:
    location, scale = numbers
    return -jnp.log(pi * scale) - jnp.log1p(((x - location) / scale) ** 2)


def _gamma(x: Array, numbers: Array) -> Array:
    mean, shape, constant = numbers
    rate = shape / mean
    return constant + shape * jnp.log(rate) + (shape - 1.0) * jnp.log(x) - rate * x


def _lkj(entries: Array, q: int, numbers: Array) -> Array:
    # |R| is the product of the squared diagonal of its Cholesky factor, whose rows are those of a unit triangle divided
    # by their lengths
    eta, constant = numbers
    rows, _ = np.tril_indices(q, -1)
    lengths = jnp.ones(q).at[rows].add(entries**2)
    return constant - (eta - 1.0) * jnp.sum(jnp.log(lengths))


def _t_constant(numbers: list[float], q: int) -> float:
    df = numbers[2]
    return lgamma(0.5 * (df + 1.0)) - lgamma(0.5 * df) - 0.5 * log(df * pi)


def _gamma_constant(numbers: list[float], q: int) -> float:
    return -lgamma(numbers[1])


def _lkj_constant(numbers: list[float], q: int) -> float:
    """Lewandowski, Kurowicka & Joe (2009), J. Multivariate Analysis 100, equation 16."""
    total = 0.0
    for k in range(1, q):
        b = numbers[0] + 0.5 * (q - k - 1)
        total += (2.0 * numbers[0] - 2.0 + q - k) * (q - k) * log(2.0) + (q - k) * (2.0 * lgamma(b) - lgamma(2.0 * b))
    return -total


#: The densities by name, with the names of their numbers. ``gamma`` has a mean and a shape, as in glmmTMB.
DENSITIES = {
    "normal": _Density(("mean", "sd"), _normal),
    "t": _Density(("location", "scale", "df"), _t),
    "cauchy": _Density(("location", "scale"), _cauchy),
    "gamma": _Density(("mean", "shape"), _gamma),
    "lkj": _Density(("eta",), _lkj),  # type: ignore[arg-type]
}
_CONSTANTS: dict[str, Callable[[list[float], int], float]] = {
    "t": _t_constant,
    "gamma": _gamma_constant,
    "lkj": _lkj_constant,
}
_ALIASES = {"student": "t", "student_t": "t"}
_POSITIVE = {"sd", "scale", "df", "shape", "eta"}
_KEY = re.compile(r"\s*(\w+)\s*(?:\[\s*(.+?)\s*\])?\s*")
_CALL = re.compile(r"\s*(\w+)\s*\((.*)\)\s*")


class Matrix(NamedTuple):
    """What a prior needs to know of the fixed effects of a block of parameters.

    Attributes:
        columns: their names.
        X: the design matrix (n, p).
        bounded: whether the mean has an end that an infinite linear predictor leads to.
        of_mean: whether "beta" means these as well, as where each category has a predictor of its own.
    """

    columns: tuple[str, ...]
    X: np.ndarray
    bounded: bool = False
    of_mean: bool = False


class Term(NamedTuple):
    """What a prior needs to know of a random-effects term; ``first`` is where its part of theta begins."""

    component: str
    group: str
    columns: tuple[str, ...]
    first: int
    n_theta: int
    correlated: bool


def read_priors(
    priors: Mapping[str, str] | str | None,
    matrices: Mapping[str, Matrix],
    terms: Sequence[Term],
) -> tuple[tuple[Prior, ...], tuple[np.ndarray, ...]]:
    """The priors of a model and their numbers.

    Args:
        priors: what belongs to what, ``{"beta": "normal(0, 2)", "beta[x]": "t(0, 1, 3)", "sd[site]": "gamma(1, 2)",
            "cor": "lkj(2)"}``. "beta", "beta_zi", "beta_disp" are all fixed effects of a component but its intercept;
            in brackets stands one column. "beta" is that of every category where each has a predictor. "sd" and "cor"
            are those of all random-effects terms, "sd_cond", "sd_zi", "cor_zi", ... of the terms of one component; in
            brackets stands one grouping factor. "weak" is Cauchy with center 0
            on each coefficient of the mean and of zero inflation, its scale 2.5 for a column of standard deviation one
            half, and 10 for an intercept unless its link is the identity: Gelman, Jakulin, Pittau & Su (2008), Annals
            of Applied Statistics 2(4), which keeps the estimates finite where the data are separated.
        matrices: the fixed effects of each block of parameters.

    Raises:
        ArgumentError: a name, a density or its numbers cannot be read.

    >>> read_priors({"beta": "normal(0, 2)"}, {"beta": Matrix(("(Intercept)", "x"), np.ones((3, 2)))}, [])[0][0]
    Prior(kind='normal', block='beta', positions=(1,), width=0)
    """
    if priors is None:
        return (), ()
    if isinstance(priors, str):
        if priors != WEAK:
            raise ArgumentError(f"priors must be {WEAK!r} or a mapping such as {{'beta': 'normal(0, 2)'}}: {priors!r}.")
        priors = {key: text for block in matrices for key, text in weak_priors(block, matrices[block]).items()}
    if not isinstance(priors, Mapping):
        raise ArgumentError(f"priors must be {WEAK!r} or a mapping such as {{'beta': 'normal(0, 2)'}}: {priors!r}.")
    found: list[Prior] = []
    numbers: list[np.ndarray] = []
    for key, text in priors.items():
        kind, values = _read_density(key, text)
        for prior in _targets(key, kind, matrices, terms):
            constant = _CONSTANTS.get(kind)
            found.append(prior)
            numbers.append(np.array(values if constant is None else [*values, constant(values, prior.width)]))
    return tuple(found), tuple(numbers)


def weak_priors(block: str, matrix: Matrix) -> dict[str, str]:
    """What ``priors="weak"`` stands for, in one block of parameters.

    >>> weak_priors("beta", Matrix(("(Intercept)", "x"), np.array([[1.0, -1.0], [1.0, 1.0]]), bounded=True))
    {'beta[(Intercept)]': 'cauchy(0, 10)', 'beta[x]': 'cauchy(0, 1.25)'}
    """
    if block == "beta_disp":
        return {}
    spread = np.std(matrix.X, axis=0)
    scales = {name: 1.25 / sd for name, sd in zip(matrix.columns, spread, strict=True) if sd > 0}
    intercept = {INTERCEPT: 10.0} if matrix.bounded and INTERCEPT in matrix.columns else {}
    return {f"{block}[{name}]": f"cauchy(0, {scale:.8g})" for name, scale in {**intercept, **scales}.items()}


def _read_density(key: str, text: Any) -> tuple[str, list[float]]:
    call = _CALL.fullmatch(text) if isinstance(text, str) else None
    if call is None:
        raise ArgumentError(f"priors[{key!r}] must be a density such as 'normal(0, 2)', not {text!r}.")
    kind = _ALIASES.get(call[1].lower(), call[1].lower())
    if kind not in DENSITIES:
        raise ArgumentError(f"priors[{key!r}]: unknown density {call[1]!r}. {did_you_mean(call[1], DENSITIES)}")
    names = DENSITIES[kind].names
    try:
        values = [float(number) for number in call[2].split(",")]
    except ValueError as error:
        raise ArgumentError(f"priors[{key!r}]: {text!r} must have numbers in its brackets.") from error
    if len(values) != len(names):
        raise ArgumentError(f"priors[{key!r}]: {kind} needs {len(names)} number(s), {', '.join(names)}, not {text!r}.")
    positive = _POSITIVE | ({"mean"} if kind == "gamma" else set())
    for name, value in zip(names, values, strict=True):
        if not np.isfinite(value) or (name in positive and value <= 0):
            kind_of_number = "positive" if name in positive else "finite"
            raise ArgumentError(f"priors[{key!r}]: the {name} of {text!r} must be a {kind_of_number} number.")
    return kind, values


def _targets(key: str, kind: str, matrices: Mapping[str, Matrix], terms: Sequence[Term]) -> list[Prior]:
    parsed = _KEY.fullmatch(key)
    components = dict.fromkeys(term.component for term in terms)
    of_terms = {f"{kind}_{component}": (kind, component) for component in components for kind in ("sd", "cor")}
    blocks = (*matrices, *(("sd", "cor") if terms else ()), *of_terms)
    if parsed is None or parsed[1] not in blocks:
        raise ArgumentError(f"priors: the model has no parameters {key!r}. {did_you_mean(key, blocks)}")
    block, inside = parsed[1], parsed[2]
    block, component = of_terms.get(block, (block, None))
    terms = [term for term in terms if component in (None, term.component)]
    if (kind == "lkj") != (block == "cor"):
        raise ArgumentError(f"priors[{key!r}]: lkj is for correlations ('cor'), and the only density they can have.")
    if kind == "gamma" and block != "sd":
        raise ArgumentError(f"priors[{key!r}]: gamma is for standard deviations ('sd').")
    if block not in ("sd", "cor"):
        also = [name for name, matrix in matrices.items() if matrix.of_mean] if block == "beta" else []
        found = []
        for own in (block, *also):
            names = matrices[own].columns
            if inside is not None and inside not in names:
                raise ArgumentError(f"priors[{key!r}]: no column {inside!r}. {did_you_mean(inside, names)}")
            chosen = [i for i, name in enumerate(names) if (name == inside if inside else name != INTERCEPT)]
            found += [Prior(kind, own, tuple(chosen))] if chosen else []
        return found
    groups = [term.group for term in terms]
    if inside is not None and inside not in groups:
        raise ArgumentError(f"priors[{key!r}]: no grouping factor {inside!r}. {did_you_mean(inside, groups)}")
    out = []
    for term in terms:
        q = len(term.columns)
        if inside is not None and term.group != inside:
            continue
        if block == "sd":
            out.append(Prior(kind, "sd", tuple(range(term.first, term.first + q))))
        elif term.correlated and term.n_theta == q * (q + 1) // 2 and q > 1:
            out.append(Prior(kind, "cor", tuple(range(term.first + q, term.first + term.n_theta)), q))
    if not out:
        raise ArgumentError(f"priors[{key!r}]: no term has unstructured correlations.")
    return out
