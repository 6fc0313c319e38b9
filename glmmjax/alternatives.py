"""Other starts for fits that may have ended in the wrong maximum.

A dispersion and the variance of random effects compete for the same scatter of the responses, zero inflation competes
with both for the zeros: the likelihood can have a maximum for either explanation. Where a fit has laid nearly
everything on one of them, or did not converge, it is worth beginning from the other side.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from glmmjax._special import NUMPY
from glmmjax._status import Outcome
from glmmjax.coordinates import PURE, along
from glmmjax.design import Design
from glmmjax.families import Family, Given, variance_if_known
from glmmjax.information import UNINFORMED
from glmmjax.layout import Layout, parameter_places
from glmmjax.optimizer import LEAST_INFORMATION
from glmmjax.start import constant_predictor

NAMES = MORE, QUIET, LESS, FEWER_ZEROS = (
    "more variance between groups",
    "less residual scatter",
    "less variance between groups",
    "fewer extra zeros",
)
# What is added to the logarithms of standard deviations, and by how much the logarithm of the dispersion moves.
SHIFTS = {MORE: (1.0, 3.0), QUIET: (0.0, 2.0), LESS: (-1.5, -2.0)}
ZERO_SHIFT, ZERO_SD_SHIFT = -3.0, -1.5
# Of the responses' variance beyond Poisson's or binomial's, relative to the squared mean, or to mu (1 - mu).
LARGE_SCATTER = {"count": 2.0, "positive": 2.0, "trials": 0.5, "unit": 0.5}
SMALL_SCATTER = {"count": 1e-3, "trials": 1e-3}
LARGE_SD = 5.0
MANY_TRIALS = 1e6
JITTER = 1.0


class Ended(NamedTuple):
    """Where some fits ended.

    Attributes:
        flat: the parameters (m, k).
        outcome: codes of :class:`Outcome` (m,).
        variances: the smallest of each spherical effect given the data (m, effects).
        hessian: of the negative log-likelihood (m, k, k).
        T: the directions in which the parameters may move (m, k, r).
    """

    flat: np.ndarray
    outcome: np.ndarray
    variances: np.ndarray
    hessian: np.ndarray
    T: np.ndarray

    @property
    def curvature(self) -> np.ndarray:
        """The least curvature in any direction (m,); infinite where there is none to be computed."""
        H = np.swapaxes(self.T, 1, 2) @ self.hessian @ self.T
        usable = np.all(np.isfinite(H), axis=(1, 2)) & (H.shape[1] > 0)
        least = np.full(len(H), np.inf)
        if np.any(usable):
            least[usable] = np.linalg.eigvalsh(H[usable])[:, 0]
        return least


def alternatives(
    design: Design, family: Family, layout: Layout, T: np.ndarray, count: int | None = None
) -> dict[str, np.ndarray]:
    """What other starts add to the plain one (k,), by name, as far as directions T (k, r) allow.

    With a ``count`` they are so many: the first of them, or all with others that are drawn at random.
    """
    places = parameter_places(design, layout)
    k = T.shape[0]
    found = {name: np.zeros(k) for name in NAMES}
    for component, entries in _log_sds(layout, places["theta"]):
        if component == "cond":
            for name, (log_sd, _) in SHIFTS.items():
                found[name][entries] += log_sd
        if component == "zi":
            found[FEWER_ZEROS][entries] += ZERO_SD_SHIFT
    if family.has_dispersion and layout.terms:
        quieter = _phi_lowers_variance(family) * constant_predictor(design.components["disp"].X)
        for name, (_, log_scatter) in SHIFTS.items():
            found[name][places["beta_disp"]] = log_scatter * quieter
    if "beta_zi" in places:
        found[FEWER_ZEROS][places["beta_zi"]] = ZERO_SHIFT * constant_predictor(design.components["zi"].X)
    found = {name: along(T, shift) for name, shift in found.items()}
    found = {name: shift for name, shift in found.items() if np.any(shift)}
    rng = np.random.default_rng(0)
    logs = np.concatenate([np.arange(k)[place] for name, place in places.items() if name != "beta"])
    for i in range(0 if count is None else count - len(found)):
        shift = np.zeros(k)
        shift[logs] = JITTER * rng.normal(size=len(logs))
        found[f"random {i + 1}"] = along(T, shift)
    return dict(list(found.items())[:count])


def called_for(names: Iterable[str], asked: np.ndarray) -> list[str]:
    """Which of the alternative starts ``names`` were asked for (a,), in the order of NAMES."""
    there = set(names)
    return [name for name, own in zip(NAMES, asked, strict=True) if own and name in there]


def wanted(design: Design, family: Family, layout: Layout, ends: Ended) -> np.ndarray:
    """Which alternative starts (m, a), in the order of NAMES, may lead fits to a better maximum."""
    unsettled = (ends.outcome != Outcome.CONVERGED) & (ends.outcome != Outcome.RUNNING)
    more, less = unsettled.copy(), unsettled.copy()
    places = parameter_places(design, layout)
    if family.link.name in PURE:
        for component, entries in _log_sds(layout, places["theta"]):
            if component == "cond":
                less |= np.any(ends.flat[:, entries] > np.log(LARGE_SD), axis=1)
    scatter = _scatter(design, family, places, ends.flat) if layout.terms else None
    if scatter is not None:
        singular = np.any(ends.variances > 1.0 - UNINFORMED, axis=1)
        small = scatter < SMALL_SCATTER.get(family.response, -np.inf)
        runaway = ends.curvature < LEAST_INFORMATION
        more |= (scatter > LARGE_SCATTER[family.response]) | singular | (runaway & ~small)
        less |= small | (runaway & ~singular)
    return np.stack([more, more, less, unsettled], axis=1)


def _log_sds(layout: Layout, theta: slice) -> list[tuple[str, slice]]:
    """The component of each term, and where its logarithms of standard deviations stand."""
    found, first = [], theta.start
    for placed in layout.terms:
        found.append((placed.component, slice(first, first + min(placed.width, placed.n_theta))))
        first += placed.n_theta
    return found


def _scatter(design: Design, family: Family, places: dict[str, slice], flat: np.ndarray) -> np.ndarray | None:
    """The scatter (m,) at a typical mean that the dispersion accounts for; None where there is none to compare."""
    if not family.has_dispersion or family.response not in LARGE_SCATTER:
        return None
    mean = design.components["cond"]
    eta = flat[:, places["beta"]] @ np.mean(mean.X, axis=0) + np.mean(mean.offset)
    with np.errstate(all="ignore"):
        mu = np.asarray(family.link.inverse(eta, NUMPY), dtype=float)
        disp = design.components["disp"]
        log_phi = flat[:, places["beta_disp"]] @ np.mean(disp.X, axis=0) + np.mean(disp.offset)
        psi: tuple[np.ndarray, ...] = ()
        if family.shape is not None:
            psi = tuple(np.array([family.shape.natural(own) for own in flat[:, places["psi"]]]).T)
        variance = _variance(family, mu, np.exp(log_phi), psi, eta)
        if variance is None:
            return None
        if family.response == "count":
            return (variance - mu) / mu**2
        return variance / (mu**2 if family.response == "positive" else mu * (1.0 - mu))


def _variance(
    family: Family, mu: np.ndarray, phi: np.ndarray, psi: tuple[np.ndarray, ...], eta: np.ndarray
) -> np.ndarray | None:
    given = Given(mu, phi, MANY_TRIALS if family.response == "trials" else 1.0, psi, eta={"cond": eta})
    own = variance_if_known(family.working_variance or family.variance, given)
    return None if own is None else np.asarray(own, dtype=float)


def _phi_lowers_variance(family: Family) -> float:
    """Plus one where a larger ``phi`` means less variance, minus one where it means more."""
    start = np.array([1.0]) if family.response in ("count", "positive") else np.array([0.5])
    psi = () if family.shape is None else tuple(family.shape.natural(np.asarray(family.shape.start(start, np.ones(1)))))
    with np.errstate(all="ignore"):
        eta = np.asarray(family.link.link(start), dtype=float)
        at = [_variance(family, start, np.array([phi]), psi, eta) for phi in (1.0, 2.0)]
    if at[0] is None or at[1] is None:
        return -1.0
    return 1.0 if at[1][0] < at[0][0] else -1.0
