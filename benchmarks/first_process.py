"""What a fresh process costs: import, and import to printed summary, without and with a filled compilation cache.

As a program (``python -m benchmarks.first_process MODEL [CACHE]``) it is that fresh process, and prints one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import Any

from benchmarks.models import MODELS

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
        [sys.executable, "-m", "benchmarks.first_process", *arguments], capture_output=True, text=True, check=False
    )
    whole = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1]) | {"process": whole}


def main(name: str, cache: str | None = None) -> None:
    model = MODELS[name]
    began = time.perf_counter()
    import jax  # noqa: F401

    jax_done = time.perf_counter()
    import glmmjax as gj

    import_done = time.perf_counter()
    if cache is not None:
        gj.enable_compilation_cache(cache)
    fit = gj.glmm(model.formula, model.data(), family=model.family)
    str(fit.summary())
    done = time.perf_counter()
    times = {"jax_import": jax_done - began, "import": import_done - began, "summary": done - began}
    print(json.dumps(times | {"compile": fit.timings["compile"]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
