"""From gates to what loops and kernels can do: definitions expanded, small powers multiplied out."""

from __future__ import annotations

from graphc.facts import Definition
from graphc.ir import Graph, Node, replaced, transform
from graphc.ops import elementwise as ew
from graphc.ops.fused import composite, item
from graphc.rewrite.engine import rewrite
from graphc.rewrite.pattern import is_number
from graphc.rewrite.rules import Label, Rule

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
    """x ** 3 as x * square(x), x ** 4 as square(square(x)): within 2 ulp, as the op promises."""
    x, exponent = node.args
    if is_number(exponent, 3):
        return x * ew.square(x)
    return ew.square(ew.square(x)) if is_number(exponent, 4) else node


EXPANSION = Rule("expand", Label.EXACT, "gate -> what it stands for", _expand_node)


def expand(graph: Graph) -> Graph:
    """Replaces every gate by what it stands for, until only loops and kernels are left."""
    return rewrite(graph, (EXPANSION,))
