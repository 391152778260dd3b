"""The intermediate representation: ops and their registry, interned nodes, graphs, walks.

A graph is made of `Node` objects. ``args`` are nodes, ``attrs`` are named and hashable, ``type`` follows
from both by the op's type rule. Nodes are interned: two equal nodes are one object, so common
subexpressions never exist twice. Names, source lines and gradient relations are notes beside the nodes
and never keep two equal nodes apart.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
import numpy.typing as npt

from graphc.errors import GraphcError, GraphValueError, InvalidGraph, compose
from graphc.facts import NONDIFFERENTIABLE, Leaf, Lowering, ReadCode, Sample, Vjp
from graphc.types import DType, Requirement, Size, TensorType, Type, evaluate_size

Array: TypeAlias = npt.NDArray[Any]


# Ops.


@dataclass(frozen=True, eq=False)
class Op:
    """Everything that graphc knows about one operation; see the family constructors in ``graphc.ops``.

    ``infer(*types, **attrs)`` is the type rule, ``reference(*arrays, **attrs)`` the meaning in NumPy,
    ``vjp(cotangent, out, *args, **attrs)`` gives one cotangent node (or None for zero) an argument, and
    ``requires(node)`` what must hold at the call. ``left_unit`` u means ``op(u, x) == x`` for every x
    bit by bit, ``absorbing`` z that ``op(z, x) == z``; both by dtype, None where there is none.
    """

    name: str
    infer: Callable[..., Type]
    reference: Callable[..., Any]
    lowering: Lowering
    vjp: Vjp
    samples: tuple[Sample, ...]
    dtypes: tuple[DType, ...]
    commutative: bool = False
    associative: bool = False
    left_unit: Callable[[DType], float | None] = lambda dtype: None
    right_unit: Callable[[DType], float | None] = lambda dtype: None
    left_absorbing: Callable[[DType], float | None] = lambda dtype: None
    right_absorbing: Callable[[DType], float | None] = lambda dtype: None
    requires: Callable[[Node], list[Requirement]] = lambda node: []
    cost: int = 1

    def __post_init__(self) -> None:
        if self.name in REGISTRY:
            raise InvalidGraph(compose(f"op {self.name}", "is registered twice"))
        REGISTRY[self.name] = self

    def __call__(self, *args: Any, **attrs: Hashable) -> Node:
        """The node of this op; Python numbers take the type of the last node among ``args``."""
        nodes = tuple(arg for arg in args if isinstance(arg, Node))
        if len(nodes) == len(args):
            return make_node(self, nodes, attrs)
        for arg in args:
            if isinstance(arg, Symbol):
                symbol: Node = arg.applied(self, args, attrs)
                return symbol
        like = nodes[
            -1
        ]  # not the first: the condition of `where` is not of the type of its branches
        return make_node(
            self, tuple(a if isinstance(a, Node) else filled(like, a) for a in args), attrs
        )

    def __repr__(self) -> str:
        return f"<op {self.name}>"


REGISTRY: dict[str, Op] = {}


class Rejected(Exception):
    """Raised by a type rule; `make_node` turns it into the message that the user sees."""

    def __init__(
        self,
        problem: str,
        *,
        detail: str = "",
        fix: str = "",
        error: type[GraphcError] | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem, self.detail, self.fix = problem, detail, fix
        self.error = error or GraphValueError


# Notes: lines, names, gradients.


@dataclass(frozen=True, slots=True)
class Location:
    """A line of the user's program."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"


_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_inherited_location: ContextVar[Location | None] = ContextVar("location", default=None)


def caller_location() -> Location | None:
    """The innermost line outside graphc that is running now, or the one set by `located`."""
    inherited = _inherited_location.get()
    if inherited is not None:
        return inherited
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back  # type: ignore[assignment]
    return Location(frame.f_code.co_filename, frame.f_lineno) if frame is not None else None


@contextmanager
def located(location: Location | None) -> Iterator[None]:
    """Nodes made inside belong to ``location``: passes keep the user's line this way."""
    token = _inherited_location.set(location)
    try:
        yield
    finally:
        _inherited_location.reset(token)


