"""Reductions that keep only axes of length 1 are reductions over everything: a variable, not an array."""

from __future__ import annotations

from graphc.fuse.roles import Role, role
from graphc.ir import Graph, Node, transform
from graphc.ops.shape import expand_dims


def reduce_over_all(graph: Graph) -> Graph:
    """The graph with the sum of a single column, and its kin, as the sum of all its elements."""
    return transform(graph, _over_all)


def _over_all(node: Node) -> Node:
    if role(node) is not Role.REDUCE or node.shape == () or any(s != 1 for s in node.shape):
        return node
    operand = node.args[0]
    total = node.op(operand, axes=tuple(range(len(operand.shape))))
    return expand_dims(total, axes=tuple(range(len(node.shape))))
