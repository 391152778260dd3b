"""The functions that generated code calls, against NumPy, jitted and as plain Python."""

from __future__ import annotations

import doctest
import itertools
import math
import os
import re
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numba
import numpy as np
import pytest
from jitted import FLOATS, INTEGERS, NUMBERS, either, jit, needs_avx2, numbers, readonly, undefined

from graphc.runtime import accumulate, blas, buffers, gate, kernels


@pytest.mark.parametrize("module", [accumulate, blas, buffers, gate, kernels])
def test_examples_in_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted >= len(module.__all__)
    assert result.failed == 0


# Accumulations.


def reduction(step):
    def reduce(x, total):
        for i in range(x.shape[0]):
            total = step(total, x[i])
        return total

    return reduce


REDUCTIONS = {
    "add": np.sum,
    "multiply": np.prod,
    "maximum": np.max,
    "minimum": np.min,
    "logical_or": np.any,
    "logical_and": np.all,
}


def same(actual, expected):
    np.testing.assert_array_equal(actual, expected)
    # Jitted code returns Python's own numbers, of which only the kind is left.
    assert np.asarray(actual).dtype.kind == np.asarray(expected).dtype.kind


@either
@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "minimum"])
def test_accumulation_of_numbers(name, dtype, compiled):
    reduce = compiled(reduction(getattr(accumulate, name)))
    for n in (1, 3, 70):
        x = numbers(n, dtype, n)
        # Powers of two make every order of the products exact.
        x = np.sign(x) + (x == 0).astype(dtype) if name == "multiply" else x
        same(reduce(x[1:], x[0]), REDUCTIONS[name](x))


@either
@pytest.mark.parametrize("name", ["logical_or", "logical_and", "maximum", "minimum"])
def test_accumulation_of_bools(name, compiled):
    reduce = compiled(reduction(getattr(accumulate, name)))
    for x in itertools.product((False, True), repeat=3):
        x = np.array(x)
        same(reduce(x[1:], x[0]), REDUCTIONS[name](x))
    x = np.zeros(1000, np.bool_)
    x[501] = True
    same(reduce(x[1:], x[0]), REDUCTIONS[name](x))


@either
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "minimum"])
def test_special_values_accumulate_as_in_numpy(name, dtype, compiled):
    reduce = compiled(reduction(getattr(accumulate, name)))
    special = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1, -1], dtype)
    for first, second in itertools.product(special, repeat=2):
        for place, other in itertools.product((0, 37, 99), (1, 98)):
            # As many ones and minus ones as a vectorised loop has lanes, and a remainder.
            x = np.ones(100, dtype)
            x[::2] = -1
            x[place], x[other] = first, second
            with np.errstate(invalid="ignore"):
                expected = REDUCTIONS[name](x)
            np.testing.assert_array_equal(reduce(x[1:], x[0]), expected)


@either
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, *INTEGERS])
def test_integers_wrap_around(dtype, compiled):
    largest = np.iinfo(dtype).max
    x = np.full(3, largest, dtype)
    # The result leaves jitted code as an int, so compare what it is modulo the range.
    add = compiled(reduction(accumulate.add))
    multiply = compiled(reduction(accumulate.multiply))
    assert dtype(add(x, dtype(0))) == x.sum(dtype=dtype)
    assert dtype(multiply(x, dtype(1))) == x.prod(dtype=dtype)


@either
@pytest.mark.parametrize("dtype", [np.uint8, np.uint64])
def test_extrema_of_unsigned_integers(dtype, compiled):
    x = np.array([1, np.iinfo(dtype).max, 3], dtype)
    assert compiled(reduction(accumulate.maximum))(x, dtype(0)) == x.max()
    assert compiled(reduction(accumulate.minimum))(x, x[1]) == 1


@either
def test_type_of_the_total_stays(compiled):
    def totals(value, out_float, out_int):
        out_float[0] = accumulate.add(out_float[0], value)
        out_int[0] = accumulate.add(out_int[0], np.int64(2) ** 33 + 1)
        return accumulate.add(out_float[0], value), accumulate.add(out_int[0], 1)

    run = compiled(totals)
    x, n = np.array([1], np.float32), np.array([1], np.int32)
    value, count = run(np.float64(1e-9), x, n)
    assert (value, count) == (1, 3)
    if run is not totals:
        assert list(run.nopython_signatures[0].return_type) == [numba.float32, numba.int32]
    else:
        assert (type(value), type(count)) == (np.float32, np.int32)


