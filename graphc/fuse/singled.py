"""Rows that are written alike but for one element, whose place is known before: labels, mostly.

``where(j == label, a, b)`` takes a comparison for every element. Where nothing in the loop reads the choice,
the row is written as if no place were meant, and that one is written over when the loop is done.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc.fuse.access import Accesses, depends_on
from graphc.fuse.schedule import Loop
from graphc.ir import Node
from graphc.ops.discrete import equal
from graphc.ops.elementwise import where
from graphc.ops.shape import iota


def singled_out(loop: Loop, uses: Mapping[Node, int]) -> dict[Node, Node]:
    """The choices in a loop that single out a place, each with the node that has the place.

    ``uses`` counts the readers of each node in the gate.
    """
    found: dict[Node, Node] = {}
    for node in loop.body:
        if isinstance(node, Node) and node.op is where and uses[node.args[0]] == 1:
            place = _place(node.args[0], loop.axis)
            if place is not None and not depends_on(node.args[1], loop.axis):
                found[node] = place
    if found:
        accesses = Accesses()
        read = {producer for step in loop.nodes() for producer, _ in accesses.of(step)}
        return {node: place for node, place in found.items() if node not in read}
    return found


def _place(condition: Node, axis: int) -> Node | None:
    """What the position along an axis must be equal to; None for another condition."""
    if condition.op is not equal:
        return None
    for position, place in (condition.args, condition.args[::-1]):
        if position.op is iota and position.attrs["axis"] == axis and not depends_on(place, axis):
            return place
    return None
