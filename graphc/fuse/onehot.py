"""Sums over one-hot factors as look-ups: what the gradient of a minimum over distances is made of.

The cotangent of a maximum or minimum over an axis is zero but at one index. Where it meets a product and
a sum over that axis, all terms but one are zero; where the sum is over the rows, each row adds to one place.
So ``sum(where(position == i, v, 0) * e, axis)`` is ``v * e[i]``, and its sum over the rows a `scatter_add`.
The terms that are left out are products with a cotangent that is exactly 0, which contribute 0 whatever
the other factor is.

Only an index that is known to lie inside its axis is looked up: that of a maximum or minimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.facts import ScalarCode
from graphc.ir import BROADCAST_TO, Graph, Node, broadcast, filled, transform, uniform_number, walk
from graphc.ops.discrete import equal
from graphc.ops.elementwise import multiply, where
from graphc.ops.index import pick, scatter_add, take
from graphc.ops.reduce import min_, sum_
from graphc.ops.shape import expand_dims, iota, permute_dims
from graphc.types import Shape

DEEPEST = 8
"""The most elementwise ops, one in the other, that are computed at a looked-up index."""

Axes = tuple[int, ...]


@dataclass(frozen=True)
class OneHot:
    """A tensor that is ``value`` where its index along ``axis`` is ``index``, and 0 elsewhere.

    ``index`` and ``value`` have the axes ``others``.
    """

    axis: int
    others: Axes
    index: Node
    value: Node


def look_up(graph: Graph) -> Graph:
    """The graph with sums over one-hot factors as look-ups."""
    return transform(graph, _replaced)


def _replaced(node: Node) -> Node:
    if node.op is sum_:
        return _looked_up(node)
    return _picked(node) if node.op is pick else node


def _picked(node: Node) -> Node:
    """An element of a computed row is computed from elements: the row need not be kept for it."""
    row, index = node.args
    *others, axis = range(len(row.shape))
    if row.op is permute_dims:
        *others, axis = row.attrs["axes"]
        (row,) = row.args
    if not isinstance(row.op.lowering, ScalarCode) or others != sorted(others):
        return node
    found = _at(row, OneHot(axis, tuple(others), index, index), tuple(others), DEEPEST)
    # Somebody must still see that the index lies inside the row.
    looks = found is not None and any(n.op is pick and n.args[1] is index for n in walk([found]))
    return found if found is not None and looks else node


def _looked_up(total: Node) -> Node:
    product = total.args[0]
    if product.op is multiply:
        for factor, other in (product.args, product.args[::-1]):
            one_hot = _one_hot(factor)
            found = _sum(total, other, one_hot) if one_hot else None
            if found is not None:
                return found
    return total


# Recognition.


def _one_hot(node: Node) -> OneHot | None:
    if node.op is multiply:
        return _scaled(node)
    if node.op is where:
        return _chosen(node)
    if node.op is BROADCAST_TO:
        base, axes = _base(node)
        inner = _one_hot(base) if base.op in (where, multiply) else None
        if inner is None or base.shape != tuple(node.shape[a] for a in axes):
            return None
        others = tuple(axes[a] for a in inner.others)
        return OneHot(axes[inner.axis], others, inner.index, inner.value)
    return None


def _scaled(node: Node) -> OneHot | None:
    for factor, other in (node.args, node.args[::-1]):
        number = uniform_number(other)
        inner = _one_hot(factor) if number is not None else None
        if inner is not None and number is not None:
            old = uniform_number(inner.value)
            scaled = inner.value * number if old is None else filled(inner.value, old * number)
            return OneHot(inner.axis, inner.others, inner.index, scaled)
    return None


def _chosen(node: Node) -> OneHot | None:
    condition, value, zero = node.args
    if condition.op is not equal or uniform_number(zero) != 0:
        return None
    for position, index in (condition.args, condition.args[::-1]):
        if position.op is iota:
            axis = position.attrs["axis"]
            others = tuple(a for a in range(len(node.shape)) if a != axis)
            place, scale = _along(index, others), _along(value, others)
            if place is not None and scale is not None and _is_extreme(place):
                return OneHot(axis, others, place, scale)
    return None


def _along(node: Node, others: Axes) -> Node | None:
    """What ``node`` is a broadcast of that has just the axes ``others``; None if it has another."""
    shape = tuple(node.shape[a] for a in others)
    base, axes = _base(node)
    if axes == others and base.shape == shape:
        return base
    return broadcast(base, shape) if base.shape == () else None


def _is_extreme(index: Node) -> bool:
    """Whether an index was made by looking for the place of an extreme value."""
    return index.op is min_ and index.args[0].op is where and index.args[0].args[1].op is iota


def _base(node: Node) -> tuple[Node, Axes]:
    """What a node is a broadcast of, and on which of the node's axes its own axes lie."""
    ndim = len(node.shape)
    axes = tuple(range(ndim))
    while node.op in (BROADCAST_TO, expand_dims):
        inner = node.args[0]
        if node.op is BROADCAST_TO:
            axes = axes[len(node.shape) - len(inner.shape) :]
        else:
            axes = tuple(a for i, a in enumerate(axes) if i not in node.attrs["axes"])
        node = inner
    return node, axes


