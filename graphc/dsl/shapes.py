"""Functions that move elements: shapes, axes, joining and gathering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import types
from graphc.dsl.lifting import as_dimension, as_shape, common_dtype, lift, node_of, normal_axes
from graphc.dsl.tensor import FUNCTIONS, AxisLike, Tensor, TensorLike, fail, public
from graphc.ir import Node, broadcast, filled_type
from graphc.ops import index as index_ops
from graphc.ops import linalg
from graphc.ops import shape as shape_ops
from graphc.types import Shape, Size


def permuted(node: Node, order: Sequence[int]) -> Node:
    """``node`` with its axes in another order; itself when they are in it already."""
    axes = tuple(order)
    return node if axes == tuple(range(len(axes))) else shape_ops.permute_dims(node, axes=axes)


@public
def reshape(x: TensorLike, shape: Any) -> Tensor:
    """``numpy.reshape`` in row-major order; one size may be -1.

    A product of named sizes that cannot be compared now is checked at the call.
    """
    node = lift(x, "reshape")
    items = (shape,) if isinstance(shape, int | Size | np.integer) else tuple(shape)
    return Tensor(shape_ops.reshaped(node, _resolved_shape(node, items)))


def _resolved_shape(node: Node, items: tuple[Any, ...]) -> Shape:
    open_axes = [i for i, item in enumerate(items) if isinstance(item, int) and item == -1]
    if len(open_axes) > 1:
        raise fail("reshape", "more than one size is -1", node)
    if not open_axes:
        return tuple(as_dimension("reshape", item) for item in items)
    rest = tuple(as_dimension("reshape", s) for i, s in enumerate(items) if i != open_axes[0])
    total, known = types.product(node.shape), types.product(rest)
    missing = types.exact_quotient(total, known)
    if missing is None and isinstance(total, Size) and isinstance(known, int) and known > 0:
        missing = total // known
    if missing is None:
        raise fail("reshape", "the size -1 cannot be found", node, detail=f"{total} / {known}")
    return (*rest[: open_axes[0]], missing, *rest[open_axes[0] :])


@public
def permute_dims(x: TensorLike, axes: Sequence[int]) -> Tensor:
    """The Array API's ``permute_dims``: axis i of the result is axis ``axes[i]`` of ``x``."""
    node = lift(x, "permute_dims")
    ndim = len(node.shape)
    return Tensor(permuted(node, [a + ndim if a < 0 else a for a in map(int, axes)]))


@public
def transpose(x: TensorLike, axes: Sequence[int] | None = None) -> Tensor:
    """``numpy.transpose``: the axes reversed, or in the given order."""
    node = lift(x, "transpose")
    return permute_dims(x, range(len(node.shape))[::-1] if axes is None else axes)


@public
def matrix_transpose(x: TensorLike) -> Tensor:
    """The last two axes swapped."""
    node = lift(x, "matrix_transpose")
    if len(node.shape) < 2:
        raise fail("matrix_transpose", "needs at least 2 axes", node)
    return Tensor(linalg.transposed(node))


@public
def swapaxes(x: TensorLike, axis1: int, axis2: int) -> Tensor:
    """``numpy.swapaxes``."""
    node = lift(x, "swapaxes")
    order = list(range(len(node.shape)))
    (a,), (b,) = normal_axes("swapaxes", node, axis1), normal_axes("swapaxes", node, axis2)
    order[a], order[b] = order[b], order[a]
    return Tensor(permuted(node, order))


@public
def expand_dims(x: TensorLike, axis: int | Sequence[int] = 0) -> Tensor:
    """``numpy.expand_dims``: axes of size 1 at the given places of the result."""
    node = lift(x, "expand_dims")
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    ndim = len(node.shape) + len(given)
    axes = tuple(sorted(a + ndim if a < 0 else a for a in given))
    return Tensor(shape_ops.expand_dims(node, axes=axes) if axes else node)


