"""Which element of which array a loop node reads in an iteration, through any chain of index maps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from graphc.dump import is_number
from graphc.facts import ReadCode
from graphc.fuse.roles import Role, role, space
from graphc.ir import Node

Index = tuple[str, ...]

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


class Accesses:
    """Remembers, for every node and operand, what is read of which array or 0-d value."""

    def __init__(self) -> None:
        self._by_node: dict[Node, tuple[tuple[Node, Index], ...]] = {}
        self._by_operand: dict[Node, tuple[tuple[Node, Index], ...]] = {}

    def of(self, node: Node) -> tuple[tuple[Node, Index], ...]:
        """Each value that a loop node or reduction reads, with the index in its loop counters."""
        if node not in self._by_node:
            self._by_node[node] = tuple(chain.from_iterable(map(self._read_through, node.args)))
        return self._by_node[node]

    def _read_through(self, operand: Node) -> tuple[tuple[Node, Index], ...]:
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


def stays_inside(producer: Node, index: Index, axis: int) -> bool:
    """Whether reading ``producer`` at ``index`` finds a value of the same iteration over ``axis``.

    A reduction over that axis has its value only behind the loop.
    """
    if role(producer) is not Role.REDUCE:
        return len(index) > axis and index[axis] == f"i{axis}"
    reduced = producer.attrs["axes"]
    if axis in reduced:
        return False
    kept = [a for a in range(len(space(producer))) if a not in reduced]
    return index[kept.index(axis)] == f"i{axis}"
