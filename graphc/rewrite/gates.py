"""The table *gates*: arithmetic that a person would call by a name becomes a gate of that name.

Every gate here has a derivative of its own that is stable and made of large gates, or is a kernel to be.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from graphc.facts import ScalarCode
from graphc.ir import BROADCAST_TO, SIZE, Node, Op, uniform_number
from graphc.ops import discrete as d
from graphc.ops import elementwise as ew
from graphc.ops import gates as g
from graphc.ops import nn
from graphc.ops import reduce as r
from graphc.ops.index import pick, take
from graphc.ops.linalg import matmul, transposed
from graphc.ops.special import erf, erfc
from graphc.rewrite.domains import is_peak
from graphc.rewrite.pattern import is_number, spread, spread_source
from graphc.rewrite.rules import Attribute, Constant, Label, Rest, Table
from graphc.types import Dimension, bool_, is_float, product

EXACT, STABLER = Label.EXACT, Label.STABLER
REASSOCIATES, ASSUMES_FINITE = Label.REASSOCIATES, Label.ASSUMES_FINITE

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


@on(EXACT, ew.where)
def relu_by_choice(node: Node) -> Node | None:
    """where(x <= 0, 0, x) -> relu(x)"""
    condition, zero, x = node.args
    positive = condition.op is d.less_equal and condition.args[0] is x and x.dtype != bool_
    return ew.relu(x) if positive and _is_zero(condition.args[1]) and is_number(zero, 0) else None


@on(ASSUMES_FINITE, ew.where)
def relu_without_nan(node: Node) -> Node | None:
    """where(x > 0, x, 0) -> relu(x), which is nan where x is"""
    found = _by_sign(node)
    return ew.relu(found[0]) if found and is_number(found[1], 0) else None


@on(EXACT, ew.where)
def leaky_relu_by_choice(node: Node) -> Node | None:
    """where(x > 0, x, slope * x) -> leaky_relu(x), where(x <= 0, slope * x, x) -> leaky_relu(x)"""
    found = _by_sign(node)
    if found is None:
        return None
    x, below = found
    base, slope = _multiple(below)
    return nn.leaky_relu(x, slope=slope) if base is x and below is not x else None


@on(EXACT, ew.multiply)
def leaky_relu_by_factor(node: Node) -> Node | None:
    """x * where(x > 0, 1, slope) -> leaky_relu(x)"""
    for x, factor in (node.args, node.args[::-1]):
        if factor.op is not ew.where or not _is_positive(factor.args[0], x):
            continue
        slope = uniform_number(factor.args[2])
        if is_number(factor.args[1], 1) and slope is not None and math.isfinite(slope):
            return nn.leaky_relu(x, slope=slope)
    return None


@on(EXACT, ew.where)
def elu_by_choice(node: Node) -> Node | None:
    """where(x > 0, x, alpha * expm1(x)) -> elu(x), where(x <= 0, alpha * expm1(x), x) -> elu(x)"""
    found = _by_sign(node)
    if found is None:
        return None
    x, below = found
    base, alpha = _multiple(below)
    return nn.elu(x, alpha=alpha) if base.op is ew.expm1 and base.args[0] is x else None


def _by_sign(node: Node) -> tuple[Node, Node] | None:
    """(x, y) if ``node`` is x where x > 0 and y where x <= 0; for a nan it may be either."""
    condition, first, second = node.args
    if _is_positive(condition, first):
        return first, second
    below = condition.op is d.less_equal and condition.args[0] is second
    return (second, first) if below and _is_zero(condition.args[1]) else None


def _is_positive(condition: Node, x: Node) -> bool:
    """Whether ``condition`` is x > 0 for floats."""
    compares = condition.op is d.greater and condition.args[0] is x and x.dtype.kind == "f"
    return compares and _is_zero(condition.args[1])


def _is_zero(node: Node) -> bool:
    return uniform_number(node) == 0


def _multiple(node: Node) -> tuple[Node, float]:
    """The node without a constant factor, and that factor."""
    if node.op is ew.multiply:
        factor = uniform_number(node.args[1])
        if factor is not None and math.isfinite(factor):
            return node.args[0], factor
    return node, 1.0


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


@rule(STABLER)
def multiple_of_normal_distribution(x, y):
    """y + y * erf(x) -> y * erfc(-x)"""
    return y + y * erf(x), y * erfc(-x)


@rule(STABLER)
def other_tail(x):
    """1 - 0.5 * erfc(x) -> 0.5 * erfc(-x)"""
    return 1.0 - 0.5 * erfc(x), 0.5 * erfc(-x)


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


@on(STABLER, ew.multiply)
def gelu_by_tanh(node: Node) -> Node | None:
    """x * sigmoid(scale * (x + cubic * x ** 3)) -> gelu_tanh(x)"""
    for x, gate in (node.args, node.args[::-1]):
        terms = _polynomial(gate.args[0], x) if gate.op is ew.sigmoid else None
        if terms and set(terms) == {1, 3} and all(terms.values()):
            scale, cubic = float(terms[1] / 2), float(terms[3] / terms[1])
            if _is_rising(scale, cubic):
                return nn.gelu_tanh(x, scale=scale, cubic=cubic)
    return None


HIGHEST_POWER = 3
Polynomial: TypeAlias = "dict[int, Fraction]"


DEEPEST_POLYNOMIAL = 8
"""How many nodes up a polynomial is looked for."""


def _polynomial(node: Node, x: Node, depth: int = DEEPEST_POLYNOMIAL) -> Polynomial | None:
    """The exact coefficients of ``node`` as a polynomial in ``x`` by power, None if it is none."""
    if node is x:
        return {1: Fraction(1)}
    value = uniform_number(node)
    if value is not None:
        return {0: Fraction(value)} if math.isfinite(value) else None
    combine = _COMBINED.get(node.op)
    if combine is None or depth == 0:
        return None
    parts = [_polynomial(arg, x, depth - 1) for arg in node.args]
    found = None if None in parts else combine(*parts)
    return found if found is not None and max(found) <= HIGHEST_POWER else None


def _plus(a: Polynomial, b: Polynomial) -> Polynomial:
    return {k: a.get(k, Fraction(0)) + b.get(k, Fraction(0)) for k in {*a, *b}}


def _times(a: Polynomial, b: Polynomial) -> Polynomial:
    product: Polynomial = {}
    for (j, left), (k, right) in itertools.product(a.items(), b.items()):
        product[j + k] = product.get(j + k, Fraction(0)) + left * right
    return product


def _to_the(a: Polynomial, exponent: Polynomial) -> Polynomial | None:
    whole = set(exponent) == {0} and exponent[0] in (2, 3)
    return functools.reduce(_times, [a] * int(exponent[0])) if whole else None


_MINUS: Polynomial = {0: Fraction(-1)}
_COMBINED: dict[Op, Callable[..., Polynomial | None]] = {
    ew.add: _plus,
    ew.subtract: lambda a, b: _plus(a, _times(_MINUS, b)),
    ew.negative: lambda a: _times(_MINUS, a),
    ew.multiply: _times,
    ew.square: lambda a: _times(a, a),
    ew.power: _to_the,
}


def _is_rising(scale: float, cubic: float) -> bool:
    """Whether the exponent rises with x, and neither constant is extreme: with others, inf - inf is met."""
    return 0.05 <= scale <= 5 and 0 < cubic <= 1


def _number(constant: Node) -> float:
    value = uniform_number(constant)
    assert value is not None, "a variable of kind constant is one"
    return value


@LATE.rule(EXACT, where=lambda x: is_float(x.dtype))
def hinge_by_relu(x):
    """relu(1 - x) -> hinge(x)"""
    return ew.relu(1.0 - x), nn.hinge(x)


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


SUMS = (r.sum_, g.sum_of_squares)


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
    return r.mean(ew.square(x) if total.op is g.sum_of_squares else x, **total.attrs)


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


@rule(STABLER)
def normalized_by_reciprocal(x, axes: Attribute):
    """x * spread(1 / norm(x)) -> normalized(x)"""
    return x * spread(ew.reciprocal(g.norm(x, axes=axes)), x, axes), g.normalized(x, axes=axes)


@rule(REASSOCIATES)
def scaled_normalized(x, w: Rest, axes: Attribute):
    """w * x / spread(norm(x)) -> w * normalized(x)"""
    return w * x / spread(g.norm(x, axes=axes), x, axes), w * g.normalized(x, axes=axes)


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


@rule(REASSOCIATES)
def scaled_rms_norm(x, w: Rest, epsilon: Constant, axes: Attribute):
    """w * x / spread(sqrt(mean(square(x)) + epsilon)) -> w * rms_norm(x)"""
    root = ew.sqrt(r.mean(ew.square(x), axes=axes) + epsilon)
    return w * x / spread(root, x, axes), lambda: w * _rms_norm(x, axes, epsilon)


def _rms_norm(x: Node, axes: tuple[int, ...], epsilon: Node) -> Node:
    return g.rms_norm(x, axes=axes, epsilon=_number(epsilon))


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
    return ew.log(pick(r.softmax(x, axes=axes), labels)), pick(r.log_softmax(x, axes=axes), labels)


@rule(STABLER, where=lambda x, labels, axes: axes == (len(x.shape) - 1,))
def cross_entropy_by_logsumexp(x, labels, axes: Attribute):
    """logsumexp(x) - pick(x, labels) -> cross_entropy(x, labels)"""
    return r.logsumexp(x, axes=axes) - pick(x, labels), lambda: g.cross_entropy(x, labels)


@rule(STABLER, where=lambda x, labels, axes: axes == (len(x.shape) - 1,))
def negative_cross_entropy_by_logsumexp(x, labels, axes: Attribute):
    """pick(x, labels) - logsumexp(x) -> -cross_entropy(x, labels)"""
    return pick(x, labels) - r.logsumexp(x, axes=axes), lambda: -g.cross_entropy(x, labels)


@rule(STABLER, where=lambda x, labels, top, axes: is_peak(top, x, axes))
def cross_entropy_of_shifted(x, labels, top, axes: Attribute):
    """cross_entropy(x - spread(top), labels) -> cross_entropy(x, labels) where top is max(x)"""
    return g.cross_entropy(x - spread(top, x, axes), labels), g.cross_entropy(x, labels)


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
    for product_, bias in (node.args, node.args[::-1]):
        if product_.op is not matmul or bias.op is not BROADCAST_TO or len(node.shape) != 2:
            continue
        flags = (product_.attrs.get(f, False) for f in ("transpose_a", "transpose_b"))
        x, w = (transposed(a) if flag else a for a, flag in zip(product_.args, flags, strict=True))
        (b,) = bias.args
        if _is_bias(b, w) and node.dtype.kind == "f":
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


@on(EXACT, g.sum_of_squares)
def squared_distances_by_differences(node: Node) -> Node | None:
    """sum_of_squares(spread(a) - spread(b)) -> squared_distances(a, b) for all pairs of rows"""
    (difference,) = node.args
    if difference.op is not ew.subtract or node.attrs["axes"] != (2,):
        return None
    sources = {axes: source for source, axes in map(spread_source, difference.args)}
    return g.squared_distances(sources[1,], sources[0,]) if set(sources) == {(0,), (1,)} else None


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
