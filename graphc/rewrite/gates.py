"""The table *gates*: arithmetic that a person would call by a name becomes a gate of that name.

Every gate here has a derivative of its own that is stable and made of large gates, or is a kernel to be.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.ir import BROADCAST_TO, Node, uniform_number
from graphc.ops import elementwise as ew
from graphc.ops import gates as g
from graphc.ops import nn
from graphc.ops import reduce as r
from graphc.ops.index import pick
from graphc.ops.linalg import matmul
from graphc.ops.special import erf, erfc
from graphc.rewrite.pattern import is_number, spread
from graphc.rewrite.rules import Attribute, Constant, Label, Rest, Table
from graphc.types import bool_, is_float

EXACT, STABLER = Label.EXACT, Label.STABLER

GATES = Table("gates")
rule, on = GATES.rule, GATES.on

LATE = Table("gates")
"""Gates that take in others: tried when all the rest has found its form, lest they hide it."""

MOST_COORDINATES = 64
"""Squared distances of points with more coordinates are left to the matrix product."""


# Activations.


@on(STABLER, ew.maximum)
def relu_by_maximum(node: Node) -> Node | None:
    """maximum(0, x) -> relu(x)"""
    # Of maximum(0, -0.0) NumPy gives either zero.
    # maximum(x, 0) passes the gradient on at x = 0, as its first operand wins the tie: not relu.
    zero, x = node.args
    return ew.relu(x) if is_number(zero, 0) and x.dtype != bool_ else None


# where(x > 0, x, 0) is 0 for nan, and relu is nan.
@rule(Label.ASSUMES_FINITE, where=lambda x: x.dtype != bool_)
def relu_by_choice(x):
    """where(x > 0, x, 0) -> relu(x)"""
    return ew.where(x > 0, x, 0), ew.relu(x)


@on(EXACT, ew.where)
def leaky_relu_by_choice(node: Node) -> Node | None:
    """where(x > 0, x, slope * x) -> leaky_relu(x)"""
    x = _positive_branch(node)
    other = node.args[2]
    if x is None or other.op is not ew.multiply or other.args[0] is not x:
        return None
    slope = uniform_number(other.args[1])
    return None if slope is None or not math.isfinite(slope) else nn.leaky_relu(x, slope=slope)


@on(EXACT, ew.where)
def elu_by_choice(node: Node) -> Node | None:
    """where(x > 0, x, alpha * expm1(x)) -> elu(x)"""
    x = _positive_branch(node)
    if x is None:
        return None
    other, alpha = node.args[2], 1.0
    if other.op is ew.multiply:
        value = uniform_number(other.args[1])
        if value is None or not math.isfinite(value):
            return None
        other, alpha = other.args[0], value
    return nn.elu(x, alpha=alpha) if other.op is ew.expm1 and other.args[0] is x else None


def _positive_branch(node: Node) -> Node | None:
    """x if ``node`` is where(x > 0, x, ...)."""
    condition, x, _ = node.args
    if condition.op.name != "greater" or condition.args[0] is not x:
        return None
    return x if uniform_number(condition.args[1]) == 0 and x.dtype.kind == "f" else None


@LATE.rule(EXACT)
def silu_by_sigmoid(x):
    """x * sigmoid(x) -> silu(x)"""
    return x * ew.sigmoid(x), nn.silu(x)


@rule(STABLER)
def normal_distribution(x):
    """1 + erf(x) -> erfc(-x)"""
    return 1.0 + erf(x), erfc(-x)


@rule(STABLER)
def normal_tail(x):
    """1 - erf(x) -> erfc(x)"""
    return 1.0 - erf(x), erfc(x)


@on(STABLER, ew.multiply)
def gelu_by_erfc(node: Node) -> Node | None:
    """0.5 * x * erfc(-x / sqrt(2)) -> gelu(x)"""
    for tail, x in _factors_with_half(node, erfc):
        base, factor = _scaled(tail.args[0])
        epsilon: Any = np.finfo(node.dtype).eps  # type: ignore[type-var]
        near = abs(factor + math.sqrt(0.5)) <= 4 * float(epsilon)
        if base is x and near:
            return nn.gelu(x)
    return None


def _factors_with_half(node: Node, op: object) -> list[tuple[Node, Node]]:
    """(f, x) if ``node`` is 0.5 * x * f, in any order, for an f of the given op."""
    factors: list[Node] = []
    pending = [node]
    while pending:
        factor = pending.pop()
        if factor.op is ew.multiply and len(factors) + len(pending) < 3:
            pending.extend(factor.args)
        else:
            factors.append(factor)
    halves = [f for f in factors if is_number(f, 0.5)]
    others = [f for f in factors if not is_number(f, 0.5)]
    if len(halves) != 1 or len(others) != 2:
        return []
    return [(a, b) for a, b in (others, others[::-1]) if a.op is op]


def _scaled(node: Node) -> tuple[Node, float]:
    """The node without constant factors, and their product."""
    factor = 1.0
    while True:
        if node.op is ew.negative:
            node, factor = node.args[0], -factor
            continue
        known = uniform_number(node.args[1]) if node.op in (ew.multiply, ew.divide) else None
        if not known:
            return node, factor
        factor = factor * known if node.op is ew.multiply else factor / known
        node = node.args[0]


@rule(STABLER, where=lambda x, scale, cubic: _is_rising(x, scale, cubic))
def gelu_by_tanh(x, scale: Constant, cubic: Constant):
    """x * sigmoid(scale * (x + cubic * x**3)) -> gelu_tanh(x)"""
    before = x * ew.sigmoid(scale * (x + cubic * ew.power(x, 3.0)))
    return before, lambda: _gelu_tanh(x, scale, cubic)


@rule(STABLER, where=lambda x, scale, cubic: _is_rising(x, scale, cubic))
def gelu_by_tanh_and_square(x, scale: Constant, cubic: Constant):
    """x * sigmoid(scale * (x + cubic * (x * square(x)))) -> gelu_tanh(x)"""
    before = x * ew.sigmoid(scale * (x + cubic * (x * ew.square(x))))
    return before, lambda: _gelu_tanh(x, scale, cubic)


@rule(STABLER, where=lambda x, scale, cubic: _is_rising(x, scale, cubic))
def gelu_by_tanh_factored(x, scale: Constant, cubic: Constant):
    """x * sigmoid(scale * x * (1 + cubic * square(x))) -> gelu_tanh(x)"""
    before = x * ew.sigmoid(scale * x * (1.0 + cubic * ew.square(x)))
    return before, lambda: _gelu_tanh(x, scale, cubic)


def _gelu_tanh(x: Node, scale: Node, cubic: Node) -> Node:
    return nn.gelu_tanh(x, scale=_number(scale) / 2, cubic=_number(cubic))


def _is_rising(x: Node, scale: Node, cubic: Node) -> bool:
    """Whether the exponent rises with x, and neither constant is extreme: with others, inf - inf is met."""
    return 0.1 <= _number(scale) <= 10 and 0 < _number(cubic) <= 1


def _number(constant: Node) -> float:
    value = uniform_number(constant)
    assert value is not None, "a variable of kind constant is one"
    return value


@LATE.rule(EXACT, where=lambda x: is_float(x.dtype))
def hinge_by_relu(x):
    """relu(1 - x) -> hinge(x)"""
    return ew.relu(1.0 - x), nn.hinge(x)


# Squares, norms, normalisation.


@rule(EXACT)
def variance_by_definition(x, axes: Attribute):
    """mean(square(x - spread(mean(x)))) -> variance(x)"""
    centred = x - spread(r.mean(x, axes=axes), x, axes)
    return r.mean(ew.square(centred), axes=axes), g.variance(x, axes=axes)


@rule(EXACT)
def mean_squared_error(x, y, axes: Attribute):
    """mean(square(x - y)) -> mse(x, y)"""
    return r.mean(ew.square(x - y), axes=axes), g.mse(x, y, axes=axes)


@rule(EXACT, where=lambda x, axes: is_float(x.dtype))
def sum_of_squares(x, axes: Attribute):
    """sum(square(x)) -> sum_of_squares(x)"""
    return r.sum_(ew.square(x), axes=axes), g.sum_of_squares(x, axes=axes)


@rule(EXACT)
def norm(x, axes: Attribute):
    """sqrt(sum_of_squares(x)) -> norm(x)"""
    return ew.sqrt(g.sum_of_squares(x, axes=axes)), g.norm(x, axes=axes)


@rule(EXACT)
def normalized(x, axes: Attribute):
    """x / spread(norm(x)) -> normalized(x)"""
    return x / spread(g.norm(x, axes=axes), x, axes), g.normalized(x, axes=axes)


def _standardized(x: Node, axes: tuple[int, ...], epsilon: Node) -> Node:
    last = len(x.shape) - 1 in axes
    return (g.layer_norm if last else g.batch_norm)(x, axes=axes, epsilon=_number(epsilon))


@rule(EXACT)
def layer_norm(x, epsilon: Constant, axes: Attribute):
    """(x - spread(mean(x))) / spread(sqrt(variance(x) + epsilon)) -> layer_norm(x) or batch_norm(x)"""
    deviation = ew.sqrt(g.variance(x, axes=axes) + epsilon)
    before = (x - spread(r.mean(x, axes=axes), x, axes)) / spread(deviation, x, axes)
    return before, lambda: _standardized(x, axes, epsilon)


@rule(STABLER)
def layer_norm_by_reciprocal(x, epsilon: Constant, axes: Attribute):
    """(x - spread(mean(x))) * spread(1 / sqrt(variance(x) + epsilon)) -> layer_norm(x) or batch_norm(x)"""
    inverse = ew.reciprocal(ew.sqrt(g.variance(x, axes=axes) + epsilon))
    before = (x - spread(r.mean(x, axes=axes), x, axes)) * spread(inverse, x, axes)
    return before, lambda: _standardized(x, axes, epsilon)


@rule(STABLER)
def scaled_layer_norm(x, w: Rest, epsilon: Constant, axes: Attribute):
    """w * (x - spread(mean(x))) / spread(sqrt(variance(x) + epsilon)) -> w * layer_norm(x)"""
    deviation = ew.sqrt(g.variance(x, axes=axes) + epsilon)
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


def _rms_norm(x: Node, axes: tuple[int, ...], epsilon: Node) -> Node:
    return g.rms_norm(x, axes=axes, epsilon=_number(epsilon))


# Losses.


@rule(STABLER, where=lambda x, labels, axes: axes == (len(x.shape) - 1,))
def cross_entropy(x, labels, axes: Attribute):
    """pick(log_softmax(x), labels) -> -cross_entropy(x, labels)"""
    return pick(r.log_softmax(x, axes=axes), labels), lambda: -g.cross_entropy(x, labels)


@rule(STABLER)
def soft_cross_entropy(x, targets, axes: Attribute):
    """sum(targets * log_softmax(x)) -> -soft_cross_entropy(x, targets)"""
    before = r.sum_(targets * r.log_softmax(x, axes=axes), axes=axes)
    return before, -g.soft_cross_entropy(x, targets, axes=axes)


@on(STABLER, r.sum_)
def total_soft_cross_entropy(node: Node) -> Node | None:
    """sum(targets * log_softmax(x, a), a and b) -> -sum(soft_cross_entropy(x, targets, a), b)"""
    (terms,) = node.args
    for logs, targets in (terms.args, terms.args[::-1]) if terms.op is ew.multiply else ():
        along = set(logs.attrs["axes"]) if logs.op is r.log_softmax else set()
        if along and along < set(node.attrs["axes"]):
            axes = logs.attrs["axes"]
            rows = g.soft_cross_entropy(logs.args[0], targets, axes=axes)
            kept = r.kept_axes(len(terms.shape), axes)
            rest = tuple(k for k, axis in enumerate(kept) if axis in node.attrs["axes"])
            return -r.sum_(rows, axes=rest)
    return None


# Products.


def _is_bias(b: Node, w: Node) -> bool:
    return len(b.shape) == 1 and b.shape[0] == w.shape[1]


@LATE.on(EXACT, ew.add)
def affine(node: Node) -> Node | None:
    """matmul(x, w) + b -> affine(x, w, b)"""
    for product, bias in (node.args, node.args[::-1]):
        if product.op is not matmul or bias.op is not BROADCAST_TO or len(node.shape) != 2:
            continue
        flags = any(product.attrs.get(f, False) for f in ("transpose_a", "transpose_b"))
        x, w = product.args
        (b,) = bias.args
        if not flags and _is_bias(b, w) and node.dtype.kind == "f":
            return g.affine(x, w, b)
    return None


@LATE.rule(EXACT)
def affine_relu(x, w, b):
    """relu(affine(x, w, b)) -> affine_relu(x, w, b)"""
    return ew.relu(g.affine(x, w, b)), g.affine_relu(x, w, b)


@LATE.rule(EXACT)
def affine_sigmoid(x, w, b):
    """sigmoid(affine(x, w, b)) -> affine_sigmoid(x, w, b)"""
    return ew.sigmoid(g.affine(x, w, b)), g.affine_sigmoid(x, w, b)


@LATE.rule(EXACT)
def affine_tanh(x, w, b):
    """tanh(affine(x, w, b)) -> affine_tanh(x, w, b)"""
    return ew.tanh(g.affine(x, w, b)), g.affine_tanh(x, w, b)


def _few_coordinates(a: Node, b: Node) -> bool:
    count = a.shape[1]
    return isinstance(count, int) and count <= MOST_COORDINATES


def _squares(a, other, axis):
    return spread(g.sum_of_squares(a, axes=(1,)), other, (axis,))


@rule(STABLER, where=_few_coordinates)
def squared_distances(a, b):
    """spread(|a|^2) + spread(|b|^2) - 2 * matmul(a, b.T) -> squared_distances(a, b)"""
    product = matmul(a, b, transpose_a=False, transpose_b=True)
    return _squares(a, product, 1) + _squares(b, product, 0) - 2.0 * product, (
        lambda: g.squared_distances(a, b)
    )


@rule(STABLER, where=_few_coordinates)
def squared_distances_of_doubled(a, b):
    """spread(|a|^2) + spread(|b|^2) - matmul(2 * a, b.T) -> squared_distances(a, b)"""
    product = matmul(2.0 * a, b, transpose_a=False, transpose_b=True)
    return _squares(a, product, 1) + _squares(b, product, 0) - product, (
        lambda: g.squared_distances(a, b)
    )
