"""Elementwise ops that are piecewise constant: comparisons, logic, rounding, signs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphc.facts import NONDIFFERENTIABLE, Domain
from graphc.ir import Node, Op
from graphc.ops.families import (
    INF,
    NAN,
    SPECIAL,
    Unit,
    always,
    by_kind,
    elementwise,
    integers_only,
    no_unit,
    silent,
)
from graphc.types import ALL_DTYPES, BOOL, INTEGERS, NUMBERS, bool_


def _comparison(
    name: str, reference: Callable[..., Any], symbol: str, commutes: bool = False
) -> Op:
    return elementwise(
        name,
        dtypes=ALL_DTYPES,
        reference=reference,
        code=f"{{0}} {symbol} {{1}}",
        vjp=NONDIFFERENTIABLE,
        samples=(Domain(-2, 2, also=SPECIAL), Domain(-2, 2, also=(0.0, 0.0, INF, 1.0, NAN))),
        result=bool_,
        commutative=commutes,
    )


less: Op = _comparison("less", np.less, "<")
less_equal: Op = _comparison("less_equal", np.less_equal, "<=")
greater: Op = _comparison("greater", np.greater, ">")
greater_equal: Op = _comparison("greater_equal", np.greater_equal, ">=")
equal: Op = _comparison("equal", np.equal, "==", commutes=True)
not_equal: Op = _comparison("not_equal", np.not_equal, "!=", commutes=True)


def _logical(
    name: str, reference: Callable[..., Any], symbol: str, unit: Unit, absorbing: Unit
) -> Op:
    return elementwise(
        name,
        dtypes=BOOL + INTEGERS,
        reference=reference,
        code=f"{{0}} {symbol} {{1}}",
        vjp=NONDIFFERENTIABLE,
        samples=(Domain(-9, 9), Domain(-9, 9)),
        commutative=True,
        associative=True,
        unit=unit,
        absorbing=absorbing,
    )


bitwise_and: Op = _logical(
    "bitwise_and",
    np.bitwise_and,
    "&",
    unit=lambda dtype: True if dtype == bool_ else -1,
    absorbing=always(0),
)
bitwise_or: Op = _logical(
    "bitwise_or",
    np.bitwise_or,
    "|",
    unit=always(0),
    absorbing=lambda dtype: True if dtype == bool_ else -1,
)
bitwise_xor: Op = _logical("bitwise_xor", np.bitwise_xor, "^", unit=always(0), absorbing=no_unit)
invert: Op = elementwise(
    "invert",
    dtypes=BOOL + INTEGERS,
    reference=np.invert,
    code=lambda node: "not {0}" if node.dtype == bool_ else "~{0}",
    vjp=NONDIFFERENTIABLE,
    samples=(Domain(-9, 9),),
)


def _shift(name: str, reference: Callable[..., Any]) -> Op:
    return elementwise(
        name,
        dtypes=INTEGERS,
        reference=reference,
        code=lambda node: f"scalar.{name}({{0}}, {{1}}, {8 * node.dtype.itemsize})",
        vjp=NONDIFFERENTIABLE,
        samples=(Domain(-9, 9), Domain(0, 9, also=(0.0, 63.0, 64.0, -1.0, 31.0, 32.0))),
    )


left_shift: Op = _shift("left_shift", np.left_shift)
right_shift: Op = _shift("right_shift", np.right_shift)


def is_nan(x: Node) -> Node:
    """Where ``x`` is not equal to itself."""
    return not_equal(x, x)


# Signs and rounding.

sign: Op = elementwise(
    "sign",
    dtypes=NUMBERS,
    reference=np.sign,
    code=by_kind(
        "scalar.select({0} > {type}(0), {type}(1), "
        "scalar.select({0} < {type}(0), {type}(-1), scalar.select({0} == {type}(0), {type}(0), {0})))",
        "scalar.select({0} > {type}(0), {type}(1), scalar.select({0} < {type}(0), {type}(-1), {type}(0)))",
    ),
    vjp=NONDIFFERENTIABLE,
    samples=(Domain(-3, 3, also=SPECIAL),),
)
floor: Op = elementwise(
    "floor",
    dtypes=NUMBERS,
    reference=np.floor,
    code=by_kind("np.floor({0})", "{0}"),
    vjp=NONDIFFERENTIABLE,
    samples=(Domain(-3, 3, also=(*SPECIAL, 1e300, -0.5)),),
)
ceil: Op = elementwise(
    "ceil",
    dtypes=NUMBERS,
    reference=np.ceil,
    code=by_kind("np.ceil({0})", "{0}"),
    vjp=NONDIFFERENTIABLE,
    samples=(Domain(-3, 3, also=(*SPECIAL, 1e300, -0.5)),),
)
round_: Op = elementwise(
    "round",
    dtypes=NUMBERS,
    reference=np.round,
    code=by_kind("np.rint({0})", "{0}"),
    vjp=NONDIFFERENTIABLE,
    samples=(Domain(-3, 3, also=(*SPECIAL, 0.5, 1.5, 2.5, -0.5, 1e300)),),
)
floor_divide: Op = elementwise(
    "floor_divide",
    dtypes=NUMBERS,
    reference=silent(np.floor_divide),
    code=by_kind("{type}(scalar.floor_divide({0}, {1}))", "scalar.integer_floor_divide({0}, {1})"),
    vjp=NONDIFFERENTIABLE,
    samples=(Domain(-9, 9, also=(*SPECIAL, 1.0)), Domain(0.5, 3, also=(0.0, 1.0, INF, 2.0, 1.0))),
    right_unit=integers_only(1),
    cost=8,
)
