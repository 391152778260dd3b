"""Functions that reduce over axes."""

from __future__ import annotations

from graphc import types
from graphc.dsl.elementwise import as_bool, sqrt, square
from graphc.dsl.lifting import cast, common_dtype, lift, node_of, normal_axes
from graphc.dsl.shapes import expand_dims, reshape
from graphc.dsl.tensor import AxisLike, Tensor, TensorLike, public
from graphc.ir import Node, Op
from graphc.ops import reduce, softmax
from graphc.ops import shape as shape_ops
from graphc.types import is_float


def _reduced(op: Op, node: Node, axis: AxisLike, keepdims: bool) -> Tensor:
    axes = normal_axes(op.name, node, axis)
    result = op(node, axes=axes) if axes else node
    if keepdims and axes:
        result = shape_ops.expand_dims(result, axes=axes)
    return Tensor(result)


def _total(node: Node) -> Node:
    """Integers and bools are added up and multiplied in int64, as in NumPy."""
    return node if is_float(node.dtype) else cast(node, types.int64)


def _inexact(op: str, x: TensorLike) -> Node:
    return node_of(op, x, common_dtype(op, [x], inexact=True))


@public
def sum_(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.sum`` over ``axis`` (an int, several, or None for all); integers add up in int64.

    >>> import graphc as gx
    >>> gx.sum(gx.input("x", ("N", 3)), axis=1, keepdims=True)
    <Tensor f64[N,1]>
    """
    return _reduced(reduce.sum_, _total(lift(x, "sum")), axis, keepdims)


@public
def prod(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.prod``; its gradient is right at zeros too."""
    return _reduced(reduce.prod, _total(lift(x, "prod")), axis, keepdims)


@public
def mean(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.mean``; integers and bools become float64 first."""
    return _reduced(reduce.mean, _inexact("mean", x), axis, keepdims)


@public
def var(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.var``: the mean squared distance from the mean."""
    centred = Tensor(_inexact("var", x))
    return mean(square(centred - mean(centred, axis, keepdims=True)), axis, keepdims=keepdims)


@public
def std(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.std``: the square root of the variance."""
    return sqrt(var(x, axis, keepdims=keepdims))


@public
def max_(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.max``; nan wins. The first element that attains it gets the whole gradient."""
    return _reduced(reduce.max_, lift(x, "max"), axis, keepdims)


@public
def min_(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.min``; nan wins. The first element that attains it gets the whole gradient."""
    return _reduced(reduce.min_, lift(x, "min"), axis, keepdims)


@public
def all_(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.all``."""
    return _reduced(reduce.all_, as_bool("all", x).node, axis, keepdims)


@public
def any_(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.any``."""
    return _reduced(reduce.any_, as_bool("any", x).node, axis, keepdims)


@public
def logsumexp(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``log(sum(exp(x)))`` without overflow, as ``scipy.special.logsumexp``; -inf over nothing."""
    return _reduced(softmax.logsumexp, _inexact("logsumexp", x), axis, keepdims)


def _extreme_index(op: Op, x: TensorLike, axis: int | None, keepdims: bool) -> Tensor:
    node = lift(x, op.name)
    node = cast(node, types.int32) if node.dtype == types.bool_ else node
    ndim = len(node.shape)
    if axis is None:
        flat = shape_ops.reshaped(node, (types.product(node.shape),))
        found = Tensor(op(flat, axes=(0,)))
        return reshape(found, (1,) * ndim) if keepdims else found
    (where_,) = normal_axes(op.name, node, axis)
    found = Tensor(op(node, axes=(where_,)))
    return expand_dims(found, where_) if keepdims else found


@public
def argmax(x: TensorLike, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.argmax``: the first index of the maximum, int64; over the flat tensor without an axis."""
    return _extreme_index(reduce.argmax, x, axis, keepdims)


@public
def argmin(x: TensorLike, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.argmin``: the first index of the minimum, int64; over the flat tensor without an axis."""
    return _extreme_index(reduce.argmin, x, axis, keepdims)
