"""Time and memory of each structure of the Hessian against its size, with log-log slopes and a plot.

    python -m benchmarks.structures [--out DIRECTORY] [--only blocks,crossed,banded,sparse]

Each fit has a process of its own: ``python -m benchmarks.structures STRUCTURE SIZE`` is it, and prints a line of JSON.
Run and compile time are apart; peak memory is that of the process, compiler included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.tables import number, table, write_csv

MIB = 2**20


def blocks(n: int) -> Any:
    """Negative binomial counts, one random intercept, 28 rows in each group (330,000 rows: 11,786 groups)."""
    import glmmjax as gj

    rng = np.random.default_rng(1)
    g = np.arange(n) // 28
    x = rng.normal(size=n)
    mu = np.exp(0.5 + 0.3 * x + 0.5 * rng.normal(size=g[-1] + 1)[g])
    y = rng.poisson(rng.gamma(1.5, mu / 1.5))
    data = {"y": y, "x": x, "g": g}
    return lambda: gj.glmm("y ~ x + (1 | g)", data, "nbinom2")


def crossed(n: int) -> Any:
    """Binary answers, two crossed factors with n / 50 and n / 200 groups that meet at random."""
    import glmmjax as gj

    rng = np.random.default_rng(2)
    large, small = max(n // 50, 2), max(n // 200, 2)
    a, b = rng.integers(0, large, n), rng.integers(0, small, n)
    eta = 0.2 + 0.5 * rng.normal(size=large)[a] + 0.7 * rng.normal(size=small)[b]
    data = {"y": (rng.uniform(size=n) < 1 / (1 + np.exp(-eta))).astype(float), "a": a, "b": b}
    return lambda: gj.glmm("y ~ 1 + (1 | a) + (1 | b)", data, "binomial")


def banded(n: int) -> Any:
    """A random walk seen through normal noise, n states: half-bandwidth one."""
    import jax.numpy as jnp
    from jax.scipy.stats import norm

    import glmmjax as gj

    rng = np.random.default_rng(3)
    level = np.cumsum(0.3 * rng.normal(size=n))
    data = {"y": level + 0.7 * rng.normal(size=n)}

    def nll(params: Any, random: Any, data: Any) -> Any:
        x = random["x"]
        steps = norm.logpdf(jnp.diff(x), 0.0, jnp.exp(params["log_step"]))
        noise = norm.logpdf(data["y"], x, jnp.exp(params["log_noise"]))
        return -jnp.sum(steps) - jnp.sum(noise)

    start = {"log_step": 0.0, "log_noise": 0.0}
    return lambda: gj.fit(nll, start, {"x": np.zeros(n)}, data, gj.Banded(1))


def sparse(n: int) -> Any:
    """Poisson counts on a square grid of about n cells with a Gaussian Markov random field."""
    import jax.numpy as jnp
    from scipy import sparse as sp

    import glmmjax as gj

    side = round(np.sqrt(n))
    shape = (side, side)
    rng = np.random.default_rng(4)
    waves = np.add.outer(np.sin(np.arange(side) / 5.0), np.cos(np.arange(side) / 7.0))
    data = {"y": rng.poisson(np.exp(1.0 + 0.5 * waves)).astype(float)}
    line = sp.diags_array([np.ones(side - 1), np.ones(side), np.ones(side - 1)], offsets=[-1, 0, 1])
    one = sp.eye_array(side)
    structure = gj.Sparse(sp.kron(line, one) + sp.kron(one, line))

    def nll(params: Any, random: Any, data: Any) -> Any:
        field = gj.densities.gmrf_grid(shape, jnp.exp(params["log_kappa"]))
        eta = params["mu"] + random["w"]
        prior = gj.densities.scaled(field, jnp.exp(params["log_sd"]))
        return prior.nll(random["w"]) - jnp.sum(data["y"] * eta - jnp.exp(eta))

    start = {"mu": 0.5, "log_kappa": 0.0, "log_sd": 0.0}
    return lambda: gj.fit(nll, start, {"w": np.zeros(shape)}, data, structure)


STRUCTURES = {
    "blocks": (blocks, (10_000, 33_000, 100_000, 330_000)),
    "crossed": (crossed, (10_000, 30_000, 100_000, 300_000, 1_000_000)),
    "banded": (banded, (1_000, 10_000, 100_000)),
    "sparse": (sparse, (1_000, 10_000, 100_000)),
}
TEXT = """Blocks, bands and sparse matrices grow about linearly. Crossed factors do not: the groups of the smaller one
make a dense matrix, whose factorization and inverse take their third power and whose memory their square. Where these
decide, two cores stop being practical: a few thousand groups in the second factor are, ten thousand are not. They are
matrix products, which an accelerator is said to do far faster; no figure here is of one."""
TIME_LIMIT = 600  # seconds for one size; larger ones are then left out


def child(name: str, n: int) -> None:
    fit = STRUCTURES[name][0](n)
    began = time.perf_counter()
    first = fit()
    first_s = time.perf_counter() - began
    repeats = [first] if first.timings["run"] > 20 else [fit() for _ in range(3)]
    row = {
        "structure": name,
        "n": n,
        "hessian": repeats[-1].structure,
        "status": repeats[-1].status,
        "evaluations": repeats[-1].iterations,
        "run_s": min(again.timings["run"] for again in repeats),
        "compile_s": first.timings["compile"],
        "first_s": first_s,
        "peak_mib": machine.peak_bytes() / MIB,
    }
    print(json.dumps(row))


def measure(names: list[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in names:
        for n in STRUCTURES[name][1]:
            print(f"... {name} {n}", file=sys.stderr, flush=True)
            command = [sys.executable, "-m", "benchmarks.structures", name, str(n)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIME_LIMIT)
            except subprocess.TimeoutExpired:
                rows.append({"structure": name, "n": n, "status": f"not finished within {TIME_LIMIT} s"})
                break
            except subprocess.CalledProcessError as error:
                rows.append({"structure": name, "n": n, "status": error.stderr.strip().splitlines()[-1][:200]})
                break
            rows.append(json.loads(done.stdout.splitlines()[-1]))
    return rows


def slopes(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The log-log slope of run time against size over the larger half of the sizes."""
    out = {}
    for name in dict.fromkeys(row["structure"] for row in rows):
        points = [(row["n"], row["run_s"]) for row in rows if row["structure"] == name and "run_s" in row][-3:]
        if len(points) > 1:
            n, seconds = np.log(np.array(points)).T
            out[name] = float(np.polyfit(n, seconds, 1)[0])
    return out


