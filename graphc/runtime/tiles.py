"""Products of matrices in tiles of the result that stay in registers, with few copies of the operands.

BLAS copies both operands into the order in which its kernel reads them, which pays when each is read often. A
product with few rows reads a matrix once for every eight rows, in the time that the copy would take. Here
one operand is copied at most, and a strip of it at a time.

Loops that LLVM is to vectorise keep no tile in registers, so the kernels are written in its vectors. They
want 32 registers of 64 bytes: with 16 of 32 bytes BLAS is faster.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from .squares import SIDE as SQUARE
from .squares import transposed_lines

__all__ = [
    "BLOCK",
    "FEWEST_ROWS",
    "HEIGHTS",
    "SIDE",
    "VECTORS",
    "VECTOR_BYTES",
    "Tiles",
]

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
BLOCK = 512
"""Terms of the sums that `Tiles.broadcast` adds before it goes on to other tiles: 64 KB of an operand."""
FEWEST_TO_COPY = 128
"""Rows from which on a strip of the second operand is copied for them; measured."""


class Tiles:
    """The kernels for one type of floats, in a module of LLVM.

    Every element is summed in the same order, wherever in a tile it is and whatever part of a product a
    call computes. `dot` wants at least 4 rows and columns: its last tiles overlap those before.
    """

    def __init__(self, module: Any, real: Any) -> None:
        self.module, self.real = module, real
        self.bits = 32 if real == ir.FloatType() else 64
        self.lanes = 8 * VECTOR_BYTES // self.bits
        self.vector = ir.VectorType(real, self.lanes)
        self.suffix = f"v{self.lanes}f{self.bits}"

    def broadcast(self, vectors: int = VECTORS) -> Any:
        """Return ``f(a, b, out, rows, inner, columns, *steps)``, which writes a @ b to ``out``.

        A row of a tile is as many ``vectors``. The steps are `a_row, a_term, b_term, b_column, out_row`: so
        far apart in memory are neighbours. One of those of ``b`` is 1. Multiplies vectors of a row of ``b``
        by one element of ``a``. Where ``b`` lies by columns, or there are many rows, it is copied, a strip
        of columns and some terms at a time; see Goto and van de Geijn, "Anatomy of High-Performance Matrix
        Multiplication" (ACM TOMS, 2008).
        """
        function, is_new = self._function(f"broadcast_{vectors}", 3, 8)
        if is_new:
            _Broadcast(self, function, vectors).emit()
        return function

    def dot(self) -> Any:
        """Return ``f(a, b, out, rows, inner, columns, *steps)``, which writes a @ b to ``out``.

        The steps are those of `broadcast`; ``a_term`` and ``b_term`` are 1. Multiplies vectors of rows of
        ``a`` and columns of ``b``, and sums each in the end.
        """
        function, is_new = self._function("dot", 3, 8)
        if is_new:
            _Dot(self, function).emit()
        return function

    def turned(self, width: int) -> Any:
        """Return ``f(strip, copy, columns, terms, step)``, which copies columns ``step`` apart to rows.

        Those of ``copy`` are ``width`` apart.
        """
        function, is_new = self._function(f"turned_{width}", 2, 3)
        if is_new:
            _Turned(self, function, width).emit()
        return function

    def _function(self, name: str, arrays: int, sizes: int) -> tuple[Any, bool]:
        name = f"graphc_{name}_{self.suffix}"
        if name in self.module.globals:
            return self.module.globals[name], False
        data = self.real.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [data] * arrays + [_SIZE] * sizes)
        function = ir.Function(self.module, kind, name)
        # Another library of the process may have the function too.
        function.linkage = "internal"
        function.attributes.add("noinline")
        # A tile is work enough for an iteration: unrolled loops would take half as long again to compile.
        function.attributes.add("optsize")
        for argument in function.args[:arrays]:
            argument.add_attribute("noalias")
        return function, True


class _Kernel:
    """Emits the body of a function that computes tile by tile."""

    def __init__(self, tiles: Tiles, function: Any) -> None:
        self.tiles, self.vector, self.lanes = tiles, tiles.vector, tiles.lanes
        self.a, self.b, self.out, self.rows, self.inner, self.columns, *steps = function.args
        self.a_row, self.a_term, self.b_term, self.b_column, self.out_row = steps
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

    def smaller(self, one: Any, other: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed("<", one, other), one, other)

    def within(self, index: Any, length: Any, size: int) -> Any:
        """The index, or the last one at which a tile of that size fits."""
        return self.smaller(index, self.builder.sub(length, _SIZE(size)))

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
        self.vectors, self.width = vectors, vectors * self.lanes

    def fill(self) -> None:
        builder = self.builder
        copy = cgutils.alloca_once(builder, self.tiles.real, size=_SIZE(self.width * BLOCK))
        copy.align = VECTOR_BYTES
        lies_by_columns = builder.icmp_signed("!=", self.b_column, _SIZE(1))
        has_many_rows = builder.icmp_signed(">=", self.rows, _SIZE(FEWEST_TO_COPY))
        copies = builder.or_(lies_by_columns, has_many_rows)
        step = builder.select(copies, _SIZE(self.width), self.b_term)
        with self.range(_SIZE(0), self.columns, self.width) as (column, _):
            left = builder.sub(self.columns, column)
            masks = [self.mask(self.plus(left, -v * self.lanes)) for v in range(self.vectors)]
            with self.range(_SIZE(0), self.inner, BLOCK) as (term, _):
                terms = self.smaller(builder.sub(self.inner, term), _SIZE(BLOCK))
                strip = self.at(self.b, term, self.b_term, builder.mul(column, self.b_column))
                with builder.if_then(copies):
                    self._copy(strip, copy, terms, lies_by_columns, masks, left)
                factors = builder.select(copies, copy, strip)
                self._rows_of_tiles(column, term, terms, (factors, step), masks)

    def _copy(
        self, strip: Any, copy: Any, terms: Any, by_columns: Any, masks: list[Any], left: Any
    ) -> None:
        """Copies a strip of ``b``, so that its rows follow one another."""
        builder = self.builder
        with builder.if_else(by_columns) as (is_turned, is_plain):
            with is_turned:
                count = self.smaller(left, _SIZE(self.width))
                turned = self.tiles.turned(self.width)
                builder.call(turned, [strip, copy, count, terms, self.b_column])
            with is_plain, cgutils.for_range(builder, terms) as loop:
                line = builder.gep(strip, [builder.mul(loop.index, self.b_term)])
                to = builder.gep(copy, [builder.mul(loop.index, _SIZE(self.width))])
                for v, mask in enumerate(masks):
                    value = self.load(self._vector(line, v), mask)
                    place = builder.bitcast(self._vector(to, v), self.vector.as_pointer())
                    builder.store(value, place)

    def _rows_of_tiles(
        self, column: Any, term: Any, terms: Any, factors: tuple[Any, Any], masks: list[Any]
    ) -> None:
        """Adds the products of some terms to the tiles of a strip of columns."""
        start = _SIZE(0)
        for height in HEIGHTS[self.vectors]:
            is_last = height == FEWEST_ROWS
            stop = self.rows if is_last else self.builder.and_(self.rows, _SIZE(-height))
            with self.range(start, stop, height) as (first, _):
                more = [_SIZE(r) for r in range(height)]
                if is_last:
                    # A row that is not there is computed as the last one once more.
                    left = self.builder.sub(self.rows, first)
                    more = [self.within(row, left, 1) for row in more]
                self._tile(first, more, column, term, terms, factors, masks)
            start = stop

    def _tile(
        self,
        first: Any,
        more: list[Any],
        column: Any,
        term: Any,
        terms: Any,
        factors: tuple[Any, Any],
        masks: list[Any],
    ) -> None:
        builder = self.builder
        totals = self.zeros(len(more), self.vectors)
        lines = [self.at(self.out, builder.add(first, r), self.out_row, column) for r in more]
        with builder.if_then(builder.icmp_signed("!=", term, _SIZE(0))):
            for line, total in zip(lines, totals, strict=True):
                for v, mask in enumerate(masks):
                    builder.store(self.load(self._vector(line, v), mask), total[v])
        start = self.at(self.a, first, self.a_row, builder.mul(term, self.a_term))
        starts = [builder.gep(start, [builder.mul(r, self.a_row)]) for r in more]
        with cgutils.for_range(builder, terms) as loop:
            data, step = factors
            factor = builder.gep(data, [builder.mul(loop.index, step)])
            vectors = [self.load(self._vector(factor, v), mask) for v, mask in enumerate(masks)]
            place = builder.mul(loop.index, self.a_term)
            for start, total in zip(starts, totals, strict=True):
                number = self.spread(builder.load(builder.gep(start, [place])))
                for v, vector in enumerate(vectors):
                    self.add_product(total[v], number, vector)
        for line, total in zip(lines, totals, strict=True):
            for v, mask in enumerate(masks):
                self.store(builder.load(total[v]), self._vector(line, v), mask)

    def _vector(self, line: Any, v: int) -> Any:
        return self.builder.gep(line, [_SIZE(v * self.lanes)])


class _Turned:
    """Emits the body of `Tiles.turned`."""

    def __init__(self, tiles: Tiles, function: Any, width: int) -> None:
        self.width, self.bits = _SIZE(width), tiles.bits
        self.strip, self.copy, self.columns, self.terms, self.step = function.args
        self.builder = ir.IRBuilder(function.append_basic_block())

    def emit(self) -> None:
        """Fill the function: squares, and one by one what is left of them."""
        builder = self.builder
        columns = builder.and_(self.columns, _SIZE(-SQUARE))
        terms = builder.and_(self.terms, _SIZE(-SQUARE))
        with self._range(_SIZE(0), columns, SQUARE) as (column, _):
            with self._range(_SIZE(0), terms, SQUARE) as (term, _):
                self._square(column, term)
            self._numbers(column, builder.add(column, _SIZE(SQUARE)), terms)
        self._numbers(columns, self.columns, _SIZE(0))
        builder.ret_void()

    def _range(self, start: Any, stop: Any, step: int) -> Any:
        return cgutils.for_range_slice(self.builder, start, stop, _SIZE(step), _SIZE)

    def _source(self, column: Any, term: Any) -> Any:
        index = self.builder.add(self.builder.mul(column, self.step), term)
        return self.builder.gep(self.strip, [index])

    def _target(self, column: Any, term: Any) -> Any:
        index = self.builder.add(self.builder.mul(term, self.width), column)
        return self.builder.gep(self.copy, [index])

    def _square(self, column: Any, term: Any) -> None:
        builder, align = self.builder, self.bits // 8
        line = ir.VectorType(ir.IntType(self.bits), SQUARE).as_pointer()

        def after(index: Any, k: int) -> Any:
            return builder.add(index, _SIZE(k))

        places = [self._source(after(column, k), term) for k in range(SQUARE)]
        lines = [builder.load(builder.bitcast(place, line), align=align) for place in places]
        for k, value in enumerate(transposed_lines(builder, lines)):
            place = builder.bitcast(self._target(column, after(term, k)), line)
            builder.store(value, place, align=align)

    def _numbers(self, first: Any, last: Any, start: Any) -> None:
        with (
            self._range(first, last, 1) as (column, _),
            self._range(start, self.terms, 1) as (k, _),
        ):
            value = self.builder.load(self._source(column, k))
            self.builder.store(value, self._target(column, k))


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
            lines = [
                self._line(self.b, self.plus(column, c), self.b_column, k, mask)
                for c in range(SIDE)
            ]
            for r, total in enumerate(totals):
                line = self._line(self.a, self.plus(row, r), self.a_row, k, mask)
                for c, other in enumerate(lines):
                    self.add_product(total[c], line, other)
        for r, total in enumerate(totals):
            for c, vector in enumerate(total):
                place = self.at(self.out, self.plus(row, r), self.out_row, self.plus(column, c))
                self.builder.store(self._sum(self.builder.load(vector)), place)

    def _line(self, data: Any, line: Any, step: Any, k: Any, mask: Any) -> Any:
        return self.load(self.at(data, line, step, k), mask)

    def _sum(self, vector: Any) -> Any:
        real = self.tiles.real
        add = self.intrinsic("vector.reduce.fadd", ir.FunctionType(real, [real, self.vector]))
        return self.builder.call(add, [ir.Constant(real, -0.0), vector], fastmath=("reassoc",))
