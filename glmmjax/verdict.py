"""The verdict on a fit: converged or not, identified or not, singular, separated, in words.

A fit can have converged and still be no good: a variance at zero, a coefficient that is infinite. Each finding is a
sentence that names the thing; together they are ``fit.status``. What is looked at has no unit: the curvature along the
directions of the optimizer, in which a step of one means the same for every parameter.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from glmmjax._errors import GlmmjaxWarning
from glmmjax._status import Outcome
from glmmjax.degenerate import has_scale, is_reproduced, nearly_collinear, without_variance
from glmmjax.design import Design, Term
from glmmjax.ends import Runaway, can_run_off, runaway
from glmmjax.families import Family
from glmmjax.information import UNINFORMED, information, well_informed
from glmmjax.layout import Layout, TermLayout, beta_name, parameter_places
from glmmjax.optimizer import LEAST_INFORMATION, NewtonState

# Infinite estimates leave a direction with next to no curvature: with more of it nobody need ask the linear program.
SUSPECT = 1e-2
# Effects vary less given the data than before: a spherical one that varies this much more has several modes.
BROAD = 2.0
# A standard deviation on the scale of a linear predictor that is no number of the data any more.
RUNAWAY_SD = 10.0
SMALLEST_EIGENVALUE = 1e-12  # of the Hessian of a likelihood of one's own, each parameter scaled by its own curvature


@dataclass(frozen=True)
class Verdict:
    """What became of a fit.

    Attributes:
        status: one line for people; "converged" alone means that nothing is wrong.
        converged: the outer iteration met its criterion.
        pd_hess: the curvature is negative in no direction.
        singular: the parameters at their boundary, in words.
        separated: the columns whose estimates are infinite, as those of other components with their prefix.
        vcov: covariance of the flat parameters (k, k); NaN in rows and columns of those at a boundary, at infinity or
            not identified.
        known: the same (k, k) with what is not identified counted as known; no NaN.
        lost: (k, q) the directions of the parameters that are infinite or not identified.
        unidentified: what the data do not determine, in words.
    """

    status: str
    converged: bool
    pd_hess: bool
    singular: tuple[str, ...]
    separated: tuple[str, ...]
    vcov: np.ndarray
    known: np.ndarray
    lost: np.ndarray
    unidentified: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether the estimates are those of a maximum: at a boundary perhaps, but finite and identified."""
        return self.converged and self.pd_hess and not self.separated and not self.unidentified


def warn_unless_good(verdict: Verdict, wanted: bool) -> None:
    """Warn with the status of a fit that is not good; at the line that called the function that calls this one."""
    if wanted and not verdict.good:
        warnings.warn(f"{verdict.status}. (Control(warn=False) turns this warning off.)", GlmmjaxWarning, stacklevel=3)


