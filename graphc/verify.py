"""Checks that a graph is well formed by running the type rules again."""

from __future__ import annotations

from graphc.errors import InvalidGraph, compose
from graphc.ir import INPUT, Graph, Node, Rejected


def verify(graph: Graph) -> Graph:
    """``graph`` itself, if these hold; else raises `InvalidGraph` and shows the node and its neighbours.

    - there is no cycle: every node comes after its operands;
    - every node's type is what its op's type rule gives for its operands and attributes;
    - every input that a node needs is among the graph's inputs, and no input is there twice.
    """
    if len(set(graph.inputs)) != len(graph.inputs):
        raise InvalidGraph(compose(graph.name, "an input is declared twice"))
    seen: set[Node] = set()
    nodes = graph.nodes()
    for position, node in enumerate(nodes):
        # What a body reads is computed outside, and checked there.
        problem = "" if node in graph.inputs else _problem(graph, node, seen)
        if problem:
            raise InvalidGraph(
                compose(node.op.name, problem) + "\n" + _around(graph, nodes, position)
            )
        seen.add(node)
        if "body" in node.attrs:
            verify(node.attrs["body"])
    return graph


def _problem(graph: Graph, node: Node, seen: set[Node]) -> str:
    if node.op is INPUT:
        return f"the input {node.attrs['name']!r} is not an input of the graph"
    if any(arg not in seen for arg in node.args):
        return "it uses a value that is computed after it: the graph has a cycle"
    try:
        expected = node.op.infer(*(arg.type for arg in node.args), **node.attrs)
    except Rejected as rejected:
        return rejected.problem
    return "" if expected == node.type else f"it has type {node.type} but should have {expected}"


def _around(graph: Graph, nodes: list[Node], position: int, reach: int = 5) -> str:
    near = nodes[max(0, position - reach) : position + reach + 1]
    return "\n".join(f"  {node.op.name}: {node.type}" for node in near)
