"""``gx.grad``: recognise gates, differentiate, hand back tensors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import overload

from graphc import dsl
from graphc.autodiff import backward
from graphc.dsl import Tensor, TensorLike, fail, lift, name_after
from graphc.errors import GradientError, GraphTypeError
from graphc.ir import (
    INPUT,
    NOTES,
    Graph,
    Node,
    broadcast,
    filled,
    located,
    make_node,
    substitute,
    walk,
)
from graphc.ops.elementwise import held
from graphc.rewrite.tables import Rewrites, RuleSet, choose
from graphc.types import is_float


@overload
def grad(
    output: Tensor, wrt: Tensor, seed: TensorLike | None = None, *, rewrites: Rewrites = True
) -> Tensor: ...
@overload
def grad(
    output: Tensor,
    wrt: Sequence[Tensor],
    seed: TensorLike | None = None,
    *,
    rewrites: Rewrites = True,
) -> list[Tensor]: ...


def grad(
    output: Tensor,
    wrt: Tensor | Sequence[Tensor],
    seed: TensorLike | None = None,
    *,
    rewrites: Rewrites = True,
) -> Tensor | list[Tensor]:
    """The gradient of ``output`` with respect to ``wrt``: tensors of the types of ``wrt``.

    ``wrt`` is a tensor or a sequence of tensors, inputs or any values inside the graph. ``seed`` is the
    cotangent of ``output``; without it ``output`` must be a scalar, and the seed is 1. The result is a
    graph like any other: it can be differentiated again, compiled and dumped. What ``output`` does not
    depend on gets zeros.

    ``output`` is rewritten into stable gates before it is differentiated; ``rewrites`` chooses the rules, as
    for `graphc.compile`.

    Raises `GradientError` for a non-scalar without a seed and for an output or ``wrt`` that is not of a
    float dtype, and `GraphValueError` for a seed of another shape.

    >>> import graphc as gx
    >>> x = gx.input("x", (3,))
    >>> slope = gx.grad(gx.sum(x ** 2), x)
    >>> gx.evaluate(slope, {x: [1.0, 2.0, 3.0]})
    array([2., 4., 6.])
    """
    targets = [wrt] if isinstance(wrt, Tensor) else list(wrt)
    name_after(sys._getframe(1).f_locals)
    top = _checked(output, targets)
    start = _seed(top, seed)
    inner = [target.node for target in targets]
    rewritten, places = _in_gates(top, inner, choose(rewrites, to_differentiate=True))
    found = backward(rewritten, places, start)
    released = substitute(found, _release)
    results = [Tensor(released[node]) for node in found]
    for node, result in reversed(list(zip(inner, results, strict=True))):
        NOTES.cotangent_of[result.node] = node
    return results[0] if isinstance(wrt, Tensor) else results


def _in_gates(output: Node, wrt: Sequence[Node], rules: RuleSet) -> tuple[Node, list[Node]]:
    """``output`` in normal form, and what the nodes ``wrt`` are in it: values that no rule looks through.

    Someone who asks for the gradient of ``exp(-x)`` inside a sigmoid wants that node to exist.
    """
    kept = {node for node in wrt if node.op is not INPUT}
    new: dict[Node, Node] = {}
    for node in walk([output, *kept]):
        args = tuple(new[arg] for arg in node.args)
        with located(node.location):
            rebuilt = node if args == node.args else make_node(node.op, args, node.attrs)
            new[node] = held(rebuilt) if node in kept else rebuilt
        NOTES.carry(node, rebuilt)
    graph = Graph("gradient", (), (new[output], *(new.get(node, node) for node in wrt)))
    normal = rules.rewrite(graph).outputs
    return normal[0], list(normal[1:])


def _release(node: Node) -> Node:
    return node.args[0] if node.op is held else node


def _checked(output: Tensor, targets: Sequence[Tensor]) -> Node:
    for value in (output, *targets):
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise fail("grad", f"needs tensors, not {kind}", error=GraphTypeError)
    if not is_float(output.dtype):
        raise fail("grad", "the output is not of a float dtype", output.node, error=GradientError)
    for target in targets:
        if not is_float(target.dtype):
            name = NOTES.names.get(target.node, "wrt")
            raise fail(
                "grad",
                f"{name!r} is of dtype {target.dtype.name}, which has no gradient",
                target.node,
                error=GradientError,
                fix="ask for gradients with respect to float32 or float64 tensors",
            )
    return output.node


def _seed(output: Node, seed: TensorLike | None) -> Node:
    if seed is None:
        if output.shape != ():
            raise fail(
                "grad",
                "the output is not a scalar, so its gradient needs a seed",
                output,
                error=GradientError,
                fix="sum it up, or pass seed= of the output's shape",
            )
        return filled(output, 1)
    given = lift(dsl.astype(seed, output.dtype), "grad")
    if dsl.broadcast_shape("grad: seed", [given, output]) != output.shape:
        raise fail("grad", "the seed does not fit the output", output, given)
    return broadcast(given, output.shape)
