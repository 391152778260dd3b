"""The table *simplify*, third part: axes, broadcasts, slices, and reductions of what repeats."""

from __future__ import annotations

from typing import Any

from graphc.facts import ScalarCode
from graphc.ir import BROADCAST_TO, Node, Op, broadcast, filled_type, size_node, uniform_value
from graphc.ops import elementwise as ew
from graphc.ops import reduce, shape
from graphc.ops.discrete import equal
from graphc.ops.index import concat, slice_
from graphc.ops.linalg import matmul
from graphc.ops.reduce import kept_axes
from graphc.rewrite.pattern import spread_source
from graphc.rewrite.rules import Label, Table
from graphc.types import Requirement, TensorType, is_float, product

EXACT, STABLER, REASSOCIATES = Label.EXACT, Label.STABLER, Label.REASSOCIATES

MOTION = Table("simplify")
on = MOTION.on

MOVES: tuple[Op, ...] = (
    BROADCAST_TO,
    shape.expand_dims,
    shape.permute_dims,
    shape.reshape,
)
"""Ops that elementwise ops are computed before. Not `squeeze`: what it leaves may be a plain number."""


RESHAPES = (shape.reshape, shape.expand_dims, shape.squeeze)


# Moves past elementwise ops.


@on(EXACT)
def compute_before_moving(node: Node) -> Node | None:
    """f(move(x), move(y)) -> move(f(x, y)) for an elementwise f: broadcasts, transposes, reshapes"""
    if not isinstance(node.op.lowering, ScalarCode) or not node.args:
        return None
    moved = [arg for arg in node.args if uniform_value(arg) is None]
    if not moved or any(not _same_move(arg, moved[0]) for arg in moved):
        return None
    small = moved[0].args[0].shape
    inner = [
        filled_type(TensorType(arg.dtype, small), known.item())
        if (known := uniform_value(arg)) is not None
        else arg.args[0]
        for arg in node.args
    ]
    return moved[0].op(node.op(*inner, **node.attrs), **moved[0].attrs)


def _same_move(node: Node, other: Node) -> bool:
    same = node.op in MOVES and node.op is other.op and node.attrs == other.attrs
    return same and node.args[0].shape == other.args[0].shape


@on(EXACT)
def compute_before_permuting(node: Node) -> Node | None:
    """f(permute(x), spread(y), position) -> permute(f(x, spread(y), position)) for an elementwise f"""
    if not isinstance(node.op.lowering, ScalarCode):
        return None
    permuted = next((arg for arg in node.args if arg.op is shape.permute_dims), None)
    if permuted is None:
        return None
    axes = permuted.attrs["axes"]
    inner = [_without_permutation(arg, permuted.args[0], axes) for arg in node.args]
    if any(arg is None for arg in inner):
        return None
    return shape.permute_dims(node.op(*inner, **node.attrs), axes=axes)


def _without_permutation(node: Node, like: Node, axes: tuple[int, ...]) -> Node | None:
    """What becomes ``node`` when its axes are permuted; None where that is another permutation."""
    if node.op is shape.permute_dims:
        return node.args[0] if node.attrs["axes"] == axes else None
    known = uniform_value(node)
    if known is not None:
        return filled_type(TensorType(node.dtype, like.shape), known.item())
    if node.op is shape.iota:
        return shape.iota(shape=like.shape, axis=axes[node.attrs["axis"]], dtype=node.dtype)
    if node.op is equal:
        inner = [_without_permutation(arg, like, axes) for arg in node.args]
        found = [arg for arg in inner if arg is not None]
        return equal(*found) if len(found) == len(inner) else None
    source, repeated = spread_source(node)
    kept = [axes[i] for i in range(len(axes)) if i not in repeated]
    if not repeated or kept != sorted(kept):
        return None
    typed_like = filled_type(TensorType(node.dtype, like.shape), 0)
    return reduce.spread(source, typed_like, tuple(sorted(axes[i] for i in repeated)))


@on(EXACT, *MOVES, shape.squeeze)
def move_a_constant(node: Node) -> Node | None:
    """move(c) -> c for a constant c"""
    known = uniform_value(node.args[0])
    if known is None or node.op is BROADCAST_TO or _requirements(node):
        return None
    return filled_type(node.tensor_type, known.item())


def _requirements(node: Node) -> list[Requirement]:
    return [r for r in node.op.requires(node) if not r.is_known()]


# Moves that meet.


@on(EXACT, BROADCAST_TO)
def merge_broadcasts(node: Node) -> Node | None:
    """broadcast(broadcast(x)) -> broadcast(x), broadcast(x) -> x if it has that shape"""
    (inner,) = node.args
    if inner.shape == node.shape:
        return inner
    return broadcast(inner.args[0], node.shape) if inner.op is BROADCAST_TO else None


