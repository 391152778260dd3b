"""Declaring inputs and constants, and lifting whatever a user passes to nodes of one dtype and shape."""

from __future__ import annotations

import keyword
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc import types
from graphc.dsl.tensor import AxisLike, Tensor, TensorLike, fail
from graphc.errors import GraphTypeError, GraphValueError, compose
from graphc.ir import Node, broadcast, caller_location, constant_node, input_node, size_node
from graphc.ops import elementwise as ew
from graphc.types import (
    Dimension,
    DType,
    Shape,
    Size,
    TensorType,
    as_dtype,
    integer_limits,
    is_float,
    promote,
)


def require_identifier(what: str, name: object) -> str:
    """``name`` if it is a plain identifier; raises `GraphValueError` so that a name never becomes code."""
    if not isinstance(name, str):
        raise GraphTypeError(compose(what, f"the name {name!r} is not a string"))
    if not name.isidentifier() or keyword.iskeyword(name):
        reason = "is a Python keyword" if keyword.iskeyword(name) else "is not an identifier"
        raise GraphValueError(
            compose(what, f"the name {name!r} {reason}", location=str(caller_location() or ""))
        )
    return name


def as_shape(what: str, shape: Any) -> Shape:
    """A declared shape: an int, a name or a `Size`, or a sequence of them."""
    items = (shape,) if isinstance(shape, int | str | Size | np.integer) else tuple(shape)
    return tuple(as_dimension(what, item) for item in items)


def as_dimension(what: str, item: Any) -> Dimension:
    """One declared size: an int, a name or a `Size`."""
    if isinstance(item, Size):
        return item
    if isinstance(item, str):
        return Size.named(require_identifier(f"{what}: size", item))
    if isinstance(item, int | np.integer) and not isinstance(item, bool) and item >= 0:
        return int(item)
    raise GraphValueError(
        compose(
            what,
            f"{item!r} is not a size",
            location=str(caller_location() or ""),
            fix="a size is a non-negative int or a name",
        )
    )


def input(name: str, shape: Any = (), dtype: object = types.float64) -> Tensor:
    """Declares an input of the graph.

    ``shape`` is a tuple of ints and names; a name is a size that is bound anew at every call, and the
    same name means the same size everywhere in a graph. ``dtype`` is one of bool, int32, int64, float32,
    float64.

    Raises `GraphValueError` when a name is not an identifier or is a Python keyword, or a size is
    negative, and `GraphTypeError` for another dtype.

    >>> import graphc as gx
    >>> gx.input("x", ("N", 64), gx.float32)
    <Tensor x: f32[N,64]>
    """
    name = require_identifier("input", name)
    return Tensor(input_node(name, TensorType(as_dtype(dtype), as_shape(f"input {name!r}", shape))))


def constant(value: Any, dtype: object = None) -> Tensor:
    """A fixed value: a number, an array, nested lists of numbers, or a size of the graph.

    The dtype is ``dtype``, or the one that NumPy gives the value. Raises `GraphTypeError` for anything
    that is not numeric or of a dtype that graphc lacks.

    >>> import graphc as gx
    >>> gx.constant([[1.0, 2.0]])
    <Tensor f64[1,2]>
    """
    if isinstance(value, Tensor):
        return Tensor(value.node if dtype is None else cast(value.node, as_dtype(dtype)))
    if isinstance(value, Size):
        return Tensor(size_node(value, as_dtype(dtype or types.int64)))
    return Tensor(
        constant_node(numeric_array("constant", value), as_dtype(dtype) if dtype else None)
    )


