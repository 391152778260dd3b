"""From what a caller passes to arrays of the declared dtypes, or an error that says what does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.dsl import Tensor
from graphc.errors import GraphTypeError, GraphValueError, compose
from graphc.ir import Array
from graphc.types import DType, TensorType, integer_limits


def in_order(
    function: str, names: Sequence[str], args: Sequence[Any], named: Mapping[str, Any]
) -> list[Any]:
    """Positional and named arguments in the order of the inputs.

    Raises `GraphTypeError` for too many, unknown, missing and repeated arguments.
    """
    signature = f"{function}({', '.join(names)})"
    if len(args) > len(names):
        problem = f"takes {len(names)} arguments but {len(args)} were given"
        raise GraphTypeError(compose(signature, problem))
    values = dict(zip(names, args, strict=False))
    for name, value in named.items():
        if name not in names:
            raise GraphTypeError(compose(signature, f"has no argument {name!r}"))
        if name in values:
            raise GraphTypeError(compose(signature, f"argument {name!r} is given twice"))
        values[name] = value
    missing = [name for name in names if name not in values]
    if missing:
        raise GraphTypeError(compose(signature, f"misses {', '.join(map(repr, missing))}"))
    return [values[name] for name in names]


def as_array(name: str, wanted: TensorType, value: Any) -> Array:
    """``value`` as a C-contiguous array of the declared dtype; nothing is copied that fits already.

    Converts what NumPy calls ``same_kind``, and integers to a smaller integer type only when every value
    fits. Raises `GraphTypeError` for anything else.
    """
    array = _numeric(name, wanted, value)
    if array.dtype != wanted.dtype and array.size:
        _require_castable(name, wanted, array)
    return np.require(array, wanted.dtype, ["C_CONTIGUOUS", "ALIGNED"]).reshape(array.shape)


def _numeric(name: str, wanted: TensorType, value: Any) -> Array:
    if isinstance(value, Tensor):
        fix = "pass an array; a tensor has no value before it is compiled"
        raise GraphTypeError(
            compose(f"argument {name!r}", f"needs {wanted}, not a tensor", fix=fix)
        )
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise GraphTypeError(
            compose(
                f"argument {name!r}",
                f"needs {wanted} but cannot become an array",
                detail=str(error),
            )
        ) from None
    if array.dtype.kind not in "biufc":
        kind = type(value).__name__
        problem = f"needs {wanted} but {kind} of dtype {array.dtype} is not numeric"
        if isinstance(value, int):
            problem = f"needs {wanted} but {value} does not fit 64 bits"
        raise GraphTypeError(compose(f"argument {name!r}", problem))
    return array


def _require_castable(name: str, wanted: TensorType, array: Array) -> None:
    if not _is_safe(array, wanted.dtype):
        raise GraphTypeError(
            compose(
                f"argument {name!r}",
                f"needs {wanted} but is {array.dtype}, and the conversion would lose data",
                fix=f"convert it with .astype({wanted.dtype.name!r}) if that is meant",
            )
        )


def _is_safe(array: Array, dtype: DType) -> bool:
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        # Unsigned integers are of another kind, but their values may fit.
        return array.dtype.kind == "u" and dtype.kind == "i" and _values_fit(array, dtype)
    return dtype.kind != "i" or array.dtype.kind == "b" or _values_fit(array, dtype)


def _values_fit(array: Array, dtype: DType) -> bool:
    low, high = integer_limits(dtype)
    return int(array.min()) >= low and int(array.max()) <= high


def check_result(position: int, wanted: TensorType, shape: tuple[int, ...], array: Any) -> None:
    """Raises unless ``array`` can take a result: an array of that dtype and shape that may be written."""
    what = f"out[{position}]"
    if not isinstance(array, np.ndarray):
        raise GraphTypeError(compose(what, f"needs an array, not {type(array).__name__}"))
    if array.dtype != wanted.dtype:
        raise GraphTypeError(compose(what, f"needs {wanted} but has dtype {array.dtype}"))
    if array.shape != shape:
        raise GraphValueError(compose(what, f"needs shape {shape} but has {array.shape}"))
    if not array.flags.writeable:
        raise GraphValueError(compose(what, "is read-only"))
