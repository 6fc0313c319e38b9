"""Names for the arrays and pytrees that travel between the layers."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax

Array: TypeAlias = jax.Array
Params: TypeAlias = dict[str, Array]  # what is optimized, unconstrained
Random: TypeAlias = tuple[Array, ...]  # what is integrated out: one (groups, effects) array per level
Data: TypeAlias = Any  # any pytree of arrays: what is given
