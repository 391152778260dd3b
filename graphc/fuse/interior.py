"""The interior of a loop's range, in which no element is read outside an array or chosen by its position.

Gradients of slices, and joins, read with a condition: ``x[i - 1] if 1 <= i else 0.0``. Where it changes
within a few iterations of the ends of the range, the loop runs in parts, and the long one in the middle has
no conditions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from graphc.dump import is_number
from graphc.facts import ReadCode
from graphc.fuse.access import UNKNOWN, Index
from graphc.fuse.roles import Role, role
from graphc.fuse.schedule import Loop
from graphc.ir import Node
from graphc.ops.index import edges
from graphc.ops.position import Position
from graphc.types import Dimension

LONGEST_EDGE = 16
"""How many iterations at either end may have conditions."""


@dataclass(frozen=True)
class Interior:
    """The iterations from ``before`` to ``after`` before the end of a loop's range."""

    before: int
    after: int


def interior(loop: Loop, counters: Index) -> Interior | None:
    """The iterations in which what is read does not depend on the counter; None if that gains nothing.

    ``counters`` are those of all loops around, and the loop's own.
    """
    before = after = 0
    for position, edge in _edges(loop, counters):
        if isinstance(position, Position) and position.counter == counters[loop.axis]:
            first = edge - position.offset
            last = loop.size - first
            if isinstance(first, int) and 0 < first <= LONGEST_EDGE:
                before = max(before, first)
            elif isinstance(last, int) and 0 < last <= LONGEST_EDGE:
                after = max(after, last)
    is_short = isinstance(loop.size, int) and loop.size < before + after + LONGEST_EDGE
    return Interior(before, after) if before + after and not is_short else None


def _edges(loop: Loop, counters: Index) -> Iterator[tuple[str, Dimension]]:
    """Where what is read in a loop changes, through all index maps."""
    pending: list[tuple[Node, Index]] = []
    for node in dict.fromkeys(loop.nodes()):
        pending += [(arg, counters[: len(arg.shape)]) for arg in node.args]
    seen = set(pending)
    while pending:
        node, index = pending.pop()
        lowering = node.op.lowering
        if role(node) is not Role.READ or not isinstance(lowering, ReadCode) or is_number(node):
            continue
        yield from edges(node, index)
        found: list[tuple[Node, Index]] = []

        lowering.read(node, index, partial(_note, node, found))
        pending += [each for each in found if each not in seen]
        seen.update(found)


def _note(node: Node, found: list[tuple[Node, Index]], k: int, index: Index) -> str:
    found.append((node.args[k], index))
    return UNKNOWN
