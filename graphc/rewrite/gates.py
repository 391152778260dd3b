"""The table *gates*, second part: means, norms, losses and products, in the ways they are written."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.facts import ScalarCode
from graphc.ir import BROADCAST_TO, SIZE, Node, uniform_number
from graphc.ops import elementwise as ew
from graphc.ops import norms as nm
from graphc.ops import products as pr
from graphc.ops import reduce as r
from graphc.ops import softmax as sm
from graphc.ops.index import pick, take
from graphc.ops.linalg import matmul, transposed
from graphc.ops.shape import expand_dims
from graphc.rewrite.domains import is_peak
from graphc.rewrite.pattern import spread, spread_source
from graphc.rewrite.rules import Attribute, Constant, Label, Rest, Table
from graphc.types import Dimension, is_float, product

EXACT, STABLER = Label.EXACT, Label.STABLER
REASSOCIATES, ASSUMES_FINITE = Label.REASSOCIATES, Label.ASSUMES_FINITE

GATES = Table("gates")
rule, on = GATES.rule, GATES.on

MOST_COORDINATES = 64
"""Squared distances of points with more coordinates are left to the matrix product."""


# Means.


@on(EXACT, ew.divide)
def mean_by_quotient(node: Node) -> Node | None:
    """sum(x) / size -> mean(x)"""
    total, size = node.args
    return _as_mean(total) if total.op in SUMS and _is_size(size, _count(total)) else None


@on(STABLER, ew.multiply)
def mean_by_factor(node: Node) -> Node | None:
    """sum(x) * (1 / size) -> mean(x), also where the factor is the float nearest to 1 / size"""
    for total, factor in (node.args, node.args[::-1]):
        sign = _is_inverse_of_count(factor, total) if total.op in SUMS else 0
        if sign:
            return _as_mean(total) if sign == 1 else -_as_mean(total)
    return None


SUMS = (r.sum_, nm.sum_of_squares)


def _count(total: Node) -> Dimension:
    return product(total.args[0].shape[axis] for axis in total.attrs["axes"])


def _is_size(node: Node, count: Dimension) -> bool:
    """Whether every element of ``node`` is the size ``count``, which is not 0."""
    value = uniform_number(node)
    if value is not None:
        return count == value != 0
    scalar = node.args[0] if node.op is BROADCAST_TO else node
    return scalar.op is SIZE and scalar.attrs["size"] == count


def _is_inverse_of_count(factor: Node, total: Node) -> int:
    """1 or -1 if ``factor`` is 1 / count or -1 / count of the elements of a sum, else 0."""
    count = _count(total)
    value = uniform_number(factor)
    if value is None:
        inverse = factor.args[0] if factor.op is BROADCAST_TO else factor
        return int(inverse.op is ew.reciprocal and _is_size(inverse.args[0], count))
    if not isinstance(count, int) or count == 0 or not is_float(factor.dtype):
        return 0
    nearest: Any = np.divide(1, count, dtype=factor.dtype)
    return int(math.copysign(1, value)) if abs(value) == nearest else 0


def _as_mean(total: Node) -> Node:
    (x,) = total.args
    return r.mean(ew.square(x) if total.op is nm.sum_of_squares else x, **total.attrs)


# Squares, norms, normalisation.


def _number(constant: Node) -> float:
    value = uniform_number(constant)
    assert value is not None, "a variable of kind constant is one"
    return value


@rule(EXACT)
def variance_by_definition(x, axes: Attribute):
    """mean(square(x - spread(mean(x)))) -> variance(x)"""
    centred = x - spread(r.mean(x, axes=axes), x, axes)
    return r.mean(ew.square(centred), axes=axes), nm.variance(x, axes=axes)


@rule(EXACT)
def mean_squared_error(x, y, axes: Attribute):
    """mean(square(x - y)) -> mse(x, y)"""
    return r.mean(ew.square(x - y), axes=axes), nm.mse(x, y, axes=axes)


@rule(EXACT, where=lambda x, axes: is_float(x.dtype))
def sum_of_squares(x, axes: Attribute):
    """sum(square(x)) -> sum_of_squares(x)"""
    return r.sum_(ew.square(x), axes=axes), nm.sum_of_squares(x, axes=axes)


@on(STABLER, matmul)
def dot_with_itself(node: Node) -> Node | None:
    """matmul(x[None, :], x[:, None]) -> sum_of_squares(x), which is x @ x"""
    row, column = node.args
    new = (row.op, column.op) == (expand_dims, expand_dims) and row.args == column.args
    if not new or node.shape != (1, 1) or len(row.args[0].shape) != 1 or any(node.attrs.values()):
        return None
    total = nm.sum_of_squares(row.args[0], axes=(0,)) if is_float(node.dtype) else None
    return total and expand_dims(total, axes=(0, 1))


@rule(EXACT)
def norm(x, axes: Attribute):
    """sqrt(sum_of_squares(x)) -> norm(x)"""
    return ew.sqrt(nm.sum_of_squares(x, axes=axes)), nm.norm(x, axes=axes)


@rule(EXACT)
def normalized(x, axes: Attribute):
    """x / spread(norm(x)) -> normalized(x)"""
    return x / spread(nm.norm(x, axes=axes), x, axes), nm.normalized(x, axes=axes)


@rule(STABLER)
def normalized_by_reciprocal(x, axes: Attribute):
    """x * spread(1 / norm(x)) -> normalized(x)"""
    return x * spread(ew.reciprocal(nm.norm(x, axes=axes)), x, axes), nm.normalized(x, axes=axes)


@rule(REASSOCIATES)
def scaled_normalized(x, w: Rest, axes: Attribute):
    """w * x / spread(norm(x)) -> w * normalized(x)"""
    return w * x / spread(nm.norm(x, axes=axes), x, axes), w * nm.normalized(x, axes=axes)


def _standardized(x: Node, axes: tuple[int, ...], epsilon: Node) -> Node:
    last = len(x.shape) - 1 in axes
    return (nm.layer_norm if last else nm.batch_norm)(x, axes=axes, epsilon=_number(epsilon))


@rule(EXACT)
def layer_norm(x, epsilon: Constant, axes: Attribute):
    """(x - spread(mean(x))) / spread(sqrt(variance(x) + epsilon)) -> layer_norm(x) or batch_norm(x)"""
    deviation = ew.sqrt(nm.variance(x, axes=axes) + epsilon)
    before = (x - spread(r.mean(x, axes=axes), x, axes)) / spread(deviation, x, axes)
    return before, lambda: _standardized(x, axes, epsilon)


@rule(STABLER)
def layer_norm_by_reciprocal(x, epsilon: Constant, axes: Attribute):
    """(x - spread(mean(x))) * spread(1 / sqrt(variance(x) + epsilon)) -> layer_norm(x) or batch_norm(x)"""
    inverse = ew.reciprocal(ew.sqrt(nm.variance(x, axes=axes) + epsilon))
    before = (x - spread(r.mean(x, axes=axes), x, axes)) * spread(inverse, x, axes)
    return before, lambda: _standardized(x, axes, epsilon)


@rule(STABLER)
def scaled_layer_norm(x, w: Rest, epsilon: Constant, axes: Attribute):
    """w * (x - spread(mean(x))) / spread(sqrt(variance(x) + epsilon)) -> w * layer_norm(x)"""
    deviation = ew.sqrt(nm.variance(x, axes=axes) + epsilon)
    centred = x - spread(r.mean(x, axes=axes), x, axes)
    return w * centred / spread(deviation, x, axes), lambda: w * _standardized(x, axes, epsilon)


@rule(EXACT)
def rms_norm(x, epsilon: Constant, axes: Attribute):
    """x / spread(sqrt(mean(square(x)) + epsilon)) -> rms_norm(x)"""
    root = ew.sqrt(r.mean(ew.square(x), axes=axes) + epsilon)
    return x / spread(root, x, axes), lambda: _rms_norm(x, axes, epsilon)


@rule(STABLER)
def rms_norm_by_reciprocal(x, epsilon: Constant, axes: Attribute):
    """x * spread(1 / sqrt(mean(square(x)) + epsilon)) -> rms_norm(x)"""
    inverse = ew.reciprocal(ew.sqrt(r.mean(ew.square(x), axes=axes) + epsilon))
    return x * spread(inverse, x, axes), lambda: _rms_norm(x, axes, epsilon)


@rule(REASSOCIATES)
def scaled_rms_norm(x, w: Rest, epsilon: Constant, axes: Attribute):
    """w * x / spread(sqrt(mean(square(x)) + epsilon)) -> w * rms_norm(x)"""
    root = ew.sqrt(r.mean(ew.square(x), axes=axes) + epsilon)
    return w * x / spread(root, x, axes), lambda: w * _rms_norm(x, axes, epsilon)


def _rms_norm(x: Node, axes: tuple[int, ...], epsilon: Node) -> Node:
    return nm.rms_norm(x, axes=axes, epsilon=_number(epsilon))


# Losses.


@on(EXACT, take)
def pick_of_vector(node: Node) -> Node | None:
    """take(x, label) -> pick(x, label) for one row of scores"""
    x, label = node.args
    return pick(x, label) if x.tensor_type.ndim == 1 and label.shape == () else None


@on(EXACT, pick)
def pick_before_computing(node: Node) -> Node | None:
    """pick(f(x), labels) -> f(pick(x, labels)) for an elementwise f of one tensor"""
    x, labels = node.args
    if not isinstance(x.op.lowering, ScalarCode) or len(x.args) != 1:
        return None
    return x.op(pick(x.args[0], labels), **x.attrs)


@rule(STABLER)
def log_of_picked_softmax(x, labels, axes: Attribute):
    """log(pick(softmax(x), labels)) -> pick(log_softmax(x), labels)"""
    return ew.log(pick(sm.softmax(x, axes=axes), labels)), pick(
        sm.log_softmax(x, axes=axes), labels
    )


@rule(STABLER, where=lambda x, labels, axes: axes == (len(x.shape) - 1,))
def cross_entropy_by_logsumexp(x, labels, axes: Attribute):
    """logsumexp(x) - pick(x, labels) -> cross_entropy(x, labels)"""
    return sm.logsumexp(x, axes=axes) - pick(x, labels), lambda: sm.cross_entropy(x, labels)


@rule(STABLER, where=lambda x, labels, axes: axes == (len(x.shape) - 1,))
def negative_cross_entropy_by_logsumexp(x, labels, axes: Attribute):
    """pick(x, labels) - logsumexp(x) -> -cross_entropy(x, labels)"""
    return pick(x, labels) - sm.logsumexp(x, axes=axes), lambda: -sm.cross_entropy(x, labels)


@rule(STABLER, where=lambda x, labels, top, axes: is_peak(top, x, axes))
def cross_entropy_of_shifted(x, labels, top, axes: Attribute):
    """cross_entropy(x - spread(top), labels) -> cross_entropy(x, labels) where top is max(x)"""
    return sm.cross_entropy(x - spread(top, x, axes), labels), sm.cross_entropy(x, labels)


@rule(STABLER, where=lambda x, labels, axes: axes == (len(x.shape) - 1,))
def cross_entropy(x, labels, axes: Attribute):
    """pick(log_softmax(x), labels) -> -cross_entropy(x, labels)"""
    return pick(sm.log_softmax(x, axes=axes), labels), lambda: -sm.cross_entropy(x, labels)


@rule(STABLER)
def soft_cross_entropy(x, targets, axes: Attribute):
    """sum(targets * log_softmax(x)) -> -soft_cross_entropy(x, targets)"""
    before = r.sum_(targets * sm.log_softmax(x, axes=axes), axes=axes)
    return before, -sm.soft_cross_entropy(x, targets, axes=axes)


@on(STABLER, r.sum_)
def total_soft_cross_entropy(node: Node) -> Node | None:
    """sum(targets * log_softmax(x, a), a and b) -> -sum(soft_cross_entropy(x, targets, a), b)"""
    (terms,) = node.args
    for logs, targets in (terms.args, terms.args[::-1]) if terms.op is ew.multiply else ():
        along = set(logs.attrs["axes"]) if logs.op is sm.log_softmax else set()
        if along and along < set(node.attrs["axes"]):
            axes = logs.attrs["axes"]
            rows = sm.soft_cross_entropy(logs.args[0], targets, axes=axes)
            kept = r.kept_axes(len(terms.shape), axes)
            rest = tuple(k for k, axis in enumerate(kept) if axis in node.attrs["axes"])
            return -r.sum_(rows, axes=rest)
    return None


# Products.


def _is_bias(b: Node, w: Node) -> bool:
    return len(b.shape) == 1 and b.shape[0] == w.shape[1]


@on(EXACT, ew.add, late=True)
def affine(node: Node) -> Node | None:
    """matmul(x, w) + b -> affine(x, w, b)"""
    for product_, bias in (node.args, node.args[::-1]):
        if product_.op is not matmul or bias.op is not BROADCAST_TO or len(node.shape) != 2:
            continue
        flags = (product_.attrs.get(f, False) for f in ("transpose_a", "transpose_b"))
        x, w = (transposed(a) if flag else a for a, flag in zip(product_.args, flags, strict=True))
        (b,) = bias.args
        if _is_bias(b, w) and node.dtype.kind == "f":
            return pr.affine(x, w, b)
    return None


@rule(EXACT, late=True)
def affine_relu(x, w, b):
    """relu(affine(x, w, b)) -> affine_relu(x, w, b)"""
    return ew.relu(pr.affine(x, w, b)), pr.affine_relu(x, w, b)


@rule(EXACT, late=True)
def affine_sigmoid(x, w, b):
    """sigmoid(affine(x, w, b)) -> affine_sigmoid(x, w, b)"""
    return ew.sigmoid(pr.affine(x, w, b)), pr.affine_sigmoid(x, w, b)


@rule(EXACT, late=True)
def affine_tanh(x, w, b):
    """tanh(affine(x, w, b)) -> affine_tanh(x, w, b)"""
    return ew.tanh(pr.affine(x, w, b)), pr.affine_tanh(x, w, b)


@rule(EXACT, late=True)
def log_quotient(x, y):
    """log(x / y) -> log_quotient(x, y)"""
    return ew.log(x / y), sm.log_quotient(x, y)


def _few_coordinates(a: Node, b: Node) -> bool:
    count = a.shape[1]
    return isinstance(count, int) and count <= MOST_COORDINATES


def _squares(a, other, axis):
    return spread(nm.sum_of_squares(a, axes=(1,)), other, (axis,))


@on(EXACT, nm.sum_of_squares)
def squared_distances_by_differences(node: Node) -> Node | None:
    """sum_of_squares(spread(a) - spread(b)) -> squared_distances(a, b) for all pairs of rows"""
    (difference,) = node.args
    if difference.op is not ew.subtract or node.attrs["axes"] != (2,):
        return None
    sources = {axes: source for source, axes in map(spread_source, difference.args)}
    return pr.squared_distances(sources[1,], sources[0,]) if set(sources) == {(0,), (1,)} else None


@rule(STABLER, where=_few_coordinates)
def squared_distances(a, b):
    """spread(|a|^2) + spread(|b|^2) - 2 * matmul(a, b.T) -> squared_distances(a, b)"""
    product = matmul(a, b, transpose_a=False, transpose_b=True)
    return _squares(a, product, 1) + _squares(b, product, 0) - 2.0 * product, (
        lambda: pr.squared_distances(a, b)
    )


@rule(STABLER, where=_few_coordinates)
def squared_distances_of_doubled(a, b):
    """spread(|a|^2) + spread(|b|^2) - matmul(2 * a, b.T) -> squared_distances(a, b)"""
    product = matmul(2.0 * a, b, transpose_a=False, transpose_b=True)
    return _squares(a, product, 1) + _squares(b, product, 0) - product, (
        lambda: pr.squared_distances(a, b)
    )


@rule(STABLER, where=_few_coordinates)
def squared_distances_from_doubled(a, b):
    """spread(|a|^2) + spread(|b|^2) - matmul(a, (2 * b).T) -> squared_distances(a, b)"""
    product = matmul(a, 2.0 * b, transpose_a=False, transpose_b=True)
    return _squares(a, product, 1) + _squares(b, product, 0) - product, (
        lambda: pr.squared_distances(a, b)
    )
