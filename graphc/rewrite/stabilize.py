"""The table *stabilize*: forms that overflow, cancel or give nan where the value itself does not.

A rule here may differ from what was written only by being closer to the true value.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir import Node, broadcast, filled, size_node, uniform_value
from graphc.ops import elementwise as ew
from graphc.ops import norms as nm
from graphc.ops import reduce as r
from graphc.ops import shape
from graphc.ops import softmax as sm
from graphc.ops.index import concat
from graphc.ops.special import erfc, log_erfc
from graphc.rewrite.domains import is_nonnegative, is_peak
from graphc.rewrite.pattern import PRODUCT, SUM, all_terms, joined, spread
from graphc.rewrite.rules import Attribute, Label, Rest, Table
from graphc.types import product

STABLER = Label.STABLER

STABILIZE = Table("stabilize")
rule, on = STABILIZE.rule, STABILIZE.on


# Logarithms and exponentials that meet.


@rule(STABLER)
def log_of_exp(x):
    """log(exp(x)) -> x"""
    return ew.log(ew.exp(x)), x


@on(STABLER, ew.cast)
def widen_before_exp(node: Node) -> Node | None:
    """cast(exp(x) * c, wider) -> exp(cast(x, wider)) * cast(c, wider), which overflows later"""
    (scaled,) = node.args
    power, *factors = scaled.args if scaled.op is ew.multiply else (scaled,)
    narrow = node.dtype.kind == "f" and node.dtype > power.dtype
    if not narrow or power.op is not ew.exp or any(uniform_value(f) is None for f in factors):
        return None
    wide = ew.exp(ew.cast(power.args[0], dtype=node.dtype))
    return ew.multiply(wide, *(ew.cast(f, dtype=node.dtype) for f in factors)) if factors else wide


@rule(STABLER)
def softplus_of_sum(x):
    """log(1 + exp(x)) -> softplus(x)"""
    return ew.log(1.0 + ew.exp(x)), ew.softplus(x)


@rule(STABLER)
def softplus_of_log1p(x):
    """log1p(exp(x)) -> softplus(x)"""
    return ew.log1p(ew.exp(x)), ew.softplus(x)


@rule(STABLER)
def softplus_in_two_parts(x):
    """maximum(x, 0) + log1p(exp(-abs(x))) -> softplus(x)"""
    return ew.maximum(x, 0.0) + ew.softplus(-ew.absolute(x)), ew.softplus(x)


@rule(STABLER)
def softplus_in_two_parts_by_relu(x):
    """relu(x) + log1p(exp(-abs(x))) -> softplus(x)"""
    return ew.relu(x) + ew.softplus(-ew.absolute(x)), ew.softplus(x)


@rule(STABLER)
def log_of_one_plus(x):
    """log(1 + x) -> log1p(x)"""
    return ew.log(1.0 + x), ew.log1p(x)


@rule(STABLER)
def log_of_one_minus(x):
    """log(1 - x) -> log1p(-x)"""
    return ew.log(1.0 - x), ew.log1p(-x)


@rule(STABLER)
def exp_minus_one(x):
    """exp(x) - 1 -> expm1(x)"""
    return ew.exp(x) - 1.0, ew.expm1(x)


@rule(STABLER)
def one_minus_exp(x):
    """1 - exp(x) -> -expm1(x)"""
    return 1.0 - ew.exp(x), -ew.expm1(x)


@rule(STABLER)
def log1p_of_expm1(x):
    """log1p(expm1(x)) -> x"""
    return ew.log1p(ew.expm1(x)), x


@rule(STABLER)
def log_of_product_with_exp(x, w: Rest):
    """log(w * exp(x)) -> log(w) + x"""
    return ew.log(w * ew.exp(x)), ew.log(w) + x


@rule(STABLER)
def log_of_quotient_by_exp(x, w: Rest):
    """log(w / exp(x)) -> log(w) - x"""
    return ew.log(w / ew.exp(x)), ew.log(w) - x


@rule(STABLER)
def log_of_prod_of_exp(x, axes: Attribute):
    """log(prod(exp(x))) -> sum(x)"""
    return ew.log(r.prod(ew.exp(x), axes=axes)), r.sum_(x, axes=axes)


@rule(STABLER)
def log_of_erfc(x):
    """log(erfc(x)) -> log_erfc(x)"""
    return ew.log(erfc(x)), log_erfc(x)


@rule(STABLER)
def reciprocal_of_exp(x):
    """1 / exp(x) -> exp(-x)"""
    return ew.reciprocal(ew.exp(x)), ew.exp(-x)


@rule(STABLER)
def softplus_of_negative(x):
    """x + softplus(-x) -> softplus(x)"""
    return x + ew.softplus(-x), ew.softplus(x)


@rule(STABLER)
def minus_softplus_of_negative(x):
    """x - softplus(x) -> -softplus(-x)"""
    return x - ew.softplus(x), -ew.softplus(-x)


# Sigmoid and tanh, in the ways they are written.


@rule(STABLER)
def sigmoid_by_reciprocal(x):
    """1 / (1 + exp(x)) -> sigmoid(-x)"""
    return ew.reciprocal(1.0 + ew.exp(x)), ew.sigmoid(-x)


@rule(STABLER)
def sigmoid_by_quotient(x):
    """exp(x) / (1 + exp(x)) -> sigmoid(x)"""
    return ew.exp(x) / (1.0 + ew.exp(x)), ew.sigmoid(x)


@rule(STABLER)
def sigmoid_of_two(x, y):
    """exp(x) / (exp(x) + exp(y)) -> sigmoid(x - y)"""
    return ew.exp(x) / (ew.exp(x) + ew.exp(y)), ew.sigmoid(x - y)


@rule(STABLER)
def sigmoid_by_tanh(x):
    """1 + tanh(x) -> 2 * sigmoid(2 * x)"""
    return 1.0 + ew.tanh(x), 2.0 * ew.sigmoid(2.0 * x)


@rule(STABLER)
def sigmoid_by_one_minus_tanh(x):
    """1 - tanh(x) -> 2 * sigmoid(-2 * x)"""
    return 1.0 - ew.tanh(x), 2.0 * ew.sigmoid(-2.0 * x)


@rule(STABLER)
def one_minus_sigmoid(x):
    """1 - sigmoid(x) -> sigmoid(-x)"""
    return 1.0 - ew.sigmoid(x), ew.sigmoid(-x)


@rule(STABLER)
def log_of_sigmoid(x):
    """log(sigmoid(x)) -> -softplus(-x)"""
    return ew.log(ew.sigmoid(x)), -ew.softplus(-x)


@rule(STABLER)
def log1p_of_minus_sigmoid(x):
    """log1p(-sigmoid(x)) -> -softplus(x)"""
    return ew.log1p(-ew.sigmoid(x)), -ew.softplus(x)


@rule(STABLER)
def tanh_by_sigmoid(x):
    """2 * sigmoid(x) - 1 -> tanh(x / 2)"""
    return 2.0 * ew.sigmoid(x) - 1.0, ew.tanh(0.5 * x)


@rule(STABLER)
def tanh_by_sigmoid_of_negative(x):
    """1 - 2 * sigmoid(x) -> -tanh(x / 2)"""
    return 1.0 - 2.0 * ew.sigmoid(x), -ew.tanh(0.5 * x)


@rule(STABLER)
def tanh_by_exponentials(x):
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x)) -> tanh(x)"""
    return (ew.exp(x) - ew.exp(-x)) / (ew.exp(x) + ew.exp(-x)), ew.tanh(x)


