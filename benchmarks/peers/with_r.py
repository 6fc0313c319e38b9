"""glmmTMB and lme4, fitted and timed inside one R process that waits for requests, so that all peers can take turns."""

from __future__ import annotations

import atexit
import json
import shutil
import subprocess
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peers import NOT_INSTALLED, Fitters, Sample

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.models import Model

ENGINES = {"glmmTMB": "glmmTMB", "glmmTMB without gc()": "glmmTMB-nogc", "lme4": "lme4"}
LME4_NBINOM = "glmer.nb approximates another likelihood (expected information), so it cannot be compared"


def fitters(model: Model, data: pd.DataFrame) -> Fitters:
    installed = versions()
    folder = Path(tempfile.mkdtemp(prefix="benchmarks-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    data.to_csv(folder / "data.csv", index=False)
    found: Fitters = {}
    for name, engine in ENGINES.items():
        if engine.split("-")[0] not in installed:
            found[name] = NOT_INSTALLED
        elif engine == "lme4" and model.family == "nbinom2":
            found[name] = LME4_NBINOM
        else:
            found[name] = partial(_sample, engine, model.family, str(folder / "data.csv"), model.formula)
    return found


def versions() -> dict[str, str]:
    """Versions of R, its BLAS and the packages that are installed; nothing where there is no R."""
    return _session()[1] if shutil.which("Rscript") else {}


def _sample(*request: str) -> Sample:
    process, _ = _session()
    print("\t".join(request), file=process.stdin, flush=True)
    answer = _answer(process)
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return Sample(answer["seconds"], answer["llf"], note=answer["note"])


@cache
def _session() -> tuple[subprocess.Popen[str], dict[str, str]]:
    script = Path(__file__).with_name("fit.R")
    process = subprocess.Popen(
        ["Rscript", "--vanilla", str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(process.communicate)  # closes its input, on which it ends
    return process, _answer(process)


def _answer(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"R ended with exit status {process.wait()}")
    return json.loads(line)
