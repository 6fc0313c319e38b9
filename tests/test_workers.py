"""Many fits in other processes: the same results, whoever runs them; a worker that fails costs only its own."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import glmmjax as gj
from glmmjax.batch import workers

QUICK = gj.Control(compilation="quick")
FORMULA = "~ mined + (1 | site)"
M = 10


class Serial:
    """``map`` in this process, through a pickle as another process would see it."""

    def map(self, function: Callable[[Any], Any], given: Iterable[Any]) -> Iterator[Any]:
        copy = pickle.loads(pickle.dumps(function))
        return (pickle.loads(pickle.dumps(copy(pickle.loads(pickle.dumps(one))))) for one in given)


class Broken(Serial):
    """Futures, of which the first comes to nothing."""

    def __init__(self) -> None:
        self.broken = False

    def submit(self, function: Callable[[Any], Any], given: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if self.broken:
            future.set_result(function(given))
        else:
            future.set_exception(RuntimeError("the machine is on fire"))
        self.broken = True
        return future


class Dead(Broken):
    """Nothing works."""

    def submit(self, function: Callable[[Any], Any], given: Any) -> Future[Any]:
        raise RuntimeError("there is no worker")


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    return gj.datasets.load("salamanders")


@pytest.fixture(scope="module")
def Y(data: pd.DataFrame) -> np.ndarray:
    Y = np.random.default_rng(4).poisson(np.where(data.mined == "no", 2.0, 0.5)[:, None], size=(len(data), M))
    return np.where(np.arange(M) == 3, -1.0, Y)


@pytest.fixture(scope="module")
def many(data: pd.DataFrame, Y: np.ndarray) -> gj.Many:
    return gj.fit_many(FORMULA, data, Y, "poisson", control=QUICK)


def assert_equal(found: gj.Many, many: gj.Many) -> None:
    assert found.keys == many.keys and found.status.tolist() == many.status.tolist()
    np.testing.assert_allclose(found.results.flat, many.results.flat, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.llf, many.llf, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.vcov, many.vcov, rtol=1e-8)


def test_pieces_that_are_mapped_equal_the_whole(data: pd.DataFrame, Y: np.ndarray, many: gj.Many) -> None:
    found = gj.fit_many(FORMULA, data, Y, "poisson", control=QUICK, executor=Serial())
    assert_equal(found, many)
    assert found[2].llf == pytest.approx(many.llf[2], abs=1e-8)


def test_data_sets_of_several_layouts_come_back_in_order(data: pd.DataFrame) -> None:
    rows = data[(data.spp != "PR") | (np.arange(len(data)) % 3 == 0)]
    whole = gj.fit_many("count ~ mined", rows, by="spp", family="poisson", control=QUICK)
    assert_equal(
        gj.fit_many("count ~ mined", rows, by="spp", family="poisson", control=QUICK, executor=Serial()), whole
    )


def test_a_worker_that_fails_costs_only_its_own(data: pd.DataFrame, Y: np.ndarray, many: gj.Many) -> None:
    found = gj.fit_many(FORMULA, data, Y, "poisson", control=QUICK, executor=Broken())
    lost = [key for key, status in found.status.items() if "RuntimeError: the machine is on fire" in status]
    assert lost and 3 not in lost and len(lost) < M - 1
    rest = [key for key in range(M) if key not in lost]
    assert found.status[rest].tolist() == many.status[rest].tolist()
    np.testing.assert_allclose(found.llf[rest], many.llf[rest], rtol=0, atol=1e-8)
    with pytest.raises(gj.FitError, match="every worker failed; the first with RuntimeError: there is no worker"):
        gj.fit_many(FORMULA, data, Y, "poisson", control=QUICK, executor=Dead())


def test_an_error_inside_a_worker_is_a_sentence() -> None:
    piece: Any = "not a piece"
    found = workers.run_piece(piece)
    assert isinstance(found, workers.Failure) and found.reason.startswith("AttributeError")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: {"executor": ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))}, "are forked"),
        (lambda: {"executor": ThreadPoolExecutor(2)}, "wait for each other"),
        (lambda: {"executor": 3}, "must have submit"),
        (lambda: {"executor": Serial(), "checkpoint": "x"}, "leave out executor="),
        (lambda: {"executor": Serial(), "devices": [object()]}, "give one of them"),
        (lambda: {"devices": []}, "a device at least"),
        (lambda: {"devices": ["cpu"]}, r"such as jax.devices\(\) gives"),
    ],
)
def test_bad_input(data: pd.DataFrame, Y: np.ndarray, change: Callable[[], dict[str, Any]], message: str) -> None:
    with pytest.raises(gj.ArgumentError, match=message):
        gj.fit_many(FORMULA, data, Y, "poisson", **change())


def test_a_pool_of_threads_is_refused() -> None:
    with ThreadPool(2) as pool, pytest.raises(gj.ArgumentError, match="wait for each other"):
        workers.check_executor(pool)


def test_one_thread_will_do(data: pd.DataFrame, Y: np.ndarray, many: gj.Many) -> None:
    with ThreadPoolExecutor(1) as pool:
        assert_equal(gj.fit_many(FORMULA, data, Y, "poisson", control=QUICK, executor=pool), many)


# -- tasks -------------------------------------------------------------------------------------------------------------
def test_a_task_maps_chunks_to_tables(data: pd.DataFrame, Y: np.ndarray, many: gj.Many) -> None:
    expected = many.tidy()
    named = pd.DataFrame(Y, columns=[f"g{i}" for i in range(M)])
    for given, keys in ((Y, range(M)), (sparse.csr_matrix(Y), range(M)), (named, named.columns)):
        task = gj.ManyTask(FORMULA, data, "poisson", control=QUICK)
        table = pd.concat(Serial().map(task, gj.chunks(given, 5)), ignore_index=True)
        assert table["key"].drop_duplicates().tolist() == list(keys)
        assert table.term.tolist() == expected.term.tolist()
        np.testing.assert_allclose(table.estimate, expected.estimate, rtol=0, atol=1e-5)
        np.testing.assert_allclose(table.p_value, expected.p_value, rtol=0, atol=1e-5)
        assert "row 0 is -1" in table.status[6]
    glance = gj.ManyTask(FORMULA, data, "poisson", table="glance", control=QUICK)(named.iloc[:, 5:])
    assert glance["key"].tolist() == list(named.columns[5:])
    np.testing.assert_allclose(glance.llf, many.llf[5:], rtol=0, atol=1e-8)


def test_a_task_by_key_reads_rows(data: pd.DataFrame) -> None:
    data = data.assign(
        count=np.where(data.spp == "DM", -1, data["count"]), half=np.where(data.DOY > 0, "late", "early")
    )
    task = gj.ManyTask("count ~ mined", by="spp", family="poisson", control=QUICK)
    table = pd.concat(map(task, gj.chunks(data, 1, by="spp")), ignore_index=True)
    whole = gj.fit_many("count ~ mined", data, by="spp", family="poisson", control=QUICK)
    assert table.spp.drop_duplicates().tolist() == list(whole)
    assert table.columns.tolist()[0] == "spp" and table.columns.tolist()[-1] == "status"
    alone = table[table.spp == "DM"]  # the only data set of its chunk: no other says what the terms are
    assert len(alone) == 1 and "must be whole numbers" in alone.status.iloc[0] and alone.estimate.isna().all()
    own = table[table.spp == "GP"].estimate.to_numpy()
    np.testing.assert_allclose(own, whole.params.loc["GP"], rtol=0, atol=1e-5)
    two = gj.ManyTask("count ~ mined", by=["spp", "half"], family="poisson", control=QUICK, table="glance")(data)
    assert two.columns.tolist()[:2] == ["spp", "half"] and len(two) == 14


def test_chunks_hold_everything_once(data: pd.DataFrame, Y: np.ndarray) -> None:
    cut = list(gj.chunks(Y, 4))
    assert [len(chunk.keys) for chunk in cut] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([chunk.responses for chunk in cut], axis=1), Y)
    frames = list(gj.chunks(data, 3, by="spp"))
    assert sum(map(len, frames)) == len(data) and [frame.spp.nunique() for frame in frames] == [3, 3, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gj.ManyTask("~ 1", {"x": [1.0]}, executor=1), "belongs to the process"),
        (lambda: gj.ManyTask("~ 1", {"x": [1.0]}, zformula="~ 1"), "Did you mean 'ziformula'"),
        (lambda: gj.ManyTask("~ 1", {"x": [1.0]}, table="tidi"), "Did you mean 'tidy'"),
        (lambda: gj.ManyTask("~ 1"), "either data="),
        (lambda: gj.chunks(np.ones((3, 2)), 0), "at least 1"),
        (lambda: gj.chunks(np.ones((3, 2)), 1, keys="a"), "has 1 names"),
        (lambda: gj.chunks({"x": [1]}, 1, keys="a", by="x"), "leave out keys="),
    ],
)
def test_bad_tasks(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(gj.ArgumentError, match=message):
        call()


# -- real processes ----------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_processes(data: pd.DataFrame, Y: np.ndarray, many: gj.Many, tmp_path: Path) -> None:
    spawn, folder = multiprocessing.get_context("spawn"), (str(tmp_path),)
    with ProcessPoolExecutor(2, spawn, initializer=gj.enable_compilation_cache, initargs=folder) as pool:
        assert_equal(gj.fit_many(FORMULA, data, Y, "poisson", control=QUICK, executor=pool), many)
        task = gj.ManyTask(FORMULA, data, "poisson", control=QUICK)
        table = pd.concat(pool.map(task, gj.chunks(Y, 5)), ignore_index=True)
        np.testing.assert_allclose(table.estimate, many.tidy().estimate, rtol=0, atol=1e-5)
    assert list(tmp_path.glob("slots_program-*.bin"))


@pytest.mark.slow
def test_a_worker_that_dies_is_reported(data: pd.DataFrame, Y: np.ndarray) -> None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=os._exit, initargs=(1,)) as pool:
        with pytest.raises(gj.FitError, match="every worker failed; the first with BrokenProcessPool"):
            gj.fit_many(FORMULA, data, Y, "poisson", control=QUICK, executor=pool)


@pytest.mark.slow
def test_a_cluster(data: pd.DataFrame, Y: np.ndarray, many: gj.Many) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        assert_equal(gj.fit_many(FORMULA, data, Y, "poisson", control=QUICK, executor=client), many)
        assert_equal(gj.fit_many(FORMULA, data, Y, "poisson", control=QUICK, executor=client.get_executor()), many)
        futures = client.map(gj.ManyTask(FORMULA, data, "poisson", control=QUICK), list(gj.chunks(Y, 5)))
        table = pd.concat(client.gather(futures), ignore_index=True)
        np.testing.assert_allclose(table.estimate, many.tidy().estimate, rtol=0, atol=1e-5)