@rule(STABLER)
def tanh_by_expm1(x):
    """expm1(x) / (1 + exp(x)) -> tanh(x / 2)"""
    return ew.expm1(x) / (1.0 + ew.exp(x)), ew.tanh(0.5 * x)


@rule(STABLER)
def scaled_sigmoid(x, y):
    """y / (1 + exp(x)) -> y * sigmoid(-x)"""
    return y / (1.0 + ew.exp(x)), y * ew.sigmoid(-x)


@rule(STABLER)
def one_minus_squared_tanh(x):
    """1 - square(tanh(x)) -> 4 * sigmoid(2 * x) * sigmoid(-2 * x)"""
    slope = 4.0 * (ew.sigmoid(2.0 * x) * ew.sigmoid(-2.0 * x))
    return 1.0 - ew.square(ew.tanh(x)), slope


@rule(STABLER)
def multiple_of_one_plus_tanh(x, y):
    """y + y * tanh(x) -> y * (2 * sigmoid(2 * x))"""
    return y + y * ew.tanh(x), y * (2.0 * ew.sigmoid(2.0 * x))


@rule(STABLER)
def multiple_of_one_minus_tanh(x, y):
    """y - y * tanh(x) -> y * (2 * sigmoid(-2 * x))"""
    return y - y * ew.tanh(x), y * (2.0 * ew.sigmoid(-2.0 * x))


