"""What processors with AVX-512 do with a whole register at once, and LLVM's vectoriser does not know.

Both are functions of numbers with vector forms, which are only declared until loops are vectorised.
`put_in_place` then makes them instructions of their callers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from llvmlite import binding, ir

from .forms import PURE, add_attributes, counts, has_wide_registers, offer

__all__ = ["are_supported", "put_in_place", "write_lookup", "write_scaled"]

_PREFIX = "graphc.lanes."
_BITS = 512
_INDEX = ir.IntType(32)
_NEAREST = _INDEX(4)
"""Rounding as the processor is set to."""


def write_lookup(builder: Any, table: tuple[float, ...], index: Any) -> Any:
    """The number of a table at an index, of whose bits only the low ones count.

    The index has as many bits as a number, and the table as many numbers as a register, 16 or 8.
    """
    real = {32: ir.FloatType(), 64: ir.DoubleType()}[index.type.width]
    return _call(builder, _LOOKUP, real, index, _placed(builder.module, real, table))


def write_scaled(builder: Any, x: Any, exponent: Any) -> Any:
    """``x`` times 2 to the power of the largest integer up to ``exponent``, both floats; rounded once."""
    return _call(builder, _SCALED, x.type, x, exponent)


def are_supported(context: Any) -> bool:
    """Whether code that a context of Numba's lowers may contain them: one that puts them in place says so."""
    return getattr(context, "puts_lanes_in_place", False) and has_wide_registers()


def put_in_place(module: Any, passes: Any) -> None:
    """Make what is called of the forms part of the callers, in an optimised module of LLVM's binding.

    ``passes`` is the binding's builder of passes.
    """
    # What nothing refers to is no longer declared, the function for one number above all.
    present = {function.name for function in module.functions if function.name.startswith(_PREFIX)}
    needed = [
        _definitions(operation, real)
        for operation in (_LOOKUP, _SCALED)
        for real in (ir.FloatType(), ir.DoubleType())
        if any(name.startswith(operation.name(real)) for name in present)
    ]
    for definitions in needed:
        module.link_in(binding.parse_assembly(definitions))
    if needed:
        manager = binding.create_new_module_pass_manager()
        manager.add_always_inliner_pass()
        manager.run(module, passes)


class _Operation(NamedTuple):
    title: str
    arguments: str
    """Which of the arguments of a form are vectors, see `offer`."""
    types: Callable[[Any], list[Any]]
    """Those of the arguments for numbers of a type."""
    one: Callable[..., Any]
    """Writes it for one number."""
    all: Callable[..., Any]
    """Writes it for a register."""

    def name(self, real: Any) -> str:
        return f"{_PREFIX}{self.title}.{real.intrinsic_name}"


def _call(builder: Any, operation: _Operation, real: Any, *arguments: Any) -> Any:
    module = builder.module
    if operation.name(real) not in module.globals:
        forms = _declare(module, operation, real)
        offer(forms.pop(1), operation.arguments, forms)
    return builder.call(module.globals[operation.name(real)], arguments)


def _declare(module: Any, operation: _Operation, real: Any) -> dict[int, Any]:
    """The function and its forms, by the count of numbers that each is for."""
    forms = {}
    for count in (1, *counts(real)):
        types = [
            ir.VectorType(kind, count) if count > 1 and letter == "v" else kind
            for kind, letter in zip(operation.types(real), operation.arguments, strict=True)
        ]
        result = ir.VectorType(real, count) if count > 1 else real
        name = operation.name(real) + (f".{count}" if count > 1 else "")
        forms[count] = ir.Function(module, ir.FunctionType(result, types), name)
        add_attributes(forms[count], *PURE)
    return forms


@cache
def _definitions(operation: _Operation, real: Any) -> str:
    """The text of what `_declare` declares; it becomes part of callers, but no code of its own."""
    module = ir.Module()
    forms = _declare(module, operation, real)
    lanes = max(forms)
    for count, function in forms.items():
        function.linkage = "available_externally"
        add_attributes(function, "alwaysinline")
        builder = ir.IRBuilder(function.append_basic_block())
        builder.ret(_body(builder, operation, count, lanes))
    return str(module)


def _body(builder: Any, operation: _Operation, count: int, lanes: int) -> Any:
    arguments = builder.function.args
    if count == 1:
        return operation.one(builder, *arguments)
    wide = [_resized(builder, x, count, lanes) for x in arguments]
    return _resized(builder, operation.all(builder, *wide), lanes, count)


def _resized(builder: Any, x: Any, count: int, lanes: int) -> Any:
    """A vector with more lanes, those at its end undefined, or fewer."""
    if not isinstance(x.type, ir.VectorType) or count == lanes:
        return x
    # From the count on, the numbers of a shuffle are those of its second vector.
    mask = ir.Constant(ir.VectorType(_INDEX, lanes), [min(i, count) for i in range(lanes)])
    return builder.shuffle_vector(x, ir.Constant(x.type, ir.Undefined), mask)


def _lookup_one(builder: Any, index: Any, table: Any) -> Any:
    last = index.type(_BITS // index.type.width - 1)
    return builder.load(builder.gep(table, [builder.and_(index, last)]))


def _lookup_all(builder: Any, index: Any, table: Any) -> Any:
    real = table.type.pointee
    vector = ir.VectorType(real, index.type.count)
    numbers = builder.load(builder.bitcast(table, vector.as_pointer()))
    kind = "sf" if real == ir.FloatType() else "df"
    name = f"llvm.x86.avx512.permvar.{kind}.512"
    return _intrinsic(builder, name, vector, numbers, index)


def _scaled_one(builder: Any, x: Any, exponent: Any) -> Any:
    single = x.type == ir.FloatType()
    vector = ir.VectorType(x.type, 4 if single else 2)
    unset = ir.Constant(vector, ir.Undefined)
    pair = [builder.insert_element(unset, number, _INDEX(0)) for number in (x, exponent)]
    name = f"llvm.x86.avx512.mask.scalef.{'ss' if single else 'sd'}"
    rest = (unset, ir.IntType(8)(1), _NEAREST)
    return builder.extract_element(_intrinsic(builder, name, vector, *pair, *rest), _INDEX(0))


def _scaled_all(builder: Any, x: Any, exponent: Any) -> Any:
    vector = x.type
    name = f"llvm.x86.avx512.mask.scalef.{'ps' if vector.element == ir.FloatType() else 'pd'}.512"
    mask = ir.IntType(vector.count)(-1)
    unset = ir.Constant(vector, ir.Undefined)
    return _intrinsic(builder, name, vector, x, exponent, unset, mask, _NEAREST)


def _intrinsic(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, arguments)


def _placed(module: Any, real: Any, table: tuple[float, ...]) -> Any:
    """The address of a table, which the module has once."""
    kind = ir.ArrayType(real, len(table))
    digest = hashlib.sha256(repr(table).encode()).hexdigest()[:16]
    name = f"graphc.table.{real.intrinsic_name}.{digest}"
    place = module.globals.get(name)
    if place is None:
        place = ir.GlobalVariable(module, kind, name)
        place.linkage, place.global_constant, place.align = "internal", True, _BITS // 8
        place.initializer = ir.Constant(kind, table)
    return place.bitcast(real.as_pointer())


_LOOKUP = _Operation(
    "lookup",
    "vu",
    lambda real: [ir.IntType(32 if real == ir.FloatType() else 64), real.as_pointer()],
    _lookup_one,
    _lookup_all,
)
_SCALED = _Operation("scaled", "vv", lambda real: [real, real], _scaled_one, _scaled_all)
