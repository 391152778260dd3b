"""Slices, joins, gathers and scatters: reading by position, and the derivatives that put back."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import GraphTypeError
from graphc.facts import Domain, KernelCode, ReadCode, Sample
from graphc.ir import Array, Node, Op, Rejected, broadcast, filled, size_node
from graphc.ops.discrete import equal
from graphc.ops.elementwise import cast, where
from graphc.ops.position import below, condition, shifted
from graphc.ops.shape import Index, Operand, expand_dims, iota, reshaped
from graphc.types import (
    ALL_DTYPES,
    INTEGERS,
    NUMBERS,
    Dimension,
    DType,
    Requirement,
    Shape,
    TensorType,
    int64,
    product,
)

# Slices and their derivative.


def _infer_slice(
    x: TensorType, *, starts: Shape, sizes: Shape, steps: tuple[int, ...]
) -> TensorType:
    return x.with_shape(sizes)


def _slice_reference(
    x: Array, *, starts: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...]
) -> Array:
    positions = [
        start + step * np.arange(size)
        for start, size, step in zip(starts, sizes, steps, strict=True)
    ]
    return np.asarray(x[np.ix_(*positions)])


def _affine(start: Dimension, step: int, index: str) -> str:
    if index == "0":
        return str(start)
    return shifted(index if step == 1 else f"{step} * ({index})", start)


def _read_slice(node: Node, index: Index, operand: Operand) -> str:
    attrs = node.attrs
    steps = zip(attrs["starts"], attrs["steps"], index, strict=True)
    return operand(0, tuple(_affine(start, step, i) for start, step, i in steps))


def _slice_vjp(
    g: Node, out: Node, x: Node, *, starts: Shape, sizes: Shape, steps: tuple[int, ...]
) -> tuple[Node]:
    total = g
    for axis, (start, size, step) in enumerate(zip(starts, sizes, steps, strict=True)):
        if size != x.shape[axis] or step != 1:
            total = embed(total, axis=axis, start=start, step=step, size=x.shape[axis])
    return (total,)


def _slice_requirements(node: Node) -> list[Requirement]:
    attrs, found = node.attrs, []
    triples = zip(attrs["starts"], attrs["sizes"], attrs["steps"], strict=True)
    for axis, (start, size, step) in enumerate(triples):
        whole, reason = node.args[0].shape[axis], f"slice of axis {axis}"
        found.append(Requirement(size, ">=", 0, reason))
        if size == 0:
            continue
        last = start + (size - 1) * step
        low, high = (start, last) if step > 0 else (last, start)
        # A slice of no element may start anywhere; a bound that depends on the size allows for it.
        slack = 0 if isinstance(size, int) else 1
        found += [
            Requirement(low + slack, ">=", 0, reason),
            Requirement(whole + slack - 1, ">=", high, reason),
        ]
    return found


slice_: Op = Op(
    "slice",
    infer=_infer_slice,
    reference=_slice_reference,
    lowering=ReadCode(_read_slice),
    vjp=_slice_vjp,
    samples=(
        Sample(((5, 6),), {"starts": (1, 0), "sizes": (3, 3), "steps": (1, 2)}),
        Sample(((5,),), {"starts": (4,), "sizes": (5,), "steps": (-1,)}),
        Sample(((4, 3),), {"starts": (2, 0), "sizes": (1, 3), "steps": (1, 1)}),
    ),
    dtypes=ALL_DTYPES,
    requires=_slice_requirements,
    cost=0,
)
"""Basic slices of all axes at once: element i of an axis is element ``start + step * i``."""


def _infer_embed(
    x: TensorType, *, axis: int, start: Dimension, step: int, size: Dimension
) -> TensorType:
    return x.with_shape(size if i == axis else s for i, s in enumerate(x.shape))


def _embed_reference(x: Array, *, axis: int, start: int, step: int, size: int) -> Array:
    out = np.zeros([size if i == axis else s for i, s in enumerate(x.shape)], x.dtype)
    positions = start + step * np.arange(x.shape[axis])
    place: Any = (*(slice(None),) * axis, positions)
    out[place] = x
    return out


def _read_embed(node: Node, index: Index, operand: Operand) -> str:
    axis, start, step = (node.attrs[k] for k in ("axis", "start", "step"))
    count, here = node.args[0].shape[axis], index[axis]
    if step == 1 or count == 1:
        offset = "0" if count == 1 else shifted(here, -start)
        inside = condition(here, start, start + count)
    else:
        distance = f"({here} - {_factor(start)})"
        offset = f"{distance} // {step}"
        inside = f"{distance} % {step} == 0 and 0 <= {offset} < {count}"
    value = operand(0, (*index[:axis], offset, *index[axis + 1 :]))
    return _choice(inside, value, zero_of(node.dtype))


def edges(node: Node, index: Index) -> list[tuple[str, Dimension]]:
    """Where what an embedding or a join reads changes: a position along an axis, and its value there."""
    axis = node.attrs["axis"] if node.op in WITH_EDGES else 0
    if node.op is embed and (node.attrs["step"] == 1 or node.args[0].shape[axis] == 1):
        start = node.attrs["start"]
        return [(index[axis], start), (index[axis], start + node.args[0].shape[axis])]
    if node.op is concat:
        return [(index[axis], start) for start in _starts(node)[1:-1]]
    return []


def _choice(condition: str, value: str, other: str) -> str:
    """``value`` where ``condition`` holds; an element of an array is read only where it does."""
    if condition in ("True", "False"):
        return value if condition == "True" else other
    if (value, other) == ("True", "False"):
        return f"({condition})"
    if "[" in value or "[" in other:
        return f"({value} if {condition} else {other})"
    return f"scalar.select({condition}, {value}, {other})"


def _factor(size: Dimension) -> str:
    return str(size) if isinstance(size, int) else f"({size})"


def zero_of(dtype: DType) -> str:
    """The source of a typed zero."""
    if dtype.kind == "b":
        return "False"
    number = "0.0" if dtype.kind == "f" else "0"
    return number if dtype.itemsize == 8 else f"np.{dtype.name}({number})"


embed: Op = Op(
    "embed",
    infer=_infer_embed,
    reference=_embed_reference,
    lowering=ReadCode(_read_embed),
    vjp=lambda g, out, x, *, axis, start, step, size: (
        slice_(
            g,
            starts=tuple(start if i == axis else 0 for i in range(len(x.shape))),
            sizes=x.shape,
            steps=tuple(step if i == axis else 1 for i in range(len(x.shape))),
        ),
    ),
    samples=(
        Sample(((2, 3),), {"axis": 1, "start": 1, "step": 2, "size": 7}),
        Sample(((3,),), {"axis": 0, "start": 4, "step": -2, "size": 6}),
        Sample(((1, 3),), {"axis": 0, "start": 2, "step": 1, "size": 4}),
        Sample(((3,),), {"axis": 0, "start": 3, "step": -1, "size": 5}),
    ),
    dtypes=ALL_DTYPES,
    cost=1,
)
"""Zeros of ``size`` along an axis with the operand placed at ``start + step * i``: slice's derivative."""


