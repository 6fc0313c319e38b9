"""Many models at once: glmmjax's batch beside loops over the Rust package glmm and glmmTMB, on one core.

    python -m benchmarks.many [--out DIRECTORY] [--counts FILE] [--cells FILE] [--sizes 100,1000,10000] [--genes 20000]

Salamanders: responses simulated from the fit of the interaction model (Brooks et al. 2017, appendix A.1), 14 fixed
effects, of which about a quarter are separated. Genes: ``--counts`` is a CSV with a column for each gene and at its end
the columns PATID, Timepoint and EB, as in the glmmSeq package's PEAC data; resampled to the size asked for. Cells:
``--cells`` is a CSV with a row for each cell: counts of ten genes, the subject sid, the offset off, the covariates X1,
X2 and cc, as in the nebula package's sample; each gene four times, resampled. Many cells: 20,000 of 20 subjects,
simulated. Bootstrap: 1,000 refits of cbpp. Peers fit the first of the responses, and the time per fit is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import machine
from benchmarks.tables import number, table

PEER_FITS = 60
R_FITS = 3
TEXT = """Times per fit: *run* is the compiled program with the transfer of its results, *whole call* `gj.fit_many(...)`
from formula and arrays to estimates, standard errors and statuses. Compilation, once for each model, stands apart.
The peers fit the first responses one after the other ({peer} of them, glmmTMB {r}). *Ahead* is our log-likelihood less
theirs, smallest and largest over those of these whose status is "converged": for a separated response the maximum is
at infinity, and where each stops is its own affair. No accelerator was used."""
INTERACTION = "spp * mined + (1 | site)"
GENES = "Timepoint * EB + (1 | PATID)"
CELLS = "X1 + X2 + cc + (1 | sid)"


class Work(NamedTuple):
    """Many responses of one design."""

    right: str
    data: Any
    Y: np.ndarray
    family: str
    trials: np.ndarray | None = None
    offset: np.ndarray | None = None


def salamanders(m: int) -> Work:
    import glmmjax as gj

    data = gj.datasets.load("salamanders")
    fit = gj.glmm(f"count ~ {INTERACTION}", data, "nbinom2")
    return Work(INTERACTION, data, fit.simulate(m, seed=111).T, "nbinom2")


def genes(m: int, file: Path) -> Work:
    import pandas as pd

    table = pd.read_csv(file)
    return Work(GENES, table[table.columns[-3:]], _resampled(table[table.columns[:-3]].to_numpy(), m), "nbinom2")


def cells(m: int, file: Path) -> Work:
    import pandas as pd

    table = pd.read_csv(file, dtype={"sid": str})
    offset = np.log(table["off"].to_numpy(dtype=float))
    Y = _resampled(table[table.columns[:10]].to_numpy(), m)
    return Work(CELLS, table[["sid", "X1", "X2", "cc"]], Y, "nbinom2", offset=offset)


def many_cells(m: int, n: int = 20_000, subjects: int = 20) -> Work:
    import pandas as pd

    rng = np.random.default_rng(1)
    sid = np.repeat(np.arange(subjects), n // subjects)
    group, z = (sid % 2).astype(float), rng.normal(size=n)
    offset = np.log(rng.uniform(0.5, 2.0, size=n))
    own = rng.normal(-1.0, 1.0, size=m) + 0.1 * z[:, None] + 0.3 * rng.normal(size=(subjects, m))[sid]
    Y = rng.poisson(rng.gamma(1.5, 1.0 / 1.5, size=(n, m)) * np.exp(own + offset[:, None]))
    return Work(
        "group + z + (1 | sid)", pd.DataFrame({"sid": sid, "group": group, "z": z}), Y, "nbinom2", offset=offset
    )


def _resampled(real: np.ndarray, m: int) -> np.ndarray:
    """The columns as they are, then drawn around them until there are m."""
    rng = np.random.default_rng(0)
    drawn = [rng.poisson(real * rng.gamma(20.0, 0.05, size=real.shape)) for _ in range(-(-m // real.shape[1]) - 1)]
    return np.concatenate([real, *drawn], axis=1)[:, :m]


def cbpp(m: int) -> Work:
    import glmmjax as gj

    data = gj.datasets.load("cbpp")
    fit = gj.glmm("cbind(incidence, size - incidence) ~ period + (1 | herd)", data, "binomial")
    return Work("period + (1 | herd)", data, fit.simulate(m, seed=1).T, "binomial", data["size"].to_numpy(dtype=float))


def ours(work: Work) -> tuple[Any, dict[str, float]]:
    """The batch, twice: compile time of the first, the other times of the second."""
    import glmmjax as gj

    def run() -> Any:
        control = gj.Control(compilation="full")
        given = {"trials": work.trials, "offset": work.offset, "control": control}
        return gj.fit_many(f"~ {work.right}", work.data, work.Y, work.family, **given)

    first = run()
    began = time.perf_counter()
    again = run()
    return again, {
        "compile": first.timings["compile"],
        "whole": time.perf_counter() - began,
        "run": again.timings["run"],
    }


def peers(work: Work) -> dict[str, Callable[[np.ndarray], float]]:
    """Functions from a response to a log-likelihood, which with standard errors is one fit."""
    found: dict[str, Callable[[np.ndarray], float]] = {}
    if find_spec("glmm") is not None:
        import glmm

        columns = {name: work.data[name].to_numpy() for name in work.data}
        family = {"nbinom2": "negativebinomial"}.get(work.family, work.family)

        def rust(y: np.ndarray) -> float:
            more = {} if work.trials is None else {"weights": work.trials}
            more |= {} if work.offset is None else {"offset": work.offset}
            y = y if work.trials is None else y / work.trials
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return float(glmm.fit({**columns, "y": y}, f"y ~ {work.right}", family=family, **more).loglik)

        found["glmm (Rust), loop"] = rust
    return found


_R = """
suppressMessages(library(glmmTMB))
a <- commandArgs(TRUE); d <- read.csv(a[1], stringsAsFactors = TRUE); k <- as.integer(a[3])
for (v in intersect(c("site", "PATID", "sid", "herd"), names(d))) d[[v]] <- factor(d[[v]])
times <- c(); llf <- c(); first <- TRUE
for (i in c(1, seq_len(k))) {
  d$y <- d[[paste0("y", i)]]
  left <- if ("trials" %in% names(d)) "cbind(y, trials - y)" else "y"
  right <- if ("offset" %in% names(d)) paste(a[2], "+ offset(offset)") else a[2]
  t <- proc.time()[["elapsed"]]
  f <- suppressWarnings(glmmTMB(as.formula(paste(left, "~", right)), d, family = a[4])); s <- vcov(f)
  t <- proc.time()[["elapsed"]] - t
  if (!first) { times <- c(times, t); llf <- c(llf, as.numeric(logLik(f))) }
  first <- FALSE
}
cat(sprintf('{"seconds": [%s], "llf": [%s]}', toString(sprintf("%f", times)), toString(sprintf("%.10f", llf))))
"""


def glmmtmb(work: Work, k: int) -> tuple[list[float], list[float]] | None:
    """Seconds and log-likelihoods of the first responses by glmmTMB; None where it is not installed."""
    if shutil.which("Rscript") is None:
        return None
    more = {f"y{i + 1}": work.Y[:, i] for i in range(k)}
    more |= {} if work.trials is None else {"trials": work.trials}
    more |= {} if work.offset is None else {"offset": work.offset}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        work.data.assign(**more).to_csv(path, index=False)
        command = ["Rscript", "-e", _R, str(path), work.right, str(k), work.family]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    found = json.loads(done.stdout.splitlines()[-1].replace("NaN", "null").replace("NA", "null"))
    return found["seconds"], [np.nan if x is None else x for x in found["llf"]]


def loop(fit: Callable[[np.ndarray], float], work: Work, k: int) -> tuple[list[float], list[float]]:
    """Seconds and log-likelihoods of the first responses, fitted one after the other."""
    seconds, llf = [], []
    for i in range(k):
        began = time.perf_counter()
        llf.append(fit(work.Y[:, i]))
        seconds.append(time.perf_counter() - began)
    return seconds, llf


def row(name: str, work: Work) -> list[str]:
    many, times = ours(work)
    m = work.Y.shape[1]
    cells = [name, str(m), number(1e3 * times["run"] / m), number(1e3 * times["whole"] / m), number(times["compile"])]
    for fit in peers(work).values():
        cells += _beside(many, times["whole"] / m, loop(fit, work, min(PEER_FITS, m)))
    if shutil.which("Rscript") is not None:
        cells += _beside(many, times["whole"] / m, glmmtmb(work, min(R_FITS, m)))
    status = many.status
    counts = [int((status == "converged").sum())]
    counts += [int(status.str.contains(word).sum()) for word in ("singular", "separation", "not converge|not fitted")]
    return [*cells, *map(str, counts)]


def _beside(many: Any, own: float, theirs: tuple[list[float], list[float]] | None) -> list[str]:
    """The milliseconds per fit of a peer, the ratio to ours, and how far our log-likelihoods are ahead."""
    if theirs is None:
        return ["not fitted", "", ""]
    seconds, llf = theirs
    ahead = [many.llf[i] - x for i, x in enumerate(llf) if many.status.iloc[i] == "converged" and np.isfinite(x)]
    mean = statistics.mean(seconds)
    return [number(1e3 * mean), number(mean / own), f"{min(ahead):.1e} to {max(ahead):.1e}" if ahead else ""]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--counts", type=Path)
    parser.add_argument("--cells", type=Path)
    parser.add_argument("--sizes", default="100,1000,10000", help="of the Salamanders batches")
    parser.add_argument("--genes", type=int, default=20000)
    options = parser.parse_args()
    load = machine.load()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    rows = []
    for m in map(int, options.sizes.split(",")):
        print(f"... {m} Salamanders", file=sys.stderr, flush=True)
        rows.append(row("Salamanders, NB2, 14 effects", salamanders(m)))
    if options.counts is not None:
        print("... genes", file=sys.stderr, flush=True)
        rows.append(row("genes, NB2, 123 samples", genes(options.genes, options.counts)))
    if options.cells is not None:
        print("... cells", file=sys.stderr, flush=True)
        rows.append(row("cells, NB2, 6,176 cells", cells(40, options.cells)))
    print("... many cells", file=sys.stderr, flush=True)
    rows.append(row("cells, NB2, 20,000 cells", many_cells(20)))
    print("... bootstrap", file=sys.stderr, flush=True)
    rows.append(row("cbpp bootstrap, binomial", cbpp(1000)))
    head = ["", "fits", "run, ms per fit", "whole call, ms per fit", "compile once, s"]
    for there, peer in ((peers(cbpp(1)), "glmm (Rust)"), (shutil.which("Rscript"), "glmmTMB")):
        head += [f"{peer} in a loop, ms per fit", f"{peer} / ours", f"ahead of {peer}"] if there else []
    head += ["converged", "singular", "separated", "others"]
    facts = machine.header() | {"load average at the start": load, "cores": "1"}
    text = "# Many models\n\n" + "\n".join(f"- {key}: {value}" for key, value in facts.items())
    said = TEXT.format(peer=PEER_FITS, r=R_FITS)
    (options.out / "many.md").write_text(f"{text}\n\n{said}\n\n{table(head, rows)}\n")


if __name__ == "__main__":
    main()
