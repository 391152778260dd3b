"""Products of vectors, matrices and batches of matrices."""

from __future__ import annotations

from graphc import types
from graphc.dsl.elementwise import astype, multiply
from graphc.dsl.lifting import broadcast_shape, common_dtype, lift, node_of
from graphc.dsl.shapes import expand_dims, reshape
from graphc.dsl.tensor import Tensor, TensorLike, fail, public
from graphc.errors import GraphValueError
from graphc.ir import Node, broadcast, filled_type
from graphc.ops import linalg
from graphc.ops import shape as shape_ops
from graphc.types import Shape


@public
def matmul(x: TensorLike, y: TensorLike) -> Tensor:
    """``numpy.matmul`` of 1-D, 2-D and batched operands; batch axes broadcast.

    >>> import graphc as gx
    >>> gx.input("x", ("N", 64)) @ gx.input("w", (64,))
    <Tensor f64[N]>
    """
    dtype = common_dtype("matmul", (x, y))
    if dtype == types.bool_:
        return astype(matmul(astype(x, types.int64), astype(y, types.int64)), types.bool_)
    a, b = node_of("matmul", x, dtype), node_of("matmul", y, dtype)
    if not a.shape or not b.shape:
        raise fail("matmul", "a 0-d operand", a, b, fix="use *")
    inner = b.shape[0] if len(b.shape) == 1 else b.shape[-2]
    if a.shape[-1] != inner:
        raise fail("matmul", "inner sizes differ", a, b, detail=f"{a.shape[-1]} != {inner}")
    left = shape_ops.expand_dims(a, axes=(0,)) if len(a.shape) == 1 else a
    right = shape_ops.expand_dims(b, axes=(1,)) if len(b.shape) == 1 else b
    product = _matrix_product(left, right)
    last = len(product.shape) - 1
    gone = ((last - 1,) if len(a.shape) == 1 else ()) + ((last,) if len(b.shape) == 1 else ())
    return Tensor(shape_ops.squeeze(product, axes=gone) if gone else product)


def _matrix_product(a: Node, b: Node) -> Node:
    if len(b.shape) == 2 and len(a.shape) > 2:
        # One large product is faster than many small ones with the same right side.
        rows = shape_ops.reshaped(a, (types.product(a.shape[:-1]), a.shape[-1]))
        return shape_ops.reshaped(linalg.matmul(rows, b), (*a.shape[:-1], b.shape[-1]))
    batch = _broadcast_batch(a, b)
    return linalg.matmul(
        broadcast(a, (*batch, *a.shape[-2:])), broadcast(b, (*batch, *b.shape[-2:]))
    )


def _broadcast_batch(a: Node, b: Node) -> Shape:
    stand_ins = [filled_type(a.tensor_type.with_shape(x.shape[:-2]), 0) for x in (a, b)]
    try:
        return broadcast_shape("matmul", stand_ins)
    except GraphValueError:
        raise fail("matmul", "batch sizes do not broadcast", a, b) from None


@public
def dot(x: TensorLike, y: TensorLike) -> Tensor:
    """``numpy.dot`` of operands with at most 2 axes: a product of numbers, vectors or matrices."""
    a, b = lift(x, "dot"), lift(y, "dot")
    if len(a.shape) > 2 or len(b.shape) > 2:
        raise fail("dot", "operands have more than 2 axes", a, b, fix="use gx.matmul")
    return matmul(x, y) if a.shape and b.shape else multiply(x, y)


@public
def outer(x: TensorLike, y: TensorLike) -> Tensor:
    """``numpy.outer``: every element of the flat ``x`` times every element of the flat ``y``."""
    a, b = reshape(x, -1), reshape(y, -1)
    return expand_dims(a, 1) * expand_dims(b, 0)
