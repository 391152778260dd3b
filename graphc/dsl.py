"""The language in which a user declares a graph: `Tensor`, and functions with NumPy's names.

Everything here is about convenience: Python values are lifted to nodes, dtypes promoted by NEP 50, shapes
broadcast, and each becomes an explicit node, so that the ops below stay strict.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from graphc import types
from graphc.errors import GraphTypeError, GraphValueError, GraphcError, compose
from graphc.indexing import basic_index
from graphc.ir import (
    NOTES,
    Node,
    Op,
    broadcast,
    caller_location,
    constant_node,
    filled_type,
    input_node,
    size_node,
)
from graphc.ops import elementwise as ew
from graphc.ops import linalg, reduce, shape as shapes
from graphc.types import Dimension, DType, Shape, Size, TensorType, as_dtype, is_float, promote

TensorLike: TypeAlias = "Tensor | Size | Any"
AxisLike: TypeAlias = "int | Sequence[int] | None"


def fail(
    op: str,
    problem: str,
    *nodes: Node,
    error: type[GraphcError] = GraphValueError,
    detail: str = "",
    fix: str = "",
) -> GraphcError:
    """An error at the user's line, with the types of the arguments."""
    return error(
        compose(
            op,
            problem,
            arguments=[node.type for node in nodes],
            detail=detail,
            location=str(caller_location() or ""),
            fix=fix,
        )
    )


