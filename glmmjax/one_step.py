"""One-step-ahead quantile residuals: each observation against what the model predicts from those before it.

    U_i = P(Y_i < y_i | y_1 .. y_{i-1}) + V_i P(Y_i = y_i | ...),    r_i = Phi^-1(U_i),    V_i uniform on (0, 1)

are independent standard normal if the model is right, however the random effects correlate the data. The conditional
distribution is a ratio of marginal likelihoods, of the data up to i with y_i replaced by a value v and of those before
i; both by the Laplace approximation, normalized over the values v that are possible.

Source: Thygesen et al. (2017), Environ. Ecol. Stat. 24: 317-339 (their method "one-step generic").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._errors import ArgumentError, DataError, FitError, did_you_mean
from glmmjax._precision import double_precision, to_numpy
from glmmjax._types import Array, Data, Random
from glmmjax.laplace import marginal_nll
from glmmjax.observations import ObservationData, ObservationSpec
from glmmjax.programs import Source, compiled

if TYPE_CHECKING:
    from glmmjax.likelihood_fit import LikelihoodFit

SUPPORTS = ("real", "counts")
GRID = 41  # values per zoom onto the predictive density of a real response
ZOOMS = 3
NEGLIGIBLE = 25.0  # log units below the mode
NODES = 24  # Gauss-Legendre nodes on either side of the observation
LARGEST_SUPPORT = 2000
BATCH_NUMBERS = 4_000_000


def one_step_ahead(
    fit: LikelihoodFit, observed: str, support: str | Sequence[float] | None = None, order: Any = None, seed: int = 0
) -> np.ndarray:
    """Residuals (n,), standard normal under the model, of a fit by :func:`glmmjax.fit_observations`.

    Args:
        fit: its ``nll_obs`` must be a complete log-density of the observed value, up to a constant.
        observed: the column that holds it.
        support: "real" for a density on the line; "counts" for 0, 1, 2, ...; or all the values that are possible.
            Default: "real", which values that are all whole numbers must say.
        order: the position of each observation in time (n,), any numbers that sort. Default: the order of the rows.
        seed: of the uniform numbers that discrete residuals need.

    Raises:
        ArgumentError, DataError: a name or a support that does not suit the data.
        FitError: the fit is not by observation, or the approximation failed for some observation.

    Cost: n times the number of values, each a search for the modes of the whole model.
    """
    spec = fit.spec
    if not isinstance(spec, ObservationSpec):
        raise FitError("one-step-ahead residuals need a model by observation: fit it with gj.fit_observations(...).")
    data: ObservationData = fit.data
    if observed not in data.rows:
        raise ArgumentError(f"observed: no column is called {observed!r}. {did_you_mean(observed, data.rows)}")
    y = np.asarray(data.rows[observed], dtype=float)
    if y.ndim != 1:
        raise ArgumentError(f"observed: {observed!r} has {y.ndim} axes; each observation must be one number.")
    if support is None and np.all(y == np.round(y)):
        raise ArgumentError(
            f"one_step_ahead: {observed!r} holds whole numbers only: say whether they are support='counts', "
            "support='real', or give the values that are possible."
        )
    rank = _ranks(order, len(y))
    with double_precision():
        if support is None or (isinstance(support, str) and support == "real"):
            U = _continuous(fit, observed, y, rank)
        else:
            U = _discrete(fit, observed, y, rank, _values(support, y), seed)
    if not np.all(np.isfinite(U)):
        bad = int(np.argmin(np.isfinite(U)))
        raise FitError(f"one-step-ahead residuals: the approximation failed for observation {bad}.")
    from scipy.special import ndtri

    return ndtri(np.clip(U, 1e-16, 1.0 - 1e-16))


def _continuous(fit: LikelihoodFit, observed: str, y: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """The conditional distribution functions of a real response: zoom in, then integrate on both sides."""
    reach = np.ptp(y) or 1.0
    low, high = np.full(len(y), y.min() - reach), np.full(len(y), y.max() + reach)
    for _ in range(ZOOMS):
        v = np.linspace(low, high, GRID, axis=1)
        nll = _conditional(fit, observed, rank, v)
        inside = nll - np.nanmin(nll, axis=1, keepdims=True) < NEGLIGIBLE
        first, last = np.argmax(inside, axis=1), GRID - 1 - np.argmax(inside[:, ::-1], axis=1)
        rows = np.arange(len(y))
        low, high = v[rows, np.maximum(first - 1, 0)], v[rows, np.minimum(last + 1, GRID - 1)]
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    middle = np.clip(y, low, high)
    sides = []
    for a, b in ((low, middle), (middle, high)):
        half = 0.5 * (b - a)
        sides.append((half[:, None] * nodes + 0.5 * (a + b)[:, None], half[:, None] * weights))
    nll = _conditional(fit, observed, rank, np.concatenate([v for v, _ in sides], axis=1))
    density = np.exp(np.nanmin(nll, axis=1, keepdims=True) - nll)
    below = np.sum(density[:, :NODES] * sides[0][1], axis=1)
    above = np.sum(density[:, NODES:] * sides[1][1], axis=1)
    return below / (below + above)


def _discrete(
    fit: LikelihoodFit, observed: str, y: np.ndarray, rank: np.ndarray, values: np.ndarray, seed: int
) -> np.ndarray:
    """Randomized conditional distribution functions over the possible values."""
    nll = _conditional(fit, observed, rank, np.broadcast_to(values, (len(y), len(values))))
    p = np.exp(np.nanmin(nll, axis=1, keepdims=True) - nll)
    p /= np.sum(p, axis=1, keepdims=True)
    below = np.sum(np.where(values < y[:, None], p, 0.0), axis=1)
    here = np.sum(np.where(values == y[:, None], p, 0.0), axis=1)
    return below + np.random.default_rng(seed).uniform(size=len(y)) * here


def _conditional(fit: LikelihoodFit, observed: str, rank: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The marginal negative log-likelihood of the data up to each observation, its own value replaced (n, values)."""
    size = sum(np.size(x) for x in jax.tree.leaves(fit.data)) * values.shape[1]
    batch = int(np.clip(BATCH_NUMBERS // size, 1, len(rank)))
    given = (fit.flat, fit.at.modes, rank, values, fit.data)
    program, _ = compiled(_conditional_program, (fit.problem.source, observed, batch), given)
    nll = to_numpy(program(*given))
    return np.where(np.isfinite(nll), nll, np.inf)


def _conditional_program(
    source: Source, observed: str, batch: int, flat: Array, start: Random, rank: Array, values: Array, data: Data
) -> Array:
    model = source[0](source[1])
    params = model.unflatten(flat, data)

    def one(i: Array) -> Array:
        known = jnp.where(rank <= rank[i], data.weights, 0.0)

        def marginal(v: Array) -> Array:
            column = jnp.asarray(data.rows[observed], dtype=float).at[i].set(v)
            changed = replace(data, rows={**data.rows, observed: column}, weights=known)
            return marginal_nll(model, params, start, changed)[0]

        return jax.vmap(marginal)(values[i])

    return jax.lax.map(one, jnp.arange(len(rank)), batch_size=batch)


def _ranks(order: Any, n: int) -> np.ndarray:
    if order is None:
        return np.arange(n)
    given = np.asarray(order)
    if given.shape != (n,):
        raise DataError(f"order must have {n} entries, one per observation, not shape {given.shape}.")
    rank = np.empty(n, dtype=int)
    rank[np.argsort(given, kind="stable")] = np.arange(n)
    return rank


def _values(support: str | Sequence[float], y: np.ndarray) -> np.ndarray:
    if isinstance(support, str):
        if support not in SUPPORTS:
            raise ArgumentError(f"Unknown support={support!r}. {did_you_mean(support, SUPPORTS)}")
        if np.any(y < 0) or np.any(y != np.rint(y)):
            raise DataError("support='counts': the observed values are not all whole numbers of 0 or more.")
        # far beyond what a count model that fits predicts; the rest is lost in normalizing
        values = np.arange(3.0 * y.max() + 30.0)
    else:
        values = np.unique(np.asarray(support, dtype=float))
        if not np.all(np.isin(y, values)):
            bad = y[~np.isin(y, values)][0]
            raise DataError(f"support: the observed value {bad:g} is not among the possible ones.")
    if len(values) > LARGEST_SUPPORT:
        raise ArgumentError(f"support: {len(values)} values are too many; at most {LARGEST_SUPPORT} are evaluated.")
    return values
