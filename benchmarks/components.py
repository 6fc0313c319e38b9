"""Zero-inflated, hurdle, tweedie, Conway-Maxwell-Poisson, ordered beta and ordinal models: glmmjax and R.

    python -m benchmarks.components [--out DIRECTORY] [--repeats 30] [--budget 10] [--cases NAMES]

Each fits a model once to warm up, then ``--repeats`` times in a row or until ``--budget`` seconds have gone: R in one
process with glmmTMB or ordinal. glmmjax compiles in its first fit, which stands apart. Medians on one core.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import machine
from benchmarks.tables import number, table


class Case(NamedTuple):
    """A model: the data set, the call of R, that of glmmjax on a data frame, and how often the data are repeated.

    Repeated data have groups of their own in each copy, so that a call has more to do than its fixed part.
    """

    data: str
    r: str
    ours: Callable[[Any], Any]
    copies: int = 1
    group: str = ""

    def load(self) -> Any:
        """The data frame."""
        import pandas as pd

        import glmmjax as gj

        data = gj.datasets.load(self.data)
        if self.copies == 1:
            return data
        parts = [data.assign(**{self.group: data[self.group].astype(str) + f".{k}"}) for k in range(self.copies)]
        return pd.concat(parts, ignore_index=True)


def _glmm(formula: str, family: str, **more: Any) -> Callable[[Any], Any]:
    def fit(data: Any) -> Any:
        import glmmjax as gj

        return gj.glmm(formula, data, family, control=gj.Control(compilation="full"), **more)

    return fit


def _clmm(data: Any) -> Any:
    import glmmjax as gj

    return gj.clmm("rating ~ temp + contact + (1 | judge)", data, control=gj.Control(compilation="full"))


_WINE = "clmm(factor(rating) ~ temp + contact + (1 | judge), data = d)"
_SPECIES = "count ~ spp + mined + (1 | site)"
CASES = {
    "Salamanders ZINB2": Case(
        "salamanders",
        f"glmmTMB({_SPECIES}, d, ziformula = ~ mined, family = nbinom2)",
        _glmm(_SPECIES, "nbinom2", ziformula="~ mined"),
    ),
    "Salamanders hurdle": Case(
        "salamanders",
        f"glmmTMB({_SPECIES}, d, ziformula = ~ mined, family = truncated_nbinom2)",
        _glmm(_SPECIES, "truncated_nbinom2", ziformula="~ mined"),
    ),
    "Salamanders tweedie": Case("salamanders", f"glmmTMB({_SPECIES}, d, family = tweedie)", _glmm(_SPECIES, "tweedie")),
    "sleepstudy ordbeta": Case(
        "sleepstudy",
        "{d$u <- pmin(pmax((d$Reaction - 220) / 180, 0), 1); "
        "glmmTMB(u ~ Days + (1 | Subject), d, family = ordbeta(), start = list(psi = c(-1, 1)))}",
        lambda data: _glmm("u ~ Days + (1 | Subject)", "ordbeta")(
            data.assign(u=((data["Reaction"] - 220) / 180).clip(0, 1))
        ),
    ),
    "wine clmm": Case("wine", _WINE, _clmm),
    "wine clmm x 50": Case("wine", _WINE, _clmm, 50, "judge"),
    "epil2 compois": Case(
        "epil2",
        "glmmTMB(y ~ Base + trt + (1 | subject), d, family = compois)",
        _glmm("y ~ Base + trt + (1 | subject)", "compois"),
    ),
}

_R = """
suppressMessages({library(glmmTMB); library(ordinal)})
a <- commandArgs(TRUE); d <- read.csv(a[1]); repeats <- as.integer(a[3]); budget <- as.numeric(a[4])
for (v in intersect(c("site", "spp", "mined", "Subject", "judge", "temp", "contact", "subject", "trt"), names(d))) {
  d[[v]] <- factor(d[[v]])
}
model <- parse(text = a[2]); times <- c()
for (k in 0:repeats) {
  t <- proc.time()[["elapsed"]]; f <- suppressWarnings(eval(model)); t <- proc.time()[["elapsed"]] - t
  if (k > 0) times <- c(times, t)
  if (sum(times) > budget) break
}
cat(sprintf('{"seconds": %f, "llf": %.8f}', median(times), as.numeric(logLik(f))))
"""


def ours(name: str, repeats: int, budget: float) -> dict[str, Any]:
    case = CASES[name]
    data = case.load()
    first = case.ours(data)
    whole: list[float] = []
    run: list[float] = []
    while len(whole) < repeats and sum(whole) < budget:
        began = time.perf_counter()
        fit = case.ours(data)
        whole.append(time.perf_counter() - began)
        run.append(fit.timings["run"])
    return {
        "seconds": statistics.median(whole),
        "run": statistics.median(run),
        "compile": first.timings["compile"],
        "llf": first.llf,
        "status": first.status,
    }


def theirs(name: str, repeats: int, budget: float) -> dict[str, Any]:
    """The seconds and the log-likelihood of R; NaN where it is not installed."""
    if shutil.which("Rscript") is None:
        return {"seconds": math.nan, "llf": math.nan}
    case = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        case.load().to_csv(path, index=False)
        command = ["Rscript", "-e", _R, str(path), case.r, str(repeats), str(budget)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.components", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--budget", type=float, default=10.0)
    parser.add_argument("--cases", default=",".join(CASES), help="names with commas (default: all)")
    options = parser.parse_args()
    load = machine.load()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    rows = []
    for name in options.cases.split(","):
        print(f"... {name}", file=sys.stderr, flush=True)
        own = ours(name, options.repeats, options.budget)
        other = theirs(name, options.repeats, options.budget)
        rows.append(
            [
                name,
                number(own["seconds"]),
                number(own["run"]),
                number(own["compile"]),
                number(other["seconds"]),
                number(other["seconds"] / own["seconds"]),
                f"{own['llf'] - other['llf']:.1e}",
                own["status"],
            ]
        )
    head = [
        "",
        "whole call, s",
        "of which run, s",
        "compile once, s",
        "R, s",
        "R / glmmjax",
        "log-likelihood ahead",
        "",
    ]
    facts = machine.header() | {"load average at the start": load, "cores": "1"}
    text = "# Families and components\n\n" + "\n".join(f"- {key}: {value}" for key, value in facts.items())
    (options.out / "components.md").write_text(f"{text}\n\n{table(head, rows)}\n")


if __name__ == "__main__":
    main()
