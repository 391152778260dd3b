"""From gates to what loops and kernels can do: definitions expanded, small powers multiplied out."""

from __future__ import annotations

import math
from collections.abc import Callable

from graphc.facts import Definition
from graphc.ir import Graph, Node, filled, replaced, transform
from graphc.ops import elementwise as ew
from graphc.ops.discrete import equal
from graphc.ops.fused import composite, item
from graphc.rewrite.domains import is_nonnegative
from graphc.rewrite.engine import rewrite
from graphc.rewrite.pattern import is_number
from graphc.rewrite.rules import Label, Rule
from graphc.types import is_float

POWERS: dict[int, Callable[[Node], Node]] = {
    3: lambda x: x * ew.square(x),
    4: lambda x: ew.square(ew.square(x)),
    # Where square(x) overflows, its reciprocal may still be a float.
    -2: lambda x: ew.square(ew.reciprocal(x)),
    -3: lambda x: ew.reciprocal(x) / ew.square(x),
}
POWERS_OF_ROOTS: dict[float, Callable[[Node], Node]] = {
    -0.5: lambda x: ew.reciprocal(ew.sqrt(x + 0.0)),
    1.5: lambda x: x * ew.sqrt(x),
    2.5: lambda x: ew.square(x) * ew.sqrt(x + 0.0),
}
TRANSPARENT = (ew.stop_gradient, ew.held, ew.copy)


def _settle_node(node: Node) -> Node:
    return node.args[0] if node.op in TRANSPARENT else node


def settle(graph: Graph) -> Graph:
    """The graph without what only matters to derivatives, which have been taken now."""
    return transform(graph, _settle_node)


def _expand_node(node: Node) -> Node:
    lowering = node.op.lowering
    if isinstance(lowering, Definition):
        expanded: Node = lowering.expand(*node.args, **node.attrs)
        return expanded
    if node.op is item and node.args[0].op is composite:
        return _inlined(node.args[0], node.attrs["index"])
    return _multiplied_out(node) if node.op is ew.power else node


def _inlined(gate: Node, index: int) -> Node:
    """One result of a composite, computed from the operands of the gate."""
    body: Graph = gate.attrs["body"]
    (result,) = replaced([body.outputs[index]], dict(zip(body.inputs, gate.args, strict=True)))
    return result


def _multiplied_out(node: Node) -> Node:
    """A small power as products, quotients and roots: within 2 ulp, as the op promises."""
    x, exponent = node.args
    for power, build in POWERS.items():
        if is_number(exponent, power) and (is_float(x.dtype) or power > 0):
            return build(x)
    for half, build in POWERS_OF_ROOTS.items():
        if is_number(exponent, half):
            return build(x) if is_nonnegative(x) else _right_at_minus_infinity(build(x), x, half)
    return node


def _right_at_minus_infinity(power: Node, x: Node, exponent: float) -> Node:
    """Roots are nan below 0, and so are powers but those of -inf."""
    limit = math.inf if exponent > 0 else 0.0
    return ew.where(equal(x, filled(x, -math.inf)), filled(x, limit), power)


EXPANSION = Rule("expand", Label.EXACT, "gate -> what it stands for", _expand_node)


def expand(graph: Graph) -> Graph:
    """Replaces every gate by what it stands for, until only loops and kernels are left."""
    return rewrite(graph, (EXPANSION,))
