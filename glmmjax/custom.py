"""A researcher's own joint negative log-likelihood behind the engine's door.

The function is opaque: its Hessian in the random effects is recovered from a few of its products with vectors, as many
as the promised structure needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._types import Array, Data, Params, Random
from glmmjax.hessians import Membership
from glmmjax.joint import Expansion, JointModel
from glmmjax.promises import Storage

HALF_LOG_2PI = 0.5 * np.log(2.0 * np.pi)


@dataclass(frozen=True)
class Shape:
    """A pytree without its numbers: hashable, and able to give a flat vector its form."""

    tree: Any
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return sum(int(np.prod(s, dtype=int)) for s in self.shapes)

    def unflatten(self, flat: Array) -> Any:
        """The pytree whose arrays follow each other in ``flat``."""
        bounds = np.cumsum([int(np.prod(s, dtype=int)) for s in self.shapes])[:-1]
        parts = jnp.split(flat, bounds) if self.shapes else []
        return jax.tree.unflatten(self.tree, [jnp.reshape(x, s) for x, s in zip(parts, self.shapes, strict=True)])

    def labels(self) -> tuple[str, ...]:
        """A name for every number: ``beta[0]``, ``log_sigma``."""
        return tuple(
            f"{name}[{', '.join(str(i) for i in place)}]" if place else name
            for name, s in zip(self.names, self.shapes, strict=True)
            for place in np.ndindex(*s)
        )


@dataclass(frozen=True)
class LikelihoodSpec:
    """Everything that decides the compiled programs of a likelihood; hashable.

    Attributes:
        nll: ``(params, random, data) -> `` the joint negative log-likelihood.
        storage: where the random effects are kept.
        params: the form of the parameters that the outer iteration moves.
        profiled: names of the parameters that are solved for together with the random effects.
    """

    nll: Callable[[Params, Any, Data], Any]
    storage: Storage
    params: Shape
    profiled: tuple[str, ...] = ()

    def split(self, params: Params, u: Random) -> tuple[Params, Any]:
        """All parameters, and the random effects as the researcher wrote them."""
        effects = self.storage.unpack(u)
        if not self.profiled:
            return params, effects
        effects, border = effects
        return {**params, **border}, effects

    @property
    def n_integrated(self) -> int:
        """The number of effects that are integrated out."""
        storage = self.storage
        border = storage.shapes[len(storage.shapes) - storage.n_border :]
        return storage.size - sum(int(np.prod(s, dtype=int)) for s in border)


@lru_cache(maxsize=256)
def joint_model(spec: LikelihoodSpec) -> JointModel:
    """The joint negative log-likelihood of a researcher, expanded by products of its Hessian with vectors.

    ``-(n_u / 2) log 2 pi`` of the Laplace approximation is part of it, so that the marginal value is complete.
    """
    structure, constant = spec.storage.structure, spec.n_integrated * HALF_LOG_2PI
    members = Membership((), {})
    probes = structure.probes(members) if spec.storage.size else ()

    def nll(params: Params, u: Random, data: Data) -> Array:
        params, effects = spec.split(params, u)
        return spec.nll(params, effects, data) - constant

    def expand(params: Params, u: Random, data: Data) -> Expansion:
        if not u:
            return Expansion(nll(params, u, data)[None], (), {})
        value = nll(params, u, data)
        score, product = jax.linearize(lambda u: jax.grad(nll, 1)(params, u, data), u)
        H = structure.from_products(jax.vmap(product)(probes), members)
        return Expansion(value[None], score, H)

    def view(params: Params, u: Random, data: Data) -> tuple[Params, Any, Data]:
        return *spec.split(params, u), data

    return JointModel(
        expand, structure, lambda data: members, lambda flat, data: spec.params.unflatten(flat), nothing, view
    )


def shape_of(tree: Any, names: Callable[[Any], str]) -> Shape:
    """The form of a pytree of arrays; ``names`` writes a path."""
    paths, treedef = jax.tree.flatten_with_path(tree)
    return Shape(treedef, tuple(names(path) for path, _ in paths), tuple(np.shape(x) for _, x in paths))


def nothing(params: Params, data: Data) -> tuple[()]:
    """The report of a model whose reports are asked for later."""
    return ()
