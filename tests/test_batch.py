"""Many fits at once: equal to single fits, whatever shares the batch; bad lanes are named; runs can be resumed."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

import glmmjax as gj
from glmmjax.batch import adjust, engine

FORMULA = "~ mined + DOP + (1 | site)"
M = 24


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return gj.datasets.load("salamanders")


@pytest.fixture(scope="module")
def Y(data: pd.DataFrame) -> np.ndarray:
    return gj.glmm(f"count {FORMULA}", data, "nbinom2").simulate(M, seed=3).T


@pytest.fixture(scope="module")
def many(data: pd.DataFrame, Y: np.ndarray) -> gj.Many:
    return gj.fit_many(FORMULA, data, Y, "nbinom2")


def single(data: pd.DataFrame, y: np.ndarray, family: str = "nbinom2", formula: str = FORMULA, **rest: Any) -> Any:
    return gj.glmm(f"y {formula}", data.assign(y=y), family, **rest)


@pytest.mark.parametrize("lane", [0, 7, M - 1])
def test_lanes_equal_single_fits(many: gj.Many, data: pd.DataFrame, Y: np.ndarray, lane: int) -> None:
    fit = single(data, Y[:, lane])
    assert many.status[lane] == fit.status == "converged"
    assert many.llf[lane] == pytest.approx(fit.llf, abs=1e-8)
    assert many.aic[lane] == pytest.approx(fit.aic, abs=1e-7)
    assert np.max(np.abs(many.params.loc[lane] - fit.params) / fit.bse) < 1e-4
    np.testing.assert_allclose(many.bse.loc[lane], fit.bse, rtol=1e-5)
    np.testing.assert_allclose(many.sd[lane], fit.terms[0].sd, rtol=1e-4)
    assert many.sigma[lane] == pytest.approx(fit.sigma, rel=1e-4)
    whole = many[lane]
    assert whole.llf == pytest.approx(fit.llf, abs=1e-8) and "site" in whole.summary().as_text()


def test_results_do_not_depend_on_what_shares_the_batch(many: gj.Many, data: pd.DataFrame, Y: np.ndarray) -> None:
    few = gj.fit_many(FORMULA, data, Y[:, [11, 2]], "nbinom2", keys=["b", "a"])
    np.testing.assert_allclose(few.llf, many.llf[[11, 2]], rtol=0, atol=1e-8)
    assert list(few) == ["b", "a"]


def test_more_lanes_than_slots(many: gj.Many, data: pd.DataFrame, Y: np.ndarray, monkeypatch: Any) -> None:
    """A few slots that lanes pass through, those left at the end being finished one by one."""
    monkeypatch.setattr(engine, "ROWS_IN_SLOTS", 8 * len(data))
    monkeypatch.setattr(engine, "MOST_STEPS", 5)
    again = gj.fit_many(FORMULA, data, Y, "nbinom2")
    np.testing.assert_allclose(again.llf, many.llf, rtol=0, atol=1e-8)
    np.testing.assert_allclose(again.params, many.params, rtol=0, atol=1e-4 * many.bse.to_numpy().max())


def test_other_storage_gives_the_same(many: gj.Many, data: pd.DataFrame, Y: np.ndarray) -> None:
    frame = pd.DataFrame(Y[:, :4], columns=list("abcd"))
    for given in (sparse.csr_matrix(Y[:, :4]), Y[:, :4].astype(np.uint16), frame, Y[:, :4].astype(np.float32)):
        other = gj.fit_many(FORMULA, data, given, "nbinom2")
        np.testing.assert_allclose(other.llf, many.llf[:4], rtol=0, atol=1e-8)
    assert gj.fit_many(FORMULA, data, frame, "nbinom2").keys == ("a", "b", "c", "d")


def test_missing_responses_are_left_out(data: pd.DataFrame, Y: np.ndarray) -> None:
    holes = Y[:, :5].astype(float)
    holes[np.random.default_rng(0).uniform(size=holes.shape) < 0.1] = np.nan
    holes[:, 4] = np.nan
    found = gj.fit_many(FORMULA, data, holes, "nbinom2")
    assert found.failed.to_dict() == {4: "not fitted: every response is missing"}
    for lane in (0, 3):
        seen = ~np.isnan(holes[:, lane])
        fit = single(data[seen], holes[seen, lane])
        assert found.llf[lane] == pytest.approx(fit.llf, abs=1e-8)
        assert found.nobs[lane] == fit.nobs == found[lane].nobs
        assert found[lane].llf == pytest.approx(fit.llf, abs=1e-8)


def test_planted_failures_are_named_and_cost_nobody_else(many: gj.Many, data: pd.DataFrame, Y: np.ndarray) -> None:
    bad = Y.astype(float)
    bad[:, 1] = np.nan
    bad[5, 2] = -1.0
    bad[6, 3] = 0.5
    bad[7, 4] = np.inf
    bad[:, 5] = 0.0
    bad[:, 6] = np.where(data.mined == "no", 0.0, bad[:, 6])  # separated
    found = gj.fit_many(FORMULA, data, bad, "nbinom2")
    assert set(found.failed.index) == {1, 2, 3, 4, 5, 6}
    assert "every response is missing" in found.status[1]
    assert "row 5 is -1" in found.status[2] and "row 6 is 0.5" in found.status[3] and "row 7 is inf" in found.status[4]
    assert found.status[5] != "converged"
    assert "separation" in found.status[6]
    good = [0, *range(7, M)]
    np.testing.assert_allclose(found.llf[good], many.llf[good], rtol=0, atol=1e-8)
    with pytest.raises(gj.ArgumentError, match="not fitted"):
        found[2]
    with pytest.raises(gj.ArgumentError, match="no fit is called"):
        found["other"]


MODELS: list[tuple[str, str, dict[str, Any]]] = [
    ("~ mined + (1 | site)", "poisson", {"ziformula": "~ 1"}),
    ("~ mined + (DOP | site)", "poisson", {}),
    ("~ mined + (1 | spp) + (1 | site)", "poisson", {}),
    ("~ mined + (1 | site)", "nbinom2", {"dispformula": "~ mined"}),
    ("~ mined + (1 | site)", "poisson", {"priors": {"beta": "normal(0, 1)"}}),
    ("~ mined + (1 | site)", "nbinom2", {"fixed": {"beta_disp": [0.3]}}),
    ("~ mined", "poisson", {"offset": "DOP"}),
]


@pytest.mark.parametrize(("formula", "family", "rest"), MODELS, ids=lambda x: str(x)[:40])
def test_any_model_that_a_single_fit_can_be(
    data: pd.DataFrame, Y: np.ndarray, formula: str, family: str, rest: dict[str, Any]
) -> None:
    found = gj.fit_many(formula, data, Y[:, :3], family, **rest)
    fit = single(data, Y[:, 1], family, formula, **rest)
    assert found.status[1] == fit.status
    # with a prior the optimum is one of another function, so that llf moves to first order around it
    assert found.llf[1] == pytest.approx(fit.llf, abs=1e-5 if "priors" in rest else 1e-8)
    assert np.max(np.abs(found.params.loc[1] - fit.params) / fit.bse) < 1e-4
    np.testing.assert_allclose(found.bse.loc[1], fit.bse, rtol=1e-4)


def test_successes_among_trials() -> None:
    data = gj.datasets.load("cbpp")
    Y = np.stack([data.incidence, np.minimum(data.incidence + 1, data["size"])], axis=1)
    found = gj.fit_many("~ period + (1 | herd)", data, Y, "binomial", trials=data["size"])
    fit = gj.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)", data, "binomial")
    assert found.llf[0] == pytest.approx(fit.llf, abs=1e-8)


def test_restricted_likelihoods() -> None:
    data = gj.datasets.load("sleepstudy")
    Y = np.stack([data.Reaction, data.Reaction + 20.0 * np.sin(np.arange(len(data)))], axis=1)
    found = gj.fit_many("~ Days + (Days | Subject)", data, Y, reml=True)
    fit = gj.glmm("y ~ Days + (Days | Subject)", data.assign(y=Y[:, 1]), reml=True)
    assert found.status[1] == fit.status and found.df[1] == fit.df
    assert found.llf[1] == pytest.approx(fit.llf, abs=1e-8) and found[1].llf == pytest.approx(fit.llf, abs=1e-8)
    np.testing.assert_allclose(found.params.loc[1], fit.params, rtol=1e-6)
    np.testing.assert_allclose(found.bse.loc[1], fit.bse, rtol=1e-4)
    with pytest.raises(gj.ArgumentError, match="cannot be compared"):
        found.likelihood_ratio_test(gj.fit_many("~ 1 + (Days | Subject)", data, Y, reml=True))


def test_categories_of_which_some_do_not_occur_everywhere() -> None:
    data, formula = gj.datasets.load("wine"), "~ temp + contact + (1 | judge)"
    fit = gj.clmm(f"rating {formula}", data)
    Y = fit.simulate(5, seed=3).T + 1.0
    Y[Y[:, 3] == 5, 3] = 4.0
    Y[2, 2] = np.nan
    Y[:, 4] = 2.0
    found = gj.fit_many(formula, data, Y, gj.families.cumulative("logit"))
    assert found.status[4] == "not fitted: one category only, 2" and found.df[:4].tolist() == [7, 7, 7, 6]
    for lane in (0, 2, 3):
        kept = np.isfinite(Y[:, lane])
        alone = gj.clmm(f"y {formula}", data[kept].assign(y=Y[kept, lane]))
        assert found.llf[lane] == pytest.approx(alone.llf, abs=1e-8) and found.status[lane] == alone.status
        np.testing.assert_allclose(found.params.loc[lane], alone.params, rtol=1e-5)
    spread = gj.bootstrap(fit, 60, seed=1).summary()
    assert np.all(np.abs(spread["std_error"][:2] / fit.bse - 1.0) < 0.4)


def test_unordered_categories_and_censoring_by_key() -> None:
    data = gj.datasets.load("sleepstudy")
    data = pd.concat([data.assign(k=k, Reaction=data.Reaction + 5.0 * k) for k in range(2)], ignore_index=True)
    data["state"] = np.where(
        data.Reaction > 350, "slow", np.where((data.k == 0) & (data.Reaction < 260), "quick", "so")
    )
    data["censored"] = np.where(data.Reaction > 350, "right", "none")
    for formula, family in (
        ("state ~ Days + (1 | Subject)", "categorical"),
        ("cens(Reaction, censored) ~ Days + (1 | Subject)", "censored_gaussian"),
    ):
        found = gj.fit_many(formula, data, family=family, by="k")
        for k in range(2):
            alone = gj.glmm(formula, data[data.k == k], family)
            assert found.llf[k] == pytest.approx(alone.llf, abs=1e-8) and found.status[k] == alone.status


@pytest.mark.slow
def test_a_thousand_of_which_a_few_are_broken(data: pd.DataFrame) -> None:
    """Exactly the planted ones are named, each for its own reason, and the others are as they were without them."""
    formula, fit = "~ mined + (1 | site)", gj.glmm("count ~ mined + (1 | site)", data, "nbinom2")
    Y = fit.simulate(1_000, seed=8).T
    sound = gj.fit_many(formula, data, Y, "nbinom2")
    planted = {7: "zero", 205: "constant", 390: "nan", 555: "separated", 800: "negative", 999: "fraction"}
    Y[:, 7], Y[:, 205], Y[:, 390] = 0.0, 3.0, np.nan
    Y[:, 555] = np.where(data.mined == "yes", 0.0, Y[:, 555] + 1.0)
    Y[3, 800], Y[3, 999] = -1.0, 0.5
    found = gj.fit_many(formula, data, Y, "nbinom2")
    others = np.setdiff1d(np.arange(1_000), list(planted))
    assert (found.status[others] == sound.status[others]).all()
    np.testing.assert_allclose(found.llf[others], sound.llf[others], rtol=0, atol=1e-8)
    assert not set(planted) & set(found.status.index[found.status == "converged"])
    assert "every response is missing" in found.status[390] and "separation" in found.status[555]
    assert "is -1" in found.status[800] and "is 0.5" in found.status[999]
    assert "standard deviation of (1 | site) is zero" in found.status[205]


def test_a_data_set_for_every_key() -> None:
    """Ragged sizes, levels that differ, and one that cannot be fitted; in the order of the keys."""
    data = gj.datasets.load("salamanders").sort_values("spp", kind="stable").reset_index(drop=True)
    data = data.drop(index=data.index[(data.spp == "PR") & (np.arange(len(data)) % 3 == 0)])
    data["count"] = np.where(data.spp == "DM", -1, data["count"])
    found = gj.fit_many("count ~ DOP + (1 | site)", data, by="spp", family="poisson")
    assert list(found) == list(dict.fromkeys(data.spp))
    assert "must be whole numbers" in found.status["DM"] and np.isnan(found.params.loc["DM"]).all()
    for key in ("GP", "PR"):
        fit = gj.glmm("count ~ DOP + (1 | site)", data[data.spp == key], "poisson")
        assert found.llf[found.keys.index(key)] == pytest.approx(fit.llf, abs=1e-8)
        assert found[key].nobs == fit.nobs == found.nobs[found.keys.index(key)]
    assert found.glance().index.tolist() == list(found)


def test_tables_and_tests(many: gj.Many, data: pd.DataFrame, Y: np.ndarray) -> None:
    tidy = many.tidy()
    assert len(tidy) == M * 3 and list(tidy["key"][:3]) == [0, 0, 0]
    row = tidy.iloc[4]
    fit = single(data, Y[:, 1])
    assert row.term == fit.params.index[1]
    assert row.p_value == pytest.approx(2 * stats.norm.sf(abs(row.estimate / row.std_error)))
    mined = many.effect_names[1]
    contrast = many.contrast({mined: 1.0, "DOP": -1.0})
    c = np.array([0.0, 1.0, -1.0])
    assert contrast.std_error[1] == pytest.approx(np.sqrt(c @ fit.cov_params().to_numpy() @ c), rel=1e-5)
    wald = many.wald_test([mined])
    np.testing.assert_allclose(wald.statistic, tidy[tidy.term == mined].statistic.to_numpy() ** 2, rtol=1e-9)
    smaller = gj.fit_many("~ DOP + (1 | site)", data, Y, "nbinom2")
    lrt = many.likelihood_ratio_test(smaller)
    assert lrt.statistic[0] == pytest.approx(2 * (many.llf[0] - smaller.llf[0])) and lrt.df[0] == 1
    with pytest.raises(gj.ArgumentError, match="fewer parameters"):
        smaller.likelihood_ratio_test(many)
    with pytest.raises(gj.ArgumentError, match="no effect"):
        many.contrast({"minde": 1.0})


def test_adjusted_p_values_are_those_of_scipy() -> None:
    p = np.random.default_rng(2).uniform(size=40) ** 3
    np.testing.assert_allclose(adjust(p), stats.false_discovery_control(p))


def test_weights_of_each_response(data: pd.DataFrame, Y: np.ndarray) -> None:
    """Weights repeat rows, and a weight of zero leaves one out."""
    weights = np.random.default_rng(2).integers(0, 3, size=(len(data), 2)).astype(float)
    many = gj.fit_many("~ mined + (1 | site)", data, Y[:, :2], "poisson", weights=weights)
    for lane in range(2):
        rows = np.repeat(np.arange(len(data)), weights[:, lane].astype(int))
        fit = single(data.iloc[rows], Y[rows, lane], "poisson", "~ mined + (1 | site)")
        assert many.llf[lane] == pytest.approx(fit.llf, abs=1e-8)
        np.testing.assert_allclose(many.params.loc[lane], fit.params, atol=1e-6)
    assert many[0].llf == pytest.approx(many.llf[0], abs=1e-8)


def test_a_level_that_only_missing_responses_had_costs_its_column(data: pd.DataFrame, Y: np.ndarray) -> None:
    some = Y[:, :3].astype(float)
    gone = (data["spp"] == "GP").to_numpy()
    some[gone, 1] = np.nan
    many = gj.fit_many("~ spp + (1 | site)", data, some, "poisson")
    fit = single(data[~gone], some[~gone, 1], "poisson", "~ spp + (1 | site)")
    assert many.llf[1] == pytest.approx(fit.llf, abs=1e-8) and many.df[1] == fit.df and many.converged[1]
    assert np.isnan(many.params.loc[1, "spp[T.GP]"])
    np.testing.assert_allclose(many.bse.loc[1].dropna(), fit.bse, rtol=1e-4)
    assert many[1].llf == pytest.approx(fit.llf, abs=1e-8)
    strict = gj.Control(rank_deficient="raise")
    assert "'spp[T.GP]' cannot be told" in gj.fit_many("~ spp", data, some, "poisson", control=strict).status[1]


def test_proportions_have_their_trials_as_weights() -> None:
    cbpp = gj.datasets.load("cbpp")
    fit = gj.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)", cbpp, "binomial")
    share = (cbpp["incidence"] / cbpp["size"]).to_numpy()[:, None]
    for given in (
        {"responses": share, "weights": "size"},
        {"responses": cbpp[["incidence"]], "trials": "size"},
    ):
        assert gj.fit_many("~ period + (1 | herd)", cbpp, family="binomial", **given).llf[0] == pytest.approx(fit.llf)


def test_responses_of_every_kind_of_frame(data: pd.DataFrame, Y: np.ndarray) -> None:
    known = gj.fit_many("~ mined", data, Y[:, :2], "poisson").llf
    numbered = pd.DataFrame(Y[:, :2], index=data.index)
    assert gj.fit_many("~ mined", data, numbered, "poisson").keys == (0, 1)
    masked = np.ma.masked_array(Y[:, :2], mask=Y[:, :2] > 7)
    missing = np.where(Y[:, :2] > 7, np.nan, Y[:, :2])
    with_mask, with_nan = (gj.fit_many("~ mined", data, given, "poisson").llf for given in (masked, missing))
    np.testing.assert_array_equal(with_mask, with_nan)
    assert np.all(with_mask != known)
    moved = data.set_index(np.arange(len(data)) + 1)
    with pytest.raises(gj.DataError, match="different indexes"):
        gj.fit_many("~ mined", moved, numbered.set_index(np.arange(len(data)) + 2), "poisson")
    np.testing.assert_array_equal(gj.fit_many("~ mined", moved, numbered.set_index(moved.index), "poisson").llf, known)


def test_likelihood_ratio_tests_know_their_data(data: pd.DataFrame, Y: np.ndarray) -> None:
    short = data.assign(DOP=data["DOP"].mask(np.arange(len(data)) < 50))
    larger, smaller = (gj.fit_many(f"~ {right}", short, Y[:, :2], "poisson") for right in ("DOP", "1"))
    with pytest.raises(gj.ArgumentError, match="other rows"):
        larger.likelihood_ratio_test(smaller)
    with pytest.raises(gj.ArgumentError, match="other responses"):
        gj.fit_many("~ mined", data, Y[:, :2], "poisson").likelihood_ratio_test(
            gj.fit_many("~ 1", data, Y[:, 1::-1], "poisson")
        )


def test_several_columns_as_keys(data: pd.DataFrame, tmp_path: Path) -> None:
    some = data.assign(spp=data["spp"].where(data["spp"].isin(["PR", "DM"])))
    with pytest.warns(gj.GlmmjaxWarning, match="have no value of spp and mined"):
        many = gj.fit_many("count ~ cover", some, by=["spp", "mined"], family="poisson", weights=[1.0] * len(data))
    assert set(many.tidy()["key"]) == set(many.keys) and ("PR", "yes") in many.keys
    assert pickle.loads(pickle.dumps(many))[("PR", "no")].llf == pytest.approx(many.llf[many.keys.index(("PR", "no"))])


def test_no_fixed_effects(data: pd.DataFrame, Y: np.ndarray) -> None:
    many = gj.fit_many("~ 0 + (1 | site)", data, Y[:, :2], "poisson")
    assert many.llf[0] == pytest.approx(single(data, Y[:, 0], "poisson", "~ 0 + (1 | site)").llf, abs=1e-8)


def test_thresholds_with_effects_of_their_own() -> None:
    wine = gj.datasets.load("wine")
    fit = gj.clmm("rating ~ temp + (1 | judge)", wine, nominal="~ contact")
    many = gj.fit_many("~ temp + (1 | judge)", wine, wine[["rating"]], "cumulative", nominal="~ contact")
    assert many.llf[0] == pytest.approx(fit.llf, abs=1e-8)
    assert fit.refit(fit.design.y).llf == pytest.approx(fit.llf, abs=1e-8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"formula": "count ~ mined"}, "begins with '~'"),
        ({"responses": None}, "either responses="),
        ({"by": "spp"}, "either responses="),
        ({"responses": np.ones(3)}, "a column for each fit"),
        ({"responses": np.ones((3, 2))}, "has 3 rows"),
        ({"family": "censored_gaussian"}, "are intervals"),
        ({"family": "cumulative", "responses": np.ones((644, 2))}, "one category only, 1"),
        ({"keys": ["a", "a"]}, "names two fits alike"),
        ({"keys": ["a"]}, "has 1 names"),
        ({"trials": np.ones(644)}, "counts? successes|count successes"),
        ({"control": gj.Control(optimizer="scipy-bfgs")}, "optimizer of a batch"),
        ({"control": gj.Control(device="elsewhere")}, "device 'elsewhere' is not there"),
        ({"start": {"gamma": 1.0}}, "no parameters are called"),
        ({"responses": np.ones((644, 0))}, "a column for each fit"),
        ({"responses": pd.DataFrame({"a": ["x"] * 644})}, "the column 'a' holds text"),
        ({"weights": np.ones((644, 3))}, "weights= has the shape"),
        ({"weights": -np.ones((644, 2))}, "must not be negative"),
        ({"family": "binomial", "trials": "size"}, "Unknown column 'size' in trials="),
        ({"checkpoint": "/nowhere/at/all"}, "there is no folder"),
        ({"responses": None, "by": [], "formula": "count ~ mined"}, "names no column"),
        ({"responses": None, "by": "spp", "formula": "count ~ mined", "weights": np.ones(3)}, "weights= has 3 values"),
    ],
)
def test_bad_input(data: pd.DataFrame, Y: np.ndarray, change: dict[str, Any], message: str) -> None:
    given = {"formula": "~ mined", "data": data, "responses": Y[:, :2], "family": "poisson", **change}
    with pytest.raises((gj.ArgumentError, gj.DataError), match=message):
        gj.fit_many(given.pop("formula"), given.pop("data"), **given)


RUN = """
import sys, numpy as np, glmmjax as gj
from glmmjax.batch import engine
engine.SAVE_EVERY, engine.ROWS_IN_SLOTS = 0.0, 4 * 644
data = gj.datasets.load("salamanders")
Y = np.random.default_rng(5).poisson(2.0, size=(644, 40))
step = engine._Slots.advance
def slow(self):
    step(self)
    print(int(self.results.done.sum()), flush=True)
