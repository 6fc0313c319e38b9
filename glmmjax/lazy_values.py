"""The values of a traced program, each computed only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

# What leaves the entries of an array as they are.
COPIES = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "convert_element_type", "copy", "transpose"}


@dataclass(eq=False)
class Node:
    """A value of the program, computed when it is asked for.

    Attributes:
        equation, position: what computes it, and which of the results it is; None for what is given.
        value: once it is known.
        sources: names of the arguments that it depends on.
        direct: whether it holds the entries of one argument, unchanged.
        shape: once it is known.
    """

    equation: Equation | None
    position: int
    value: Any
    sources: frozenset[str]
    direct: bool
    shape: tuple[int, ...] = ()

    def words(self, what: str) -> str:
        """What it is called, or ``what`` it is and where it comes from."""
        if self.direct:
            return next(iter(self.sources))
        return f"{what} computed from {', '.join(sorted(self.sources))}" if self.sources else f"{what} of the function"


@dataclass(eq=False)
class Equation:
    name: str
    inputs: list[Node]
    run: Callable[[list[Any]], Sequence[Any]]
    outputs: list[Node] = field(default_factory=list)


def known(value: Any, name: str | None = None) -> Node:
    return Node(None, 0, value, frozenset() if name is None else frozenset([name]), name is not None)


def values_of(nodes: Sequence[Node]) -> list[Any]:
    """The values of nodes, what they depend on first; a loop, as long programs are deeper than Python's stack."""
    stack = list(nodes)
    while stack:
        node = stack[-1]
        if node.value is not None or node.equation is None:
            stack.pop()
            continue
        wanted = [n for n in node.equation.inputs if n.value is None]
        if wanted:
            stack.extend(wanted)
            continue
        results = node.equation.run([n.value for n in node.equation.inputs])
        for output in node.equation.outputs:
            output.value = results[output.position]
        stack.pop()
    return [node.value for node in nodes]


def computed(name: str, inputs: list[Node], run: Callable[[list[Any]], Sequence[Any]], n: int = 1) -> list[Node]:
    """The results of an equation."""
    equation = Equation(name, inputs, run)
    sources = frozenset().union(*(node.sources for node in inputs))
    direct = name in COPIES and inputs[0].direct
    equation.outputs = [Node(equation, i, None, sources, direct) for i in range(n)]
    return equation.outputs


def stand_ins_for(nodes: Sequence[Node]) -> list[Node]:
    """Nodes without values that come from the same arguments."""
    return [Node(None, 0, None, node.sources, node.direct) for node in nodes]


def with_values(nodes: Sequence[Node], values: Sequence[Any]) -> list[Node]:
    return [Node(None, 0, v, n.sources, n.direct) for n, v in zip(nodes, values, strict=True)]
