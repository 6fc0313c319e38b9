"""What an interval can be asked for: a parameter, a combination of some, or an estimate under its name in ``tidy()``.

All of them are increasing functions of one linear combination ``c'theta`` of the parameters: the standard deviation is
``exp`` of its logarithm, and the correlation of two effects is ``t / sqrt(1 + t^2)``. Where three effects or more are
correlated, the correlation of two of them is such a function after these two are put first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from glmmjax._arguments import numbers
from glmmjax._errors import ArgumentError, did_you_mean
from glmmjax.covariance import diagonal, unstructured
from glmmjax.estimates import TermEstimate
from glmmjax.formula_fit import FormulaFit, formula_problem
from glmmjax.interior import Interior
from glmmjax.layout import beta_name, lay_out
from glmmjax.result import Fit
from glmmjax.solving import Problem

# A standard deviation is taken for zero once it is smaller by exp(-16), a correlation for one from sinh(10) on.
FAR = 16.0
FAR_CORRELATION = 10.0
UNRESOLVED = 5.0  # a logarithm with a larger standard error is at the end of its range as far as the data can tell


@dataclass(frozen=True, eq=False)
class Quantity:
    """One number that an interval is for.

    Attributes:
        name: what it is called.
        c: ``c'theta`` is what is profiled (k,).
        problem: the model, in which the quantity is a function of ``c'theta``.
        flat, directions: the estimates there (k,), and in which directions they could move.
        vcov: their covariance (k, k), with zeros where it is not known.
        error: the standard error of ``c'theta``; NaN where it is not known.
        value: of the negative log-likelihood that was minimized, at the estimates.
        modes: where the search for the modes of the random effects begins.
        natural: from ``c'theta`` to the scale that is reported.
        bounded: whether ``c'theta`` has an end below, and above, at which the model is a simpler one.
        curved: whether ``c'theta`` is walked on the scale of its hyperbolic arc sine.
        unit: a step that matters, where no standard error says so; that of a logarithm is one.
    """

    name: str
    c: np.ndarray
    problem: Problem
    flat: np.ndarray
    directions: np.ndarray
    vcov: np.ndarray
    error: float
    value: float
    modes: Any
    natural: Callable[[float], float]
    bounded: tuple[bool, bool] = (False, False)
    curved: bool = False
    unit: float = 1.0

    @property
    def held(self) -> bool:
        """Whether it could not move."""
        return not np.any(self.directions.T @ self.c)

    @property
    def ends(self) -> tuple[float, float]:
        """The limits of its range."""
        return self.natural(-np.inf), self.natural(np.inf)


def quantity(fit: Fit, asked: Any) -> Quantity:
    """The quantity of a name, a mapping of names to coefficients, or coefficients.

    Raises:
        ArgumentError: a name is unknown or stands for several, or the coefficients are not as many as the parameters.
    """
    if isinstance(asked, str) and asked not in fit.parameter_names and isinstance(fit, FormulaFit):
        known = reported(fit)
        if asked not in known:
            raise ArgumentError(
                f"No parameter is called {asked!r}. {did_you_mean(asked, [*fit.parameter_names, *known])}"
            )
        if len(known[asked]) > 1:
            longer = [name for name, own in known.items() if " | " in name and own[0] in known[asked]]
            raise ArgumentError(f"{asked!r} stands for several: write one of {', '.join(map(repr, longer))}.")
        return known[asked][0]()
    name, c = combination(fit, asked)
    return _linear(fit, name, c, _same, _ends_of(fit, c), _is_curved(fit, c))


def combination(fit: Fit, parameter: Any) -> tuple[str, np.ndarray]:
    """A name and coefficients (k,) for a parameter's name, a mapping of names to coefficients, or coefficients.

    Raises:
        ArgumentError: a name is unknown, or the coefficients are not as many as the parameters, or all zero.
    """
    c = np.zeros(len(fit.flat))
    if isinstance(parameter, str):
        c[fit.position(parameter)] = 1.0
        return parameter, c
    if isinstance(parameter, Mapping):
        for name, weight in parameter.items():
            c[fit.position(name)] = numbers(f"the coefficient of {name!r}", weight)
        if not np.any(c) or not np.all(np.isfinite(c)):
            raise ArgumentError(f"profile: the coefficients must be finite and not all zero, not {dict(parameter)!r}.")
        return " + ".join(f"{weight:g} {name}" for name, weight in parameter.items()), c
    try:
        given = numbers("profile", parameter).reshape(-1)
    except ArgumentError:
        given = np.zeros(0)
    if given.shape != c.shape or not np.any(given) or not np.all(np.isfinite(given)):
        raise ArgumentError(
            f"profile: give the name of a parameter, a mapping of names to coefficients, or {len(c)} coefficients of "
            f"which one is not zero, not {parameter!r}."
        )
    return "the combination", given


Maker = Callable[[], Quantity]


def reported(fit: FormulaFit) -> dict[str, list[Maker]]:
    """What makes each estimate of ``tidy()`` that is not a parameter, by name; also with its grouping factor."""
    out: dict[str, list[Maker]] = {}
    first = int(fit.positions("theta")[0]) if len(fit.theta) else 0
    for number, term in enumerate(fit.terms):
        prefix = "" if term.component == "cond" else f"{term.component}:"
        for name, maker in _of_term(fit, number, term, first).items():
            for written in (name, f"{prefix}{name} | {term.group}"):
                out.setdefault(written, []).append(maker)
        first += term.n_theta
    family = fit.family
    if family.has_dispersion and "disp" not in fit.components:
        name = "sd__Observation" if family.name == "gaussian" else family.phi_name or "phi"
        out.setdefault(name, []).append(partial(_dispersion, fit, name))
    shape = family.shape
    for i, name in enumerate(
        shape.names if shape is not None and len(shape.names) == len(fit.estimates["psi"]) else ()
    ):
        out.setdefault(name, []).append(partial(_shape, fit, i, name))
    return out


def _of_term(fit: FormulaFit, number: int, term: TermEstimate, first: int) -> dict[str, Maker]:
    """The standard deviations and correlations of a term whose part of theta begins at ``first``."""
    covariance = fit.problem.source[1].terms[number].covariance
    if covariance not in (unstructured, diagonal):
        return {}
    q = len(term.columns)
    out: dict[str, Maker] = {}
    for j, column in enumerate(term.columns):
        name = f"sd__{column}"
        out[name] = partial(_log, fit, name, first + j, 0.0, (True, False))
    for i, j in term.pairs:
        name = f"cor__{term.columns[i]}.{term.columns[j]}"
        if q == 2:
            c = _unit(fit, first + 2)
            out[name] = partial(_linear, fit, name, c, _correlation, (True, True), True)
        else:
            out[name] = partial(_put_first, fit, name, number, first, i, j)
    return out


def _unit(fit: Fit, position: int) -> np.ndarray:
    return np.eye(len(fit.flat))[position]


def _same(t: float) -> float:
    return t


def _correlation(t: float) -> float:
    return float(np.sign(t)) if np.isinf(t) else float(t / np.sqrt(1.0 + t * t))


def _log(fit: FormulaFit, name: str, position: int, offset: float, bounded: tuple[bool, bool]) -> Quantity:
    return _linear(fit, name, _unit(fit, position), lambda t: float(np.exp(t + offset)), bounded)


def _dispersion(fit: FormulaFit, name: str) -> Quantity:
    """The dispersion that is one number; that of a gaussian response is its standard deviation."""
    position = int(fit.positions(beta_name("disp"))[0])
    offset = float(fit.log_phi()[0] - fit.flat[position])
    return _log(fit, name, position, offset, (fit.family.name != "gaussian", fit.family.name != "gaussian"))


def _shape(fit: FormulaFit, i: int, name: str) -> Quantity:
    """A shape parameter, as a function of the one parameter behind it."""
    shape, psi = fit.family.shape, fit.estimates["psi"]
    assert shape is not None

    def natural(t: float) -> float:
        moved = psi.copy()
        moved[i] = np.clip(t, -500.0, 500.0)
        with np.errstate(all="ignore"):
            value = float(np.asarray(shape.natural(moved))[i])
        if np.isinf(t):
            value = np.inf if value > 1e100 else 0.0 if abs(value) < 1e-100 else value
        return value

    others = [np.asarray(shape.natural(psi + step))[i] for j, step in enumerate(np.eye(len(psi))) if j != i]
    if any(abs(other - natural(psi[i])) > 0 for other in others):
        raise ArgumentError(
            f"profile: {name} depends on several parameters: ask for "
            f"{', '.join(fit.parameter_names[k] for k in fit.positions('psi'))}."
        )
    return _linear(fit, name, _unit(fit, int(fit.positions("psi")[i])), natural, (True, True))


def _linear(
    fit: Fit,
    name: str,
    c: np.ndarray,
    natural: Callable[[float], float],
    bounded: tuple[bool, bool] = (False, False),
    curved: bool = False,
) -> Quantity:
    used = c != 0.0
    with np.errstate(invalid="ignore"):
        error = float(np.sqrt(c[used] @ fit.vcov[np.ix_(used, used)] @ c[used]))
    return Quantity(
        name=name,
        c=c,
        problem=fit.problem,
        flat=fit.flat,
        directions=fit.directions,
        vcov=_resolved(fit),
        error=error if error > 0 and fit.pd_hess else np.nan,
        value=float(fit.marginal.value),
        modes=fit.marginal.modes,
        natural=natural,
        bounded=bounded,
        curved=curved,
    )


def _resolved(fit: Fit) -> np.ndarray:
    """The covariance of the estimates, with zeros for those logarithms that the data hardly tell."""
    vcov = fit.known_vcov.copy()
    if isinstance(fit, FormulaFit):
        scales = [name for name in fit.estimates if name != "beta"]
        places = np.concatenate([np.zeros(0, dtype=int), *(fit.positions(name) for name in scales)])
        loose = places[np.diag(vcov)[places] > UNRESOLVED**2]
        vcov[loose], vcov[:, loose] = 0.0, 0.0
    return vcov


def _ends_of(fit: Fit, c: np.ndarray) -> tuple[bool, bool]:
    """Whether a parameter ends at a simpler model: one behind a variance, a dispersion, a shape, or extra zeros."""
    position = int(np.flatnonzero(c)[0])
    if not isinstance(fit, FormulaFit) or np.sum(c != 0.0) > 1:
        return False, False
    if position in fit.positions("theta"):
        low = not _is_curved(fit, c)
        return (c[position] > 0, c[position] < 0) if low else (True, True)
    shapes = fit.positions("psi") if "psi" in fit.estimates else np.zeros(0)
    constant = fit.family.has_dispersion and "disp" not in fit.components and fit.family.name != "gaussian"
    zeros = fit.design.components.get("zi")
    if zeros is not None and zeros.columns == ("(Intercept)",) and position in fit.positions(beta_name("zi")):
        return True, False
    own = position in shapes or (constant and position in fit.positions(beta_name("disp")))
    return own, own


def _is_curved(fit: Fit, c: np.ndarray) -> bool:
    """Whether it is one of the parameters behind the correlations of a term."""
    if not isinstance(fit, FormulaFit) or np.sum(c != 0.0) > 1 or not len(fit.theta):
        return False
    place = int(np.flatnonzero(c)[0]) - int(fit.positions("theta")[0])
    for term in fit.terms:
        if 0 <= place < term.n_theta:
            return term.correlated and place >= len(term.columns)
        place -= term.n_theta
    return False


def _put_first(fit: FormulaFit, name: str, number: int, first: int, i: int, j: int) -> Quantity:
    """The correlation of effects i and j of a term, in the same model with these two in front of the others."""
    _, term = fit.design.terms[number]
    q = len(term.columns)
    own = np.arange(first, first + fit.terms[number].n_theta)
    rest = np.delete(np.arange(len(fit.flat)), own)
    moves = fit.directions[own]
    alone = np.any(moves != 0.0, axis=0)
    if np.linalg.matrix_rank(moves) < len(own) or np.any(fit.directions[rest][:, alone] != 0.0):
        raise ArgumentError(f"profile: {name} is in a term whose parameters are held or tied: free them.")
    order = [i, j, *(k for k in range(q) if k not in (i, j))]
    moved = replace(term, columns=tuple(term.columns[k] for k in order), Z=term.Z[:, order])
    design = _with_term(fit.design, number, moved)
    options = fit.options
    layout, data = lay_out(design, fit.family, options.control.structure, options.covariances, options.priors)
    L = fit.terms[number].L[order]
    Sigma = L @ L.T
    flat = fit.flat.copy()
    flat[own] = unstructured.start(Sigma + 1e-10 * np.diag(np.diag(Sigma)))  # there may be a correlation of one
    directions = np.zeros((len(flat), len(own) + int(np.sum(~alone))))
    directions[own, np.arange(len(own))] = 1.0
    directions[:, len(own) :] = fit.directions[:, ~alone]
    vcov = _resolved(fit)
    vcov[own], vcov[:, own] = 0.0, 0.0
    inside = Interior(design, fit.family, layout).move
    problem = replace(formula_problem(layout, data, fit.parameter_names), inside=inside)
    return Quantity(
        name=name,
        c=_unit(fit, first + q),
        problem=problem,
        flat=flat,
        directions=directions,
        vcov=vcov,
        error=np.nan,
        value=float(fit.marginal.value),
        modes=problem.modes,
        natural=_correlation,
        bounded=(True, True),
        curved=True,
    )


def _with_term(design: Any, number: int, term: Any) -> Any:
    """The design with another term in the place of one of them."""
    parts, k = dict(design.components), 0
    for name, part in parts.items():
        terms = list(part.terms)
        for i in range(len(terms)):
            if k == number:
                terms[i] = term
                parts[name] = replace(part, terms=tuple(terms))
                return replace(design, components=parts)
            k += 1
    raise IndexError(number)
