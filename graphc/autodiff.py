"""The backward graph: a reverse walk that applies the chain rule, with fan-in as a node of its own.

Zero is the absence of a node. Gradient flows only along paths that reach what was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.errors import GradientError, InvalidGraph, compose
from graphc.facts import BY_DEFINITION, FORBIDDEN, Definition
from graphc.ir import NOTES, Node, filled, located, replaced, walk
from graphc.ops.elementwise import accumulate, held
from graphc.types import is_float


def backward(output: Node, wrt: Sequence[Node], seed: Node) -> list[Node]:
    """The cotangents of ``wrt`` when that of ``output`` is ``seed``: nodes of the types of ``wrt``.

    What ``output`` does not depend on gets zeros. Raises `GradientError` where a path goes through an op
    whose derivative is forbidden.
    """
    order = walk([output])
    active = _between(order, wrt)
    arriving: dict[Node, list[Node]] = {output: [seed]}
    total: dict[Node, Node] = {}
    for node in reversed(order):
        if node not in arriving or node not in active:
            continue
        with located(node.location):
            total[node] = _fan_in(arriving.pop(node))
            NOTES.cotangent_of.setdefault(total[node], node.args[0] if node.op is held else node)
            for arg, part in zip(
                node.args, _local_cotangents(node, total[node], active), strict=True
            ):
                if part is not None:
                    arriving.setdefault(arg, []).append(part)
    return [total[x] if x in total else filled(x, 0) for x in wrt]


def _between(order: Sequence[Node], wrt: Sequence[Node]) -> set[Node]:
    """The nodes of ``order`` that depend on, or are, one of ``wrt``."""
    active = set(wrt)
    for node in order:
        if any(arg in active for arg in node.args):
            active.add(node)
    return active


def _fan_in(parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else accumulate(*parts)


def _local_cotangents(node: Node, cotangent: Node, active: set[Node]) -> Sequence[Node | None]:
    rule = node.op.vjp
    if isinstance(rule, FORBIDDEN) and any(arg in active for arg in node.args):
        raise GradientError(
            compose(
                node.op.name,
                f"has no derivative: {rule.reason}",
                arguments=[arg.type for arg in node.args],
                location=str(node.location or ""),
            )
        )
    reached = [arg in active and is_float(arg.dtype) for arg in node.args]
    if not any(reached):
        return [None] * len(node.args)
    if rule is BY_DEFINITION:
        parts: Sequence[Node | None] = _through_definition(node, cotangent)
    elif callable(rule):
        parts = rule(cotangent, node, *node.args, **node.attrs)
    else:
        return [None] * len(node.args)
    _check(node, parts)
    return [part if wanted else None for part, wanted in zip(parts, reached, strict=True)]


def _through_definition(node: Node, cotangent: Node) -> list[Node]:
    """The cotangents of a gate's operands by the ops that the gate stands for."""
    # Held, operands are ends of paths, whatever one of them depends on.
    ends = [held(arg) for arg in node.args]
    definition = node.op.lowering
    assert isinstance(definition, Definition), "a gate is defined by other ops"
    parts = backward(definition.expand(*ends, **node.attrs), ends, cotangent)
    return replaced(parts, {**dict(zip(ends, node.args, strict=True)), cotangent: cotangent})


def _check(node: Node, parts: Sequence[Node | None]) -> None:
    if len(parts) != len(node.args):
        problem = f"its vjp gives {len(parts)} cotangents for {len(node.args)} arguments"
        raise InvalidGraph(compose(node.op.name, problem))
    for k, (arg, part) in enumerate(zip(node.args, parts, strict=True)):
        if part is not None and part.type != arg.type:
            problem = f"the cotangent of argument {k} is {part.type} but the argument is {arg.type}"
            raise InvalidGraph(compose(node.op.name, problem))
