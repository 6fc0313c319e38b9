"""The researcher's doors: a joint negative log-likelihood, whole or for one observation, in; a :class:`Fit` out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from glmmjax._arguments import whole
from glmmjax._errors import ArgumentError, did_you_mean
from glmmjax._precision import double_precision, to_numpy
from glmmjax._status import Outcome
from glmmjax._types import Data, Params, Random
from glmmjax.constraints import constrain
from glmmjax.control import Control, checked_control
from glmmjax.custom import LikelihoodSpec, joint_model, shape_of
from glmmjax.detection import detect
from glmmjax.endless import endless
from glmmjax.grouping import choose_structure
from glmmjax.hessians import Level, zeros
from glmmjax.indices import check_indices
from glmmjax.likelihood_fit import LikelihoodFit, check_callable
from glmmjax.likelihood_inputs import (
    as_columns,
    as_data,
    as_priors,
    as_start,
    as_weights,
    group_labels,
    numeric_rows,
)
from glmmjax.multistart import best_of, scattered
from glmmjax.observations import ObservationData, ObservationSpec, observation_model
from glmmjax.promises import Promise, Storage, path_name, store
from glmmjax.scrutiny import check_number, check_promise, check_start, name_weak_effects, warn_of_captured
from glmmjax.solving import Problem, check_memory, solve
from glmmjax.surroundings import read_surroundings, unchanged
from glmmjax.verdict import judge_likelihood, warn_unless_good


def fit(
    nll: Callable[[Params, Any, Data], Any],
    params: Any,
    random: Any = None,
    data: Any = None,
    structure: Promise | str | None = None,
    report: Callable[[Params, Any, Data], Any] | None = None,
    simulate: Callable[..., Any] | None = None,
    fixed: Mapping[str, Any] | None = None,
    control: Control | None = None,
    *,
    profile: Sequence[str] = (),
    nobs: int | None = None,
) -> LikelihoodFit:
    """Fit a likelihood of your own by maximum likelihood, random effects integrated out by the Laplace approximation.

    ``l(params) = -log int exp(-nll(params, random, data)) drandom``, minimized over ``params``.

    Args:
        nll: ``(params, random, data) -> `` the joint negative log-likelihood, one number: of the data given the random
            effects, plus that of the random effects. A pure function written with ``jax.numpy``; differentiable up to
            four times. Write its constants if ``llf`` is to be compared.
        params: start values, a pytree of numbers and arrays such as ``{"beta": np.zeros(2), "log_sigma": 0.0}``.
            Everything is unconstrained: write standard deviations as logarithms.
        random: start values of the random effects, a pytree as well; zeros are usual. None: there are none.
        data: a pytree of arrays, or a data frame, which becomes a dict of its columns.
        structure: which random effects can be coupled: :class:`Dense`, :class:`Blocks`, :class:`Crossed`,
            :class:`Banded` or :class:`Sparse`; "detect" finds it from the program (needs the asdex package). It is
            checked against a product with the true Hessian. Default: dense up to 1,000 effects.
        report: ``(params, random, data) -> `` derived quantities that want standard errors; see ``fit.sdreport()``.
        simulate: ``(key, params, random, data) -> (random, data)`` draws random effects, unless ``random`` is not None,
            and data given them, with a ``jax.random`` key.
        fixed: parameters that are not estimated, by name: ``True`` or numbers (NaN where free) to hold them, the name
            of another parameter to share its values, or :func:`glmmjax.tied` labels.
        control: a :class:`Control`.
        profile: names of parameters, such as many fixed effects, that are solved for together with the random effects
            instead of in the outer iteration. Their curvature does not enter the log-determinant, and they maximize the
            joint density: exact where the density is gaussian in them and the effects, else an approximation.
        nobs: the number of observations, for ``bic``.

    Raises:
        ArgumentError, DataError: what is wrong with the likelihood at its start, where, and the remedy.

    Warns:
        GlmmjaxWarning: the likelihood carries arrays with it that ought to be data; or the fit did not converge or is
            not identified, see ``Control(warn=)``.

    A fit that did not converge does not raise: ``fit.status`` says so.

    Source: Kristensen et al. (2016), J. Stat. Softw. 70(5).

    >>> import jax.numpy as jnp
    >>> from glmmjax import Blocks
    >>> from jax.scipy.stats import norm
    >>> def nll(params, random, data):
    ...     sd = jnp.exp(params["log_sd"])
    ...     mean = params["mu"] + sd[0] * random["u"][data["group"]]
    ...     return -jnp.sum(norm.logpdf(data["y"], mean, sd[1])) - jnp.sum(norm.logpdf(random["u"]))
    >>> data = {"y": np.array([1.0, 1.2, 3.1, 2.8, 2.0, 2.3]), "group": np.array([0, 0, 1, 1, 2, 2])}
    >>> result = fit(nll, {"mu": 0.0, "log_sd": np.zeros(2)}, {"u": np.zeros(3)}, data, structure=Blocks())
    >>> result.status, round(float(result.params["mu"]), 3)
    ('converged', 2.067)
    """
    began = time.perf_counter()
    control = checked_control(control)
    check_callable("nll", nll)
    for name, function in (("report", report), ("simulate", simulate)):
        if function is not None:
            check_callable(name, function)
    nobs = None if nobs is None else whole("nobs", nobs)
    profile = (profile,) if isinstance(profile, str) else profile
    random = as_start("random", {} if random is None else random)
    params, data = as_start("params", params), as_data(data)
    outer, border = _split_profiled(params, tuple(profile))
    with double_precision():
        if structure == "detect":
            structure = detect(nll, params, random, data)
        elif isinstance(structure, str):
            raise ArgumentError(f"structure={structure!r} is not known; as a string only 'detect' is.")
        storage = store(random, structure, border)
        check_memory(storage.structure, sum(np.size(x) for x in jax.tree.leaves(outer)))
        check_number("nll", nll, params, random, data)
        warn_of_captured(nll)
        start = to_numpy(storage.pack((random, border) if border else random)) if storage.size else ()
    spec = LikelihoodSpec(nll, storage, shape_of(outer, path_name), tuple(profile))
    with unchanged():
        found = _fit(spec, joint_model, outer, start, data, report, simulate, fixed, control, nobs, {}, began)
    warn_unless_good(found.verdict, control.warn)
    return found


def fit_observations(
    nll_obs: Callable[[Params, Any, Any], Any],
    params: Any,
    random: Mapping[str, int],
    data: Any,
    groups: Mapping[str, Any] | None = None,
    prior: Mapping[str, Callable[..., Any]] | Callable[..., Any] | None = None,
    weights: Any = None,
    report: Callable[[Params, Any, Any], Any] | None = None,
    simulate: Callable[..., Any] | None = None,
    fixed: Mapping[str, Any] | None = None,
    control: Control | None = None,
) -> LikelihoodFit:
    """Fit a likelihood that is written for one observation, with random effects by grouping factor.

    ``sum_i w_i nll_obs(params, effects of observation i, row i) + sum over groups of prior(params, effects of group)``

    is the joint negative log-likelihood. Nothing about the structure of its Hessian has to be promised: it is assembled
    from the small derivatives of each observation, for nested and for crossed factors.

    Args:
        nll_obs: ``(params, effects, row) -> `` the negative log-likelihood of one observation, one number. ``effects``
            maps each factor to the effects of this observation's group (d,); ``row`` maps each column to its value.
        params: start values, a pytree.
        random: per grouping factor, the number of effects d of each group, as in ``{"subject": 2}``.
        data: a data frame or a mapping of columns; every array's first axis counts the observations.
        groups: per factor, the group of each observation: labels (n,) or the name of a column. Default: the column that
            is called like the factor.
        prior: the density of one group's effects, per factor or for all: ``(params, effects) -> `` negative
            log-density, or ``params -> `` a density of :mod:`glmmjax.densities`. Default: standard normal.
        weights: factors of the observations' log-likelihoods (n,), or the name of a column.
        report: ``(params, random, rows) -> `` derived quantities; ``random`` maps factors to effects (groups, d).
        simulate: ``(key, params, effects, row) -> `` what of the row is drawn, as in ``{"y": ...}``.
        fixed, control: see :func:`fit`.

    Raises:
        ArgumentError, DataError: what is wrong, where, and the remedy; the first bad observation is named.

    >>> import jax.numpy as jnp
    >>> from glmmjax import datasets
    >>> def nll_obs(params, effects, row):
    ...     eta = params["mu"] + jnp.exp(params["log_sd"]) * effects["herd"][0]
    ...     return row["size"] * jnp.logaddexp(0.0, eta) - row["incidence"] * eta
    >>> result = fit_observations(nll_obs, {"mu": -1.0, "log_sd": 0.0}, {"herd": 1}, datasets.load("cbpp"))
    >>> result.status, round(float(result.params["mu"]), 3)
    ('converged', -2.046)
    """
    began = time.perf_counter()
    control = checked_control(control)
    check_callable("nll_obs", nll_obs)
    params = as_start("params", params)
    table, n = as_columns(data)
    labels = group_labels(random, groups, table, n)
    rows = numeric_rows(table, set(random))
    order = sorted(random, key=lambda name: -len(labels[name][0]))
    levels = tuple(Level(len(labels[name][0]), random[name]) for name in order)
    hessian, members = choose_structure([labels[name][1] for name in order], levels, control.structure)
    effects = {name: np.zeros((len(labels[name][0]), random[name])) for name in random}
    names = sorted(effects)
    shapes = tuple(effects[name].shape for name in names)
    storage = Storage(hessian, jax.tree.structure(effects), tuple(names), shapes, "levels", order=tuple(order))
    priors = as_priors(prior, order)
    spec = ObservationSpec(nll_obs, tuple(order), priors, storage, shape_of(params, path_name))
    w = as_weights(weights, table, n)
    given = ObservationData(rows, w, members)
    with double_precision():
        row = {name: x[0] for name, x in rows.items()}
        own = {name: np.zeros(random[name]) for name in random}
        check_number("nll_obs", nll_obs, params, own, row)
        for k, name in enumerate(order):
            check_number(f"the prior of {name!r}", lambda p, b, k=k: spec.prior_nll(k, p, b), params, own[name])
        warn_of_captured(nll_obs)
    start = zeros(levels)
    found = {name: labels[name][0] for name in order}
    with unchanged():
        result = _fit(spec, observation_model, params, start, given, report, simulate, fixed, control, n, found, began)
    warn_unless_good(result.verdict, control.warn)
    return result


def _fit(
    spec: Any,
    build: Callable[[Any], Any],
    params: Any,
    modes: Random,
    data: Any,
    report: Callable[..., Any] | None,
    simulate: Callable[..., Any] | None,
    fixed: Mapping[str, Any] | None,
    control: Control,
    nobs: int | None,
    groups: Mapping[str, tuple[Any, ...]],
    began: float,
) -> LikelihoodFit:
    leaves = dict(zip(spec.params.names, jax.tree.leaves(params), strict=True))
    flat, directions = constrain(leaves, fixed)
    problem = Problem((build, spec), data, modes, spec.params.labels())
    read = read_surroundings((spec,))
    with double_precision():
        check_indices(problem, spec, flat)
        check_start(problem, spec, flat)
    prepared = time.perf_counter()
    more = control.starts - 1 if isinstance(control.starts, int) else 0
    (state, _, compile_time), searches = best_of(
        lambda start: solve(problem, control, start, directions), flat, lambda _: scattered(flat, directions, more)
    )
    done = time.perf_counter()
    if spec.storage.size and np.all(np.isfinite(state.flat)):
        with double_precision():
            check_promise(problem, spec, state.flat, state.at.modes)
    inner = None
    if not np.isfinite(state.at.value):
        with double_precision():
            inner = _failed_search(problem, spec, flat)
    runs_off = endless(problem, control, state, flat, directions)
    verdict = judge_likelihood(state, directions, problem.names, inner, runs_off)
    with double_precision():
        estimates = to_numpy(spec.params.unflatten(state.flat))
        effects = to_numpy(spec.storage.unpack(state.at.modes)) if spec.storage.size else {}
    if spec.storage.n_border:
        effects, border = effects
        estimates = {**estimates, **border}
    return LikelihoodFit(
        control=control,
        parameter_names=problem.names,
        flat=state.flat,
        directions=directions,
        vcov=verdict.vcov,
        llf=float(-state.at.value),
        gradient=state.at.gradient,
        hessian=state.at.hessian,
        verdict=verdict,
        iterations=int(state.iterations),
        timings={"design": prepared - began, "compile": compile_time, "run": done - prepared - compile_time},
        searches=searches,
        spec=spec,
        build=build,
        data=data,
        start_modes=modes,
        estimates=estimates,
        modes=effects,
        at=state.at,
        report=report,
        simulator=simulate,
        n_observations=nobs,
        groups=groups,
        read=read,
    )


def _failed_search(problem: Problem, spec: Any, flat: np.ndarray) -> str:
    """Why the modes were not found at the start, in words."""
    from glmmjax.modes import find_modes

    model, data = problem.model, problem.data
    search = jax.jit(lambda x, u: find_modes(model, model.unflatten(x, data), u, data))
    u, stats = to_numpy(search(flat, problem.modes))
    weak = name_weak_effects(problem, spec.storage, flat, u)
    reason = weak or Outcome(int(stats.outcome)).sentence
    return (
        f"did not start: the modes of the random effects were not found at the start values; {reason}. Give better "
        "start values, a prior that holds the effects, or write the density so that it is log-concave in them"
    )


def _split_profiled(params: Any, profiled: tuple[str, ...]) -> tuple[Any, Any]:
    """The parameters of the outer iteration, and those that are solved for with the random effects."""
    if not profiled:
        return params, {}
    if not isinstance(params, dict):
        raise ArgumentError("profile: params must be a dict, whose names profile= can give.")
    for name in profiled:
        if name not in params:
            raise ArgumentError(f"profile: no parameters are called {name!r}. {did_you_mean(name, params)}")
    return {k: v for k, v in params.items() if k not in profiled}, {k: params[k] for k in profiled}
