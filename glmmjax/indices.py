"""The indices of a researcher's likelihood, looked over before anything is fitted.

JAX takes the last entry for an index beyond an array, counts negative ones from the end and leaves them out of sums,
all without a word: the fit of another model. An index of which the value does not depend, as one that ``jnp.where``
masks, is left alone.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from glmmjax._errors import DataError
from glmmjax._precision import to_numpy
from glmmjax._types import Array, Data, Random
from glmmjax.accesses import Access, Tampering, accesses, tampered
from glmmjax.custom import LikelihoodSpec
from glmmjax.observations import ObservationSpec
from glmmjax.programs import Source, compiled
from glmmjax.solving import Problem
from glmmjax.surroundings import read_surroundings, tracing


def check_indices(problem: Problem, spec: LikelihoodSpec | ObservationSpec, flat: np.ndarray) -> None:
    """Raise DataError for an index into parameters, effects or data that is not there; call in double precision."""
    given = (flat, problem.modes, problem.data)
    program, _ = compiled(_indices_program, (problem.source,), given)
    found = [np.asarray(x).reshape(-1, 3) for x in program(*given)]
    if not any(np.any(summary[:, 0] > 0) for summary in found):
        return
    listed: list[Access] = []

    def trace(*arguments: Any) -> Any:
        function, names, own = _as_written(problem.source, *arguments)
        seen, summaries = accesses(function, names, *own)
        listed[:] = seen
        return summaries

    with tracing(read_surroundings((problem.source,))):
        shapes = jax.eval_shape(trace, *given)
    for access, summary, shape in zip(listed, found, shapes, strict=True):
        if np.any(summary[:, 0] > 0) and _matters(problem, access, flat):
            raise DataError(_message("nll_obs" if isinstance(spec, ObservationSpec) else "nll", access, summary, shape))


def _as_written(source: Source, flat: Array, u: Random, data: Data) -> tuple[Any, tuple[str, ...], tuple[Any, ...]]:
    """The function that the researcher wrote, for all observations at once, the names of its arguments, and these."""
    spec, model = source[1], source[0](source[1])
    params, effects, rows = model.view(model.unflatten(flat, data), u, data)
    if not isinstance(spec, ObservationSpec):
        return spec.nll, ("params", "random", "data"), (params, effects, rows)
    own = {name: effects[name][data.members.rows[k]] for k, name in enumerate(spec.factors)}

    def weighted(params: Any, own: Any, rows: Any) -> Array:
        return data.weights * jax.vmap(spec.nll, in_axes=(None, 0, 0))(params, own, rows)

    return weighted, ("params", "effects", "row"), (params, own, rows)


def _indices_program(source: Source, flat: Array, u: Random, data: Data) -> list[Array]:
    function, names, arguments = _as_written(source, flat, u, data)
    return accesses(function, names, *arguments)[1]


def _tampered_program(source: Source, tampering: Tampering | None, flat: Array, u: Random, data: Data) -> Array:
    function, names, arguments = _as_written(source, flat, u, data)
    return tampered(function, names, tampering, *arguments)


def _matters(problem: Problem, access: Access, flat: np.ndarray) -> bool:
    """Whether the value is another one if the bad indices of an access are others."""
    if not access.movable:
        return True
    rng = np.random.default_rng(2)
    modes = tuple(u + 0.1 * rng.normal(size=u.shape) for u in problem.modes)
    given = (flat + 0.1 * rng.normal(size=flat.shape), modes, problem.data)
    ways = (None, Tampering(access.key, False), Tampering(access.key, True))
    programs = [compiled(_tampered_program, (problem.source, way), given)[0] for way in ways]
    as_is, *others = to_numpy([program(*given) for program in programs])
    return not all(np.array_equal(as_is, other, equal_nan=True) for other in others)


def _message(what: str, access: Access, summary: np.ndarray, shape: Any) -> str:
    step = int(np.argmax(summary[:, 0] > 0))
    _, position, value = (int(x) for x in summary[step])
    count = int(np.sum(summary[:, 0]))
    own = access.shape[:-1] if access.joint else access.shape
    flat = position // access.shape[-1] if access.joint else position
    loops = shape.shape[:-1]
    lengths = (*loops, *own)
    steps = (*np.unravel_index(step, loops), *np.unravel_index(flat, own)) if lengths else ()
    place = [int(i) for i, length in zip(steps, lengths, strict=True) if length > 1]
    where = f" in row {place[0]}" if len(place) == 1 else f" at {place}" if place else ""
    several = f" ({count} such entries)" if count > 1 else ""
    return (
        f"{what}: {access.index} is {value}{where}{several}, but it indexes {access.operand}, whose axis {access.axis} "
        f"has {access.size} entries, 0 to {access.size - 1}. JAX would take another entry, or leave it out, without a "
        "word. Codes must begin at 0, and missing groups, which pandas.factorize codes as -1, must be left out. Where "
        "such an index is meant, say what becomes of it with mode=, as in x.at[i].get(mode='clip')."
    )
