"""The NumPy reference: evaluates a graph node by node, and is the oracle of every test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.errors import GraphcError, GraphIndexError, GraphValueError, compose
from graphc.ir import CONSTANT, INPUT, SIZE, Array, Graph, Node, bind_attribute, requirements
from graphc.types import TensorType, bind_sizes, evaluate_size


def evaluate(graph: Graph, arrays: Sequence[Array]) -> list[Array]:
    """The outputs of ``graph`` for one array an input, of the declared dtypes.

    Raises `GraphValueError` when shapes or sizes do not fit, and `GraphIndexError` for an index outside
    its axis, with the user's line.
    """
    values = evaluate_all(graph, arrays)
    return [values[output] for output in graph.outputs]


def evaluate_all(graph: Graph, arrays: Sequence[Array]) -> dict[Node, Any]:
    """The value of every node of ``graph``."""
    sizes = bind_sizes(graph.input_types(), [np.shape(array) for array in arrays])
    nodes = graph.nodes()
    for requirement in requirements(nodes):
        requirement.check(sizes)
    values: dict[Node, Any] = dict(zip(graph.inputs, arrays, strict=True))
    for node in nodes:
        if node not in values:
            values[node] = _evaluate_node(node, [values[arg] for arg in node.args], sizes)
    return values


def _evaluate_node(node: Node, args: Sequence[Any], sizes: Mapping[str, int]) -> Any:
    if node.op is INPUT:
        name = node.attrs["name"]
        raise GraphValueError(compose("graph", f"needs {name!r}, which is not among its inputs"))
    if node.op is CONSTANT:
        return node.attrs["value"].array
    if node.op is SIZE:
        return np.asarray(evaluate_size(node.attrs["size"], sizes), node.dtype)
    if "body" in node.attrs:
        return _evaluate_body(node, args, sizes)
    attrs = {name: bind_attribute(value, sizes) for name, value in node.attrs.items()}
    try:
        value = node.op.reference(*args, **attrs)
    except (IndexError, ValueError) as error:
        raise _explained(node, error) from error
    if isinstance(node.type, TensorType):
        return np.asarray(value, node.dtype)
    return value


def _evaluate_body(node: Node, args: Sequence[Any], sizes: Mapping[str, int]) -> tuple[Any, ...]:
    body: Graph = node.attrs["body"]
    values: dict[Node, Any] = dict(zip(body.inputs, args, strict=True))
    for inner in body.nodes():
        if inner not in values:
            values[inner] = _evaluate_node(inner, [values[arg] for arg in inner.args], sizes)
    return tuple(values[output] for output in body.outputs)


def _explained(node: Node, error: Exception) -> GraphcError:
    kind = GraphIndexError if isinstance(error, IndexError) else GraphValueError
    location = str(node.location or "")
    arguments = [arg.type for arg in node.args]
    return kind(compose(node.op.name, str(error), arguments=arguments, location=location))
