"""Ops that move elements without changing them: index maps that cost nothing inside a loop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphc.facts import NONDIFFERENTIABLE, ReadCode, Sample, ViewCode
from graphc.ir import Array, Node, Op, Rejected, broadcast
from graphc.types import (
    ALL_DTYPES,
    DType,
    Requirement,
    Shape,
    TensorType,
    int64,
    product,
)

Axes = tuple[int, ...]
Index = tuple[str, ...]
Operand = Callable[[int, Index], str]


# Reshape.


def _infer_reshape(x: TensorType, *, shape: Shape) -> TensorType:
    sizes = Requirement(product(x.shape), "==", product(shape), "reshape")
    if sizes.is_impossible():
        raise Rejected(
            "the number of elements differs",
            detail=f"{product(x.shape)} != {product(shape)}, wanted {x.with_shape(shape)}",
        )
    return x.with_shape(shape)


reshape: Op = Op(
    "reshape",
    infer=_infer_reshape,
    reference=lambda x, *, shape: np.reshape(x, shape),
    lowering=ViewCode(),
    vjp=lambda g, out, x, *, shape: (reshape(g, shape=x.shape),),
    samples=(Sample(((2, 6),), {"shape": (3, 4)}), Sample(((2, 3),), {"shape": (6,)})),
    dtypes=ALL_DTYPES,
    requires=lambda node: [
        Requirement(product(node.args[0].shape), "==", product(node.shape), "reshape")
    ],
    cost=0,
)


def reshaped(node: Node, shape: Shape) -> Node:
    """``node`` under another shape; a 0-d operand is broadcast and a 0-d result squeezed."""
    if node.shape == shape:
        return node
    if node.shape == ():
        return broadcast(node, shape)
    if shape == ():
        return squeeze(node, axes=tuple(range(len(node.shape))))
    return reshape(node, shape=shape)


# Axes.


def _infer_permute(x: TensorType, *, axes: Axes) -> TensorType:
    if sorted(axes) != list(range(x.ndim)):
        raise Rejected("axes are not a permutation", detail=f"axes {axes}")
    return x.with_shape(x.shape[a] for a in axes)


def inverse_permutation(axes: Axes) -> Axes:
    """The permutation that undoes ``axes``."""
    return tuple(axes.index(i) for i in range(len(axes)))


permute_dims: Op = Op(
    "permute_dims",
    infer=_infer_permute,
    reference=lambda x, *, axes: np.transpose(x, axes),
    lowering=ReadCode(
        lambda node, index, operand: operand(
            0, tuple(index[i] for i in inverse_permutation(node.attrs["axes"]))
        )
    ),
    vjp=lambda g, out, x, *, axes: (permute_dims(g, axes=inverse_permutation(axes)),),
    samples=(
        Sample(((2, 3),), {"axes": (1, 0)}),
        Sample(((2, 3, 4),), {"axes": (2, 0, 1)}),
    ),
    dtypes=ALL_DTYPES,
    cost=0,
)


def _infer_expand(x: TensorType, *, axes: Axes) -> TensorType:
    ndim = x.ndim + len(axes)
    if any(not 0 <= a < ndim for a in axes) or list(axes) != sorted(set(axes)):
        raise Rejected("axes are out of range or repeated", detail=f"axes {axes}")
    old = iter(x.shape)
    return x.with_shape(1 if i in axes else next(old) for i in range(ndim))


def _infer_squeeze(x: TensorType, *, axes: Axes) -> TensorType:
    if any(not 0 <= a < x.ndim for a in axes) or list(axes) != sorted(set(axes)):
        raise Rejected("axes are out of range or repeated", detail=f"axes {axes}")
    if any(x.shape[a] != 1 for a in axes):
        raise Rejected("only an axis of size 1 can be squeezed", detail=f"axes {axes}")
    return x.with_shape(s for i, s in enumerate(x.shape) if i not in axes)


def _read_squeeze(node: Node, index: Index, operand: Operand) -> str:
    kept = iter(index)
    ndim = len(node.args[0].shape)
    return operand(0, tuple("0" if i in node.attrs["axes"] else next(kept) for i in range(ndim)))


expand_dims: Op = Op(
    "expand_dims",
    infer=_infer_expand,
    reference=lambda x, *, axes: np.expand_dims(x, axes),
    lowering=ReadCode(
        lambda node, index, operand: operand(
            0, tuple(i for a, i in enumerate(index) if a not in node.attrs["axes"])
        )
    ),
    vjp=lambda g, out, x, *, axes: (squeeze(g, axes=axes),),
    samples=(Sample(((2, 3),), {"axes": (0, 2)}), Sample(((),), {"axes": (0,)})),
    dtypes=ALL_DTYPES,
    cost=0,
)
squeeze: Op = Op(
    "squeeze",
    infer=_infer_squeeze,
    reference=lambda x, *, axes: np.squeeze(x, axes),
    lowering=ReadCode(_read_squeeze),
    vjp=lambda g, out, x, *, axes: (expand_dims(g, axes=axes),),
    samples=(Sample(((2, 1, 3, 1),), {"axes": (1, 3)}), Sample(((1,),), {"axes": (0,)})),
    dtypes=ALL_DTYPES,
    cost=0,
)


# Positions along an axis.


def _iota_reference(*, shape: tuple[int, ...], axis: int, dtype: DType) -> Array:
    line = np.arange(shape[axis], dtype=dtype)
    return np.broadcast_to(line.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape)


iota: Op = Op(
    "iota",
    infer=lambda *, shape, axis, dtype: TensorType(dtype, shape),
    reference=_iota_reference,
    lowering=ReadCode(lambda node, index, operand: index[node.attrs["axis"]]),
    vjp=NONDIFFERENTIABLE,
    samples=(Sample((), {"shape": (2, 3), "axis": 1, "dtype": int64}),),
    dtypes=(int64,),
    cost=0,
)
"""The position along an axis; in a loop it is the loop's own counter."""
