"""How a batch of many fits scales: peak memory against its size, time against the number of (virtual) devices.

    python -m benchmarks.scaling [--out DIRECTORY]

Every figure is of a process of its own: refits of cbpp to simulated responses, binomial with one random intercept. The
devices are virtual ones of one processor, which share its cores: they show what spreading costs, not what it gains.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.insteval import peak
from benchmarks.many import cbpp
from benchmarks.tables import number, table

SIZES = (100, 1_000, 10_000)
DEVICES = (1, 2, 4, 8)
FITS = 4_000


def child(fits: int, devices: int) -> dict[str, Any]:
    """Fit twice; the figures of the second time, which compiles nothing."""
    import jax

    import glmmjax as gj

    work = cbpp(fits)
    before = peak()
    given = {"trials": work.trials, "control": gj.Control(compilation="full")}
    for _ in range(2):
        began = time.perf_counter()
        many = gj.fit_many(f"~ {work.right}", work.data, work.Y, work.family, devices=jax.devices()[:devices], **given)
        seconds = time.perf_counter() - began
    return {"ms": 1e3 * seconds / fits, "before": before, "peak": peak(), "failed": len(many.failed)}


def measure(fits: int, devices: int) -> dict[str, Any]:
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "benchmarks.scaling", str(fits), str(devices)]
    print(f"... {fits} fits, {devices} devices", file=sys.stderr, flush=True)
    done = subprocess.run(command, env=os.environ | flags, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    load = machine.load()
    memory = [(fits, measure(fits, 1)) for fits in SIZES]
    spread = [(devices, measure(FITS, devices)) for devices in DEVICES]
    by_size = table(
        ["fits", "peak memory, MiB", "of which before the batch", "ms per fit", "not plainly converged"],
        [[f"{n:,}", *map(number, (x["peak"], x["before"], x["ms"])), str(x["failed"])] for n, x in memory],
    )
    by_device = table(
        ["virtual devices", "ms per fit", "peak memory, MiB"],
        [[str(n), number(x["ms"]), number(x["peak"])] for n, x in spread],
    )
    facts = machine.header() | {"load average at the start": load, "cores": "all"}
    text = "# Batches of many fits\n\n" + "\n".join(f"- {name}: {value}" for name, value in facts.items())
    text += f"\n\n## Memory\n\n{by_size}\n\n## Devices, {FITS:,} fits\n\n{by_device}\n"
    (options.out / "scaling.md").write_text(text)


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1].isdigit():
        print(json.dumps(child(int(sys.argv[1]), int(sys.argv[2]))))
    else:
        main()
