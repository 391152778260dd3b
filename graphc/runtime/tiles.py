"""Products of matrices in tiles of the result that stay in registers, without copies of the operands.

BLAS copies both operands into the order in which its kernel reads them, which pays when each is read often. A
product with few rows reads a matrix once for every eight rows, in the time that the copy would take.

Loops that LLVM is to vectorise keep no tile in registers, so the kernels are written in its vectors.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.core.registry import cpu_target

__all__ = ["FEWEST_ROWS", "SIDE", "VECTORS", "VECTOR_BYTES", "Tiles", "is_supported"]

_SIZE = cgutils.intp_t
_INDEX = ir.IntType(32)

VECTOR_BYTES = 64
HEIGHTS = {2: (8, 4), 1: (16, 4)}
"""Rows of the tiles of `Tiles.broadcast`, by the vectors in a row; the smaller do what the larger leave."""
FEWEST_ROWS = 4
"""The rows of the smallest tiles."""
VECTORS = 2
"""Vectors in a row of a tile, but for matrices that one fills."""
SIDE = 4
"""Rows and columns of the tiles of `Tiles.dot`."""


@cache
def is_supported() -> bool:
    """Return whether the processor has the registers for the tiles: 32 of 64 bytes, as with AVX-512.

    With 16 of 32 bytes BLAS is faster.
    """
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return "+avx512f" in features.split(",")


class Tiles:
    """The kernels for one type of floats, in a module of LLVM.

    They want at least 4 rows, `dot` at least 4 columns as well. The last tiles of a matrix overlap
    those before, and compute some elements twice. Every element is summed in the same order.
    """

    def __init__(self, module: Any, real: Any) -> None:
        self.module, self.real = module, real
        self.bits = 32 if real == ir.FloatType() else 64
        self.lanes = 8 * VECTOR_BYTES // self.bits
        self.vector = ir.VectorType(real, self.lanes)
        self.suffix = f"v{self.lanes}f{self.bits}"

    def broadcast(self, vectors: int = VECTORS) -> Any:
        """Return ``f(a, b, out, rows, inner, columns, a_row, a_term)``, which writes a @ b to ``out``.

        A row of a tile is as many ``vectors``. The element ``[i, k]`` of ``a`` lies at
        ``i * a_row + k * a_term``; the others are row-major. Multiplies vectors of a row of ``b`` by one
        element of ``a``.
        """
        function, is_new = self._function(f"broadcast_{vectors}", 5)
        if is_new:
            _Broadcast(self, function, vectors).emit()
        return function

    def dot(self) -> Any:
        """Return ``f(a, b, out, rows, inner, columns)``, which writes a @ b.T to ``out``; all are row-major.

        Multiplies vectors of rows of both, and sums each in the end.
        """
        function, is_new = self._function("dot", 3)
        if is_new:
            _Dot(self, function).emit()
        return function

    def _function(self, name: str, sizes: int) -> tuple[Any, bool]:
        name = f"graphc_{name}_{self.suffix}"
        if name in self.module.globals:
            return self.module.globals[name], False
        data = self.real.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [data] * 3 + [_SIZE] * sizes)
        function = ir.Function(self.module, kind, name)
        # Another library of the process may have the function too.
        function.linkage = "internal"
        function.attributes.add("noinline")
        # A tile is work enough for an iteration: unrolled loops would take half as long again to compile.
        function.attributes.add("optsize")
        for argument in function.args[:3]:
            argument.add_attribute("noalias")
        return function, True


class _Kernel:
    """Emits the body of a function that computes tile by tile."""

    def __init__(self, tiles: Tiles, function: Any) -> None:
        self.tiles, self.vector, self.lanes = tiles, tiles.vector, tiles.lanes
        self.a, self.b, self.out, self.rows, self.inner, self.columns, *self.steps = function.args
        self.builder = ir.IRBuilder(function.append_basic_block())

    def emit(self) -> None:
        """Fill the function."""
        self.fill()
        self.builder.ret_void()

    def fill(self) -> None:
        """Emit the loops over all tiles."""
        raise NotImplementedError

    def range(self, start: Any, stop: Any, step: int) -> Any:
        """Open a loop; the index comes first of what it binds."""
        return cgutils.for_range_slice(self.builder, start, stop, _SIZE(step), _SIZE)

    def within(self, index: Any, length: Any, size: int) -> Any:
        """The index, or the last one at which a tile of that size fits."""
        last = self.builder.sub(length, _SIZE(size))
        is_inside = self.builder.icmp_signed("<", index, last)
        return self.builder.select(is_inside, index, last)

    def at(self, data: Any, row: Any, step: Any, rest: Any) -> Any:
        """The pointer to the element ``row * step + rest``."""
        return self.builder.gep(data, [self.builder.add(self.builder.mul(row, step), rest)])

    def plus(self, index: Any, number: int) -> Any:
        return self.builder.add(index, _SIZE(number))

    def zeros(self, rows: int, columns: int) -> list[list[Any]]:
        """A tile of vectors, which LLVM keeps in registers."""
        zero = ir.Constant(self.vector, None)
        tile = [[self.variable() for _ in range(columns)] for _ in range(rows)]
        for variable in (variable for row in tile for variable in row):
            self.builder.store(zero, variable)
        return tile

    def variable(self) -> Any:
        return cgutils.alloca_once(self.builder, self.vector)

    def add_product(self, total: Any, x: Any, y: Any) -> None:
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        fma = self.intrinsic("fma", kind)
        self.builder.store(self.builder.call(fma, [x, y, self.builder.load(total)]), total)

    def intrinsic(self, name: str, kind: Any) -> Any:
        """The function of LLVM that has this name for vectors."""
        name = f"llvm.{name}.{self.tiles.suffix}"
        if "masked" in name:
            name += ".p0"
        return cgutils.get_or_insert_function(self.tiles.module, kind, name)

    def spread(self, value: Any) -> Any:
        """The vector in which all elements are ``value``."""
        unset = ir.Constant(ir.VectorType(value.type, self.lanes), ir.Undefined)
        first = self.builder.insert_element(unset, value, _INDEX(0))
        everywhere = ir.Constant(ir.VectorType(_INDEX, self.lanes), None)
        return self.builder.shuffle_vector(first, unset, everywhere)

    def mask(self, count: Any) -> Any:
        """Which elements of a vector are among the first ``count``."""
        numbers = ir.Constant(ir.VectorType(_SIZE, self.lanes), list(range(self.lanes)))
        return self.builder.icmp_signed("<", numbers, self.spread(count))

    def load(self, pointer: Any, mask: Any) -> Any:
        """The elements of a vector where ``mask`` holds, 0 elsewhere, where memory is not read."""
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        zero = ir.Constant(self.vector, None)
        kind = ir.FunctionType(self.vector, [pointer.type, _INDEX, mask.type, self.vector])
        load = self.intrinsic("masked.load", kind)
        return self.builder.call(load, [pointer, _INDEX(self.tiles.bits // 8), mask, zero])

    def store(self, value: Any, pointer: Any, mask: Any) -> None:
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [self.vector, pointer.type, _INDEX, mask.type])
        store = self.intrinsic("masked.store", kind)
        self.builder.call(store, [value, pointer, _INDEX(self.tiles.bits // 8), mask])


class _Broadcast(_Kernel):
    def __init__(self, tiles: Tiles, function: Any, vectors: int) -> None:
        super().__init__(tiles, function)
        self.vectors = vectors

    def fill(self) -> None:
        width = self.vectors * self.lanes
        with self.range(_SIZE(0), self.columns, width) as (column, _):
            left = self.builder.sub(self.columns, column)
            masks = [self.mask(self.plus(left, -v * self.lanes)) for v in range(self.vectors)]
            start = _SIZE(0)
            for height in HEIGHTS[self.vectors]:
                smallest = height == FEWEST_ROWS
                stop = self.rows if smallest else self.builder.and_(self.rows, _SIZE(-height))
                with self.range(start, stop, height) as (row, _):
                    if smallest:
                        row = self.within(row, self.rows, height)
                    self._tile(row, column, height, masks)
                start = stop

    def _tile(self, row: Any, column: Any, height: int, masks: list[Any]) -> None:
        a_row, a_term = self.steps
        totals = self.zeros(height, self.vectors)
        with cgutils.for_range(self.builder, self.inner) as loop:
            k = loop.index
            line = self.at(self.b, k, self.columns, column)
            factors = [self.load(self._vector(line, v), mask) for v, mask in enumerate(masks)]
            for r, total in enumerate(totals):
                term = self.at(self.a, self.plus(row, r), a_row, self.builder.mul(k, a_term))
                number = self.spread(self.builder.load(term))
                for v, factor in enumerate(factors):
                    self.add_product(total[v], number, factor)
        for r, total in enumerate(totals):
            line = self.at(self.out, self.plus(row, r), self.columns, column)
            for v, mask in enumerate(masks):
                self.store(self.builder.load(total[v]), self._vector(line, v), mask)

    def _vector(self, line: Any, v: int) -> Any:
        return self.builder.gep(line, [_SIZE(v * self.lanes)])


class _Dot(_Kernel):
    def fill(self) -> None:
        with self.range(_SIZE(0), self.columns, SIDE) as (column, _):
            column = self.within(column, self.columns, SIDE)
            with self.range(_SIZE(0), self.rows, SIDE) as (row, _):
                self._tile(self.within(row, self.rows, SIDE), column)

    def _tile(self, row: Any, column: Any) -> None:
        totals = self.zeros(SIDE, SIDE)
        with self.range(_SIZE(0), self.inner, self.lanes) as (k, _):
            mask = self.mask(self.builder.sub(self.inner, k))
            lines = [self._line(self.b, column, c, k, mask) for c in range(SIDE)]
            for r, total in enumerate(totals):
                line = self._line(self.a, row, r, k, mask)
                for c, other in enumerate(lines):
                    self.add_product(total[c], line, other)
        for r, total in enumerate(totals):
            for c, vector in enumerate(total):
                place = self.at(self.out, self.plus(row, r), self.columns, self.plus(column, c))
                self.builder.store(self._sum(self.builder.load(vector)), place)

    def _line(self, data: Any, start: Any, r: int, k: Any, mask: Any) -> Any:
        return self.load(self.at(data, self.plus(start, r), self.inner, k), mask)

    def _sum(self, vector: Any) -> Any:
        real = self.tiles.real
        add = self.intrinsic("vector.reduce.fadd", ir.FunctionType(real, [real, self.vector]))
        return self.builder.call(add, [ir.Constant(real, -0.0), vector], fastmath=("reassoc",))
