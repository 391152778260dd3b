"""A graph as text: one line a node, result first, the user's names, a type beside every name."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.facts import ScalarCode
from graphc.ir import CONSTANT, NOTES, SIZE, Graph, Literal, Node, is_shared, uniform_value
from graphc.types import TensorType, shape_text


class Names:
    """Unique names for the nodes of a graph and of its gates' bodies.

    A node has the user's name where there is one; a cotangent of a named node is ``d`` and that name; the
    rest is numbered. What a gate's body reads or yields has one name inside and outside. Nodes that are
    ``inline`` have no name, those in ``taken`` are avoided, and ``clean`` makes names fit for their use.
    """

    def __init__(
        self,
        graph: Graph,
        taken: Iterable[str] = (),
        clean: Callable[[str], str] = str,
        inline: Callable[[Node], bool] | None = None,
    ) -> None:
        self._inline = inline or is_inline
        self._names: dict[Node, str] = {}
        self._same: dict[Node, Node] = {}
        self._taken = set(taken)
        self._clean = clean
        self._count = 0
        ordered = self._collect(graph)
        # Given names first: a numbered or derived name must never push one aside.
        for node in ordered:
            if node in NOTES.names:
                self._names[node] = self.unique(NOTES.names[node])
        for node in ordered:
            if node not in self._names:
                self._names[node] = self.unique(self._derived(node))

    def __getitem__(self, node: Node) -> str:
        return self._names[self._same.get(node, node)]

    def unique(self, wanted: str) -> str:
        """``wanted``, with a number behind it if it is taken."""
        wanted = self._clean(wanted)
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name

    def _collect(self, graph: Graph) -> list[Node]:
        """All nodes that need a name of their own, in order; notes which nodes are the same value."""
        ordered: dict[Node, None] = {}
        for node in graph.nodes():
            if "body" in node.attrs:
                body: Graph = node.attrs["body"]
                for inner, outer in zip(body.inputs, node.args, strict=True):
                    self._identify(inner, outer)
                computed = [n for n in body.nodes() if n not in body.inputs]
                ordered.update(dict.fromkeys(n for n in computed if not self._inline(n)))
            elif node.op.name == "item":
                gate: Graph = node.args[0].attrs["body"]
                self._identify(node, gate.outputs[node.attrs["index"]])
            elif not self._inline(node):
                ordered[node] = None
        return [node for node in ordered if node not in self._same]

    def _identify(self, node: Node, other: Node) -> None:
        other = self._same.get(other, other)
        if node is not other:
            self._same[node] = other

    def _derived(self, node: Node) -> str:
        forward = _forward_of(node)
        if forward is not None and forward in NOTES.names:
            return f"d{NOTES.names[forward]}"
        self._count += 1
        return f"t{self._count}"


def dump(graph: Graph) -> str:
    """The graph as text: deterministic, without addresses or times.

    >>> import graphc as gx
    >>> x = gx.input("x", ("N",))
    >>> y = gx.exp(x) * 2
    >>> print(gx.dump(y))
    graph f(%x: f64[N]) {
      %t1: f64[N] = exp(%x)            # <doctest graphc.dump.dump[2]>:1
      %y: f64[N]  = multiply(%t1, 2.0) # <doctest graphc.dump.dump[2]>:1
      return %y
    }
    """
    names = Names(graph)
    arguments = ", ".join(f"%{names[node]}: {node.type}" for node in graph.inputs)
    results = ", ".join(_operand(output, names) for output in graph.outputs)
    body = textwrap.indent("\n".join([*_lines(graph, names, set()), f"return {results}"]), "  ")
    return f"graph {graph.name}({arguments}) {{\n{body}\n}}"


def _lines(graph: Graph, names: Names, computed: set[Node]) -> list[str]:
    """A line a node; ``computed`` has what earlier lines compute, in gates before this one too."""
    shown = [
        node
        for node in graph.nodes()
        if node not in graph.inputs and not is_inline(node) and node.op.name != "item"
    ]
    left = [", ".join(f"%{names[n]}: {n.type}" for n in _results(node)) for node in shown]
    # One very long line must not push everything off the screen.
    width = min(max(map(len, left), default=0), 40)
    texts = [f"{a:<{width}} = {_expression(n, names)}" for a, n in zip(left, shown, strict=True)]
    column = min(max(map(len, texts), default=0), 88)
    lines = []
    for node, text in zip(shown, texts, strict=True):
        if "body" in node.attrs:
            body: Graph = node.attrs["body"]
            inner = [*_lines(body, names, computed), _yielded(body, names)]
            cost = f" # {node.attrs['cost']}" if "cost" in node.attrs else ""
            lines += [f"{text} {{{cost}", textwrap.indent("\n".join(inner), "  "), "}"]
        else:
            # An index map costs nothing, so it is not worth saying.
            again = node in computed and isinstance(node.op.lowering, ScalarCode)
            computed.add(node)
            comment = ", ".join(filter(None, ["recomputed" if again else "", _comment(node)]))
            lines.append(f"{text:<{column}} # {comment}" if comment else text)
    return lines


def _results(node: Node) -> Sequence[Node]:
    return node.attrs["body"].outputs if "body" in node.attrs else (node,)


def _yielded(body: Graph, names: Names) -> str:
    return "yield " + ", ".join(_operand(output, names) for output in body.outputs)


INFIX = {
    "add": "+",
    "subtract": "-",
    "multiply": "*",
    "divide": "/",
    "power": "**",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "equal": "==",
    "not_equal": "!=",
    "bitwise_and": "&",
    "bitwise_or": "|",
    "matmul": "@",
}
"""Ops that are shown between their operands on one line."""


def one_line(node: Node, depth: int = 5, inside: bool = False) -> str:
    """A node as a person writes it, without types and spread axes; what lies deeper than ``depth`` is ``_``.

    >>> import graphc as gx
    >>> x = gx.input("x", ("N",))
    >>> one_line((1 / (1 + gx.exp(-x))).node)
    '1.0 / (exp(-x) + 1.0)'
    """
    node = _without_spread(node)
    if is_inline(node):
        return _operand(node, {})
    if node in NOTES.names and (depth < 5 or not node.args):
        return NOTES.names[node]
    if depth == 0:
        return "_"
    args = [one_line(arg, depth - 1, node.op.name in INFIX) for arg in node.args]
    if node.op.name in INFIX and len(args) == 2:
        text = f"{args[0]} {INFIX[node.op.name]} {args[1]}"
        return f"({text})" if inside else text
    if node.op.name == "negative":
        negated = one_line(node.args[0], depth - 1, True)
        return f"-({negated})" if negated.startswith("-") else f"-{negated}"
    if node.op.name == "item":
        return f"{one_line(node.args[0], depth)}[{node.attrs['index']}]"
    return f"{node.attrs['name'] if 'body' in node.attrs else node.op.name}({', '.join(args)})"


def _without_spread(node: Node) -> Node:
    while node.op.name in ("broadcast_to", "expand_dims"):
        node = node.args[0]
    return node


def is_number(node: Node) -> bool:
    """Whether ``node`` is a size, or a constant whose elements are all one number."""
    return node.op is SIZE or uniform_value(node) is not None


def is_inline(node: Node) -> bool:
    """Constants and sizes are shown where they are used, unless they are long arrays."""
    if is_number(node):
        return True
    return node.op is CONSTANT and node.attrs["value"].array.size <= 8


def _expression(node: Node, names: Names) -> str:
    if node.op is CONSTANT:
        return f"constant({_summary(node.attrs['value'])})"
    operands = [_operand(arg, names) for arg in node.args]
    if "body" in node.attrs:
        return f"{node.attrs['name']}({', '.join(operands)})"
    if node.op.name == "slice":
        return operands[0] + _slice_text(node)
    attrs = [f"{k}={_attribute(v)}" for k, v in sorted(node.attrs.items()) if _is_shown(k, v, node)]
    return f"{node.op.name}({', '.join([*operands, *attrs])})"


def _is_shown(name: str, value: Any, node: Node) -> bool:
    """Whether an attribute says more than the type on the left, or than its default."""
    return value is not False and not (name == "shape" and value == node.shape)


def _slice_text(node: Node) -> str:
    """``[start:stop:step, ...]`` as in the source; a whole axis is a colon."""
    parts = []
    axes = zip(
        *(node.attrs[k] for k in ("starts", "sizes", "steps")), node.args[0].shape, strict=True
    )
    for start, size, step, whole in axes:
        text = f"{start}:{start + size * step}" if step > 0 else f"{start}::"
        text = ":" if (start, size, step) == (0, whole, 1) else text
        parts.append(text + (f":{step}" if step > 1 else str(step) if step < 0 else ""))
    return f"[{', '.join(parts)}]".replace(" ", "")


def _operand(node: Node, names: Names | Mapping[Node, str]) -> str:
    value = uniform_value(node)
    if value is not None:
        return scalar_text(value)
    if node.op is SIZE:
        return str(node.attrs["size"]).replace(" ", "")
    if node.op is CONSTANT and is_inline(node):
        return _summary(node.attrs["value"])
    return f"%{names[node]}"


def scalar_text(value: np.generic) -> str:
    """A number as a person writes it, with as many digits as its dtype needs."""
    return str(value)


def _summary(literal: Literal) -> str:
    array = literal.array
    if array.size <= 8:
        return str(array.tolist()).replace(" ", "")
    return f"{TensorType(array.dtype, array.shape)}"


def _attribute(value: Any) -> str:
    if isinstance(value, tuple):
        return shape_text(value)
    if isinstance(value, np.dtype):
        return value.name
    return str(value).replace(" ", "")


def _forward_of(node: Node) -> Node | None:
    """The value whose cotangent ``node`` is, unless that may be a value of another graph."""
    return None if is_shared(node) else NOTES.cotangent_of.get(node)


def _comment(node: Node) -> str:
    parts = []
    forward = _forward_of(node)
    if forward is not None:
        named = NOTES.names.get(forward)
        parts.append(f"grad of %{named}" if named else f"grad of {forward.op.name}")
    if node.location is not None and not is_shared(node):
        parts.append(str(node.location))
    return ", ".join(parts)
