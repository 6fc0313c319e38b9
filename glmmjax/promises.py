"""What a researcher promises about the Hessian in the random effects, and where effects are kept under a promise.

The engine keeps effects as (effects, groups) arrays, one per level; researchers write arrays of any shape under any
names. A promise says which effects can be coupled. Bound to the shapes of the effects it becomes a :class:`Storage`,
which knows the structure, and the way there and back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._errors import ArgumentError
from glmmjax._types import Random
from glmmjax.hessians import Banded, BorderedHessian, DenseHessian, Level, Sparse, Structure
from glmmjax.hessians import Blocks as BlocksHessian
from glmmjax.hessians import Crossed as CrossedHessian

Shapes: TypeAlias = tuple[tuple[int, ...], ...]

# Up to so many effects a dense Hessian is taken where nothing is promised.
DENSE_LIMIT = 1000


@dataclass(frozen=True)
class Dense:
    """Any effect may be coupled with any other: ``n`` effects cost ``n`` products and a factorization of ``n^3 / 3``.

    >>> Dense()
    Dense()
    """


@dataclass(frozen=True)
class Blocks:
    """Effects of different groups are not coupled; the first axis of every array of effects counts the groups.

    ``random={"a": (G,), "b": (G, 2)}`` is G blocks of three effects each.

    >>> Blocks()
    Blocks()
    """


@dataclass(frozen=True)
class Crossed:
    """Every array of effects belongs to a grouping factor of its own, whose groups its first axis counts.

    Effects of different groups of the *same* factor are not coupled, effects of different factors may be. The largest
    factor is eliminated, the others are kept dense.

    >>> Crossed()
    Crossed()
    """


Promise: TypeAlias = "Dense | Blocks | Crossed | Banded | Sparse"
PROMISES = (Dense, Blocks, Crossed, Banded, Sparse)


@dataclass(frozen=True)
class Storage:
    """Where each effect of a pytree is kept; hashable.

    Attributes:
        structure: of the Hessian in the effects.
        tree, names, shapes: the pytree, and the name and shape of each of its arrays.
        arrangement: "flat", one array after the other; "steps", all arrays advance together along their first axis;
            "groups", one level whose groups the first axis counts; "levels", one level for each array.
        order: under "levels", the names of the arrays level by level; by default those with most groups first.
        n_border: how many arrays at the end of the pytree belong to the border of a bordered structure.
    """

    structure: Structure
    tree: Any
    names: tuple[str, ...]
    shapes: Shapes
    arrangement: str
    n_border: int = 0
    order: tuple[str, ...] = ()

    def pack(self, effects: Any) -> Random:
        """A pytree of effects as the engine keeps it; NumPy or traced."""
        flat = jnp.concatenate([jnp.reshape(x, -1) for x in jax.tree.leaves(effects)])
        return tuple(flat[index] for index in self.index)

    def unpack(self, u: Random) -> Any:
        """The pytree again."""
        if not self.size:
            return jax.tree.unflatten(self.tree, [jnp.zeros(s) for s in self.shapes])
        flat = jnp.concatenate([jnp.reshape(x, -1) for x in u])
        flat = flat if self._in_order else flat[self._back]
        bounds = np.cumsum([np.prod(s, dtype=int) for s in self.shapes])[:-1]
        leaves = [jnp.reshape(x, s) for x, s in zip(jnp.split(flat, bounds), self.shapes, strict=True)]
        return jax.tree.unflatten(self.tree, leaves)

    def label(self, flat: int) -> str:
        """The name of an effect from its position in the flattened pytree: ``u[3, 1]``."""
        for name, shape in zip(self.names, self.shapes, strict=True):
            size = int(np.prod(shape, dtype=int))
            if flat < size:
                place = ", ".join(str(int(i)) for i in np.unravel_index(flat, shape)) if shape else ""
                return f"{name}[{place}]" if place else name
            flat -= size
        raise IndexError(flat)

    @property
    def size(self) -> int:
        """The number of effects."""
        return sum(int(np.prod(s, dtype=int)) for s in self.shapes)

    @cached_property
    def index(self) -> tuple[np.ndarray, ...]:
        """Per level, where each of its effects (d, G) stands in the flattened pytree."""
        sizes = [int(np.prod(s, dtype=int)) for s in self.shapes]
        starts = np.cumsum([0, *sizes[:-1]])
        own = [
            np.arange(start, start + size).reshape(s) for start, size, s in zip(starts, sizes, self.shapes, strict=True)
        ]
        inner, border = own[: len(own) - self.n_border], own[len(own) - self.n_border :]
        edge = [np.concatenate([x.reshape(-1) for x in border])[:, None]] if border else []
        if self.arrangement == "groups":
            levels = [np.concatenate([x.reshape(len(x), -1) for x in inner], axis=1).T]
        elif self.arrangement == "levels":
            by_name = dict(zip(self.names, (x.reshape(len(x), -1).T for x in inner), strict=False))
            order = self.order or tuple(sorted(by_name, key=lambda name: -by_name[name].shape[1]))
            levels = [by_name[name] for name in order]
        elif self.arrangement == "steps":
            levels = [np.concatenate([x.reshape(len(x), -1) for x in inner], axis=1).reshape(1, -1)]
        else:
            levels = [np.concatenate([x.reshape(-1) for x in inner])[None]]
        return (*levels, *edge)

    @cached_property
    def _back(self) -> np.ndarray:
        return np.argsort(np.concatenate([x.reshape(-1) for x in self.index]), kind="stable")

    @cached_property
    def _in_order(self) -> bool:
        return bool(np.array_equal(self._back, np.arange(self.size)))


def store(effects: Any, promise: Promise | None, border: Any = None) -> Storage:
    """The storage of a pytree of effects (NumPy arrays) under a promise.

    Args:
        effects: the pytree; its values do not matter.
        promise: None takes :class:`Dense` up to 1,000 effects.
        border: parameters that are solved for with the effects; a pytree, or None.

    Raises:
        ArgumentError: the promise does not fit the shapes, or none is given for too many effects.
    """
    paths, tree = jax.tree.flatten_with_path(effects)
    names = tuple(path_name(path) for path, _ in paths)
    shapes = tuple(np.shape(x) for _, x in paths)
    structure, arrangement = _bind(promise, names, shapes)
    if not jax.tree.leaves(border):
        return Storage(structure, tree, names, shapes, arrangement)
    more, _ = jax.tree.flatten_with_path(border)
    together = jax.tree.structure((effects, border))
    size = sum(int(np.size(x)) for _, x in more)
    return Storage(
        BorderedHessian(structure, size),
        together,
        (*names, *(path_name(path) for path, _ in more)),
        (*shapes, *(np.shape(x) for _, x in more)),
        arrangement,
        len(more),
    )


def path_name(path: Any) -> str:
    """A leaf's place in a pytree as people write it: ``u``, ``trees.height``."""
    parts = (str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)
    return ".".join(parts) or "value"