def markdown(rows: list[dict[str, Any]]) -> str:
    head = ["structure", "size", "run, s", "compile, s", "first fit, s", "peak memory, MiB", "Hessian", "status"]
    cells = []
    for row in rows:
        times = [number(row[key]) if key in row else "" for key in ("run_s", "compile_s", "first_s", "peak_mib")]
        cells.append([row["structure"], f"{row['n']:,}", *times, row.get("hessian", ""), row["status"]])
    listed = ", ".join(f"{name} {slope:.2f}" for name, slope in slopes(rows).items())
    what = "\n".join(f"- {name}: {(make.__doc__ or '').strip()}" for name, (make, _) in STRUCTURES.items())
    return f"{what}\n\n{table(head, cells)}\n\n{TEXT}\n\nLog-log slopes of run time, last three sizes: {listed}."


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Run time against size, one line per structure, with a line of slope one for the eye."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for name in dict.fromkeys(row["structure"] for row in rows):
        points = [(row["n"], row["run_s"]) for row in rows if row["structure"] == name and "run_s" in row]
        axes.loglog(*zip(*points, strict=True), marker="o", label=name)
    ends = np.array([1e3, 1e6])
    axes.loglog(ends, 1e-6 * ends, color="gray", linestyle=":", label="slope 1")
    axes.set(xlabel="rows, states or cells", ylabel="one fit after compilation, seconds", title="Growth by structure")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structures", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(STRUCTURES))
    options = parser.parse_args()
    load = machine.load()
    rows = measure(options.only)
    facts = machine.header() | {"load average at the start": load, "cores": "all"}
    head = "# Growth by structure\n\n" + "\n".join(f"- {name}: {value}" for name, value in facts.items())
    (options.out / "structures.md").write_text(f"{head}\n\n{markdown(rows)}\n\n![growth](structures.png)\n")
    write_csv(options.out / "structures.csv", rows)
    plot(rows, options.out / "structures.png")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in STRUCTURES:
        child(sys.argv[1], int(sys.argv[2]))
    else:
        main()
