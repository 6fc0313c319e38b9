"""Where and with what a run was made: the header of the report."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.peers import with_r

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "pandas", "formulaic", "glmm", "gpboost", "statsmodels")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


def limit_cores(count: int) -> str:
    """Confine this process and its children to ``count`` cores, all if 0; says what was done.

    Call before JAX is imported: its threads are made for the cores it finds then.
    """
    if count == 0:
        return "all cores"
    for name in THREAD_VARIABLES:
        os.environ[name] = str(count)
    if not hasattr(os, "sched_setaffinity"):
        return f"not pinned (this system cannot), thread variables set to {count}"
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, allowed[-count:])
    return f"pinned to {count} of {len(allowed)} cores, for every peer"


def peak_bytes() -> int:
    """The largest memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def header() -> dict[str, str]:
    """Date, machine and versions, in words."""
    python = {name: found for name in PACKAGES if (found := _version(name))}
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_processor()}, {os.cpu_count()} cores, {_memory()}",
        "system": f"{_system()}, {platform.machine()}",
        "glmmjax": _commit(),
        "Python packages": _listed({"Python": platform.python_version()} | python),
        "R packages": _listed(with_r.versions()) or "not installed",
    }


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.platform()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        values = dict(line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line)
        facts = {key.strip(): value.strip() for key, value in values.items()}
        if "model name" in facts:
            return f"{facts['model name']} (family {facts.get('cpu family')}, model {facts.get('model')})"
    return platform.processor() or platform.machine()


def _memory() -> str:
    return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB memory"


def load() -> str:
    """The load averages now, to be asked for before the run adds its own."""
    return ", ".join(f"{load:.2f}" for load in os.getloadavg()) + " (1, 5, 15 minutes)"


def _commit() -> str:
    """The version and the commit; "dirty" with changes other than those of the pages that a run writes."""
    import glmmjax

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parents[1]), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit = git("describe", "--always")
        commit += "-dirty" if git("status", "--porcelain", "--", ".", ":!benchmarks/results", ":!README.md") else ""
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return f"{glmmjax.__version__}, commit {commit}"
