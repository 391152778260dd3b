"""Matrix products into given arrays: a call of BLAS, or of a kernel of our own where BLAS is slower.

Which of them is decided by the sizes of a call, as those may be named sizes. Products of integers,
which BLAS lacks, are plain loops.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from . import cblas
from .blocks import BLOCKS, Call, emit_blocks, emit_parts
from .buffers import Buffer, as_buffer, buffer_value
from .forms import has_wide_registers
from .tiles import BLOCK, FEWEST_ROWS, HEIGHTS, SIDE, VECTORS, Tiles

__all__ = ["batched_matmul", "matmul"]

_KINDS = {types.float32: "s", types.float64: "d"}

_BOOL = ir.IntType(1)
_ENUM = ir.IntType(32)
_SIZE = cgutils.intp_t

_RELATIONS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    ">": operator.gt,
}

# Where products in tiles are at least as fast as BLAS; measured, see docs/decisions.md.
FEWEST_TERMS = 8
MOST_ROWS = 64
FEWEST_COLUMNS = 32
FEWEST_VECTORS = 16
"""Vectors in a row of an operand, each row of which is summed in the end."""
FEWEST_TO_TURN = 32
"""Rows for which it pays to copy the second operand where that is transposed."""
LARGEST_OPERAND = 2**20
"""Bytes of a matrix that stays in the cache where it is read across its rows."""
COPIED_SLOWLY = 2**20
"""Bytes of an operand from which on BLAS takes longer to copy it than tiles that are half full take."""
MOST_WORK = 2**26
"""Terms of all sums. For larger products BLAS may use several threads."""


def matmul(
    a: npt.NDArray[Any],
    b: npt.NDArray[Any],
    out: npt.NDArray[Any],
    transpose_a: bool,
    transpose_b: bool,
    rows: int,
    inner: int,
    columns: int,
    threads: int = 1,
) -> None:
    """Write the product of two matrices, each transposed first if its flag says so, to `out`.

    All are flat and of one dtype: float32, float64 or an integer, which wraps around. The product is
    (rows, inner) @ (inner, columns). The caller guarantees that `out` overlaps neither operand. What it
    held does not matter. Kernels of our own run on up to so many threads, a literal, with the same bits for
    any number of them; those of BLAS are as many as it was told.

    >>> out = np.empty(1)
    >>> matmul(np.array([1.0, 2.0]), np.array([3.0, 4.0]), out, True, True, 1, 2, 1)
    >>> out
    array([11.])
    """
    batched_matmul(a, b, out, transpose_a, transpose_b, rows, inner, columns, 1, threads)


def batched_matmul(
    a: npt.NDArray[Any],
    b: npt.NDArray[Any],
    out: npt.NDArray[Any],
    transpose_a: bool,
    transpose_b: bool,
    rows: int,
    inner: int,
    columns: int,
    count: int,
    threads: int = 1,
) -> None:
    """Write the products of two stacks of `count` matrices to `out`, as `matmul` does each.

    >>> out = np.empty(2)
    >>> batched_matmul(np.ones(6), np.ones(6), out, False, True, 1, 3, 1, 2)
    >>> out
    array([3., 3.])
    """
    first = _stack(a, count, rows, inner, transpose_a)
    second = _stack(b, count, inner, columns, transpose_b)
    size = count * rows * columns
    with np.errstate(all="ignore"):
        np.matmul(first, second, out=out[:size].reshape(count, rows, columns))


def _stack(
    x: npt.NDArray[Any], count: int, rows: int, columns: int, transposed: bool
) -> npt.NDArray[Any]:
    line = x.reshape(-1)[: count * rows * columns]
    if transposed:
        return line.reshape(count, columns, rows).swapaxes(1, 2)
    return line.reshape(count, rows, columns)


class _Operand(NamedTuple):
    """A row-major matrix in memory, and whether it is meant transposed."""

    data: Any
    shape: Any
    transposed: Any

    @property
    def columns(self) -> Any:
        return self.shape[1]


def _has_product(dtype: Any) -> bool:
    return dtype in _KINDS or isinstance(dtype, types.Integer)


class _Template(AbstractTemplate):
    prefer_literal = True
    numbers: int
    """Of sizes, without the number of threads."""

    def generic(self, args: Any, kws: Any) -> Any:
        given = args[5 + self.numbers :]
        if not all(isinstance(kind, types.IntegerLiteral) for kind in given):
            return None
        kinds = tuple(map(as_buffer, args[:3]))
        if not all(isinstance(kind, Buffer) for kind in kinds):
            return None
        if len({kind.dtype for kind in kinds}) > 1 or not _has_product(kinds[2].dtype):
            return None
        if isinstance(args[2], types.Array) and not args[2].mutable:
            return None
        rest = (types.boolean, types.boolean, *(types.intp,) * self.numbers)
        return signature(types.none, *args[:3], *rest, *given)


class _MatmulTemplate(_Template):
    key = matmul
    numbers = 3


class _BatchedTemplate(_Template):
    key = batched_matmul
    numbers = 4


infer_global(matmul, types.Function(_MatmulTemplate))
infer_global(batched_matmul, types.Function(_BatchedTemplate))


@lower_builtin(matmul, types.VarArg(types.Any))
def _lower_matmul(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    dtype = sig.args[2].dtype
    if dtype not in _KINDS:
        one = cgutils.intp_t(1)
        return _lower_integers(context, builder, sig, (*args[:8], one))
    pointers = _pointers(context, builder, sig, args)
    _emit_product(context, builder, dtype, pointers, args[3:8], _threads(sig.args[8:]))
    return context.get_dummy_value()


@lower_builtin(batched_matmul, types.VarArg(types.Any))
def _lower_batched_matmul(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    dtype = sig.args[2].dtype
    if dtype not in _KINDS:
        return _lower_integers(context, builder, sig, args[:9])
    threads = _threads(sig.args[9:])
    rows, inner, columns, count = args[5:9]
    values = (*_pointers(context, builder, sig, args), *args[3:8])

    def one_by_one(builder: Any, values: Sequence[Any], first: Any, last: Any) -> None:
        _emit_stack(context, builder, dtype, values, (first, last), 1)

    if threads == 1:
        _emit_stack(context, builder, dtype, values, (_SIZE(0), count), 1)
        return context.get_dummy_value()
    has_many = builder.icmp_signed(">=", count, _SIZE(BLOCKS * threads))
    with builder.if_else(has_many) as (is_shared, is_not):
        with is_shared:
            work = builder.mul(builder.mul(rows, inner), columns)
            emit_parts(builder, values, count, work, threads, one_by_one)
        with is_not:
            _emit_stack(context, builder, dtype, values, (_SIZE(0), count), threads)
    return context.get_dummy_value()


def _emit_stack(
    context: Any, builder: Any, dtype: Any, values: Sequence[Any], bounds: Any, threads: int
) -> None:
    """Emit the products of some matrices of stacks, one after the other."""
    *pointers, _, _, rows, inner, columns = values
    pairs = ((rows, inner), (inner, columns), (rows, columns))
    sizes = [builder.mul(*pair) for pair in pairs]
    first, last = bounds
    with cgutils.for_range_slice(builder, first, last, _SIZE(1), _SIZE) as (index, _):
        matrices = tuple(
            builder.gep(data, [builder.mul(index, size)])
            for data, size in zip(pointers, sizes, strict=True)
        )
        _emit_product(context, builder, dtype, matrices, values[3:], threads)


def _threads(given: Any) -> int:
    """The number of threads, which is 1 unless it is given."""
    return given[0].literal_value if given else 1


def _lower_integers(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    kinds = (*map(as_buffer, sig.args[:5]), *(types.intp,) * 4)
    values = (*_pointers(context, builder, sig, args), *args[3:])
    return context.compile_internal(
        builder, _integer_products, signature(types.none, *kinds), values
    )


def _pointers(context: Any, builder: Any, sig: Any, args: Any) -> tuple[Any, ...]:
    return tuple(
        buffer_value(context, builder, kind, value)
        for kind, value in zip(sig.args[:3], args[:3], strict=True)
    )


def _emit_product(
    context: Any,
    builder: Any,
    dtype: Any,
    pointers: tuple[Any, ...],
    arguments: Any,
    threads: int,
) -> None:
    """Emit one product; `arguments` are the flags and the sizes rows, inner and columns."""
    a, b, out = pointers
    transpose_a, transpose_b, rows, inner, columns = arguments
    product = _Product(context, builder, dtype, threads)
    # A column lies in memory as a row does, and BLAS is slower with what it is to transpose.
    transpose_a, transpose_b = (
        product.all(flag, product.compare(inner, "!=", 1)) for flag in (transpose_a, transpose_b)
    )
    product.emit(
        _Operand(a, _swapped(builder, transpose_a, rows, inner), transpose_a),
        _Operand(b, _swapped(builder, transpose_b, inner, columns), transpose_b),
        out,
        (rows, inner, columns),
    )


def _swapped(builder: Any, transposed: Any, rows: Any, columns: Any) -> tuple[Any, Any]:
    """The shape in memory of what is (rows, columns), possibly transposed."""
    return builder.select(transposed, columns, rows), builder.select(transposed, rows, columns)


class _Product:
    """Emits one product of floats at the position of a builder."""

    def __init__(self, context: Any, builder: Any, dtype: Any, threads: int) -> None:
        self.builder, self.threads = builder, threads
        self.kind = _KINDS[dtype]
        self.real = context.get_data_type(dtype)
        self.item_size = context.get_abi_sizeof(self.real)
        self.tiles = Tiles(builder.module, self.real)

    def emit(self, a: _Operand, b: _Operand, out: Any, sizes: Any) -> None:
        """Write the product of `a` and `b` to the array that starts at `out`."""
        builder = self.builder
        rows, inner, columns = sizes
        length = builder.mul(rows, columns)
        # BLAS rejects matrices without elements, and a sum of no products is zero.
        is_empty = self.compare(builder.mul(length, inner), "==", 0)
        with builder.if_else(is_empty) as (empty, filled):
            with empty:
                self._clear(out, length)
            with filled:
                self._multiply(a, b, out, sizes)

    def _multiply(self, a: _Operand, b: _Operand, out: Any, sizes: Any) -> None:
        builder = self.builder
        rows, _, columns = sizes
        with builder.if_else(self.compare(columns, "==", 1)) as (is_column, is_wider):
            with is_column:
                self._times_vector(a, a.transposed, b.data, out, rows)
            with is_wider, builder.if_else(self.compare(rows, "==", 1)) as (is_row, is_matrix):
                with is_row:
                    self._times_vector(b, builder.not_(b.transposed), a.data, out, columns)
                with is_matrix:
                    self._times_matrix(a, b, out, sizes)

    def _times_vector(
        self, matrix: _Operand, transposed: Any, vector: Any, out: Any, length: Any
    ) -> None:
        # Some libraries scale what the result held by zero instead of overwriting it, which keeps nan.
        self._clear(out, length)
        arguments = (
            *(self._flag(transposed), *matrix.shape, self.real(1), matrix.data, matrix.columns),
            *(vector, _SIZE(1), self.real(0), out, _SIZE(1)),
        )
        self._call("gemv", arguments)

    def _times_matrix(self, a: _Operand, b: _Operand, out: Any, sizes: Any) -> None:
        builder = self.builder
        done = builder.append_basic_block("done")
        for suits, emit_kernel in (
            (self._suits_dot(a, b, sizes), self._call_dot),
            (self._suits_broadcast(a, b, sizes), self._call_broadcast),
        ):
            if not _is_known(suits, False):
                with builder.if_then(suits):
                    emit_kernel(a, b, out, sizes)
                    builder.branch(done)
        self._call_gemm(a, b, out, sizes)
        builder.branch(done)
        builder.position_at_end(done)

    def _suits_broadcast(self, a: _Operand, b: _Operand, sizes: Any) -> Any:
        rows, inner, _ = sizes
        bytes_of_a = self._times(self._times(rows, inner), _SIZE(self.item_size))
        bytes_of_rows = self._times(rows, _SIZE(BLOCK * self.item_size))
        return self.all(
            _BOOL(has_wide_registers()),
            self.compare(rows, ">", FEWEST_ROWS),
            self.any(self._not(b.transposed), self.compare(rows, ">=", FEWEST_TO_TURN)),
            self.compare(inner, ">=", FEWEST_TERMS),
            self._fills_tiles(sizes),
            self.any(
                self._not(a.transposed),
                self.compare(bytes_of_a, "<=", LARGEST_OPERAND),
                self.compare(bytes_of_rows, "<=", LARGEST_OPERAND),
            ),
            self._is_short(sizes),
        )

    def _suits_dot(self, a: _Operand, b: _Operand, sizes: Any) -> Any:
        rows, inner, columns = sizes
        return self.all(
            _BOOL(has_wide_registers()),
            b.transposed,
            self._not(a.transposed),
            self.compare(rows, ">", SIDE),
            self.compare(rows, "<=", MOST_ROWS),
            self.compare(columns, ">=", FEWEST_COLUMNS),
            self.compare(inner, ">=", FEWEST_VECTORS * self.tiles.lanes),
            self._is_short(sizes),
        )

    def _vectors(self, columns: Any) -> int:
        """Vectors in a row of a tile."""
        is_narrow = isinstance(columns, ir.Constant) and columns.constant <= self.tiles.lanes
        return 1 if is_narrow else VECTORS

    def _fills_tiles(self, sizes: Any) -> Any:
        """Whether at most an eighth as many columns as there are would be computed in vain.

        Where one or two vectors are a whole row, and BLAS would copy a large operand, it may be half.
        """
        rows, inner, columns = sizes
        width = VECTORS * self.tiles.lanes
        if isinstance(columns, ir.Constant):
            count = columns.constant
            if -count % width * 8 <= count:
                return _BOOL(True)
            bytes_of_a = self._times(self._times(rows, inner), _SIZE(self.item_size))
            is_half = _BOOL(2 * count >= self.tiles.lanes and count <= width)
            return self.all(is_half, self.compare(bytes_of_a, ">=", COPIED_SLOWLY))
        vain = self.builder.and_(self.builder.neg(columns), _SIZE(width - 1))
        return self.builder.icmp_signed("<=", self.builder.mul(vain, _SIZE(8)), columns)

    def _is_short(self, sizes: Any) -> Any:
        rows, inner, columns = sizes
        return self.compare(self._times(self._times(inner, columns), rows), "<=", MOST_WORK)

    def _call_broadcast(self, a: _Operand, b: _Operand, out: Any, sizes: Any) -> None:
        vectors = self._vectors(sizes[2])
        tile = HEIGHTS[vectors][0], vectors * self.tiles.lanes
        self._call_kernel(self.tiles.broadcast(vectors), (a, b, out), sizes, tile)

    def _call_dot(self, a: _Operand, b: _Operand, out: Any, sizes: Any) -> None:
        self._call_kernel(self.tiles.dot(), (a, b, out), sizes, (SIDE, SIDE))

    def _call_kernel(self, kernel: Any, arrays: Any, sizes: Any, tile: tuple[int, int]) -> None:
        a, b, out = arrays
        rows, inner, columns = sizes
        one, select = _SIZE(1), self.builder.select
        call = Call(
            a=a.data,
            b=b.data,
            out=out,
            rows=rows,
            inner=inner,
            columns=columns,
            a_row=select(a.transposed, one, a.columns),
            a_term=select(a.transposed, a.columns, one),
            b_term=select(b.transposed, one, b.columns),
            b_column=select(b.transposed, b.columns, one),
            out_row=columns,
        )
        emit_blocks(self.builder, kernel, call, tile, self.threads)

    def _call_gemm(self, a: _Operand, b: _Operand, out: Any, sizes: Any) -> None:
        rows, inner, columns = sizes
        arguments = (
            *(self._flag(a.transposed), self._flag(b.transposed), rows, columns, inner),
            *(self.real(1), a.data, a.columns, b.data, b.columns, self.real(0), out, columns),
        )
        self._call("gemm", arguments)

    def _call(self, name: str, arguments: tuple[Any, ...]) -> None:
        function = cblas.declared(self.builder.module, f"{self.kind}{name}")
        self.builder.call(function, [_ENUM(cblas.ROW_MAJOR), *arguments])

    def _clear(self, out: Any, length: Any) -> None:
        size = self.builder.mul(length, _SIZE(self.item_size))
        cgutils.memset(self.builder, out, size, 0)

    def _flag(self, transposed: Any) -> Any:
        values = _ENUM(cblas.TRANSPOSED), _ENUM(cblas.PLAIN)
        return self.builder.select(transposed, *values)

    # What is known is computed here, so that kernels that are never called are not compiled.

    def _times(self, x: Any, y: Any) -> Any:
        if isinstance(x, ir.Constant) and isinstance(y, ir.Constant):
            return _SIZE(x.constant * y.constant)
        return self.builder.mul(x, y)

    def compare(self, size: Any, relation: str, number: int) -> Any:
        """Return whether `size` stands in a relation, one of `_RELATIONS`, to a number."""
        if isinstance(size, ir.Constant):
            return _BOOL(_RELATIONS[relation](size.constant, number))
        return self.builder.icmp_signed(relation, size, _SIZE(number))

    def _not(self, condition: Any) -> Any:
        if isinstance(condition, ir.Constant):
            return _BOOL(not condition.constant)
        return self.builder.not_(condition)

    def all(self, *conditions: Any) -> Any:
        """Return whether all conditions hold."""
        if any(_is_known(condition, False) for condition in conditions):
            return _BOOL(False)
        unknown = [condition for condition in conditions if not _is_known(condition, True)]
        return functools.reduce(self.builder.and_, unknown, _BOOL(True))

    def any(self, *conditions: Any) -> Any:
        """Return whether one condition holds, or several."""
        return self._not(self.all(*map(self._not, conditions)))


def _is_known(condition: Any, value: bool) -> bool:
    return isinstance(condition, ir.Constant) and bool(condition.constant) == value


def _integer_products(
    a: Any,
    b: Any,
    out: Any,
    transpose_a: bool,
    transpose_b: bool,
    rows: int,
    inner: int,
    columns: int,
    count: int,
) -> None:
    for m in range(count):
        first, second, result = m * rows * inner, m * inner * columns, m * rows * columns
        for i in range(rows):
            for j in range(columns):
                out[result + i * columns + j] = 0
            for k in range(inner):
                factor = a[first + (k * rows + i if transpose_a else i * inner + k)]
                for j in range(columns):
                    at = j * inner + k if transpose_b else k * columns + j
                    out[result + i * columns + j] += factor * b[second + at]
