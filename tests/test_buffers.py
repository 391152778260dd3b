"""Buffers, and gates on them: called from plain Python, from jitted code, and from other gates."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import numba
import numpy as np
import pytest
from jitted import allocations, either, jit, lowered, needs_fma, numbers, readonly
from numba.core import types

from graphc.runtime import buffers, kernels
from graphc.runtime.gate import exact_gate, gate

VIEWS = {
    np.bool_: buffers.bool_,
    np.int32: buffers.int32,
    np.int64: buffers.int64,
    np.float32: buffers.float32,
    np.float64: buffers.float64,
}
every_dtype = pytest.mark.parametrize("dtype", VIEWS)


def samples(dtype):
    if dtype is np.bool_:
        return np.array([True, False, True])
    if np.issubdtype(dtype, np.integer):
        return np.array([np.iinfo(dtype).min, -1, np.iinfo(dtype).max], dtype)
    return np.array([np.finfo(dtype).max, -0.0, np.nan], dtype)


# Views of a workspace.


@every_dtype
@either
def test_a_view_reads_and_writes_what_lies_at_a_byte_offset(dtype, compiled):
    view = VIEWS[dtype]

    @gate
    def reverse(workspace, start, values, found):
        x = view(workspace, start)
        for i in range(3):
            found[i] = x[i]
        for i in range(3):
            x[i] = values[2 - i]

    run = compiled(lambda workspace, start, values, found: reverse(workspace, start, values, found))
    values, itemsize = samples(dtype), np.dtype(dtype).itemsize
    for start in (0, itemsize, 64, 104):
        workspace = np.full(128 + 3, 0xA5, np.uint8)
        workspace[start : start + 3 * itemsize] = values.view(np.uint8)
        found = np.zeros(3, dtype)
        run(workspace, start, values, found)
        np.testing.assert_array_equal(found, values)
        expected = np.full(128 + 3, 0xA5, np.uint8)
        expected[start : start + 3 * itemsize] = values[::-1].copy().view(np.uint8)
        np.testing.assert_array_equal(workspace, expected)


@either
def test_bools_are_bytes_of_one_and_zero(compiled):
    @gate
    def compare(x, out, workspace):
        y = buffers.bool_(workspace, 1)
        for i in range(4):
            y[i] = x[i] > 0
        for i in range(4):
            out[i] = y[i]

    run = compiled(lambda x, out, workspace: compare(x, out, workspace))
    workspace, out = np.full(6, 9, np.uint8), np.zeros(4, np.bool_)
    run(np.array([1.0, -1.0, np.nan, np.inf]), out, workspace)
    assert out.tolist() == [True, False, False, True]
    assert workspace.tolist() == [9, 1, 0, 0, 1, 9]


@either
def test_values_take_the_dtype_of_the_buffer(compiled):
    @gate
    def write(single, integer, flag):
        single[0] = 0.1
        single[1] = 3
        integer[0] = True
        flag[0] = 1 > 2

    run = compiled(lambda single, integer, flag: write(single, integer, flag))
    single, integer, flag = np.zeros(2, np.float32), np.zeros(1, np.int32), np.ones(1, np.bool_)
    run(single, integer, flag)
    assert (single.tolist(), integer.tolist(), flag.tolist()) == (
        [np.float32(0.1), 3],
        [1],
        [False],
    )


def caller(use):
    return lambda x, out: use(x, out)


INDICES = [1.0, 1j, None, "1", True, (0, 1), (0,)]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_other_indices_do_not_compile(index):
    @gate
    def read(x, out):
        out[0] = x[index]

    @gate
    def write(x, out):
        out[index] = 1.0

    for use in (read, write):
        with pytest.raises(numba.TypingError):
            jit(caller(use))(np.ones(3), np.ones(3))


def test_slices_of_buffers_do_not_compile():
    @gate
    def read(x, out):
        out[0] = x[0:1][0]

    @gate
    def write(x, out):
        out[0:1] = x[0]

    with pytest.raises(numba.TypingError):
        jit(lambda x, out: read(x, out))(np.ones(3), np.ones(3))
    with pytest.raises(numba.TypingError):
        jit(lambda x, out: write(x, out))(np.ones(3), np.ones(3))


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint32, np.int64])
def test_any_integer_is_an_index(dtype):
    @gate
    def read(x, index, out):
        out[0] = x[index[0]]

    out = np.zeros(1)
    jit(lambda x, index, out: read(x, index, out))(np.arange(200.0), np.array([100], dtype), out)
    assert out[0] == 100


def test_types_of_buffers_are_equal_by_dtype():
    assert buffers.Buffer(types.float32) == buffers.Buffer(types.float32)
    assert buffers.Buffer(types.float32) != buffers.Buffer(types.float64)
    assert buffers.Buffer(types.boolean) != buffers.Buffer(types.uint8)


def test_views_of_arrays_do_not_compile():
    """A gate sees its workspace as a buffer; jitted code has views of NumPy's own."""
    with pytest.raises(numba.TypingError):
        jit(lambda workspace: buffers.float64(workspace, 0)[0])(np.zeros(64, np.uint8))


