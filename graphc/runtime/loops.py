"""What LLVM is told of loops.

`rolled` is for ranges whose loops LLVM vectorises as they are. It unrolls a loop of few iterations, if their
number is known, before it looks for loops to vectorise. Then it vectorises the loop around it, whose reads
are a row apart, or nothing.

Of a loop with a long body it would compute one vector at a time, which is told to be two.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir as llvm
from numba.core import ir, types
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.typed_passes import BaseNativeLowering
from numba.core.typing.templates import signature
from numba.extending import lower_builtin, type_callable

__all__ = ["LoweringWithHints", "rolled"]

LONG = 128
"""From so many instructions on two vectors are computed side by side: while one waits for its last result, a
processor that looks some 300 instructions ahead would not reach what it could do for the next."""
_MOVES = frozenset({"alloca", "br", "getelementptr", "load", "store"})


def rolled(count: int) -> range:
    """Return `range(count)`; a loop over it is not unrolled before it is vectorised.

    >>> list(rolled(3))
    [0, 1, 2]
    """
    return range(count)


@type_callable(rolled)
def _type_rolled(context: Any) -> Any:
    def typer(count: Any) -> Any:
        return signature(types.range_state64_type, types.int64)

    return typer


@lower_builtin(rolled, types.int64)
def _lower_rolled(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return context.get_function(range, sig)(builder, args)


class _LoopIdentity(llvm.values.MDValue):  # type: ignore[misc]
    """A node of metadata that begins with itself, and so is like no other: what a loop is known by."""

    def descr(self, buf: list[str]) -> None:
        operands = ", ".join(each.get_reference() for each in (self, *self.operands))
        buf.append(f"distinct !{{ {operands} }}\n")

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


def _option(module: Any, name: str, *values: int) -> Any:
    numbers = [llvm.Constant(llvm.IntType(32), value) for value in values]
    return module.add_metadata([llvm.MetaDataString(module, name), *numbers])


def _not_unrolled(module: Any) -> list[Any]:
    done = _option(module, "llvm.loop.isvectorized", 1)
    # What the vectoriser leaves may be unrolled.
    followup = module.add_metadata(
        [llvm.MetaDataString(module, "llvm.loop.vectorize.followup_all"), done]
    )
    return [_option(module, "llvm.loop.unroll.disable"), followup]


def _work(function: Any) -> int:
    """How many instructions compute something."""
    return sum(
        each.opname not in _MOVES for block in function.blocks for each in block.instructions
    )


class _Lower(Lower):
    """Numba's lowering, which adds what LLVM is told of a loop to the jump that closes it.

    It follows what `rolled` returns to that jump, and counts instructions on the way.
    """

    def pre_lower(self) -> None:
        super().pre_lower()  # type: ignore[no-untyped-call]
        self._ranges: set[str] = set()
        self._heads: set[Any] = set()
        self._begun: dict[Any, int] = {}

    def lower_inst(self, inst: Any) -> None:
        if isinstance(inst, ir.Assign):
            self._follow(inst.target.name, inst.value)
        super().lower_inst(inst)  # type: ignore[no-untyped-call]
        # The jump into a loop is lowered before its head.
        if isinstance(inst, ir.Jump) and self.blkmap[inst.target].is_terminated:
            self._close_loop(self.blkmap[inst.target])

    def pre_block(self, block: Any) -> None:
        super().pre_block(block)  # type: ignore[no-untyped-call]
        self._begun[self.builder.block] = _work(self.function)

    def _close_loop(self, head: Any) -> None:
        """Tells LLVM at the jump to the head of a loop what is to become of the loop."""
        options = _not_unrolled(self.module) if head in self._heads else []
        if _work(self.function) - self._begun[head] >= LONG:
            options.append(_option(self.module, "llvm.loop.interleave.count", 2))
        if options:
            loop = _LoopIdentity(self.module, options, name=str(len(self.module.metadata)))
            self.builder.block.terminator.set_metadata("llvm.loop", loop)

    def _follow(self, target: str, value: Any) -> None:
        op = value.op if isinstance(value, ir.Expr) else ""
        if op == "call":
            function = self.typeof(value.func.name)  # type: ignore[no-untyped-call]
            if isinstance(function, types.Function) and function.typing_key is rolled:
                self._ranges.add(target)
        elif isinstance(value, ir.Var) or op in ("getiter", "iternext"):
            source = value if isinstance(value, ir.Var) else value.value
            if source.name in self._ranges and op == "iternext":
                self._heads.add(self.builder.block)
            elif source.name in self._ranges:
                self._ranges.add(target)


@register_pass(mutates_CFG=True, analysis_only=False)
class LoweringWithHints(BaseNativeLowering):
    """Numba's pass that makes LLVM's code, with what LLVM is told of loops."""

    _name = "graphc_native_lowering"  # type: ignore[assignment]

    @property
    def lowering_class(self) -> Any:
        """What lowers a function."""
        return _Lower
