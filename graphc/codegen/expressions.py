"""Source text of numbers, elements and scalar operations, with their dtypes made explicit.

Numba promotes like C, not like NumPy: ``float32 * 0.5`` is float64 and ``int32 + int32`` is int64. So every
literal carries its dtype, and 32-bit integer results are cast back.
"""

from __future__ import annotations

import builtins
import keyword
import math
import re
from collections.abc import Callable

import numpy as np

from graphc.errors import InvalidGraph
from graphc.facts import ReadCode, ScalarCode
from graphc.ir import SIZE, Node, uniform_value
from graphc.types import SHORT_NAMES, DType, Shape, Size, int32

MODULES = (
    "np",
    "accumulate",
    "blas",
    "buffers",
    "combine",
    "kernels",
    "loops",
    "parallel",
    "scalar",
    "vmath",
    "vmath_special",
    "vmath_trigonometric",
)
RESERVED = frozenset(
    {
        *dir(builtins),
        *keyword.kwlist,
        *MODULES,
        "gate",
        "exact_gate",
        "njit",
        "axes",
        "shapes",
        "workspace",
    }
)
"""Names that generated code uses itself."""

Index = tuple[str, ...]


def clean_name(name: str) -> str:
    """``name`` as an ASCII identifier that generated code does not use itself."""
    ascii_name = re.sub(r"[^0-9A-Za-z_]", "_", name)
    return f"{ascii_name}_" if ascii_name in RESERVED else ascii_name


def literal(value: object, dtype: DType) -> str:
    """The source of a typed number.

    >>> literal(0.5, np.dtype("float32")), literal(-np.inf, np.dtype("float64"))
    ('np.float32(0.5)', '-np.inf')
    """
    if dtype.kind == "b":
        return str(bool(value))
    if dtype.kind == "i":
        text = str(int(value))  # type: ignore[call-overload]
        return (
            text if dtype.itemsize == 8 and abs(int(text)) < 2**63 else f"np.{dtype.name}({text})"
        )
    number = float(value)  # type: ignore[arg-type]
    if math.isfinite(number):
        text = str(np.dtype(dtype).type(number))
    else:
        text = "np.nan" if math.isnan(number) else ("np.inf" if number > 0 else "-np.inf")
    return text if dtype.itemsize == 8 else f"np.{dtype.name}({text})"


def size_value(node: Node) -> str:
    """The source of a size as a value of the graph."""
    return f"np.{node.dtype.name}({node.attrs['size']})"


def template_of(node: Node) -> str:
    """The code template of an elementwise node."""
    lowering = node.op.lowering
    if not isinstance(lowering, ScalarCode):
        raise InvalidGraph(f"{node.op.name} is not elementwise")
    return lowering.template if isinstance(lowering.template, str) else lowering.template(node)


def scalar_operation(node: Node, operands: list[str]) -> str:
    """One application of an elementwise op to operands that are names or literals."""
    dtype = node.args[0].dtype
    text = template_of(node).format(
        *operands, type=f"np.{node.dtype.name}", suffix=SHORT_NAMES[dtype]
    )
    return f"np.int32({text})" if node.dtype == int32 and text not in operands else text


def element(node: Node, index: Index, known: Callable[[Node, Index], str | None]) -> str:
    """The element of ``node`` at ``index``; ``known`` gives the text of values that exist already."""
    value = uniform_value(node)
    if value is not None:
        return literal(value, node.dtype)
    if node.op is SIZE:
        return size_value(node)
    text = known(node, index)
    if text is not None:
        return text
    lowering = node.op.lowering
    if not isinstance(lowering, ReadCode):
        raise InvalidGraph(f"{node.op.name} has no element before it is computed")
    return lowering.read(node, index, lambda k, inner: element(node.args[k], inner, known))


def flat_index(index: Index, shape: Shape) -> str:
    """Where the element at an index lies in the memory of an array.

    >>> flat_index(("i", "j"), (3, 512)), flat_index((), ()), flat_index(("0", "j + 1"), (1, 5))
    ('512*i + j', '0', 'j + 1')
    """
    text = "0"
    for position, size in zip(index, shape, strict=True):
        if text == "0":
            text = position
        else:
            scaled = f"{_factor(str(size))}*{_factor(text)}"
            text = scaled if position == "0" else f"{scaled} + {position}"
    return text


def _factor(text: str) -> str:
    return text if re.fullmatch(r"\w+", text) else f"({text})"


def size_names(values: object) -> set[str]:
    """The named dimensions in a size or in nested tuples of sizes."""
    if isinstance(values, Size):
        return values.names()
    if isinstance(values, tuple):
        return set().union(*map(size_names, values))
    return set()