if len(sys.argv) > 2:
    engine._Slots.advance = slow
many = gj.fit_many("~ mined + (1 | site)", data, Y, "nbinom2", checkpoint=sys.argv[1])
np.save(sys.argv[1] + ".npy", np.column_stack([many.llf, many.params, many.bse]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path, how: signal.Signals) -> None:
    def command(name: str, *more: str) -> list[str]:
        return [sys.executable, "-c", RUN, str(tmp_path / name), *more]

    subprocess.run(command("whole"), check=True)
    with subprocess.Popen(command("part", "slowly"), stdout=subprocess.PIPE, text=True) as stopped:
        assert stopped.stdout is not None
        for line in stopped.stdout:
            if int(line) >= 8:
                os.kill(stopped.pid, how)
                break
        stopped.stdout.read()
    assert (tmp_path / "part").exists() and int(line) < 40
    subprocess.run(command("part"), check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "part.npy"), np.load(tmp_path / "whole.npy"))


def test_a_checkpoint_of_something_else_is_refused(data: pd.DataFrame, Y: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "run"
    gj.fit_many("~ mined", data, Y[:, :2], "poisson", checkpoint=file)
    with pytest.raises(gj.ArgumentError, match="other data or another model"):
        gj.fit_many("~ mined", data, Y[:, 2:4], "poisson", checkpoint=file)
    file.write_bytes(b"something")
    with pytest.raises(gj.ArgumentError, match="not a checkpoint"):
        gj.fit_many("~ mined", data, Y[:, :2], "poisson", checkpoint=file)


def test_a_checkpoint_knows_the_weights_and_every_layout(data: pd.DataFrame, Y: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / "run"
    gj.fit_many("~ mined", data, Y[:, :2], "poisson", checkpoint=file, start={"beta": [0.0, 0.0]})
    with pytest.raises(gj.ArgumentError, match="other data or another model"):
        twice = np.full(len(data), 2.0)
        gj.fit_many("~ mined", data, Y[:, :2], "poisson", checkpoint=file, start={"beta": [0.0, 0.0]}, weights=twice)
    by = {"by": "spp", "family": "poisson", "checkpoint": tmp_path / "by"}
    ragged = data[(data["spp"] == "PR") | (np.arange(len(data)) % 3 == 0)]  # two sizes of data sets
    first = gj.fit_many("count ~ mined", ragged, **by)
    assert (tmp_path / "by.1").exists()
    np.testing.assert_array_equal(gj.fit_many("count ~ mined", ragged, **by).llf, first.llf)


def test_an_interrupt_ends_everything(data: pd.DataFrame, monkeypatch: Any) -> None:
    """Also the batches and sizes that had not begun."""

    @contextmanager
    def pressed() -> Iterator[Callable[[], bool]]:
        yield lambda: True

    fit = gj.glmm("count ~ mined + (1 | site)", data, "poisson")
    monkeypatch.setattr(engine, "interruptible", pressed)
    many = gj.fit_many("count ~ mined", data[(data["spp"] == "PR") | (data.index % 3 == 0)], by="spp", family="poisson")
    assert all(many.status == "not fitted: the run was interrupted")
    with pytest.raises(KeyboardInterrupt):
        gj.power(fit, test=fit.params.index[1], n=5)


def test_progress_is_shown(data: pd.DataFrame, Y: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    gj.fit_many("~ mined", data, Y[:, :2], "poisson", progress=True)
    assert "2/2" in capsys.readouterr().err


def test_bootstrap_has_the_standard_errors_of_the_fit() -> None:
    """For a linear model with known dispersion the bootstrap distribution is exact; here it is compared roughly."""
    data = gj.datasets.load("sleepstudy")
    fit = gj.glmm("Reaction ~ Days + (1 | Subject)", data)
    found = gj.bootstrap(fit, 200, seed=1)
    table = found.summary()
    assert found.used.all() and len(found.replicates) == 200
    np.testing.assert_allclose(table.std_error.iloc[:2], fit.bse, rtol=0.15)
    assert (np.abs(table.bias.iloc[:2]) < 4 * fit.bse / np.sqrt(200)).all()
    refitted = fit.refit(fit.simulate(200, seed=1)[17])
    assert found.many.llf[17] == pytest.approx(refitted.llf, abs=1e-8)
    with pytest.raises(gj.ArgumentError, match="between 0 and 1"):
        found.summary(level=95)
    with pytest.raises(gj.ArgumentError, match="cannot be simulated"):
        gj.bootstrap(gj.glmm("Reaction ~ Days", data, "censored_gaussian"), 5)
