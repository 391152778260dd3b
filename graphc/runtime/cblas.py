"""The BLAS that products call: NumPy's own, so that a program has one pool of BLAS threads, or SciPy's.

Machine code refers to the functions by the names that are registered here, and to nothing of the process that
compiled it. Whichever library they belong to, they have the interface of CBLAS with 64-bit integers: code
that is kept on disk runs in processes that find another BLAS.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numpy._core import _multiarray_umath

__all__ = [
    "NAMES",
    "PLAIN",
    "ROW_MAJOR",
    "TRANSPOSED",
    "declared",
    "from_numpy",
    "from_scipy",
    "register",
]

NAMES = ("sgemm", "dgemm", "sgemv", "dgemv")
REALS = {"s": ir.FloatType(), "d": ir.DoubleType()}

ROW_MAJOR = 101
PLAIN, TRANSPOSED = 111, 112

_BYTE = ir.IntType(8)
_ENUM = ir.IntType(32)
_SIZE = cgutils.intp_t


def _function_type(name: str) -> ir.FunctionType:
    real = REALS[name[0]]
    array = (real.as_pointer(), _SIZE)
    if name.endswith("gemv"):
        # Order, transposed, rows, columns, alpha, matrix, x, beta, y.
        kinds = [_ENUM, _ENUM, _SIZE, _SIZE, real, *array, *array, real, *array]
    else:
        # Order, transposed a and b, rows, columns, inner, alpha, a, b, beta, result.
        kinds = [*[_ENUM] * 3, *[_SIZE] * 3, real, *array, *array, real, *array]
    return ir.FunctionType(ir.VoidType(), kinds)


def declared(module: Any, name: str) -> Any:
    """Return one of the functions `NAMES`, declared in a module of LLVM."""
    return cgutils.get_or_insert_function(module, _function_type(name), f"graphc_{name}")


def register(addresses: Mapping[str, int] | None = None) -> None:
    """Make code that is compiled or loaded from now on call the functions at these addresses.

    Without addresses they are NumPy's if it has them, else SciPy's. Must be called before the first code
    that refers to them is compiled or loaded.
    """
    addresses = addresses or from_numpy() or from_scipy()
    for name in NAMES:
        llvm.add_symbol(f"graphc_{name}", addresses[name])


# NumPy's.


def from_numpy() -> dict[str, int] | None:
    """Return the addresses of the functions in the OpenBLAS that NumPy's wheels bring; None without it.

    Another build of NumPy calls a library of the system, mostly the one that SciPy calls.
    """
    for library in _libraries():
        for prefix in ("scipy_", ""):
            found = _addresses(library, prefix)
            if found is not None:
                return found
    return None


def _libraries() -> Iterator[Any]:
    # All of these are in the process already.
    if sys.platform == "win32":
        folder = Path(np.__file__).parents[1] / "numpy.libs"
        paths = [str(path) for path in sorted(folder.glob("*openblas*.dll"))]
    else:
        # The symbols of a library are looked up in those that it needs, too.
        paths = [_multiarray_umath.__file__]
    for path in paths:
        try:
            yield ctypes.CDLL(path)
        except OSError:
            continue


def _addresses(library: Any, prefix: str) -> dict[str, int] | None:
    try:
        config = getattr(library, f"{prefix}openblas_get_config64_")
        functions = {name: getattr(library, f"{prefix}cblas_{name}64_") for name in NAMES}
    except AttributeError:
        return None
    config.restype = ctypes.c_char_p
    if b"USE64BITINT" not in config():
        return None
    return {name: ctypes.cast(f, ctypes.c_void_p).value or 0 for name, f in functions.items()}


# SciPy's, which Numba calls.


def from_scipy() -> dict[str, int]:
    """Return the addresses of functions that call SciPy's BLAS, through Numba.

    Raises ImportError when SciPy is missing.
    """
    # Not at the top of this file: it loads Numba's arrays and strings, which few processes need.
    importlib.import_module("numba.np.linalg").ensure_blas()
    with global_compiler_lock:
        library = cpu_target.target_context.codegen().create_library("graphc_cblas")
        library.add_ir_module(_adapters(library))
        library.finalize()
        # It keeps the machine code in memory.
        _kept.append(library)
        return {name: library.get_pointer_to_function(f"graphc_scipy_{name}") for name in NAMES}


_kept: list[Any] = []


def _adapters(library: Any) -> Any:
    module = library.create_ir_module("graphc_cblas")
    for name in NAMES:
        function = ir.Function(module, _function_type(name), f"graphc_scipy_{name}")
        builder = ir.IRBuilder(function.append_basic_block())
        adapt: Callable[..., None] = _call_gemv if name.endswith("gemv") else _call_gemm
        adapt(builder, _BYTE(ord(name[0])), function.args)
        builder.ret_void()
    return module


# BLAS itself is column-major: it reads a row-major matrix as its transpose.


def _call_gemv(builder: Any, kind: Any, args: Any) -> None:
    _, transposed, rows, columns, alpha, matrix, width, x, _, beta, y, _ = args
    flag = _letter(builder, transposed, "n", "t")
    arguments = (flag, columns, rows, _stored(builder, alpha), matrix, width, x)
    _call(builder, "numba_xxgemv", (kind, *arguments, _stored(builder, beta), y))


def _call_gemm(builder: Any, kind: Any, args: Any) -> None:
    _, transposed_a, transposed_b, rows, columns, inner, alpha, *rest = args
    a, width_a, b, width_b, beta, out, width = rest
    flags = (_letter(builder, flag, "t", "n") for flag in (transposed_b, transposed_a))
    operands = (_stored(builder, alpha), b, width_b, a, width_a, _stored(builder, beta))
    _call(builder, "numba_xxgemm", (kind, *flags, columns, rows, inner, *operands, out, width))


def _call(builder: Any, name: str, arguments: tuple[Any, ...]) -> None:
    values = [
        builder.bitcast(value, _BYTE.as_pointer()) if value.type.is_pointer else value
        for value in arguments
    ]
    kind = ir.FunctionType(ir.IntType(32), [value.type for value in values])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)


def _letter(builder: Any, flag: Any, transposed: str, plain: str) -> Any:
    is_transposed = builder.icmp_signed("==", flag, _ENUM(TRANSPOSED))
    return builder.select(is_transposed, _BYTE(ord(transposed)), _BYTE(ord(plain)))


def _stored(builder: Any, value: Any) -> Any:
    return cgutils.alloca_once_value(builder, value)
