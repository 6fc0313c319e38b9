"""Several starts: of likelihoods with more than one maximum the better one is found, in single fits and in batches."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import glmmjax as gj

GROUPS, EACH, GENES = 40, 3, 120
FORMULA = "time * arm + (1 | id)"


@cache
def genes() -> tuple[pd.DataFrame, np.ndarray]:
    """Sparse counts whose scatter may be laid on the size of the negative binomial or on the random effects."""
    rng = np.random.default_rng(17)
    g = np.repeat(np.arange(GROUPS), EACH)
    data = pd.DataFrame({"time": np.tile(np.arange(EACH) * 3.0, GROUPS), "arm": (g % 2).astype(float), "id": g})
    Y = np.empty((len(g), GENES))
    for j in range(GENES):
        sd, size = np.exp(rng.uniform(np.log([1.5, 0.15]), np.log([3.5, 1.0])))
        line = rng.uniform(-2.5, 0.0) + data["time"] * 0.1 * rng.normal() + data["arm"] * rng.normal()
        mu = np.exp(line.to_numpy() + sd * rng.normal(size=GROUPS)[g])
        Y[:, j] = rng.negative_binomial(size, size / (size + mu))
    return data, Y[:, np.sum(Y > 0, axis=0) > 5]


@cache
def many(starts: Any, begin: tuple[float, float] | None = None) -> gj.Many:
    data, Y = genes()
    start = {} if begin is None else {"theta": [begin[0]], "beta_disp": [begin[1]]}
    return gj.fit_many(f"~ {FORMULA}", data, Y, "nbinom2", start=start, control=gj.Control(starts=starts))


def test_fits_to_sparse_counts_end_at_the_best_maximum() -> None:
    begins = [(0.0, 0.0), (1.0, 3.0), (1.5, 1.0), (-1.0, -1.5)]
    ends = [many(1), *(many(1, begin) for begin in begins)]
    best = np.max([np.where(found.verdicts.converged, found.llf, -np.inf) for found in ends], axis=0)
    once, auto = best - np.asarray(many(1).llf), best - np.asarray(many("auto").llf)
    assert np.sum(once > 1e-3) >= 4 and np.max(once) > 1.0  # there is something to find
    assert np.sum(auto > 1e-3) <= 1 and np.max(auto) < 0.5


def test_single_fits_find_what_the_batch_finds() -> None:
    data, Y = genes()
    once, auto = np.asarray(many(1).llf), np.asarray(many("auto").llf)
    improved = np.argsort(once - auto)[:3]
    for j in (*improved, 0, 1):
        fit = gj.glmm(f"y ~ {FORMULA}", data.assign(y=Y[:, j]), "nbinom2", control=gj.Control(warn=False))
        assert fit.llf == pytest.approx(auto[j], abs=1e-7)
        table = fit.starts
        assert table["llf"].max() == pytest.approx(fit.llf, abs=1e-7)
        assert table.loc[table["kept"], "llf"].item() == pytest.approx(fit.llf, abs=1e-10)
        assert len(table) > 1 or j not in improved


def test_an_ordinary_fit_begins_once() -> None:
    fit = gj.glmm("count ~ mined + (1 | site)", gj.datasets.load("salamanders"), "nbinom2")
    assert fit.starts["start"].tolist() == ["plain"] and fit.starts["kept"].tolist() == [True]


def test_as_many_starts_as_are_asked_for() -> None:
    data = gj.datasets.load("salamanders")
    fit = gj.glmm("count ~ mined + (1 | site)", data, "nbinom2", control=gj.Control(starts=5))
    assert len(fit.starts) == 5
    np.testing.assert_allclose(fit.starts["llf"], fit.llf, atol=1e-6)
    five = gj.fit_many("~ mined + (1 | site)", data, data[["count"]], "nbinom2", control=gj.Control(starts=5))
    assert np.asarray(five.llf)[0] == pytest.approx(fit.llf, abs=1e-8)


@pytest.mark.parametrize("starts", [1, 2, 3, 6])
def test_a_batch_begins_as_often_as_a_single_fit(starts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from glmmjax.batch import engine

    numbers: list[tuple[int, int]] = []
    plain = engine._other_starts

    def counted(*given: Any) -> list[tuple[int, int]]:
        numbers.extend(found := plain(*given))
        return found

    monkeypatch.setattr(engine, "_other_starts", counted)
    data = gj.datasets.load("salamanders")
    gj.fit_many("~ mined + (1 | site)", data, data[["count"]], "nbinom2", control=gj.Control(starts=starts))
    assert numbers == [(0, i) for i in range(starts - 1)]


def test_held_parameters_stay_in_every_start() -> None:
    data = gj.datasets.load("salamanders")
    held = {"theta": [-0.5], "beta_disp": [0.3]}
    fit = gj.glmm("count ~ mined + (1 | site)", data, "nbinom2", fixed=held, control=gj.Control(starts=4))
    assert fit.theta[0] == -0.5 and fit.estimates["beta_disp"][0] == 0.3


def test_a_likelihood_of_ones_own_with_two_minima() -> None:
    def nll(params: Any, random: Any, data: Any) -> Any:
        x = params["x"]
        return jnp.sum(data["c"]) * (x**2 - 1.0) ** 2 + 0.3 * x

    given = {"c": np.array([1.0])}
    once = gj.fit(nll, {"x": 1.2}, None, given)
    several = gj.fit(nll, {"x": 1.2}, None, given, control=gj.Control(starts=12))
    assert once.estimates["x"] > 0.0 > several.estimates["x"]
    assert len(once.starts) == 1 and len(several.starts) == 12
    assert several.starts["llf"].max() == pytest.approx(several.llf)


@pytest.mark.parametrize("starts", [0, -1, 1.5, True, "several", None])
def test_bad_numbers_of_starts(starts: Any) -> None:
    with pytest.raises(gj.ArgumentError, match="starts"):
        gj.Control(starts=starts)


def test_a_ragged_likelihood_is_named() -> None:
    """Random effects of zero inflation beside a negative binomial: there is no maximum, and the status says why."""
    with pytest.warns(gj.GlmmjaxWarning, match="Laplace approximation breaks down"):
        fit = gj.glmm(
            "count ~ mined + (1 | site)",
            gj.datasets.load("salamanders"),
            "nbinom2",
            ziformula="~ mined + (1 | site)",
            dispformula="~ mined",
        )
    assert not fit.converged and len(fit.starts) == 5 and "sd_zi" in fit.status