# Calls of gates.


@gate
def scale(x, factor, out, n):
    """out = factor * x"""
    for i in range(n):
        out[i] = factor * x[i]


@gate
def scale_twice(x, factor, out, between, n):
    """out = factor * (factor * x)"""
    scale(x, factor, between, n)
    scale(between, factor, out, n)


@gate
def gather(x, index, out, n, count):
    """out = x[index]"""
    for k in range(count):
        out[k] = x[kernels.position(index[k], n)]


@gate
def gather_scaled(x, index, factor, out, n, count):
    """out = factor * x[index], in place"""
    gather(x, index, out, n, count)
    scale(out, factor, out, count)


@either
def test_gates_call_gates(compiled):
    run = compiled(lambda x, f, out, between, n: scale_twice(x, f, out, between, n))
    for dtype in (np.float32, np.float64, np.int64):
        x = numbers(12, dtype)
        out, between = np.zeros_like(x), np.zeros_like(x)
        run(x, dtype(3), out, between, 12)
        np.testing.assert_array_equal(out, 9 * x)
        np.testing.assert_array_equal(between, 3 * x)


def test_arrays_of_any_number_of_axes_are_arguments():
    run = jit(lambda x, out, n: scale(x, 2.0, out, n))
    for shape in ((), (6,), (2, 3), (1, 2, 3), (0,), (3, 0)):
        x = numbers(shape, np.float64)
        out = np.full_like(x, 7)
        run(readonly(x), out, x.size)
        np.testing.assert_array_equal(out, 2 * x)


def test_strided_arrays_are_no_buffers():
    run = jit(lambda x, out, n: scale(x, 2.0, out, n))
    x = np.ones((4, 4))
    for strided in (x.T[:, ::2], x[:, ::2], x[::2].T, x[::2, 0]):
        with pytest.raises(numba.TypingError):
            run(strided, np.zeros(8), strided.size)
        with pytest.raises(numba.TypingError):
            run(np.zeros(8), strided, strided.size)


def test_one_caller_may_use_a_gate_with_several_dtypes():
    @jit
    def run(x, y, out_x, out_y):
        scale(x, 2.0, out_x, 3)
        scale(y, 2, out_y, 3)
        scale(x, 2, out_x, 2)

    x, y = np.array([1.5, 2.5, 3.5], np.float32), np.array([1, 2, 3])
    out_x, out_y = np.zeros_like(x), np.zeros_like(y)
    run(x, y, out_x, out_y)
    assert out_x.tolist() == [3, 5, 7]
    assert out_y.tolist() == [2, 4, 6]


@either
def test_errors_pass_through_all_callers(compiled):
    run = compiled(lambda x, index, out: gather_scaled(x, index, 2.0, out, 3, 2))
    out = np.zeros(2)
    run(np.arange(3.0), np.array([2, -1]), out)
    assert out.tolist() == [4, 4]
    for wrong in (3, -4):
        with pytest.raises(IndexError, match=r"^index out of bounds$"):
            run(np.arange(3.0), np.array([0, wrong]), out)
    run(np.arange(3.0), np.array([1, 0]), out)
    assert out.tolist() == [2, 0]


