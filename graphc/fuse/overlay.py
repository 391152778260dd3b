"""Values that take each other's memory inside a gate, element by element.

A result may be written over an operand, and what later loops read again may lie where a result will be
written: a row of exponentials in the row of the probabilities, which are computed from them. So a gate has
one array less to move through the cache, and fetches the memory of its result while it computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphc.fuse.access import Accesses, counters
from graphc.fuse.roles import Role, role
from graphc.ir import Node


class Reads:
    """Which step of a gate reads each value for the last time, and whether all read it at their own index."""

    def __init__(self, order: Sequence[Node]) -> None:
        self._last: dict[Node, int] = {}
        self._elsewhere: set[Node] = set()
        accesses = Accesses()
        for place, node in enumerate(order):
            for source, index in accesses.of(node):
                self._last[source] = place
                if index != counters(len(source.shape)):
                    self._elsewhere.add(source)

    def may_replace(self, operand: Node, result: Node, written: int) -> bool:
        """Whether no element of ``operand`` is read after ``result`` takes its place.

        Step ``written`` is the first to write to that place.
        """
        if operand.shape != result.shape or operand.dtype != result.dtype:
            return False
        return self._last.get(operand, -1) <= written and operand not in self._elsewhere


def hosted(
    scratch: Iterable[Node], results: Iterable[Node], order: Sequence[Node]
) -> dict[Node, Node]:
    """The scratch values that lie in the memory of a result until it is written, with that result."""
    found: dict[Node, Node] = {}
    reads = Reads(order)
    free = [node for node in results if role(node) is Role.LOOP]
    for value in scratch:
        if role(value) is not Role.LOOP:
            continue
        for result in free:
            if reads.may_replace(value, result, order.index(result)):
                found[value] = result
                free.remove(result)
                break
    return found
