"""How a node is computed: as part of a loop, as a value of its own, or not at all."""

from __future__ import annotations

from enum import Enum, auto

from graphc.facts import KernelCode, Leaf, ReadCode, ReduceCode, ScalarCode, ViewCode
from graphc.ir import Node, uniform_value
from graphc.types import Shape


class Role(Enum):
    """The ways in which code computes a node."""

    LEAF = auto()
    """Nothing to compute: an input, a constant, a size."""
    READ = auto()
    """An index map: computed where it is read, never stored."""
    SCALAR = auto()
    """A 0-d value: a statement between the loops."""
    LOOP = auto()
    """One element in every iteration of a loop nest."""
    REDUCE = auto()
    """A running total in a loop nest."""
    KERNEL = auto()
    """A call on whole arrays."""
    VIEW = auto()
    """The memory of another value."""


def role(node: Node) -> Role:
    """The role of ``node`` in a graph whose definitions are expanded."""
    lowering = node.op.lowering
    if isinstance(lowering, Leaf) or uniform_value(node) is not None:
        return Role.LEAF
    if isinstance(lowering, ReduceCode):
        return Role.REDUCE
    if isinstance(lowering, ScalarCode | ReadCode) and node.shape == ():
        return Role.SCALAR
    if isinstance(lowering, KernelCode):
        return Role.KERNEL
    if isinstance(lowering, ViewCode):
        return Role.VIEW
    return Role.READ if isinstance(lowering, ReadCode) else Role.LOOP


def kept_axes(node: Node) -> tuple[int, ...]:
    """The axes of its space that a reduction keeps, in the order of those of its result."""
    lowering, axes = node.op.lowering, node.attrs["axes"]
    kept = [axis for axis in range(len(space(node))) if axis not in axes]
    if isinstance(lowering, ReduceCode) and lowering.by_columns:
        kept[-2:] = reversed(kept[-2:])
    return tuple(kept)


def space(node: Node) -> Shape:
    """The iteration space of a loop or reduction node."""
    return node.args[0].shape if role(node) is Role.REDUCE else node.shape
