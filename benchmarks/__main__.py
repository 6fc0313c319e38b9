"""Run the benchmarks and write ``results.md`` with its tables as CSV files beside it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import first_process, growth, machine, report
from benchmarks.models import MODELS
from benchmarks.tables import write_csv
from benchmarks.timing import compare

SECTIONS = ("first_process", "growth", "fits")
PAGES = ("components", "structures", "insteval", "many", "scaling")  # programs of their own
FIRST_PROCESS_MODELS = ("contraception_slope", "salamanders_nb2")


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    unknown = set(options.models) - set(MODELS) | set(options.sections) - set(SECTIONS)
    if unknown:
        known = f"Models: {', '.join(MODELS)}. Sections: {', '.join(SECTIONS)}."
        sys.exit(f"Unknown: {', '.join(sorted(unknown))}. {known}")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    options.out.mkdir(parents=True, exist_ok=True)
    # A child's peak memory starts at what its parent holds, and threads keep the cores they were made with. So the
    # processes measured from outside come first, then the cores are limited, then glmmjax and the peers are imported.
    began, load, parts = time.perf_counter(), machine.load(), []
    if "first_process" in options.sections:
        _say("first process")
        rows = first_process.measure(
            [name for name in FIRST_PROCESS_MODELS if name in options.models] or options.models[:1], options.processes
        )
        write_csv(options.out / "first_process.csv", rows)
        parts.append("## First process\n\nAll cores. " + report.first_process_markdown(rows))
    cores = machine.limit_cores(options.cores)
    if "growth" in options.sections:
        _say("growth")
        rows = growth.measure()
        write_csv(options.out / "growth.csv", rows)
        parts.append(f"## Growth\n\n{growth.TEXT}\n\n" + report.growth_markdown(rows))
    if "fits" in options.sections:
        comparisons = []
        for name in options.models:
            _say(name)
            comparisons.append(compare(MODELS[name], options.turns, options.budget))
        write_csv(options.out / "fits.csv", report.fits_rows(comparisons))
        parts.insert(0, "## Fits\n\n" + report.fits_markdown(comparisons))
    facts = machine.header() | {
        "load average at the start": load,
        "cores": cores,
        "command": "python -m benchmarks " + " ".join(sys.argv[1:]),
    }
    facts["took"] = f"{(time.perf_counter() - began) / 60:.1f} minutes"
    head = "# Benchmark results\n\nHow to read them: [README](../README.md).\n\n"
    head += "\n".join(f"- {name}: {value}" for name, value in facts.items())
    text = "\n\n".join([head, *parts]) + "\n"
    (options.out / "results.md").write_text(text)
    print(text)
    for page in PAGES if options.everything else ():
        _say(page)
        files = {"--counts": options.counts, "--cells": options.cells} if page == "many" else {}
        more = [word for name, file in files.items() if file is not None for word in (name, str(file))]
        command = [sys.executable, "-m", f"benchmarks.{page}", "--out", str(options.out), *more]
        done = subprocess.run(command, check=False)
        if done.returncode != 0:
            _say(f"{page} ended with an error: {options.out / page}.md is not of this run")


def _parser() -> argparse.ArgumentParser:
    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--models", type=names, default=list(MODELS), help=f"of {','.join(MODELS)}")
    parser.add_argument("--sections", type=names, default=list(SECTIONS), help=f"of {','.join(SECTIONS)}")
    parser.add_argument("--turns", type=int, default=20, help="turns of each peer at each model")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of turns per model and peer")
    parser.add_argument("--processes", type=int, default=5, help="fresh processes for the first-process figures")
    parser.add_argument("--cores", type=int, default=1, help="cores for fits and growth; 0 for all")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--everything", action="store_true", help=f"then the other pages: {', '.join(PAGES)}")
    parser.add_argument("--counts", type=Path, help="the genes of the page many; see benchmarks.many")
    parser.add_argument("--cells", type=Path, help="the cells of the page many; see benchmarks.many")
    return parser


def _say(text: str) -> None:
    print(f"... {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
