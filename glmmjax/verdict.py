"""The verdict on a fit: converged or not, positive definite or not, singular, separated, in words.

A fit can have converged and still be no good: a variance at zero, a coefficient on its way to infinity. Each finding
is a sentence that names the thing; together they are ``fit.status``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glmmjax._status import Outcome
from glmmjax.design import Design
from glmmjax.families import Family
from glmmjax.layout import Layout, beta_name
from glmmjax.optimizer import LEAST_INFORMATION, NewtonState

# A spherical effect whose variance given the data is this close to one in every group has learned nothing from them.
UNINFORMED = 1e-4
# On the scale of the linear predictor, across the range of a column: an effect and a standard error of separation.
SEPARATED_EFFECT = 8.0
SEPARATED_ERROR = 20.0
SMALLEST_EIGENVALUE = 1e-12
UNBOUNDED_LINKS = ("logit", "probit", "cloglog", "cauchit", "log")


@dataclass(frozen=True)
class Verdict:
    """What became of a fit.

    Attributes:
        status: one line for people; "converged" alone means that nothing is wrong.
        converged: the outer iteration met its criterion.
        pd_hess: the Hessian is positive definite in the parameters that are not at a boundary.
        singular: the variance parameters at their boundary, in words.
        separated: the columns that seem to separate the response.
        vcov: covariance of the flat parameters (k, k); NaN in rows and columns of parameters at a boundary.
    """

    status: str
    converged: bool
    pd_hess: bool
    singular: tuple[str, ...]
    separated: tuple[str, ...]
    vcov: np.ndarray


def judge(
    design: Design,
    family: Family,
    layout: Layout,
    state: NewtonState,
    modes_vcov: tuple[np.ndarray, ...],
    directions: np.ndarray,
    names: Sequence[str],
) -> Verdict:
    """The verdict on the state at which the outer iteration ended.

    ``modes_vcov`` is without padding; ``directions`` (k, r) are those in which the parameters could move.
    """
    outcome = Outcome(int(state.outcome))
    if outcome == Outcome.START_NOT_FINITE:
        unknown = np.full_like(state.at.hessian, np.nan)
        return Verdict("; ".join([outcome.sentence, *_wall(family)]), False, False, (), (), unknown)
    singular, at_boundary = _singular(design, layout, modes_vcov)
    boundary = np.zeros(len(state.flat), dtype=bool)
    boundary[len(boundary) - len(at_boundary) :] = at_boundary
    limits = _limits(design, family, state)
    boundary[list(limits)] = True
    singular = (*singular, *limits.values())
    inside = directions[:, ~np.any(directions[boundary] != 0.0, axis=0)]
    vcov, pd_hess = _vcov(state.at.hessian, inside)
    separated = _separated(design, family, layout, state.flat, vcov)
    unidentified = () if separated or not pd_hess else _unidentified(state.at.hessian, inside, names)

    sentences = [outcome.sentence]
    if outcome != Outcome.CONVERGED:
        sentences.append(f"gradient too large: {np.max(np.abs(directions.T @ state.at.gradient), initial=0.0):.1e}")
        sentences += _wall(family)
    if not pd_hess:
        sentences.append("Hessian not positive definite: standard errors are not available")
    sentences += [f"singular: {finding}" for finding in singular]
    if unidentified:
        sentences.append(f"not identified: the data do not tell apart {' and '.join(unidentified)}")
    if separated:
        sentences.append(f"separation suspected: {', '.join(separated)}")
    return Verdict("; ".join(sentences), outcome == Outcome.CONVERGED, pd_hess, singular, separated, vcov)


def judge_likelihood(
    state: NewtonState, directions: np.ndarray, names: Sequence[str], inner: str | None = None
) -> Verdict:
    """The verdict on a likelihood of unknown form: only what the gradient and the Hessian can tell.

    Args:
        directions: in which the parameters could move (k, r).
        inner: what is wrong with the search for the modes, in words.
    """
    outcome = Outcome(int(state.outcome))
    k = len(state.flat)
    sentences = [outcome.sentence if inner is None else inner]
    if outcome == Outcome.START_NOT_FINITE:
        return Verdict("; ".join(sentences), False, False, (), (), np.full((k, k), np.nan))
    if outcome != Outcome.CONVERGED:
        sentences.append(f"gradient too large: {np.max(np.abs(directions.T @ state.at.gradient), initial=0.0):.1e}")
    vcov, positive = _vcov(state.at.hessian, directions)
    if not positive:
        sentences.append("Hessian not positive definite: standard errors are not available")
        weak = _weakest(directions.T @ state.at.hessian @ directions, directions)
        sentences += (
            [f"not identified, or not a minimum, in {' and '.join(np.array(names)[weak])}"] if len(weak) else []
        )
    return Verdict("; ".join(sentences), outcome == Outcome.CONVERGED, positive, (), (), vcov)


def _wall(family: Family) -> list[str]:
    """Where some linear predictors have no mean, what that may have to do with a fit that failed.

    Beside such a wall the effects of a group whose responses are all at the end of the range have no mode inside, and
    so no Laplace approximation, unless their variance is small.
    """
    if family.link.valid is None:
        return []
    return [
        f"the link {family.link.name!r} of the family {family.name!r} allows only some linear predictors, and groups "
        "may be driven to the limit: try a link that allows all of them"
    ]


def _weakest(hessian: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """The parameters that make up the direction of least curvature, each scaled by its own."""
    if not np.all(np.isfinite(hessian)) or not len(hessian):
        return np.zeros(0, dtype=int)
    size = np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1e-300))
    _, V = np.linalg.eigh(hessian / np.outer(size, size))
    step = np.abs(directions @ (V[:, 0] / np.where(size > 1e-140, size, np.inf)))
    flat = np.diag(hessian) <= 1e-12 * np.max(np.abs(np.diag(hessian)))
    if np.any(flat):
        return np.flatnonzero(np.any(directions[:, flat] != 0.0, axis=1))
    parts = step * np.sqrt(np.maximum(directions**2 @ np.diag(hessian), 0.0))
    return np.flatnonzero(parts > 0.2 * np.max(parts))


def _singular(design: Design, layout: Layout, modes_vcov: tuple[np.ndarray, ...]) -> tuple[tuple[str, ...], np.ndarray]:
    """The variances at zero and correlations at one, and which entries of theta they leave undetermined."""
    findings: list[str] = []
    undetermined: list[np.ndarray] = []
    for placed, (_, term) in zip(layout.terms, design.terms, strict=True):
        mask = np.zeros(placed.n_theta, dtype=bool)
        width = placed.width
        rows, columns = np.tril_indices(width, -1)
        own = [modes_vcov[placed.level][placed.first + j, placed.first + j] for j in range(width)]
        for j, variance in enumerate(own):
            if np.min(variance) < 1.0 - UNINFORMED:
                continue
            others = [i for i in range(width) if i != j and np.min(own[i]) < 1.0 - UNINFORMED]
            correlated = placed.covariance.correlated and bool(others) and j > 0
            name = f"{'1' if term.columns[j] == '(Intercept)' else term.columns[j]} | {term.group}"
            if correlated:
                findings.append(f"({name}) has a variance of zero or a correlation of one with the effects before it")
            else:
                findings.append(f"the standard deviation of ({name}) is zero")
            mask[min(j, len(mask) - 1)] = not correlated  # a private structure may have fewer parameters than effects
            if placed.covariance.correlated and len(mask) == width + len(rows):
                mask[width:] |= (rows == j) | (columns == j)
        undetermined.append(mask)
    return tuple(findings), np.concatenate(undetermined) if undetermined else np.zeros(0, dtype=bool)


def _limits(design: Design, family: Family, state: NewtonState) -> dict[int, str]:
    """Parameters that went to infinity, by position, and what that means in words.

    They are one number for all rows, about which the data no longer say anything: the size of nbinom2 for Poisson
    counts, the logit of a zero inflation of nothing.
    """
    found: dict[int, str] = {}
    start = 0
    for name in sorted(design.components, key=beta_name):
        part = design.components[name]
        if part.columns == ("(Intercept)",) and abs(state.at.hessian[start, start]) < LEAST_INFORMATION:
            if name == "disp":
                phi = np.exp(state.flat[start])
                found[start] = f"the {family.phi_name}, {phi:.2g}, is at the end of its range: fit the family's limit"
            if name == "zi" and state.flat[start] < 0:
                found[start] = "the probability of an extra zero is 0: fit without ziformula"
        start += part.X.shape[1]
    if family.shape is not None and len(family.shape.names) == 1:
        value = float(family.shape.natural(state.flat[start : start + 1])[0])
        if abs(state.at.hessian[start, start]) < LEAST_INFORMATION:
            found[start] = (
                f"the {family.shape.names[0]}, {value:.2g}, is at the end of its range: hold it, or fit the limit"
            )
    return found


def _vcov(hessian: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, bool]:
    """``D (D'HD)^-1 D'``, NaN for parameters that no direction moves, and whether ``D'HD`` is positive definite."""
    k = len(hessian)
    vcov = np.full((k, k), np.nan)
    moves = np.any(directions != 0.0, axis=1)
    if not np.any(moves):
        return vcov, True
    reduced = directions.T @ hessian @ directions
    if not np.all(np.isfinite(reduced)):
        return vcov, False
    size = np.sqrt(np.maximum(np.abs(np.diag(reduced)), 1e-300))
    eigenvalues, V = np.linalg.eigh(reduced / np.outer(size, size))
    if eigenvalues[0] < SMALLEST_EIGENVALUE:
        return vcov, False
    root = (directions @ (V / np.sqrt(eigenvalues) / size[:, None]))[moves]
    vcov[np.ix_(moves, moves)] = root @ root.T
    return vcov, True


def _unidentified(hessian: np.ndarray, directions: np.ndarray, names: Sequence[str]) -> tuple[str, ...]:
    """The parameters that make up the directions about which the data say next to nothing."""
    eigenvalues, V = np.linalg.eigh(directions.T @ hessian @ directions)
    involved = np.any(np.abs(V[:, eigenvalues < LEAST_INFORMATION]) > 0.2, axis=1)
    # the directions are triangular: each one's last parameter is its own
    return tuple(names[int(np.flatnonzero(column)[-1])] for column in directions[:, involved].T)


def column_reach(X: np.ndarray) -> np.ndarray:
    """How far each column of X (n, p) moves the linear predictor per unit of its coefficient: (p,)."""
    spread = np.ptp(X, axis=0)
    return np.where(spread > 0, spread, np.max(np.abs(X), axis=0, initial=0.0))


def _separated(design: Design, family: Family, layout: Layout, flat: np.ndarray, vcov: np.ndarray) -> tuple[str, ...]:
    """Columns whose effect has run away: large, with a standard error that is larger still, and no prior to hold it."""
    of_mean = family.link.name in UNBOUNDED_LINKS and family.response in ("count", "trials", "categories")
    found, first = [], 0
    for component in sorted(design.components, key=beta_name):
        part, block = design.components[component], beta_name(component)
        informed = {i for prior in layout.priors if prior.block == block for i in prior.positions}
        looked_at = component == "zi" or (of_mean and component != "disp")
        reach = column_reach(part.X)
        for j, name in enumerate(part.columns if looked_at else ()):
            error = np.sqrt(vcov[first + j, first + j]) * reach[j]
            if abs(flat[first + j]) * reach[j] > SEPARATED_EFFECT and not error < SEPARATED_ERROR and j not in informed:
                found.append(name if component == "cond" else f"{component}:{name}")
        first += part.X.shape[1]
    return tuple(found)
