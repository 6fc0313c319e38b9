"""Start values away from every boundary: there the gradient vanishes, and an optimizer that begins there stays.

Estimates of one fit are the start of the next in refits, bootstraps and profiles. Where a standard deviation was
estimated at zero, a correlation at one, a dispersion or a coefficient at infinity, the next fit begins nearer to the
start values that its own data suggest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from glmmjax.centering import centering, far_columns, moved
from glmmjax.coordinates import PURE, along, orthonormal_scale
from glmmjax.design import Design, Term
from glmmjax.families import Family
from glmmjax.layout import Layout, TermLayout, beta_name
from glmmjax.start import start_values

# How far a start may be from what the data suggest: linear predictors of the mean whose scale is that of a logarithm,
# of the dispersion and of zero inflation, shape parameters, logarithms of standard deviations, and the parameters of
# correlations, of which 3 is a correlation of 0.95.
REACH = {"cond": 10.0, "disp": 4.0, "zi": 4.0}
REACH_OF_SHAPE = 3.0
LOWEST_LOG_SD, HIGHEST_LOG_SD = -2.0, 5.0
LARGEST_CORRELATION = 3.0


@dataclass(frozen=True, eq=False)
class Interior:
    """Moves flat parameters (k,) away from the boundaries, toward the start values of a design.

    Attributes:
        design, family, layout: of the model.
        known: the start values by name, if they are at hand.
    """

    design: Design
    family: Family
    layout: Layout
    known: Mapping[str, np.ndarray] | None = None

    @cached_property
    def plain(self) -> Mapping[str, np.ndarray]:
        """The start values by name."""
        if self.known is not None:
            return self.known
        scale = {name: orthonormal_scale(part.X) for name, part in self.design.components.items()}
        return start_values(self.design, self.family, self.layout, scale).params

    def move(self, flat: np.ndarray, T: np.ndarray) -> np.ndarray:
        """The parameters moved inside, as far as directions T (k, r) allow."""
        names = sorted(self.plain)
        blocks = np.split(flat, np.cumsum([len(self.plain[name]) for name in names])[:-1])
        found = moved_inside(dict(zip(names, blocks, strict=True)), self.plain, self.design, self.layout)
        change = np.concatenate([found[name] for name in names]) - flat
        return flat + along(T, change)


def moved_inside(
    given: Mapping[str, np.ndarray], plain: Mapping[str, np.ndarray], design: Design, layout: Layout
) -> dict[str, np.ndarray]:
    """The start values ``given``, by name, moved away from boundaries toward the ``plain`` ones of the same data."""
    found = dict(given)
    for component, part in design.components.items():
        name = beta_name(component)
        reach = REACH.get(component, REACH["cond"])
        if name in found and (component in ("disp", "zi") or layout.family.link.name in PURE):
            found[name] = plain[name] + _shortened(part.X, found[name] - plain[name], reach)
    if "psi" in found:
        found["psi"] = plain["psi"] + np.clip(found["psi"] - plain["psi"], -REACH_OF_SHAPE, REACH_OF_SHAPE)
    if "theta" in found and layout.terms:
        ends = np.cumsum([placed.n_theta for placed in layout.terms])[:-1]
        own, other = np.split(found["theta"], ends), np.split(plain["theta"], ends)
        parts = zip(layout.terms, design.terms, own, other, strict=True)
        inside = [_theta_inside(placed, term, *theta) for placed, (_, term), *theta in parts]
        found["theta"] = np.concatenate(inside) if inside else found["theta"]
    return found


def _shortened(X: np.ndarray, change: np.ndarray, reach: float) -> np.ndarray:
    """The change of coefficients (p,), shortened so that it moves no linear predictor by more than ``reach``."""
    farthest = np.max(np.abs(X @ change), initial=0.0)
    return change if farthest <= reach else change * (reach / farthest)


def _theta_inside(placed: TermLayout, term: Term, theta: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """The theta of one term, where slopes that are far from zero are centered."""
    A = centering(term) if far_columns(placed.covariance, term) else None
    if A is not None:
        theta, plain = moved(theta, np.linalg.inv(A)), moved(plain, np.linalg.inv(A))
    q = min(placed.width, len(theta))
    log_sd = np.clip(theta[:q], plain[:q] + LOWEST_LOG_SD, plain[:q] + HIGHEST_LOG_SD)
    rest = np.clip(theta[q:], -LARGEST_CORRELATION, LARGEST_CORRELATION)
    inside = np.concatenate([log_sd, rest])
    if np.array_equal(inside, theta):
        return theta if A is None else moved(theta, A)
    return inside if A is None else moved(inside, A)
