"""The table *simplify*, second part: signs move outwards, and meet there."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir import Node, uniform_value
from graphc.ops import elementwise as ew
from graphc.ops.special import erf
from graphc.rewrite.domains import is_nonnegative
from graphc.rewrite.pattern import is_number
from graphc.rewrite.rules import Constant, Label, Table

EXACT, STABLER = Label.EXACT, Label.STABLER
ASSUMES_FINITE = Label.ASSUMES_FINITE

SIGNS = Table("simplify")
rule, on = SIGNS.rule, SIGNS.on


@rule(EXACT)
def double_negation(x):
    """-(-x) -> x"""
    return ew.negative(-x), x


@rule(EXACT)
def add_negative(x, y):
    """x + -y -> x - y"""
    return x + -y, x - y


@rule(EXACT)
def subtract_negative(x, y):
    """x - -y -> x + y"""
    return x - -y, x + y


@rule(EXACT)
def multiply_negative(x, y):
    """x * -y -> -(x * y)"""
    return x * -y, -(x * y)


@rule(EXACT)
def divide_negative(x, y):
    """-x / y -> -(x / y)"""
    return -x / y, -(x / y)


@rule(EXACT)
def divide_by_negative(x, y):
    """x / -y -> -(x / y)"""
    return x / -y, -(x / y)


@rule(EXACT)
def negate_constant_factor(x, c: Constant):
    """-(x * c) -> x * -c"""
    return -(x * c), x * -c


@rule(EXACT)
def negate_constant_numerator(x, c: Constant):
    """-(c / x) -> -c / x"""
    return -(c / x), -c / x


def _has_negation(c: Node) -> bool:
    """Whether c < 0 < -c, which does not hold for the least integer."""
    value: Any = uniform_value(c)
    return value is not None and bool(value < value.dtype.type(0) < np.negative(value))


@rule(EXACT, where=lambda x, y, c: _has_negation(c))
def add_negative_multiple(x, y, c: Constant):
    """x + y * c -> x - y * -c for c < 0"""
    return x + y * c, x - y * -c


@rule(EXACT, where=lambda x, y, c: _has_negation(c))
def subtract_negative_multiple(x, y, c: Constant):
    """x - y * c -> x + y * -c for c < 0"""
    return x - y * c, x + y * -c


@rule(EXACT, where=lambda x, c: _has_negation(c))
def add_negative_constant(x, c: Constant):
    """x + c -> x - -c for c < 0"""
    return x + c, x - -c


@rule(ASSUMES_FINITE)
def negate_difference(x, y):
    """-(x - y) -> y - x"""
    return -(x - y), y - x


@rule(EXACT)
def square_of_negative(x):
    """square(-x) -> square(x)"""
    return ew.square(-x), ew.square(x)


@rule(EXACT)
def square_of_abs(x):
    """square(abs(x)) -> square(x)"""
    return ew.square(ew.absolute(x)), ew.square(x)


@rule(EXACT)
def abs_of_negative(x):
    """abs(-x) -> abs(x)"""
    return ew.absolute(-x), ew.absolute(x)


@on(EXACT, ew.absolute)
def abs_of_nonnegative(node: Node) -> Node | None:
    """abs(x) -> x for an x that is never negative, as abs(y), square(y), exp(y)"""
    (x,) = node.args
    return x if is_nonnegative(x) else None


@rule(EXACT)
def cos_of_negative(x):
    """cos(-x) -> cos(x)"""
    return ew.cos(-x), ew.cos(x)


@rule(EXACT)
def sigmoid_of_difference(x, y):
    """sigmoid(-(x - y)) -> sigmoid(y - x)"""
    return ew.sigmoid(-(x - y)), ew.sigmoid(y - x)


@rule(EXACT)
def exp_of_difference(x, y):
    """exp(-(x - y)) -> exp(y - x)"""
    return ew.exp(-(x - y)), ew.exp(y - x)


@on(EXACT, ew.multiply)
def multiply_by_minus_one(node: Node) -> Node | None:
    """x * -1 -> -x"""
    x, factor = node.args
    return -x if is_number(factor, -1) else None


@on(EXACT, ew.tanh, ew.sin, erf)
def odd_of_negative(node: Node) -> Node | None:
    """tanh(-x) -> -tanh(x), tanh(x * c) -> -tanh(x * -c) for c < 0, and so for sin and erf"""
    (x,) = node.args
    if x.op is ew.negative:
        return -node.op(x.args[0])
    if x.op is ew.multiply and _has_negation(x.args[1]):
        return -node.op(x.args[0] * -x.args[1])
    return None
