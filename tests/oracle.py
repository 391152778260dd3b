"""The true values of a graph: every op in multi-precision arithmetic, and distances from them in ulps.

Rounding errors of floats are measured against these values, so nothing here is computed in floats: an
element of a float dtype is an mpmath number. Only -0.0, which mpmath lacks, stays a Python float.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import numpy as np
from mpmath import mp, mpf

from graphc.facts import ReadCode, ViewCode
from graphc.ir import CONSTANT, SIZE, Graph, Node, bind_attribute
from graphc.ops import reduce
from graphc.rewrite.lower import expand
from graphc.types import bind_sizes, evaluate_size, is_float

Number = Any  # an mpf, or the float -0.0
ZERO, ONE, INF, NAN = mpf(0), mpf(1), mpf("inf"), mpf("nan")
FAR, BEYOND_SQUARES = 2**500, 2**2050


def _is_negative(x: Number) -> bool:
    return math.copysign(1.0, x) < 0


def _number(value: Number) -> Number:
    return -0.0 if value == 0 and _is_negative(value) else mp.convert(value)


def numbers(values: Any) -> np.ndarray:
    """An object array with every element converted exactly."""
    return np.asarray(np.frompyfunc(_number, 1, 1)(np.asarray(values, object)), object)


# Arithmetic keeps the sign of a zero, because 1 / -0.0 is not 1 / 0.0.


def _signed(size: Number, negative: bool) -> Number:
    return size if not negative else -size if size != 0 else -0.0


def _negative(x: Number) -> Number:
    return -x if x != 0 else _signed(ZERO, not _is_negative(x))


def _multiply(x: Number, y: Number) -> Number:
    product = x * y
    return product if product != 0 else _signed(ZERO, _is_negative(x) != _is_negative(y))


def _divide(x: Number, y: Number) -> Number:
    opposite = _is_negative(x) != _is_negative(y)
    if y == 0:
        return _signed(NAN if x == 0 or mp.isnan(x) else INF, opposite)
    quotient = x / y
    return quotient if quotient != 0 else _signed(ZERO, opposite)


def _floor_divide(x: Number, y: Number) -> Number:
    if y == 0:
        return _divide(x, y)
    if mp.isinf(x) or mp.isnan(x):
        return NAN
    # The quotient by an infinity is next to 0, on one side or the other.
    return mp.floor(x / y) if not mp.isinf(y) else mpf(-1 if x * y < 0 else 0)


def _remainder(x: Number, y: Number) -> Number:
    if y == 0 or mp.isinf(x):
        return NAN
    if mp.isinf(y):
        return y if x * y < 0 else x
    return x - mp.floor(x / y) * y


def _power(x: Number, y: Number) -> Number:
    if y == 0 or x == 1:
        return ONE
    if mp.isnan(x) or mp.isnan(y):
        return NAN
    return _power_at_an_edge(x, y) if x == 0 or mp.isinf(x) or mp.isinf(y) else x**y


def _power_at_an_edge(x: Number, y: Number) -> Number:
    """IEEE's pow where the base is 0 or infinite, or the exponent is infinite."""
    if abs(x) == 1:
        return ONE
    size = INF if (abs(x) > 1) == (y > 0) else ZERO
    is_odd = not mp.isinf(y) and y % 2 == 1
    return _signed(size, is_odd and _is_negative(x))


def _through_zero(function: Callable[[Number], Number]) -> Callable[[Number], Number]:
    """A function that maps 0 to 0, and so -0.0 to -0.0."""
    return lambda x: x if x == 0 else function(x)


def _saturating(function: Callable[[Number], Number]) -> Callable[[Number], Number]:
    """A function that is at its limit for infinity where the exponent of a result would fill the memory."""
    return lambda x: function(x * INF if abs(x) > BEYOND_SQUARES else x)


_exp, _expm1, _tanh = map(_saturating, (mp.exp, mp.expm1, mp.tanh))


def _erfcx(x: Number) -> Number:
    # The first term of the asymptotic series; the next one is smaller by 2 * x**2.
    return 1 / (x * mp.sqrt(mp.pi)) if x > FAR else _exp(x * x) * mp.erfc(x)


def _maximum(x: Number, y: Number) -> Number:
    return x if x >= y or mp.isnan(x) else y


def _minimum(x: Number, y: Number) -> Number:
    return x if x <= y or mp.isnan(x) else y


