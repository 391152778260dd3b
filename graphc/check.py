"""``gx.check_grad``: every gradient against a numerical one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from graphc import reference
from graphc.arguments import as_array
from graphc.compile import evaluate
from graphc.derivatives import grad
from graphc.dsl import Tensor, fail
from graphc.errors import GradientMismatch, GraphTypeError, compose
from graphc.ir import CONSTANT, INPUT, Array, Graph, Literal, Node, input_node, make_node, walk
from graphc.types import float32, float64, is_float


def check_grad(
    output: Tensor,
    wrt: Sequence[Tensor] | Tensor,
    values: Mapping[Tensor, Any],
    *,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    step: float = 1e-3,
    seed: int = 0,
) -> float:
    """Compares the gradients of ``output`` with numerical ones at ``values``, in float64.

    ``wrt`` are inputs of a float dtype; an output that is not a scalar is projected on fixed random
    weights. The numerical derivative of every element of ``wrt`` is a central difference with two
    Richardson extrapolations (Ridders, 1982), whose steps start at ``step`` times the element's size.
    A float32 graph is checked in float64: the derivative rules are the same.

    Returns the largest difference relative to ``size + atol / rtol``, size being that of the gradient.
    Raises `GradientMismatch` naming input, element and both values where that is more than ``rtol``.

    >>> import graphc as gx
    >>> x = gx.input("x", (3,))
    >>> gx.check_grad(gx.sum(gx.sin(x) * x), x, {x: [0.1, 0.2, 0.3]}) < 1e-9
    True
    """
    targets = [wrt] if isinstance(wrt, Tensor) else list(wrt)
    for target in targets:
        if not isinstance(target, Tensor) or target.node.op is not INPUT:
            raise fail("check_grad", f"{target!r} is not an input", error=GraphTypeError)
    wide = _in_float64(output.node)
    shape = np.shape(evaluate(output, values))
    weights = np.random.default_rng(seed).uniform(0.5, 1.5, shape)
    given = {wide[t.node]: _wide_array(t, value) for t, value in values.items() if t.node in wide}
    analytic = grad(Tensor(wide[output.node]), [Tensor(wide[t.node]) for t in targets], weights)
    found = evaluate(analytic, {Tensor(node): array for node, array in given.items()})
    worst = 0.0
    for target, gradient in zip(targets, found, strict=True):
        numeric = _numerical(wide[output.node], wide[target.node], given, weights, step)
        worst = max(worst, _compare(target, gradient, numeric, rtol, atol))
    return worst


def _wide_array(tensor: Tensor, value: Any) -> Array:
    array = as_array(tensor.node.attrs["name"], tensor.node.tensor_type, value)
    return array.astype(float64) if is_float(array.dtype) else array


def _in_float64(output: Node) -> dict[Node, Node]:
    """Every node of the graph of ``output``, as it is when float32 is float64 everywhere."""
    new: dict[Node, Node] = {}
    for node in walk([output]):
        if node.op is INPUT and node.dtype == float32:
            new[node] = input_node(node.attrs["name"], node.tensor_type.with_dtype(float64))
        elif node.op is CONSTANT and node.dtype == float32:
            literal: Literal = node.attrs["value"]
            new[node] = CONSTANT(value=Literal(literal.array.astype(float64)))
        else:
            attrs = {
                k: float64 if v == float32 else v for k, v in node.attrs.items() if k != "type"
            }
            attrs |= {"type": node.attrs["type"]} if "type" in node.attrs else {}
            args = tuple(new[arg] for arg in node.args)
            unchanged = args == node.args and attrs == node.attrs
            new[node] = node if unchanged else make_node(node.op, args, attrs)
    return new


def _numerical(
    output: Node, target: Node, values: Mapping[Node, Array], weights: Array, step: float
) -> Array:
    graph = Graph("check_grad", tuple(values), (output,))
    base = np.array(values[target], dtype=np.float64)

    def projected(index: tuple[int, ...], offset: float) -> Any:
        moved = base.copy()
        moved[index] += offset
        arrays = [moved if node is target else array for node, array in values.items()]
        return np.sum(reference.evaluate(graph, arrays)[0] * weights)

    result = np.empty_like(base)
    for index in np.ndindex(base.shape):
        width = step * max(1.0, abs(float(base[index])))
        slopes = [
            (projected(index, h) - projected(index, -h)) / (2 * h)
            for h in (width, width / 2, width / 4)
        ]
        first = [(4 * b - a) / 3 for a, b in pairwise(slopes)]
        result[index] = (16 * first[1] - first[0]) / 15
    return result


def _compare(target: Tensor, analytic: Array, numeric: Array, rtol: float, atol: float) -> float:
    size = np.maximum(np.abs(analytic), np.abs(numeric))
    difference = np.abs(analytic - numeric)
    wrong = ~(difference <= atol + rtol * size)
    if np.any(wrong):
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        name = target.node.attrs["name"]
        place = f"{name}{list(index)}" if index else name
        raise GradientMismatch(
            compose(
                "check_grad",
                f"the gradient with respect to {place} is {float(analytic[index])!r}"
                f" but numerically {float(numeric[index])!r}",
                detail=f"{int(np.sum(wrong))} of {wrong.size} elements differ",
            )
        )
    return float(np.max(difference / (size + atol / rtol), initial=0.0))
