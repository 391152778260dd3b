"""Basic indexing: from the key of ``x[key]`` to slice, squeeze, expand_dims and take nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, TypeAlias

import numpy as np

from graphc.errors import GraphIndexError, GraphTypeError, compose
from graphc.ir import Node, caller_location
from graphc.ops.index import slice_
from graphc.ops.shape import expand_dims, squeeze
from graphc.types import Dimension, Requirement, Size

Key: TypeAlias = "int | slice | EllipsisType | Size | None"


@dataclass(frozen=True)
class _AxisSlice:
    start: Dimension
    size: Dimension
    step: int


def basic_index(x: Node, key: Any) -> Node:
    """The node of ``x[key]`` for ints, slices, ``...`` and ``None``, by NumPy's rules.

    On an axis of a named size, bounds are taken as they are written and checked at the call: ``x[:3]``
    always has 3 elements, and an array with fewer is refused.
    """
    items = key if isinstance(key, tuple) else (key,)
    items = _expand_ellipsis(x, items)
    slices: list[_AxisSlice] = []
    dropped: list[int] = []
    added: list[int] = []
    position = 0
    for item in items:
        if item is None:
            added.append(position)
            position += 1
            continue
        axis = len(slices)
        slices.append(_axis_slice(x, axis, item))
        if isinstance(item, slice):
            position += 1
        else:
            dropped.append(axis)
    node = _sliced(x, slices)
    if dropped:
        node = squeeze(node, axes=tuple(dropped))
    return expand_dims(node, axes=tuple(added)) if added else node


def _sliced(x: Node, slices: Sequence[_AxisSlice]) -> Node:
    whole = all(
        s.start == 0 and s.step == 1 and s.size == size
        for s, size in zip(slices, x.shape, strict=True)
    )
    if whole:
        return x
    return slice_(
        x,
        starts=tuple(s.start for s in slices),
        sizes=tuple(s.size for s in slices),
        steps=tuple(s.step for s in slices),
    )


def _expand_ellipsis(x: Node, items: tuple[Any, ...]) -> tuple[Key, ...]:
    for item in items:
        if isinstance(item, bool | np.bool_) or not isinstance(
            item, int | np.integer | slice | EllipsisType | Size | type(None)
        ):
            raise GraphTypeError(
                _message(
                    x,
                    f"an index of kind {type(item).__name__} is not supported",
                    "use ints, slices, ... and None; gather with gx.take(x, indices, axis=)",
                )
            )
    ndim = len(x.shape)
    used = sum(1 for item in items if item is not None and item is not Ellipsis)
    ellipses = sum(1 for item in items if item is Ellipsis)
    if used > ndim or ellipses > 1:
        problem = f"{used} indices for {ndim} axes" if used > ndim else "more than one ellipsis"
        raise GraphIndexError(_message(x, problem))
    if not ellipses:
        items = (*items, Ellipsis)
    at = next(i for i, item in enumerate(items) if item is Ellipsis)
    return (*items[:at], *[slice(None)] * (ndim - used), *items[at + 1 :])


def _message(x: Node, problem: str, fix: str = "") -> str:
    location = str(caller_location() or "")
    return compose("index", problem, arguments=[x.type], location=location, fix=fix)


def _axis_slice(x: Node, axis: int, item: Key) -> _AxisSlice:
    whole = x.shape[axis]
    if isinstance(item, slice):
        return _from_slice(x, item, whole)
    index: Dimension = item if isinstance(item, Size) else int(item)  # type: ignore[arg-type]
    start = whole + index if isinstance(index, int) and index < 0 else index
    inside = (
        Requirement(start, ">=", 0, "index"),
        Requirement(whole - 1, ">=", start, "index"),
    )
    if any(requirement.is_impossible() for requirement in inside):
        raise GraphIndexError(_message(x, f"{index} is out of bounds for axis {axis}"))
    return _AxisSlice(start, 1, 1)


def _from_slice(x: Node, item: slice, whole: Dimension) -> _AxisSlice:
    for bound in (item.start, item.stop, item.step):
        if not isinstance(bound, int | np.integer | Size | type(None)):
            raise GraphTypeError(_message(x, f"slice bound {bound!r} is not an integer"))
    if isinstance(item.step, Size) or item.step == 0:
        raise GraphIndexError(_message(x, f"slice step {item.step} is not a fixed nonzero integer"))
    step = 1 if item.step is None else int(item.step)
    if (
        isinstance(whole, int)
        and not isinstance(item.start, Size)
        and not isinstance(item.stop, Size)
    ):
        start, stop, step = item.indices(whole)
        return _AxisSlice(start, len(range(start, stop, step)), step)
    return _symbolic_slice(item, whole, step)


def _symbolic_slice(item: slice, whole: Dimension, step: int) -> _AxisSlice:
    def bound(value: Any, default: Dimension) -> Dimension:
        if value is None:
            return default
        value = value if isinstance(value, Size) else int(value)
        return whole + value if isinstance(value, int) and value < 0 else value

    if step > 0:
        start, stop = bound(item.start, 0), bound(item.stop, whole)
        return _AxisSlice(start, (stop - start + (step - 1)) // step, step)
    start, stop = bound(item.start, whole - 1), bound(item.stop, -1)
    return _AxisSlice(start, (start - stop + (-step - 1)) // -step, step)
