"""The table *stabilize*, first part: forms that overflow, cancel or give nan where the value itself does not.

A rule here may differ from what was written only by being closer to the true value.
"""

from __future__ import annotations

import numpy as np

from graphc.ir import Node
from graphc.ops import elementwise as ew
from graphc.ops import nn, shape
from graphc.ops import norms as nm
from graphc.ops import reduce as r
from graphc.ops import softmax as sm
from graphc.ops.index import slice_, take
from graphc.ops.special import erfc, log_erfc
from graphc.rewrite.domains import is_nonnegative
from graphc.rewrite.pattern import is_number
from graphc.rewrite.rules import Attribute, Label, Rest, Table

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
    """cast(w * exp(x), wider) -> exp(cast(x, wider)) * cast(w, wider), which overflows later"""
    return _widened(node.args[0], node.dtype) if _widens(node) else None


@on(STABLER, ew.cast)
def widen_before_sum_of_exp(node: Node) -> Node | None:
    """cast(sum(w * exp(x)), wider) -> sum(exp(cast(x, wider)) * cast(w, wider)), and so for mean"""
    (total,) = node.args
    if not _widens(node) or total.op not in (r.sum_, r.mean):
        return None
    terms = _widened(total.args[0], node.dtype)
    return None if terms is None else total.op(terms, **total.attrs)


def _widens(cast: Node) -> bool:
    return cast.dtype.kind == "f" and cast.dtype > cast.args[0].dtype


def _widened(node: Node, dtype: np.dtype) -> Node | None:
    """``node`` in a wider dtype, if it is exp(x), or a product or quotient with it."""
    if node.op is ew.exp:
        return ew.exp(ew.cast(node.args[0], dtype=dtype))
    if node.op not in (ew.multiply, ew.divide):
        return None
    parts = [_widened(arg, dtype) for arg in node.args]
    if not any(parts):
        return None
    pairs = zip(parts, node.args, strict=True)
    return node.op(*(part or ew.cast(arg, dtype=dtype) for part, arg in pairs))


SELECTIONS = (slice_, take, shape.squeeze)
SELECTED = (ew.exp, ew.sigmoid, sm.softmax)


@on(Label.EXACT, ew.log, ew.subtract)
def compute_before_selecting(node: Node) -> Node | None:
    """log(f(x)[i]) -> log(f(x))[i] and 1 - f(x)[i] -> (1 - f(x))[i] for exp, sigmoid and softmax"""
    chosen = node.args[-1]
    if chosen.op not in SELECTIONS or not (node.op is ew.log or is_number(node.args[0], 1)):
        return None
    x, *others = chosen.args
    source = x
    while source.op in SELECTIONS:
        source = source.args[0]
    if source.op not in SELECTED:
        return None
    before = ew.log(x) if node.op is ew.log else 1.0 - x
    return chosen.op(before, *others, **chosen.attrs)


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
    """1 - square(tanh(x)) -> 4 * logistic_density(2 * x)"""
    return 1.0 - ew.square(ew.tanh(x)), 4.0 * nn.logistic_density(2.0 * x)


@rule(STABLER)
def sigmoid_by_its_complement(x):
    """sigmoid(x) * sigmoid(-x) -> logistic_density(x)"""
    return ew.sigmoid(x) * ew.sigmoid(-x), nn.logistic_density(x)


@rule(STABLER)
def multiple_of_sigmoid_by_its_complement(x, w: Rest):
    """w * sigmoid(x) * sigmoid(-x) -> w * logistic_density(x)"""
    return w * ew.sigmoid(x) * ew.sigmoid(-x), w * nn.logistic_density(x)


@rule(STABLER)
def log_of_logistic_density(x):
    """log(logistic_density(x)) -> log_logistic_density(x)"""
    return ew.log(nn.logistic_density(x)), nn.log_logistic_density(x)


@rule(STABLER)
def log_of_multiple_of_logistic_density(x, w: Rest):
    """log(w * logistic_density(x)) -> log(w) + log_logistic_density(x)"""
    return ew.log(w * nn.logistic_density(x)), ew.log(w) + nn.log_logistic_density(x)


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


# Quotients.


@rule(STABLER)
def multiply_by_inverse(x, y):
    """x * (1 / y) -> x / y"""
    return x * ew.reciprocal(y), x / y