FUNCTIONS: dict[str, Callable[..., Number]] = {
    "add": operator.add,
    "subtract": lambda x, y: x + _negative(y),
    "multiply": _multiply,
    "divide": _divide,
    "negative": _negative,
    "square": lambda x: x * x,
    "reciprocal": lambda x: _divide(ONE, x),
    "power": _power,
    "remainder": _remainder,
    "floor_divide": _floor_divide,
    "chain": lambda g, local: ZERO if g == 0 else _multiply(g, local),
    "sqrt": _through_zero(mp.sqrt),
    "exp": _exp,
    "expm1": _through_zero(_expm1),
    "log": mp.log,
    "log1p": _through_zero(mp.log1p),
    "sin": _through_zero(mp.sin),
    "cos": mp.cos,
    "tanh": _through_zero(_tanh),
    "tanh_slope": lambda y: _multiply(1 + y, 1 - y),
    "sigmoid": lambda x: 1 / (1 + _exp(-x)),
    "sigmoid_slope": lambda y: _multiply(y, 1 - y),
    "softplus": lambda x: mp.log1p(_exp(x)),
    "erf": _through_zero(mp.erf),
    "erfc": lambda x: _exp(-x * x) * _erfcx(x) if x > FAR else mp.erfc(x),
    "erfcx": _erfcx,
    "log_erfc": lambda x: mp.log(_erfcx(x)) - x * x if x > 0 else mp.log(mp.erfc(x)),
    "copy": lambda x: x,
    "rounded": lambda x: x,
    "stop_gradient": lambda x: x,
    "abs": abs,
    "sign": _through_zero(mp.sign),
    "floor": _through_zero(mp.floor),
    "ceil": lambda x: _signed(abs(mp.ceil(x)), _is_negative(x)),
    "round": lambda x: _signed(abs(mp.nint(x)), _is_negative(x)),
    "maximum": _maximum,
    "minimum": _minimum,
    "relu": lambda x: _maximum(x, ZERO),
    "elu": lambda x, alpha: x if x > 0 else _multiply(alpha, _expm1(x)),
}
REDUCTIONS: dict[str, tuple[Callable[..., Number], Number]] = {
    "sum": (operator.add, ZERO),
    "prod": (_multiply, ONE),
    "max": (_maximum, -INF),
    "min": (_minimum, INF),
    "max_or_lowest": (_maximum, -INF),
}
# NumPy chooses, compares, adds and multiplies objects as it does floats.
REUSED = {
    *("where", "accumulate", "matmul", "scatter_add", "product_of_others", "stop_gradient"),
    "transpose_copy",
    *("less", "less_equal", "greater", "greater_equal", "equal", "not_equal"),
}


def _real(function: Callable[..., Number]) -> Callable[..., Number]:
    """``function`` with nan where its value is not real."""

    def apply(*args: Number) -> Number:
        value = function(*args)
        return NAN if isinstance(value, mpmath.mpc) else value

    return apply


def _cast(node: Node, x: np.ndarray, *, dtype: np.dtype) -> Any:
    if is_float(dtype) or dtype == np.bool_:
        return x if is_float(dtype) else np.not_equal(x, 0)
    return node.op.reference(x.astype(node.args[0].dtype), dtype=dtype)


def _first_extreme(node: Node, x: np.ndarray, *, axes: tuple[int, ...]) -> Any:
    nan = np.asarray(np.not_equal(x, x))
    first = reduce.argmax.reference(nan, axes=axes)
    return np.where(nan.any(axes), first, node.op.reference(x, axes=axes))


def _reduce(node: Node, x: np.ndarray, *, axes: tuple[int, ...]) -> Any:
    step, start = REDUCTIONS[node.op.name]
    return np.frompyfunc(step, 2, 1, identity=start).reduce(x, axis=axes)


def _sum_by_columns(node: Node, x: np.ndarray, *, axes: tuple[int, ...]) -> Any:
    step, start = REDUCTIONS["sum"]
    return np.swapaxes(np.frompyfunc(step, 2, 1, identity=start).reduce(x, axis=axes), -1, -2)


ARRAY_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "cast": _cast,
    "argmax": _first_extreme,
    "argmin": _first_extreme,
    "sum_by_columns": _sum_by_columns,
    **dict.fromkeys(REDUCTIONS, _reduce),
}