# Construction.


def _sum(total: Node, other: Node, one_hot: OneHot) -> Node | None:
    axis, summed = one_hot.axis, total.attrs["axes"]
    shape = other.shape
    left = tuple(a for a in range(len(shape)) if a != axis)
    element = _at(other, one_hot, left, DEEPEST)
    if element is None:
        return None
    product = element * _placed(one_hot.value, one_hot.others, left, shape)
    if axis in summed:
        rest = tuple(left.index(a) for a in summed if a != axis)
        return sum_(product, axes=rest) if rest else product
    return _scattered(product, one_hot, left, summed, shape[axis])


def _scattered(
    product: Node, one_hot: OneHot, left: Axes, summed: Axes, size: object
) -> Node | None:
    """The sums of the rows that have the same index."""
    if len(one_hot.others) != 1 or one_hot.others[0] not in summed:
        return None
    row = one_hot.others[0]
    rest = tuple(left.index(a) for a in summed if a != row)
    kept = [a for a in left if a not in summed or a == row]
    place = kept.index(row)
    wanted = sorted([*(a for a in kept if a != row), one_hot.axis]).index(one_hot.axis)
    if place != wanted:
        return None
    rows = sum_(product, axes=rest) if rest else product
    return scatter_add(one_hot.index, rows, axis=place, size=size)


def _at(node: Node, one_hot: OneHot, left: Axes, depth: int) -> Node | None:
    """``node`` at the index of ``one_hot``, on the axes ``left``; None if that is not simple."""
    shape = tuple(node.shape[a] for a in left)
    if uniform_number(node) is not None:
        return broadcast(_base(node)[0], shape)
    if isinstance(node.op.lowering, ScalarCode) and depth > 0:
        args = [_at(arg, one_hot, left, depth - 1) for arg in node.args]
        found = [arg for arg in args if arg is not None]
        return node.op(*found, **node.attrs) if len(found) == len(args) else None
    base, axes = _base(node)
    if base.shape != tuple(node.shape[a] for a in axes):
        return None
    if one_hot.axis not in axes:
        return _placed(base, axes, left, node.shape)
    place = axes.index(one_hot.axis)
    if not set(axes) & set(one_hot.others):
        taken = take(base, one_hot.index, axis=place)
        order = (*axes[:place], *one_hot.others, *axes[place + 1 :])
        return _placed(taken, order, left, node.shape)
    order = (*one_hot.others, one_hot.axis)
    if set(axes) == set(order):
        row = base if axes == order else permute_dims(base, axes=tuple(map(axes.index, order)))
        return _placed(pick(row, one_hot.index), one_hot.others, left, node.shape)
    return None


def _placed(node: Node, axes: Axes, left: Axes, shape: Shape) -> Node:
    """A node whose axes are ``axes``, broadcast to the axes ``left`` of ``shape``."""
    order = tuple(sorted(range(len(axes)), key=axes.__getitem__))
    if order != tuple(range(len(order))):
        node = permute_dims(node, axes=order)
    missing = tuple(i for i, a in enumerate(left) if a not in axes)
    node = expand_dims(node, axes=missing) if missing else node
    return broadcast(node, _shape_of(left, shape))


def _shape_of(axes: Sequence[int], shape: Shape) -> Shape:
    return tuple(shape[a] for a in axes)
