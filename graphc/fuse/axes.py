"""Over which axes reductions run: those of the array in memory, and all where only axes of 1 are kept."""

from __future__ import annotations

from graphc.fuse.roles import Role, role
from graphc.ir import Graph, Node, transform
from graphc.ops.reduce import kept_axes
from graphc.ops.shape import expand_dims, permute_dims


def reduce_over_all(graph: Graph) -> Graph:
    """The graph with the sum of a single column, and its kin, as the sum of all its elements."""
    return transform(graph, _over_all)


def _over_all(node: Node) -> Node:
    if role(node) is not Role.REDUCE or node.shape == () or any(s != 1 for s in node.shape):
        return node
    operand = node.args[0]
    total = node.op(operand, axes=tuple(range(len(operand.shape))))
    return expand_dims(total, axes=tuple(range(len(node.shape))))


def reduce_in_order(graph: Graph) -> Graph:
    """The graph with reductions of permuted axes as those of the axes themselves, which are read in order.

    Only what is left is permuted. The order in which a sum is added up is free here.
    """
    return transform(graph, _before_permuting)


def _before_permuting(node: Node) -> Node:
    if role(node) is not Role.REDUCE or len(node.args) != 1 or node.args[0].op is not permute_dims:
        return node
    order = node.args[0].attrs["axes"]
    along = tuple(sorted(order[axis] for axis in node.attrs["axes"]))
    total = node.op(node.args[0].args[0], axes=along)
    kept = [order[axis] for axis in kept_axes(len(order), node.attrs["axes"])]
    if kept == sorted(kept):
        return total
    return permute_dims(total, axes=tuple(sorted(kept).index(axis) for axis in kept))