@rule(STABLER)
def sigmoid_by_softplus(x):
    """exp(-softplus(x)) -> sigmoid(-x)"""
    return ew.exp(-ew.softplus(x)), ew.sigmoid(-x)


@rule(STABLER)
def exp_by_sigmoid(x, w: Rest):
    """w * exp(x) * sigmoid(-x) -> w * sigmoid(x)"""
    return w * ew.exp(x) * ew.sigmoid(-x), w * ew.sigmoid(x)


# Roots of squares.


@rule(STABLER)
def root_of_square(x):
    """sqrt(square(x)) -> abs(x)"""
    return ew.sqrt(ew.square(x)), ew.absolute(x)


@rule(STABLER, where=lambda x: is_nonnegative(x))
def square_of_root(x):
    """square(sqrt(x)) -> x for an x that is never negative"""
    return ew.square(ew.sqrt(x)), x


@rule(STABLER)
def variance_by_moments(x, axes: Attribute):
    """mean(square(x)) - square(mean(x)) -> variance(x)"""
    before = r.mean(ew.square(x), axes=axes) - ew.square(r.mean(x, axes=axes))
    return before, nm.variance(x, axes=axes)


# Softmax and logsumexp.


@rule(STABLER)
def logsumexp_by_parts(x, axes: Attribute):
    """log(sum(exp(x))) -> logsumexp(x)"""
    return ew.log(r.sum_(ew.exp(x), axes=axes)), sm.logsumexp(x, axes=axes)


@rule(STABLER)
def negative_logsumexp(x, axes: Attribute):
    """log(1 / sum(exp(x))) -> -logsumexp(x)"""
    inverse = ew.reciprocal(r.sum_(ew.exp(x), axes=axes))
    return ew.log(inverse), -sm.logsumexp(x, axes=axes)


@rule(STABLER)
def negative_logsumexp_of_two(x, y):
    """log(1 / (exp(x) + exp(y))) -> -logaddexp(x, y)"""
    return ew.log(ew.reciprocal(ew.exp(x) + ew.exp(y))), -sm.logaddexp(x, y)


@rule(STABLER)
def logsumexp_of_two(x, y):
    """log(exp(x) + exp(y)) -> logaddexp(x, y)"""
    return ew.log(ew.exp(x) + ew.exp(y)), sm.logaddexp(x, y)


@rule(STABLER)
def logmeanexp(x, axes: Attribute):
    """log(mean(exp(x))) -> logsumexp(x) - log(size)"""

    def after():
        total = sm.logsumexp(x, axes=axes)
        count = size_node(product(x.shape[axis] for axis in axes), x.dtype)
        return total - broadcast(ew.log(count), total.shape)

    return ew.log(r.mean(ew.exp(x), axes=axes)), after


@rule(STABLER)
def weighted_logsumexp(x, w: Rest, axes: Attribute):
    """log(sum(w * exp(x))) -> weighted_logsumexp(x, w)"""
    return ew.log(r.sum_(w * ew.exp(x), axes=axes)), sm.weighted_logsumexp(x, w, axes=axes)


@on(STABLER, ew.log)
def weighted_logsumexp_of_terms(node: Node) -> Node | None:
    """log(v * exp(x) + w * exp(y) + ...) -> weighted_logsumexp(stack(x, y, ...), stack(v, w, ...))"""
    (total,) = node.args
    terms = all_terms(total, SUM) if total.op in (ew.add, ew.subtract) else []
    parts = [_weighted_exp(sign, term) for sign, term in terms]
    if len(parts) < 2 or None in parts:
        return None
    exponents, weights = zip(*parts, strict=True)
    return sm.weighted_logsumexp(_stacked(exponents), _stacked(weights), axes=(0,))


def _weighted_exp(sign: int, term: Node) -> tuple[Node, Node] | None:
    """(x, w) if ``term`` with its sign is w * exp(x)."""
    factors = all_terms(term, PRODUCT)
    powers = [k for k, (s, factor) in enumerate(factors) if s == 1 and factor.op is ew.exp]
    if not powers:
        return None
    (x,) = factors.pop(powers[0])[1].args
    weight = joined(factors, PRODUCT) if factors else filled(x, 1)
    return x, weight if sign == 1 else -weight


