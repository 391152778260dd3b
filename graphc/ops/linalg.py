"""Matrix products. Operands are ``[..., m, k]`` and ``[..., k, n]`` with equal leading axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphc.errors import GraphTypeError
from graphc.facts import Domain, KernelCode, Sample
from graphc.ir import Array, Node, Op, Rejected
from graphc.ops.families import require_dtype
from graphc.ops.shape import permute_dims
from graphc.types import ALL_DTYPES, NUMBERS, Shape, TensorType, product


def transposed(x: Node) -> Node:
    """The last two axes swapped."""
    last = len(x.shape) - 1
    return permute_dims(x, axes=(*range(last - 1), last, last - 1))


def _effective(shape: Shape, transpose: bool) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2]) if transpose else shape


def _infer_matmul(
    a: TensorType, b: TensorType, *, transpose_a: bool = False, transpose_b: bool = False
) -> TensorType:
    require_dtype(a.dtype, NUMBERS)
    if a.dtype != b.dtype:
        raise Rejected("operands have different dtypes", error=GraphTypeError)
    if a.ndim != b.ndim or a.ndim < 2:
        raise Rejected("operands need the same number of axes, at least 2")
    left, right = _effective(a.shape, transpose_a), _effective(b.shape, transpose_b)
    if left[-1] != right[-2]:
        raise Rejected("inner sizes differ", detail=f"{left[-1]} != {right[-2]}")
    if left[:-2] != right[:-2]:
        raise Rejected("leading sizes differ")
    return a.with_shape((*left[:-1], right[-1]))


def _reference(
    a: Array, b: Array, *, transpose_a: bool = False, transpose_b: bool = False
) -> Array:
    left = np.swapaxes(a, -1, -2) if transpose_a else a
    right = np.swapaxes(b, -1, -2) if transpose_b else b
    with np.errstate(all="ignore"):
        return np.asarray(np.matmul(left, right))


def _vjp(
    g: Node, out: Node, a: Node, b: Node, *, transpose_a: bool = False, transpose_b: bool = False
) -> tuple[Node, Node]:
    left = transposed(a) if transpose_a else a
    right = transposed(b) if transpose_b else b
    to_left, to_right = matmul(g, transposed(right)), matmul(transposed(left), g)
    return (
        transposed(to_left) if transpose_a else to_left,
        transposed(to_right) if transpose_b else to_right,
    )


def _emit(node: Node, operands: Sequence[str], result: str, threads: int) -> list[str]:
    flags = [node.attrs.get("transpose_a", False), node.attrs.get("transpose_b", False)]
    rows, columns = node.shape[-2:]
    inner = node.args[0].shape[-2 if flags[0] else -1]
    arguments = [*operands, result, *flags, rows, inner, columns]
    if len(node.shape) > 2:
        arguments.append(product(node.shape[:-2]))
    if threads > 1:
        arguments.append(threads)
    name = "matmul" if len(node.shape) == 2 else "batched_matmul"
    return [f"blas.{name}({', '.join(map(str, arguments))})"]


_pair = (Domain(-2, 2), Domain(-2, 2))

matmul: Op = Op(
    "matmul",
    infer=_infer_matmul,
    reference=_reference,
    lowering=KernelCode(_emit, in_threads=True),
    vjp=_vjp,
    samples=(
        Sample(((3, 4), (4, 2)), {}, _pair),
        Sample(((4, 3), (4, 2)), {"transpose_a": True}, _pair),
        Sample(((3, 4), (2, 4)), {"transpose_b": True}, _pair),
        Sample(((2, 3, 4), (2, 4, 2)), {}, _pair),
        Sample(((2, 2, 3, 1), (2, 2, 1, 2)), {}, _pair),
        Sample(((1, 4), (4, 1)), {}, _pair),
    ),
    dtypes=NUMBERS,
    cost=1000,
)


def _emit_transpose(node: Node, operands: Sequence[str], result: str) -> list[str]:
    *others, rows, columns = node.args[0].shape
    arguments = (*operands, result, product(others), rows, columns)
    return [f"kernels.transpose({', '.join(map(str, arguments))})"]


def _infer_transpose(x: TensorType) -> TensorType:
    if x.ndim < 2:
        raise Rejected("needs at least 2 axes")
    return x.with_shape(_effective(x.shape, True))


transpose_copy: Op = Op(
    "transpose_copy",
    infer=_infer_transpose,
    reference=lambda x: np.swapaxes(x, -1, -2).copy(),
    lowering=KernelCode(_emit_transpose),
    vjp=lambda g, out, x: (transposed(g),),
    samples=(Sample(((3, 4),)), Sample(((2, 20, 3),))),
    dtypes=ALL_DTYPES,
)
"""The last two axes exchanged in memory, where `permute_dims` would read with a stride."""
