"""Matrix products into given arrays, through the BLAS that Numba itself calls.

Jitted, a product of floats is one call of BLAS: `np.dot` would give the same speed but takes five
times as long to compile. Products of integers, which BLAS lacks, are plain loops.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import signature
from numba.extending import lower_builtin, type_callable
from numba.np.linalg import ensure_blas

__all__ = ["batched_matmul", "matmul"]

# A cached function calls BLAS without passing through Numba's own check that SciPy provides it.
ensure_blas()

_KINDS = {types.float32: "s", types.float64: "d"}

_BYTE = ir.IntType(8)
_POINTER = _BYTE.as_pointer()
_SIZE = cgutils.intp_t


def matmul(
    a: npt.NDArray[Any],
    b: npt.NDArray[Any],
    out: npt.NDArray[Any],
    transpose_a: bool,
    transpose_b: bool,
) -> None:
    """Write the product of two matrices, each transposed first if its flag says so, to `out`.

    All are C-contiguous, of two axes and of one dtype: float32, float64 or an integer, which wraps
    around. The caller guarantees that the shapes fit and that `out` overlaps neither operand. What
    `out` held does not matter.

    >>> out = np.empty((1, 1))
    >>> matmul(np.array([[1.0], [2.0]]), np.array([[3.0, 4.0]]), out, True, True)
    >>> out
    array([[11.]])
    """
    with np.errstate(all="ignore"):
        np.matmul(a.T if transpose_a else a, b.T if transpose_b else b, out=out)


def batched_matmul(
    a: npt.NDArray[Any],
    b: npt.NDArray[Any],
    out: npt.NDArray[Any],
    transpose_a: bool,
    transpose_b: bool,
) -> None:
    """Write the products of two equally long stacks of matrices to `out`, as `matmul` does each.

    All have three axes, of which the flags transpose the last two.

    >>> out = np.empty((2, 1, 1))
    >>> batched_matmul(np.ones((2, 1, 3)), np.ones((2, 1, 3)), out, False, True)
    >>> out.ravel()
    array([3., 3.])
    """
    first = a.swapaxes(1, 2) if transpose_a else a
    second = b.swapaxes(1, 2) if transpose_b else b
    with np.errstate(all="ignore"):
        np.matmul(first, second, out=out)


class _Operand(NamedTuple):
    """A row-major matrix in memory, and whether it is meant transposed."""

    data: Any
    shape: Any
    transposed: Any

    @property
    def rows(self) -> Any:
        return self.shape[0]

    @property
    def columns(self) -> Any:
        return self.shape[1]


def _typer(rank: int) -> Any:
    def type_product(context: Any) -> Any:
        def typer(a: Any, b: Any, out: Any, transpose_a: Any, transpose_b: Any) -> Any:
            arrays = (a, b, out)
            flags = (transpose_a, transpose_b)
            if not all(isinstance(flag, types.Boolean) for flag in flags):
                return None
            if not all(isinstance(array, types.Array) for array in arrays) or not out.mutable:
                return None
            if any((array.ndim, array.layout) != (rank, "C") for array in arrays):
                return None
            if not a.dtype == b.dtype == out.dtype or not _has_product(out.dtype):
                return None
            return signature(types.none, *arrays, types.boolean, types.boolean)

        return typer

    return type_product


def _has_product(dtype: Any) -> bool:
    return dtype in _KINDS or isinstance(dtype, types.Integer)


type_callable(matmul)(_typer(2))
type_callable(batched_matmul)(_typer(3))


@lower_builtin(matmul, types.Array, types.Array, types.Array, types.Boolean, types.Boolean)
def _lower_matmul(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    dtype = sig.args[2].dtype
    if dtype not in _KINDS:
        return context.compile_internal(builder, _integer_matmul, sig, args)
    (a, shape_a), (b, shape_b), (out, _) = _arrays(context, builder, sig, args)
    _Product(context, builder, dtype).emit(
        _Operand(a, shape_a, args[3]), _Operand(b, shape_b, args[4]), out
    )
    return context.get_dummy_value()


@lower_builtin(batched_matmul, types.Array, types.Array, types.Array, types.Boolean, types.Boolean)
def _lower_batched_matmul(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    dtype = sig.args[2].dtype
    if dtype not in _KINDS:
        return context.compile_internal(builder, _integer_batched_matmul, sig, args)
    stacks = _arrays(context, builder, sig, args)
    shapes = [shape[1:] for _, shape in stacks]
    sizes = [builder.mul(*shape) for shape in shapes]
    with cgutils.for_range(builder, stacks[2][1][0]) as loop:
        a, b, out = (
            builder.gep(data, [builder.mul(loop.index, size)])
            for (data, _), size in zip(stacks, sizes, strict=True)
        )
        _Product(context, builder, dtype).emit(
            _Operand(a, shapes[0], args[3]), _Operand(b, shapes[1], args[4]), out
        )
    return context.get_dummy_value()


def _arrays(context: Any, builder: Any, sig: Any, args: Any) -> list[tuple[Any, list[Any]]]:
    """Return the data pointers and shapes of the two operands and the result."""
    arrays = (
        context.make_array(kind)(context, builder, value)
        for kind, value in zip(sig.args[:3], args[:3], strict=True)
    )
    return [(array.data, cgutils.unpack_tuple(builder, array.shape)) for array in arrays]


class _Product:
    """Emits one product of floats at the position of a builder."""

    def __init__(self, context: Any, builder: Any, dtype: Any) -> None:
        self.context = context
        self.builder = builder
        self.kind = _BYTE(ord(_KINDS[dtype]))
        self.item_size = context.get_abi_sizeof(context.get_data_type(dtype))
        self.one = self._constant(dtype, 1)
        self.zero = self._constant(dtype, 0)

    def emit(self, a: _Operand, b: _Operand, out: Any) -> None:
        """Write the product of `a` and `b` to the array that starts at `out`."""
        builder = self.builder
        rows = builder.select(a.transposed, a.columns, a.rows)
        inner = builder.select(a.transposed, a.rows, a.columns)
        columns = builder.select(b.transposed, b.rows, b.columns)
        out = builder.bitcast(out, _POINTER)
        length = builder.mul(rows, columns)
        # BLAS rejects matrices without elements, and a sum of no products is zero.
        is_empty = self._is(builder.mul(length, inner), 0)
        with builder.if_else(is_empty) as (empty, filled):
            with empty:
                self._clear(out, length)
            with filled:
                self._multiply(a, b, out, (rows, inner, columns))

    def _multiply(self, a: _Operand, b: _Operand, out: Any, sizes: Any) -> None:
        builder = self.builder
        rows, _, columns = sizes
        with builder.if_else(self._is(columns, 1)) as (is_column, is_wider):
            with is_column:
                self._times_vector(a, builder.not_(a.transposed), b.data, out, rows)
            with is_wider, builder.if_else(self._is(rows, 1)) as (is_row, is_matrix):
                with is_row:
                    self._times_vector(b, b.transposed, a.data, out, columns)
                with is_matrix:
                    self._times_matrix(a, b, out, sizes)

    def _times_vector(
        self, matrix: _Operand, transposed: Any, vector: Any, out: Any, length: Any
    ) -> None:
        # BLAS reads a row-major matrix as its transpose. Some libraries scale what the result held
        # by zero instead of overwriting it, which keeps nan.
        self._clear(out, length)
        arguments = (
            *(self.kind, self._flag(transposed), matrix.columns, matrix.rows),
            *(self.one, self._pointer(matrix.data), matrix.columns),
            *(self._pointer(vector), self.zero, out),
        )
        self._call("numba_xxgemv", arguments)

    def _times_matrix(self, a: _Operand, b: _Operand, out: Any, sizes: Any) -> None:
        # In the column-major terms of BLAS, out.T = b.T @ a.T.
        rows, inner, columns = sizes
        arguments = (
            *(self.kind, self._flag(b.transposed), self._flag(a.transposed)),
            *(columns, rows, inner),
            *(self.one, self._pointer(b.data), b.columns, self._pointer(a.data), a.columns),
            *(self.zero, out, columns),
        )
        self._call("numba_xxgemm", arguments)

    def _call(self, name: str, arguments: tuple[Any, ...]) -> None:
        builder = self.builder
        function_type = ir.FunctionType(ir.IntType(32), [value.type for value in arguments])
        function = cgutils.get_or_insert_function(builder.module, function_type, name)
        status = builder.call(function, arguments)
        with builder.if_then(cgutils.is_not_null(builder, status), likely=False):
            message = ("BLAS is not available from SciPy",)
            self.context.call_conv.return_user_exc(builder, RuntimeError, message)

    def _clear(self, out: Any, length: Any) -> None:
        cgutils.memset(self.builder, out, self.builder.mul(length, _SIZE(self.item_size)), 0)

    def _constant(self, dtype: Any, number: float) -> Any:
        value = self.context.get_constant(dtype, number)
        return self._pointer(cgutils.alloca_once_value(self.builder, value))

    def _flag(self, transposed: Any) -> Any:
        return self.builder.select(transposed, _BYTE(ord("t")), _BYTE(ord("n")))

    def _is(self, size: Any, number: int) -> Any:
        return self.builder.icmp_signed("==", size, _SIZE(number))

    def _pointer(self, data: Any) -> Any:
        return self.builder.bitcast(data, _POINTER)


def _integer_matmul(a: Any, b: Any, out: Any, transpose_a: bool, transpose_b: bool) -> None:
    rows, columns = out.shape
    for i in range(rows):
        for j in range(columns):
            out[i, j] = 0
        for k in range(a.shape[0] if transpose_a else a.shape[1]):
            factor = a[k, i] if transpose_a else a[i, k]
            for j in range(columns):
                out[i, j] += factor * (b[j, k] if transpose_b else b[k, j])


def _integer_batched_matmul(a: Any, b: Any, out: Any, transpose_a: bool, transpose_b: bool) -> None:
    for i in range(out.shape[0]):
        matmul(a[i], b[i], out[i], transpose_a, transpose_b)
