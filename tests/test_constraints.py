"""Parameters that are held or tied."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from likelihoods import GROUPS, NORMAL_START, normal_data, normal_nll

import glmmjax as gj
from glmmjax.constraints import constrain

VALUES = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array(4.0), "c": np.array([5.0, 6.0, 7.0])}


@pytest.mark.parametrize(
    ("fixed", "flat", "free"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7], 7),
        ({"b": True}, [1, 2, 3, 4, 5, 6, 7], 6),
        ({"b": 9.0}, [1, 2, 3, 9, 5, 6, 7], 6),
        ({"a": [np.nan, 0.0, np.nan]}, [1, 0, 3, 4, 5, 6, 7], 6),
        ({"c": "a"}, [1, 2, 3, 4, 1, 2, 3], 4),
        ({"c": "a", "a": 0.0}, [0, 0, 0, 4, 0, 0, 0], 1),
        ({"a": gj.tied([0, 0, None])}, [1, 1, 3, 4, 5, 6, 7], 6),
    ],
)
def test_flat_values_and_directions(fixed: Any, flat: list[float], free: int) -> None:
    start, M = constrain(VALUES, fixed)
    np.testing.assert_array_equal(start, flat)
    assert M.shape == (7, free)
    assert np.linalg.matrix_rank(M) == free if free else True


def test_tied_entries_move_together() -> None:
    _, M = constrain(VALUES, {"c": "a", "b": True})
    np.testing.assert_array_equal(M[:3], M[4:])
    assert not np.any(M[3])


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"d": 1.0}, "no parameters are called 'd'"),
        ({"a": [1.0, 2.0]}, "shape"),
        ({"a": "b"}, "shape"),
        ({"a": "z"}, "no parameters are called 'z'"),
        ({"a": "c", "c": "a"}, "follows other parameters"),
        ({"a": gj.tied([0, 1])}, "2 labels for 3 values"),
        ({"a": object()}, "must be True"),
    ],
)
def test_what_cannot_be_held(fixed: Any, message: str) -> None:
    with pytest.raises(gj.ArgumentError, match=message):
        constrain(VALUES, fixed)


def test_a_held_parameter_is_where_it_was_put_and_has_no_standard_error() -> None:
    fit = gj.fit(
        normal_nll, NORMAL_START, {"u": np.zeros(GROUPS)}, normal_data(), gj.Blocks(), fixed={"beta": [np.nan, 0.3]}
    )
    assert fit.status == "converged" and fit.df == 3
    assert fit.params["beta[1]"] == 0.3 and np.isnan(fit.bse["beta[1]"])
    shifted = {**normal_data(), "y": normal_data()["y"] - 0.3 * normal_data()["x"]}

    def without(params: Any, random: Any, data: Any) -> Any:
        return normal_nll({**params, "beta": jnp.stack([params["mu"], 0.0])}, random, data)

    other = gj.fit(without, {"mu": 0.0, "log_sd": np.zeros(2)}, {"u": np.zeros(GROUPS)}, shifted, gj.Blocks())
    assert fit.llf == pytest.approx(other.llf, abs=1e-9)
    np.testing.assert_allclose(fit.bse[["beta[0]", "log_sd[0]"]], other.bse[["mu", "log_sd[0]"]], rtol=1e-5)
    assert "held or tied" in fit.summary().as_text()


def test_tied_parameters_share_value_and_error() -> None:
    fit = gj.fit(
        normal_nll,
        NORMAL_START,
        {"u": np.zeros(GROUPS)},
        normal_data(),
        gj.Blocks(),
        fixed={"log_sd": gj.tied(["sd", "sd"])},
    )
    assert fit.df == 3 and fit.params["log_sd[0]"] == fit.params["log_sd[1]"]
    assert fit.bse["log_sd[0]"] == pytest.approx(fit.bse["log_sd[1]"])


def test_formula_models_take_fixed_too() -> None:
    data = gj.datasets.load("dyestuff")
    fit = gj.glmm("Yield ~ 1 + (1 | Batch)", data, fixed={"beta": 1500.0})
    free = gj.glmm("Yield ~ 1 + (1 | Batch)", data)
    assert fit.params.iloc[0] == 1500.0 and fit.df == free.df - 1 and fit.llf < free.llf
    assert np.isnan(fit.bse.iloc[0])
