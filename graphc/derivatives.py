"""``gx.grad``: recognise gates, differentiate, hand back tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from graphc import dsl
from graphc.autodiff import backward
from graphc.dsl import Tensor, TensorLike, fail, lift
from graphc.errors import GradientError, GraphTypeError
from graphc.ir import NOTES, Node, broadcast, filled
from graphc.rewrite.gates import recognise_gates
from graphc.types import is_float


@overload
def grad(output: Tensor, wrt: Tensor, seed: TensorLike | None = None) -> Tensor: ...
@overload
def grad(output: Tensor, wrt: Sequence[Tensor], seed: TensorLike | None = None) -> list[Tensor]: ...


def grad(
    output: Tensor, wrt: Tensor | Sequence[Tensor], seed: TensorLike | None = None
) -> Tensor | list[Tensor]:
    """The gradient of ``output`` with respect to ``wrt``: tensors of the types of ``wrt``.

    ``wrt`` is a tensor or a sequence of tensors, inputs or any values inside the graph. ``seed`` is the
    cotangent of ``output``; without it ``output`` must be a scalar, and the seed is 1. The result is a
    graph like any other: it can be differentiated again, compiled and dumped. What ``output`` does not
    depend on gets zeros.

    Raises `GradientError` for a non-scalar without a seed and for an output or ``wrt`` that is not of a
    float dtype, and `GraphValueError` for a seed of another shape.

    >>> import graphc as gx
    >>> x = gx.input("x", (3,))
    >>> slope = gx.grad(gx.sum(x ** 2), x)
    >>> gx.evaluate(slope, {x: [1.0, 2.0, 3.0]})
    array([2., 4., 6.])
    """
    targets = [wrt] if isinstance(wrt, Tensor) else list(wrt)
    top = _checked(output, targets)
    start = _seed(top, seed)
    inner = [target.node for target in targets]
    new = recognise_gates([top], inner)
    places = [new.get(node, node) for node in inner]
    results = [Tensor(node) for node in backward(new[top], places, start)]
    for node, result in zip(inner, results, strict=True):
        NOTES.cotangent_of.setdefault(result.node, node)
    return results[0] if isinstance(wrt, Tensor) else results


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