class Tensor:
    """A value of the graph, before there is any number in it.

    Tensors are made by `input`, `constant`, and by operators and functions on other tensors. They mix
    freely with Python numbers (which take the tensor's dtype) and NumPy arrays (which keep their own).

    >>> import graphc as gx
    >>> x = gx.input("x", ("N", 3), gx.float32)
    >>> (2 * x + np.ones(3, np.float32)).sum(axis=0)
    <Tensor f32[3]>
    """

    __slots__ = ("__weakref__", "node")
    __array_priority__ = 1000

    def __init__(self, node: Node) -> None:
        self.node = node

    # -- what it is

    @property
    def dtype(self) -> DType:
        """The NumPy dtype of the elements."""
        return self.node.dtype

    @property
    def shape(self) -> Shape:
        """The sizes of the axes: ints, or `Size` where the size has a name."""
        return self.node.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.node.shape)

    @property
    def size(self) -> Dimension:
        """The number of elements: an int, or a `Size`."""
        return types.product(self.node.shape)

    @property
    def T(self) -> Tensor:
        """All axes reversed, as NumPy's ``.T``."""
        return transpose(self)

    @property
    def mT(self) -> Tensor:
        """The last two axes swapped, as the Array API's ``.mT``."""
        return matrix_transpose(self)

    def __repr__(self) -> str:
        name = NOTES.names.get(self.node)
        return f"<Tensor {name + ': ' if name else ''}{self.node.type}>"

    def __hash__(self) -> int:
        return hash(self.node)

    # -- what it is not: a number

    def _has_no_value(self, use: str) -> GraphcError:
        return fail(
            "Tensor",
            f"{use}: it has no value before the graph is compiled and called",
            self.node,
            error=GraphTypeError,
            fix="gx.where chooses between tensors; gx.evaluate computes a value at once",
        )

    def __bool__(self) -> bool:
        raise self._has_no_value("has no truth value")

    def __float__(self) -> float:
        raise self._has_no_value("cannot become a float")

    def __int__(self) -> int:
        raise self._has_no_value("cannot become an int")

    def __array__(self, *args: object, **kwargs: object) -> None:
        raise self._has_no_value("cannot become an array")

    # -- NumPy's functions and operators on tensors make tensors

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        function = NUMPY_FUNCTIONS.get(ufunc.__name__)
        if function is None or method != "__call__" or kwargs:
            return NotImplemented
        return function(*inputs)

    def __array_function__(self, func: Any, _: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        function = NUMPY_FUNCTIONS.get(func.__name__)
        return NotImplemented if function is None else function(*args, **kwargs)

    # -- indexing

    def __len__(self) -> int:
        if self.ndim == 0 or not isinstance(self.shape[0], int):
            problem = "a 0-d tensor has no length" if self.ndim == 0 else "has a named size"
            raise fail("len", problem, self.node, error=GraphTypeError, fix="use x.shape[0]")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Tensor:
        if isinstance(key, Tensor | np.ndarray | list):
            return take(self, key, axis=0)
        return Tensor(basic_index(self.node, key))

    # -- operators

    def __add__(self, other: TensorLike) -> Tensor:
        return add(self, other)

    def __radd__(self, other: TensorLike) -> Tensor:
        return add(other, self)

    def __sub__(self, other: TensorLike) -> Tensor:
        return subtract(self, other)

    def __rsub__(self, other: TensorLike) -> Tensor:
        return subtract(other, self)

    def __mul__(self, other: TensorLike) -> Tensor:
        return multiply(self, other)

    def __rmul__(self, other: TensorLike) -> Tensor:
        return multiply(other, self)

    def __truediv__(self, other: TensorLike) -> Tensor:
        return divide(self, other)

    def __rtruediv__(self, other: TensorLike) -> Tensor:
        return divide(other, self)

    def __floordiv__(self, other: TensorLike) -> Tensor:
        return floor_divide(self, other)

    def __rfloordiv__(self, other: TensorLike) -> Tensor:
        return floor_divide(other, self)

    def __mod__(self, other: TensorLike) -> Tensor:
        return remainder(self, other)

    def __rmod__(self, other: TensorLike) -> Tensor:
        return remainder(other, self)

    def __divmod__(self, other: TensorLike) -> tuple[Tensor, Tensor]:
        return floor_divide(self, other), remainder(self, other)

    def __rdivmod__(self, other: TensorLike) -> tuple[Tensor, Tensor]:
        return floor_divide(other, self), remainder(other, self)

    def __pow__(self, other: TensorLike) -> Tensor:
        return power(self, other)

    def __rpow__(self, other: TensorLike) -> Tensor:
        return power(other, self)

    def __matmul__(self, other: TensorLike) -> Tensor:
        return matmul(self, other)

    def __rmatmul__(self, other: TensorLike) -> Tensor:
        return matmul(other, self)

    def __and__(self, other: TensorLike) -> Tensor:
        return bitwise_and(self, other)

    def __or__(self, other: TensorLike) -> Tensor:
        return bitwise_or(self, other)

    def __xor__(self, other: TensorLike) -> Tensor:
        return bitwise_xor(self, other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __lshift__(self, other: TensorLike) -> Tensor:
        return left_shift(self, other)

    def __rlshift__(self, other: TensorLike) -> Tensor:
        return left_shift(other, self)

    def __rshift__(self, other: TensorLike) -> Tensor:
        return right_shift(self, other)

    def __rrshift__(self, other: TensorLike) -> Tensor:
        return right_shift(other, self)

    def __neg__(self) -> Tensor:
        return negative(self)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return absolute(self)

    def __invert__(self) -> Tensor:
        return invert(self)

    def __round__(self, decimals: int = 0) -> Tensor:
        return round_(self, decimals)

    def __lt__(self, other: TensorLike) -> Tensor:
        return less(self, other)

    def __le__(self, other: TensorLike) -> Tensor:
        return less_equal(self, other)

    def __gt__(self, other: TensorLike) -> Tensor:
        return greater(self, other)

    def __ge__(self, other: TensorLike) -> Tensor:
        return greater_equal(self, other)

    def __eq__(self, other: TensorLike) -> Tensor:  # type: ignore[override]
        return equal(self, other)

    def __ne__(self, other: TensorLike) -> Tensor:  # type: ignore[override]
        return not_equal(self, other)

    # -- methods, as ndarray's

    def sum(self, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
        """See `graphc.sum`."""
        return sum_(self, axis, keepdims=keepdims)

    def mean(self, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
        """See `graphc.mean`."""
        return mean(self, axis, keepdims=keepdims)

    def prod(self, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
        """See `graphc.prod`."""
        return prod(self, axis, keepdims=keepdims)

    def max(self, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
        """See `graphc.max`."""
        return max_(self, axis, keepdims=keepdims)

    def min(self, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
        """See `graphc.min`."""
        return min_(self, axis, keepdims=keepdims)

    def all(self, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
        """See `graphc.all`."""
        return all_(self, axis, keepdims=keepdims)

    def any(self, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
        """See `graphc.any`."""
        return any_(self, axis, keepdims=keepdims)

    def argmax(self, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
        """See `graphc.argmax`."""
        return argmax(self, axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
        """See `graphc.argmin`."""
        return argmin(self, axis, keepdims=keepdims)

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements under another shape, given as one tuple or as several sizes."""
        return reshape(self, shape[0] if len(shape) == 1 else shape)

    def ravel(self) -> Tensor:
        """The elements as one axis."""
        return reshape(self, -1)

    def flatten(self) -> Tensor:
        """The elements as one axis."""
        return reshape(self, -1)

    def transpose(self, *axes: Any) -> Tensor:
        """See `graphc.transpose`; axes as one tuple, as several ints, or none to reverse them."""
        given = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return transpose(self, given)

    def squeeze(self, axis: AxisLike = None) -> Tensor:
        """See `graphc.squeeze`."""
        return squeeze(self, axis)

    def astype(self, dtype: object) -> Tensor:
        """See `graphc.astype`."""
        return astype(self, dtype)

    def dot(self, other: TensorLike) -> Tensor:
        """See `graphc.dot`."""
        return dot(self, other)

    def take(self, indices: TensorLike, axis: int | None = None) -> Tensor:
        """See `graphc.take`."""
        return take(self, indices, axis)

    def clip(self, min: TensorLike = None, max: TensorLike = None) -> Tensor:
        """See `graphc.clip`."""
        return clip(self, min, max)

    def round(self, decimals: int = 0) -> Tensor:
        """See `graphc.round`."""
        return round_(self, decimals)


# ---- declaring ------------------------------------------------------------------------------------------


def require_identifier(what: str, name: object) -> str:
    """``name`` if it is a plain identifier; raises `GraphValueError` so that a name never becomes code."""
    if not isinstance(name, str):
        raise GraphTypeError(compose(what, f"the name {name!r} is not a string"))
    if not name.isidentifier() or keyword.iskeyword(name):
        reason = "is a Python keyword" if keyword.iskeyword(name) else "is not an identifier"
        raise GraphValueError(
            compose(what, f"the name {name!r} {reason}", location=str(caller_location() or ""))
        )
    return name


def as_shape(what: str, shape: Any) -> Shape:
    """A declared shape: an int, a name or a `Size`, or a sequence of them."""
    items = (shape,) if isinstance(shape, int | str | Size | np.integer) else tuple(shape)
    return tuple(_as_dimension(what, item) for item in items)


def _as_dimension(what: str, item: Any) -> Dimension:
    if isinstance(item, Size):
        return item
    if isinstance(item, str):
        return Size.named(require_identifier(f"{what}: size", item))
    if isinstance(item, int | np.integer) and not isinstance(item, bool) and item >= 0:
        return int(item)
    raise GraphValueError(
        compose(
            what,
            f"{item!r} is not a size",
            location=str(caller_location() or ""),
            fix="a size is a non-negative int or a name",
        )
    )


def input(name: str, shape: Any = (), dtype: object = types.float64) -> Tensor:
    """Declares an input of the graph.

    ``shape`` is a tuple of ints and names; a name is a size that is bound anew at every call, and the
    same name means the same size everywhere in a graph. ``dtype`` is one of bool, int32, int64, float32,
    float64.

    Raises `GraphValueError` when a name is not an identifier or is a Python keyword, or a size is
    negative, and `GraphTypeError` for another dtype.

    >>> import graphc as gx
    >>> gx.input("x", ("N", 64), gx.float32)
    <Tensor x: f32[N,64]>
    """
    name = require_identifier("input", name)
    return Tensor(input_node(name, TensorType(as_dtype(dtype), as_shape(f"input {name!r}", shape))))


def constant(value: Any, dtype: object = None) -> Tensor:
    """A fixed value: a number, an array, nested lists of numbers, or a size of the graph.

    The dtype is ``dtype``, or the one that NumPy gives the value. Raises `GraphTypeError` for anything
    that is not numeric or of a dtype that graphc lacks.

    >>> import graphc as gx
    >>> gx.constant([[1.0, 2.0]])
    <Tensor f64[1,2]>
    """
    if isinstance(value, Tensor):
        return value if dtype is None else astype(value, dtype)
    if isinstance(value, Size):
        return Tensor(size_node(value, as_dtype(dtype or types.int64)))
    return Tensor(constant_node(numeric_array("constant", value), as_dtype(dtype) if dtype else None))


def numeric_array(what: str, value: Any) -> Any:
    """``value`` as an array of a supported dtype; raises `GraphTypeError` if it has none."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        array = np.asarray(None)
    if array.dtype not in types.SHORT_NAMES:
        raise GraphTypeError(
            compose(
                what,
                f"{type(value).__name__} of dtype {array.dtype} is not numeric here",
                location=str(caller_location() or ""),
                fix="convert it to bool, int32, int64, float32 or float64",
            )
        )
    return array


# ---- lifting, promotion, broadcasting -----------------------------------------------------------------------

_WEAK = (bool, int, float)


def _is_weak(value: object) -> bool:
    return type(value) in _WEAK or isinstance(value, Size)


def _operand_dtype(op: str, value: TensorLike) -> Any:
    """What an operand says in promotion: a dtype, or itself if it is a weak Python number."""
    if isinstance(value, Tensor):
        return value.dtype
    if isinstance(value, Size):
        return 0
    return value if _is_weak(value) else numeric_array(op, value).dtype


def _node_of(op: str, value: TensorLike, dtype: DType) -> Node:
    """``value`` as a node of ``dtype``."""
    if isinstance(value, Tensor):
        return value.node if value.dtype == dtype else ew.cast(value.node, dtype=dtype)
    if isinstance(value, Size):
        return size_node(value, dtype)
    if type(value) is int and dtype.kind == "i" and not _fits(value, dtype):
        raise fail(op, f"the Python integer {value} does not fit {dtype.name}")
    return constant_node(numeric_array(op, value), dtype)


def _fits(value: int, dtype: DType) -> bool:
    limits = np.iinfo(dtype)
    return limits.min <= value <= limits.max


def lift(value: TensorLike, op: str = "constant") -> Node:
    """``value`` as a node of its own dtype."""
    if isinstance(value, Tensor):
        return value.node
    return _node_of(op, value, promote(_operand_dtype(op, value)))


def common_dtype(op: str, operands: Sequence[TensorLike], *, inexact: bool = False) -> DType:
    """The promoted dtype of ``operands``; float64 instead of an integer or bool if ``inexact``."""
    kinds = [_operand_dtype(op, value) for value in operands]
    try:
        dtype = promote(*kinds)
    except (OverflowError, TypeError) as error:
        raise fail(op, str(error), error=GraphTypeError) from None
    return types.float64 if inexact and not is_float(dtype) else dtype


def broadcast_shape(op: str, nodes: Sequence[Node]) -> Shape:
    """The shape to which ``nodes`` broadcast; raises `GraphValueError` with all their types."""
    ndim = max(len(node.shape) for node in nodes)
    result: list[Dimension] = [1] * ndim
    for node in nodes:
        lead = ndim - len(node.shape)
        for axis, size in enumerate(node.shape, lead):
            known = result[axis]
            if known == 1:
                result[axis] = size
            elif size not in (1, known):
                named = isinstance(size, Size) or isinstance(known, Size)
                fix = "declare both with one name if they are always equal" if named else ""
                raise fail(op, "shapes do not broadcast", *nodes, detail=f"{known} != {size}", fix=fix)
    return tuple(result)


def aligned(op: str, operands: Sequence[TensorLike], *, inexact: bool = False) -> list[Node]:
    """``operands`` as nodes of one dtype and one shape."""
    dtype = common_dtype(op, operands, inexact=inexact)
    nodes = [_node_of(op, value, dtype) for value in operands]
    shape = broadcast_shape(op, nodes)
    return [broadcast(node, shape) for node in nodes]


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
    return function


add = _function(ew.add)
subtract = _function(ew.subtract)
multiply = _function(ew.multiply)
divide = _function(ew.divide, inexact=True)
floor_divide = _function(ew.floor_divide)
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
sign = _function(ew.sign)
floor = _function(ew.floor)
ceil = _function(ew.ceil)
maximum = _function(ew.maximum)
minimum = _function(ew.minimum)
less = _function(ew.less)
less_equal = _function(ew.less_equal)
greater = _function(ew.greater)
greater_equal = _function(ew.greater_equal)
equal = _function(ew.equal)
not_equal = _function(ew.not_equal)
bitwise_and = _function(ew.bitwise_and)
bitwise_or = _function(ew.bitwise_or)
bitwise_xor = _function(ew.bitwise_xor)
invert = _function(ew.invert)
left_shift = _function(ew.left_shift)
right_shift = _function(ew.right_shift)


def stop_gradient(x: TensorLike) -> Tensor:
    """``x`` itself, through which no gradient flows.

    >>> import graphc as gx
    >>> x = gx.input("x")
    >>> gx.evaluate(gx.grad(x * gx.stop_gradient(x), x), {x: 3.0})
    array(3.)
    """
    return Tensor(ew.stop_gradient(lift(x)))


def power(x: TensorLike, y: TensorLike) -> Tensor:
    """``numpy.power``; a negative Python integer as exponent of an integer tensor is an error."""
    if type(y) is int and y < 0 and common_dtype("power", [x]).kind == "i":
        raise fail("power", "integers to negative integer powers are not allowed", lift(x, "power"))
    return Tensor(ew.power(*aligned("power", (x, y))))


def round_(x: TensorLike, decimals: int = 0) -> Tensor:
    """``numpy.round``: to the nearest, halves to even; ``decimals`` as NumPy's."""
    node = lift(x, "round")
    if decimals == 0:
        return Tensor(ew.round_(node))
    if not is_float(node.dtype):
        return Tensor(node) if decimals > 0 else astype(round_(astype(x, types.float64), decimals), node.dtype)
    scale = 10.0 ** abs(decimals)
    if decimals > 0:
        return round_(multiply(x, scale)) / scale
    return round_(divide(x, scale)) * scale


def where(condition: TensorLike, x: TensorLike, y: TensorLike) -> Tensor:
    """``numpy.where`` with three arguments: ``x`` where ``condition`` holds, else ``y``."""
    chosen = lift(condition, "where")
    if chosen.dtype != types.bool_:
        chosen = ew.not_equal(chosen, 0)
    dtype = common_dtype("where", (x, y))
    nodes = [chosen, _node_of("where", x, dtype), _node_of("where", y, dtype)]
    shape = broadcast_shape("where", nodes)
    return Tensor(ew.where(*(broadcast(node, shape) for node in nodes)))


def clip(x: TensorLike, min: TensorLike = None, max: TensorLike = None) -> Tensor:
    """``numpy.clip``: ``x`` held between ``min`` and ``max``, either of which may be None."""
    result = Tensor(lift(x, "clip"))
    result = result if min is None else maximum(result, min)
    return result if max is None else minimum(result, max)


def _as_bool(op: str, value: TensorLike) -> Tensor:
    node = lift(value, op)
    return Tensor(node if node.dtype == types.bool_ else ew.not_equal(node, 0))


def logical_and(x: TensorLike, y: TensorLike) -> Tensor:
    """``numpy.logical_and``: numbers count as true when they are not 0."""
    return bitwise_and(_as_bool("logical_and", x), _as_bool("logical_and", y))


def logical_or(x: TensorLike, y: TensorLike) -> Tensor:
    """``numpy.logical_or``: numbers count as true when they are not 0."""
    return bitwise_or(_as_bool("logical_or", x), _as_bool("logical_or", y))


def logical_xor(x: TensorLike, y: TensorLike) -> Tensor:
    """``numpy.logical_xor``: numbers count as true when they are not 0."""
    return bitwise_xor(_as_bool("logical_xor", x), _as_bool("logical_xor", y))


def logical_not(x: TensorLike) -> Tensor:
    """``numpy.logical_not``: numbers count as true when they are not 0."""
    return invert(_as_bool("logical_not", x))


def isnan(x: TensorLike) -> Tensor:
    """``numpy.isnan``."""
    return not_equal(x, x)


def astype(x: TensorLike, dtype: object) -> Tensor:
    """``x`` converted to ``dtype``; gradients flow between floats only."""
    node, wanted = lift(x, "astype"), as_dtype(dtype)
    return Tensor(node if node.dtype == wanted else ew.cast(node, dtype=wanted))


# ---- reductions -----------------------------------------------------------------------------------------


def normal_axes(op: str, node: Node, axis: AxisLike) -> tuple[int, ...]:
    """``axis`` as a sorted tuple of non-negative ints; None is all axes."""
    ndim = len(node.shape)
    if axis is None:
        return tuple(range(ndim))
    given = (axis,) if isinstance(axis, int | np.integer) else tuple(axis)
    axes = sorted(int(a) + ndim if a < 0 else int(a) for a in given)
    if any(not 0 <= a < ndim for a in axes) or len(set(axes)) != len(axes):
        raise fail(op, f"axis {axis} is out of range or repeated", node, detail=f"{ndim} axes")
    return tuple(axes)


def _reduced(op: Op, node: Node, axis: AxisLike, keepdims: bool) -> Tensor:
    axes = normal_axes(op.name, node, axis)
    result = op(node, axes=axes) if axes else node
    if keepdims and axes:
        result = shapes.expand_dims(result, axes=axes)
    return Tensor(result)


def _total(node: Node) -> Node:
    """Integers and bools are added up and multiplied in int64, as in NumPy."""
    return node if is_float(node.dtype) or node.dtype == types.int64 else ew.cast(node, dtype=types.int64)


def _inexact(op: str, x: TensorLike) -> Node:
    return _node_of(op, x, common_dtype(op, [x], inexact=True))


def sum_(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.sum`` over ``axis`` (an int, several, or None for all); integers add up in int64.

    >>> import graphc as gx
    >>> gx.sum(gx.input("x", ("N", 3)), axis=1, keepdims=True)
    <Tensor f64[N,1]>
    """
    return _reduced(reduce.sum_, _total(lift(x, "sum")), axis, keepdims)


def prod(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.prod``; its gradient is right at zeros too."""
    return _reduced(reduce.prod, _total(lift(x, "prod")), axis, keepdims)


def mean(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.mean``; integers and bools become float64 first."""
    return _reduced(reduce.mean, _inexact("mean", x), axis, keepdims)


def var(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.var``: the mean squared distance from the mean."""
    centred = Tensor(_inexact("var", x))
    return mean(square(centred - mean(centred, axis, keepdims=True)), axis, keepdims=keepdims)


def std(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.std``: the square root of the variance."""
    return sqrt(var(x, axis, keepdims=keepdims))


def max_(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.max``; nan wins. The first element that attains it gets the whole gradient."""
    return _reduced(reduce.max_, lift(x, "max"), axis, keepdims)


def min_(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.min``; nan wins. The first element that attains it gets the whole gradient."""
    return _reduced(reduce.min_, lift(x, "min"), axis, keepdims)


def all_(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.all``."""
    return _reduced(reduce.all_, _as_bool("all", x).node, axis, keepdims)


def any_(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.any``."""
    return _reduced(reduce.any_, _as_bool("any", x).node, axis, keepdims)


def logsumexp(x: TensorLike, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
    """``log(sum(exp(x)))`` without overflow, as ``scipy.special.logsumexp``; -inf over nothing."""
    return _reduced(reduce.logsumexp, _inexact("logsumexp", x), axis, keepdims)


def _extreme_index(op: Op, x: TensorLike, axis: int | None, keepdims: bool) -> Tensor:
    node = lift(x, op.name)
    node = ew.cast(node, dtype=types.int32) if node.dtype == types.bool_ else node
    ndim = len(node.shape)
    if axis is None:
        found = Tensor(op(shapes.reshaped(node, (types.product(node.shape),))))
        return reshape(found, (1,) * ndim) if keepdims else found
    (where_,) = normal_axes(op.name, node, axis)
    order = (*(i for i in range(ndim) if i != where_), where_)
    found = Tensor(op(_permuted(node, order)))
    return expand_dims(found, where_) if keepdims else found


def argmax(x: TensorLike, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.argmax``: the first index of the maximum, int64; over the flat tensor without an axis."""
    return _extreme_index(reduce.argmax, x, axis, keepdims)


def argmin(x: TensorLike, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """``numpy.argmin``: the first index of the minimum, int64; over the flat tensor without an axis."""
    return _extreme_index(reduce.argmin, x, axis, keepdims)


# ---- shapes ---------------------------------------------------------------------------------------------


def _permuted(node: Node, order: Sequence[int]) -> Node:
    axes = tuple(order)
    return node if axes == tuple(range(len(axes))) else shapes.permute_dims(node, axes=axes)


def reshape(x: TensorLike, shape: Any) -> Tensor:
    """``numpy.reshape`` in row-major order; one size may be -1.

    A product of named sizes that cannot be compared now is checked at the call.
    """
    node = lift(x, "reshape")
    items = (shape,) if isinstance(shape, int | Size | np.integer) else tuple(shape)
    return Tensor(shapes.reshaped(node, _resolved_shape(node, items)))


def _resolved_shape(node: Node, items: tuple[Any, ...]) -> Shape:
    open_axes = [i for i, item in enumerate(items) if isinstance(item, int) and item == -1]
    if len(open_axes) > 1:
        raise fail("reshape", "more than one size is -1", node)
    if not open_axes:
        return tuple(_as_dimension("reshape", item) for item in items)
    rest = tuple(_as_dimension("reshape", s) for i, s in enumerate(items) if i != open_axes[0])
    total, known = types.product(node.shape), types.product(rest)
    missing = types.exact_quotient(total, known)
    if missing is None and isinstance(total, Size) and isinstance(known, int) and known > 0:
        missing = total // known
    if missing is None:
        raise fail("reshape", "the size -1 cannot be found", node, detail=f"{total} / {known}")
    return (*rest[: open_axes[0]], missing, *rest[open_axes[0] :])


def permute_dims(x: TensorLike, axes: Sequence[int]) -> Tensor:
    """The Array API's ``permute_dims``: axis i of the result is axis ``axes[i]`` of ``x``."""
    node = lift(x, "permute_dims")
    ndim = len(node.shape)
    return Tensor(_permuted(node, [a + ndim if a < 0 else a for a in map(int, axes)]))


def transpose(x: TensorLike, axes: Sequence[int] | None = None) -> Tensor:
    """``numpy.transpose``: the axes reversed, or in the given order."""
    node = lift(x, "transpose")
    return permute_dims(x, range(len(node.shape))[::-1] if axes is None else axes)


def matrix_transpose(x: TensorLike) -> Tensor:
    """The last two axes swapped."""
    node = lift(x, "matrix_transpose")
    if len(node.shape) < 2:
        raise fail("matrix_transpose", "needs at least 2 axes", node)
    return Tensor(linalg.transposed(node))


def swapaxes(x: TensorLike, axis1: int, axis2: int) -> Tensor:
    """``numpy.swapaxes``."""
    node = lift(x, "swapaxes")
    order = list(range(len(node.shape)))
    (a,), (b,) = normal_axes("swapaxes", node, axis1), normal_axes("swapaxes", node, axis2)
    order[a], order[b] = order[b], order[a]
    return Tensor(_permuted(node, order))


def expand_dims(x: TensorLike, axis: int | Sequence[int] = 0) -> Tensor:
    """``numpy.expand_dims``: axes of size 1 at the given places of the result."""
    node = lift(x, "expand_dims")
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    ndim = len(node.shape) + len(given)
    axes = tuple(sorted(a + ndim if a < 0 else a for a in given))
    return Tensor(shapes.expand_dims(node, axes=axes) if axes else node)


def squeeze(x: TensorLike, axis: AxisLike = None) -> Tensor:
    """``numpy.squeeze``: drops the given axes of size 1, or all of them."""
    node = lift(x, "squeeze")
    if axis is None:
        axes = tuple(i for i, size in enumerate(node.shape) if size == 1)
    else:
        axes = normal_axes("squeeze", node, axis)
    return Tensor(shapes.squeeze(node, axes=axes) if axes else node)


def broadcast_to(x: TensorLike, shape: Any) -> Tensor:
    """``numpy.broadcast_to``."""
    return Tensor(broadcast(lift(x, "broadcast_to"), as_shape("broadcast_to", shape)))


def _joined(op: str, xs: Sequence[TensorLike]) -> list[Node]:
    if not len(xs):
        raise fail(op, "needs at least one tensor")
    dtype = common_dtype(op, xs)
    return [_node_of(op, x, dtype) for x in xs]


def concat(xs: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """The Array API's ``concat`` (``numpy.concatenate``) along an existing axis."""
    nodes = _joined("concat", xs)
    (where_,) = normal_axes("concat", nodes[0], axis)
    return Tensor(shapes.concat(*nodes, axis=where_) if len(nodes) > 1 else nodes[0])


def stack(xs: Sequence[TensorLike], axis: int = 0) -> Tensor:
    """``numpy.stack`` along a new axis."""
    parts = [expand_dims(Tensor(node), axis) for node in _joined("stack", xs)]
    for other in parts[1:]:
        if other.shape != parts[0].shape:
            raise fail("stack", "shapes differ", parts[0].node, other.node)
    return concat(parts, axis)


def take(x: TensorLike, indices: TensorLike, axis: int | None = None) -> Tensor:
    """``numpy.take``: the slices at integer ``indices`` (of any shape) of an axis, of the flat ``x`` without one.

    Negative indices count from the end; at the call an index outside the axis raises `GraphIndexError`.
    The derivative adds up where an index repeats.
    """
    node, index = lift(x, "take"), lift(indices, "take")
    if axis is None:
        node, axis = shapes.reshaped(node, (types.product(node.shape),)), 0
    (where_,) = normal_axes("take", node, axis)
    return Tensor(shapes.take(node, index, axis=where_))


def zeros_like(x: TensorLike) -> Tensor:
    """Zeros of the type of ``x``."""
    return Tensor(filled_type(lift(x).tensor_type, 0))


def ones_like(x: TensorLike) -> Tensor:
    """Ones of the type of ``x``."""
    return Tensor(filled_type(lift(x).tensor_type, 1))


# ---- products -------------------------------------------------------------------------------------------


def matmul(x: TensorLike, y: TensorLike) -> Tensor:
    """``numpy.matmul`` of 1-D, 2-D and batched operands; batch axes broadcast.

    >>> import graphc as gx
    >>> gx.input("x", ("N", 64)) @ gx.input("w", (64,))
    <Tensor f64[N]>
    """
    dtype = common_dtype("matmul", (x, y))
    if dtype == types.bool_:
        return astype(matmul(astype(x, types.int64), astype(y, types.int64)), types.bool_)
    a, b = _node_of("matmul", x, dtype), _node_of("matmul", y, dtype)
    if not a.shape or not b.shape:
        raise fail("matmul", "a 0-d operand", a, b, fix="use *")
    inner = b.shape[0] if len(b.shape) == 1 else b.shape[-2]
    if a.shape[-1] != inner:
        raise fail("matmul", "inner sizes differ", a, b, detail=f"{a.shape[-1]} != {inner}")
    left = shapes.expand_dims(a, axes=(0,)) if len(a.shape) == 1 else a
    right = shapes.expand_dims(b, axes=(1,)) if len(b.shape) == 1 else b
    product = _matrix_product(left, right)
    last = len(product.shape) - 1
    gone = ((last - 1,) if len(a.shape) == 1 else ()) + ((last,) if len(b.shape) == 1 else ())
    return Tensor(shapes.squeeze(product, axes=gone) if gone else product)


def _matrix_product(a: Node, b: Node) -> Node:
    if len(b.shape) == 2 and len(a.shape) > 2:
        # One large product is faster than many small ones with the same right side.
        rows = shapes.reshaped(a, (types.product(a.shape[:-1]), a.shape[-1]))
        return shapes.reshaped(linalg.matmul(rows, b), (*a.shape[:-1], b.shape[-1]))
    batch = _broadcast_batch(a, b)
    return linalg.matmul(
        broadcast(a, (*batch, *a.shape[-2:])), broadcast(b, (*batch, *b.shape[-2:]))
    )


def _broadcast_batch(a: Node, b: Node) -> Shape:
    stand_ins = [filled_type(a.tensor_type.with_shape(x.shape[:-2]), 0) for x in (a, b)]
    try:
        return broadcast_shape("matmul", stand_ins)
    except GraphValueError:
        raise fail("matmul", "batch sizes do not broadcast", a, b) from None


def dot(x: TensorLike, y: TensorLike) -> Tensor:
    """``numpy.dot`` of operands with at most 2 axes: a product of numbers, vectors or matrices."""
    a, b = lift(x, "dot"), lift(y, "dot")
    if len(a.shape) > 2 or len(b.shape) > 2:
        raise fail("dot", "operands have more than 2 axes", a, b, fix="use gx.matmul")
    return matmul(x, y) if a.shape and b.shape else multiply(x, y)


def outer(x: TensorLike, y: TensorLike) -> Tensor:
    """``numpy.outer``: every element of the flat ``x`` times every element of the flat ``y``."""
    a, b = reshape(x, -1), reshape(y, -1)
    return expand_dims(a, 1) * expand_dims(b, 0)


NUMPY_FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    function.__name__.rstrip("_"): function
    for function in (
        add, subtract, multiply, divide, floor_divide, remainder, negative, square, reciprocal, sqrt,
        exp, expm1, log, log1p, sin, cos, tanh, absolute, sign, floor, ceil, maximum, minimum, less,
        less_equal, greater, greater_equal, equal, not_equal, bitwise_and, bitwise_or, bitwise_xor,
        invert, left_shift, right_shift, power, round_, where, clip, logical_and, logical_or,
        logical_xor, logical_not, isnan, sum_, prod, mean, var, std, max_, min_, all_, any_, argmax,
        argmin, reshape, transpose, matrix_transpose, swapaxes, expand_dims, squeeze, broadcast_to,
        concat, stack, take, zeros_like, ones_like, matmul, dot, outer,
    )
} | {"rint": round_, "concatenate": concat, "ravel": lambda x: reshape(x, -1)}
"""What NumPy's functions and ufuncs become when they are called on a tensor."""
