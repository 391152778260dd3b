"""Functions that work element by element."""

from __future__ import annotations

from collections.abc import Callable

from graphc import types
from graphc.dsl.lifting import aligned, broadcast_shape, cast, common_dtype, lift, node_of
from graphc.dsl.tensor import FUNCTIONS, Tensor, TensorLike, fail, public
from graphc.ir import Op, broadcast
from graphc.ops import discrete
from graphc.ops import elementwise as ew
from graphc.types import as_dtype, is_float


def _function(op: Op, *, inexact: bool = False, name: str | None = None) -> Callable[..., Tensor]:
    """The user's function of an elementwise op."""
    name = name or op.name

    def function(*operands: TensorLike) -> Tensor:
        return Tensor(op(*aligned(op.name, operands, inexact=inexact)))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""``numpy.{name}`` elementwise: operands are promoted and broadcast.

    {"Integers and bools become float64 first. " if inexact else ""}Raises `GraphTypeError` for a dtype
    that the op lacks and `GraphValueError` when shapes do not broadcast.
    """
    return public(function)


add = _function(ew.add)
subtract = _function(ew.subtract)
multiply = _function(ew.multiply)
divide = _function(ew.divide, inexact=True)
floor_divide = _function(discrete.floor_divide)
remainder = _function(ew.remainder)
negative = _function(ew.negative)
square = _function(ew.square)
reciprocal = _function(ew.reciprocal, inexact=True)
sqrt = _function(ew.sqrt, inexact=True)
exp = _function(ew.exp, inexact=True)
expm1 = _function(ew.expm1, inexact=True)
log = _function(ew.log, inexact=True)
log1p = _function(ew.log1p, inexact=True)
sin = _function(ew.sin, inexact=True)
cos = _function(ew.cos, inexact=True)
tanh = _function(ew.tanh, inexact=True)
absolute = _function(ew.absolute, name="absolute")
sign = _function(discrete.sign)
floor = _function(discrete.floor)
ceil = _function(discrete.ceil)
maximum = _function(ew.maximum)
minimum = _function(ew.minimum)
less = _function(discrete.less)
less_equal = _function(discrete.less_equal)
greater = _function(discrete.greater)
greater_equal = _function(discrete.greater_equal)
equal = _function(discrete.equal)
not_equal = _function(discrete.not_equal)
bitwise_and = _function(discrete.bitwise_and)
bitwise_or = _function(discrete.bitwise_or)
bitwise_xor = _function(discrete.bitwise_xor)
invert = _function(discrete.invert)
left_shift = _function(discrete.left_shift)
right_shift = _function(discrete.right_shift)


@public
def stop_gradient(x: TensorLike) -> Tensor:
    """``x`` itself, through which no gradient flows.

    >>> import graphc as gx
    >>> x = gx.input("x")
    >>> gx.evaluate(gx.grad(x * gx.stop_gradient(x), x), {x: 3.0})
    array(3.)
    """
    return Tensor(ew.stop_gradient(lift(x)))


@public
def power(x: TensorLike, y: TensorLike) -> Tensor:
    """``numpy.power``; a negative Python integer as exponent of an integer tensor is an error."""
    if type(y) is int and y < 0 and common_dtype("power", [x]).kind == "i":
        raise fail("power", "integers to negative integer powers are not allowed", lift(x, "power"))
    return Tensor(ew.power(*aligned("power", (x, y))))


@public
def round_(x: TensorLike, decimals: int = 0) -> Tensor:
    """``numpy.round``: to the nearest, halves to even; ``decimals`` as NumPy's."""
    node = lift(x, "round")
    if decimals == 0:
        return Tensor(discrete.round_(node))
    if not is_float(node.dtype):
        return (
            Tensor(node)
            if decimals > 0
            else astype(round_(astype(x, types.float64), decimals), node.dtype)
        )
    scale = 10.0 ** abs(decimals)
    if decimals > 0:
        return round_(multiply(x, scale)) / scale
    return round_(divide(x, scale)) * scale


@public
def where(condition: TensorLike, x: TensorLike, y: TensorLike) -> Tensor:
    """``numpy.where`` with three arguments: ``x`` where ``condition`` holds, else ``y``."""
    chosen = lift(condition, "where")
    if chosen.dtype != types.bool_:
        chosen = discrete.not_equal(chosen, 0)
    dtype = common_dtype("where", (x, y))
    nodes = [chosen, node_of("where", x, dtype), node_of("where", y, dtype)]
    shape = broadcast_shape("where", nodes)
    return Tensor(ew.where(*(broadcast(node, shape) for node in nodes)))


@public
def clip(x: TensorLike, min: TensorLike = None, max: TensorLike = None) -> Tensor:
    """``numpy.clip``: ``x`` held between ``min`` and ``max``, either of which may be None."""
    result = Tensor(lift(x, "clip"))
    result = result if min is None else maximum(result, min)
    return result if max is None else minimum(result, max)


def as_bool(op: str, value: TensorLike) -> Tensor:
    """``value`` as booleans: numbers count as true when they are not 0."""
    node = lift(value, op)
    return Tensor(node if node.dtype == types.bool_ else discrete.not_equal(node, 0))


@public
def logical_and(x: TensorLike, y: TensorLike) -> Tensor:
    """``numpy.logical_and``: numbers count as true when they are not 0."""
    return bitwise_and(as_bool("logical_and", x), as_bool("logical_and", y))


@public
def logical_or(x: TensorLike, y: TensorLike) -> Tensor:
    """``numpy.logical_or``: numbers count as true when they are not 0."""
    return bitwise_or(as_bool("logical_or", x), as_bool("logical_or", y))


@public
def logical_xor(x: TensorLike, y: TensorLike) -> Tensor:
    """``numpy.logical_xor``: numbers count as true when they are not 0."""
    return bitwise_xor(as_bool("logical_xor", x), as_bool("logical_xor", y))


@public
def logical_not(x: TensorLike) -> Tensor:
    """``numpy.logical_not``: numbers count as true when they are not 0."""
    return invert(as_bool("logical_not", x))


@public
def isnan(x: TensorLike) -> Tensor:
    """``numpy.isnan``."""
    return not_equal(x, x)


@public
def astype(x: TensorLike, dtype: object) -> Tensor:
    """``x`` converted to ``dtype``; gradients flow between floats only."""
    node, wanted = lift(x, "astype"), as_dtype(dtype)
    return Tensor(cast(node, wanted))


FUNCTIONS["rint"] = round_
FUNCTIONS["abs"] = absolute