class Attrs(dict[str, Any]):
    """Named, hashable metadata of a node; not changed after it is made."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items(), key=lambda item: item[0])))


class Operators:
    """Python's operators as ops, strict: both operands have one type, and a number takes that type.

    They are what derivative and rewrite rules are written in; users get broadcasting and promotion from
    `graphc.dsl.Tensor`.
    """

    __slots__ = ()

    def __add__(self, other: Any) -> Node:
        return REGISTRY["add"](self, other)

    def __radd__(self, other: Any) -> Node:
        return REGISTRY["add"](other, self)

    def __sub__(self, other: Any) -> Node:
        return REGISTRY["subtract"](self, other)

    def __rsub__(self, other: Any) -> Node:
        return REGISTRY["subtract"](other, self)

    def __mul__(self, other: Any) -> Node:
        return REGISTRY["multiply"](self, other)

    def __rmul__(self, other: Any) -> Node:
        return REGISTRY["multiply"](other, self)

    def __truediv__(self, other: Any) -> Node:
        return REGISTRY["divide"](self, other)

    def __rtruediv__(self, other: Any) -> Node:
        return REGISTRY["divide"](other, self)

    def __pow__(self, other: Any) -> Node:
        return REGISTRY["power"](self, other)

    def __neg__(self) -> Node:
        return REGISTRY["negative"](self)

    def __lt__(self, other: Any) -> Node:
        return REGISTRY["less"](self, other)

    def __le__(self, other: Any) -> Node:
        return REGISTRY["less_equal"](self, other)

    def __gt__(self, other: Any) -> Node:
        return REGISTRY["greater"](self, other)

    def __ge__(self, other: Any) -> Node:
        return REGISTRY["greater_equal"](self, other)


class Symbol(Operators):
    """Stands for nodes not known yet: an op called with a symbol gives a symbol."""

    __slots__ = ()

    def applied(self, op: Op, args: tuple[Any, ...], attrs: Mapping[str, Hashable]) -> Any:
        """What ``op(*args, **attrs)`` is when one of ``args`` is a symbol."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, slots=True, weakref_slot=True)
class Node(Operators):
    """One operation applied to nodes; equal nodes are the same object."""

    op: Op
    args: tuple[Node, ...]
    attrs: Attrs
    type: Type
    serial: int
    order: tuple[int, ...]
    location: Location | None

    @property
    def tensor_type(self) -> TensorType:
        """The type of a node with one result."""
        if not isinstance(self.type, TensorType):
            raise InvalidGraph(compose(self.op.name, "has several results, one was expected"))
        return self.type

    @property
    def dtype(self) -> DType:
        """The dtype of a node with one result."""
        return self.tensor_type.dtype

    @property
    def shape(self) -> tuple[int | Size, ...]:
        """The shape of a node with one result."""
        return self.tensor_type.shape

    def __repr__(self) -> str:
        return f"<{self.op.name} {self.type}>"


class _Notes:
    """What is known beside a node: the user's name for it, and whose cotangent it is."""

    def __init__(self) -> None:
        self.names: WeakKeyDictionary[Node, str] = WeakKeyDictionary()
        self.cotangent_of: WeakKeyDictionary[Node, Node] = WeakKeyDictionary()

    def carry(self, old: Node, new: Node) -> None:
        """``new`` takes the place of ``old``, so it takes the notes that it lacks."""
        if old is new or new.op in (INPUT, CONSTANT, SIZE):
            return
        if old in self.names:
            self.names.setdefault(new, self.names[old])
        # A cotangent that simplifies to a value of the forward graph stays that value.
        if old in self.cotangent_of and new.serial > old.serial:
            self.cotangent_of.setdefault(new, self.cotangent_of[old])


NOTES = _Notes()


# Making nodes.

_interned: WeakValueDictionary[Hashable, Node] = WeakValueDictionary()
_lock = threading.Lock()
_serials = itertools.count()


def make_node(op: Op, args: tuple[Node, ...], attrs: Mapping[str, Hashable]) -> Node:
    """The one node ``op(*args, **attrs)``, type-checked, with commutative operands in canonical order.

    Raises a `GraphcError` whose message names op, arguments, types and the user's line.
    """
    if op.commutative:
        args = tuple(sorted(args, key=_canonical_order))
    frozen = Attrs(attrs)
    key = (op, args, frozen)
    known = _interned.get(key)
    if known is not None:
        return known
    type_ = _infer(op, args, frozen)
    with _lock:
        known = _interned.get(key)
        if known is None:
            serial = next(_serials)
            order = _order(op, args, frozen, serial)
            known = Node(op, args, frozen, type_, serial, order, caller_location())
            _interned[key] = known
    return known


def _infer(op: Op, args: tuple[Node, ...], attrs: Attrs) -> Type:
    try:
        return op.infer(*(arg.type for arg in args), **attrs)
    except Rejected as rejected:
        location = caller_location()
        raise rejected.error(
            compose(
                op.name,
                rejected.problem,
                arguments=[arg.type for arg in args],
                detail=rejected.detail,
                location=str(location or ""),
                fix=rejected.fix,
            )
        ) from None


_NEVER = sys.maxsize


def _order(op: Op, args: tuple[Node, ...], attrs: Attrs, serial: int) -> tuple[int, ...]:
    """The oldest input below a node, its height, and a digest of its structure.

    It does not depend on what else was made before, or in which order, so that the same program gives the
    same graph again. What depends on no input comes last.
    """
    if op is INPUT:
        return (serial, 0, zlib.crc32(attrs["name"].encode()))
    known = [arg.order for arg in args]
    shown = [op.name, *(order[2] for order in known), *map(_shown, attrs.values())]
    return (
        min((order[0] for order in known), default=_NEVER),
        max((order[1] for order in known), default=0) + 1,
        zlib.crc32(repr(shown).encode()),
    )


