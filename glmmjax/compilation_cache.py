"""Compiled programs kept on disk, so that the next process need not make them again.

JAX's own persistent cache saves the compilation but not the tracing and lowering before it. Here the finished
executable is stored, under a key of everything that decides it: this package's source, the versions of JAX, the
machine, and the program with its static arguments and shapes. Programs with functions from outside the package (a
private family) are not stored, because the key could not see their code change.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np

from glmmjax.surroundings import has_own_functions

_directory: Path | None = None


def enable_compilation_cache(path: str | os.PathLike[str] | None = None) -> Path:
    """Keep compiled programs in ``path`` from now on, in this process; returns the directory.

    Without ``path`` it is ``glmmjax`` in the user's cache directory. Only glmmjax's own programs are stored; JAX's
    configuration is left alone. Entries hold machine code and are unpickled, so the directory must be one that only you
    can write to; a new one is made so. Entries of other machines or versions are never used and can be deleted.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     enable_compilation_cache(folder).is_dir()
    True
    >>> disable_compilation_cache()
    """
    global _directory
    directory = _default_directory() if path is None else Path(path).expanduser()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _directory = directory
    return directory


def disable_compilation_cache() -> None:
    """Neither read nor write the cache from now on."""
    global _directory
    _directory = None


def read(program: Any, static: tuple[Any, ...], signature: Any) -> Any | None:
    """The stored executable of a program, or None."""
    file = _file(program, static, signature)
    if file is None or not file.exists():
        return None
    from jax.experimental.serialize_executable import deserialize_and_load

    _register_kernels()
    try:
        (content, in_tree, out_tree), numbers = pickle.loads(file.read_bytes())
        devices = [device for number in numbers for device in jax.devices() if device.id == number]
        return deserialize_and_load(content, in_tree, out_tree, execution_devices=devices)
    except Exception:  # a damaged entry, or one that this runtime cannot load: compile it anew
        file.unlink(missing_ok=True)
        return None


def write(program: Any, static: tuple[Any, ...], signature: Any, executable: Any) -> None:
    """Store an executable; a full disk or a runtime that cannot serialize must not stop a fit."""
    file = _file(program, static, signature)
    if file is None:
        return
    from jax.experimental.serialize_executable import serialize

    try:
        content = pickle.dumps((serialize(executable), _device_numbers(executable)))
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as draft:
            draft.write(content)
        os.replace(draft.name, file)
    except (OSError, ValueError, NotImplementedError):
        return


def _device_numbers(executable: Any) -> list[int]:
    """The devices that a program runs on, in its order of them; those of a process that loads it are all by default."""
    sharding = jax.tree.leaves(executable.output_shardings)[0]
    mesh = getattr(sharding, "mesh", None)
    return [device.id for device in (sharding.device_set if mesh is None else mesh.devices.flat)]


def _file(program: Any, static: tuple[Any, ...], signature: Any) -> Path | None:
    if _directory is None or has_own_functions(static):
        return None
    try:
        code = pickle.dumps((program, static))
    except (pickle.PicklingError, AttributeError, TypeError):
        return None
    key = hashlib.sha256(repr((_environment(), signature)).encode() + code)
    return _directory / f"{program.__name__}-{key.hexdigest()[:32]}.bin"


@cache
def _environment() -> tuple[str, ...]:
    """What a compiled program depends on besides its own definition."""
    source = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        source.update(file.read_bytes())
    return (
        source.hexdigest(),
        sys.version,
        jax.__version__,
        jaxlib.version.__version__,
        np.__version__,
        jax.devices()[0].client.platform_version,
        jax.devices()[0].device_kind,
        os.environ.get("XLA_FLAGS", ""),
        _processor(),
    )


def _processor() -> str:
    """The instruction sets of this machine: compiled code does not move to one that lacks them."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        return platform.machine() + next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return platform.machine() + platform.processor() + platform.node()


def _default_directory() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "glmmjax"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "glmmjax"
    return Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "glmmjax"


@cache
def _register_kernels() -> None:
    """JAX registers its LAPACK kernels when it first lowers a call to one; a loaded executable calls them directly."""
    jax.jit(jax.numpy.linalg.eigh).lower(np.eye(2))
