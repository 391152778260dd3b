"""Which element of which array a loop node reads in an iteration, through any chain of index maps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

from graphc.dump import is_number
from graphc.facts import ReadCode
from graphc.fuse.roles import Role, kept_axes, role
from graphc.ir import Graph, Node

Index = tuple[str, ...]

_WORD = re.compile(r"\w+")

UNKNOWN = "[?]"
"""Stands for an element: it looks like a read of memory, so index maps guard it."""


def counters(ndim: int) -> Index:
    """The names of the loop counters of a space with so many axes."""
    return tuple(f"i{axis}" for axis in range(ndim))


def operands(node: Node) -> Iterator[Node]:
    """What a node reads, directly or through index maps."""
    pending = list(reversed(node.args))
    while pending:
        arg = pending.pop()
        if role(arg) is Role.READ:
            pending.extend(reversed(arg.args))
        else:
            yield arg


def readers(graph: Graph) -> dict[Node, list[Node]]:
    """Which nodes have each node as an operand, once for every time they do."""
    nodes = graph.nodes()
    found: dict[Node, list[Node]] = {node: [] for node in nodes}
    for node in nodes:
        for arg in node.args:
            found[arg].append(node)
    return found


class Accesses:
    """Remembers, for every node and operand, what is read of which array or 0-d value."""

    def __init__(self) -> None:
        self._by_node: dict[Node, tuple[tuple[Node, Index], ...]] = {}
        self._by_operand: dict[Node, tuple[tuple[Node, Index], ...]] = {}

    def of(self, node: Node) -> tuple[tuple[Node, Index], ...]:
        """Each value that a loop node or reduction reads, with the index in its loop counters."""
        if node not in self._by_node:
            self._by_node[node] = tuple(chain.from_iterable(map(self.through, node.args)))
        return self._by_node[node]

    def through(self, operand: Node) -> tuple[tuple[Node, Index], ...]:
        """Each value that is read where a loop node or reduction has this operand."""
        if operand not in self._by_operand:
            own = counters(len(operand.shape))
            if role(operand) is Role.READ:
                self._by_operand[operand] = tuple(_reads(operand, own))
            else:
                self._by_operand[operand] = () if is_number(operand) else ((operand, own),)
        return self._by_operand[operand]


def _reads(node: Node, index: Index) -> list[tuple[Node, Index]]:
    found: list[tuple[Node, Index]] = []

    def element(node: Node, index: Index) -> str:
        lowering = node.op.lowering
        if is_number(node):
            return UNKNOWN
        if role(node) is Role.READ and isinstance(lowering, ReadCode):
            return lowering.read(node, index, lambda k, inner: element(node.args[k], inner))
        found.append((node, index))
        return UNKNOWN

    element(node, index)
    return found


def is_checked(index: Index) -> bool:
    """Whether an index is a value of the graph, which may be out of range."""
    return any("kernels.position(" in text for text in index)


def depends_on(node: Node, axis: int) -> bool:
    """Whether an element of ``node`` is another, or in another place, in each iteration over ``axis``."""

    def element(node: Node, index: Index) -> str:
        lowering = node.op.lowering
        if role(node) is Role.READ and isinstance(lowering, ReadCode) and not is_number(node):
            return lowering.read(node, index, lambda k, inner: element(node.args[k], inner))
        return UNKNOWN if is_number(node) else f"[{', '.join(index)}]"

    return counters(axis + 1)[axis] in _WORD.findall(element(node, counters(len(node.shape))))


def stays_inside(producer: Node, index: Index, axis: int) -> bool:
    """Whether reading ``producer`` at ``index`` finds a value of the same iteration over ``axis``.

    A reduction over that axis has its value only behind the loop.
    """
    if role(producer) is not Role.REDUCE:
        return len(index) > axis and index[axis] == f"i{axis}"
    kept = kept_axes(producer)
    return axis in kept and index[kept.index(axis)] == f"i{axis}"
