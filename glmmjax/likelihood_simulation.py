"""New data from a fitted likelihood: random effects from their prior, or as estimated, and data given them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from glmmjax._errors import ArgumentError, FitError, did_you_mean
from glmmjax._precision import double_precision, to_numpy
from glmmjax._types import Array
from glmmjax.observations import ObservationData, ObservationSpec, gives_density
from glmmjax.surroundings import read_surroundings, tracing

if TYPE_CHECKING:
    from glmmjax.likelihood_fit import LikelihoodFit

RANDOM_EFFECTS = ("unconditional", "conditional")


class Simulated(NamedTuple):
    """One draw: the random effects and the data, each in the shapes of the model."""

    random: Any
    data: Any


def simulate_likelihood(fit: LikelihoodFit, n: int, seed: int, re: str) -> list[Simulated]:
    """``n`` draws at the estimates, which are taken as known.

    Args:
        seed: a whole number; the same one gives the same draws.
        re: "unconditional" draws new random effects each time, "conditional" keeps the conditional modes.

    Raises:
        ArgumentError: an argument is out of range, or a draw changes the shape of the data.
        FitError: the model was fitted without ``simulate=``, or has a prior that cannot be drawn from.
    """
    if re not in RANDOM_EFFECTS:
        raise ArgumentError(f"simulate: unknown re={re!r}. {did_you_mean(re, RANDOM_EFFECTS)}")
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ArgumentError(f"simulate: n must be a whole number of at least 1, not {n!r}.")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise ArgumentError(f"simulate: seed must be a whole number, not {seed!r}.")
    with double_precision():
        root = jax.random.key(seed)  # each draw has a key of its own, however many are asked for
        with tracing(read_surroundings((fit.simulator, fit.spec))):
            one = jax.jit(lambda key: draw(fit, key, conditional=re == "conditional")).lower(root).compile()
        draws = [to_numpy(one(jax.random.fold_in(root, i))) for i in range(n)]
    return [Simulated(random, view_of(fit, data)) for random, data in draws]


def draw(fit: LikelihoodFit, key: Array, conditional: bool = False) -> tuple[Any, Any]:
    """Random effects in the shapes of the model, and data as the engine takes them; traceable.

    Raises:
        FitError, ArgumentError: see :func:`simulate_likelihood`.
    """
    if fit.simulator is None:
        raise FitError("the model cannot simulate: fit it with simulate=.")
    effects = fit.modes if conditional else None
    if isinstance(fit.spec, ObservationSpec):
        random, data = _draw_observations(fit, fit.spec, key, effects)
    else:
        random, data = fit.simulator(key, fit.estimates, effects, fit.data)
    _check_shapes("random effects", fit.modes, random)
    _check_shapes("data", fit.data, data)
    return random, data


def view_of(fit: LikelihoodFit, data: Any) -> Any:
    """Data as the model's owner writes them."""
    return data.rows if isinstance(fit.spec, ObservationSpec) else data


def _draw_observations(fit: LikelihoodFit, spec: ObservationSpec, key: Array, effects: Any) -> tuple[Any, Any]:
    data: ObservationData = fit.data
    params = fit.estimates
    for_effects, for_rows = jax.random.split(key)
    if effects is None:
        keys = dict(zip(spec.factors, jax.random.split(for_effects, len(spec.factors)), strict=True))
        effects = {
            name: _draw_prior(keys[name], params, name, spec.priors[k], np.shape(fit.modes[name]))
            for k, name in enumerate(spec.factors)
        }
    own = {name: effects[name][data.members.rows[k]] for k, name in enumerate(spec.factors)}
    assert fit.simulator is not None
    row_keys = jax.random.split(for_rows, len(data.weights))
    new = jax.vmap(fit.simulator, in_axes=(0, None, 0, 0))(row_keys, params, own, data.rows)
    if not isinstance(new, dict) or not set(new) <= set(data.rows):
        raise ArgumentError("simulate must return a dict of columns to replace, such as {'y': ...}.")
    cast = {name: jax.numpy.asarray(x, dtype=np.asarray(data.rows[name]).dtype) for name, x in new.items()}
    return effects, replace(data, rows={**data.rows, **cast})


def _draw_prior(key: Array, params: Any, name: str, prior: Any, shape: tuple[int, ...]) -> Array:
    if prior is None:
        return jax.random.normal(key, shape, dtype=float)
    if not gives_density(prior):
        raise FitError(
            f"simulate: the prior of {name!r} is a negative log-density, from which nothing can be drawn. Write it as "
            "params -> density, with one of glmmjax.densities, or simulate with re='conditional'."
        )
    return prior(params).sample(key, shape[:1])


def _check_shapes(what: str, before: Any, after: Any) -> None:
    old, new = str(jax.tree.structure(before)), str(jax.tree.structure(after))
    if old != new:
        raise ArgumentError(f"simulate: the {what} drawn are {new}, but those of the model are {old}.")
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        if np.shape(a) != np.shape(b):
            raise ArgumentError(f"simulate: {what} change their shape from {np.shape(a)} to {np.shape(b)}.")
