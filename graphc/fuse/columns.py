"""Sums over a short last axis, such as squared distances in few dimensions: read by columns.

The distances of all points from all centres are sums over their coordinates. The loop over the coordinates
is too short to vectorise, and the loop around it, over the centres, reads one coordinate of each with a
stride. Where the centres are read again for every point they are copied once, coordinate by coordinate: the
short loop is then unrolled, and the one around it reads its operands in order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeGuard

from graphc.dump import is_number
from graphc.fuse.access import Accesses, Index, counters, readers
from graphc.fuse.roles import Role, role, space
from graphc.ir import Graph, Node, make_node, rebuild
from graphc.ops.elementwise import copy
from graphc.ops.linalg import transposed
from graphc.ops.reduce import sum_, sum_by_columns
from graphc.runtime.loops import COPIES
from graphc.types import Dimension, Shape

OFTEN = 8
"""How often an array is read at least, for a copy to be worth it."""


def by_columns(graph: Graph) -> Graph:
    """The graph with copies by columns of what sums over a short last axis read again and again."""
    users, accesses = readers(graph), Accesses()
    chosen: set[Node] = set()
    for node in filter(_sums_short_rows, users):
        terms = _terms(node)
        if not any(_leaves(term, users, graph) for term in terms):
            chosen |= _repeated_reads(terms, accesses)
    for node in filter(_sums_rows, users):
        if not chosen.isdisjoint(arg for term in _terms(node) for arg in term.args):
            chosen.add(node)
    if not chosen:
        return graph
    new = rebuild(graph.outputs, lambda old, node: _by_columns(node) if old in chosen else node)
    return Graph(graph.name, graph.inputs, tuple(new[output] for output in graph.outputs))


def _sums_short_rows(node: Node) -> bool:
    if role(node) is not Role.REDUCE:
        return False
    shape, axes = space(node), node.attrs["axes"]
    return len(shape) > 2 and axes == (len(shape) - 1,) and _is_short(shape)


def _sums_rows(node: Node) -> bool:
    return node.op is sum_ and max(node.attrs["axes"], default=0) < len(space(node)) - 2


def _is_short(shape: Shape) -> bool:
    *_, many, few = shape
    return is_short(few) and few > 1 and at_least(many, 2 * few)


def is_short(size: Dimension) -> TypeGuard[int]:
    """Whether a loop over an axis of that size is unrolled."""
    return isinstance(size, int) and size <= COPIES


def at_least(size: Dimension, least: int) -> bool:
    """Whether a size is so large, or has a name and may be."""
    return not isinstance(size, int) or size >= least


def _terms(total: Node) -> list[Node]:
    """The elementwise nodes that a sum is made of, in its own space."""
    found = dict.fromkeys(arg for arg in total.args if role(arg) is Role.LOOP)
    pending = list(found)
    while pending:
        for arg in pending.pop().args:
            if role(arg) is Role.LOOP and arg not in found:
                found[arg] = None
                pending.append(arg)
    return list(found)


def _leaves(term: Node, users: Mapping[Node, Sequence[Node]], graph: Graph) -> bool:
    """Whether anybody reads a term from memory, where it would be written with a stride."""
    inside = all(
        role(user) in (Role.LOOP, Role.REDUCE) and space(user) == term.shape for user in users[term]
    )
    return not inside or term in graph.outputs


def _repeated_reads(terms: Sequence[Node], accesses: Accesses) -> set[Node]:
    """The operands through which arrays are read with a stride.

    None at all if one of them is read but once: it would be as slow to copy.
    """
    found: set[Node] = set()
    for term in terms:
        for operand in term.args:
            reads = () if role(operand) is Role.LOOP else accesses.through(operand)
            if any(_has_stride(index, term.shape) for _, index in reads):
                if len(reads) > 1 or not is_read_often(reads[0][1], term.shape):
                    return set()
                found.add(operand)
    return found


def _has_stride(index: Index, shape: Shape) -> bool:
    """Whether the last axis but one is not the last one of an index that it is in."""
    many = f"i{len(shape) - 2}"
    return any(re.search(rf"\b{many}\b", text) for text in index) and index[-1] != many


def is_read_often(index: Index, shape: Shape) -> bool:
    """Whether an array is read in order, and again for every element of other axes."""
    own = counters(len(shape))
    others = [size for name, size in zip(own, shape, strict=True) if name not in index]
    is_plain = index[-2:] == own[-2:] and set(index).issubset(own)
    return is_plain and any(at_least(size, OFTEN) for size in others)


def _by_columns(node: Node) -> Node:
    """A sum of rows that is kept by columns, or what is read by columns."""
    if node.op is sum_:
        return transposed(sum_by_columns(*node.args, **node.attrs))
    return read_by_columns(node)


def read_by_columns(node: Node) -> Node:
    """What index maps read, of a copy of the array in which the last two axes change places."""
    if role(node) is Role.READ:
        return make_node(node.op, tuple(map(read_by_columns, node.args)), node.attrs)
    if is_number(node) or node.op is copy:
        return node
    return transposed(copy(transposed(node)))
