"""Rubin's rules against numbers worked out by hand, and the two ways of giving the fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

import glmmjax as gj
from glmmjax.batch import pooling

QUICK = gj.Control(compilation="quick")


@dataclass(frozen=True)
class Estimates:
    """As much of a fit as is pooled."""

    params: pd.Series
    bse: pd.Series
    converged: bool = True


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Estimates 1, 2, 3 with variances 1, 2, 3."""
    monkeypatch.setattr(pooling, "Fit", Estimates)
    names = pd.Index(["x"])
    return [Estimates(pd.Series([q], names), pd.Series([np.sqrt(u)], names)) for q, u in ((1, 1), (2, 2), (3, 3))]


def test_rubin(three: list[Any]) -> None:
    """within 2, between 1, total 2 + 4/3 = 10/3, lambda 2/5, df 2 / (4/25) = 12.5, r 2/3."""
    row = gj.pool(three).loc["x"]
    expected = {"estimate": 2, "var_within": 2, "var_between": 1, "var_total": 10 / 3, "lambda": 0.4, "df": 12.5}
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-14)
    assert row.fmi == pytest.approx((2 / 3 + 2 / 15.5) / (5 / 3))
    assert row.std_error == pytest.approx(np.sqrt(10 / 3)) and row.statistic == pytest.approx(2 / np.sqrt(10 / 3))
    assert row.p_value == pytest.approx(2 * t.cdf(-2 / np.sqrt(10 / 3), 12.5))
    assert row.conf_high == pytest.approx(2 + t.ppf(0.975, 12.5) * np.sqrt(10 / 3))


def test_small_samples(three: list[Any]) -> None:
    """df_obs = 0.6 * 9 * 10 / 12 = 4.5, and 1 / (1 / 12.5 + 1 / 4.5) = 56.25 / 17."""
    row = gj.pool(three, df_complete=9, level=0.9).loc["x"]
    assert row.df == pytest.approx(56.25 / 17, rel=1e-14)
    assert row.conf_low == pytest.approx(2 - t.ppf(0.95, 56.25 / 17) * np.sqrt(10 / 3))
    assert row.fmi == pytest.approx((2 / 3 + 2 / (56.25 / 17 + 3)) / (5 / 3))
    assert gj.pool(three, df_complete=1e12).df["x"] == pytest.approx(12.5, rel=1e-8)


def test_nothing_missing_leaves_the_fit_as_it_is(three: list[Any]) -> None:
    row = gj.pool([three[1], three[1]]).loc["x"]
    assert row.var_between == row["lambda"] == row.fmi == 0.0 and np.isinf(row.df)
    assert row.std_error == pytest.approx(np.sqrt(2.0))


@pytest.fixture(scope="module")
def imputed() -> tuple[pd.DataFrame, np.ndarray]:
    data = gj.datasets.load("sleepstudy")
    Y = np.repeat(data.Reaction.to_numpy()[:, None], 4, axis=1)
    rng, missing = np.random.default_rng(2), np.arange(len(data)) % 7 == 0
    Y[missing] += rng.normal(0, 30, size=(missing.sum(), 4))
    return data, Y


def test_a_batch_and_a_list_of_fits_are_pooled_alike(imputed: tuple[pd.DataFrame, np.ndarray]) -> None:
    data, Y = imputed
    many = gj.fit_many("~ Days + (1 | Subject)", data, Y, control=QUICK)
    one_by_one = [gj.glmm("y ~ Days + (1 | Subject)", data.assign(y=y), control=QUICK) for y in Y.T]
    table = gj.pool(many)
    assert table.index.tolist() == ["(Intercept)", "Days"] and (table.fmi > 0).all()
    pd.testing.assert_frame_equal(table, gj.pool(one_by_one), rtol=1e-4)
    stacked = pd.concat([data.assign(Reaction=y, imputation=i) for i, y in enumerate(Y.T)])
    by = gj.fit_many("Reaction ~ Days + (1 | Subject)", stacked, by="imputation", control=QUICK)
    pd.testing.assert_frame_equal(table, gj.pool(by), rtol=1e-4)


def test_a_fit_that_failed_is_named(imputed: tuple[pd.DataFrame, np.ndarray]) -> None:
    data, Y = imputed
    bad = Y.copy()
    bad[3, 2] = np.inf
    many = gj.fit_many("~ Days + (1 | Subject)", data, bad, control=QUICK)
    with pytest.raises(gj.FitError, match="the fit of 2 did not converge"):
        gj.pool(many)


def test_bad_input(three: list[Any]) -> None:
    other = Estimates(pd.Series([1.0], pd.Index(["z"])), pd.Series([1.0], pd.Index(["z"])))
    for given, message in (
        (three[:1], "at least 2 fits"),
        ([], "a list of fits"),
        ([1, 2], "a list of fits"),
        ([*three, other], r"different terms: \['x'\] and \['z'\]"),
    ):
        with pytest.raises(gj.ArgumentError, match=message):
            gj.pool(given)
    with pytest.raises(gj.ArgumentError, match="level must lie"):
        gj.pool(three, level=95)
    with pytest.raises(gj.ArgumentError, match="df_complete must be positive"):
        gj.pool(three, df_complete=0)
