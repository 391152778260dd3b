"""The instructions of a native function: LLVM's builder, with memory by offset, guards and loops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from graphc.native import objects

BIT = ir.IntType(1)
BYTE = ir.IntType(8)
INT = ir.IntType(32)
WORD = ir.IntType(64)
FLOAT = ir.FloatType()
DOUBLE = ir.DoubleType()
POINTER = ir.PointerType()
VOID = ir.VoidType()

FALSE = ir.Constant(BIT, 0)
TRUE = ir.Constant(BIT, 1)
NULL = ir.Constant(POINTER, None)


def word(value: int) -> Any:
    """A constant of 64 bits."""
    return ir.Constant(WORD, value)


def external(name: str) -> Any:
    """The pointer to one of `objects.OBJECTS`, whose address is known when the code is loaded."""
    return ir.FormattedConstant(POINTER, f'@"{objects.symbol_of(name)}"')


def declare_objects(module: Any) -> None:
    """Declares all that `external` stands for."""
    for name in objects.OBJECTS:
        ir.GlobalVariable(module, BYTE, objects.symbol_of(name))


class Body(ir.IRBuilder):  # type: ignore[misc]
    """Builds the instructions of one function, which is found by its name from then on.

    ``parameters`` are its parameters' values. With ``inline`` the function becomes part of its callers.
    """

    def __init__(
        self, module: Any, name: str, result: Any, *parameters: Any, inline: bool = False
    ) -> None:
        function = ir.Function(module, ir.FunctionType(result, parameters), name)
        function.linkage = "internal"
        if inline:
            function.attributes.add("alwaysinline")
        super().__init__(function.append_basic_block())
        self.parameters = function.args

    def at(self, base: Any, offset: Any) -> Any:
        """The pointer ``offset`` bytes behind ``base``."""
        offset = word(offset) if isinstance(offset, int) else offset
        return self.gep(base, [offset], source_etype=BYTE)

    def get(self, type_: Any, base: Any, offset: Any = 0) -> Any:
        """The value ``offset`` bytes behind ``base``."""
        return self.load(self.at(base, offset), typ=type_)

    def put(self, value: Any, base: Any, offset: Any = 0) -> None:
        """Stores a value ``offset`` bytes behind ``base``."""
        self.store(value, self.at(base, offset))

    def item(self, index: Any) -> Any:
        """The offset of an item in an array of pointers or words."""
        return self.mul(index, word(8))

    def is_equal(self, a: Any, b: Any) -> Any:
        """Whether two integers or pointers are the same."""
        return self.icmp_unsigned("==", a, b)

    def differ(self, a: Any, b: Any) -> Any:
        """Whether two integers or pointers are not the same."""
        return self.icmp_unsigned("!=", a, b)

    def guard(self, condition: Any, otherwise: Any) -> None:
        """Goes on if the condition holds; else the function returns ``otherwise``."""
        with self.if_then(self.not_(condition), likely=False):
            self.ret(otherwise)

    @contextmanager
    def loop(self, count: Any) -> Iterator[Any]:
        """Repeats what is built inside, with the index from 0 to ``count``."""
        before = self.block
        head, inside, after = (self.append_basic_block() for _ in range(3))
        self.branch(head)
        self.position_at_end(head)
        index = self.phi(WORD)
        index.add_incoming(word(0), before)
        self.cbranch(self.icmp_signed("<", index, count), inside, after)
        self.position_at_end(inside)
        yield index
        index.add_incoming(self.add(index, word(1)), self.block)
        self.branch(head)
        self.position_at_end(after)

    def own(self, name: str, *values: Any) -> Any:
        """Calls a function of the same module."""
        return self.call(self.module.get_global(name), values)

    def foreign(self, result: Any, address: Any, *values: Any) -> Any:
        """Calls the C function at an address."""
        type_ = ir.FunctionType(result, [value.type for value in values])
        return self.call(self.inttoptr(address, type_.as_pointer()), values)

    def python(self, result: Any, function: str, *values: Any) -> Any:
        """Calls a function of the C API of CPython or NumPy, one of `objects.FUNCTIONS`."""
        symbol = objects.symbol_of(function)
        callee = self.module.globals.get(symbol)
        if callee is None:
            type_ = ir.FunctionType(result, [value.type for value in values])
            callee = ir.Function(self.module, type_, symbol)
        return self.call(callee, values)

    def hold(self, object_: Any) -> None:
        """Takes a reference to an object."""
        self.python(VOID, "Py_IncRef", object_)

    def release(self, object_: Any) -> None:
        """Gives a reference to an object, or to none, up."""
        self.python(VOID, "Py_DecRef", object_)

    def is_a(self, object_: Any, type_: type) -> Any:
        """Whether it is an object of exactly that type, none of a subclass."""
        return self.is_equal(self.get(POINTER, object_, objects.TYPE), external(type_.__name__))