def is_shared(node: Node) -> bool:
    """Whether ``node`` depends on no input: then it is a part of every graph that has one like it."""
    return node.order[0] == _NEVER


def _shown(attribute: Hashable) -> object:
    """An attribute without what differs from run to run."""
    if isinstance(attribute, Literal):
        return zlib.crc32(attribute.array.tobytes())
    return "body" if isinstance(attribute, Graph) else str(attribute)


def _canonical_order(node: Node) -> tuple[int, ...]:
    return (uniform_value(node) is not None, *node.order, node.serial)


# Leaves.


class Literal:
    """A constant array as a hashable value: equal when dtype, shape and bytes are equal."""

    __slots__ = ("_key", "array")

    def __init__(self, array: Array) -> None:
        self.array = np.array(array, order="C", copy=True)
        self.array.flags.writeable = False
        self._key = (self.array.dtype, self.array.shape, self.array.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"Literal({self.array.tolist()!r})"


def _no_reference(*arrays: Array, **attrs: Any) -> Array:
    raise InvalidGraph("a leaf has no reference of its own")


INPUT = Op(
    "input",
    infer=lambda *, name, type, serial: type,
    reference=_no_reference,
    lowering=Leaf(),
    vjp=NONDIFFERENTIABLE,
    samples=(),
    dtypes=(),
)
CONSTANT = Op(
    "constant",
    infer=lambda *, value: TensorType(value.array.dtype, value.array.shape),
    reference=lambda *, value: value.array,
    lowering=Leaf(),
    vjp=NONDIFFERENTIABLE,
    samples=(),
    dtypes=(),
)
SIZE = Op(
    "size",
    infer=lambda *, size, dtype: TensorType(dtype, ()),
    reference=lambda *, size, dtype: np.asarray(size, dtype),
    lowering=Leaf(),
    vjp=NONDIFFERENTIABLE,
    samples=(),
    dtypes=(),
)


def _broadcast_type(x: TensorType, *, shape: tuple[int | Size, ...]) -> TensorType:
    fits = len(x.shape) <= len(shape) and all(
        old in (1, new) for old, new in zip(x.shape[::-1], shape[::-1], strict=False)
    )
    if not fits:
        raise Rejected("cannot be broadcast", detail=f"to {x.with_shape(shape)}")
    return x.with_shape(shape)


def _read_broadcast(
    node: Node, index: tuple[str, ...], operand: Callable[[int, tuple[str, ...]], str]
) -> str:
    inner = node.args[0].shape
    kept = index[len(index) - len(inner) :]
    return operand(0, tuple("0" if s == 1 else i for s, i in zip(inner, kept, strict=True)))


def _broadcast_vjp(g: Node, out: Node, x: Node, *, shape: tuple[int | Size, ...]) -> tuple[Node]:
    lead = len(shape) - len(x.shape)
    stretched = [lead + i for i, s in enumerate(x.shape) if s == 1 and shape[lead + i] != 1]
    total = g
    axes = (*range(lead), *stretched)
    if axes:
        total = REGISTRY["sum"](g, axes=axes)
    if stretched:
        total = REGISTRY["expand_dims"](total, axes=tuple(a - lead for a in stretched))
    return (total,)


BROADCAST_TO = Op(
    "broadcast_to",
    infer=_broadcast_type,
    reference=lambda x, *, shape: np.broadcast_to(x, shape),
    lowering=ReadCode(_read_broadcast),
    vjp=_broadcast_vjp,
    samples=(
        Sample(((3,),), {"shape": (2, 3)}),
        Sample(((2, 1, 3),), {"shape": (4, 2, 5, 3)}),
        Sample(((),), {"shape": (2, 3)}),
    ),
    dtypes=tuple(np.dtype(d) for d in ("bool", "int32", "int64", "float32", "float64")),
    cost=0,
)


def input_node(name: str, type_: TensorType) -> Node:
    """A new input; two inputs are never one node, even with equal names and types."""
    node = INPUT(name=name, type=type_, serial=next(_serials))
    NOTES.names[node] = name
    return node


def constant_node(value: object, dtype: DType | None = None) -> Node:
    """A constant of the given or its own dtype."""
    return CONSTANT(value=Literal(np.asarray(value, dtype)))


def size_node(size: int | Size, dtype: DType) -> Node:
    """A size as a 0-d value in the graph; a fixed size is a constant."""
    return constant_node(size, dtype) if isinstance(size, int) else SIZE(size=size, dtype=dtype)


def broadcast(node: Node, shape: tuple[int | Size, ...]) -> Node:
    """``node`` broadcast to ``shape``; itself when it has that shape already."""
    return node if node.shape == shape else BROADCAST_TO(node, shape=shape)


def filled(like: Node, value: bool | int | float) -> Node:
    """A tensor of ``like``'s type in which every element is ``value``."""
    return filled_type(like.tensor_type, value)


def filled_type(type_: TensorType, value: bool | int | float) -> Node:
    """A tensor of the given type in which every element is ``value``."""
    return broadcast(constant_node(value, type_.dtype), type_.shape)


def uniform_value(node: Node) -> np.generic | None:
    """The element of a constant whose elements are all one scalar constant, else None."""
    while node.op is BROADCAST_TO:
        node = node.args[0]
    if node.op is CONSTANT and node.attrs["value"].array.ndim == 0:
        scalar: np.generic = node.attrs["value"].array[()]
        return scalar
    return None


def uniform_number(node: Node) -> float | None:
    """`uniform_value` as a Python float."""
    value = uniform_value(node)
    return None if value is None else float(value.item())


# Graphs.


def walk(outputs: Iterable[Node], leaves: Iterable[Node] = ()) -> list[Node]:
    """All nodes that ``outputs`` depend on, operands before users, in a deterministic order.

    ``leaves`` come first, and the walk does not go beyond them.
    """
    order: list[Node] = list(dict.fromkeys(leaves))
    done: set[Node] = set(order)
    for output in outputs:
        stack: list[tuple[Node, Iterator[Node]]] = []
        if output not in done:
            done.add(output)
            stack.append((output, iter(output.args)))
        while stack:
            node, pending = stack[-1]
            for arg in pending:
                if arg not in done:
                    done.add(arg)
                    stack.append((arg, iter(arg.args)))
                    break
            else:
                order.append(node)
                stack.pop()
    return order


@dataclass(frozen=True, eq=False)
class Graph:
    """Inputs in the order of a call, outputs in the order of the results, and a name.

    The inputs of a whole graph are input nodes. A gate's body is a graph too: its inputs are the nodes
    that are computed outside, whatever they are.
    """

    name: str
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]

    def nodes(self) -> list[Node]:
        """All nodes, operands before users: the inputs first, in their order."""
        return walk(self.outputs, self.inputs)

    def input_types(self) -> list[tuple[str, TensorType]]:
        """Name and type of every input."""
        return [(node.attrs["name"], node.tensor_type) for node in self.inputs]


