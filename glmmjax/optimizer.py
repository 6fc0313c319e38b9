"""Outer minimization: a trust-region Newton method on the exact Hessian, jaxopt's quasi-Newton methods, SciPy's.

All of them work in coordinates ``x`` with ``params = start + T x``. For a formula model T takes the units out: it makes
the columns of the fixed-effects matrices orthonormal, and a step of one moves the linear predictor by about one
residual standard deviation (:mod:`glmmjax.coordinates`). A likelihood of one's own has no such map: there every
parameter is measured by its own curvature. Parameters that are held or tied are directions that T leaves out. Results
are on the user's scale.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._status import Outcome
from glmmjax._types import Array, Random
from glmmjax.laplace import Marginal
from glmmjax.modes import Stats

# Half the Newton decrement is the fall in the objective that a Newton step promises, and the decrement's root the
# distance to the optimum in standard errors: 1e-10 is 1e-5 of a standard error.
TOLERANCE = 1e-10
MAX_ITERATIONS = 100
FIRST_RADIUS = 2.0
LARGEST_RADIUS = 1e3
LARGEST_RADIUS_IN_ANY_UNIT = 1e100
SMALLEST_RADIUS = 1e-9
LONGEST_STRIDE = 16.0
# A direction with less curvature has a standard error above 100 in units of the linear predictor or of a log standard
# deviation: it leads to a boundary at infinity, and is followed until its gradient is small rather than its step.
LEAST_INFORMATION = 1e-4
ROUNDING = 1e-13
# A smaller fall of the value is measured by the gradient, in which constants of the data do not round it away.
UNSEEN = 1e-8
# A squared Newton step in standard errors that does not get smaller from here on is made of rounding.
SETTLED = 1e-8
# Of a likelihood of one's own: a curvature, each parameter scaled by its own, and a step in its units.
CLEARLY_NEGATIVE, ESCAPING = 0.1, 0.05


class NewtonState(NamedTuple):
    """Where the trust-region iteration stands; enough to go on from.

    Attributes:
        flat, at: the best point so far and the marginal there.
        step: the step to be judged next, ``stride`` times a Newton step cut to ``radius``; in params.
        length: its length in the scaled coordinates.
        promised: the fall in the objective that the quadratic model promises for it.
        outcome: a code of :class:`Outcome`.
    """

    flat: Array
    at: Marginal
    step: Array
    length: Array
    promised: Array
    radius: Array
    stride: Array
    outcome: Array
    iterations: Array


# (flat, modes to begin from, the last state) -> the marginal at flat
Derivatives = Callable[[Array, Random, NewtonState], Marginal]


def newton_start(flat: np.ndarray, modes: tuple[np.ndarray, ...]) -> NewtonState:
    """The state before the first evaluation, which will be at ``flat``, searching the modes from ``modes``; NumPy."""
    k = len(flat)
    at = Marginal(
        value=np.array(np.inf),
        gradient=np.zeros(k),
        hessian=np.zeros((k, k)),
        modes=modes,
        modes_jacobian=tuple(np.zeros((*u.shape, k)) for u in modes),
        modes_vcov=tuple(np.zeros((len(u), *u.shape)) for u in modes),
        stats=Stats(np.array(int(Outcome.RUNNING)), np.array(0)),
    )
    one, running = np.array(1.0), np.array(int(Outcome.RUNNING))
    return NewtonState(flat, at, np.zeros(k), np.array(0.0), one, FIRST_RADIUS * one, one, running, np.array(0))


def newton_steps(
    derivatives: Derivatives,
    T: Array,
    state: NewtonState,
    tolerance: Array,
    max_iter: Array,
    budget: Array,
    unit_free: bool,
) -> NewtonState:
    """The state after at most ``budget`` more evaluations."""
    stop = state.iterations + budget

    def unfinished(s: NewtonState) -> Array:
        return (s.outcome == Outcome.RUNNING) & (s.iterations < stop)

    return jax.lax.while_loop(
        unfinished, lambda s: newton_step(derivatives, T, s, tolerance, max_iter, unit_free), state
    )


def newton_step(
    derivatives: Derivatives, T: Array, state: NewtonState, tolerance: Array, max_iter: Array, unit_free: bool
) -> NewtonState:
    """Evaluate at the proposed step, accept it or not, propose the next one.

    Directions of negative curvature are followed downhill (the eigenvalues enter with their absolute value). Where a
    step gains more than the quadratic model promised, as when a variance goes to zero on its log scale, the next one is
    lengthened. ``unit_free`` says whether a step of one along a column of T means the same whatever the units.
    """
    trial = state.flat + state.step
    ahead = tuple(u + j @ state.step for u, j in zip(state.at.modes, state.at.modes_jacobian, strict=True))
    new = derivatives(trial, ahead, state)
    first = jnp.isinf(state.at.value)
    size_of_value = 1.0 + jnp.abs(new.value)
    slack = ROUNDING * size_of_value
    seen = state.at.value - new.value
    felt = -0.5 * jnp.dot(state.at.gradient + new.gradient, state.step)  # the trapezoid rule
    unseen = jnp.maximum(jnp.abs(seen), state.promised) < UNSEEN * size_of_value
    gain = jnp.where(first, state.promised, jnp.where(unseen, felt, seen))
    finite = jnp.isfinite(new.value) & jnp.all(jnp.isfinite(new.gradient)) & jnp.all(jnp.isfinite(new.hessian))
    accept = finite & (gain > -slack)
    ratio = jnp.where(accept, (gain + slack) / (state.promised + slack), 0.0)

    keep = lambda a, b: jnp.where(accept, a, b)  # noqa: E731
    flat, at = keep(trial, state.flat), jax.tree.map(keep, new, state.at)

    g, H = T.T @ at.gradient, T.T @ at.hessian @ T
    H = jnp.where(jnp.isfinite(H), H, 0.0)
    size, least, longest = jnp.ones_like(g), LEAST_INFORMATION, LARGEST_RADIUS
    if not unit_free:
        own = jnp.sqrt(jnp.abs(jnp.diag(H)))
        size, least, longest = jnp.where(own > 0.0, own, 1.0), 0.0, LARGEST_RADIUS_IN_ANY_UNIT
    eigenvalues, V = jnp.linalg.eigh(H / jnp.outer(size, size))
    slope = V.T @ (g / size)
    curvature = jnp.maximum(jnp.abs(eigenvalues), 1e-13 * jnp.max(jnp.abs(eigenvalues), initial=0.0) + 1e-300)
    newton = -slope / curvature
    decrement = jnp.sum(slope**2 / jnp.maximum(curvature, least))

    tried = state.length
    radius = jnp.where(ratio < 0.25, 0.25 * jnp.minimum(tried, state.radius), state.radius)
    radius = jnp.where((ratio > 0.75) & (tried > 0.9 * state.radius), jnp.maximum(radius, 2.0 * tried), radius)
    radius = jnp.where(first, FIRST_RADIUS, jnp.minimum(radius, longest))
    outrun = (ratio > 1.1) | ((state.stride > 1.0) & (ratio > 0.1))
    stride = jnp.where(~first & outrun, jnp.minimum(2.0 * state.stride, LONGEST_STRIDE), 1.0)
    strides = newton * jnp.where(jnp.abs(newton) > 0.5 * jnp.max(jnp.abs(newton), initial=0.0), stride, 1.0)
    step = (V @ strides) / size
    cut = jnp.minimum(1.0, radius / jnp.maximum(jnp.linalg.norm(step), 1e-300))
    scaled = strides * cut
    promised = -(jnp.dot(slope, scaled) + 0.5 * jnp.sum(curvature * jnp.minimum(scaled**2, jnp.abs(scaled * newton))))

    iterations = state.iterations + 1
    outcome = jnp.where(iterations >= max_iter, Outcome.MAX_ITERATIONS, Outcome.RUNNING)
    outcome = jnp.where(radius < SMALLEST_RADIUS, Outcome.NO_PROGRESS, outcome)
    # what the last step left should be about its square
    settled = (decrement < SETTLED) & (decrement > 0.5 * state.promised) & ~first
    reached = (decrement < tolerance) | settled
    if not unit_free:
        # Far below the unit of the data a logarithm of a standard deviation gains next to nothing by a step of one, and
        # yet leads downhill.
        uphill = (eigenvalues < -CLEARLY_NEGATIVE) & (jnp.linalg.norm(V / size[:, None] * newton, axis=0) > ESCAPING)
        reached = reached & ~jnp.any(uphill)
    outcome = jnp.where(accept & reached, Outcome.CONVERGED, outcome)
    outcome = jnp.where(first & ~finite, Outcome.START_NOT_FINITE, outcome)
    length = cut * jnp.linalg.norm(step)
    return NewtonState(flat, at, T @ (cut * step), length, promised, radius, stride, outcome, iterations)


def updated_hessian(B: Array, step: Array, change: Array) -> Array:
    """The Hessian estimate B corrected for the change of the gradient along a step: symmetric rank one.

    ``B + r r' / (r's)`` with ``r = change - B s``, left alone where the denominator is lost in rounding; a trust region
    needs no positive definite estimate. Source: Nocedal & Wright (2006), Numerical Optimization, section 6.2.
    """
    r = change - B @ step
    denominator = jnp.dot(r, step)
    sound = jnp.abs(denominator) > 1e-8 * jnp.linalg.norm(r) * jnp.linalg.norm(step)
    return B + jnp.where(sound, jnp.outer(r, r) / jnp.where(sound, denominator, 1.0), 0.0)


def minimize_jaxopt(
    method: str, value_and_gradient: Callable[[Array], Any], x: Array, tolerance: Array, max_iter: Array
) -> Array:
    """The minimizer that jaxopt's ``method`` ("bfgs" or "lbfgs") finds from ``x``; traceable.

    It stops when the norm of the gradient is below ``tolerance``.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="JAXopt is no longer maintained", category=DeprecationWarning)
        import jaxopt

    solver = {"bfgs": jaxopt.BFGS, "lbfgs": jaxopt.LBFGS}[method]
    return solver(value_and_gradient, value_and_grad=True, maxiter=max_iter, tol=tolerance).run(x).params


def minimize_scipy(
    method: str,
    value_and_gradient: Callable[[np.ndarray], tuple[float, np.ndarray]],
    x: np.ndarray,
    tolerance: float,
    max_iter: int,
) -> np.ndarray:
    """The minimizer that ``scipy.optimize.minimize``'s ``method`` ("bfgs" or "l-bfgs-b") finds from ``x``.

    It stops when the largest gradient is below ``tolerance``.
    """
    from scipy.optimize import minimize

    options: dict[str, float] = {"maxiter": max_iter, "gtol": tolerance}
    if method == "l-bfgs-b":
        options["ftol"] = 1e-15  # its default stops on a small relative fall, long before the gradient is small
    result: Any = minimize(value_and_gradient, x, jac=True, method=method, options=options)  # type: ignore[call-overload]
    return result.x
