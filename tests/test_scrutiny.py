"""What a researcher can do wrong, and what is said about it, before anything is fitted."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from likelihoods import GROUPS, NORMAL_START, normal_data, normal_nll, normal_row

import glmmjax as gj

U = {"u": np.zeros(3)}
Y = np.array([0.3, -1.0, 2.0])


def spring(params: Any, random: Any, data: Any) -> Any:
    """Three observations, three effects."""
    return 0.5 * jnp.sum((data["y"] - params["mu"] - random["u"]) ** 2) + 0.5 * jnp.sum(random["u"] ** 2)


def refuse(message: str, nll: Any, random: Any = U, data: Any = None, **more: Any) -> None:
    with pytest.raises(gj.GlmmjaxError, match=message):
        gj.fit(nll, {"mu": 0.0}, random, {"y": Y} if data is None else data, **more)


def test_the_value_must_be_one_number() -> None:
    refuse(r"returns an array of shape \(3,\): sum it", lambda p, r, d: (d["y"] - p["mu"]) ** 2 + r["u"] ** 2)
    refuse("returns a tuple", lambda p, r, d: (spring(p, r, d), 1.0))


def test_single_precision_is_found() -> None:
    refuse("computes in float32, not float64", lambda p, r, d: spring(p, r, d).astype(jnp.float32))


def test_single_precision_is_found_inside() -> None:
    def narrow(p: Any, r: Any, d: Any) -> Any:
        return spring({"mu": p["mu"].astype(jnp.float32).astype(jnp.float64)}, r, d)

    refuse("computes in float32", narrow)
    refuse("computes in float32", lambda p, r, d: jax.jit(narrow)(p, r, d))


def test_a_value_that_is_not_finite_at_the_start() -> None:
    refuse("nll is inf at the start values", lambda p, r, d: spring(p, r, d) - jnp.log(p["mu"] ** 2))


def test_a_gradient_that_is_not_finite_names_the_parameter() -> None:
    refuse("gradient of nll in mu is not finite", lambda p, r, d: spring(p, r, d) + jnp.sqrt(p["mu"] ** 2))
    refuse(r"random u\[0\] is not finite", lambda p, r, d: spring(p, r, d) + jnp.sqrt(r["u"][0] ** 2))


def test_an_effect_that_does_not_enter_is_named() -> None:
    def idle(p: Any, r: Any, d: Any) -> Any:
        u = r["u"][:2]
        return 0.5 * jnp.sum((d["y"][:2] - p["mu"] - u) ** 2) + 0.5 * jnp.sum(u**2)

    refuse(r"random u\[2\] does not enter", idle)


@pytest.mark.parametrize("structure", [gj.Blocks(), gj.Banded(1), gj.Sparse(scipy.sparse.eye(3))])
def test_a_wrong_promise_is_caught(structure: Any) -> None:
    def coupled(p: Any, r: Any, d: Any) -> Any:
        return spring(p, r, d) + 0.1 * r["u"][0] * r["u"][2]

    refuse(r"does not hold: random u\[0\] is coupled", coupled, structure=structure)
    gj.fit(coupled, {"mu": 0.0}, U, {"y": Y}, gj.Dense())


def test_a_promise_that_only_breaks_away_from_the_start_is_caught() -> None:
    """At rho = 0 the effects are not coupled."""

    def chain(p: Any, r: Any, d: Any) -> Any:
        return spring({"mu": 0.0}, r, d) + 0.5 * jnp.sum((r["u"][1:] - p["rho"] * r["u"][:-1]) ** 2)

    for structure in (gj.Blocks(), gj.Banded(1)):
        if structure == gj.Banded(1):
            gj.fit(chain, {"rho": 0.0}, U, {"y": Y}, structure)
        else:
            with pytest.raises(gj.ArgumentError, match="does not hold"):
                gj.fit(chain, {"rho": 0.0}, U, {"y": Y}, structure)


def test_promises_that_do_not_fit_the_effects() -> None:
    refuse("the pattern is 4 x 4, but there are 3", spring, structure=gj.Sparse(scipy.sparse.eye(4)))
    refuse("at least two arrays", spring, structure=gj.Crossed())
    refuse("no first axis", spring, random={"u": np.zeros(3), "v": 0.0}, structure=gj.Blocks())
    refuse("must have the same length", spring, random={"u": np.zeros(3), "v": np.zeros(2)}, structure=gj.Blocks())
    refuse("structure must be", spring, structure=3)
    refuse("only 'detect'", spring, structure="blocks")
    refuse("structure= is not given", lambda p, r, d: jnp.sum(r["u"] ** 2) + p["mu"] ** 2, {"u": np.zeros(1001)})


def test_captured_data_are_warned_of() -> None:
    captured = np.linspace(0, 1, 30)

    def nll(p: Any, r: Any, d: Any) -> Any:
        return 0.5 * jnp.sum((jnp.asarray(captured) - p["mu"] - r["u"][0]) ** 2) + 0.5 * jnp.sum(r["u"] ** 2)

    def helped(p: Any, r: Any, d: Any) -> Any:
        return nll(p, r, d)

    def given(captured: Any, p: Any, r: Any, d: Any) -> Any:
        return 0.5 * jnp.sum((captured - p["mu"] - r["u"][0]) ** 2) + 0.5 * jnp.sum(r["u"] ** 2)

    for function in (nll, jax.jit(nll), helped):
        with pytest.warns(gj.GlmmjaxWarning, match=r"captured \(30,\).*pass them in data="):
            gj.fit(function, {"mu": 0.0}, {"u": np.zeros(1)}, {"y": Y})
    with pytest.warns(gj.GlmmjaxWarning, match=r"partial \(30,\)"):
        gj.fit(partial(given, captured), {"mu": 0.0}, {"u": np.zeros(1)}, {"y": Y})


def test_effects_may_be_one_array() -> None:
    def nll(p: Any, r: Any, d: Any) -> Any:
        return spring(p, {"u": r}, d)

    fit = gj.fit(nll, {"mu": 0.0}, np.zeros(3), {"y": Y})
    assert fit.llf == pytest.approx(gj.fit(spring, {"mu": 0.0}, U, {"y": Y}).llf)


def test_data_that_are_not_numbers() -> None:
    refuse("data: y holds", spring, data={"y": np.array(["a", "b", "c"])})
    with pytest.raises(gj.ArgumentError, match=r"params\['mu'\] must be numbers"):
        gj.fit(spring, {"mu": "zero"}, U, {"y": Y})
    with pytest.raises(gj.ArgumentError, match="not finite"):
        gj.fit(spring, {"mu": np.nan}, U, {"y": Y})
    with pytest.raises(gj.ArgumentError, match="nll must be a function"):
        gj.fit(3, {"mu": 0.0}, U, {"y": Y})  # type: ignore[arg-type]
    with pytest.raises(gj.ArgumentError, match="control"):
        gj.fit(spring, {"mu": 0.0}, U, {"y": Y}, control="fast")  # type: ignore[arg-type]
    with pytest.raises(gj.ArgumentError, match="no parameters are called 'sd'"):
        gj.fit(spring, {"mu": 0.0}, U, {"y": Y}, profile=["sd"])


def test_data_frames_are_taken(recwarn: Any) -> None:
    import pandas as pd

    fit = gj.fit(spring, {"mu": 0.0}, U, pd.DataFrame({"y": Y}))
    assert fit.params["mu"] == pytest.approx(Y.mean())
    assert not [w for w in recwarn if issubclass(w.category, gj.GlmmjaxWarning)]


def test_effects_without_a_prior_are_named_in_the_status() -> None:
    """Two effects of which only the sum is determined: the Hessian is singular at every point."""

    def loose(p: Any, r: Any, d: Any) -> Any:
        return 0.5 * jnp.sum((d["y"] - p["mu"] - r["u"][0] - r["u"][1]) ** 2) + 0.5 * r["u"][2] ** 2

    with pytest.warns(gj.GlmmjaxWarning, match="not positive definite"):
        fit = gj.fit(loose, {"mu": 0.0}, U, {"y": Y})
    assert not fit.converged and not fit.pd_hess
    assert "not positive definite" in fit.status and "u[0]" in fit.status and "u[1]" in fit.status
    assert np.all(np.isnan(fit.bse))


def test_parameters_that_are_not_identified_are_named() -> None:
    def twins(p: Any, r: Any, d: Any) -> Any:
        return spring({"mu": p["a"] + p["b"]}, r, d) + 0.5 * (p["c"] - 1.0) ** 2

    fit = gj.fit(twins, {"a": 0.0, "b": 0.0, "c": 0.0}, U, {"y": Y}, control=gj.Control(warn=False))
    assert not fit.pd_hess and "standard errors are not available" in fit.status
    assert "a and b" in fit.status and "c" not in fit.status.split(" in ")[-1]


# -- by observation ----------------------------------------------------------------------------------------------------
def observe(**changes: Any) -> gj.Fit:
    given = {
        "nll_obs": normal_row,
        "params": NORMAL_START,
        "random": {"group": 1},
        "data": normal_data(),
        **changes,
    }
    return gj.fit_observations(**given)


def test_the_first_bad_observation_is_named() -> None:
    y = normal_data()["y"].copy()
    y[7] = np.nan
    with pytest.raises(gj.DataError, match="first in observation 7"):
        observe(data={**normal_data(), "y": y})


def test_a_bad_prior_is_named() -> None:
    with pytest.raises(gj.DataError, match=r"in the prior of group\[0\]"):
        observe(prior=lambda params, b: jnp.sum(b**2) + jnp.log(params["beta"][0] ** 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"random": {"site": 1}}, "no column is called 'site'"),
        ({"random": {"group": 0}}, "number of effects"),
        ({"random": ["group"]}, "must map"),
        ({"groups": {"group": np.zeros(3)}}, r"has shape \(3,\)"),
        ({"groups": {"group": np.full(60, np.nan)}}, "is missing in observation 0"),
        ({"groups": {"herd": "group"}}, "'herd' is no factor"),
        ({"prior": {"herd": lambda p, b: 0.0}}, "'herd' is no factor"),
        ({"prior": 3}, "prior must be"),
        ({"weights": "w"}, "no column is called 'w'"),
        ({"weights": -np.ones(60)}, "at least 0"),
        ({"nll_obs": lambda p, e, r: e["group"]}, r"shape \(1,\)"),
        ({"prior": lambda p, b: b}, "the prior of 'group' must return one number"),
        ({"control": gj.Control(structure="bands")}, "structure must be one of"),
    ],
)
def test_arguments_by_observation(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(gj.GlmmjaxError, match=message):
        observe(**changes)


def test_weights_are_repetitions() -> None:
    data = {name: x[:20] for name, x in normal_data().items()}
    twice = {name: np.concatenate([x, x[:5]]) for name, x in data.items()}
    w = np.ones(20)
    w[:5] = 2.0
    weighted = observe(data=data, weights=w)
    repeated = observe(data=twice)
    assert weighted.llf == pytest.approx(repeated.llf, abs=1e-9)
    known = np.diag(repeated.hessian) > 1e-6  # one standard deviation does not matter for so few groups
    assert np.sum(known) == 3
    np.testing.assert_allclose(weighted.flat[known], repeated.flat[known], atol=1e-5)


def test_labels_may_be_words_and_need_not_be_columns_of_numbers() -> None:
    words = np.array([f"g{i:02d}" for i in normal_data()["group"]])
    fit = observe(data={**normal_data(), "group": words})
    assert fit.llf == pytest.approx(observe().llf, abs=1e-10)
    assert list(fit.ranef()["group"].index[:2]) == ["g00", "g01"]
    assert len(fit.ranef()["group"]) == GROUPS


def test_nothing_is_warned_of_in_a_sound_model() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        observe()
        gj.fit(normal_nll, NORMAL_START, {"u": np.zeros(GROUPS)}, normal_data(), gj.Blocks())
