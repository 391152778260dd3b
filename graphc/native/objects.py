"""What native code must know of CPython and NumPy: layouts of objects, addresses of objects and functions.

The layouts are those of CPython 3.11 to 3.13 with a global interpreter lock and of NumPy 2, whose headers
make them part of the ABI. `check_layout` compares them with objects of the running process.
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from typing import Any

import numpy as np
from numpy._core._multiarray_umath import _ARRAY_API  # type: ignore[import-not-found]

# Offsets in bytes. PyObject is a count of references and a type.
TYPE = 8
VALUE = 16
"""Where a float and a NumPy scalar hold their value."""
COUNT = 16
"""Where a tuple and a list hold the number of their items."""
TUPLE_ITEMS = tuple.__basicsize__
LIST_ITEMS = 24
"""Where a list holds the pointer to its items."""

ARRAY_DATA = 16
ARRAY_NDIM = 24
ARRAY_SHAPE = 32
ARRAY_DTYPE = 56
ARRAY_FLAGS = 64

DTYPE_BYTE_ORDER = 26
DTYPE_NUMBER = 28

# Flags of an array, from NumPy's ndarraytypes.h.
C_CONTIGUOUS = 0x0001
ALIGNED = 0x0100
WRITEABLE = 0x0400

_NDARRAY_ENTRY = 2
_NEW_ENTRY = 93


OBJECTS: dict[str, object] = {
    **{str(singleton): singleton for singleton in (None, NotImplemented, False, True)},
    **{type_.__name__: type_ for type_ in (float, int, list, tuple, np.float64, np.ndarray)},
    "out": sys.intern("out"),
}
"""The objects that native code refers to, by name."""
FUNCTIONS = (
    *("PyEval_RestoreThread", "PyEval_SaveThread", "PyList_AsTuple", "PyList_New"),
    *(
        "PyLong_AsLongLongAndOverflow",
        "PyObject_Vectorcall",
        "PyTuple_New",
        "Py_DecRef",
        "Py_IncRef",
    ),
)
"""The functions of CPython that it calls; of NumPy it calls ``PyArray_New``."""


def symbol_of(name: str) -> str:
    """The symbol by which object code refers to an object or a function."""
    return f"graphc.{name}"


def addresses() -> dict[str, int]:
    """The address, in this process, of each of these objects and functions.

    Raises `RuntimeError` when the table of NumPy's C API is not the one that is known here.
    """
    functions = {name: getattr(ctypes.pythonapi, name) for name in FUNCTIONS}
    return {
        **{name: id(object_) for name, object_ in OBJECTS.items()},
        **{name: ctypes.cast(f, ctypes.c_void_p).value or 0 for name, f in functions.items()},
        "PyArray_New": new_array_address(),
    }


def _array_api() -> Any:
    """The table of NumPy's C API, as an array of addresses."""
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype = ctypes.c_void_p
    pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]
    table = pointer_of(_ARRAY_API, None)
    return ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))


def new_array_address() -> int:
    """The address of NumPy's ``PyArray_New``.

    Raises `RuntimeError` when the table of NumPy's C API is not the one that is known here.
    """
    api = _array_api()
    if api[_NDARRAY_ENTRY] != id(np.ndarray):
        raise RuntimeError(f"NumPy {np.__version__} has another C API than graphc knows")
    return int(api[_NEW_ENTRY])


def check_layout() -> None:
    """Raises `RuntimeError` unless objects of this process have the layouts that are written here."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise RuntimeError("graphc needs a Python with a global interpreter lock")
    array = np.zeros((2, 3), np.float32)
    numbers, items = (np.float64(0.5), 0.5), [array]
    # NumPy puts the strides behind the shape, and a list says for how many items it has room.
    strides = ctypes.c_int64.from_address(id(array) + ARRAY_SHAPE).value + 2 * ctypes.sizeof(
        ctypes.c_int64
    )
    expected: list[tuple[int, Any, object]] = [
        (id(array) + TYPE, ctypes.c_void_p, id(np.ndarray)),
        (id(array) + ARRAY_DATA, ctypes.c_void_p, array.ctypes.data),
        (id(array) + ARRAY_NDIM, ctypes.c_int32, 2),
        (id(array) + ARRAY_SHAPE + 8, ctypes.c_int64, strides),
        (id(array) + ARRAY_DTYPE, ctypes.c_void_p, id(array.dtype)),
        (id(array) + ARRAY_FLAGS, ctypes.c_int32, array.flags.num),
        (id(array.dtype) + DTYPE_BYTE_ORDER, ctypes.c_char, array.dtype.byteorder.encode()),
        (id(array.dtype) + DTYPE_NUMBER, ctypes.c_int32, array.dtype.num),
        (id(numbers) + COUNT, ctypes.c_int64, 2),
        (id(numbers) + TUPLE_ITEMS, ctypes.c_void_p, id(numbers[0])),
        (id(items) + COUNT, ctypes.c_int64, 1),
        (id(items) + LIST_ITEMS + 8, ctypes.c_int64, 1),
        *((id(number) + VALUE, ctypes.c_double, 0.5) for number in numbers),
    ]
    if any(type_.from_address(address).value != wanted for address, type_, wanted in expected):
        raise RuntimeError("graphc does not know how this Python or NumPy lays out its objects")
