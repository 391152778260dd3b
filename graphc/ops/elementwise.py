"""Elementwise ops: one expression an element, all operands of one shape.

`elementwise` is the family constructor. Easy rules come first, the ones with special points last.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from graphc.errors import GraphTypeError
from graphc.ir import (
    NONDIFFERENTIABLE,
    Domain,
    Node,
    Op,
    Rejected,
    Sample,
    ScalarCode,
    Vjp,
    filled,
)
from graphc.types import (
    ALL_DTYPES,
    BOOL,
    FLOATS,
    INTEGERS,
    NUMBERS,
    SHORT_NAMES,
    DType,
    TensorType,
    bool_,
    is_float,
)

INF, NAN, TINY = float("inf"), float("nan"), 5e-324
SPECIAL = (0.0, -0.0, INF, -INF, NAN)

Unit = Callable[[DType], "float | None"]


def no_unit(dtype: DType) -> float | None:
    """For ops without a unit or absorbing element."""
    return None


def always(value: float) -> Unit:
    """The same unit for every dtype."""
    return lambda dtype: value


def integers_only(value: float) -> Unit:
    """A unit or absorbing element that floats lack because of nan, inf or -0.0."""
    return lambda dtype: None if is_float(dtype) else value


def elementwise(
    name: str,
    *,
    dtypes: tuple[DType, ...],
    reference: Callable[..., Any],
    code: str | Callable[[Node], str],
    vjp: Vjp,
    samples: tuple[Domain, ...],
    result: DType | None = None,
    commutative: bool = False,
    associative: bool = False,
    unit: Unit | None = None,
    right_unit: Unit = no_unit,
    absorbing: Unit | None = None,
    left_unit: Unit = no_unit,
    left_absorbing: Unit = no_unit,
    right_absorbing: Unit = no_unit,
    cost: int = 1,
) -> Op:
    """Declares an op on operands of one type, as many as there are ``samples``.

    ``result`` is the dtype of the result where it is not the operands'; ``unit`` and ``absorbing`` are
    two-sided.
    """
    arity = len(samples)

    def infer(*types: TensorType) -> TensorType:
        if len(types) != arity:
            raise Rejected(f"takes {arity} arguments, not {len(types)}", error=GraphTypeError)
        require_dtype(types[0].dtype, dtypes)
        require_one_type(types)
        return types[0].with_dtype(result or types[0].dtype)

    return Op(
        name,
        infer=infer,
        reference=reference,
        lowering=ScalarCode(code),
        vjp=vjp,
        samples=(Sample(((5,),) * arity, {}, samples),),
        dtypes=dtypes,
        commutative=commutative,
        associative=associative,
        left_unit=unit or left_unit,
        right_unit=unit or right_unit,
        left_absorbing=absorbing or left_absorbing,
        right_absorbing=absorbing or right_absorbing,
        cost=cost,
    )


def require_dtype(dtype: DType, accepted: tuple[DType, ...]) -> None:
    """Rejects a dtype that an op does not accept."""
    if dtype not in accepted:
        names = ", ".join(d.name for d in accepted)
        raise Rejected(
            f"does not accept {dtype.name}", detail=f"accepted: {names}", error=GraphTypeError
        )


def require_one_type(types: tuple[TensorType, ...]) -> None:
    """Rejects operands of different types: broadcasting and casts are nodes of their own."""
    for other in types[1:]:
        if other.dtype != types[0].dtype:
            raise Rejected("operands have different dtypes", error=GraphTypeError)
        if other.shape != types[0].shape:
            raise Rejected("operands have different shapes")


def _silent(function: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's function without its floating-point warnings; nan and inf are values here."""

    def quiet(*args: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return quiet


def _by_kind(floats: str, integers: str) -> Callable[[Node], str]:
    return lambda node: floats if is_float(node.dtype) else integers


# The chain rule's product, and fan-in.

chain: Op = elementwise(
    "chain",
    dtypes=FLOATS,
    reference=_silent(lambda g, local: np.where(g == 0, g.dtype.type(0), g * local)),
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
    reference=_silent(_sum_of),
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
add: Op = elementwise(
    "add",
    dtypes=NUMBERS,
    reference=_silent(np.add),
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
    reference=_silent(np.subtract),
    code="{0} - {1}",
    vjp=lambda g, out, x, y: (g, -g),
    samples=(_any, _any),
    right_unit=always(0.0),
)
multiply: Op = elementwise(
    "multiply",
    dtypes=NUMBERS,
    reference=_silent(np.multiply),
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
    reference=_silent(np.square),
    code="{0} * {0}",
    vjp=lambda g, out, x: (g * (2 * x),),
    samples=(_any,),
)
divide: Op = elementwise(
    "divide",
    dtypes=FLOATS,
    reference=_silent(np.divide),
    code="{0} / {1}",
    vjp=lambda g, out, x, y: (chain(g, 1 / y), -chain(g, out / y)),
    samples=(_any, Domain(0.5, 3, also=SPECIAL)),
    right_unit=always(1.0),
    cost=4,
)
reciprocal: Op = elementwise(
    "reciprocal",
    dtypes=FLOATS,
    reference=_silent(np.reciprocal),
    code="{type}(1) / {0}",
    vjp=lambda g, out, x: (-chain(g, out * out),),
    samples=(Domain(0.5, 3, also=SPECIAL),),
    cost=4,
)


# Exponentials, logarithms, trigonometry.

exp: Op = elementwise(
    "exp",
    dtypes=FLOATS,
    reference=_silent(np.exp),
    code="vmath.exp_{suffix}({0})",
    vjp=lambda g, out, x: (chain(g, out),),
    samples=(Domain(-3, 3, also=(*SPECIAL, 1000.0, -1000.0), smooth=(0.0,)),),
    cost=10,
)
expm1: Op = elementwise(
    "expm1",
    dtypes=FLOATS,
    reference=_silent(np.expm1),
    code="vmath.expm1_{suffix}({0})",
    vjp=lambda g, out, x: (chain(g, exp(x)),),
    samples=(Domain(-3, 3, also=(*SPECIAL, 1000.0, 1e-20), smooth=(0.0,)),),
    cost=10,
)
log: Op = elementwise(
    "log",
    dtypes=FLOATS,
    reference=_silent(np.log),
    code="vmath.log_{suffix}({0})",
    vjp=lambda g, out, x: (chain(g, 1 / x),),
    samples=(Domain(0.5, 3, also=(*SPECIAL, -1.0), smooth=(1.0,)),),
    cost=10,
)
log1p: Op = elementwise(
    "log1p",
    dtypes=FLOATS,
    reference=_silent(np.log1p),
    code="vmath.log1p_{suffix}({0})",
    vjp=lambda g, out, x: (chain(g, 1 / (1 + x)),),
    samples=(Domain(-0.5, 3, also=(*SPECIAL, -1.0, -2.0, 1e-20), smooth=(0.0,)),),
    cost=10,
)
sqrt: Op = elementwise(
    "sqrt",
    dtypes=FLOATS,
    reference=_silent(np.sqrt),
    code="np.sqrt({0})",
    # At 0 the slope is infinite; 0 is what makes the gradient of a norm at 0 finite.
    vjp=lambda g, out, x: (chain(g, where(equal(out, 0), filled(out, 0), 0.5 / out)),),
    samples=(Domain(0.5, 3, also=(*SPECIAL, -1.0)),),
    cost=4,
)
sin: Op = elementwise(
    "sin",
    dtypes=FLOATS,
    reference=_silent(np.sin),
    code="np.sin({0})",
    vjp=lambda g, out, x: (g * cos(x),),
    samples=(_any,),
    cost=15,
)
cos: Op = elementwise(
    "cos",
    dtypes=FLOATS,
    reference=_silent(np.cos),
    code="np.cos({0})",
    vjp=lambda g, out, x: (-(g * sin(x)),),
    samples=(_any,),
    cost=15,
)
tanh: Op = elementwise(
    "tanh",
    dtypes=FLOATS,
    reference=np.tanh,
    code="vmath.tanh_{suffix}({0})",
    vjp=lambda g, out, x: (g * (1 + out) * (1 - out),),
    samples=(_any,),
    cost=12,
)


def _sigmoid(x: Any) -> Any:
    # Both branches only ever exponentiate a number that is not positive.
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype)


sigmoid: Op = elementwise(
    "sigmoid",
    dtypes=FLOATS,
    reference=_silent(_sigmoid),
    code="vmath.sigmoid_{suffix}({0})",
    vjp=lambda g, out, x: (g * out * (1 - out),),
    samples=(Domain(-3, 3, also=(*SPECIAL, 1000.0, -1000.0), smooth=(0.0,)),),
    cost=12,
)
softplus: Op = elementwise(
    "softplus",
    dtypes=FLOATS,
    reference=_silent(lambda x: np.logaddexp(x, x.dtype.type(0))),
    code="vmath.softplus_{suffix}({0})",
    vjp=lambda g, out, x: (g * sigmoid(x),),
    samples=(Domain(-3, 3, also=(*SPECIAL, 1000.0, -1000.0), smooth=(0.0,)),),
    cost=20,
)


# Comparisons and logic.


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


def _is_nan(x: Node) -> Node:
    return not_equal(x, x)


# Not commutative on purpose: where both operands are equal, the first one gets the gradient.
maximum: Op = elementwise(
    "maximum",
    dtypes=ALL_DTYPES,
    reference=np.maximum,
    code="accumulate.maximum({0}, {1})",
    vjp=lambda g, out, x, y: routed(bitwise_or(x >= y, _is_nan(x)), g),
    samples=(_any, Domain(-3, 3, also=(0.0, 0.0, 1.0, NAN, INF))),
    associative=True,
)
minimum: Op = elementwise(
    "minimum",
    dtypes=ALL_DTYPES,
    reference=np.minimum,
    code="accumulate.minimum({0}, {1})",
    vjp=lambda g, out, x, y: routed(bitwise_or(x <= y, _is_nan(x)), g),
    samples=(_any, Domain(-3, 3, also=(0.0, 0.0, 1.0, NAN, INF))),
    associative=True,
)
relu: Op = elementwise(
    "relu",
    dtypes=NUMBERS,
    reference=lambda x: np.maximum(x, x.dtype.type(0)),
    code="scalar.select({0} <= {type}(0), {type}(0), {0})",
    vjp=lambda g, out, x: (where(x > 0, g, filled(g, 0)),),
    samples=(Domain(-3, 3, also=SPECIAL),),
)


# Rounding and signs.

absolute: Op = elementwise(
    "abs",
    dtypes=NUMBERS,
    reference=np.abs,
    code="abs({0})",
    vjp=lambda g, out, x: (g * sign(x),),
    samples=(Domain(-3, 3, also=SPECIAL),),
)
sign: Op = elementwise(
    "sign",
    dtypes=NUMBERS,
    reference=np.sign,
    code=_by_kind(
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
    code=_by_kind("np.floor({0})", "{0}"),
    vjp=NONDIFFERENTIABLE,
    samples=(Domain(-3, 3, also=(*SPECIAL, 1e300, -0.5)),),
)
ceil: Op = elementwise(
    "ceil",
    dtypes=NUMBERS,
    reference=np.ceil,
    code=_by_kind("np.ceil({0})", "{0}"),
    vjp=NONDIFFERENTIABLE,
    samples=(Domain(-3, 3, also=(*SPECIAL, 1e300, -0.5)),),
)
round_: Op = elementwise(
    "round",
    dtypes=NUMBERS,
    reference=np.round,
    code=_by_kind("np.rint({0})", "{0}"),
    vjp=NONDIFFERENTIABLE,
    samples=(Domain(-3, 3, also=(*SPECIAL, 0.5, 1.5, 2.5, -0.5, 1e300)),),
)
floor_divide: Op = elementwise(
    "floor_divide",
    dtypes=NUMBERS,
    reference=_silent(np.floor_divide),
    code=_by_kind("{type}(scalar.floor_divide({0}, {1}))", "scalar.integer_floor_divide({0}, {1})"),
    vjp=NONDIFFERENTIABLE,
    samples=(Domain(-9, 9, also=(*SPECIAL, 1.0)), Domain(0.5, 3, also=(0.0, 1.0, INF, 2.0, 1.0))),
    right_unit=integers_only(1),
    cost=8,
)
remainder: Op = elementwise(
    "remainder",
    dtypes=NUMBERS,
    reference=_silent(np.remainder),
    code=_by_kind("scalar.remainder({0}, {1})", "scalar.integer_remainder({0}, {1})"),
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
    reference=_silent(np.power),
    code=_by_kind("np.power({0}, {1})", "scalar.integer_power({0}, {1})"),
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
    reference=_silent(lambda x, *, dtype: np.asarray(x).astype(dtype)),
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