def _stacked(nodes: Sequence[Node]) -> Node:
    return concat(*(shape.expand_dims(node, axes=(0,)) for node in nodes), axis=0)


@rule(STABLER)
def log_of_weighted_softmax(x, w: Rest, axes: Attribute, along: Attribute):
    """log(sum(w * softmax(x))) -> weighted_logsumexp(log_softmax(x), w)"""
    before = ew.log(r.sum_(w * sm.softmax(x, axes=along), axes=axes))
    return before, sm.weighted_logsumexp(sm.log_softmax(x, axes=along), w, axes=axes)


@rule(STABLER, where=lambda x, w, top, axes: is_peak(top, x, axes))
def weighted_logsumexp_of_shifted(x, w, top, axes: Attribute):
    """top + weighted_logsumexp(x - spread(top), w) -> weighted_logsumexp(x, w) where top is max(x)"""
    before = top + sm.weighted_logsumexp(x - spread(top, x, axes), w, axes=axes)
    return before, sm.weighted_logsumexp(x, w, axes=axes)


@rule(STABLER)
def softmax_by_parts(x, axes: Attribute):
    """exp(x) / spread(sum(exp(x))) -> softmax(x)"""
    total = r.sum_(ew.exp(x), axes=axes)
    return ew.exp(x) / spread(total, x, axes), sm.softmax(x, axes=axes)


@rule(STABLER)
def softmax_by_reciprocal(x, axes: Attribute):
    """exp(x) * spread(1 / sum(exp(x))) -> softmax(x)"""
    inverse = ew.reciprocal(r.sum_(ew.exp(x), axes=axes))
    return ew.exp(x) * spread(inverse, x, axes), sm.softmax(x, axes=axes)


@rule(STABLER)
def one_minus_softmax(x, axes: Attribute):
    """1 - softmax(x) -> softmax_complement(x)"""
    return 1.0 - sm.softmax(x, axes=axes), sm.softmax_complement(x, axes=axes)


@rule(STABLER, where=lambda x, top, axes: is_peak(top, x, axes))
def softmax_of_shifted(x, top, axes: Attribute):
    """softmax(x - spread(top)) -> softmax(x) where top is max(x)"""
    return sm.softmax(x - spread(top, x, axes), axes=axes), sm.softmax(x, axes=axes)


@rule(STABLER, where=lambda x, top, axes: is_peak(top, x, axes))
def logsumexp_of_shifted(x, top, axes: Attribute):
    """top + logsumexp(x - spread(top)) -> logsumexp(x) where top is max(x)"""
    before = top + sm.logsumexp(x - spread(top, x, axes), axes=axes)
    return before, sm.logsumexp(x, axes=axes)


@rule(STABLER)
def log_of_softmax(x, axes: Attribute):
    """log(softmax(x)) -> log_softmax(x)"""
    return ew.log(sm.softmax(x, axes=axes)), sm.log_softmax(x, axes=axes)


@rule(STABLER)
def log_softmax_by_logsumexp(x, axes: Attribute):
    """x - spread(logsumexp(x)) -> log_softmax(x)"""
    return x - spread(sm.logsumexp(x, axes=axes), x, axes), sm.log_softmax(x, axes=axes)


@rule(STABLER)
def negative_log_softmax(x, axes: Attribute):
    """spread(logsumexp(x)) - x -> -log_softmax(x)"""
    return spread(sm.logsumexp(x, axes=axes), x, axes) - x, -sm.log_softmax(x, axes=axes)


@rule(STABLER, where=lambda x, top, axes: is_peak(top, x, axes))
def log_softmax_of_shifted(x, top, axes: Attribute):
    """log_softmax(x - spread(top)) -> log_softmax(x) where top is max(x)"""
    return sm.log_softmax(x - spread(top, x, axes), axes=axes), sm.log_softmax(x, axes=axes)


@rule(STABLER)
def softmax_by_log_softmax(x, axes: Attribute):
    """exp(log_softmax(x)) -> softmax(x)"""
    return ew.exp(sm.log_softmax(x, axes=axes)), sm.softmax(x, axes=axes)


# Quotients.


@rule(STABLER)
def multiply_by_inverse(x, y):
    """x * (1 / y) -> x / y"""
    return x * ew.reciprocal(y), x / y
