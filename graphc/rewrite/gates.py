"""Recognises gates that a user wrote out in plain arithmetic, before differentiation."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir import Graph, Node, substitute, uniform_value
from graphc.ops import elementwise as ew


def _denominator(node: Node) -> Node | None:
    """d if ``node`` is 1 / d."""
    if node.op is ew.reciprocal:
        return node.args[0]
    if node.op is ew.divide and uniform_value(node.args[0]) == 1:
        return node.args[1]
    if node.op is ew.power and uniform_value(node.args[1]) == -1:
        return node.args[0]
    return None


def recognise_sigmoid(node: Node, kept: set[Node]) -> Node:
    """1 / (1 + exp(-x)) -> sigmoid(x), unless a value inside is in ``kept``"""
    below = _denominator(node)
    if below is None or below.op is not ew.add or uniform_value(below.args[1]) != 1:
        return node
    power = below.args[0]
    if power.op is not ew.exp or not kept.isdisjoint((below, power, power.args[0])):
        return node
    exponent = power.args[0]
    return ew.sigmoid(exponent.args[0] if exponent.op is ew.negative else -exponent)


def recognise_gates(outputs: Sequence[Node], kept: Sequence[Node] = ()) -> dict[Node, Node]:
    """Old node -> new node, with gates recognised; the nodes ``kept`` stay values of their own.

    Someone who asks for the gradient of ``exp(-x)`` inside a sigmoid wants that node to exist.
    """
    held = set(kept)

    def replace(node: Node) -> Node:
        return recognise_sigmoid(node, held)

    return substitute(outputs, replace, kept=held)


def gates(graph: Graph) -> Graph:
    """The graph with its gates recognised."""
    new = recognise_gates(graph.outputs)
    return Graph(graph.name, graph.inputs, tuple(new[output] for output in graph.outputs))
