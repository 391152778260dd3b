"""Instructions on whole registers that LLVM's vectoriser does not know become a part of loops."""

from __future__ import annotations

import re

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir
from test_assembly import functions_of, library_of

import graphc as gx
from graphc.runtime import lanes

needs_lanes = pytest.mark.skipif(
    not llvm.get_host_cpu_features().get("avx512f"), reason="the CPU lacks AVX-512"
)
DTYPES = [gx.float32, gx.float64]


def exponentials(length, dtype):
    x = gx.input("x", (length,), dtype)
    return gx.compile([x], gx.exp(x) * gx.nn.sigmoid(x), cache=False)


@needs_lanes
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 8, 16, 33, 500, "N"])
def test_nothing_is_called(length, dtype):
    """The vectoriser leaves forms for the lengths of vectors that it chose, and drops the others."""
    f = exponentials(length, dtype)
    text = str(library_of(f)._final_module)
    assert not re.search(r"call [^\n]*@graphc\.lanes", text)
    x = np.linspace(-2, 2, 5 if length == "N" else length, dtype=np.dtype(dtype))
    np.testing.assert_allclose(f(x), np.exp(x) / (1 + np.exp(-x)), rtol=1e-6)


@needs_lanes
@pytest.mark.parametrize("dtype", DTYPES)
def test_loops_look_up_and_scale_whole_registers(dtype):
    letter = "s" if np.dtype(dtype) == np.float32 else "d"
    text = "\n".join(functions_of(exponentials("N", dtype)).values())
    assert re.search(rf"vpermp{letter}\s[^\n]*%zmm", text)
    assert re.search(rf"vscalefp{letter}\s[^\n]*%zmm", text)


@pytest.mark.parametrize("kind", [ir.FloatType(), ir.DoubleType()])
def test_calls_that_are_not_put_in_place_are_seen(kind):
    """Negative control: the search above finds a call where there is one."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(kind, [kind]), "f")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(lanes.write_scaled(builder, *function.args * 2))
    assert re.search(r"call [^\n]*@\"?graphc\.lanes\.scaled", str(module))
    assert '"vector-function-abi-variant"' in str(module)


@pytest.mark.parametrize("dtype", DTYPES)
def test_jitted_callers_get_the_same(dtype):
    """For them the code is compiled as for others, not by Numba's target, which puts nothing in place."""
    f = exponentials("N", dtype)
    x = np.linspace(-90, 90, 1003).astype(dtype)
    np.testing.assert_array_equal(f.jitted(x), f(x))


def test_other_contexts_of_numba_write_none():
    class Context:
        def codegen(self):
            raise AssertionError("its processor does not matter")

    assert not lanes.are_supported(Context())
