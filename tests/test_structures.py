"""The marginal likelihood through every structure: derivatives against finite differences, batches against loops."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from likelihoods import GROUPS, NORMAL_START, WALK_START, count_data, normal_data, normal_nll, walk_nll
from problems import STRUCTURES as FORMULAS
from problems import central_differences, problem

import glmmjax as gj
from glmmjax._precision import double_precision, to_numpy
from glmmjax.custom import LikelihoodSpec, joint_model, shape_of
from glmmjax.formula_fit import formula_problem
from glmmjax.laplace import Marginal, marginal_derivatives, marginal_nll
from glmmjax.layout import lay_out
from glmmjax.programs import QUICK
from glmmjax.promises import path_name, store
from glmmjax.solving import Problem

TRIDIAGONAL = scipy.sparse.diags([1.0, 1.0, 1.0], [-1, 0, 1], shape=(60, 60))


def crossed_nll(params: Any, random: Any, data: Any) -> Any:
    eta = params["mu"] + random["a"][data["a"]] + random["b"][data["b"]]
    sd = jnp.exp(params["log_sd"])
    prior = sum(0.5 * jnp.sum((u / s) ** 2) + u.size * jnp.log(s) for u, s in zip(random.values(), sd, strict=True))
    return prior + jnp.sum(jnp.exp(eta) - data["y"] * eta)


def crossed_data() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {"y": rng.poisson(2.0, 40).astype(float), "a": np.arange(40) % 8, "b": rng.integers(0, 5, 40)}


def of_likelihood(
    nll: Any, params: Any, random: Any, data: Any, structure: Any, profiled: tuple[str, ...] = ()
) -> Problem:
    """A likelihood as a problem, as ``fit`` makes it."""
    outer = {name: value for name, value in params.items() if name not in profiled}
    border = {name: params[name] for name in profiled}
    with double_precision():
        storage = store(random, structure, border)
        modes = to_numpy(storage.pack((random, border) if border else random))
    spec = LikelihoodSpec(nll, storage, shape_of(outer, path_name), profiled)
    return Problem((joint_model, spec), data, modes, spec.params.labels())


def of_formula(structure: str | None, formula: str) -> Problem:
    """A Poisson model with crossed factors as a problem, its structure chosen by hand."""
    p = problem("poisson", formula)
    layout, data = lay_out(p.design, p.layout.family, structure)
    return formula_problem(layout, data, ("",) * len(p.flat))


def make(name: str) -> tuple[Problem, np.ndarray]:
    walk = {"level": np.full(60, 0.5)}
    if name in ("dense", "banded", "wide band", "sparse"):
        promises = {
            "dense": gj.Dense(),
            "banded": gj.Banded(1),
            "wide band": gj.Banded(4),
            "sparse": gj.Sparse(TRIDIAGONAL),
        }
        return of_likelihood(walk_nll, WALK_START, walk, count_data(), promises[name]), np.array([-0.8, 0.7])
    if name in ("blocks", "bordered"):
        profiled = ("beta",) if name == "bordered" else ()
        start = {"u": np.zeros(GROUPS)}
        found = of_likelihood(normal_nll, NORMAL_START, start, normal_data(), gj.Blocks(), profiled)
        return found, np.array([-0.3, 0.2]) if profiled else np.array([0.8, 0.4, -0.3, 0.2])
    if name == "crossed":
        start, effects = {"mu": 0.0, "log_sd": np.zeros(2)}, {"a": np.zeros(8), "b": np.zeros(5)}
        return of_likelihood(crossed_nll, start, effects, crossed_data(), gj.Crossed()), np.array([-0.3, 0.1, 0.6])
    formula = FORMULAS["crossed slope" if "slope" in name else "crossed"]
    flat = problem("poisson", formula).flat
    return of_formula("linked", formula), flat


@cache
def made(name: str) -> tuple[Problem, np.ndarray, Callable[[np.ndarray], Marginal]]:
    """The problem, a point, and the marginal with its derivatives at any point: one program for all tests of a name."""
    found, flat = make(name)
    compiled = jax.jit(lambda x, u, data: marginal_derivatives(found.model, x, u, data), compiler_options=QUICK)

    def at(x: np.ndarray) -> Marginal:
        with double_precision():
            return to_numpy(compiled(x, found.modes, found.data))

    return found, flat, at


NAMES = ["dense", "banded", "sparse", "blocks", "bordered", "linked"]


@pytest.mark.parametrize(
    "name", [*NAMES, *(pytest.param(n, marks=pytest.mark.slow) for n in ("wide band", "crossed", "linked slope"))]
)
def test_exact_derivatives_equal_finite_differences(name: str) -> None:
    _, flat, at = made(name)
    here = at(flat)
    assert np.isfinite(here.value)
    gradient = central_differences(lambda x: at(x).value, flat, 1e-4)
    hessian = central_differences(lambda x: at(x).gradient, flat, 1e-4)
    np.testing.assert_allclose(here.gradient, gradient, rtol=1e-6, atol=1e-7 * (1 + abs(here.value)))
    np.testing.assert_allclose(here.hessian, hessian, rtol=1e-6, atol=1e-7 * np.max(np.abs(hessian)))
    for k, jacobian in enumerate(here.modes_jacobian):
        moved = central_differences(lambda x, k=k: at(x).modes[k], flat, 1e-4)
        np.testing.assert_allclose(jacobian, moved, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "name",
    [
        "banded",
        "blocks",
        "linked",
        "sparse",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("dense", "bordered", "crossed")),
    ],
)
def test_batches_equal_loops_and_jax_differentiates_the_value(name: str) -> None:
    """``vmap`` over parameters, and ``jax.hessian`` of the value itself, which uses the modes' own derivative."""
    found, flat, at = made(name)
    many = flat + 0.1 * np.arange(3)[:, None]

    def value(x: Any, data: Any) -> Any:
        return marginal_nll(found.model, found.model.unflatten(x, data), found.modes, data)[0]

    with double_precision():
        each = np.array([float(jax.jit(value, compiler_options=QUICK)(x, found.data)) for x in many])
        batch = np.asarray(jax.jit(jax.vmap(value, in_axes=(0, None)), compiler_options=QUICK)(many, found.data))
        hessian = np.asarray(jax.jit(jax.hessian(value), compiler_options=QUICK)(flat, found.data))
    exact = at(flat).hessian
    np.testing.assert_allclose(batch, each, rtol=1e-12)
    np.testing.assert_allclose(hessian, exact, rtol=1e-7, atol=1e-7 * np.max(np.abs(exact)))


