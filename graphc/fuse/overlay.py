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


def may_replace(operand: Node, result: Node, order: Sequence[Node], written: int) -> bool:
    """Whether no element of ``operand`` is read after ``result`` takes its place.

    ``order`` is what a gate computes; step ``written`` of it is the first to write to that place.
    """
    if operand.shape != result.shape or operand.dtype != result.dtype:
        return False
    accesses = Accesses()
    own = counters(len(result.shape))
    for place, node in enumerate(order):
        for source, index in accesses.of(node):
            if source is operand and (index != own or place > written):
                return False
    return True


def hosted(
    scratch: Iterable[Node], results: Iterable[Node], order: Sequence[Node]
) -> dict[Node, Node]:
    """The scratch values that lie in the memory of a result until it is written, with that result."""
    found: dict[Node, Node] = {}
    free = [node for node in results if role(node) is Role.LOOP]
    for value in scratch:
        if role(value) is not Role.LOOP:
            continue
        for result in free:
            if may_replace(value, result, order, order.index(result)):
                found[value] = result
                free.remove(result)
                break
    return found
