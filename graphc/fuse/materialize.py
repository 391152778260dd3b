"""Makes explicit which values must be arrays in memory."""

from __future__ import annotations

from graphc.fuse.roles import Role, role
from graphc.ir import CONSTANT, INPUT, NOTES, Graph, Node, located, transform, uniform_value
from graphc.ops.elementwise import copy


def _is_array(node: Node) -> bool:
    if node.op is CONSTANT and uniform_value(node) is None:
        return True
    return node.op is INPUT or role(node) in (Role.LOOP, Role.REDUCE, Role.KERNEL, Role.VIEW)


def _with_array_operands(node: Node) -> Node:
    if role(node) not in (Role.KERNEL, Role.VIEW) or all(map(_is_array, node.args)):
        return node
    return node.op(*(arg if _is_array(arg) else copy(arg) for arg in node.args), **node.attrs)


def _is_fresh(node: Node) -> bool:
    """Whether computing ``node`` fills a buffer that can be the caller's."""
    return role(node) in (Role.LOOP, Role.REDUCE, Role.KERNEL, Role.SCALAR)


def materialize(graph: Graph) -> Graph:
    """Puts a copy where a kernel, a view or a result needs an array of its own and there is none.

    A result must not be an input, a constant, a view, or another result: the caller gets fresh arrays.
    """
    graph = transform(graph, _with_array_operands)
    outputs: list[Node] = []
    for output in graph.outputs:
        with located(output.location):
            fresh = output if _is_fresh(output) else copy(output)
            while fresh in outputs:
                fresh = copy(fresh)
        if output.op is not INPUT:
            NOTES.carry(output, fresh)
        outputs.append(fresh)
    return Graph(graph.name, graph.inputs, tuple(outputs))