def _computed(node: Node, args: Sequence[np.ndarray], attrs: dict[str, Any]) -> Any:
    op = node.op
    has_floats = any(is_float(value.dtype) for value in (node, *node.args))
    if not has_floats or op.name in REUSED or isinstance(op.lowering, ReadCode | ViewCode):
        return op.reference(*args, **attrs)
    if op.name in ARRAY_FUNCTIONS:
        return ARRAY_FUNCTIONS[op.name](node, *args, **attrs)
    if op.name not in FUNCTIONS:
        raise NotImplementedError(f"the oracle does not know {op.name}")
    # An attribute is a constant of the operands' dtype.
    constants = [numbers(node.dtype.type(value)) for value in attrs.values()]
    function = np.frompyfunc(_real(FUNCTIONS[op.name]), len(args) + len(constants), 1)
    return function(*args, *constants)


def _evaluate(node: Node, args: Sequence[np.ndarray], sizes: dict[str, int]) -> Any:
    if node.op is CONSTANT:
        return node.attrs["value"].array
    if node.op is SIZE:
        return evaluate_size(node.attrs["size"], sizes)
    attrs = {name: bind_attribute(value, sizes) for name, value in node.attrs.items()}
    return _computed(node, args, attrs)


def _typed(node: Node, value: Any) -> np.ndarray:
    return numbers(value) if is_float(node.dtype) else np.asarray(value, node.dtype)


def exact_values(graph: Graph, arrays: Sequence[np.ndarray], bits: int = 3200) -> list[np.ndarray]:
    """The outputs of ``graph`` for one array an input: object arrays of mpmath numbers for floats.

    Bool and integer outputs are arrays of their dtype. Nothing is rounded to a float, by casts neither; each
    operation rounds to ``bits`` bits. The default leaves 300 bits of 1 - tanh(1000)**2, about 2**-2883.
    nan, inf and the signs of zeros mean what they mean in IEEE 754; a result has 0 for both zeros.

    Raises `NotImplementedError` for an op of floats that is not known here.

    >>> import graphc as gx
    >>> x = gx.input("x", ())
    >>> graph = Graph("g", (x.node,), (gx.log(1 + x).node,))
    >>> print(mpmath.nstr(exact_values(graph, [np.array(1e-20)])[0][()], 15))
    1.0e-20
    """
    sizes = bind_sizes(graph.input_types(), [np.shape(array) for array in arrays])
    expanded = expand(graph)
    with mpmath.workprec(bits), np.errstate(all="ignore"):
        values = {node: _typed(node, a) for node, a in zip(graph.inputs, arrays, strict=True)}
        for node in expanded.nodes():
            if node not in values:
                args = [values[arg] for arg in node.args]
                values[node] = _typed(node, _evaluate(node, args, sizes))
        outputs = [values[output] for output in expanded.outputs]
        # Adding 0 makes an mpf of -0.0.
        return [np.asarray(v + ZERO, object) if v.dtype == object else v for v in outputs]


def _distance(found: mpf, exact: mpf, info: np.finfo) -> float:
    digits = info.nmant + 1
    with mpmath.workprec(digits):
        nearest = +exact
    if mp.isnan(found) or mp.isnan(exact):
        return 0.0 if mp.isnan(found) and mp.isnan(exact) else math.inf
    if mp.isinf(found):
        overflows = abs(nearest) >= mpf(2) ** int(info.maxexp)
        return 0.0 if overflows and (found > 0) == (exact > 0) else math.inf
    if mp.isinf(exact):
        return math.inf
    exponent = mp.frexp(nearest)[1] if nearest else info.minexp
    exponent = min(max(exponent, int(info.minexp) + 1), int(info.maxexp))
    return float(abs(found - exact) / mpf(2) ** (exponent - digits))


def ulps(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """How far each element of a float array is from the true value: a float64 array of that shape.

    ``exact`` are mpmath numbers, as of `exact_values`. The unit is the last place of the float of ``found``'s
    dtype that is nearest to the true value, or of the largest float where the true value is beyond it. The
    distance is 0 between two nans, and for the infinity to which a true value overflows. It is inf where just
    one of the two is nan, or where an infinity should be a number or the other infinity, or the reverse.

    Raises `ValueError` for different shapes.

    >>> [float(d) for d in ulps(np.array([1.0, 1.5, np.inf]), np.array([mpf(1), mpf(1), mpf(1)]))]
    [0.0, 2251799813685248.0, inf]
    """
    if found.shape != exact.shape:
        raise ValueError(f"shapes differ: {found.shape} and {exact.shape}")
    info = np.finfo(found.dtype)
    distance = np.frompyfunc(lambda x, y: _distance(mp.convert(x), mp.convert(y), info), 2, 1)
    with np.errstate(all="ignore"):
        return np.asarray(distance(found.astype(object), exact), np.float64)
