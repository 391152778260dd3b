"""Matrix products that are loops: of vectors, of a column and a row, and of small matrices.

A product with a vector reads its matrix once, as a loop does, and a call of BLAS costs more than a small
product. As a multiplication and a sum they share a loop with what comes before and after: the scores of a
logistic regression, its loss and its gradient read the data once.
"""

from __future__ import annotations

from typing import TypeAlias

from graphc.ir import Graph, Node, broadcast, transform
from graphc.ops.linalg import matmul
from graphc.ops.reduce import sum_
from graphc.ops.shape import expand_dims, permute_dims, squeeze
from graphc.types import Dimension

Labels: TypeAlias = "tuple[int | str, ...]"
"""Names of axes: numbers for those of a stack of products, and m, k and n."""

SMALL = 8
"""The largest number of rows, columns and terms of a product that is written as loops."""


def inline_products(graph: Graph) -> Graph:
    """The graph with products of vectors and of small matrices as multiplications and sums."""
    return transform(graph, _inlined)


def _inlined(node: Node) -> Node:
    if node.op is matmul:
        return _as_sum(node)
    if node.op is squeeze and node.args[0].op is expand_dims:
        # The axis of a vector that a product needs and a loop does not.
        inner = node.args[0]
        return inner.args[0] if inner.attrs["axes"] == node.attrs["axes"] else node
    return node


def _as_sum(node: Node) -> Node:
    a, b = node.args
    batch = tuple(range(len(node.shape) - 2))
    first = ("k", "m") if node.attrs.get("transpose_a", False) else ("m", "k")
    second = ("n", "k") if node.attrs.get("transpose_b", False) else ("k", "n")
    sizes = dict(zip((*first, *second), (*a.shape[-2:], *b.shape[-2:]), strict=True))
    axes = _loop_axes(sizes, first, second)
    if axes is None:
        return node
    space: Labels = (*batch, *axes)
    lengths: dict[int | str, Dimension] = dict(zip(batch, node.shape, strict=False))
    lengths.update(sizes.items())
    shape = tuple(lengths[axis] for axis in space)
    product = _spread(a, (*batch, *first), space, shape) * _spread(
        b, (*batch, *second), space, shape
    )
    total = sum_(product, axes=(space.index("k"),)) if "k" in axes else product
    left = [axis for axis in space if axis != "k"]
    missing = [i for i, axis in enumerate((*batch, "m", "n")) if axis not in left]
    return expand_dims(total, axes=tuple(missing)) if missing else total


def _loop_axes(
    sizes: dict[str, Dimension], first: tuple[str, str], second: tuple[str, str]
) -> tuple[str, ...] | None:
    """The axes of the loops of a product, in order; None where BLAS is to compute it.

    The data of a matrix is read in the order in which it lies in memory.
    """
    rows, terms, columns = (sizes[axis] for axis in "mkn")
    if rows == columns == 1:
        return ("k",)
    if terms == 1:
        return ("m", "n")
    if columns == 1:
        return first
    if rows == 1:
        return second
    small = all(isinstance(size, int) and size <= SMALL for size in (rows, terms, columns))
    return ("m", "n", "k") if small else None


def _spread(
    node: Node,
    labels: Labels,
    space: Labels,
    shape: tuple[Dimension, ...],
) -> Node:
    """``node``, whose axes are ``labels``, broadcast to the axes ``space``."""
    dropped = tuple(i for i, label in enumerate(labels) if label not in space)
    if dropped:
        node = squeeze(node, axes=dropped)
        labels = tuple(label for label in labels if label in space)
    order = tuple(labels.index(label) for label in space if label in labels)
    if order != tuple(range(len(order))):
        node = permute_dims(node, axes=order)
    missing = tuple(i for i, label in enumerate(space) if label not in labels)
    return broadcast(expand_dims(node, axes=missing) if missing else node, shape)
