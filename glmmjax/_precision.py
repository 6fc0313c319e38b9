"""The scoped context that every public entry point runs in: float64, and JAX's own settings for the rest.

The Laplace approximation needs double precision. Setting it process-wide would change other people's code, so it is
scoped: inside the context arrays are float64, outside nothing has changed. What leaves the context is NumPy, because a
float64 JAX array would be demoted by the first operation outside. In the same way settings that a user has made to
check code of their own, such as ``jax_debug_nans`` or ``jax_disable_jit``, do not reach the programs of a fit, in which
a NaN is a value that is looked at and a loop has to be compiled. A likelihood of one's own is a part of these programs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import jax
import numpy as np

from glmmjax._errors import FitError

# Settings with which programs would stop, or compute something else: the name, what holds inside, and what makes it so.
_INSIDE: tuple[tuple[str, Any, Callable[[Any], AbstractContextManager[Any]]], ...] = (
    ("jax_disable_jit", False, jax.disable_jit),
    ("jax_debug_nans", False, jax.debug_nans),
    ("jax_debug_infs", False, jax.debug_infs),
    ("jax_check_tracer_leaks", False, jax.check_tracer_leaks),
    ("jax_numpy_rank_promotion", "allow", jax.numpy_rank_promotion),
    ("jax_numpy_dtype_promotion", "standard", jax.numpy_dtype_promotion),
    ("jax_default_matmul_precision", None, jax.default_matmul_precision),
    ("jax_transfer_guard_host_to_device", None, lambda _: jax.transfer_guard_host_to_device("allow")),
    ("jax_transfer_guard_device_to_device", None, lambda _: jax.transfer_guard_device_to_device("allow")),
    ("jax_transfer_guard_device_to_host", None, lambda _: jax.transfer_guard_device_to_host("allow")),
    ("jax_default_dtype_bits", "64", lambda bits: _default_dtype_bits(bits)),
)

_entered = False  # whether this process, or one that it was forked from, has entered the context
_forked = False  # whether this process was forked from one in which JAX had begun


@contextmanager
def double_precision(device: jax.Device | None = None) -> Iterator[None]:
    """Run a block in float64, on ``device`` if one is given.

    Raises:
        FitError: the process was forked from one that had used JAX.
    """
    global _entered
    if _forked:
        raise FitError(
            "this process was forked from one in which JAX had already run, and would wait for ever. Start processes "
            "with multiprocessing.get_context('spawn') or 'forkserver', or with joblib, whose default is neither; or "
            "fork before anything is fitted."
        )
    _entered = True
    config = jax.config
    unusual = [(within, value) for name, value, within in _INSIDE if getattr(config, name, value) != value]
    with jax.enable_x64(True):
        if device is None and not unusual:  # an entry into the context costs as much as all of the above
            yield
            return
        with ExitStack() as settings:
            for within, value in unusual:
                settings.enter_context(within(value))
            if device is not None:
                settings.enter_context(jax.default_device(device))
            yield


def _default_dtype_bits(bits: str) -> AbstractContextManager[Any]:
    """A setting of older versions of JAX that has no public context."""
    from jax._src import config

    return config.default_dtype_bits(bits)  # type: ignore[attr-defined]


def _note_fork() -> None:
    """Remember in a forked process whether the threads of JAX, which it does not have, are waited for."""
    global _forked
    _forked = _forked or _jax_has_begun()


def _jax_has_begun() -> bool:
    """Whether JAX has started its threads: anybody's JAX, where its version says so, otherwise glmmjax's."""
    from jax._src import xla_bridge

    begun = getattr(xla_bridge, "backends_are_initialized", None)
    return _entered if begun is None else begun()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def to_numpy(tree: Any) -> Any:
    """The same pytree with NumPy arrays as leaves."""
    return jax.tree.map(np.asarray, tree)
