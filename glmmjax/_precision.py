"""The scoped float64 context that every public entry point runs in.

The Laplace approximation needs double precision. Setting it process-wide would change other people's code, so it is
scoped: inside the context arrays are float64, outside nothing has changed. What leaves the context is NumPy, because a
float64 JAX array would be demoted by the first operation outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np


@contextmanager
def double_precision(device: jax.Device | None = None) -> Iterator[None]:
    """Run a block in float64, on ``device`` if one is given."""
    with jax.enable_x64(True):
        if device is None:
            yield
        else:
            with jax.default_device(device):
                yield


def to_numpy(tree: Any) -> Any:
    """The same pytree with NumPy arrays as leaves."""
    return jax.tree.map(np.asarray, tree)
