"""What a fresh process costs: import, and import to printed summary, without and with a filled compilation cache."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any

PARTS = ("jax_import", "import", "summary", "process")


def measure(names: list[str], repeats: int) -> list[dict[str, Any]]:
    """Per model and cache, the medians and minima in seconds over ``repeats`` processes."""
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as cache:
            _child(name, cache)  # fills it
            turns = [(_child(name), _child(name, cache)) for _ in range(repeats)]
        for label, runs in zip(("none", "filled"), zip(*turns, strict=True), strict=True):
            row: dict[str, Any] = {"model": name, "cache": label, "processes": repeats}
            for part in PARTS:
                values = [run[part] for run in runs]
                row |= {f"{part}_median_s": median(values), f"{part}_min_s": min(values)}
            rows.append(row | {"compile_median_s": median(run["compile"] for run in runs)})
    return rows


def _child(*arguments: str) -> dict[str, float]:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fresh_process", *arguments], capture_output=True, text=True, check=False
    )
    whole = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    times: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return times | {"process": whole}