def test_jitted_code_can_catch_errors_of_gates():
    inner = jit(lambda x, index, out: gather_scaled(x, index, 2.0, out, 3, 1))

    @numba.njit
    def run(x, index, out):
        try:
            inner(x, index, out)
        except Exception:
            return False
        return True

    x, out = np.arange(3.0), np.zeros(1)
    assert run(x, np.array([2]), out)
    assert out[0] == 4
    assert not run(x, np.array([5]), out)


def test_calls_leak_no_memory():
    run = jit(lambda x, index, out: gather_scaled(x + 1, index, 2.0, out, 3, 1))
    x, out = np.arange(3.0), np.zeros(1)
    run(x, np.array([0]), out)
    with allocations() as counts:
        for _ in range(10):
            run(x, np.array([0]), out)
    assert counts[0] == counts[1] > 0


def test_division_follows_ieee():
    @gate
    def divide(x, y, out):
        out[0] = x[0] / y[0]

    out = np.zeros(1)
    jit(lambda x, y, out: divide(x, y, out))(np.ones(1), np.zeros(1), out)
    assert out[0] == np.inf


# Contraction.


@needs_fma
@pytest.mark.parametrize(("kind", "fused"), [(gate, True), (exact_gate, False)])
def test_only_gates_that_are_not_exact_fuse_products_and_sums(kind, fused):
    @kind
    def run(x, out):
        out[0] = x[0] * x[1]
        out[1] = x[2] * x[3] - out[0]

    value = 1 + 2.0**-30
    x, out = np.full(4, value), np.zeros(2)
    jit(lambda x, out: run(x, out))(x, out)
    assert out[0] == value * value
    # The square is 1 + 2**-29 + 2**-60, and its last term is what rounding loses.
    assert out[1] == (2.0**-60 if fused else 0)


@pytest.mark.parametrize("kind", [gate, exact_gate])
def test_gates_add_in_the_order_that_is_written(kind):
    @kind
    def run(x, out, n):
        total = 0.0
        for i in range(n):
            total += x[i]
        out[0] = total

    x, out = np.array([1e16] + [1.0] * 63), np.zeros(1)
    jit(lambda x, out, n: run(x, out, n))(x, out, len(x))
    assert out[0] == 1e16


# Compilation.


def test_a_gate_is_compiled_once_in_a_library():
    @gate
    def add_one(x, n):
        for i in range(n):
            x[i] += 1

    @gate
    def add_four(x, n):
        add_one(x, n)
        add_one(x, n)
        add_one(x, n)
        add_one(x, n)

    @jit
    def run(x, y, n):
        add_four(x, n)
        add_one(x, n)
        add_four(y, n)

    x, y = np.zeros(3), np.zeros(2)
    names = [name.rsplit(".")[-1] for name in lowered(lambda: run(x, y, 2))]
    assert sorted(names) == ["add_four", "add_one", "run"]
    assert (x.tolist(), y.tolist()) == ([5, 5, 0], [4, 4])
    # Buffers of another dtype are another function.
    single = np.zeros(3, np.float32)
    assert len(lowered(lambda: run(single, x, 2))) == 5
    assert len(lowered(lambda: run(single, single, 2))) == 3
    assert lowered(lambda: run(single, single, 2)) == []


def test_gates_do_not_keep_their_callers():
    @jit
    def run(x):
        scale(x, 2.0, x, 1)

    x = np.ones(1)
    run(x)
    (overload,) = run.overloads.values()
    watched = weakref.ref(overload.library)
    assert x[0] == 2
    del run, overload
    gc.collect()
    assert watched() is None


CACHED = """
import sys
sys.path.insert(0, {tests!r})
import numba
import numpy as np
from jitted import lowered
from graphc.runtime.gate import gate


@gate
def add_one(x, n):
    for i in range(n):
        x[i] += 1


@numba.njit(cache=True)
def run(x):
    add_one(x, x.size)
    return x.sum()


print(len(lowered(lambda: run(np.zeros(5)))), run(np.ones(2)))
"""


def test_callers_of_gates_are_cached(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(CACHED.format(tests=str(Path(__file__).parent)))
    found = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.split())
    compiled, loaded = found
    assert int(compiled[0]) >= 2
    assert loaded[0] == "0"
    assert compiled[1] == loaded[1] == "4.0"
