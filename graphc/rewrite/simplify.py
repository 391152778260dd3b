"""The table *simplify*, first part: the algebra of units, powers and choices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.facts import Leaf, ScalarCode
from graphc.ir import (
    BROADCAST_TO,
    CONSTANT,
    Node,
    broadcast,
    constant_node,
    filled,
    uniform_number,
    uniform_value,
)
from graphc.ops import discrete as d
from graphc.ops import elementwise as ew
from graphc.ops import reduce
from graphc.rewrite.domains import is_nonnegative
from graphc.rewrite.pattern import is_number
from graphc.rewrite.rules import Constant, Label, Table
from graphc.types import DType, bool_, is_float

EXACT, STABLER = Label.EXACT, Label.STABLER
REASSOCIATES, ASSUMES_FINITE = Label.REASSOCIATES, Label.ASSUMES_FINITE

LARGEST_FOLDED = 1024
"""Constants of at most this many elements are computed while compiling."""

SIMPLIFY = Table("simplify")
rule, on = SIMPLIFY.rule, SIMPLIFY.on


# Constants, units, absorbing elements.


@on(EXACT)
def fold_constants(node: Node) -> Node | None:
    """op(constants) -> constant"""
    if not node.args or isinstance(node.op.lowering, Leaf) or node.op is BROADCAST_TO:
        return None
    uniform = [uniform_value(arg) for arg in node.args]
    if isinstance(node.op.lowering, ScalarCode) and all(u is not None for u in uniform):
        value = node.op.reference(*(np.asarray(u) for u in uniform), **node.attrs)
        return broadcast(constant_node(value, node.dtype), node.shape)
    small = all(isinstance(s, int) for s in node.shape) and _count(node) <= LARGEST_FOLDED
    if small and all(arg.op is CONSTANT for arg in node.args):
        arrays = [arg.attrs["value"].array for arg in node.args]
        return constant_node(node.op.reference(*arrays, **node.attrs), node.dtype)
    return None


def _count(node: Node) -> int:
    return math.prod(s for s in node.shape if isinstance(s, int))


@on(EXACT, CONSTANT)
def uniform_constant(node: Node) -> Node | None:
    """an array of equal numbers -> that number, spread"""
    array = node.attrs["value"].array
    if array.ndim == 0 or array.size == 0:
        return None
    first = array.reshape(-1)[:1]
    equal = first.tobytes() * array.size == array.tobytes()
    return broadcast(constant_node(first[0]), node.shape) if equal else None


@on(EXACT)
def drop_unit(node: Node) -> Node | None:
    """op(unit, x) -> x and op(x, unit) -> x, as x * 1, x - 0, x + -0.0, x ** 1, b & True"""
    if len(node.args) != 2:
        return None
    left, right = node.args
    if is_number(left, node.op.left_unit(left.dtype)):
        return right
    return left if is_number(right, node.op.right_unit(right.dtype)) else None


@on(EXACT)
def absorb(node: Node) -> Node | None:
    """op(z, x) -> z and op(x, z) -> z for an absorbing z, as i * 0, b | True"""
    if len(node.args) != 2:
        return None
    left, right = node.args
    if is_number(left, node.op.left_absorbing(left.dtype)):
        return left
    return right if is_number(right, node.op.right_absorbing(right.dtype)) else None


@on(EXACT, ew.chain)
def known_factor(node: Node) -> Node | None:
    """chain(c, x) -> c * x for a constant c that is not 0"""
    g, local = node.args
    known = uniform_value(g)
    return None if known is None or known == 0 else g * local


@rule(ASSUMES_FINITE)
def add_zero(x):
    """x + 0 -> x"""
    return x + 0.0, x


@rule(ASSUMES_FINITE)
def multiply_by_zero(x):
    """x * 0 -> 0"""
    return x * 0.0, 0.0


@rule(ASSUMES_FINITE)
def subtract_from_zero(x):
    """0 - x -> -x"""
    return 0.0 - x, -x


@on(ASSUMES_FINITE, ew.subtract)
def subtract_itself(node: Node) -> Node | None:
    """x - x -> 0"""
    return filled(node, 0) if node.args[0] is node.args[1] else None


@on(EXACT, ew.subtract)
def subtract_integer_from_itself(node: Node) -> Node | None:
    """i - i -> 0 for integers"""
    same = node.args[0] is node.args[1] and not is_float(node.dtype)
    return filled(node, 0) if same else None


@rule(ASSUMES_FINITE)
def divide_by_itself(x):
    """x / x -> 1"""
    return x / x, 1.0


# Equal terms, powers, quotients.


@rule(EXACT)
def add_equal(x):
    """x + x -> 2 * x"""
    return x + x, 2 * x


@rule(EXACT)
def add_to_double(x):
    """x * 2 + x -> 3 * x"""
    return x * 2 + x, 3 * x


@rule(REASSOCIATES)
def add_multiples(x, a: Constant, b: Constant):
    """x * a + x * b -> x * (a + b)"""
    return x * a + x * b, x * (a + b)


@rule(REASSOCIATES)
def factor_out(x, y, z):
    """x * y + x * z -> x * (y + z)"""
    return x * y + x * z, x * (y + z)


@rule(REASSOCIATES)
def factor_out_of_difference(x, y, z):
    """x * y - x * z -> x * (y - z)"""
    return x * y - x * z, x * (y - z)


@rule(REASSOCIATES)
def merge_constant_factors(x, a: Constant, b: Constant):
    """x * a * b -> x * (a * b)"""
    return x * a * b, x * (a * b)


def _scales_exactly(a: Node, b: Node) -> bool:
    """Whether a * b is as exact as b: a is a power of two, and nothing overflows or underflows."""
    x, y = uniform_number(a), uniform_number(b)
    if x is None or y is None or not _is_normal(x * y, a.dtype):
        return False
    return _is_power_of_two(x) or _is_power_of_two(y)


def _is_normal(value: float, dtype: DType) -> bool:
    """Whether a float dtype holds ``value`` with all its bits."""
    if not is_float(dtype):
        return False
    limits: Any = np.finfo(dtype)
    return float(limits.tiny) <= abs(value) <= float(limits.max)


def _is_power_of_two(value: float) -> bool:
    return abs(math.frexp(value)[0]) == 0.5


@rule(STABLER, where=lambda x, a, b: _scales_exactly(a, b))
def merge_power_of_two(x, a: Constant, b: Constant):
    """x * a * b -> x * (a * b) where a or b is a power of two"""
    return x * a * b, x * (a * b)


def _cancel(a: Node, b: Node) -> bool:
    """Whether a * b is 1 for powers of two: of other products, x * y may overflow or underflow first."""
    x, y = uniform_number(a), uniform_number(b)
    return x is not None and y is not None and x * y == 1 and _is_power_of_two(x)


@rule(STABLER, where=lambda x, y, a, b: _cancel(a, b))
def cancel_powers_of_two(x, y, a: Constant, b: Constant):
    """(x * a) * (y * b) -> x * y where a * b is 1, for powers of two"""
    return (x * a) * (y * b), x * y


@rule(EXACT)
def multiply_equal(x):
    """x * x -> square(x)"""
    return x * x, ew.square(x)


@rule(EXACT)
def power_two(x):
    """x ** 2 -> square(x)"""
    return ew.power(x, 2), ew.square(x)


@rule(EXACT)
def power_zero(x):
    """x ** 0 -> 1"""
    return ew.power(x, 0), 1


@on(EXACT, ew.power)
def power_minus_one(node: Node) -> Node | None:
    """x ** -1.0 -> reciprocal(x)"""
    x, exponent = node.args
    return ew.reciprocal(x) if is_number(exponent, -1) and is_float(x.dtype) else None


@on(STABLER, ew.power)
def power_one_half(node: Node) -> Node | None:
    """x ** 0.5 -> sqrt(x) for an x that is never negative, where(x == -inf, inf, sqrt(x + 0)) for others"""
    x, exponent = node.args
    if not is_number(exponent, 0.5):
        return None
    if is_nonnegative(x):
        return ew.sqrt(x)
    infinite = d.equal(x, filled(x, -math.inf))
    return ew.where(infinite, filled(x, math.inf), ew.sqrt(x + 0.0))


@on(STABLER, ew.power)
def power_minus_one_half(node: Node) -> Node | None:
    """x ** -0.5 -> reciprocal(sqrt(x)) for an x that is never negative"""
    x, exponent = node.args
    fits = is_number(exponent, -0.5) and is_nonnegative(x)
    return ew.reciprocal(ew.sqrt(x)) if fits else None


@rule(EXACT)
def one_over(x):
    """1 / x -> reciprocal(x)"""
    return 1 / x, ew.reciprocal(x)


@rule(REASSOCIATES)
def double_reciprocal(x):
    """reciprocal(reciprocal(x)) -> x"""
    return ew.reciprocal(ew.reciprocal(x)), x


@on(EXACT, ew.divide)
def divide_by_power_of_two(node: Node) -> Node | None:
    """x / 2 ** k -> x * 2 ** -k"""
    x, divisor = node.args
    value = uniform_number(divisor)
    if value is None or not _is_power_of_two(value) or not _is_normal(1 / value, node.dtype):
        return None
    return x * (1 / value)


@rule(REASSOCIATES)
def divide_by_constant(x, c: Constant):
    """x / c -> x * (1 / c)"""
    return x / c, x * (1 / c)


# Choices, comparisons, logic.


@on(EXACT, ew.where)
def known_choice(node: Node) -> Node | None:
    """where(True, x, y) -> x, where(False, x, y) -> y, where(c, x, x) -> x"""
    condition, x, y = node.args
    if x is y:
        return x
    known = uniform_value(condition)
    if known is None:
        return None
    return x if known else y


@rule(EXACT)
def choose_by_negation(c, x, y):
    """where(~c, x, y) -> where(c, y, x)"""
    return ew.where(d.invert(c), x, y), ew.where(c, y, x)


@rule(EXACT)
def choose_twice(c, x, y, z):
    """where(c, where(c, x, y), z) -> where(c, x, z)"""
    return ew.where(c, ew.where(c, x, y), z), ew.where(c, x, z)


@rule(EXACT)
def choose_twice_otherwise(c, x, y, z):
    """where(c, x, where(c, y, z)) -> where(c, x, z)"""
    return ew.where(c, x, ew.where(c, y, z)), ew.where(c, x, z)


@on(EXACT, d.less, d.greater, d.equal, d.not_equal, d.less_equal, d.greater_equal)
def compare_with_itself(node: Node) -> Node | None:
    """x < x -> False; for integers also i == i -> True, i <= i -> True, i != i -> False"""
    x, y = node.args
    if x is not y:
        return None
    strict = node.op in (d.less, d.greater)
    if strict or not is_float(x.dtype):
        return filled(node, node.op in (d.equal, d.less_equal, d.greater_equal))
    return None


@rule(EXACT, where=lambda x, c: not math.isnan(uniform_number(c) or 0.0))
def at_least_or_nan(x, c: Constant):
    """(x >= c) | (x != x) -> ~(x < c)"""
    return d.bitwise_or(x >= c, d.not_equal(x, x)), d.invert(x < c)


@rule(EXACT, where=lambda x, c: not math.isnan(uniform_number(c) or 0.0))
def at_most_or_nan(x, c: Constant):
    """(x <= c) | (x != x) -> ~(x > c)"""
    return d.bitwise_or(x <= c, d.not_equal(x, x)), d.invert(x > c)


@rule(EXACT)
def double_inversion(b):
    """~~b -> b"""
    return d.invert(d.invert(b)), b


@on(EXACT, ew.maximum, ew.minimum, d.bitwise_and, d.bitwise_or)
def choose_of_equal(node: Node) -> Node | None:
    """maximum(x, x) -> x, minimum(x, x) -> x, b & b -> b, b | b -> b"""
    return node.args[0] if node.args[0] is node.args[1] else None


@on(EXACT, d.floor, d.ceil, d.round_)
def round_twice(node: Node) -> Node | None:
    """round(floor(x)) -> floor(x), and so for each two of floor, ceil and round"""
    (x,) = node.args
    return x if x.op in (d.floor, d.ceil, d.round_) else None


@rule(EXACT)
def relu_twice(x):
    """relu(relu(x)) -> relu(x)"""
    return ew.relu(ew.relu(x)), ew.relu(x)


# Between dtypes.


@on(EXACT, ew.cast)
def cast_to_itself(node: Node) -> Node | None:
    """cast(x, its own dtype) -> x"""
    (x,) = node.args
    return x if x.dtype == node.dtype else None


@on(EXACT, ew.cast)
def cast_through_wider(node: Node) -> Node | None:
    """cast(cast(x, wider), narrow) -> cast(x, narrow)"""
    (inner,) = node.args
    if inner.op is not ew.cast:
        return None
    (x,) = inner.args
    lossless = np.can_cast(x.dtype, inner.dtype, "safe") and x.dtype.kind == inner.dtype.kind
    return ew.cast(x, dtype=node.dtype) if lossless or x.dtype == bool_ else None


# Fan-in and empty reductions.


@on(EXACT, ew.accumulate)
def fan_in_of_equal(node: Node) -> Node | None:
    """accumulate(x, x) -> 2 * x"""
    x, *others = node.args
    return 2 * x if len(others) == 1 and others[0] is x else None


@on(STABLER, reduce.sum_, reduce.mean)
def reduce_negative(node: Node) -> Node | None:
    """sum(-x) -> -sum(x), mean(-x) -> -mean(x)"""
    (x,) = node.args
    return -node.op(x.args[0], **node.attrs) if x.op is ew.negative else None


@on(EXACT, reduce.prod, reduce.max_, reduce.min_, reduce.all_, reduce.any_)
def reduce_nothing(node: Node) -> Node | None:
    """max(x, axes=()) -> x, and so for every reduction but the sum"""
    return node.args[0] if not node.attrs["axes"] else None


# Not exact: a sum starts at 0.0, so the sum of -0.0 alone is 0.0.
@on(STABLER, reduce.sum_)
def sum_nothing(node: Node) -> Node | None:
    """sum(x, axes=()) -> x"""
    return node.args[0] if not node.attrs["axes"] else None
