"""Elementwise ops: one expression an element, all operands of one shape.

Easy rules come first, the ones with special points last.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from graphc.errors import GraphTypeError
from graphc.facts import NONDIFFERENTIABLE, Domain, Leaf, Sample, ScalarCode
from graphc.ir import Node, Op, Rejected, filled
from graphc.ops.discrete import bitwise_and, bitwise_or, equal, floor_divide, is_nan, sign
from graphc.ops.families import (
    INF,
    NAN,
    SPECIAL,
    always,
    by_kind,
    elementwise,
    integers_only,
    require_dtype,
    require_one_type,
    silent,
)
from graphc.types import ALL_DTYPES, FLOATS, NUMBERS, SHORT_NAMES, TensorType, bool_, is_float

# The chain rule's product, and fan-in.

chain: Op = elementwise(
    "chain",
    dtypes=FLOATS,
    reference=silent(lambda g, local: np.where(g == 0, g.dtype.type(0), g * local)),
    code="scalar.select({0} == {type}(0), {type}(0), {0} * {1})",
    vjp=lambda h, out, g, local: (chain(h, local), chain(h, g)),
    samples=(Domain(-2, 2, also=(0.0, -0.0, INF, NAN)), Domain(0.5, 2, also=(*SPECIAL, 1.0))),
    left_unit=always(1.0),
    left_absorbing=always(0.0),
)
"""Cotangent times local derivative, and exactly 0 where the cotangent is 0 even if the derivative is not
finite: this is what keeps the gradient of ``where(x > 0, log(x), 0)`` finite at 0."""


def _infer_accumulate(*types: TensorType) -> TensorType:
    require_dtype(types[0].dtype, FLOATS)
    require_one_type(types)
    return types[0]


def _sum_of(*arrays: Any) -> Any:
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total


accumulate: Op = Op(
    "accumulate",
    infer=_infer_accumulate,
    reference=silent(_sum_of),
    lowering=ScalarCode(lambda node: " + ".join(f"{{{i}}}" for i in range(len(node.args)))),
    vjp=lambda g, out, *args: (g,) * len(args),
    samples=(Sample(((4,), (4,), (4,))),),
    dtypes=FLOATS,
)
"""Fan-in: the sum of the cotangents that meet where a wire branches."""


# Arithmetic.

_any = Domain(-3, 3, also=SPECIAL, smooth=(0.0,))

copy: Op = elementwise(
    "copy",
    dtypes=ALL_DTYPES,
    reference=lambda x: x,
    code="{0}",
    vjp=lambda g, out, x: (g,),
    samples=(_any,),
    cost=0,
)
rounded: Op = elementwise(
    "rounded",
    dtypes=FLOATS,
    reference=lambda x: x,
    code="{0}",
    vjp=lambda g, out, x: (g,),
    samples=(_any,),
    cost=0,
)
"""The operand, where it is computed more than once: no product is merged with a sum in its gates."""

add: Op = elementwise(
    "add",
    dtypes=NUMBERS,
    reference=silent(np.add),
    code="{0} + {1}",
    vjp=lambda g, out, x, y: (g, g),
    samples=(_any, _any),
    commutative=True,
    associative=True,
    # x + 0 is not x for x = -0.0, but x + (-0.0) is x for every x.
    unit=lambda dtype: -0.0 if is_float(dtype) else 0,
)
subtract: Op = elementwise(
    "subtract",
    dtypes=NUMBERS,
    reference=silent(np.subtract),
    code="{0} - {1}",
    vjp=lambda g, out, x, y: (g, -g),
    samples=(_any, _any),
    right_unit=always(0.0),
)
multiply: Op = elementwise(
    "multiply",
    dtypes=NUMBERS,
    reference=silent(np.multiply),
    code="{0} * {1}",
    vjp=lambda g, out, x, y: (g * y, g * x),
    samples=(_any, _any),
    commutative=True,
    associative=True,
    unit=always(1.0),
    absorbing=integers_only(0),
)
negative: Op = elementwise(
    "negative",
    dtypes=NUMBERS,
    reference=np.negative,
    code="-{0}",
    vjp=lambda g, out, x: (-g,),
    samples=(_any,),
)
square: Op = elementwise(
    "square",
    dtypes=NUMBERS,
    reference=silent(np.square),
    code="{0} * {0}",
    vjp=lambda g, out, x: (g * (2 * x),),
    samples=(_any,),
)


def _divide_vjp(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, Node]:
    by_numerator = chain(g, 1 / y)
    return by_numerator, -chain(by_numerator, out)


divide: Op = elementwise(
    "divide",
    dtypes=FLOATS,
    reference=silent(np.divide),
    code="{0} / {1}",
    vjp=_divide_vjp,
    samples=(_any, Domain(0.5, 3, also=SPECIAL)),
    right_unit=always(1.0),
    cost=4,
)
reciprocal: Op = elementwise(
    "reciprocal",
    dtypes=FLOATS,
    reference=silent(np.reciprocal),
    code="{type}(1) / {0}",
    vjp=lambda g, out, x: (-chain(g, out * out),),
    samples=(Domain(0.5, 3, also=SPECIAL),),
    cost=4,
)


# Exponentials, logarithms, trigonometry.

exp: Op = elementwise(
    "exp",
    dtypes=FLOATS,
    reference=silent(np.exp),
    code="vmath.exp_{suffix}({0})",
    vjp=lambda g, out, x: (chain(g, out),),
    samples=(Domain(-3, 3, also=(*SPECIAL, 1000.0, -1000.0), smooth=(0.0,)),),
    cost=10,
)
expm1: Op = elementwise(
    "expm1",
    dtypes=FLOATS,
    reference=silent(np.expm1),
    code="vmath.expm1_{suffix}({0})",
    vjp=lambda g, out, x: (chain(g, exp(x)),),
    samples=(Domain(-3, 3, also=(*SPECIAL, 1000.0, 1e-20), smooth=(0.0,)),),
    cost=10,
)
log: Op = elementwise(
    "log",
    dtypes=FLOATS,
    reference=silent(np.log),
    code="vmath.log_{suffix}({0})",
    vjp=lambda g, out, x: (chain(g, 1 / x),),
    samples=(Domain(0.5, 3, also=(*SPECIAL, -1.0), smooth=(1.0,)),),
    cost=10,
)
log1p: Op = elementwise(
    "log1p",
    dtypes=FLOATS,
    reference=silent(np.log1p),
    code="vmath.log1p_{suffix}({0})",
    vjp=lambda g, out, x: (chain(g, 1 / (1 + x)),),
    samples=(Domain(-0.5, 3, also=(*SPECIAL, -1.0, -2.0, 1e-20), smooth=(0.0,)),),
    cost=10,
)
sqrt: Op = elementwise(
    "sqrt",
    dtypes=FLOATS,
    reference=silent(np.sqrt),
    code="np.sqrt({0})",
    # At 0 the slope is infinite; 0 is what makes the gradient of a norm at 0 finite.
    vjp=lambda g, out, x: (chain(g, where(equal(out, 0), filled(out, 0), 0.5 / out)),),
    samples=(Domain(0.5, 3, also=(*SPECIAL, -1.0)),),
    cost=4,
)
sin: Op = elementwise(
    "sin",
    dtypes=FLOATS,
    reference=silent(np.sin),
    code="vmath_trigonometric.sin_{suffix}({0})",
    vjp=lambda g, out, x: (g * cos(x),),
    samples=(_any,),
    cost=15,
)
cos: Op = elementwise(
    "cos",
    dtypes=FLOATS,
    reference=silent(np.cos),
    code="vmath_trigonometric.cos_{suffix}({0})",
    vjp=lambda g, out, x: (-(g * sin(x)),),
    samples=(_any,),
    cost=15,
)
tanh: Op = elementwise(
    "tanh",
    dtypes=FLOATS,
    reference=np.tanh,
    code="vmath.tanh_{suffix}({0})",
    vjp=lambda g, out, x: (g * tanh_slope(out),),
    samples=(_any,),
    cost=12,
)
tanh_slope: Op = elementwise(
    "tanh_slope",
    dtypes=FLOATS,
    reference=silent(lambda y: (1 + y) * (1 - y)),
    code="({type}(1) + {0}) * ({type}(1) - {0})",
    vjp=lambda g, out, y: (g * (-2 * y),),
    samples=(Domain(-1, 1, also=SPECIAL),),
    cost=2,
)
"""1 - y * y, the slope of y = tanh(x) by its value: no rule trades it for more exponentials."""


def _sigmoid(x: Any) -> Any:
    # Both branches only ever exponentiate a number that is not positive.
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype)


sigmoid: Op = elementwise(
    "sigmoid",
    dtypes=FLOATS,
    reference=silent(_sigmoid),
    code="vmath.sigmoid_{suffix}({0})",
    vjp=lambda g, out, x: (g * sigmoid_slope(out),),
    samples=(Domain(-3, 3, also=(*SPECIAL, 1000.0, -1000.0), smooth=(0.0,)),),
    cost=12,
)
sigmoid_slope: Op = elementwise(
    "sigmoid_slope",
    dtypes=FLOATS,
    reference=silent(lambda y: y * (1 - y)),
    code="{0} * ({type}(1) - {0})",
    vjp=lambda g, out, y: (g * (1 - 2 * y),),
    samples=(Domain(0, 1, also=SPECIAL),),
    cost=2,
)
"""y * (1 - y), the slope of y = sigmoid(x) by its value: no rule trades it for another exponential."""
softplus: Op = elementwise(
    "softplus",
    dtypes=FLOATS,
    reference=silent(lambda x: np.logaddexp(x, x.dtype.type(0))),
    code="vmath.softplus_{suffix}({0})",
    vjp=lambda g, out, x: (g * sigmoid(x),),
    samples=(Domain(-3, 3, also=(*SPECIAL, 1000.0, -1000.0), smooth=(0.0,)),),
    cost=20,
)


# Choosing.


def _infer_where(condition: TensorType, x: TensorType, y: TensorType) -> TensorType:
    if condition.dtype != bool_:
        raise Rejected("the condition is not boolean", error=GraphTypeError)
    require_one_type((x, y))
    if condition.shape != x.shape:
        raise Rejected("condition and branches have different shapes")
    return x


where: Op = Op(
    "where",
    infer=_infer_where,
    reference=np.where,
    lowering=ScalarCode("scalar.select({0}, {1}, {2})"),
    vjp=lambda g, out, condition, x, y: (
        None,
        where(condition, g, filled(g, 0)),
        where(condition, filled(g, 0), g),
    ),
    samples=(Sample(((6,),) * 3, {}, (Domain(-1, 1), _any, _any), dtypes=(bool_, None, None)),),
    dtypes=ALL_DTYPES,
)


def routed(first_wins: Node, g: Node) -> tuple[Node, Node]:
    """The whole cotangent to one of two operands."""
    zero = filled(g, 0)
    return where(first_wins, g, zero), where(first_wins, zero, g)


# Not commutative on purpose: where both operands are equal, the first one gets the gradient.
maximum: Op = elementwise(
    "maximum",
    dtypes=ALL_DTYPES,
    reference=np.maximum,
    code="accumulate.maximum({0}, {1})",
    vjp=lambda g, out, x, y: routed(bitwise_or(x >= y, is_nan(x)), g),
    samples=(_any, Domain(-3, 3, also=(0.0, 0.0, 1.0, NAN, INF))),
    associative=True,
)
minimum: Op = elementwise(
    "minimum",
    dtypes=ALL_DTYPES,
    reference=np.minimum,
    code="accumulate.minimum({0}, {1})",
    vjp=lambda g, out, x, y: routed(bitwise_or(x <= y, is_nan(x)), g),
    samples=(_any, Domain(-3, 3, also=(0.0, 0.0, 1.0, NAN, INF))),
    associative=True,
)
relu: Op = elementwise(
    "relu",
    dtypes=NUMBERS,
    reference=lambda x: np.where(x <= 0, x.dtype.type(0), x),
    code="scalar.select({0} <= {type}(0), {type}(0), {0})",
    vjp=lambda g, out, x: (where(x <= 0, filled(g, 0), g),),
    samples=(Domain(-3, 3, also=SPECIAL),),
)


# What is left of signs and rounding has a slope.

absolute: Op = elementwise(
    "abs",
    dtypes=NUMBERS,
    reference=np.abs,
    code="abs({0})",
    vjp=lambda g, out, x: (g * sign(x),),
    samples=(Domain(-3, 3, also=SPECIAL),),
)
remainder: Op = elementwise(
    "remainder",
    dtypes=NUMBERS,
    reference=silent(np.remainder),
    code=by_kind("scalar.remainder({0}, {1})", "scalar.integer_remainder({0}, {1})"),
    vjp=lambda g, out, x, y: (g, -chain(g, floor_divide(x, y))),
    samples=(
        Domain(3.1, 3.9, also=(*SPECIAL, 1.0)),
        Domain(1.1, 1.4, also=(0.0, 1.0, INF, 2.0, 1.0)),
    ),
    cost=8,
)


def _power_vjp(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, Node]:
    zero = filled(g, 0)
    # At a base of 0 a root has an infinite slope; 0 is what makes the gradient of a norm finite there.
    root_of_zero = bitwise_and(equal(x, zero), bitwise_and(y > 0, y < 1))
    by_base = where(bitwise_or(equal(y, zero), root_of_zero), zero, y * power(x, y - 1))
    # The limit of x**y * log(x) at x = 0 is 0 for y > 0; below 0 the derivative is not real: nan.
    by_exponent = where(equal(x, zero), zero, out * log(x))
    return chain(g, by_base), chain(g, by_exponent)


power: Op = elementwise(
    "power",
    dtypes=NUMBERS,
    reference=silent(np.power),
    code=by_kind("np.power({0}, {1})", "scalar.integer_power({0}, {1})"),
    vjp=_power_vjp,
    samples=(
        Domain(0.5, 2, also=(0.0, -0.0, INF, -2.0, NAN)),
        Domain(0, 3, also=(2.0, 3.0, 1.0, 3.0, 0.0)),
    ),
    right_unit=always(1.0),
    cost=20,
)


# Between dtypes.


def _cast_code(node: Node) -> str:
    if node.dtype == bool_:
        return "{0} != 0"
    return f"np.{node.dtype.name}({{0}})"


def _cast_vjp(g: Node, out: Node, x: Node, *, dtype: Hashable) -> tuple[Node | None]:
    return (cast(g, dtype=x.dtype) if is_float(x.dtype) and is_float(g.dtype) else None,)


cast: Op = Op(
    "cast",
    infer=lambda x, *, dtype: x.with_dtype(dtype),
    reference=silent(lambda x, *, dtype: np.asarray(x).astype(dtype)),
    lowering=ScalarCode(_cast_code),
    vjp=_cast_vjp,
    samples=tuple(Sample(((5,),), {"dtype": dtype}, (Domain(-3, 3),)) for dtype in SHORT_NAMES),
    dtypes=ALL_DTYPES,
    cost=0,
)

stop_gradient: Op = elementwise(
    "stop_gradient",
    dtypes=ALL_DTYPES,
    reference=lambda x: x,
    code="{0}",
    vjp=NONDIFFERENTIABLE,
    samples=(_any,),
    cost=0,
)

held: Op = Op(
    "held",
    infer=lambda x: x,
    reference=lambda x: x,
    lowering=Leaf(),
    vjp=lambda g, out, x: (g,),
    samples=(),
    dtypes=ALL_DTYPES,
    cost=0,
)
"""A value whose gradient is asked for: no rule looks through it while the gradient is derived."""