# Joining.


def _infer_concat(*types: TensorType, axis: int) -> TensorType:
    first = types[0]
    if not 0 <= axis < first.ndim:
        raise Rejected("axis is out of range", detail=f"axis {axis}")
    for other in types[1:]:
        if other.dtype != first.dtype:
            raise Rejected("operands have different dtypes", error=GraphTypeError)
        if other.ndim != first.ndim or any(
            a != b
            for i, (a, b) in enumerate(zip(first.shape, other.shape, strict=True))
            if i != axis
        ):
            raise Rejected(f"shapes differ in an axis other than {axis}")
    total = sum((t.shape[axis] for t in types[1:]), first.shape[axis])
    return first.with_shape(total if i == axis else s for i, s in enumerate(first.shape))


def _starts(node: Node) -> list[Dimension]:
    """Where the operands of a join start along its axis, and where the last one ends."""
    starts: list[Dimension] = [0]
    for arg in node.args:
        starts.append(starts[-1] + arg.shape[node.attrs["axis"]])
    return starts


def _read_concat(node: Node, index: Index, operand: Operand) -> str:
    axis, starts = node.attrs["axis"], _starts(node)

    def between(first: int, last: int) -> str:
        """The element where it is one of the operands from ``first`` to before ``last``, by halving."""
        if last - first == 1:
            here = shifted(index[axis], -starts[first])
            return operand(first, (*index[:axis], here, *index[axis + 1 :]))
        middle = (first + last) // 2
        is_before = below(index[axis], starts[middle])
        return _choice(is_before, between(first, middle), between(middle, last))

    return between(0, len(node.args))


def _concat_vjp(g: Node, out: Node, *args: Node, axis: int) -> tuple[Node, ...]:
    parts: list[Node] = []
    start: Dimension = 0
    for arg in args:
        starts = tuple(start if i == axis else 0 for i in range(len(arg.shape)))
        parts.append(slice_(g, starts=starts, sizes=arg.shape, steps=(1,) * len(arg.shape)))
        start = start + arg.shape[axis]
    return tuple(parts)


concat: Op = Op(
    "concat",
    infer=_infer_concat,
    reference=lambda *xs, axis: np.concatenate(xs, axis),
    lowering=ReadCode(_read_concat),
    vjp=_concat_vjp,
    samples=(
        Sample(((2, 3), (4, 3), (1, 3)), {"axis": 0}, (Domain(-2, 2),) * 3),
        Sample(((2, 3), (2, 2)), {"axis": 1}, (Domain(-2, 2),) * 2),
    ),
    dtypes=ALL_DTYPES,
)


WITH_EDGES = (embed, concat)
"""What is read through these depends on the place: see `edges`."""


# Gathering and scattering.


def _require_index(index: TensorType) -> None:
    if index.dtype not in INTEGERS:
        raise Rejected("the index is not an integer tensor", error=GraphTypeError)


def _infer_take(x: TensorType, index: TensorType, *, axis: int) -> TensorType:
    _require_index(index)
    if not 0 <= axis < x.ndim:
        raise Rejected("axis is out of range", detail=f"axis {axis}")
    return x.with_shape((*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]))


