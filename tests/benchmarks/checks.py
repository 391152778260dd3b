"""Results against the reference: hand-derived NumPy in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rows import Row
from systems import numpy_rows

TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
"""Relative to an element and to the root mean square of all elements of its result."""


def reference(row: Row) -> tuple[Any, ...]:
    """The results of a row in float64."""
    arrays = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in row.arrays()]
    return tuple(numpy_rows.ROWS[row.key](*arrays))


def mismatch(row: Row, results: Sequence[Any], expected: Sequence[Any]) -> str:
    """What is wrong with the results, or nothing."""
    if len(results) != len(expected):
        return f"{len(results)} results instead of {len(expected)}"
    for k, (result, wanted) in enumerate(zip(results, expected, strict=True)):
        # A jitted function gives a number of any type as Python's float.
        dtype = row.dtype if type(result) is float else None
        problem = _difference(np.asarray(result, dtype), np.asarray(wanted), row.dtype)
        if problem:
            return f"result {k}: {problem}"
    return ""


def _difference(result: Any, wanted: Any, dtype: str) -> str:
    if result.dtype != dtype:
        return f"is {result.dtype}, not {dtype}"
    if result.shape != wanted.shape:
        return f"has the shape {result.shape}, not {wanted.shape}"
    tolerance = TOLERANCE[dtype]
    scale = tolerance * (np.abs(wanted) + np.sqrt(np.mean(wanted**2)))
    error = np.abs(result.astype(np.float64) - wanted)
    wrong = np.count_nonzero(~(error <= scale))
    if not wrong:
        return ""
    return f"is wrong in {wrong} of {error.size} elements, the first by {_first(error, scale):.3g}"


def _first(error: Any, scale: Any) -> float:
    return float(np.ravel(error)[np.ravel(~(error <= scale)).argmax()])
