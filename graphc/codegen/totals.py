"""How a reduction is added up: in a variable, in memory, or in parts that keep a long sum accurate.

A variable in the innermost loop vectorises, because its additions may be reordered. A sum of floats over a long
axis, or over several axes, is a sum of such parts: one block of the innermost loop after the other. The sum of
the parts is float64 for float32, and for float64 it carries along what its additions lose (Neumaier,
"Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen", ZAMM 1974).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphc.codegen.expressions import literal
from graphc.facts import ReduceCode
from graphc.fuse.roles import space
from graphc.fuse.schedule import Loop, is_local_total, trailing_axes
from graphc.ir import Node
from graphc.types import float32, is_float

BLOCK = 512
"""The most elements that are added up in one variable."""

SUFFIXES = ("sum", "lost", "part")
"""What the variables of a sum in parts are called, behind its own name."""


def is_long(loop: Loop) -> bool:
    """Whether an innermost loop may have more than `BLOCK` iterations."""
    return not _surrounds(loop) and (not isinstance(loop.size, int) or loop.size > BLOCK)


def _surrounds(loop: Loop) -> bool:
    """Whether there are loops in the iterations of a loop."""
    return any(isinstance(step, Loop) for step in loop.body)


@dataclass(frozen=True)
class Total:
    """The running total of one reduction: the lines before, in and behind the loops that it runs over.

    Over the axes from ``first_inner`` on it is a variable, ``name``; a reduction over other axes too adds that
    variable, or each element, to memory. ``place`` is where, and ``clear`` what fills it first. ``in_parts``
    says that parts are added up first; with ``one_by_one`` every element is one.
    """

    node: Node
    name: str
    inner: int
    first_inner: int
    outermost: int
    in_parts: bool
    one_by_one: bool
    place: str
    clear: Callable[[str], list[str]]

    @property
    def _step(self) -> str:
        lowering = self.node.op.lowering
        assert isinstance(lowering, ReduceCode)
        return lowering.step

    @property
    def _start(self) -> str:
        lowering = self.node.op.lowering
        assert isinstance(lowering, ReduceCode)
        return literal(lowering.initial(self.node.dtype), self.node.dtype)

    @property
    def is_variable(self) -> bool:
        """Whether it is complete when the loops over its last axes are."""
        return self.outermost == self.first_inner

    def before(self, axis: int) -> list[str]:
        """The lines before the loop over ``axis``, and before its blocks."""
        lines = self.clear(self._start) if axis == self.outermost and not self.is_variable else []
        if axis == self.first_inner:
            if not self.in_parts:
                lines.append(f"{self.name} = {self._start}")
            elif self.node.dtype == float32:
                lines.append(f"{self.name}_sum = 0.0")
            else:
                lines += [f"{self.name}_sum = 0.0", f"{self.name}_lost = 0.0"]
        return lines

    def before_part(self, axis: int) -> list[str]:
        """The lines before the loop over ``axis`` in each of its blocks."""
        has_part = self.in_parts and not self.one_by_one and axis == self.inner
        return [f"{self.name}_part = {self._start}"] if has_part else []

    def element(self, value: str) -> str:
        """What the innermost loop does with an element."""
        if self.one_by_one:
            return self._add_part(value)
        if self.first_inner > self.inner:
            return f"{self.place} = {self._step}({self.place}, {value})"
        total = f"{self.name}_part" if self.in_parts else self.name
        return f"{total} = {self._step}({total}, {value})"

    def after_part(self, axis: int) -> list[str]:
        """The lines behind the loop over ``axis`` in each of its blocks."""
        if not self.in_parts or self.one_by_one or axis != self.inner:
            return []
        return [self._add_part(f"{self.name}_part")]

    def _add_part(self, part: str) -> str:
        total, lost = f"{self.name}_sum", f"{self.name}_lost"
        if self.node.dtype == float32:
            return f"{total} = {total} + np.float64({part})"
        return f"{total}, {lost} = accumulate.carry({total}, {lost}, {part})"

    def after(self, axis: int) -> list[str]:
        """The lines behind the loop over ``axis``."""
        if axis != self.first_inner:
            return []
        if not self.is_variable:
            return [f"{self.place} = {self._step}({self.place}, {self.name})"]
        if not self.in_parts:
            return []
        if self.node.dtype == float32:
            return [f"{self.name} = np.float32({self.name}_sum)"]
        return [f"{self.name} = accumulate.carried({self.name}_sum, {self.name}_lost)"]


def total(
    node: Node, name: str, loop: Loop, flat: bool, place: str, clear: Callable[[str], list[str]]
) -> Total:
    """The total of a reduction whose elements are computed in the innermost loop ``loop``."""
    inner = 0 if flat else len(space(node)) - 1
    first_inner = 0 if flat else trailing_axes(node)
    is_local = flat or is_local_total(node)
    is_float_sum = is_float(node.dtype) and node.op.name == "sum"
    # Around an inner loop nothing vectorises, so that each element may be a part.
    one_by_one = is_local and is_float_sum and first_inner == inner and _surrounds(loop)
    several = first_inner < inner or is_long(loop) or one_by_one
    in_parts = is_local and is_float_sum and several
    outermost = first_inner if is_local else min(node.attrs["axes"])
    return Total(
        node, name, inner, first_inner, outermost, in_parts, one_by_one, place, clear
    )
