"""`Tensor`, the user's value of a graph: its operators and methods.

What an operator does is defined with the functions of the same name in the modules beside this one. They
enter a table here, by the name that NumPy and the Array API give them, and operators, methods and NumPy's
own functions on tensors all look there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np

from graphc.dsl.indexing import basic_index
from graphc.errors import GraphcError, GraphTypeError, GraphValueError, compose
from graphc.ir import CONSTANT, INPUT, NOTES, SIZE, Node, caller_location
from graphc.types import Dimension, DType, Shape, Size, product

TensorLike: TypeAlias = "Tensor | Size | Any"
AxisLike: TypeAlias = "int | Sequence[int] | None"

FUNCTIONS: dict[str, Callable[..., Tensor]] = {}
"""The function of every operator and method, by NumPy's name."""

F = TypeVar("F", bound=Callable[..., Any])


def public(implementation: F) -> F:
    """Enters a function into `FUNCTIONS` under its name."""
    FUNCTIONS[implementation.__name__.rstrip("_")] = implementation
    return implementation


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

    # What it is.

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
        return product(self.node.shape)

    @property
    def T(self) -> Tensor:
        """All axes reversed, as NumPy's ``.T``."""
        return FUNCTIONS["transpose"](self)

    @property
    def mT(self) -> Tensor:
        """The last two axes swapped, as the Array API's ``.mT``."""
        return FUNCTIONS["matrix_transpose"](self)

    def __repr__(self) -> str:
        name = NOTES.names.get(self.node)
        return f"<Tensor {name + ': ' if name else ''}{self.node.type}>"

    def __hash__(self) -> int:
        return hash(self.node)

    # What it is not: a number.

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

    # NumPy's functions and operators on tensors make tensors.

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        function = FUNCTIONS.get(ufunc.__name__)
        if function is None or method != "__call__" or kwargs:
            return NotImplemented
        return function(*inputs)

    def __array_function__(self, func: Any, _: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        function = FUNCTIONS.get(func.__name__)
        return NotImplemented if function is None else function(*args, **kwargs)

    # Indexing.

    def __len__(self) -> int:
        if self.ndim == 0 or not isinstance(self.shape[0], int):
            problem = "a 0-d tensor has no length" if self.ndim == 0 else "has a named size"
            raise fail("len", problem, self.node, error=GraphTypeError, fix="use x.shape[0]")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> Tensor:
        if isinstance(key, Tensor | np.ndarray | list):
            return FUNCTIONS["take"](self, key, axis=0)
        return Tensor(basic_index(self.node, key))

    # Operators.

    def __add__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["add"](self, other)

    def __radd__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["add"](other, self)

    def __sub__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["subtract"](self, other)

    def __rsub__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["subtract"](other, self)

    def __mul__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["multiply"](self, other)

    def __rmul__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["multiply"](other, self)

    def __truediv__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["divide"](self, other)

    def __rtruediv__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["divide"](other, self)

    def __floordiv__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["floor_divide"](self, other)

    def __rfloordiv__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["floor_divide"](other, self)

    def __mod__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["remainder"](self, other)

    def __rmod__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["remainder"](other, self)

    def __divmod__(self, other: TensorLike) -> tuple[Tensor, Tensor]:
        return self // other, self % other

    def __rdivmod__(self, other: TensorLike) -> tuple[Tensor, Tensor]:
        return other // self, other % self

    def __pow__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["power"](self, other)

    def __rpow__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["power"](other, self)

    def __matmul__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["matmul"](self, other)

    def __rmatmul__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["matmul"](other, self)

    def __and__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["bitwise_and"](self, other)

    def __or__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["bitwise_or"](self, other)

    def __xor__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["bitwise_xor"](self, other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __lshift__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["left_shift"](self, other)

    def __rlshift__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["left_shift"](other, self)

    def __rshift__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["right_shift"](self, other)

    def __rrshift__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["right_shift"](other, self)

    def __neg__(self) -> Tensor:
        return FUNCTIONS["negative"](self)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return FUNCTIONS["absolute"](self)

    def __invert__(self) -> Tensor:
        return FUNCTIONS["invert"](self)

    def __round__(self, decimals: int = 0) -> Tensor:
        return FUNCTIONS["round"](self, decimals)

    def __lt__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["less"](self, other)

    def __le__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["less_equal"](self, other)

    def __gt__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["greater"](self, other)

    def __ge__(self, other: TensorLike) -> Tensor:
        return FUNCTIONS["greater_equal"](self, other)

    def __eq__(self, other: TensorLike) -> Tensor:  # type: ignore[override]
        return FUNCTIONS["equal"](self, other)

    def __ne__(self, other: TensorLike) -> Tensor:  # type: ignore[override]
        return FUNCTIONS["not_equal"](self, other)

    # Methods, as ndarray's.

    def sum(self, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
        """See `graphc.sum`."""
        return FUNCTIONS["sum"](self, axis, keepdims=keepdims)

    def mean(self, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
        """See `graphc.mean`."""
        return FUNCTIONS["mean"](self, axis, keepdims=keepdims)

    def prod(self, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
        """See `graphc.prod`."""
        return FUNCTIONS["prod"](self, axis, keepdims=keepdims)

    def max(self, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
        """See `graphc.max`."""
        return FUNCTIONS["max"](self, axis, keepdims=keepdims)

    def min(self, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
        """See `graphc.min`."""
        return FUNCTIONS["min"](self, axis, keepdims=keepdims)

    def all(self, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
        """See `graphc.all`."""
        return FUNCTIONS["all"](self, axis, keepdims=keepdims)

    def any(self, axis: AxisLike = None, *, keepdims: bool = False) -> Tensor:
        """See `graphc.any`."""
        return FUNCTIONS["any"](self, axis, keepdims=keepdims)

    def argmax(self, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
        """See `graphc.argmax`."""
        return FUNCTIONS["argmax"](self, axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
        """See `graphc.argmin`."""
        return FUNCTIONS["argmin"](self, axis, keepdims=keepdims)

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements under another shape, given as one tuple or as several sizes."""
        return FUNCTIONS["reshape"](self, shape[0] if len(shape) == 1 else shape)

    def ravel(self) -> Tensor:
        """The elements as one axis."""
        return FUNCTIONS["reshape"](self, -1)

    def flatten(self) -> Tensor:
        """The elements as one axis."""
        return FUNCTIONS["reshape"](self, -1)

    def transpose(self, *axes: Any) -> Tensor:
        """See `graphc.transpose`; axes as one tuple, as several ints, or none to reverse them."""
        given = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return FUNCTIONS["transpose"](self, given)

    def squeeze(self, axis: AxisLike = None) -> Tensor:
        """See `graphc.squeeze`."""
        return FUNCTIONS["squeeze"](self, axis)

    def astype(self, dtype: object) -> Tensor:
        """See `graphc.astype`."""
        return FUNCTIONS["astype"](self, dtype)

    def dot(self, other: TensorLike) -> Tensor:
        """See `graphc.dot`."""
        return FUNCTIONS["dot"](self, other)

    def take(self, indices: TensorLike, axis: int | None = None) -> Tensor:
        """See `graphc.take`."""
        return FUNCTIONS["take"](self, indices, axis)

    def clip(self, min: TensorLike = None, max: TensorLike = None) -> Tensor:
        """See `graphc.clip`."""
        return FUNCTIONS["clip"](self, min, max)

    def round(self, decimals: int = 0) -> Tensor:
        """See `graphc.round`."""
        return FUNCTIONS["round"](self, decimals)


def name_after(variables: Mapping[str, object]) -> None:
    """The user's variable names become the names of the nodes that they hold."""
    for name, value in variables.items():
        if not isinstance(value, Tensor) or value.node.op in (INPUT, CONSTANT, SIZE):
            continue
        if name.isidentifier() and not name.startswith("_"):
            NOTES.names.setdefault(value.node, name)
