"""Reductions over axes. ``axes`` is a sorted tuple of non-negative ints; reduced axes disappear."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.facts import (
    NONDIFFERENTIABLE,
    Definition,
    Domain,
    KernelCode,
    ReduceCode,
    Sample,
    Vjp,
)
from graphc.ir import REGISTRY, Array, Node, Op, Rejected, broadcast, filled, size_node
from graphc.ops.discrete import bitwise_or, equal, not_equal
from graphc.ops.elementwise import where
from graphc.ops.families import require_dtype
from graphc.ops.linalg import transposed
from graphc.ops.shape import expand_dims, iota, permute_dims, reshape
from graphc.types import (
    ALL_DTYPES,
    BOOL,
    FLOATS,
    NUMBERS,
    DType,
    Requirement,
    TensorType,
    bool_,
    int64,
    integer_limits,
    is_float,
    product,
)

Axes = tuple[int, ...]
ANYWHERE = Domain(-2, 2)


def kept_axes(ndim: int, axes: Axes) -> Axes:
    """The axes that are not reduced."""
    return tuple(i for i in range(ndim) if i not in axes)


def spread(node: Node, like: Node, axes: Axes) -> Node:
    """A reduced tensor back in the shape of ``like``, constant along ``axes``."""
    return broadcast(expand_dims(node, axes=axes) if axes else node, like.shape)


def _require_axes(x: TensorType, axes: Axes) -> None:
    if any(not 0 <= axis < x.ndim for axis in axes) or list(axes) != sorted(set(axes)):
        raise Rejected("axes are out of range or repeated", detail=f"axes {axes}")


def _not_empty(node: Node) -> list[Requirement]:
    count = product(node.args[0].shape[axis] for axis in node.attrs["axes"])
    return [Requirement(count, ">=", 1, f"{node.op.name} of an empty axis")]


def reduction(
    name: str,
    *,
    dtypes: tuple[DType, ...],
    reference: Callable[..., Any],
    step: str,
    initial: Callable[[DType], bool | int | float],
    vjp: Vjp,
    needs_elements: bool = False,
    domain: Domain = ANYWHERE,
) -> Op:
    """Declares a reduction: a running total that starts at ``initial`` and takes one ``step`` an element.

    ``needs_elements`` says that it has no value over an empty axis.
    """

    def infer(x: TensorType, *, axes: Axes) -> TensorType:
        require_dtype(x.dtype, dtypes)
        _require_axes(x, axes)
        if needs_elements and any(x.shape[axis] == 0 for axis in axes):
            raise Rejected(f"an empty axis has no {name}")
        return x.with_shape(x.shape[i] for i in kept_axes(x.ndim, axes))

    def evaluate(x: Array, *, axes: Axes) -> Any:
        with np.errstate(all="ignore"):
            return np.asarray(reference(x, axis=axes)).astype(x.dtype)

    return Op(
        name,
        infer=infer,
        reference=evaluate,
        lowering=ReduceCode(step, initial),
        vjp=vjp,
        samples=(
            Sample(((3, 4),), {"axes": (1,)}, (domain,)),
            Sample(((3, 4),), {"axes": (0,)}, (domain,)),
            Sample(((2, 3, 4),), {"axes": (0, 2)}, (domain,)),
            Sample(((2, 3, 4),), {"axes": (0, 1, 2)}, (domain,)),
            Sample(((2, 1, 3),), {"axes": (1,)}, (domain,)),
        ),
        dtypes=dtypes,
        requires=_not_empty if needs_elements else lambda node: [],
    )


sum_: Op = reduction(
    "sum",
    dtypes=NUMBERS,
    reference=np.sum,
    step="accumulate.add",
    initial=lambda dtype: dtype.type(0).item(),
    vjp=lambda g, out, x, *, axes: (spread(g, x, axes),),
)


def _infer_by_columns(x: TensorType, *, axes: Axes) -> TensorType:
    require_dtype(x.dtype, NUMBERS)
    _require_axes(x, axes)
    *others, many, few = x.shape if x.ndim > 2 else (0, 0)
    if not set(axes) <= set(range(len(others))):
        raise Rejected("the last two axes stay", detail=f"axes {axes}")
    return x.with_shape([*(others[i] for i in kept_axes(len(others), axes)), few, many])


sum_by_columns: Op = Op(
    "sum_by_columns",
    infer=_infer_by_columns,
    reference=lambda x, *, axes: np.swapaxes(sum_.reference(x, axes=axes), -1, -2),
    lowering=ReduceCode("accumulate.add", lambda dtype: dtype.type(0).item(), by_columns=True),
    vjp=lambda g, out, x, *, axes: (spread(transposed(g), x, axes),),
    samples=(
        Sample(((2, 3, 4),), {"axes": (0,)}, (ANYWHERE,)),
        Sample(((2, 3, 2, 4),), {"axes": (1,)}, (ANYWHERE,)),
    ),
    dtypes=NUMBERS,
)
"""A sum over axes before the last two, which change places: for loops over the last but one."""


# Maximum and minimum: the first element that attains it gets the whole gradient.


def _as_rows(x: Node, axes: Axes) -> tuple[Node, Axes]:
    """``x`` with its last axes as one if it is those, and the axes it has in the place of ``axes``."""
    kept = kept_axes(len(x.shape), axes)
    if len(axes) == 1 or kept != tuple(range(len(kept))):
        return x, axes
    shape = (*x.shape[: len(kept)], product(x.shape[i] for i in axes))
    return reshape(x, shape=shape), (len(kept),)


def _place(x: Node, axes: Axes) -> Node:
    """The number of every element among those along ``axes``."""
    place = iota(shape=x.shape, axis=axes[0], dtype=int64)
    for axis in axes[1:]:
        size = broadcast(size_node(x.shape[axis], int64), x.shape)
        place = place * size + iota(shape=x.shape, axis=axis, dtype=int64)
    return place


def _route_to_first(find: Op) -> Vjp:
    def vjp(g: Node, out: Node, x: Node, *, axes: Axes) -> tuple[Node]:
        if not axes:
            return (g,)
        rows, along = _as_rows(x, axes)
        wins = equal(_place(rows, along), spread(find(rows, axes=along), rows, along))
        arriving = spread(g, rows, along)
        routed = where(wins, arriving, filled(arriving, 0))
        return (routed if rows is x else reshape(routed, shape=x.shape),)

    return vjp


def lowest(dtype: DType) -> bool | int | float:
    """The value that no other is below."""
    if dtype == bool_:
        return False
    return -math.inf if is_float(dtype) else integer_limits(dtype)[0]


def _highest(dtype: DType) -> bool | int | float:
    if dtype == bool_:
        return True
    return math.inf if is_float(dtype) else integer_limits(dtype)[1]


def _argument(name: str, reference: Callable[..., Any], extreme: str) -> Op:
    """The place of the first extreme element along ``axes``; of the first nan if there is one."""

    def infer(x: TensorType, *, axes: Axes) -> TensorType:
        require_dtype(x.dtype, NUMBERS)
        _require_axes(x, axes)
        if not axes or any(x.shape[axis] == 0 for axis in axes):
            raise Rejected(f"an empty axis has no {name}")
        return TensorType(int64, tuple(x.shape[i] for i in kept_axes(x.ndim, axes)))

    def evaluate(x: Array, *, axes: Axes) -> Any:
        kept = kept_axes(x.ndim, axes)
        shape = (*(x.shape[i] for i in kept), math.prod(x.shape[i] for i in axes))
        return reference(np.transpose(x, (*kept, *axes)).reshape(shape), axis=-1)

    def expand(x: Node, *, axes: Axes) -> Node:
        value = spread(REGISTRY[extreme](x, axes=axes), x, axes)
        found = equal(x, value)
        if is_float(x.dtype):
            found = bitwise_or(found, not_equal(x, x))
        behind = broadcast(size_node(product(x.shape[i] for i in axes), int64), x.shape)
        return REGISTRY["min"](where(found, _place(x, axes), behind), axes=axes)

    return Op(
        name,
        infer=infer,
        reference=evaluate,
        lowering=Definition(expand),
        vjp=NONDIFFERENTIABLE,
        samples=(
            Sample(((3, 4),), {"axes": (1,)}),
            Sample(((3, 4),), {"axes": (0,)}),
            Sample(((5,),), {"axes": (0,)}),
            Sample(((2, 3, 4),), {"axes": (0, 2)}),
        ),
        dtypes=NUMBERS,
        requires=_not_empty,
    )


argmax = _argument("argmax", np.argmax, "max")
argmin = _argument("argmin", np.argmin, "min")

max_: Op = reduction(
    "max",
    dtypes=ALL_DTYPES,
    reference=np.max,
    step="accumulate.maximum",
    initial=lowest,
    vjp=_route_to_first(argmax),
    needs_elements=True,
)
min_: Op = reduction(
    "min",
    dtypes=ALL_DTYPES,
    reference=np.min,
    step="accumulate.minimum",
    initial=_highest,
    vjp=_route_to_first(argmin),
    needs_elements=True,
)
all_: Op = reduction(
    "all",
    dtypes=BOOL,
    reference=np.all,
    step="accumulate.logical_and",
    initial=lambda dtype: True,
    vjp=NONDIFFERENTIABLE,
)
any_: Op = reduction(
    "any",
    dtypes=BOOL,
    reference=np.any,
    step="accumulate.logical_or",
    initial=lambda dtype: False,
    vjp=NONDIFFERENTIABLE,
)


# Product: its derivative must not divide by an element that may be 0.


def _axes_last(x: Node, axes: Axes) -> tuple[Node, Axes]:
    """``x`` as (kept axes..., all reduced elements), and the permutation that brought it there."""
    kept = kept_axes(x.tensor_type.ndim, axes)
    order = (*kept, *axes)
    moved = x if order == tuple(range(len(order))) else permute_dims(x, axes=order)
    if len(axes) == 1:
        return moved, order
    shape = (*(x.shape[i] for i in kept), product(x.shape[i] for i in axes))
    return reshape(moved, shape=shape), order


def _axes_back(flat: Node, like: Node, order: Axes) -> Node:
    moved = reshape(flat, shape=tuple(like.shape[i] for i in order))
    inverse = tuple(int(i) for i in np.argsort(order))
    return (
        moved if order == inverse == tuple(range(len(order))) else permute_dims(moved, axes=inverse)
    )


def _others(x: Array) -> Array:
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    ones = np.ones((rows.shape[0], 1), x.dtype)
    with np.errstate(all="ignore"):
        before = np.cumprod(np.hstack([ones, rows[:, :-1]]), axis=1, dtype=x.dtype)
        after = np.cumprod(np.hstack([ones, rows[:, :0:-1]]), axis=1, dtype=x.dtype)[:, ::-1]
        return np.asarray((before * after)[:, : x.shape[-1]]).reshape(x.shape)


def _others_vjp(g: Node, out: Node, x: Node) -> tuple[Node]:
    # d out[i] / d x[k] is the product of all elements but i and k: the product of the others than k in a
    # copy of the row in which element i is 1. One row becomes an n x n matrix, only in second order.
    n, last = x.shape[-1], x.tensor_type.ndim - 1
    square = (*x.shape, n)
    kept = iota(shape=square, axis=last, dtype=int64)
    other = iota(shape=square, axis=last + 1, dtype=int64)
    row = broadcast(expand_dims(x, axes=(last,)), square)
    same = equal(kept, other)
    without = product_of_others(where(same, filled(row, 1), row))
    arriving = broadcast(expand_dims(g, axes=(last + 1,)), square)
    terms = where(same, filled(row, 0), arriving * without)
    return (sum_(terms, axes=(last,)),)


def _infer_others(x: TensorType) -> TensorType:
    require_dtype(x.dtype, FLOATS)
    if x.ndim == 0:
        raise Rejected("needs an axis")
    return x


def _emit_others(node: Node, operands: Any, result: str) -> list[str]:
    rows, n = product(node.shape[:-1]), node.shape[-1]
    return [f"kernels.product_of_others({operands[0]}, {result}, {rows}, {n})"]


product_of_others: Op = Op(
    "product_of_others",
    infer=_infer_others,
    reference=_others,
    lowering=KernelCode(_emit_others),
    vjp=_others_vjp,
    samples=(
        Sample(((5,),)),
        Sample(((2, 3),)),
        Sample(((6,),), {}, (Domain(-2, 2, smooth=(0.0, 0.0)),)),
    ),
    dtypes=FLOATS,
)
"""Along the last axis, the product of all elements but one: the local derivative of `prod`."""


def _prod_vjp(g: Node, out: Node, x: Node, *, axes: Axes) -> tuple[Node]:
    if not axes:
        return (g,)
    flat, order = _axes_last(x, axes)
    arriving = broadcast(expand_dims(g, axes=(len(flat.shape) - 1,)), flat.shape)
    return (_axes_back(arriving * product_of_others(flat), x, order),)


prod: Op = reduction(
    "prod",
    dtypes=NUMBERS,
    reference=np.prod,
    step="accumulate.multiply",
    initial=lambda dtype: dtype.type(1).item(),
    vjp=_prod_vjp,
    domain=Domain(-2, 2, smooth=(0.0,)),
)


# What gates over axes share, and the mean.


def infer_reduced(x: TensorType, *, axes: Axes) -> TensorType:
    """The type rule of a gate that takes floats and drops ``axes``."""
    require_dtype(x.dtype, FLOATS)
    _require_axes(x, axes)
    return x.with_shape(x.shape[i] for i in kept_axes(x.ndim, axes))


def infer_same(x: TensorType, *, axes: Axes) -> TensorType:
    """The type rule of a gate on floats that works along ``axes`` and keeps them."""
    require_dtype(x.dtype, FLOATS)
    _require_axes(x, axes)
    return x


def _count(x: Node, axes: Axes) -> Node:
    return size_node(product(x.shape[i] for i in axes), x.dtype)


def _expand_mean(x: Node, *, axes: Axes) -> Node:
    total = sum_(x, axes=axes)
    return total / broadcast(_count(x, axes), total.shape)


def _mean_reference(x: Array, *, axes: Axes) -> Any:
    with np.errstate(all="ignore"):
        count = math.prod(x.shape[i] for i in axes)
        return np.asarray(np.sum(x, axis=axes) / x.dtype.type(count)).astype(x.dtype)


mean: Op = Op(
    "mean",
    infer=infer_reduced,
    reference=_mean_reference,
    lowering=Definition(_expand_mean),
    vjp=lambda g, out, x, *, axes: (spread(g / broadcast(_count(x, axes), g.shape), x, axes),),
    samples=(Sample(((3, 4),), {"axes": (1,)}), Sample(((2, 3, 4),), {"axes": (0, 2)})),
    dtypes=FLOATS,
)
