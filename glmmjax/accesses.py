"""Where a traced function reads or writes arrays by index, and which of its indices are not there.

JAX raises nothing for an index beyond an array: it takes the last entry instead, leaves a sum out, or counts from the
end. The program of a function is walked here equation by equation, loops and branches included, and of every access
the index is computed, and only that: nothing else of the program is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glmmjax._types import Array
from glmmjax.index_sites import by_the_user
from glmmjax.lazy_values import COPIES, Node, computed, known, stand_ins_for, values_of, with_values

# What an index goes through between where it is written and where it is used.
CHAIN = COPIES | {"select_n", "lt", "add", "concatenate"}


@dataclass(frozen=True)
class Access:
    """One place in a program at which an array is read or written by index.

    Attributes:
        key: where in the program.
        operand: the array, in words.
        axis, size: of the array's axes the one that is indexed, and its length.
        index: the index, in words.
        shape: of the index; its last axis does not count if ``joint``.
        joint: whether the index is of several axes at once.
        movable: whether there are two entries or more that could be accessed.
    """

    key: tuple[int, ...]
    operand: str
    axis: int
    size: int
    index: str
    shape: tuple[int, ...]
    joint: bool
    movable: bool


@dataclass(frozen=True)
class Tampering:
    """Bad indices of one access are replaced by the first entry, or by the last one."""

    key: tuple[int, ...]
    last: bool


def accesses(function: Callable[..., Any], names: Sequence[str], *arguments: Any) -> tuple[list[Access], list[Array]]:
    """The accesses of ``function(*arguments)``, and for each how many of its indices are bad, where, and which; traced.

    Args:
        names: what the arguments are called.

    Returns:
        The accesses, and integers (..., 3) for each: how many are bad, the first one's position in the index, and the
        first one. In loops the leading axes count the iterations.
    """
    _, found = _walked(function, names, arguments, None)
    return [access for access, _ in found], values_of([node for _, node in found])


def tampered(function: Callable[..., Any], names: Sequence[str], tampering: Tampering | None, *arguments: Any) -> Array:
    """The value of ``function(*arguments)`` if the bad indices of one access were others; traced."""
    outs, _ = _walked(function, names, arguments, tampering)
    return values_of(outs)[0]


_Found = list[tuple[Access, Node]]


def _walked(
    function: Callable[..., Any], names: Sequence[str], arguments: tuple[Any, ...], tampering: Tampering | None
) -> tuple[list[Node], _Found]:
    closed = jax.make_jaxpr(function)(*arguments)
    leaves = [
        (f"{name}{jax.tree_util.keystr(path)}", leaf)
        for name, argument in zip(names, arguments, strict=True)
        for path, leaf in jax.tree_util.tree_flatten_with_path(argument)[0]
    ]
    given = [known(leaf, name) for name, leaf in leaves]
    return _walk(closed.jaxpr, [known(c) for c in closed.consts], given, (), (), tampering)


def _walk(
    jaxpr: Any,
    consts: Sequence[Node],
    arguments: Sequence[Node],
    place: tuple[int, ...],
    sites: tuple[Any, ...],
    tampering: Tampering | None,
) -> tuple[list[Node], _Found]:
    """The results of a program, and the accesses in it."""
    env: dict[Any, Node] = {}

    def bind(variables: Sequence[Any], nodes: Sequence[Node]) -> None:
        for variable, node in zip(variables, nodes, strict=True):
            env[variable], node.shape = node, tuple(variable.aval.shape)

    bind((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments))
    found: _Found = []
    for number, eqn in enumerate(jaxpr.eqns):
        inputs = [known(v.val) if hasattr(v, "val") else env[v] for v in eqn.invars]
        key, within = (*place, number), (*sites, eqn.source_info)
        name = eqn.primitive.name
        inner = _inner(eqn)
        more: _Found = []
        if name in ("scan", "while", "cond") and _has_accesses(eqn):
            outs, more = _CONTROL[name](eqn, inputs, key, within, tampering)
        elif inner is not None:
            outs, more = _walk(
                getattr(inner, "jaxpr", inner),
                [known(c) for c in getattr(inner, "consts", ())],
                inputs,
                key,
                within,
                tampering,
            )
        else:
            if _indexes(name) and by_the_user(within):
                inputs, more = _looked_at(eqn, inputs, key, tampering)
            outs = computed(name, inputs, _binding(eqn), len(eqn.outvars))
        found += more
        bind(eqn.outvars, outs)
    return [known(v.val) if hasattr(v, "val") else env[v] for v in jaxpr.outvars], found


def _binding(eqn: Any) -> Callable[[list[Any]], Sequence[Any]]:
    def run(values: list[Any]) -> Sequence[Any]:
        given = eqn.primitive.get_bind_params(eqn.params)
        functions, params = given if isinstance(given, tuple) else ((), given)  # the form of older versions
        out = eqn.primitive.bind(*functions, *values, **params)
        return out if eqn.primitive.multiple_results else [out]

    return run


def _inner(eqn: Any) -> Any:
    """The program that an equation only calls, or None."""
    programs = [v for k, v in eqn.params.items() if k in ("jaxpr", "call_jaxpr", "fun_jaxpr")]
    if eqn.primitive.name in ("scan", "while", "cond") or len(programs) != 1:
        return None
    inner: Any = getattr(programs[0], "jaxpr", programs[0])
    if not hasattr(inner, "eqns") or len(inner.invars) != len(eqn.invars) or len(inner.outvars) != len(eqn.outvars):
        return None
    return programs[0]


def _indexes(name: str) -> bool:
    return name in ("gather", "dynamic_slice", "dynamic_update_slice") or name.startswith("scatter")


def _has_accesses(eqn: Any) -> bool:
    """Whether a program within an equation has any."""
    for value in jax.tree.leaves(tuple(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
        inner: Any = getattr(value, "jaxpr", value)
        if hasattr(inner, "eqns") and any(_indexes(e.primitive.name) or _has_accesses(e) for e in inner.eqns):
            return True
    return False


# -- one access --------------------------------------------------------------------------------------------------------
def _looked_at(
    eqn: Any, inputs: list[Node], key: tuple[int, ...], tampering: Tampering | None
) -> tuple[list[Node], _Found]:
    """The inputs of an access, tampered with if that is asked for, and what is found out about its indices."""
    found: _Found = []
    shape, name = eqn.invars[0].aval.shape, eqn.primitive.name
    for number, (position, raw, axes, sizes, joint) in enumerate(_indices(eqn, name, inputs)):
        lengths = np.array([shape[axis] for axis in axes])
        most = lengths - np.array(sizes)
        least = np.zeros_like(most) if raw.sources else -lengths  # a constant may count from the end, as in Python
        most, least = (most, least) if joint else (most[0], least[0])
        own = (*key, number)

        def bad(r: Any, most: Any = most, least: Any = least) -> Any:
            wide = jnp.asarray(r).astype(np.int64)
            return (wide > most) | (wide < least)

        def summary(values: list[Any], bad: Any = bad) -> list[Any]:
            r = jnp.reshape(jnp.asarray(values[0]), -1).astype(np.int64)
            wrong = jnp.reshape(bad(values[0]), -1)
            if not r.size:
                return [jnp.zeros(3, dtype=np.int64)]
            first = jnp.argmax(wrong)
            return [jnp.stack([jnp.sum(wrong).astype(np.int64), first.astype(np.int64), r[first]])]

        movable = bool(np.all(most > 0))
        words = inputs[0].words("an array"), raw.words("an index")
        access = Access(own, words[0], axes[0], int(lengths[0]), words[1], raw.shape, joint, movable)
        found.append((access, computed("summary", [raw], summary)[0]))
        if tampering is not None and tampering.key == own:

            def moved(values: list[Any], bad: Any = bad, to: Any = most if tampering.last else 0 * most) -> list[Any]:
                r = jnp.asarray(values[0])
                return [jnp.where(bad(r), jnp.asarray(to).astype(r.dtype), r)]

            new = computed("moved", [raw], moved)[0]
            inputs = [_substituted(n, raw, new) if i == position else n for i, n in enumerate(inputs)]
    return inputs, found


def _indices(eqn: Any, name: str, inputs: list[Node]) -> list[tuple[int, Node, tuple[int, ...], tuple[int, ...], bool]]:
    """The indices of an access: the position among the inputs, the index, its axes, the sizes taken; if it is joint."""
    if name in ("dynamic_slice", "dynamic_update_slice"):
        first = 1 if name == "dynamic_slice" else 2
        sizes = eqn.params["slice_sizes"] if name == "dynamic_slice" else eqn.invars[1].aval.shape
        return [
            (first + axis, _origin(node), (axis,), (size,), False)
            for axis, (node, size) in enumerate(zip(inputs[first:], sizes, strict=True))
        ]
    numbers = eqn.params["dimension_numbers"]
    if name == "gather":
        axes, sizes = numbers.start_index_map, eqn.params["slice_sizes"]
    else:
        axes = numbers.scatter_dims_to_operand_dims
        single = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
        window = iter(eqn.invars[2].aval.shape[d] for d in numbers.update_window_dims)
        sizes = [1 if d in single else next(window) for d in range(len(eqn.invars[0].aval.shape))]
    taken = tuple(sizes[axis] for axis in axes)
    pieces = _pieces(inputs[1], len(axes))
    if pieces is None:
        return [(1, inputs[1], tuple(axes), taken, True)]
    return [(1, _origin(node), (axis,), (size,), False) for node, axis, size in zip(pieces, axes, taken, strict=True)]


def _pieces(index: Node, n: int) -> list[Node] | None:
    """The indices of the n axes, if each can be told from the others."""
    if n == 1:
        return [index]
    equation = index.equation
    return equation.inputs if equation and equation.name == "concatenate" and len(equation.inputs) == n else None


def _origin(node: Node) -> Node:
    """The index as it was written: before its shape was changed, and before negative ones were counted from the end."""
    counted = False
    while node.equation is not None:
        name, inputs = node.equation.name, node.equation.inputs
        if name in COPIES:
            node = inputs[0]
        elif not counted and name == "select_n" and len(inputs) == 3 and _counts_from_the_end(*inputs):
            node, counted = inputs[1], True
        else:
            break
    return node


def _counts_from_the_end(negative: Node, index: Node, moved: Node) -> bool:
    """Whether ``where(index < 0, index + size, index)`` is what these three make."""
    if negative.equation is None or negative.equation.name != "lt":
        return False
    same = negative.equation.inputs[0] is index
    return same and moved.equation is not None and moved.equation.name == "add" and index in moved.equation.inputs


def _substituted(node: Node, old: Node, new: Node) -> Node:
    if node is old:
        return new
    equation = node.equation
    if equation is None or equation.name not in CHAIN:
        return node
    inputs = [_substituted(n, old, new) for n in equation.inputs]
    if all(a is b for a, b in zip(inputs, equation.inputs, strict=True)):
        return node
    return computed(equation.name, inputs, equation.run, len(equation.outputs))[node.position]


# -- loops and branches ------------------------------------------------------------------------------------------------
_Walked = tuple[list[Node], _Found]


def _carried(walk: Callable[[list[Node]], _Walked], init: Sequence[Node]) -> list[Node]:
    """What the values that a loop carries on depend on, as nodes without values."""
    sources = [node.sources for node in init]
    while True:
        nodes = [Node(None, 0, None, s, False) for s in sources]
        outs, _ = walk(nodes)
        wider = [s | out.sources for s, out in zip(sources, outs, strict=False)]
        if wider == sources:
            return nodes
        sources = wider


def _scan(
    eqn: Any, inputs: list[Node], key: tuple[int, ...], sites: tuple[Any, ...], tampering: Tampering | None
) -> _Walked:
    p, closed = eqn.params, eqn.params["jaxpr"]
    # what is scanned over has an axis more outside; how many of each there are, versions of JAX note differently
    n_xs = sum(o.aval.ndim > i.aval.ndim for o, i in zip(eqn.invars, closed.jaxpr.invars, strict=True))
    n_carry = sum(o.aval.ndim == i.aval.ndim for o, i in zip(eqn.outvars, closed.jaxpr.outvars, strict=True))
    n_consts = len(eqn.invars) - n_carry - n_xs

    def walk(nodes: list[Node]) -> _Walked:
        return _walk(closed.jaxpr, [known(c) for c in closed.consts], nodes, key, sites, tampering)

    consts, xs = stand_ins_for(inputs[:n_consts]), stand_ins_for(inputs[n_consts + n_carry :])
    carry = _carried(lambda nodes: walk([*consts, *nodes, *xs]), inputs[n_consts : n_consts + n_carry])
    stand_ins = [*consts, *carry, *xs]
    _, seen = walk(stand_ins)

    def run(values: list[Any]) -> Sequence[Any]:
        def body(state: Any, x: Any) -> Any:
            outs, found = walk(with_values(stand_ins, [*values[:n_consts], *state, *x]))
            results = values_of([*outs, *(node for _, node in found)])
            return results[:n_carry], results[n_carry:]

        state, ys = jax.lax.scan(
            body,
            list(values[n_consts : n_consts + n_carry]),
            list(values[n_consts + n_carry :]),
            length=p["length"],
            reverse=p["reverse"],
        )
        return [*state, *ys]

    outs = computed("scan", inputs, run, len(eqn.outvars) + len(seen))
    return _split(outs, seen, len(eqn.outvars))


def _while(
    eqn: Any, inputs: list[Node], key: tuple[int, ...], sites: tuple[Any, ...], tampering: Tampering | None
) -> _Walked:
    p = eqn.params
    n_test, n_body = p["cond_nconsts"], p["body_nconsts"]
    test, closed = p["cond_jaxpr"], p["body_jaxpr"]

    def walk(nodes: list[Node]) -> _Walked:
        return _walk(closed.jaxpr, [known(c) for c in closed.consts], nodes, key, sites, tampering)

    consts = stand_ins_for(inputs[n_test : n_test + n_body])
    carry = _carried(lambda nodes: walk([*consts, *nodes]), inputs[n_test + n_body :])
    stand_ins = [*consts, *carry]
    _, seen = walk(stand_ins)

    def run(values: list[Any]) -> Sequence[Any]:
        own, init = values[n_test : n_test + n_body], list(values[n_test + n_body :])

        def step(state: list[Any]) -> tuple[list[Any], list[Any]]:
            outs, found = walk(with_values(stand_ins, [*own, *state]))
            results = values_of([*outs, *(node for _, node in found)])
            return results[: len(outs)], results[len(outs) :]

        def body(state: Any) -> Any:
            before, sums = state
            after, more = step(before)
            return after, [_first(a, b) for a, b in zip(sums, more, strict=True)]

        def goes_on(state: Any) -> Any:
            given = [known(x) for x in (*values[:n_test], *state[0])]
            return values_of(_walk(test.jaxpr, [known(c) for c in test.consts], given, key, sites, None)[0])[0]

        nothing = [jnp.zeros(s.shape, s.dtype) for s in jax.eval_shape(lambda state: step(state)[1], init)]
        state, sums = jax.lax.while_loop(goes_on, body, (init, nothing))
        return [*state, *sums]

    outs = computed("while", inputs, run, len(eqn.outvars) + len(seen))
    return _split(outs, seen, len(eqn.outvars))


def _first(a: Array, b: Array) -> Array:
    """Of two summaries of one access the first with a bad index, with the number of both."""
    kept = jnp.where(a[..., :1] > 0, a, b)
    return kept.at[..., 0].set(a[..., 0] + b[..., 0])


def _cond(
    eqn: Any, inputs: list[Node], key: tuple[int, ...], sites: tuple[Any, ...], tampering: Tampering | None
) -> _Walked:
    stand_ins = stand_ins_for(inputs[1:])

    def walk(number: int, nodes: list[Node]) -> _Walked:
        closed = eqn.params["branches"][number]
        return _walk(closed.jaxpr, [known(c) for c in closed.consts], nodes, (*key, number), sites, tampering)

    numbers = range(len(eqn.params["branches"]))
    seen = [walk(number, stand_ins)[1] for number in numbers]

    def run(values: list[Any]) -> Sequence[Any]:
        def branch(number: int, *operands: Any) -> tuple[list[Any], list[Any]]:
            outs, found = walk(number, with_values(stand_ins, operands))
            results = values_of([*outs, *(node for _, node in found)])
            return results[: len(outs)], results[len(outs) :]

        shapes = [jax.eval_shape(lambda *o, number=number: branch(number, *o)[1], *values[1:]) for number in numbers]

        def padded(number: int) -> Callable[..., Any]:
            def run_branch(*operands: Any) -> list[Any]:
                outs, own = branch(number, *operands)
                sums = [own if k == number else [jnp.zeros(s.shape, s.dtype) for s in shapes[k]] for k in numbers]
                return [*outs, *(x for part in sums for x in part)]

            return run_branch

        return jax.lax.switch(values[0], [padded(number) for number in numbers], *values[1:])

    together = [pair for part in seen for pair in part]
    outs = computed("cond", inputs, run, len(eqn.outvars) + len(together))
    return _split(outs, together, len(eqn.outvars))


def _split(outs: list[Node], seen: _Found, n: int) -> _Walked:
    return outs[:n], [(access, node) for (access, _), node in zip(seen, outs[n:], strict=True)]


_CONTROL = {"scan": _scan, "while": _while, "cond": _cond}