@pytest.mark.parametrize(
    ("name", "total", "value"),
    [("add", 1, 1.0), ("add", True, True), ("logical_or", 1, 1), ("maximum", 1.0, 1j)],
)
def test_other_kinds_do_not_compile(name, total, value):
    step = getattr(accumulate, name)
    with pytest.raises(numba.TypingError):
        jit(lambda total, value: step(total, value))(total, value)


PACKED = {
    (np.float32, "add"): r"vaddps",
    (np.float64, "add"): r"vaddpd",
    (np.float32, "multiply"): r"vmulps",
    (np.float64, "multiply"): r"vmulpd",
    (np.float32, "maximum"): r"vmaxps",
    (np.float64, "maximum"): r"vmaxpd",
    (np.float32, "minimum"): r"vminps",
    (np.float64, "minimum"): r"vminpd",
    (np.int32, "add"): r"vpaddd",
    (np.int32, "maximum"): r"vpmaxsd",
    (np.int64, "add"): r"vpaddq",
}


def assembly(function):
    (text,) = function.inspect_asm().values()
    return text


@needs_avx2
@pytest.mark.parametrize(("dtype", "name"), PACKED)
def test_accumulations_vectorise(dtype, name):
    reduce = jit(reduction(getattr(accumulate, name)))
    reduce(np.ones(3, dtype), dtype(1))
    assert re.search(rf"\b{PACKED[dtype, name]}\b.*[yz]mm", assembly(reduce))


def dot(x, y):
    total = x.dtype.type(0)
    for i in range(x.shape[0]):
        total = accumulate.add(total, x[i] * y[i])
    return total


def ordered_dot(x, y):
    total = x.dtype.type(0)
    for i in range(x.shape[0]):
        total += x[i] * y[i]
    return total


def seconds(function, *args):
    function(*args)
    times = []
    for _ in range(9):
        start = time.perf_counter()
        for _ in range(20):
            function(*args)
        times.append(time.perf_counter() - start)
    return min(times)


@needs_avx2
@pytest.mark.parametrize("dtype", FLOATS)
def test_sum_of_products_vectorises_and_fuses(dtype):
    function = jit(dot)
    x = numbers(10_000, dtype)
    assert function(x, x) == (x * x).sum()
    assert re.search(r"vfmadd\w+p[sd]\b.*[yz]mm", assembly(function))
    assert seconds(jit(ordered_dot), x, x) > 2 * seconds(function, x, x)


# Sums in parts.


HARD_SUMS = [
    [1e16, 1.0, -1e16],
    [1.0, 1e100, 1.0, -1e100],
    [0.1] * 10,
    [5e-324, 1.0, -1.0],
    [],
]


def carried_sum(parts):
    total, lost = 0.0, 0.0
    for i in range(len(parts)):
        total, lost = accumulate.carry(total, lost, parts[i])
    return accumulate.carried(total, lost)


@either
def test_no_addition_is_lost_in_a_carried_sum(compiled):
    run = compiled(carried_sum)
    for parts in HARD_SUMS:
        assert run(np.array(parts, np.float64)) == math.fsum(parts)
    x = np.random.default_rng(0).normal(size=1000) * 10.0 ** np.arange(-10, 10).repeat(50)
    # The second order of the rounding error is what is left (Neumaier 1974).
    rest = (2 * len(x)) ** 2 * 2.0**-106 * 2 * np.abs(x).sum()
    for value in (0.0, 1e-6, 1.0):
        assert abs(run(np.concatenate([x, [value], -x])) - value) <= rest + 2.0**-53 * value


@either
def test_the_sum_of_two_numbers_and_its_error_are_exact(compiled):
    run = compiled(lambda total, lost, part: accumulate.carry(total, lost, part))
    rng = np.random.default_rng(1)
    for _ in range(300):
        total, part = rng.normal(size=2) * 2.0 ** rng.integers(-60, 60, 2)
        result, error = run(total, 0.0, part)
        assert result == total + part
        assert Fraction(float(result)) + Fraction(float(error)) == Fraction(total) + Fraction(part)
        assert run(total, 1.0, part) == (result, 1.0 + error)


@either
def test_special_values_in_a_carried_sum(compiled):
    run = compiled(carried_sum)
    values = (np.inf, -np.inf, np.nan, 1.0, 1e308)
    for parts in itertools.product(values, repeat=3):
        with np.errstate(all="ignore"):
            expected = np.float64(parts[0]) + parts[1] + parts[2]
        np.testing.assert_equal(run(np.array(parts)), expected, str(parts))


# Kernels.