def judge(
    design: Design,
    family: Family,
    layout: Layout,
    state: NewtonState,
    modes_vcov: tuple[np.ndarray, ...],
    directions: np.ndarray,
    names: Sequence[str],
    seen: dict[bytes, Runaway | None] | None = None,
) -> Verdict:
    """The verdict on the state at which the outer iteration ended.

    ``modes_vcov`` is without padding; ``directions`` (k, r) are those in which the parameters could move.
    ``seen`` keeps what ran off for other responses of the same design.
    """
    outcome = Outcome(int(state.outcome))
    place = parameter_places(design, layout)
    if _is_exact(design, family, state.flat, directions, place, outcome):
        return _no_verdict("; ".join([outcome.without_remedy, PERFECT]), state)
    if outcome == Outcome.START_NOT_FINITE:
        return _no_verdict("; ".join([outcome.sentence, *_wall(family)]), state)
    singular, at_boundary = _singular(design, layout, modes_vcov)
    if outcome == Outcome.CONVERGED and not singular:
        plain = well_informed(state.at.hessian, directions, SUSPECT)
        if plain is not None:
            return Verdict(outcome.sentence, True, True, (), (), plain.vcov, plain.known, plain.lost)
    least = least_information(design.weights)
    suspect = _weak(state, directions[:, can_run_off(design, layout, directions)], least)
    ran_off = runaway(design, family, layout, state.flat, directions, names, seen) if suspect else None
    away = np.zeros((directions.shape[1], 0)) if ran_off is None else ran_off.span
    all_lost = ran_off is not None and ran_off.complete

    boundary = np.zeros(len(state.flat), dtype=bool)
    if all_lost:
        singular = ()
    else:
        boundary[len(boundary) - len(at_boundary) :] = at_boundary
        limits = _limits(design, family, state, directions, place, least, np.any(directions @ away != 0.0, axis=1))
        boundary[list(limits)] = True
        singular = (*singular, *limits.values())
    inside = ~np.any(directions[boundary] != 0.0, axis=0)
    found = information(state.at.hessian, directions[:, inside], away[inside], least)
    ends, unidentified = _weak_words(design, family, layout, state.flat, found.weak, names, place)
    singular = (*singular, *(() if ran_off is None else ran_off.ends), *(() if all_lost else ends))
    separated = () if ran_off is None else ran_off.columns

    unidentified = () if all_lost else unidentified
    findings = [f"boundary (singular) fit: {finding}" for finding in singular]
    findings += [f"not identifiable: {finding}" for finding in unidentified]
    if separated:
        findings.append(f"{'complete ' if all_lost else ''}separation: infinite estimates of {', '.join(separated)}")
    sentences = [outcome.sentence]
    if outcome != Outcome.CONVERGED:
        causes = [*findings, *(f"nearly collinear columns: {column}" for column in nearly_collinear(design))]
        findings = causes
        sentences = [outcome.without_remedy if causes else outcome.sentence, _steepness(state, directions)]
        sentences += [*_wall(family), *_ragged(layout, modes_vcov)]
    if not found.positive:
        sentences.append("Hessian not positive definite: standard errors are not available")
    return Verdict(
        status="; ".join([*sentences, *findings]),
        converged=outcome == Outcome.CONVERGED,
        pd_hess=found.positive,
        singular=singular,
        separated=separated,
        vcov=found.vcov,
        known=found.known,
        lost=found.lost,
        unidentified=unidentified,
    )


PERFECT = (
    "perfect fit: the model reproduces the response exactly, so that no variation is left to estimate and the "
    "likelihood has no maximum"
)


def least_information(weights: np.ndarray) -> float:
    """The curvature below which a direction is not identified; weights below one scale the likelihood, and so it."""
    used = weights[weights > 0]
    return LEAST_INFORMATION * min(1.0, float(np.mean(used)) if len(used) else 1.0)


def _no_verdict(status: str, state: NewtonState) -> Verdict:
    k = len(state.flat)
    nothing = np.full((k, k), np.nan)
    return Verdict(status, False, False, (), (), nothing, np.zeros((k, k)), np.zeros((k, 0)))


def _steepness(state: NewtonState, directions: np.ndarray) -> str:
    return f"gradient too large: {np.max(np.abs(directions.T @ state.at.gradient), initial=0.0):.1e}"


def _is_exact(
    design: Design,
    family: Family,
    flat: np.ndarray,
    directions: np.ndarray,
    place: dict[str, slice],
    outcome: Outcome,
) -> bool:
    if not has_scale(family) or "beta_disp" not in place or not np.any(directions[place["beta_disp"]]):
        return False
    log_phi = design.components["disp"].X @ flat[place["beta_disp"]] + design.components["disp"].offset
    nothing_left = without_variance(design, family, log_phi, flat[place["psi"]])
    return nothing_left or (outcome != Outcome.CONVERGED and is_reproduced(design, family))


def _weak(state: NewtonState, directions: np.ndarray, least: float) -> bool:
    """Whether some direction has so little curvature, or the iteration ended so, that estimates may be infinite."""
    if int(state.outcome) != Outcome.CONVERGED:
        return True
    reduced = directions.T @ state.at.hessian @ directions
    if not np.all(np.isfinite(reduced)):
        return True
    return bool(np.min(np.linalg.eigvalsh(reduced), initial=np.inf) < SUSPECT / LEAST_INFORMATION * least)


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


