"""Names for the arrays and pytrees that travel between the layers."""

from __future__ import annotations

from typing import Any, TypeAlias

Array: TypeAlias = Any  # a traced jax.Array inside compiled programs, a numpy.ndarray outside
Params: TypeAlias = Any  # what is optimized, unconstrained: any pytree of arrays
Random: TypeAlias = tuple[Array, ...]  # what is integrated out: one (effects, groups) array per level
Data: TypeAlias = Any  # any pytree of arrays: what is given