def _bind(promise: Promise | None, names: tuple[str, ...], shapes: Shapes) -> tuple[Structure, str]:
    n = sum(int(np.prod(s, dtype=int)) for s in shapes)
    if n == 0:
        return BlocksHessian(()), "flat"
    if promise is None:
        if n > DENSE_LIMIT:
            raise ArgumentError(
                f"there are {n} random effects and structure= is not given: promise which of them can be coupled with "
                "gj.Blocks(), gj.Crossed(), gj.Banded(k) or gj.Sparse(pattern), have the pattern detected with "
                f"structure='detect' (needs the asdex package), or give gj.Dense() if {n} x {n} is what you want."
            )
        promise = Dense()
    if isinstance(promise, Dense):
        return DenseHessian(n), "flat"
    if isinstance(promise, Sparse):
        if promise.n != n:
            raise ArgumentError(
                f"structure: the pattern is {promise.n} x {promise.n}, but there are {n} random effects."
            )
        return promise, "flat"
    if isinstance(promise, Banded):
        together = len(shapes) > 1 and len({s[:1] for s in shapes}) == 1 and all(shapes)
        return promise.bind(n), "steps" if together else "flat"
    if not isinstance(promise, (Blocks, Crossed)):
        raise ArgumentError(
            f"structure must be gj.Dense(), gj.Blocks(), gj.Crossed(), gj.Banded(k) or gj.Sparse(pattern), not "
            f"{promise!r}."
        )
    scalars = [name for name, s in zip(names, shapes, strict=True) if not s]
    if scalars:
        raise ArgumentError(
            f"structure: random[{scalars[0]!r}] is one number, so it has no first axis to count groups."
        )
    widths = [int(np.prod(s[1:], dtype=int)) for s in shapes]
    if isinstance(promise, Crossed):
        if len(shapes) < 2:
            raise ArgumentError("structure: gj.Crossed() needs at least two arrays of random effects, one per factor.")
        levels = sorted(
            (Level(s[0], d) for s, d in zip(shapes, widths, strict=True)), key=lambda level: -level.n_groups
        )
        return CrossedHessian(tuple(levels)), "levels"
    groups = {name: s[0] for name, s in zip(names, shapes, strict=True)}
    if len(set(groups.values())) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in groups.items())
        raise ArgumentError(
            f"structure: under gj.Blocks() all first axes must have the same length; there are {counts}."
        )
    return BlocksHessian((Level(shapes[0][0], sum(widths)),), pooled=True), "groups"