def substitute(outputs: Sequence[Node], replace: Callable[[Node], Node]) -> dict[Node, Node]:
    """Rebuilds all nodes bottom-up and passes each rebuilt node through ``replace``.

    Returns old node -> new node. What ``replace`` makes belongs to the line of the old node, and the
    notes move along.
    """
    return rebuild(outputs, lambda old, rebuilt: replace(rebuilt))


def rebuild(outputs: Sequence[Node], replace: Callable[[Node, Node], Node]) -> dict[Node, Node]:
    """As `substitute`, where ``replace`` is given the old node and the rebuilt one."""
    new: dict[Node, Node] = {}
    for node in walk(outputs):
        args = tuple(new[arg] for arg in node.args)
        with located(node.location):
            rebuilt = node if args == node.args else make_node(node.op, args, node.attrs)
            new[node] = replace(node, rebuilt)
        NOTES.carry(node, new[node])
    return new


def replaced(outputs: Sequence[Node], new: Mapping[Node, Node]) -> list[Node]:
    """``outputs`` with other nodes in the place of those that ``new`` has, and all above them rebuilt."""
    known = dict(new)
    for node in walk(outputs, new):
        if node not in known:
            args = tuple(known[arg] for arg in node.args)
            with located(node.location):
                known[node] = node if args == node.args else make_node(node.op, args, node.attrs)
    return [known[output] for output in outputs]


def transform(graph: Graph, replace: Callable[[Node], Node]) -> Graph:
    """The graph with every node passed through ``replace``, bottom-up."""
    new = substitute(graph.outputs, replace)
    return Graph(graph.name, graph.inputs, tuple(new[output] for output in graph.outputs))


def requirements(nodes: Iterable[Node]) -> list[Requirement]:
    """What must hold at a call for ``nodes`` to be computed, without what always holds."""
    found: dict[Requirement, None] = {}
    for node in nodes:
        found.update(dict.fromkeys(r for r in node.op.requires(node) if not r.is_known()))
    return list(found)


def bind_attribute(value: Any, sizes: Mapping[str, int]) -> Any:
    """``value`` with every `Size` in it, at any depth of tuples, replaced by its int."""
    if isinstance(value, Size):
        return evaluate_size(value, sizes)
    if isinstance(value, tuple):
        return tuple(bind_attribute(item, sizes) for item in value)
    return value