def numeric_array(what: str, value: Any) -> Any:
    """``value`` as an array of a supported dtype; raises `GraphTypeError` if it has none."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        array = np.asarray(None)
    if array.dtype not in types.SHORT_NAMES:
        raise GraphTypeError(
            compose(
                what,
                f"{type(value).__name__} of dtype {array.dtype} is not numeric here",
                location=str(caller_location() or ""),
                fix="convert it to bool, int32, int64, float32 or float64",
            )
        )
    return array


# Lifting, promotion, broadcasting.

_WEAK = (bool, int, float)


def _is_weak(value: object) -> bool:
    return type(value) in _WEAK or isinstance(value, Size)


def _operand_dtype(op: str, value: TensorLike) -> Any:
    """What an operand says in promotion: a dtype, or itself if it is a weak Python number."""
    if isinstance(value, Tensor):
        return value.dtype
    if isinstance(value, Size):
        return 0
    return value if _is_weak(value) else numeric_array(op, value).dtype


def node_of(op: str, value: TensorLike, dtype: DType) -> Node:
    """``value`` as a node of ``dtype``; raises `GraphValueError` for a Python integer that does not fit."""
    if isinstance(value, Tensor):
        return cast(value.node, dtype)
    if isinstance(value, Size):
        return size_node(value, dtype)
    if type(value) is int and dtype.kind == "i" and not _fits(value, dtype):
        raise fail(op, f"the Python integer {value} does not fit {dtype.name}")
    return constant_node(numeric_array(op, value), dtype)


def _fits(value: int, dtype: DType) -> bool:
    low, high = integer_limits(dtype)
    return low <= value <= high


def lift(value: TensorLike, op: str = "constant") -> Node:
    """``value`` as a node of its own dtype."""
    if isinstance(value, Tensor):
        return value.node
    return node_of(op, value, promote(_operand_dtype(op, value)))


def common_dtype(op: str, operands: Sequence[TensorLike], *, inexact: bool = False) -> DType:
    """The promoted dtype of ``operands``; float64 instead of an integer or bool if ``inexact``."""
    kinds = [_operand_dtype(op, value) for value in operands]
    try:
        dtype = promote(*kinds)
    except (OverflowError, TypeError) as error:
        raise fail(op, str(error), error=GraphTypeError) from None
    return types.float64 if inexact and not is_float(dtype) else dtype


def broadcast_shape(op: str, nodes: Sequence[Node]) -> Shape:
    """The shape to which ``nodes`` broadcast; raises `GraphValueError` with all their types."""
    ndim = max(len(node.shape) for node in nodes)
    result: list[Dimension] = [1] * ndim
    for node in nodes:
        lead = ndim - len(node.shape)
        for axis, size in enumerate(node.shape, lead):
            known = result[axis]
            if known == 1:
                result[axis] = size
            elif size not in (1, known):
                named = isinstance(size, Size) or isinstance(known, Size)
                fix = "declare both with one name if they are always equal" if named else ""
                raise fail(
                    op, "shapes do not broadcast", *nodes, detail=f"{known} != {size}", fix=fix
                )
    return tuple(result)


def aligned(op: str, operands: Sequence[TensorLike], *, inexact: bool = False) -> list[Node]:
    """``operands`` as nodes of one dtype and one shape."""
    dtype = common_dtype(op, operands, inexact=inexact)
    nodes = [node_of(op, value, dtype) for value in operands]
    shape = broadcast_shape(op, nodes)
    return [broadcast(node, shape) for node in nodes]


def normal_axes(op: str, node: Node, axis: AxisLike) -> tuple[int, ...]:
    """``axis`` as a sorted tuple of non-negative ints; None is all axes."""
    ndim = len(node.shape)
    if axis is None:
        return tuple(range(ndim))
    given = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    axes = sorted(int(a) + ndim if a < 0 else int(a) for a in given)
    if any(not 0 <= a < ndim for a in axes) or len(set(axes)) != len(axes):
        raise fail(op, f"axis {axis} is out of range or repeated", node, detail=f"{ndim} axes")
    return tuple(axes)


def cast(node: Node, dtype: DType) -> Node:
    """``node`` as ``dtype``; itself when it has that dtype already."""
    return node if node.dtype == dtype else ew.cast(node, dtype=dtype)
