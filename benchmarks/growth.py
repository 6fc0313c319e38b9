"""Time and memory against the number of observations, each fit in a fresh process.

As a program (``python -m benchmarks.growth PEER N``) it is that process, and prints one line of JSON.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from importlib import import_module
from typing import Any

from benchmarks.machine import peak_bytes
from benchmarks.models import GROWTH, simulated

SIZES = (10_000, 100_000, 1_000_000)
TEXT = (
    f"`{GROWTH.formula}`, {GROWTH.family}, simulated, 20 rows in each group, every fit in a fresh process. Peak memory "
    "is above the imports, at the end of the first fit, and holds the data; glmmjax's first fit compiles."
)
ADAPTERS = {"glmmjax": "with_glmmjax", "glmm": "with_glmm", "gpboost": "with_gpboost"}


def measure(sizes: tuple[int, ...] = SIZES) -> list[dict[str, Any]]:
    """One row per peer and size: seconds of the first and the second fit, peak memory above the imports.

    ``bytes_per_row`` is what each row adds between two sizes, free of what a process needs at any size.
    """
    rows: list[dict[str, Any]] = []
    for peer in ADAPTERS:
        smaller: dict[str, Any] = {}
        for n in sizes:
            row = _child(peer, n)
            if not row:
                break
            row["bytes_per_row"] = (row["peak_bytes"] - smaller["peak_bytes"]) / (n - smaller["n"]) if smaller else None
            rows.append(row)
            smaller = row
    best = {n: max((row["llf"] for row in rows if row["n"] == n), default=0.0) for n in sizes}
    return [row | {"llf_below_best": best[row["n"]] - row["llf"]} for row in rows]


def _child(peer: str, n: int) -> dict[str, Any]:
    """The child's report; empty where the peer is not installed."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth", peer, str(n)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def main(peer: str, n: int) -> None:
    adapter = import_module(f"benchmarks.peers.{ADAPTERS[peer]}")
    fitter = adapter.fitters(GROWTH, simulated(100))[peer]  # imports what the peer needs
    if isinstance(fitter, str):
        print(json.dumps({}))
        return
    baseline = peak_bytes()
    fitter = adapter.fitters(GROWTH, simulated(n))[peer]
    first = fitter()
    peak = peak_bytes()
    gc.collect()
    second = fitter()
    report = {"peer": peer, "n": n, "first_s": first.seconds, "second_s": second.seconds, "llf": second.llf}
    parts = {f"second_{name}_s": seconds for name, seconds in second.parts.items() if name == "run"}
    print(json.dumps(report | parts | {"baseline_bytes": baseline, "peak_bytes": peak - baseline}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
