"""Lecture ratings with three crossed factors, the classic large crossed design: glmmjax, glmm and glmmTMB.

    python -m benchmarks.insteval [--out DIRECTORY]

`y > 3 ~ service + (1 | s) + (1 | d) + (1 | dept)`, binomial: 73,421 ratings by 2,972 students of 1,128
lecturers in 14 departments. The data come from R's lme4 package, which must be installed. Every peer fits in a process
of its own on all cores. glmmjax compiles in its first fit, quickly; the fits after compilation are those of a program
with all optimizations. Peak memory is that of the process until it has its first fit.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.tables import number, table

MIB = 2**20
FORMULA = "yb ~ service + (1 | s) + (1 | d) + (1 | dept)"
EXPORT = "d <- lme4::InstEval; d$yb <- as.integer(d$y > 3); write.csv(d, commandArgs(TRUE)[1], row.names = FALSE)"
GLMMTMB = """
d <- read.csv(commandArgs(TRUE)[1]); for (v in c("s", "d", "dept", "service")) d[[v]] <- factor(d[[v]])
t <- system.time(f <- glmmTMB::glmmTMB(yb ~ service + (1 | s) + (1 | d) + (1 | dept), d, family = binomial),
                 gcFirst = FALSE)[["elapsed"]]
peak <- as.numeric(gsub("[^0-9]", "", grep("VmHWM", readLines("/proc/self/status"), value = TRUE))) / 1024
cat(sprintf('{"seconds": %f, "llf": %.8f, "peak_mib": %f}', t, as.numeric(logLik(f)), peak))
"""


# glmmTMB's fixed effects after Newton steps on its own gradient, whose largest element they take from 9e-3 to 4e-10;
# the log-likelihood there is -46410.8850263593, 1.6e-7 above where it had stopped.
POLISHED = {"(Intercept)": -0.1597155694, "service[T.1]": -0.1398824292}


def glmmjax(path: str, cache: str | None = None) -> dict[str, Any]:
    import pandas as pd

    import glmmjax as gj

    if cache is not None:
        gj.enable_compilation_cache(cache)
    data = pd.read_csv(path, dtype={"service": str})
    began = time.perf_counter()
    first = gj.glmm(FORMULA, data, "binomial")
    whole = time.perf_counter() - began
    reached = machine.peak_bytes() / MIB
    in_full = gj.Control(compilation="full")
    runs = [gj.glmm(FORMULA, data, "binomial", control=in_full).timings["run"] for _ in range(4)]
    apart = max(abs(first.params[name] - value) for name, value in POLISHED.items())
    facts = {"seconds": min(runs), "llf": first.llf, "first_s": whole, "compile_s": first.timings["compile"]}
    return facts | {
        "note": f"{first.structure}; fixed effects within {apart:.0e} of glmmTMB's, polished",
        "peak_mib": reached,
    }


def glmm(path: str) -> dict[str, Any]:
    import glmm as peer
    import pandas as pd

    data = pd.read_csv(path, dtype={"service": str})
    columns = {name: data[name].to_numpy() for name in ("yb", "service", "s", "d", "dept")}
    began = time.perf_counter()
    fit = peer.fit(columns, FORMULA, family="binomial")
    return {"seconds": time.perf_counter() - began, "llf": float(fit.loglik)}


def child(peer: str, arguments: list[str]) -> None:
    facts = {"glmmjax": glmmjax, "glmm": glmm}[peer](*arguments)
    print(json.dumps({"peak_mib": machine.peak_bytes() / MIB} | facts))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.insteval", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    load = machine.load()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "insteval.csv")
        subprocess.run(["Rscript", "-e", EXPORT, path], check=True, capture_output=True)
        here = [sys.executable, "-m", "benchmarks.insteval"]
        commands = {
            "glmmjax, no cache": [*here, "glmmjax", path],
            "glmmjax, fills the cache": [*here, "glmmjax", path, folder],
            "glmmjax, from the cache": [*here, "glmmjax", path, folder],
            "glmm": [*here, "glmm", path],
            "glmmTMB": ["Rscript", "-e", GLMMTMB, path],
        }
        rows = []
        for name, command in commands.items():
            print(f"... {name}", file=sys.stderr, flush=True)
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                rows.append([name, "", "", "", "", done.stderr.strip().splitlines()[-1][:100]])
                continue
            facts = json.loads(done.stdout.splitlines()[-1])
            cells = [number(facts[key]) if key in facts else "" for key in ("seconds", "first_s", "peak_mib")]
            rows.append([name, *cells, f"{facts['llf']:.6f}", facts.get("note", "")])
    head = ["", "fit after compilation, s", "first fit, s", "peak memory, MiB", "log-likelihood", "note"]
    facts = machine.header() | {"load average at the start": load, "cores": "all"}
    text = "# Lecture ratings\n\n" + "\n".join(f"- {name}: {value}" for name, value in facts.items())
    (options.out / "insteval.md").write_text(f"{text}\n\n`{FORMULA}`, binomial\n\n{table(head, rows)}\n")


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] in ("glmmjax", "glmm"):
        child(sys.argv[1], sys.argv[2:])
    else:
        main()
