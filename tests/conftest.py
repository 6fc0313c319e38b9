"""What the tests share: the recorded R fits, and glmmjax's fits of the same models, each made once per session."""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from glmmjax.result import Fit

# Most of what tests take is the compiler's time, and of that its optimization, for programs that run a few times: they
# are compiled as `glmmjax.programs.QUICK` says, also where a test calls jax.jit itself or JAX compiles one operation.
# `XLA_FLAGS= python -m pytest` compiles as users do; the slow tests are run in that way by .ci/run.
QUICK_FLAGS = ("--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false")


def known_flags(flags: Sequence[str]) -> list[str]:
    """Those of some XLA flags that this version has; a process that is given others does not start."""

    def starts(given: Sequence[str]) -> bool:
        environment = {**os.environ, "XLA_FLAGS": " ".join(given), "JAX_PLATFORMS": "cpu"}
        done = subprocess.run([sys.executable, "-c", "import jax; jax.devices()"], env=environment, capture_output=True)
        return done.returncode == 0

    return list(flags) if starts(flags) else [flag for flag in flags if starts([flag])]


if "XLA_FLAGS" not in os.environ:  # the workers of pytest-xdist inherit it
    os.environ["XLA_FLAGS"] = " ".join(known_flags(QUICK_FLAGS))

CASES: dict[str, dict[str, Any]] = {
    case["name"]: case for case in json.loads((Path(__file__).parent / "reference" / "cases.json").read_text())
}


# models of reference/tmb, and the example that fits each
TMB_EXAMPLES = {
    "thetalog": "05_state_space.py",
    "spatial": "06_spatial_counts.py",
    "orange_big": "07_growth_curves.py",
    "nmixture": "08_n_mixture.py",
    "theophylline": "09_pharmacokinetics.py",
    "spde": "10_spde.py",
    "sv2": "11_stochastic_volatility.py",
}


@cache
def fit_case(name: str) -> Fit:
    """glmmjax's fit of a recorded case; cases that ask for the same model share one fit."""
    case = CASES[name]
    return _fit(case["data"], case["formula"], case["family"], **case["call"])


@cache
def _fit(data: str, formula: str, family: str, **columns: str) -> Fit:
    import glmmjax

    frame = glmmjax.datasets.load(data)
    given = {argument: frame[column].to_numpy() for argument, column in columns.items()}
    return glmmjax.glmm(formula, frame, family=family, **given)


@cache
def run_example(name: str) -> tuple[dict[str, Any], str]:
    """The names that an example leaves, and what it prints; each example runs once."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        names = runpy.run_path(str(Path(__file__).parents[1] / "examples" / name))
    return names, printed.getvalue()


@pytest.fixture(scope="session")
def fitted() -> Callable[[str], Fit]:
    """`fitted("salamanders_nb2")`: the fit of that case."""
    return fit_case


@pytest.fixture(scope="session")
def reference() -> Callable[[str], dict[str, Any]]:
    """`reference("salamanders_nb2")`: what R reports for that case."""
    return lambda name: CASES[name]["reference"]


@pytest.fixture(autouse=True, scope="module")
def free_memory() -> Iterator[None]:
    """Programs of one module are not needed by the next; hundreds are gigabytes and more memory maps than Linux has."""
    yield
    import jax

    from glmmjax import programs

    programs._compiled.clear()
    jax.clear_caches()
