"""Sums that are there in two parts already: what a condition keeps, and what it leaves out.

The logarithm of a sum of exponentials needs the ones apart from the rest (`graphc.ops.softmax`), the
probabilities need all: ``sum(p)`` is ``sum(where(p == 1, 0, p)) + sum(where(p == 1, 1, 0))`` within an ulp.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TypeAlias

from graphc.ir import Graph, Node, located, transform, uniform_number
from graphc.ops.discrete import equal
from graphc.ops.elementwise import where
from graphc.ops.reduce import sum_

Key: TypeAlias = "tuple[Node, tuple[int, ...]]"
"""What is added up, and over which axes."""


def share_sums(graph: Graph) -> Graph:
    """The graph with sums that it has in two parts as the sums of both."""
    # What depends on a sum that changes is made anew, and found in the graph that comes of it.
    while parts := _in_two_parts(graph):
        graph = transform(graph, partial(_exchanged, parts))
    return graph


def _exchanged(new: Mapping[Node, Node], node: Node) -> Node:
    return new.get(node, node)


def _in_two_parts(graph: Graph) -> dict[Node, Node]:
    """Every sum of p that is there as sums of ``where(p == c, 0, p)`` and ``where(p == c, c, 0)``."""
    sums = {_key(node): node for node in graph.nodes() if node.op is sum_}
    found: dict[Node, Node] = {}
    for (choice, axes), rest in sums.items():
        if choice.op is not where or uniform_number(choice.args[1]) != 0:
            continue
        condition, zero, p = choice.args
        total = sums.get((p, axes))
        if total is None or condition.op is not equal or p not in condition.args:
            continue
        left, right = condition.args
        left_out = sums.get((where(condition, right if left is p else left, zero), axes))
        if left_out is not None:
            with located(total.location):
                found[total] = rest + left_out
    return found


def _key(node: Node) -> Key:
    return node.args[0], node.attrs["axes"]
