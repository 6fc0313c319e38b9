"""How much memory this process may have, and the return of what it no longer needs."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from functools import cache
from pathlib import Path


@cache
def available() -> float:
    """The bytes of this machine's memory, or of the container's where that is less; infinite where it is not known."""
    known = [float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else []
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            known.append(float(Path(file).read_text()))
    return min(known, default=float("inf"))


def return_freed() -> None:
    """Hand freed memory back to the system where the C library (glibc) keeps it: a compiler leaves 50 MiB and more."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