@public
def squeeze(x: TensorLike, axis: AxisLike = None) -> Tensor:
    """``numpy.squeeze``: drops the given axes of size 1, or all of them."""
    node = lift(x, "squeeze")
    if axis is None:
        axes = tuple(i for i, size in enumerate(node.shape) if size == 1)
    else:
        axes = normal_axes("squeeze", node, axis)
    return Tensor(shape_ops.squeeze(node, axes=axes) if axes else node)


@public
def broadcast_to(x: TensorLike, shape: Any) -> Tensor:
    """``numpy.broadcast_to``."""
    return Tensor(broadcast(lift(x, "broadcast_to"), as_shape("broadcast_to", shape)))


def _joined(op: str, xs: Sequence[TensorLike]) -> list[Node]:
    if not len(xs):
        raise fail(op, "needs at least one tensor")
    dtype = common_dtype(op, xs)
    return [node_of(op, x, dtype) for x in xs]


@public
def concat(xs: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """The Array API's ``concat`` (``numpy.concatenate``) along an existing axis."""
    nodes = _joined("concat", xs)
    (where_,) = normal_axes("concat", nodes[0], axis)
    return Tensor(index_ops.concat(*nodes, axis=where_) if len(nodes) > 1 else nodes[0])


@public
def stack(xs: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """``numpy.stack`` along a new axis."""
    parts = [expand_dims(Tensor(node), axis) for node in _joined("stack", xs)]
    for other in parts[1:]:
        if other.shape != parts[0].shape:
            raise fail("stack", "shapes differ", parts[0].node, other.node)
    return concat(parts, axis)


@public
def take(x: TensorLike, indices: TensorLike, axis: int | None = None) -> Tensor:
    """``numpy.take``: the slices at integer ``indices``, of any shape, along an axis or of the flat ``x``.

    Negative indices count from the end; at the call an index outside the axis raises `GraphIndexError`.
    The derivative adds up where an index repeats.
    """
    node, index = lift(x, "take"), lift(indices, "take")
    if axis is None:
        node, axis = shape_ops.reshaped(node, (types.product(node.shape),)), 0
    (where_,) = normal_axes("take", node, axis)
    return Tensor(index_ops.take(node, index, axis=where_))


@public
def take_along_axis(x: TensorLike, indices: TensorLike, axis: int = -1) -> Tensor:
    """``numpy.take_along_axis``: along ``axis``, the elements at ``indices``; the other sizes are equal.

    >>> import graphc as gx
    >>> scores, labels = gx.constant([[1.0, 2.0], [3.0, 4.0]]), gx.constant([1, 0])
    >>> gx.evaluate(gx.take_along_axis(scores, labels[:, None], axis=1), {})
    array([[2.],
           [3.]])
    """
    node, index = lift(x, "take_along_axis"), lift(indices, "take_along_axis")
    if len(node.shape) != len(index.shape):
        raise fail("take_along_axis", "needs as many axes of indices as of values", node, index)
    (where_,) = normal_axes("take_along_axis", node, axis)
    last = len(node.shape) - 1
    order = [i for i in range(last + 1) if i != where_] + [where_]
    rows, places = permuted(node, order), permuted(index, order)
    if places.shape[last] == 1:
        found = index_ops.pick(rows, shape_ops.squeeze(places, axes=(last,)))
        found = shape_ops.expand_dims(found, axes=(last,))
    else:
        repeated = shape_ops.expand_dims(rows, axes=(last,))
        found = index_ops.pick(broadcast(repeated, (*places.shape, rows.shape[last])), places)
    return Tensor(permuted(found, [order.index(i) for i in range(last + 1)]))


@public
def zeros_like(x: TensorLike) -> Tensor:
    """Zeros of the type of ``x``."""
    return Tensor(filled_type(lift(x).tensor_type, 0))


@public
def ones_like(x: TensorLike) -> Tensor:
    """Ones of the type of ``x``."""
    return Tensor(filled_type(lift(x).tensor_type, 1))


@public
def ravel(x: TensorLike) -> Tensor:
    """``numpy.ravel``: the elements as one axis."""
    return reshape(x, -1)


FUNCTIONS["concatenate"] = concat
