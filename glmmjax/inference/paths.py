"""The constrained minima along one quantity: a point, a limit, one side of a curve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from glmmjax._errors import FitError
from glmmjax._status import Outcome
from glmmjax.control import Control
from glmmjax.inference.quantities import FAR, FAR_CORRELATION, UNRESOLVED, Quantity
from glmmjax.laplace import Marginal
from glmmjax.solving import solve

STEP = 0.5  # between the points of a curve, in units of zeta
MOST_STEPS = 40
TOLERANCE = 1e-6  # of zeta at a root
FLAT = 1e-3  # by how much zeta may still rise, if its argument goes twice as far, where it is called flat
LONGEST = 2.5  # steps, in standard errors, for which the quadratic approximation is trusted
INNER_POINTS = 6  # between an estimate and the end of its range

FOLLOWED, END, FLAT_SIDE = "", "the end of its range", "flat"


@dataclass(frozen=True)
class Point:
    """One constrained minimum: the place w, zeta, dzeta/dw, all parameters there, and what went wrong."""

    w: float
    zeta: float
    slope: float
    flat: np.ndarray
    problem: str = ""


class Path:
    """The curve of constrained minima of one quantity, along a scale w of ``c'theta``.

    w is ``c'theta`` itself, or its hyperbolic arc sine where that is what goes to infinity at an even pace.
    """

    def __init__(self, own: Quantity, control: Control) -> None:
        self.quantity, self.control = own, control
        self.estimate = float(own.c @ own.flat)
        self.center = self.to_w(self.estimate)
        error = own.error * (1.0 / np.hypot(1.0, self.estimate) if own.curved else 1.0)
        known = np.isfinite(error) and not (any(own.bounded) and error > UNRESOLVED)
        self.error = error if known else own.unit
        # where no error is known the estimate is at an end of the range
        self.far = (
            (-FAR_CORRELATION if own.curved else self.center - FAR * own.unit) if own.bounded[0] else -np.inf,
            (FAR_CORRELATION if own.curved else self.center + FAR * own.unit) if own.bounded[1] else np.inf,
        )
        variance = float(own.c @ own.vcov @ own.c)
        a = own.directions.T @ own.c
        self.along = own.directions @ (a / (a @ a))
        self.tangent = own.vcov @ own.c / variance if known and variance > 0 else self.along
        # an orthonormal basis of the directions that leave c'theta alone; a column of zeros keeps the program's shape
        rest = np.linalg.svd(a[None])[2][1:].T
        self.T = np.concatenate([own.directions @ rest, np.zeros((len(own.flat), 1))], axis=1)
        self.start = Point(self.center, 0.0, 1.0 / self.error, own.flat)
        self.at_end = (False, False)
        if not known:
            self.at_end = self._which_end()
            low, high = self.far
            self.far = (-np.inf if self.at_end[1] else low, np.inf if self.at_end[0] else high)

    def to_w(self, t: float) -> float:
        """The place of ``c'theta = t``."""
        return float(np.arcsinh(t)) if self.quantity.curved else t

    def from_w(self, w: float) -> float:
        """``c'theta`` at a place."""
        return float(np.sinh(w)) if self.quantity.curved else w

    def value_of(self, w: float) -> float:
        """What is reported at a place; beyond the far ends, the end of the range."""
        if w <= self.far[0]:
            return self.quantity.natural(-np.inf)
        if w >= self.far[1]:
            return self.quantity.natural(np.inf)
        return self.quantity.natural(self.from_w(w))

    def _which_end(self) -> tuple[bool, bool]:
        """At which end of its range the estimate is: where the likelihood does not fall, though it does elsewhere."""
        low, high = self.quantity.bounded
        if not (low and high):
            return low, high
        for distance in 2.0 ** np.arange(7):
            beside = [self.point(self.center + side * distance * self.error, self.start) for side in (-1.0, 1.0)]
            falls = [not p.problem and abs(p.zeta) > FLAT for p in beside]
            if any(falls):
                return not falls[0], not falls[1]
        return False, False

    # -- points --------------------------------------------------------------------------------------------------------
    def point(self, w: float, near: Point) -> Point:
        """The constrained minimum at w, searched from a neighbor."""
        step = self.from_w(w) - float(self.quantity.c @ near.flat)
        straight = near.flat + self.along * step
        if abs(w - near.w) > LONGEST * self.error:  # too far for the quadratic approximation
            return self._solved(w, straight)
        found = self._solved(w, near.flat + self.tangent * step)
        return self._solved(w, straight) if found.problem else found

    def _solved(self, w: float, start: np.ndarray) -> Point:
        """The constrained minimum from a start."""
        own = self.quantity
        state = solve(own.problem, self.control, start, self.T, own.modes).state
        outcome = Outcome(int(state.outcome))
        usable = outcome == Outcome.CONVERGED or (outcome == Outcome.NO_PROGRESS and self._is_minimum(state.at))
        if not usable or not np.isfinite(state.at.value):
            at = f"the fit with {own.name} held at {self.value_of(w):.4g} {outcome.sentence}"
            return Point(w, np.nan, np.nan, state.flat, at)
        rise = float(state.at.value - own.value)
        if rise < -1e-6 * (1.0 + abs(own.value) * 1e-3):
            raise FitError(
                f"profile: at {own.name} = {self.value_of(w):.6g} the log-likelihood is {-rise:.2g} above that of the "
                "fit, which is not the maximum. Fit again with start= near these values."
            )
        zeta = float(np.sign(w - self.center) * np.sqrt(2.0 * max(rise, 0.0)))
        stretch = np.cosh(w) if own.curved else 1.0
        slope = float(state.at.gradient @ self.along) * stretch / zeta if zeta else 1.0 / self.error
        return Point(w, zeta, slope, state.flat)

    def _is_minimum(self, at: Marginal) -> bool:
        """Whether a Newton step would gain next to nothing."""
        g, H = self.T.T @ at.gradient, self.T.T @ at.hessian @ self.T
        if not (np.all(np.isfinite(g)) and np.all(np.isfinite(H))):
            return False
        return abs(float(g @ np.linalg.pinv(H, rcond=1e-10, hermitian=True) @ g)) < TOLERANCE

    def checked(self, new: Point, near: Point) -> Point:
        """A point, searched once more from the estimates if that is not where its search began; the lower one."""
        if near is self.start:
            return new
        other = self.point(new.w, self.start)
        return other if abs(other.zeta) < abs(new.zeta) - TOLERANCE else new

    # -- one limit -----------------------------------------------------------------------------------------------------
    def limit(self, side: int, z: float) -> tuple[float, str]:
        """The limit on one side on the scale that is reported, and how that side ends."""
        if self.at_end[(side + 1) // 2]:
            return self.value_of(side * np.inf), END
        root, reason = self.root(side * z)
        if root is not None:
            return self.value_of(root.w), FOLLOWED
        end = self.quantity.natural(side * np.inf)
        return (end if reason in (END, FLAT_SIDE) else np.nan), reason

    def root(self, z: float) -> tuple[Point | None, str]:
        """Where zeta is z, by Newton's method kept inside a bracket; or why there is no such place."""
        side = int(np.sign(z))
        far = self.far[(side + 1) // 2]
        inner, outer = self.start, None
        broken, stride = "", self.error
        last = inner
        for _ in range(2 * MOST_STEPS):
            w = last.w + (z - last.zeta) / last.slope if last.slope > 0 else np.nan
            ahead = side * (w - inner.w) > 0
            if outer is not None and not (ahead and side * (outer.w - w) > 0):
                w = 0.5 * (inner.w + outer.w)
            elif outer is None:
                most = inner.w + side * 2.0 * max(stride, abs(inner.w - self.center))
                w = w if ahead and side * (most - w) > 0 else inner.w + side * stride
                stride *= 2.0
            if outer is None and side * (w - far) >= 0:
                end = self.point(far, inner)
                if end.problem:
                    return None, end.problem
                if side * end.zeta < side * z:
                    return None, END
                outer, last = end, end
                continue
            # no further than where a normal likelihood would be twenty times beyond
            reach = 20.0 if not any(self.at_end) else 1000.0
            if outer is None and abs(w - self.center) > reach * abs(z) * self.error and np.isinf(far):
                return None, broken or self._flat(inner, side)
            new = self.point(float(w), inner)
            if not new.problem and abs(new.zeta - z) < TOLERANCE:
                new = self.checked(new, inner)
                if abs(new.zeta - z) < TOLERANCE:
                    return new, FOLLOWED
            if new.problem:
                broken, outer = new.problem, new
            elif side * new.zeta > side * z:
                broken, outer = "", new
            else:
                inner = new
            last = inner if new.problem else new
            if outer is not None and abs(outer.w - inner.w) < 1e-9 * (1.0 + abs(inner.w)):
                break
        return None, broken or f"it was not found in {2 * MOST_STEPS} fits"

    def _flat(self, last: Point, side: int) -> str:
        """Whether the likelihood does not fall any more, in words."""
        further = self.point(self.center + 2.0 * (last.w - self.center), last)
        if further.problem:
            return further.problem
        if abs(further.zeta - last.zeta) < FLAT:
            return FLAT_SIDE
        return f"the likelihood still falls at {self.value_of(further.w):.4g}, far from the estimate"

    # -- one side of a curve -------------------------------------------------------------------------------------------
    def side(self, side: int, z: float) -> tuple[list[Point], str]:
        """Points on one side, outwards, until zeta is beyond z, and how the side ends."""
        here = (side + 1) // 2
        if self.at_end[here]:
            return [Point(side * np.inf, 0.0, np.nan, self.quantity.flat)], END
        if self.at_end[1 - here]:
            root, reason = self.root(side * (z + 0.25 * STEP))
            inside = self._between(self.start, root) if root is not None else []
            exact, _ = self.root(side * z)
            points = [p for p in (*inside, exact, root) if p is not None]
            return sorted(points, key=lambda p: side * p.w), reason
        points, reason = self._follow(side, z)
        if any(self.quantity.bounded):  # which is bent strongly: the limit itself is one of the points
            exact, _ = self.root(side * z)
            points = sorted([*points, *([exact] if exact else [])], key=lambda p: side * p.w)
        return self._rising(points, side), reason

    def _follow(self, side: int, z: float) -> tuple[list[Point], str]:
        far = self.far[(side + 1) // 2]
        last, points = self.start, list[Point]()
        for _ in range(MOST_STEPS):
            longest = 4.0 * STEP * self.error * (1 + len(points))
            step = np.clip(STEP / max(last.slope, 1e-300), 0.1 * STEP * self.error, longest)
            w = float(last.w + side * step)
            if side * (w - far) >= 0:
                end = self.point(far, last)
                if end.problem:
                    return points, end.problem
                if side * end.zeta > z:  # the end lies beyond the level
                    exact, reason = self.root(side * (z + 0.25 * STEP))
                    return [*points, *([exact] if exact else [])], reason
                between = self._between(last, end) if abs(end.zeta - last.zeta) > FLAT else []
                return [*points, *between, end], END
            new = self.point(w, last)
            if new.problem:
                new = self.point(float(last.w + 0.25 * side * step), last)
                if new.problem:
                    return points, new.problem
            if side * new.zeta > z + 0.25 * STEP:
                new = self.checked(new, last)
            points.append(new)
            if side * new.zeta > z + 0.25 * STEP:
                return points, FOLLOWED
            if (
                np.isinf(far)
                and side * new.zeta <= side * last.zeta + 1e-9
                and abs(new.w - self.center) > 10 * (self.error)
            ):
                return points, FLAT_SIDE
            last = new
        return points, self._flat(last, side) if np.isinf(far) else f"it was not followed in {MOST_STEPS} fits"

    def _between(self, a: Point, b: Point) -> list[Point]:
        """Points between two, spread evenly on the scale that is reported."""
        low, high = self.value_of(a.w), self.value_of(b.w)
        if any(end and np.isinf(value) for end, value in zip(self.at_end, self.quantity.ends, strict=True)):
            toward = np.sign(a.w - b.w) * self.error
            places = [b.w + toward * 0.25 * 2.0**k for k in range(INNER_POINTS)]
        else:
            places = [self._place(x, a.w, b.w) for x in np.linspace(low, high, INNER_POINTS + 2)[1:-1]]
        found = [self.point(w, b) for w in places]
        return [p for p in found if not p.problem]

    def _place(self, value: float, low: float, high: float) -> float:
        """Where a value is reported, by bisection."""
        down = self.value_of(high) < self.value_of(low)
        for _ in range(60):
            middle = 0.5 * (low + high)
            below = (self.value_of(middle) < value) != down
            low, high = (middle, high) if below else (low, middle)
        return 0.5 * (low + high)

    def _rising(self, points: list[Point], side: int) -> list[Point]:
        """The points with those searched again that are higher than the next one outwards, from there."""
        points = list(points)
        for k in reversed(range(len(points) - 1)):
            if side * points[k].zeta > side * points[k + 1].zeta + TOLERANCE:
                again = self.point(points[k].w, points[k + 1])
                if not again.problem and abs(again.zeta) < abs(points[k].zeta):
                    points[k] = again
        return points