@pytest.mark.parametrize("structure", ["crossed", "linked"])
def test_ways_to_keep_crossed_factors_agree(structure: str) -> None:
    found = of_formula(structure, FORMULAS["crossed slope"])
    other = of_formula(None, FORMULAS["crossed slope"])
    flat = problem("poisson", FORMULAS["crossed slope"]).flat

    def value(p: Problem) -> float:
        evaluate = jax.jit(
            lambda x, u, data: marginal_nll(p.model, p.model.unflatten(x, data), u, data)[0], compiler_options=QUICK
        )
        with double_precision():
            return float(evaluate(flat, p.modes, p.data))

    assert value(found) == pytest.approx(value(other), rel=1e-12)


def test_detection_reads_the_program() -> None:
    pytest.importorskip("asdex")
    data = count_data()
    fit = gj.fit(walk_nll, WALK_START, {"level": np.zeros(60)}, data, structure="detect")
    assert fit.structure.startswith("banded: 60 effects, half-bandwidth 1")
    two = {"x": np.zeros(3), "y": np.zeros(3)}

    def pairs(params: Any, random: Any, data: Any) -> Any:
        x, y = random["x"], random["y"]
        return 0.5 * jnp.sum(x**2 + y**2 + x * y) + 0.5 * jnp.sum((data["z"] - params["mu"] - x) ** 2)

    found = gj.fit(pairs, {"mu": 0.0}, two, {"z": np.arange(3.0)}, structure="detect")
    assert found.structure.startswith("sparse: 6 effects, 3 pairs")
