"""How a reduction is added up: in a variable, in memory, or in parts that keep a long sum accurate.

A variable in the innermost loop vectorises, because its additions may be reordered. A sum of floats over a
long axis, or over several axes, is a sum of such parts: one block of the innermost loop after the other. The
sum of the parts is float64 for float32, and for float64 it carries along what its additions lose (Neumaier,
"Rundungsfehleranalyse einiger Verfahren zur Summation endlicher Summen", ZAMM 1974). Where every element has
loops of its own to compute it, every element is such a part.

A gate that runs in chunks keeps the parts of totals over its outermost loop, to be combined behind it, see
`graphc.fuse.chunks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphc.codegen.expressions import literal
from graphc.facts import ReduceCode
from graphc.fuse.chunks import Kind, Part, has_loops, is_long
from graphc.fuse.roles import space
from graphc.fuse.schedule import Loop, is_local_total, trailing_axes
from graphc.ir import Node
from graphc.types import float32, is_float, product

SUFFIXES = ("sum", "lost", "part")
"""What the variables of a sum in parts are called, behind its own name."""


@dataclass(frozen=True)
class Total:
    """The running total of one reduction: the lines before, in and behind the loops that it runs over.

    Over the axes from ``first_inner`` on it is a variable, ``name``; a reduction over other axes too adds
    that variable, or each element, to memory. ``place`` is where, and ``clear`` what fills it first.
    ``in_parts`` says that parts are added up first; with ``one_by_one`` every element is one. ``kept`` is
    where a part is kept whose block of the innermost loop has the given number, if parts are.
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
    kept: Callable[[str], str] | None = None

    @property
    def _step(self) -> str:
        lowering = self.node.op.lowering
        assert isinstance(lowering, ReduceCode)
        return lowering.step

    @property
    def initial(self) -> str:
        """The total of nothing."""
        lowering = self.node.op.lowering
        assert isinstance(lowering, ReduceCode)
        return literal(lowering.initial(self.node.dtype), self.node.dtype)

    @property
    def is_variable(self) -> bool:
        """Whether it is complete when the loops over its last axes are."""
        return self.outermost == self.first_inner

    def before(self, axis: int) -> list[str]:
        """The lines before the loop over ``axis``, and before its blocks."""
        lines = self.clear(self.initial) if axis == self.outermost and not self.is_variable else []
        if axis == self.first_inner and not (self.kept and self.in_parts):
            if not self.in_parts:
                lines.append(f"{self.name} = {self.initial}")
            elif self.node.dtype == float32:
                lines.append(f"{self.name}_sum = 0.0")
            else:
                lines += [f"{self.name}_sum = 0.0", f"{self.name}_lost = 0.0"]
        return lines

    def before_part(self, axis: int) -> list[str]:
        """The lines before the loop over ``axis`` in each of its blocks."""
        if not self.in_parts or self.one_by_one or axis != self.inner:
            return []
        return [f"{self.name}_part = {self.initial}"]

    def element(self, value: str) -> str:
        """What the innermost loop does with an element."""
        if self.first_inner > self.inner:
            return self._taken(self.place, value)
        if self.one_by_one:
            return self._part(value, "")
        return self._taken(f"{self.name}_part" if self.in_parts else self.name, value)

    def _taken(self, total: str, value: str) -> str:
        """The line that takes a value into a total."""
        return f"{total} = {self._step}({total}, {value})"

    def after_part(self, axis: int, block: str) -> list[str]:
        """The lines behind the loop over ``axis`` in each of its blocks."""
        if not self.in_parts or self.one_by_one or axis != self.inner:
            return []
        return [self._part(f"{self.name}_part", block)]

    def _part(self, part: str, block: str) -> str:
        return f"{self.kept(block)} = {part}" if self.kept else self._added(part)

    def _added(self, part: str) -> str:
        """The line that adds a part to a sum in parts."""
        total, lost, _ = (f"{self.name}_{suffix}" for suffix in SUFFIXES)
        if self.node.dtype == float32:
            return f"{total} = {total} + np.float64({part})"
        return f"{total}, {lost} = accumulate.carry({total}, {lost}, {part})"

    def after(self, axis: int) -> list[str]:
        """The lines behind the loop over ``axis``."""
        if axis != self.first_inner:
            return []
        if not self.is_variable:
            return [self._taken(self.place, self.name)]
        if self.kept:
            return [] if self.in_parts else [f"{self.kept('')} = {self.name}"]
        if not self.in_parts:
            return []
        if self.node.dtype == float32:
            return [f"{self.name} = np.float32({self.name}_sum)"]
        return [f"{self.name} = accumulate.carried({self.name}_sum, {self.name}_lost)"]

    def combined(self, part: Part, result: str, parts: str, pieces: str) -> str:
        """The line behind all chunks: the result of the parts that they left, in ``pieces`` chunks."""
        if self.in_parts:
            return f"combine.sums({result}, {parts}, {part.runs})"
        arguments = f"{self._step}, {self.initial}, {result}, {parts}"
        if part.kind is Kind.NUMBERS:
            return f"combine.numbers({arguments}, {pieces})"
        return f"combine.arrays({arguments}, {product(self.node.shape)}, {pieces})"


def total(
    node: Node,
    name: str,
    loop: Loop,
    flat: bool,
    place: str,
    clear: Callable[[str], list[str]],
    kept: Callable[[str], str] | None,
) -> Total:
    """The total of a reduction whose elements are computed in the innermost loop ``loop``."""
    inner = 0 if flat else len(space(node)) - 1
    first_inner = 0 if flat else trailing_axes(node)
    is_local = flat or is_local_total(node)
    is_float_sum = is_local and is_float(node.dtype) and node.op.name == "sum"
    one_by_one = is_float_sum and first_inner == inner and has_loops(loop)
    in_parts = is_float_sum and (first_inner < inner or is_long(loop) or one_by_one)
    outermost = first_inner if is_local else min(node.attrs["axes"])
    return Total(
        node, name, inner, first_inner, outermost, in_parts, one_by_one, place, clear, kept
    )
