"""From gates to what loops and kernels can do: definitions expanded, transposes moved into products."""

from __future__ import annotations

from graphc.facts import Definition
from graphc.ir import Graph, Node, transform
from graphc.ops import elementwise as ew
from graphc.ops.linalg import matmul
from graphc.ops.shape import permute_dims


def _expand_node(node: Node) -> Node:
    lowering = node.op.lowering
    if isinstance(lowering, Definition):
        expanded: Node = lowering.expand(*node.args, **node.attrs)
        return expanded
    return node.args[0] if node.op in (ew.stop_gradient, ew.copy) else node


def expand(graph: Graph) -> Graph:
    """Replaces every gate that is defined by other ops by its definition."""
    while any(isinstance(node.op.lowering, Definition) for node in graph.nodes()):
        graph = transform(graph, _expand_node)
    return transform(graph, _expand_node)


def _is_matrix_transpose(node: Node) -> bool:
    if node.op is not permute_dims:
        return False
    axes = node.attrs["axes"]
    last = len(axes) - 1
    return bool(axes == (*range(last - 1), last, last - 1))


def _absorb_transposes(node: Node) -> Node:
    if node.op is not matmul or not any(_is_matrix_transpose(arg) for arg in node.args):
        return node
    flags = [node.attrs.get(flag, False) for flag in ("transpose_a", "transpose_b")]
    args = list(node.args)
    for k, arg in enumerate(node.args):
        if _is_matrix_transpose(arg):
            args[k], flags[k] = arg.args[0], not flags[k]
    return matmul(*args, transpose_a=flags[0], transpose_b=flags[1])


def transposes_to_flags(graph: Graph) -> Graph:
    """matmul(a.T, b) becomes a product that reads ``a`` transposed: no copy is made."""
    return transform(graph, _absorb_transposes)