def _read_take(node: Node, index: Index, operand: Operand) -> str:
    axis, (x, positions) = node.attrs["axis"], node.args
    end = axis + len(positions.shape)
    here = operand(1, index[axis:end])
    found = f"kernels.position({here}, {x.shape[axis]})"
    return operand(0, (*index[:axis], found, *index[end:]))


def _take_vjp(g: Node, out: Node, x: Node, index: Node, *, axis: int) -> tuple[Node, None]:
    # Scattering addresses one axis, so the axes of the index are seen as one.
    lead, rest = x.shape[:axis], x.shape[axis + 1 :]
    count = product(index.shape)
    flat_index = reshaped(index, (count,))
    flat = reshaped(g, (*lead, count, *rest))
    return scatter_add(flat_index, flat, axis=axis, size=x.shape[axis]), None


take: Op = Op(
    "take",
    infer=_infer_take,
    reference=lambda x, index, *, axis: np.take(x, index, axis),
    lowering=ReadCode(_read_take),
    vjp=_take_vjp,
    samples=(
        Sample(((4, 3), (2, 2)), {"axis": 0}, (Domain(-2, 2), Domain(-4, 3)), (None, int64)),
        Sample(((2, 3), (5,)), {"axis": 1}, (Domain(-2, 2), Domain(-3, 2)), (None, int64)),
        Sample(((3,), ()), {"axis": 0}, (Domain(-2, 2), Domain(0, 2)), (None, int64)),
    ),
    dtypes=ALL_DTYPES,
)


def _infer_scatter(
    index: TensorType, source: TensorType, *, axis: int, size: Dimension
) -> TensorType:
    _require_index(index)
    return source.with_shape(size if i == axis else s for i, s in enumerate(source.shape))


def _scatter_reference(index: Array, source: Array, *, axis: int, size: int) -> Array:
    out = np.zeros([size if i == axis else s for i, s in enumerate(source.shape)], source.dtype)
    place: Any = (*(slice(None),) * axis, index)
    np.add.at(out, place, source)
    return out


def _emit_scatter(node: Node, operands: Any, result: str) -> list[str]:
    axis, count = node.attrs["axis"], node.args[0].shape[0]
    outer, inner = product(node.shape[:axis]), product(node.shape[axis + 1 :])
    sizes = f"{outer}, {node.shape[axis]}, {inner}, {count}"
    return [f"kernels.scatter_add({operands[0]}, {operands[1]}, {result}, {sizes})"]


scatter_add: Op = Op(
    "scatter_add",
    infer=_infer_scatter,
    reference=_scatter_reference,
    lowering=KernelCode(_emit_scatter),
    vjp=lambda g, out, index, source, *, axis, size: (None, take(g, index, axis=axis)),
    samples=(
        Sample(
            ((4,), (2, 4, 3)),
            {"axis": 1, "size": 3},
            (Domain(-3, 2), Domain(-2, 2)),
            (int64, None),
        ),
        Sample(((5,), (5,)), {"axis": 0, "size": 4}, (Domain(-4, 3), Domain(-2, 2)), (int64, None)),
    ),
    dtypes=NUMBERS,
)
"""Zeros along an axis with the slices of ``source`` added at the places that ``index`` names."""


def _infer_pick(x: TensorType, index: TensorType) -> TensorType:
    _require_index(index)
    if x.ndim == 0 or x.shape[:-1] != index.shape:
        raise Rejected("needs one index for each row", detail="x[..., n] and index[...]")
    return x.with_shape(index.shape)


def _pick_vjp(g: Node, out: Node, x: Node, index: Node) -> tuple[Node, None]:
    last = len(x.shape) - 1
    position = iota(shape=x.shape, axis=last, dtype=int64)
    chosen = broadcast(expand_dims(wrapped(index, x.shape[-1]), axes=(last,)), x.shape)
    arriving = broadcast(expand_dims(g, axes=(last,)), x.shape)
    return where(equal(position, chosen), arriving, filled(arriving, 0)), None


def wrapped(index: Node, size: Dimension) -> Node:
    """Positions counted from the end as positions from the start, in int64."""
    wide = index if index.dtype == int64 else cast(index, dtype=int64)
    return where(wide < 0, wide + broadcast(size_node(size, int64), wide.shape), wide)


pick: Op = Op(
    "pick",
    infer=_infer_pick,
    reference=lambda x, index: np.take_along_axis(x, index[..., None], -1)[..., 0],
    lowering=ReadCode(
        lambda node, index, operand: operand(
            0, (*index, f"kernels.position({operand(1, index)}, {node.args[0].shape[-1]})")
        )
    ),
    vjp=_pick_vjp,
    samples=(
        Sample(((4, 3), (4,)), {}, (Domain(-2, 2), Domain(-3, 2)), (None, int64)),
        Sample(((5,), ()), {}, (Domain(-2, 2), Domain(0, 4)), (None, int64)),
    ),
    dtypes=ALL_DTYPES,
)
"""One element of each row: ``x[..., index[...]]`` along the last axis."""
