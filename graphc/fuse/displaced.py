"""Values that are read at another place: computed there, where that costs less than to store and read them.

A slice or an embedding of a computed value makes it an array in memory, and the loop that computes it another
one than the loop that reads it. Here index maps move to what the value is computed from: ``(2 * x)[1:]``
becomes ``2 * x[1:]``, and an embedding, which is 0 elsewhere, becomes a choice. So the gradient of
differences reads what they were taken of, and that of a convolution the one array that its terms share.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from graphc.facts import NONDIFFERENTIABLE, ScalarCode
from graphc.fuse.roles import Role, role
from graphc.ir import (
    BROADCAST_TO,
    Graph,
    Node,
    broadcast,
    filled,
    filled_type,
    make_node,
    rebuild,
    uniform_number,
    uniform_value,
    walk,
)
from graphc.ops.elementwise import rounded, where
from graphc.ops.index import embed, slice_
from graphc.types import TensorType, bool_, is_float

MOST = 8
"""The most operations that are computed again for all readers of a value; measured, see docs/decisions.md."""

MAPS = (slice_, embed)


def compute_where_read(graph: Graph) -> Graph:
    """The graph in which cheap values are computed at the places at which they are read."""
    nodes = graph.nodes()
    if not any(node.op in MAPS for node in nodes):
        return graph
    whole = (node for node in nodes if role(node) in (Role.KERNEL, Role.VIEW))
    stored = {*graph.outputs, *(arg for node in whole for arg in node.args)}
    families = _families([node.args[0] for node in nodes if node.op in MAPS], stored)
    in_place = {arg for node in nodes if node.op not in MAPS for arg in node.args}
    arrays: set[Node] = set()

    def moved(old: Node, node: Node) -> Node:
        if old.op in MAPS and old.args[0] not in stored:
            (value,) = old.args
            node = _displaced(node, families[value], value in in_place, arrays)
        if old in stored:
            arrays.add(node)
        return node

    new = rebuild(graph.outputs, moved)
    return Graph(graph.name, graph.inputs, tuple(new[output] for output in graph.outputs))


@dataclass(frozen=True)
class _Family:
    """Values read at other places that are computed from one: how many, the readers of all and of each."""

    values: int
    readers: int
    own_readers: int


def _families(values: Sequence[Node], stored: set[Node]) -> dict[Node, _Family]:
    """The family of each of ``values``, which are there once for every reader."""
    origin = {value: _down_to_one(value, stored)[1] for value in values}
    members = Counter(origin.values())
    own = Counter(values)
    readers = Counter(origin[value] for value in values)
    return {v: _Family(members[first], readers[first], own[v]) for v, first in origin.items()}


def _displaced(read: Node, family: _Family, in_place: bool, arrays: set[Node]) -> Node:
    """The element that ``read`` is an index map of, computed where it is read, if that is worthwhile.

    ``in_place`` says that the value is read at its own place too.
    """
    (value,) = read.args
    again = _all_of(value, MOST // family.readers, arrays)
    if not again and family.values > 1:
        again, _ = _down_to_one(value, arrays)
    is_merged = any(map(_may_merge, again))
    if not again or (in_place and is_merged):
        return read
    at: dict[Node, Node] = {}
    leaves = [arg for node in again for arg in node.args if arg not in again]
    for node in walk([value], leaves):
        if node in again:
            at[node] = make_node(node.op, tuple(at[arg] for arg in node.args), node.attrs)
        else:
            at[node] = _leaf_at(node, read)
    # The difference of one value at two places is 0 where the value is the same at both.
    result = rounded(at[value]) if is_merged and family.own_readers > 1 else at[value]
    if read.op is slice_:
        return result
    inside = embed(filled_type(TensorType(bool_, value.shape), True), **read.attrs)
    return where(inside, result, filled(result, 0))


def _all_of(value: Node, most: int, arrays: set[Node]) -> list[Node]:
    """What ``value`` is computed from, down to ``arrays``; nothing where that takes more operations."""
    found: list[Node] = []
    pending, cost = [value], 0.0
    while pending:
        node = pending.pop()
        cost += node.op.cost
        if cost > most or not _may_differ(node):
            return []
        found.append(node)
        pending += [arg for arg in _computed(node, arrays) if arg not in (*found, *pending)]
    return found


def _down_to_one(value: Node, arrays: set[Node]) -> tuple[list[Node], Node]:
    """What ``value`` is computed from, down to one computed value that others may have in common, and that.

    It is ``value`` itself where there is none.
    """
    found: list[Node] = []
    node, cost = value, value.op.cost
    while cost <= MOST and _may_differ(node):
        below = _computed(node, arrays)
        if not below:
            return [], value
        if len(below) > 1:
            break
        found.append(node)
        (node,) = below
        cost += node.op.cost
    return (found, node) if found else ([], value)


def _computed(node: Node, arrays: set[Node]) -> list[Node]:
    read = (arg for arg in node.args if role(arg) is Role.LOOP and arg not in arrays)
    return list(dict.fromkeys(read))


def _may_differ(node: Node) -> bool:
    """Whether it does not matter if a value is rounded in two ways, as it would for a comparison."""
    is_computed = role(node) is Role.LOOP and is_float(node.dtype)
    return is_computed and node.op.vjp is not NONDIFFERENTIABLE


def _may_merge(node: Node) -> bool:
    """Whether a node is a product that rounds: merged with a sum it does not."""
    lowering = node.op.lowering
    if not isinstance(lowering, ScalarCode) or (
        isinstance(lowering.template, str) and "*" not in lowering.template
    ):
        return False
    factors = (uniform_number(arg) for arg in node.args)
    return not any(number and math.frexp(abs(number))[0] == 0.5 for number in factors)


def _leaf_at(leaf: Node, read: Node) -> Node:
    """What ``read`` would read of ``leaf``; numbers stay what they are."""
    number = uniform_value(leaf)
    if number is not None:
        return filled_type(TensorType(leaf.dtype, read.shape), number.item())
    if leaf.op is BROADCAST_TO and leaf.args[0].shape == ():
        return broadcast(leaf.args[0], read.shape)
    return read.op(leaf, **read.attrs)