@either
@pytest.mark.parametrize("dtype", INTEGERS)
def test_position(dtype, compiled):
    run = compiled(lambda i, n: kernels.position(i, n))
    for i in range(-3, 3):
        assert run(dtype(i), 3) == range(3)[i]
    extremes = np.iinfo(dtype)
    for i, n in [(3, 3), (-4, 3), (0, 0), (-1, 0), (extremes.max, 3), (extremes.min, 3)]:
        with pytest.raises(IndexError, match=r"^index out of bounds$"):
            run(dtype(i), n)


def on_rows(kernel):
    """The kernel as a function of arrays of the shapes that its docstring names."""

    def run(x, out, rows, n):
        kernel(x, out, rows, n)

    return run


def scatter_add(index, source, out, outer, n, inner, count):
    kernels.scatter_add(index, source, out, outer, n, inner, count)


@either
@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("index_dtype", INTEGERS)
def test_scatter_add(dtype, index_dtype, compiled):
    run = compiled(scatter_add)
    for outer, n, inner, count in [
        (2, 3, 4, 5),
        (1, 1, 1, 7),
        (0, 2, 2, 3),
        (2, 3, 0, 3),
        (2, 0, 2, 0),
    ]:
        index = np.random.default_rng(0).integers(-n, max(n, 1), count).astype(index_dtype)
        source = numbers((outer, count, inner), dtype)
        out = undefined((outer, n, inner), dtype)
        flat = readonly(source).reshape(-1)
        run(readonly(index), flat, out.reshape(-1), outer, n, inner, count)
        expected = np.zeros_like(out)
        np.add.at(expected, (slice(None), index), source)
        np.testing.assert_array_equal(out, expected)


@either
@pytest.mark.parametrize("i", [3, -4])
def test_scatter_add_out_of_bounds(i, compiled):
    run = compiled(scatter_add)
    with pytest.raises(IndexError, match="index out of bounds"):
        run(np.array([0, i]), np.ones(2), np.empty(3), 1, 3, 1, 2)


@either
@pytest.mark.parametrize("dtype", NUMBERS)
def test_product_of_others(dtype, compiled):
    run = compiled(on_rows(kernels.product_of_others))
    special = [np.nan, np.inf, 0.0] if dtype in FLOATS else []
    values = np.array([0, 1, -2, 3, *special], dtype)
    for n in (0, 1, 2, 4):
        rows = list(itertools.product(values, repeat=n))
        x = np.array(rows, dtype).reshape(len(rows), n)
        out = undefined(x.shape, dtype)
        with np.errstate(invalid="ignore"):
            run(x.reshape(-1), out.reshape(-1), len(rows), n)
            for i in range(n):
                expected = np.prod(np.delete(x, i, axis=1), axis=1)
                np.testing.assert_array_equal(out[:, i], expected)


# Caching.

CACHED = """
import numba
import numpy as np

from graphc.runtime import accumulate, blas, buffers, kernels
from graphc.runtime.gate import gate


@gate
def compute(x, index, out, stack, workspace, n):
    rest = buffers.float32(workspace, 8)
    rest[0] = x[1]
    blas.matmul(x, x, out, False, True, n, 2, n)
    blas.batched_matmul(x, x, stack, False, True, n, 2, n, 1)
    kernels.product_of_others(x, rest, n, 2)


@numba.njit(error_model="numpy", nogil=True, fastmath={"contract"}, cache=True)
def run(x, index, out, stack):
    total = x.dtype.type(0)
    largest = x[0, 0]
    seen = False
    for i in range(x.shape[0]):
        row = kernels.position(index[i], x.shape[0])
        total = accumulate.add(total, x[row, 0])
        largest = accumulate.maximum(largest, x[row, 1])
        seen = accumulate.logical_or(seen, x[row, 1] > 0)
    workspace = np.empty(64, np.uint8)
    compute(x, index, out, stack, workspace, x.shape[0])
    added = np.empty_like(x)
    kernels.scatter_add(index, x, added, 1, x.shape[0], x.shape[1], x.shape[0])
    return total, largest, seen, added[2, 1], workspace[12]


x = np.arange(6, dtype=np.float32).reshape(3, 2)
index = np.array([0, -1, 1])
out, stack = np.empty((3, 3), x.dtype), np.empty((1, 3, 3), x.dtype)
result = run(x, index, out, stack)
assert result == (6, 5, True, 3, 0), result
assert np.array_equal(out, x @ x.T), out
assert np.array_equal(stack[0], out), stack
print(sum(run.stats.cache_hits.values()), sum(run.stats.cache_misses.values()))
"""


def test_functions_that_call_the_runtime_are_cached(tmp_path):
    script = tmp_path / "cached.py"
    script.write_text(CACHED)
    root = Path(kernels.__file__).parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
    }
    for expected in ("0 1", "1 0"):
        run = subprocess.run(
            [sys.executable, str(script)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.strip() == expected
