"""Which element of which array a loop node reads in an iteration, through any chain of index maps."""

from __future__ import annotations

from collections.abc import Iterator

from graphc.dump import is_number
from graphc.facts import ReadCode
from graphc.fuse.roles import Role, kept_axes, role
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
    """Remembers, for every operand, what is read of which array or 0-d value."""

    def __init__(self) -> None:
        self._known: dict[Node, tuple[tuple[Node, Index], ...]] = {}

    def of(self, node: Node) -> Iterator[tuple[Node, Index]]:
        """Each value that a loop node or reduction reads, with the index in its loop counters."""
        for arg in node.args:
            yield from self.through(arg)

    def through(self, operand: Node) -> tuple[tuple[Node, Index], ...]:
        """Each value that is read where a loop node or reduction has this operand."""
        if operand not in self._known:
            index = counters(len(operand.shape))
            if role(operand) is Role.READ:
                self._known[operand] = tuple(_reads(operand, index))
            else:
                self._known[operand] = () if is_number(operand) else ((operand, index),)
        return self._known[operand]


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
    kept = kept_axes(producer)
    return axis in kept and index[kept.index(axis)] == f"i{axis}"