def _ragged(layout: Layout, modes_vcov: tuple[np.ndarray, ...]) -> list[str]:
    """Whether the density of effects of zero inflation given the data has several peaks, in words."""
    own = [
        modes_vcov[t.level][t.first + j, t.first + j]
        for t in layout.terms
        for j in range(t.width)
        if t.component == "zi"
    ]
    if not own or np.max([np.max(variance, initial=0.0) for variance in own]) < BROAD:
        return []
    return [
        "the Laplace approximation breaks down: given the data, the random effects of zero inflation of some groups "
        "have no single most likely value, and the approximate likelihood has no maximum there. Leave random effects "
        "out of ziformula, or keep their standard deviation small by a prior, priors={'sd_zi': 'gamma(2, 0.25)'}"
    ]


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


def _limits(
    design: Design,
    family: Family,
    state: NewtonState,
    directions: np.ndarray,
    place: dict[str, slice],
    least: float,
    infinite: np.ndarray,
) -> dict[int, str]:
    """Parameters that went to the end of their range, by position, and what that means in words.

    They are one number for all rows, about which the data no longer say anything: the size of nbinom2 for Poisson
    counts, the logit of a zero inflation of nothing. ``infinite`` (k,) are those that something else explains.
    """

    def uninformed(position: int) -> bool:
        """Whether the curvature is next to none where x moves this parameter."""
        own = directions[position]
        if infinite[position] or not np.any(own):
            return False
        along = directions @ (own / np.linalg.norm(own))
        return abs(float(along @ state.at.hessian @ along)) < least

    found: dict[int, str] = {}
    for name in ("disp", "zi"):
        if name not in design.components or design.components[name].columns != ("(Intercept)",):
            continue
        position = place[beta_name(name)].start
        if name == "disp" and uninformed(position):
            phi = np.exp(state.flat[position])
            found[position] = f"the {family.phi_name}, {phi:.2g}, is at the end of its range: fit the family's limit"
        if name == "zi" and state.flat[position] < 0 and uninformed(position):
            found[position] = "the probability of an extra zero is 0: fit without ziformula"
    if family.shape is not None and len(family.shape.names) == 1 and uninformed(place["psi"].start):
        value = float(family.shape.natural(state.flat[place["psi"]])[0])
        found[place["psi"].start] = (
            f"the {family.shape.names[0]}, {value:.2g}, is at the end of its range: hold it, or fit the limit"
        )
    return found


