"""What an op states about itself: how it becomes code, its derivative, where it is tested."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from graphc.types import DType

# How an op becomes code.


@dataclass(frozen=True)
class Leaf:
    """Is there before any code runs: an input, a constant, a size."""


@dataclass(frozen=True)
class ScalarCode:
    """One expression an element: ``{0}``, ``{1}`` are operands, ``{type}`` and ``{suffix}`` the dtype.

    ``template`` may be a function of the node where attributes or the number of operands matter.
    """

    template: str | Callable[[Any], str]


@dataclass(frozen=True)
class ReadCode:
    """An index map: the element at ``index`` is an expression over elements of the operands.

    ``read(node, index, operand)`` returns the expression; ``operand(k, index)`` gives the k-th operand's
    element at an index.
    """

    read: Callable[[Any, tuple[str, ...], Callable[[int, tuple[str, ...]], str]], str]


@dataclass(frozen=True)
class ReduceCode:
    """A running total over axes: ``step`` is a function of total and element; ``initial`` by dtype.

    ``by_columns`` says that the last two axes of the result have changed places.
    """

    step: str
    initial: Callable[[DType], bool | int | float]
    by_columns: bool = False


@dataclass(frozen=True)
class KernelCode:
    """Calls of runtime functions on whole arrays: ``emit(node, operands, result)`` gives the lines.

    Those that may run ``in_threads`` are told the number of threads as well.
    """

    emit: Callable[..., list[str]]
    in_threads: bool = False


@dataclass(frozen=True)
class ViewCode:
    """The operand's contiguous memory under another shape."""


@dataclass(frozen=True)
class Definition:
    """A gate made of other ops: ``expand(*args, **attrs)`` builds the node that it stands for."""

    expand: Callable[..., Any]


@dataclass(frozen=True)
class FusedCode:
    """The body's own code."""


Lowering: TypeAlias = (
    "Leaf | ScalarCode | ReadCode | ReduceCode | KernelCode | ViewCode | Definition | FusedCode"
)


# What an op says about its derivative.


class NonDifferentiable:
    """The op is piecewise constant: its cotangent is zero, and nobody is warned."""


class ByDefinition:
    """The derivative of a gate is that of the ops that it stands for."""


@dataclass(frozen=True)
class FORBIDDEN:
    """Asking for this op's derivative is an error, for the reason given."""

    reason: str


NONDIFFERENTIABLE = NonDifferentiable()
BY_DEFINITION = ByDefinition()
Vjp: TypeAlias = "Callable[..., tuple[Any, ...]] | NonDifferentiable | ByDefinition | FORBIDDEN"


# What an op says for its tests.


@dataclass(frozen=True)
class Domain:
    """Where an argument of a sample lies: uniform in ``[low, high]``, and some points besides.

    ``also`` are points at which only values are tested (nan, infinities, kinks); at ``smooth`` points
    the gradient is tested as well.
    """

    low: float
    high: float
    also: tuple[float, ...] = ()
    smooth: tuple[float, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One call of an op: a shape and a domain an argument, and the attributes.

    An argument is of the tested dtype unless ``dtypes`` names another for it.
    """

    shapes: tuple[tuple[int, ...], ...]
    attrs: Mapping[str, Hashable] = field(default_factory=dict)
    domains: tuple[Domain, ...] = (Domain(-2.0, 2.0),)
    dtypes: tuple[DType | None, ...] = ()
