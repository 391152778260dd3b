"""What native code knows of one function: words in memory, and the places in them.

A descriptor is a header, then one record for each input and each result. Every call has scratch memory
on the stack, in which the header and the records place what `measure` and `run` are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

import numpy as np
import numpy.typing as npt

WORD_BYTES = 8

# Offsets in a header, in bytes.
MEASURE = 0
RUN = 8
INPUTS = 16
RESULTS = 24
RETURNS = 32
SCRATCH_WORDS = 40
# What follows are offsets in the scratch memory.
SHAPES = 48
"""The axes of all results, then the bytes of the workspace; the axes of all inputs stand before."""
WORKSPACE_BYTES = 56
BUFFERS = 64
"""The pointers for `run`: inputs, results, workspace."""
EXTENTS = 72
"""The bytes of each input and result, then of all of them and the workspace together."""
SLOTS = 80
"""A word for each input, for a number that must be converted."""
RECORDS = 88

# Offsets in a record, and its size.
NUMBER = 0
NDIM = 8
ITEM_BYTES = 16
SCALAR = 24
"""The type of NumPy's scalars of that dtype."""
SAME = 32
"""Another type whose value lies in memory as a scalar's does, or the same type again."""
AXES = 40
"""Where in the scratch memory the axes stand."""
RECORD_BYTES = 48

RETURNS_ONE, RETURNS_TUPLE, RETURNS_LIST = range(3)
KINDS = {"one": RETURNS_ONE, "tuple": RETURNS_TUPLE, "list": RETURNS_LIST}


class ArrayType(Protocol):
    """The dtype and the number of axes of an input or a result."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The type of an element."""

    @property
    def ndim(self) -> int:
        """The number of axes."""


def describe(
    inputs: Sequence[ArrayType],
    results: Sequence[ArrayType],
    measure: int,
    run: int,
    returns: str,
) -> npt.NDArray[np.int64]:
    """The descriptor of a function.

    Raises `ValueError` when it returns neither a tuple nor a list nor exactly one result.
    """
    if returns not in KINDS or (returns == "one" and len(results) != 1):
        raise ValueError(f"{len(results)} results cannot be returned as {returns!r}")
    operands = [*inputs, *results]
    *axes, workspace = accumulate((t.ndim for t in operands), initial=0)
    shapes = [*axes, workspace][len(inputs)]
    buffers = workspace + 1
    extents = buffers + len(operands) + 1
    slots = extents + len(operands) + 1
    size = slots + len(inputs)
    places = [WORD_BYTES * place for place in (shapes, workspace, buffers, extents, slots)]
    header = [measure, run, len(inputs), len(results), KINDS[returns], size, *places]
    records = [_record(t, WORD_BYTES * place) for t, place in zip(operands, axes, strict=True)]
    return np.array([*header, *(value for record in records for value in record)], np.int64)


def _record(type_: ArrayType, axes: int) -> list[int]:
    dtype = type_.dtype
    same = float if dtype == np.float64 else dtype.type
    return [dtype.num, type_.ndim, dtype.itemsize, id(dtype.type), id(same), axes]
