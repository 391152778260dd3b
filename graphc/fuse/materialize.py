"""Makes explicit which values must be arrays in memory."""

from __future__ import annotations

from graphc.fuse.roles import Role, role
from graphc.ir import CONSTANT, INPUT, NOTES, Graph, Node, located, transform, uniform_value
from graphc.ops.elementwise import copy

LONGEST_READ = 64
"""The most index maps for one operand in the expression of an element."""


def _is_array(node: Node) -> bool:
    if node.op is CONSTANT and uniform_value(node) is None:
        return True
    return node.op is INPUT or role(node) in (Role.LOOP, Role.REDUCE, Role.KERNEL, Role.VIEW)


def _with_array_operands(node: Node) -> Node:
    if role(node) not in (Role.KERNEL, Role.VIEW) or all(map(_is_array, node.args)):
        return node
    return node.op(*(arg if _is_array(arg) else copy(arg) for arg in node.args), **node.attrs)


class _ShortReads:
    """Ends a chain of index maps by a copy when its expression would get too long to write out."""

    def __init__(self) -> None:
        self.reads: dict[Node, int] = {}

    def __call__(self, node: Node) -> Node:
        if role(node) is not Role.READ:
            return node
        total = 1 + sum(self.reads.get(arg, 0) for arg in node.args)
        if total > LONGEST_READ * len(node.args) and any(arg in self.reads for arg in node.args):
            args = (copy(arg) if arg in self.reads else arg for arg in node.args)
            node, total = node.op(*args, **node.attrs), 1
        self.reads[node] = total
        return node


def _is_fresh(node: Node) -> bool:
    """Whether computing ``node`` fills a buffer that can be the caller's."""
    return role(node) in (Role.LOOP, Role.REDUCE, Role.KERNEL)


def materialize(graph: Graph) -> Graph:
    """Puts a copy where a kernel, a view, a long read or a result needs an array and there is none.

    A result must not be an input, a constant, a view, or another result: the caller gets fresh arrays.
    A 0-d result is a number until it is put into an array of its own, so it needs no copy.
    """
    graph = transform(transform(graph, _ShortReads()), _with_array_operands)
    outputs: list[Node] = []
    for output in graph.outputs:
        if output.shape == ():
            outputs.append(output)
            continue
        with located(output.location):
            fresh = output if _is_fresh(output) else copy(output)
            while fresh in outputs:
                fresh = copy(fresh)
        if output.op is not INPUT:
            NOTES.carry(output, fresh)
        outputs.append(fresh)
    return Graph(graph.name, graph.inputs, tuple(outputs))