def _weak_words(
    design: Design,
    family: Family,
    layout: Layout,
    flat: np.ndarray,
    weak: np.ndarray,
    names: Sequence[str],
    place: dict[str, slice],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What parameters without information (k,) mean: ends of ranges, and what the data do not tell apart; in words."""
    positions = np.flatnonzero(weak).tolist()
    ends: list[str] = []
    for name, what in (("disp", family.phi_name), ("zi", "probability of an extra zero")):
        block = place.get(beta_name(name), slice(0, 0))
        own = [i for i in positions if block.start <= i < block.stop]
        if own and len(own) == len(positions):
            ends.append(f"the {what} is at the end of its range along {', '.join(names[i] for i in own)}")
            positions = []
    first, unidentified = place["theta"].start, []
    thetas = [i - first for i in positions if i >= first]
    same = _same_factors(design, layout, thetas)
    if same:
        unidentified.append(same)
        positions = [i for i in positions if i < first]
    elif len(positions) == 1 and thetas:
        j, placed, term = _effect(design, layout, thetas[0])
        if family.link.name != "identity" and j < placed.width and flat[positions[0]] > np.log(RUNAWAY_SD):
            name = "1" if term.columns[j] == "(Intercept)" else term.columns[j]
            ends.append(f"the standard deviation of ({name} | {term.group}) goes to infinity")
            positions = []
    if len(positions) > 1:
        unidentified.append(f"the data do not tell apart {' and '.join(names[i] for i in positions)}")
    elif positions:
        unidentified.append(f"the data say next to nothing about {names[positions[0]]}")
    return tuple(ends), tuple(unidentified)


def _effect(design: Design, layout: Layout, position: int) -> tuple[int, TermLayout, Term]:
    """The term that an entry of theta belongs to, and its number there."""
    for placed, (_, term) in zip(layout.terms, design.terms, strict=True):
        if position < placed.n_theta:
            return position, placed, term
        position -= placed.n_theta
    raise IndexError(position)


def _same_factors(design: Design, layout: Layout, thetas: Sequence[int]) -> str:
    """Which two grouping factors of effects that are not identified divide the rows alike, in words; "" for none."""
    terms = list({id(term): term for _, _, term in (_effect(design, layout, i) for i in thetas)}.values())
    for term in terms:
        for other in (other for _, other in design.terms if other is not term):
            pairs = len(np.unique(np.stack([term.index, other.index]), axis=1).T)
            if term.n_levels == other.n_levels == pairs and np.array_equal(term.Z, other.Z):
                return (
                    f"the grouping factors {other.group} and {term.group} divide the rows alike, so that only the sum "
                    "of their variances is determined: leave one of them out"
                )
    return ""


def judge_likelihood(
    state: NewtonState,
    directions: np.ndarray,
    names: Sequence[str],
    inner: str | None = None,
    flat_at: Mapping[int, str] | None = None,
) -> Verdict:
    """The verdict on a likelihood of unknown form: only what the gradient and the Hessian can tell.

    Args:
        directions: in which the parameters could move (k, r).
        inner: what is wrong with the search for the modes, in words.
        flat_at: parameters along which the likelihood goes on for ever without a change, and to where they go.
    """
    outcome = Outcome(int(state.outcome))
    sentences = [outcome.sentence if inner is None else inner]
    if outcome == Outcome.START_NOT_FINITE:
        return _no_verdict("; ".join(sentences), state)
    if outcome != Outcome.CONVERGED:
        sentences.append(_steepness(state, directions))
    endless = dict(flat_at or {})
    inside = ~np.any(directions[list(endless)] != 0.0, axis=0)
    vcov, known, positive = scaled_covariance(state.at.hessian, directions[:, inside])
    lost = np.zeros((len(state.flat), 0))
    if not positive:
        sentences.append("Hessian not positive definite: standard errors are not available")
        weak = weakest(directions.T @ state.at.hessian @ directions, directions)
        sentences += (
            [f"not identifiable, or not a minimum, in {' and '.join(np.array(names)[weak])}"] if len(weak) else []
        )
    singular = tuple(f"the likelihood does not change any more as {names[i]} goes to {endless[i]}" for i in endless)
    sentences += [f"boundary (singular) fit: {finding}" for finding in singular]
    converged = outcome == Outcome.CONVERGED
    return Verdict("; ".join(sentences), converged, positive, singular, (), vcov, known, lost)


def scaled_covariance(hessian: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """``D (D'HD)^-1 D'`` where every parameter has a unit of its own, and whether ``D'HD`` is positive definite.

    First with NaN for parameters that no direction moves, then with zeros.
    """
    k = len(hessian)
    vcov, known = np.full((k, k), np.nan), np.zeros((k, k))
    moves = np.any(directions != 0.0, axis=1)
    if not np.any(moves):
        return vcov, known, True
    reduced = directions.T @ hessian @ directions
    if not np.all(np.isfinite(reduced)):
        return vcov, known, False
    size = np.sqrt(np.maximum(np.abs(np.diag(reduced)), 1e-300))
    eigenvalues, V = np.linalg.eigh(reduced / np.outer(size, size))
    if eigenvalues[0] < SMALLEST_EIGENVALUE:
        return vcov, known, False
    root = (directions @ (V / np.sqrt(eigenvalues) / size[:, None]))[moves]
    known[np.ix_(moves, moves)] = vcov[np.ix_(moves, moves)] = root @ root.T
    return vcov, known, True


def weakest(hessian: np.ndarray, directions: np.ndarray) -> np.ndarray:
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
