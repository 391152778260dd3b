"""Matrices that a loop would read across their rows are transposed in memory first.

A loop whose innermost counter steps through an array with a stride is not vectorised, whatever it computes.
"""

from __future__ import annotations

from graphc.fuse.access import Accesses, counters, operands, readers
from graphc.fuse.roles import Role, role
from graphc.ir import Graph, Node, rebuild
from graphc.ops.elementwise import copy
from graphc.ops.linalg import matmul, transpose_copy

SMALL = 4096
"""A matrix of so many elements stays in the cache, and is read where it is."""


def read_in_order(graph: Graph) -> Graph:
    """The graph with transposed copies of matrices where elementwise ops would read them across rows."""
    accesses = Accesses()
    loops = [node for node in graph.nodes() if role(node) is Role.LOOP]
    across = {arg for node in loops for arg in node.args if _reads_across(arg, accesses)}
    if not across:
        return graph

    users = readers(graph)

    def in_order(old: Node, node: Node) -> Node:
        if old in across:
            (before,), (array,) = operands(old), operands(node)
            is_alone = len(set(users[before])) == 1 and before not in graph.outputs
            return _transpose(array, is_alone)
        return node.args[0] if old.op is copy and old.args[0] in across else node

    new = rebuild(graph.outputs, in_order)
    return Graph(graph.name, graph.inputs, tuple(new[output] for output in graph.outputs))


def _transpose(array: Node, is_alone: bool) -> Node:
    """The transpose of an array: that of a product which nobody else reads is a product too."""
    if array.op is not matmul or not is_alone:
        return transpose_copy(array)
    flags = [not array.attrs.get(name, False) for name in ("transpose_a", "transpose_b")]
    return matmul(*reversed(array.args), transpose_a=flags[1], transpose_b=flags[0])


def _reads_across(operand: Node, accesses: Accesses) -> bool:
    """Whether an operand is all of an array, with its last two axes exchanged by index maps."""
    reads = accesses.through(operand)
    if role(operand) is not Role.READ or len(reads) != 1 or len(operand.shape) < 2:
        return False
    ((array, index),) = reads
    if list(operands(operand)) != [array]:
        return False
    *others, rows, columns = operand.shape
    *outer, row, column = counters(len(operand.shape))
    count = rows * columns
    is_small = isinstance(count, int) and count <= SMALL
    return (
        not is_small and index == (*outer, column, row) and array.shape == (*others, columns, rows)
    )
