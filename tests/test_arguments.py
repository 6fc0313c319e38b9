"""Arguments that only look like what they should be are refused, by every door, with their name."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import glmmjax as gj
from glmmjax._arguments import check_flags, numbers, whole

QUICK = gj.Control(compilation="quick")
DATA = {
    "y": np.array([2.1, 1.9, 3.2, 3.6, 1.1, 0.7, 2.8, 2.4, 1.5, 2.2, 3.0, 3.9]),
    "k": np.array([2, 1, 3, 4, 1, 0, 3, 2, 1, 2, 3, 4]),
    "x": np.tile([0.0, 1.0, 2.0], 4),
    "g": np.repeat(["a", "b", "c", "d"], 3),
}


@pytest.fixture(scope="module")
def fit() -> gj.Fit:
    return gj.glmm("y ~ x + (1 | g)", DATA, control=QUICK)


@pytest.fixture(scope="module")
def many() -> Any:
    return gj.fit_many("~ x + (1 | g)", DATA, np.stack([DATA["y"], DATA["y"] ** 2], axis=1), control=QUICK)


def glmm(**given: Any) -> Any:
    return gj.glmm(**{"formula": "y ~ x + (1 | g)", "data": DATA, **given})


def fit_many(**given: Any) -> Any:
    return gj.fit_many(**{"formula": "~ x + (1 | g)", "data": DATA, "responses": DATA["y"][:, None], **given})


DOORS = {
    "reml must be True or False": {"reml": "False"},
    "reml must be True": {"reml": 1},
    r"start\['theta'\] must be 1 finite numbers": {"start": {"theta": [0.0, 0.0]}},
    r"start\['beta'\] must be 2 finite numbers": {"start": {"beta": [0.0]}},
    r"start\['beta'\] must be 2 finite": {"start": {"beta": 0.0}},
    r"start\['theta'\] must be 1": {"start": {"theta": [np.inf]}},
    r"start\['theta'\] must be numbers": {"start": {"theta": [True]}},
    r"start\['beta'\] must be numbers": {"start": {"beta": ["1", "2"]}},
    r"no parameters are called 'bata'. Did you mean 'beta'": {"start": {"bata": [0.0, 0.0]}},
    r"not at -inf.*leave the term out of the formula": {"fixed": {"theta": [-np.inf]}},
    r"not at inf": {"fixed": {"beta": [np.inf, 0.0]}},
    r"fixed\['beta'\]: True and False must come in the shape": {"fixed": {"beta": [True]}},
    r"fixed\['beta'\] must be True, True and False": {"fixed": {"beta": [True, 2.0]}},
    r"fixed\['theta'\] must be True,": {"fixed": {"theta": [1j]}},
    r"fixed must map names": {"fixed": "beta"},
    "offset= must be numbers": {"offset": np.full(12, 1j)},
    "offset= must be": {"offset": ["1"] * 12},
    "weights= must be": {"weights": np.full(12, 1 + 0j)},
    "has no options, but the formula gives nonsense = 7": {"formula": " ~ x + us(1 | g, nonsense = 7)"},
    "contrasts must map names": {"contrasts": "sum"},
    "covariances must map names": {"covariances": ["us"]},
    "offset= is not one number for each row: the column 'o' holds text": {
        "offset": "o",
        "data": {**DATA, "o": ["1"] * 12},
    },
    "the mean of 'normal.nan, 1.' must be a finite number": {"priors": {"beta": "normal(nan, 1)"}},
    "has no options, but": {"formula": " ~ x + diag(1 + x | g, 2)"},
}


@pytest.mark.parametrize("door", [glmm, fit_many], ids=["glmm", "fit_many"])
@pytest.mark.parametrize("message", DOORS)
def test_the_doors_of_formulas_refuse(door: Any, message: str) -> None:
    given = dict(DOORS[message])
    if "formula" in given and door is glmm:
        given["formula"] = "y" + given["formula"]
    with pytest.raises(gj.GlmmjaxError, match=f"(?s){message}"):
        door(**given)


def test_effects_of_thresholds_need_thresholds() -> None:
    with pytest.raises(gj.ArgumentError, match="nominal: the family 'poisson' has no thresholds"):
        fit_many(responses=DATA["k"][:, None], family="poisson", nominal="~ x")


def test_a_mask_holds_what_it_says() -> None:
    start = {"beta": [1.0, 0.25]}
    free = gj.glmm("y ~ x", DATA, start=start, fixed={"beta": False}, control=QUICK)
    half = gj.glmm("y ~ x", DATA, start=start, fixed={"beta": [False, True]}, control=QUICK)
    held = gj.glmm("y ~ x", DATA, start=start, fixed={"beta": np.True_}, control=QUICK)
    X = np.column_stack([np.ones(12), DATA["x"]])
    np.testing.assert_allclose(free.params, np.linalg.lstsq(X, DATA["y"], rcond=None)[0], atol=1e-6)
    assert free.df == 3 and half.df == 2 and held.df == 1
    np.testing.assert_allclose(half.params, [np.mean(DATA["y"] - 0.25 * DATA["x"]), 0.25], atol=1e-6)
    np.testing.assert_array_equal(held.params, [1.0, 0.25])


FITS = {
    "tidy: conf_int must be": lambda fit: fit.tidy(conf_int="no"),
    "tidy: exponentiate must be": lambda fit: fit.tidy(exponentiate="False"),
    "tidy: effects must be one of": lambda fit: fit.tidy(effects=None),
    "level must lie between 0 and 1": lambda fit: fit.tidy(level="0.95"),
    "level must lie between": lambda fit: fit.conf_int(level=np.nan),
    "level must lie": lambda fit: fit.conf_int(level=95),
    "level must": lambda fit: fit.profile("x", level=0.9 + 0j),
    "predict: se must be": lambda fit: fit.predict(se="False"),
    "predict: allow_new_levels must be": lambda fit: fit.get_prediction(DATA, allow_new_levels="no"),
    "ranef: cond_var must be": lambda fit: fit.ranef(cond_var="False"),
    "cov_params: full must be": lambda fit: fit.cov_params(full="False"),
    "sdreport: bias_correct must be": lambda fit: fit.sdreport(bias_correct="False"),
    "sdreport: joint_precision must be": lambda fit: fit.sdreport(joint_precision=0),
    "sdreport: report must be a function": lambda fit: fit.sdreport("mean"),
    "simulate: n must be": lambda fit: fit.simulate(2.5),
    "simulate: n must be a whole": lambda fit: fit.simulate(np.True_),
    "simulate: seed must be": lambda fit: fit.simulate(seed="a"),
    "resid: seed must be": lambda fit: fit.resid("quantile", seed=-1),
    "refit: the response must be numbers": lambda fit: fit.refit(DATA["y"] + 0j),
    "coefficient of 'x' must be numbers": lambda fit: fit.conf_int(parameters=[{"x": "2"}]),
    "must be finite and not all zero": lambda fit: fit.conf_int(parameters=[{"x": np.nan}]),
    "of which one is not zero": lambda fit: fit.profile([1j, 0, 0, 0]),
    "consistency: seed must": lambda fit: gj.check.consistency(fit, 20, seed=0.5),
    "consistency: a fit is needed": lambda fit: gj.check.consistency("fit"),
    "progress must be": lambda fit: gj.bootstrap(fit, 3, progress="no"),
    "simulate: n must": lambda fit: gj.bootstrap(fit, 1e3),
    "power: n must be": lambda fit: gj.power(fit, {"x": 1.0}, n=10.0),
    "power: alpha must": lambda fit: gj.power(fit, {"x": 1.0}, alpha="0.05"),
    r"power: params\['x'\] must be numbers": lambda fit: gj.power(fit, {"x": "0.3"}),
    "df_complete must be": lambda fit: gj.pool([fit, fit], df_complete="10"),
}


@pytest.mark.parametrize("message", FITS)
def test_what_is_asked_of_a_fit(message: str, fit: gj.Fit) -> None:
    with pytest.raises(gj.ArgumentError, match=message):
        FITS[message](fit)


MANY = {
    "tidy: exponentiate must be": lambda many: many.tidy(exponentiate="no"),
    "weights must be numbers": lambda many: many.contrast(["1", "0"]),
    "weights must be finite": lambda many: many.contrast([np.nan, 1.0]),
    "weight of 'x' must be one finite number": lambda many: many.contrast({"x": np.inf}),
    "result of fit_many": lambda many: many.likelihood_ratio_test(None),
}


@pytest.mark.parametrize("message", MANY)
def test_what_is_asked_of_many(message: str, many: Any) -> None:
    with pytest.raises(gj.ArgumentError, match=message):
        MANY[message](many)


CONTROLS: list[dict[str, Any]] = [{"tol": "1e-8"}, {"tol": np.nan}, {"tol": 1e-8j}, {"max_iter": 3.0}]
CONTROLS += [{"max_iter": True}, {"structure": 3}, {"device": 0}, {"progress": "False"}]


@pytest.mark.parametrize("given", CONTROLS, ids=str)
def test_settings(given: dict[str, Any]) -> None:
    with pytest.raises(gj.ArgumentError, match=next(iter(given)) if "progress" not in given else "progress must be"):
        gj.Control(**given)
    assert gj.Control(max_iter=np.int64(5)).max_iter == 5


def test_likelihoods() -> None:
    def nll(p: Any, r: Any, d: Any) -> Any:
        return jnp.sum((d["y"] - p["mu"]) ** 2)

    for message, given in {
        r"params\['mu'\]": {"params": {"mu": True}},
        r"params\['mu'\] must": {"params": {"mu": 1j}},
        "nobs must be": {"nobs": "12"},
        "nobs must": {"nobs": np.nan},
        "no parameters are called 'beta'": {"profile": "beta"},
        r"fixed\['mu'\]: a parameter is held at a finite": {"fixed": {"mu": -np.inf}},
        "data: y holds complex": {"data": {"y": DATA["y"] + 0j}},
    }.items():
        with pytest.raises(gj.ArgumentError, match=message):
            gj.fit(**{"nll": nll, "params": {"mu": 0.0}, "data": {"y": DATA["y"]}, **given})


@pytest.mark.parametrize("bad", [True, [1, True], "1", ["1"], 1j, [None], object(), np.array([1, "a"], dtype=object)])
def test_plain_numbers(bad: Any) -> None:
    with pytest.raises(gj.ArgumentError, match="what must be numbers"):
        numbers("what", bad)
    np.testing.assert_array_equal(numbers("what", [True, 2], flags=True), [1.0, 2.0])
    np.testing.assert_array_equal(numbers("what", np.array([1, 2.5], dtype=object)), [1.0, 2.5])


def test_flags_and_whole_numbers() -> None:
    check_flags("f", a=np.bool_(True), b=False)
    assert whole("n", np.int32(4)) == 4
    for bad in (0, -1, 1.0, True, np.False_, "3", None):
        with pytest.raises(gj.ArgumentError, match="whole number"):
            whole("n", bad)