@on(EXACT, BROADCAST_TO)
def broadcast_leading_axes(node: Node) -> Node | None:
    """broadcast(expand_dims(x, leading axes)) -> broadcast(x)"""
    (inner,) = node.args
    if inner.op is not shape.expand_dims:
        return None
    axes = inner.attrs["axes"]
    leading = 0
    while leading in axes:
        leading += 1
    if not leading:
        return None
    rest = tuple(axis - leading for axis in axes[leading:])
    (x,) = inner.args
    return broadcast(shape.expand_dims(x, axes=rest) if rest else x, node.shape)


@on(EXACT, shape.expand_dims)
def expand_a_broadcast(node: Node) -> Node | None:
    """expand_dims(broadcast(x)) -> broadcast(expand_dims(x)), so that broadcasts are outermost"""
    (inner,) = node.args
    if inner.op is not BROADCAST_TO:
        return None
    (x,) = inner.args
    lead = len(inner.shape) - len(x.shape)
    axes = node.attrs["axes"]
    kept = [i for i in range(len(node.shape)) if i not in axes]
    first = kept[lead] if lead < len(kept) else len(node.shape)
    inside = tuple(axis - first for axis in axes if axis > first)
    return broadcast(shape.expand_dims(x, axes=inside) if inside else x, node.shape)


@on(EXACT, shape.expand_dims)
def merge_expansions(node: Node) -> Node | None:
    """expand_dims(expand_dims(x)) -> expand_dims(x), expand_dims(x, ()) -> x"""
    (inner,) = node.args
    axes = node.attrs["axes"]
    if not axes:
        return inner
    if inner.op is not shape.expand_dims:
        return None
    kept = [i for i in range(len(node.shape)) if i not in axes]
    merged = {*axes, *(kept[axis] for axis in inner.attrs["axes"])}
    return shape.expand_dims(inner.args[0], axes=tuple(sorted(merged)))


@on(EXACT, shape.squeeze)
def squeeze_what_was_expanded(node: Node) -> Node | None:
    """squeeze(expand_dims(x)) -> x, or what is left of both"""
    (inner,) = node.args
    axes = node.attrs["axes"]
    if not axes:
        return inner
    if inner.op is not shape.expand_dims:
        return None
    new = inner.attrs["axes"]
    old = [i for i in range(len(inner.shape)) if i not in new]
    (x,) = inner.args
    gone = tuple(old.index(a) for a in axes if a in old)
    x = shape.squeeze(x, axes=gone) if gone else x
    kept = [i for i in range(len(inner.shape)) if i not in axes]
    added = tuple(k for k, a in enumerate(kept) if a in new)
    return shape.expand_dims(x, axes=added) if added else x


@on(EXACT, shape.permute_dims)
def merge_permutations(node: Node) -> Node | None:
    """permute(permute(x)) -> permute(x), and the identity -> x"""
    axes = node.attrs["axes"]
    (inner,) = node.args
    if axes == tuple(range(len(axes))):
        return inner
    if inner.op is not shape.permute_dims:
        return None
    return shape.permute_dims(inner.args[0], axes=tuple(inner.attrs["axes"][a] for a in axes))


@on(EXACT, shape.permute_dims)
def permute_new_axes(node: Node) -> Node | None:
    """permute(expand_dims(x)) -> expand_dims(x) where the axes of x keep their order"""
    (inner,) = node.args
    if inner.op is not shape.expand_dims:
        return None
    axes, new = node.attrs["axes"], inner.attrs["axes"]
    old = [axis for axis in axes if axis not in new]
    if old != sorted(old):
        return None
    return shape.expand_dims(inner.args[0], axes=tuple(k for k, a in enumerate(axes) if a in new))


@on(EXACT, shape.reshape)
def merge_reshapes(node: Node) -> Node | None:
    """reshape(reshape(x)) -> reshape(x), and the identity -> x; new and dropped axes count as reshapes"""
    (inner,) = node.args
    if inner.shape == node.shape:
        return inner
    # What the inner reshape requires at the call must not get lost.
    known = inner.op in RESHAPES and not _requirements(inner)
    return shape.reshaped(inner.args[0], node.shape) if known else None


@on(EXACT, shape.reshape)
def reshape_by_ones(node: Node) -> Node | None:
    """reshape(x) -> expand_dims(x) or squeeze(x) where only axes of size 1 come or go"""
    (x,) = node.args
    new = [i for i, size in enumerate(node.shape) if size == 1]
    old = [i for i, size in enumerate(x.shape) if size == 1]
    if [s for s in node.shape if s != 1] != [s for s in x.shape if s != 1] or (new and old):
        return None
    return shape.expand_dims(x, axes=tuple(new)) if new else shape.squeeze(x, axes=tuple(old))


# Slices.


@on(EXACT, slice_)
def slice_everything(node: Node) -> Node | None:
    """x[:] -> x"""
    (x,) = node.args
    whole = all(s == 0 for s in node.attrs["starts"]) and all(s == 1 for s in node.attrs["steps"])
    return x if whole and x.shape == node.shape and not _requirements(node) else None


