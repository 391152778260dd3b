"""What tests of the runtime share: functions jitted or not, and arrays for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding
import numba
import numpy as np
import pytest
from numba.core import event
from numba.core.registry import cpu_target
from numba.core.runtime import _nrt_python, rtsys

FLOATS = (np.float32, np.float64)
INTEGERS = (np.int32, np.int64)
NUMBERS = FLOATS + INTEGERS

FEATURES = llvmlite.binding.get_host_cpu_features()

needs_avx2 = pytest.mark.skipif(not FEATURES.get("avx2", False), reason="the CPU lacks AVX2")
needs_fma = pytest.mark.skipif(not FEATURES.get("fma", False), reason="the CPU lacks FMA")

jit = numba.njit(error_model="numpy", nogil=True, fastmath={"contract"})


def plain(function: Any) -> Any:
    """The function as it is."""
    return function


either = pytest.mark.parametrize("compiled", [plain, jit], ids=["plain", "jitted"])
"""For tests that apply ``compiled`` to a function before they call it."""


def readonly(x: np.ndarray) -> np.ndarray:
    """A copy that may not be written."""
    x = x.copy()
    x.flags.writeable = False
    return x


def numbers(shape: Any, dtype: Any, seed: int = 0) -> np.ndarray:
    """Small integers of any dtype."""
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(dtype)


def undefined(shape: Any, dtype: Any) -> np.ndarray:
    """An array that nobody has written to yet."""
    return np.full(shape, np.nan if np.issubdtype(dtype, np.floating) else 77, dtype)


def lowered(calls: Any) -> list[str]:
    """The functions that Numba compiles to LLVM's IR while ``calls`` runs, by name, in order."""
    with event.install_recorder("numba:run_pass") as recorder:
        calls()
    starts = [e.data for _, e in recorder.buffer if e.is_start]
    return [d["qualname"] for d in starts if d["name"].startswith("native_lowering ")]


@contextmanager
def allocations() -> Iterator[list[int]]:
    """How often Numba's runtime allocates and frees memory inside: two numbers, known at the end."""
    counts: list[int] = []
    rtsys.initialize(cpu_target.target_context)
    _nrt_python.memsys_enable_stats()
    try:
        before = rtsys.get_allocation_stats()
        yield counts
        after = rtsys.get_allocation_stats()
    finally:
        _nrt_python.memsys_disable_stats()
    counts += [after.alloc - before.alloc, after.free - before.free]
