"""The cache on disk: a second process loads what the first compiled, and a damaged entry is compiled anew."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import glmmjax as gj
from glmmjax import compilation_cache
from glmmjax.families import FAMILIES, Family, poisson

SCRIPT = """
import sys, glmmjax as gj
from glmmjax import programs
gj.enable_compilation_cache(sys.argv[1])
fit = gj.glmm("incidence ~ period + (1 | herd)", gj.datasets.load("cbpp"), "poisson")
print(repr(fit.llf), programs.traces)
"""


def run(folder: Path) -> tuple[float, int]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(folder)], capture_output=True, text=True, check=True)
    llf, traces = done.stdout.split()
    return float(llf), int(traces)


def test_a_second_process_traces_nothing(tmp_path: Path) -> None:
    first, second = run(tmp_path), run(tmp_path)
    assert first[1] == 1 and second[1] == 0
    assert first[0] == second[0]
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(b"damaged")
    assert run(tmp_path) == first


def test_a_new_directory_is_private_and_nothing_is_cached_before_it_is_enabled(tmp_path: Path) -> None:
    try:
        assert compilation_cache._file(run, (), ()) is None
        folder = gj.enable_compilation_cache(tmp_path / "new")
        assert folder.stat().st_mode & 0o077 == 0
        assert compilation_cache._file(run, (poisson(),), ()) is not None
    finally:
        gj.disable_compilation_cache()


def test_private_families_are_not_stored(tmp_path: Path) -> None:
    try:
        gj.enable_compilation_cache(tmp_path)
        private = Family("private", FAMILIES["poisson"](None).link, private_nll)
        assert compilation_cache._file(run, (private,), ()) is None
    finally:
        gj.disable_compilation_cache()


def test_a_likelihood_that_cannot_be_pickled_is_fitted(tmp_path: Path) -> None:
    try:
        gj.enable_compilation_cache(tmp_path)
        fit = gj.fit(lambda p, r, d: (p["a"] - 1.0) ** 2, {"a": 0.0})
        assert fit.estimates["a"] == pytest.approx(1.0) and list(tmp_path.iterdir()) == []
    finally:
        gj.disable_compilation_cache()


def private_nll(y: object, eta: object, trials: object, link: object) -> object:
    raise AssertionError("never called")


@pytest.mark.parametrize("content", [b"", b"not a pickle"])
def test_a_damaged_entry_is_dropped(tmp_path: Path, content: bytes) -> None:
    try:
        gj.enable_compilation_cache(tmp_path)
        file = compilation_cache._file(run, (), ("x",))
        assert file is not None
        file.write_bytes(content)
        assert compilation_cache.read(run, (), ("x",)) is None
        assert not file.exists()
    finally:
        gj.disable_compilation_cache()