@on(EXACT, slice_)
def slice_of_concat(node: Node) -> Node | None:
    """concat(x, y)[a:b] -> x[a:b] where the slice lies within one piece"""
    (joined,) = node.args
    if joined.op is not concat or _requirements(node):
        return None
    axis = joined.attrs["axis"]
    start, size, step = (node.attrs[k][axis] for k in ("starts", "sizes", "steps"))
    lengths = [piece.shape[axis] for piece in joined.args]
    if step != 1 or not all(isinstance(n, int) for n in (start, size, *lengths)):
        return None
    for piece, length in zip(joined.args, lengths, strict=True):
        if start >= 0 and start + size <= length:
            starts = tuple(start if i == axis else s for i, s in enumerate(node.attrs["starts"]))
            return slice_(piece, **{**node.attrs, "starts": starts})
        start -= length
    return None


# Products.


@on(EXACT, matmul)
def transposes_into_products(node: Node) -> Node | None:
    """matmul(x.T, y) -> matmul(x, y, transpose_a=True), and so for the other operand"""
    if not any(map(_is_matrix_transpose, node.args)):
        return None
    flags = [node.attrs.get(flag, False) for flag in ("transpose_a", "transpose_b")]
    args = list(node.args)
    for k, arg in enumerate(node.args):
        if _is_matrix_transpose(arg):
            args[k], flags[k] = arg.args[0], not flags[k]
    return matmul(*args, transpose_a=flags[0], transpose_b=flags[1])


@on(STABLER, matmul)
def product_over_one(node: Node) -> Node | None:
    """matmul(x, y) -> spread(x) * spread(y) where the inner size is 1"""
    a, b = (
        shape.permute_dims(arg, axes=(*range(n - 2), n - 1, n - 2)) if node.attrs.get(flag) else arg
        for arg, flag, n in zip(
            node.args, ("transpose_a", "transpose_b"), [len(node.shape)] * 2, strict=True
        )
    )
    if a.shape[-1] != 1:
        return None
    return broadcast(a, node.shape) * broadcast(b, node.shape)


def _is_matrix_transpose(node: Node) -> bool:
    if node.op is not shape.permute_dims:
        return False
    axes = node.attrs["axes"]
    last = len(axes) - 1
    return bool(axes == (*range(last - 1), last, last - 1))


# Reductions.


# Not exact: the maximum of 0.0 and -0.0 is the one that is met first.
@on(STABLER, reduce.max_, reduce.min_, reduce.all_, reduce.any_)
def reduce_twice(node: Node) -> Node | None:
    """max(max(x, a), b) -> max(x, a and b), and so for min, all, any"""
    return _merged_reduction(node)


@on(REASSOCIATES, reduce.sum_, reduce.prod)
def add_up_twice(node: Node) -> Node | None:
    """sum(sum(x, a), b) -> sum(x, a and b), and so for prod"""
    return _merged_reduction(node)


def _merged_reduction(node: Node) -> Node | None:
    (inner,) = node.args
    if inner.op is not node.op:
        return None
    kept = kept_axes(len(inner.args[0].shape), inner.attrs["axes"])
    merged = {*inner.attrs["axes"], *(kept[axis] for axis in node.attrs["axes"])}
    return node.op(inner.args[0], axes=tuple(sorted(merged)))


@on(STABLER, reduce.sum_)
def sum_of_repeated(node: Node) -> Node | None:
    """sum(spread(x)) -> size * x"""
    found = _without_repetition(node)
    if found is None:
        return None
    x, count = found
    factor = broadcast(size_node(count, x.dtype), x.shape)
    # The sum of no elements is 0, also where the element is not finite.
    may_be_empty = not (isinstance(count, int) and count > 0) and is_float(x.dtype)
    return ew.chain(factor, x) if may_be_empty else factor * x


@on(EXACT, reduce.max_, reduce.min_)
def extreme_of_repeated(node: Node) -> Node | None:
    """max(spread(x)) -> x, min(spread(x)) -> x"""
    found = _without_repetition(node)
    return found[0] if found and isinstance(found[1], int) and found[1] > 0 else None


@on(STABLER, reduce.mean)
def mean_of_repeated(node: Node) -> Node | None:
    """mean(spread(x)) -> x"""
    found = _without_repetition(node)
    return found[0] if found and isinstance(found[1], int) and found[1] > 0 else None


def _without_repetition(node: Node) -> tuple[Node, Any] | None:
    """The reduction of what the operand repeats, and how often it repeats it along the reduced axes.

    None where the operand repeats nothing along them.
    """
    (x,) = node.args
    source, repeated = spread_source(x)
    axes = node.attrs["axes"]
    along = [axis for axis in axes if axis in repeated]
    count = product(x.shape[axis] for axis in along)
    if not along:
        return None
    kept = [axis for axis in range(len(x.shape)) if axis not in repeated]
    rest = tuple(kept.index(axis) for axis in axes if axis in kept)
    inner = node.op(source, axes=rest) if rest else source
    left = [axis for axis in range(len(x.shape)) if axis not in axes]
    new = tuple(k for k, axis in enumerate(left) if axis in repeated)
    expanded = shape.expand_dims(inner, axes=new) if new else inner
    return broadcast(expanded, node.shape), count
