"""The functions that generated code calls, against NumPy, jitted and as plain Python."""

from __future__ import annotations

import doctest
import itertools
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import llvmlite.binding
import numba
import numpy as np
import pytest

from graphc.runtime import accumulate, arrays, blas, kernels

jit = numba.njit(error_model="numpy", nogil=True, fastmath={"contract"})

FLOATS = (np.float32, np.float64)
INTEGERS = (np.int32, np.int64)
NUMBERS = FLOATS + INTEGERS
FLAGS = tuple(itertools.product((False, True), repeat=2))

needs_avx2 = pytest.mark.skipif(
    not llvmlite.binding.get_host_cpu_features().get("avx2", False), reason="the CPU lacks AVX2"
)


@pytest.fixture(params=["plain", "jitted"])
def compiled(request):
    """What to apply to a function before calling it: nothing or the compiler."""
    return jit if request.param == "jitted" else lambda function: function


def readonly(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def numbers(shape, dtype, seed=0):
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(dtype)


@pytest.mark.parametrize("module", [accumulate, arrays, blas, kernels])
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


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "minimum"])
def test_accumulation_of_numbers(name, dtype, compiled):
    reduce = compiled(reduction(getattr(accumulate, name)))
    for n in (1, 3, 70):
        x = numbers(n, dtype, n)
        # Powers of two make every order of the products exact.
        x = np.sign(x) + (x == 0).astype(dtype) if name == "multiply" else x
        same(reduce(x[1:], x[0]), REDUCTIONS[name](x))


@pytest.mark.parametrize("name", ["logical_or", "logical_and", "maximum", "minimum"])
def test_accumulation_of_bools(name, compiled):
    reduce = compiled(reduction(getattr(accumulate, name)))
    for x in itertools.product((False, True), repeat=3):
        x = np.array(x)
        same(reduce(x[1:], x[0]), REDUCTIONS[name](x))
    x = np.zeros(1000, np.bool_)
    x[501] = True
    same(reduce(x[1:], x[0]), REDUCTIONS[name](x))


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


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, *INTEGERS])
def test_integers_wrap_around(dtype, compiled):
    largest = np.iinfo(dtype).max
    x = np.full(3, largest, dtype)
    # The result leaves jitted code as an int, so compare what it is modulo the range.
    add = compiled(reduction(accumulate.add))
    multiply = compiled(reduction(accumulate.multiply))
    assert dtype(add(x, dtype(0))) == x.sum(dtype=dtype)
    assert dtype(multiply(x, dtype(1))) == x.prod(dtype=dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64])
def test_extrema_of_unsigned_integers(dtype, compiled):
    x = np.array([1, np.iinfo(dtype).max, 3], dtype)
    assert compiled(reduction(accumulate.maximum))(x, dtype(0)) == x.max()
    assert compiled(reduction(accumulate.minimum))(x, x[1]) == 1


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


# Products of matrices.


def product(transpose_a, transpose_b):
    # The flags are literals, as in generated code.
    if transpose_a and transpose_b:
        return lambda a, b, out: blas.matmul(a, b, out, True, True)
    if transpose_a:
        return lambda a, b, out: blas.matmul(a, b, out, True, False)
    if transpose_b:
        return lambda a, b, out: blas.matmul(a, b, out, False, True)
    return lambda a, b, out: blas.matmul(a, b, out, False, False)


def products(a, b, out, transpose_a, transpose_b):
    blas.batched_matmul(a, b, out, transpose_a, transpose_b)


def operand(shape, dtype, transposed, seed):
    x = numbers(shape, dtype, seed)
    return np.ascontiguousarray(x.swapaxes(-1, -2)) if transposed else x, x


def undefined(shape, dtype):
    return np.full(shape, np.nan if np.issubdtype(dtype, np.floating) else 77, dtype)


SIZES = (*itertools.product((0, 1, 2, 5), repeat=3), (33, 17, 65))


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("flags", FLAGS)
def test_product_of_matrices(dtype, flags, compiled):
    run = compiled(product(*flags))
    for m, k, n in SIZES:
        a, plain_a = operand((m, k), dtype, flags[0], 1)
        b, plain_b = operand((k, n), dtype, flags[1], 2)
        out = undefined((m, n), dtype)
        run(a, b, out)
        np.testing.assert_array_equal(out, plain_a @ plain_b, str((m, k, n)))


@pytest.mark.parametrize("dtype", NUMBERS)
def test_product_of_stacks(dtype, compiled):
    run = compiled(products)
    for flags, (m, k, n), count in itertools.product(FLAGS, SIZES[::5], (0, 1, 3)):
        a, plain_a = operand((count, m, k), dtype, flags[0], 1)
        b, plain_b = operand((count, k, n), dtype, flags[1], 2)
        out = undefined((count, m, n), dtype)
        run(a, b, out, *flags)
        np.testing.assert_array_equal(out, plain_a @ plain_b, str((flags, count, m, k, n)))


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_operands_of_products_may_be_readonly(dtype):
    a, b = readonly(numbers((3, 4), dtype)), readonly(numbers((4, 2), dtype))
    out = undefined((3, 2), dtype)
    jit(product(False, False))(a, b, out)
    np.testing.assert_array_equal(out, a @ b)
    stack = undefined((1, 3, 2), dtype)
    jit(products)(readonly(a[None]), readonly(b[None]), stack, False, False)
    np.testing.assert_array_equal(stack, out[None])


def test_products_of_what_does_not_fit_do_not_compile():
    run = jit(product(False, False))
    x = np.ones((2, 2))
    for a, b, out in [
        (x, x, readonly(x)),
        (x, x, x.astype(np.float32)),
        (x, x.T, x),
        (x, x[0], x),
        (x > 0, x > 0, x > 0),
    ]:
        with pytest.raises(numba.TypingError):
            run(a, b, out)


@pytest.mark.parametrize("shape", [(1, 3, 4), (4, 3, 1), (1, 3, 1), (4, 3, 2)])
def test_special_values_in_products(shape, compiled):
    m, k, n = shape
    run = compiled(product(False, False))
    for value in (np.nan, np.inf):
        a, b = np.ones((m, k)), np.zeros((k, n))
        a[0, 1] = value
        out = undefined((m, n), np.float64)
        run(a, b, out)
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(out, (a[:, :, None] * b).sum(1))


def test_integer_products_wrap_around():
    a = np.full((2, 2), 2**30, np.int32)
    out = np.empty_like(a)
    jit(product(False, False))(a, a + 1, out)
    np.testing.assert_array_equal(out, a @ (a + 1))


def test_products_in_threads():
    @jit
    def repeated(a, b, out):
        for _ in range(200):
            blas.matmul(a, b, out, False, True)

    operands = [numbers((size, 64), np.float32, size) for size in (64, 64, 1, 1)]
    results = [undefined((len(x), len(x)), np.float32) for x in operands]
    repeated(operands[0], operands[0], results[0].copy())
    threads = [
        threading.Thread(target=repeated, args=(x, x, out))
        for x, out in zip(operands, results, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for x, out in zip(operands, results, strict=True):
        np.testing.assert_array_equal(out, x @ x.T)


# Views.


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3), (2, 3, 4, 1)])
def test_flat(shape, compiled):
    run = compiled(lambda x: arrays.flat(x))
    x = numbers(shape, np.float32)
    result = run(x)
    np.testing.assert_array_equal(result, x.reshape(-1))
    result[:] = 5
    assert np.all(x == 5)


def test_flat_view_outlives_its_array(compiled):
    run = compiled(lambda x: arrays.flat(x + 1))
    np.testing.assert_array_equal(run(np.zeros((100, 100))), np.ones(10_000))


def test_reshape(compiled):
    @compiled
    def run(x, n):
        cube = arrays.reshape(x, (2, n, x.shape[0]))
        row = arrays.reshape(x, (1, x.shape[0] * x.shape[1]))
        return cube, row

    x = numbers((2, 6), np.int64)
    cube, row = run(x, np.int32(3))
    np.testing.assert_array_equal(cube, x.reshape(2, 3, 2))
    np.testing.assert_array_equal(row, x.reshape(1, 12))
    row[0, 3] = 77
    assert x[0, 3] == cube[0, 1, 1] == 77


def test_reshape_of_one_and_no_elements(compiled):
    run = compiled(lambda x: arrays.reshape(x, ()))
    assert run(np.array([3.5]))[()] == 3.5
    run = compiled(lambda x, n: arrays.reshape(x, (n, 5)))
    assert run(np.ones((3, 0)), 0).shape == (0, 5)


@pytest.mark.parametrize("function", [lambda x: arrays.flat(x), lambda x: arrays.reshape(x, (2,))])
def test_views_of_readonly_arrays_are_readonly(function):
    x = readonly(np.ones((1, 2)))
    run = jit(function)
    assert not run(x).flags.writeable
    assert not run.nopython_signatures[0].return_type.mutable
    assert not function(x).flags.writeable


def test_views_of_strided_arrays_do_not_compile():
    with pytest.raises(numba.TypingError):
        jit(lambda x: arrays.flat(x))(np.ones((4, 4))[:, ::2])


def test_spans_meet_where_memory_overlaps(compiled):
    run = compiled(lambda a, b: not arrays.disjoint((arrays.span(a),), (arrays.span(b),)))
    x = np.zeros(10)
    assert run(x, x)
    assert run(x[:5], x[4:])
    assert not run(x[:5], x[5:])
    assert not run(x[5:], x[:5])
    assert run(x, x[3:4])
    assert run(x[3:4], x)
    assert not run(x[3:3], x)
    assert not run(x, x[3:3])
    assert not run(x[:0], x[:0])
    assert not run(x, np.zeros(10))
    assert run(x.view(np.float32)[7:8], readonly(x)) is False
    assert run(x.view(np.float32)[7:8], x[3:4].reshape(1, 1))
    assert run(np.asarray(x[3:4].reshape(())), x)


def test_disjoint_compares_results_with_each_other():
    x = np.zeros(10)
    other = (arrays.span(np.zeros(3)),)
    assert arrays.disjoint((arrays.span(x[:5]), arrays.span(x[5:])), other)
    assert not arrays.disjoint((arrays.span(x[:6]), arrays.span(x[5:])), other)
    assert not arrays.disjoint.py_func((arrays.span(x[:6]), arrays.span(x[5:])), other)


# Kernels.


@pytest.mark.parametrize("dtype", INTEGERS)
def test_position(dtype, compiled):
    run = compiled(lambda i, n: kernels.position(i, n))
    for i in range(-3, 3):
        assert run(dtype(i), 3) == range(3)[i]
    extremes = np.iinfo(dtype)
    for i, n in [(3, 3), (-4, 3), (0, 0), (-1, 0), (extremes.max, 3), (extremes.min, 3)]:
        with pytest.raises(IndexError, match=r"^index out of bounds$"):
            run(dtype(i), n)


def jitted_or_not(function, compiled):
    return function if compiled is jit else function.py_func


EXTREMA = [(kernels.argmax, np.argmax), (kernels.argmin, np.argmin)]


@pytest.mark.parametrize("dtype", [*NUMBERS, np.bool_])
@pytest.mark.parametrize(("kernel", "reference"), EXTREMA)
def test_position_of_the_extremum(kernel, reference, dtype, compiled):
    run = jitted_or_not(kernel, compiled)
    for n in (1, 2, 50):
        x = numbers((20, n), np.int64, n)
        x = (x > 0) if dtype is np.bool_ else x.astype(dtype)
        out = np.empty(20, np.int64)
        run(x, out)
        np.testing.assert_array_equal(out, reference(x, 1))


@pytest.mark.parametrize(("kernel", "reference"), EXTREMA)
def test_position_of_special_extrema(kernel, reference, compiled):
    run = jitted_or_not(kernel, compiled)
    values = (np.nan, np.inf, -np.inf, 0.0, -0.0)
    x = np.array(list(itertools.product(values, repeat=3)))
    out = np.empty(len(x), np.int64)
    run(readonly(x), out)
    np.testing.assert_array_equal(out, reference(x, 1))


@pytest.mark.parametrize(("kernel", "reference"), EXTREMA)
def test_position_of_no_extremum(kernel, reference, compiled):
    run = jitted_or_not(kernel, compiled)
    run(np.empty((0, 0)), np.empty(0, np.int64))
    with pytest.raises(ValueError, match="of an empty axis"):
        run(np.empty((2, 0)), np.empty(2, np.int64))


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("index_dtype", INTEGERS)
def test_scatter_add(dtype, index_dtype, compiled):
    run = jitted_or_not(kernels.scatter_add, compiled)
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
        run(readonly(index), readonly(source), out)
        expected = np.zeros_like(out)
        np.add.at(expected, (slice(None), index), source)
        np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("i", [3, -4])
def test_scatter_add_out_of_bounds(i, compiled):
    run = jitted_or_not(kernels.scatter_add, compiled)
    with pytest.raises(IndexError, match="index out of bounds"):
        run(np.array([0, i]), np.ones((1, 2, 1)), np.empty((1, 3, 1)))


@pytest.mark.parametrize("dtype", NUMBERS)
def test_product_of_others(dtype, compiled):
    run = jitted_or_not(kernels.product_of_others, compiled)
    special = [np.nan, np.inf, 0.0] if dtype in FLOATS else []
    values = np.array([0, 1, -2, 3, *special], dtype)
    for n in (0, 1, 2, 4):
        rows = list(itertools.product(values, repeat=n))
        x = np.array(rows, dtype).reshape(len(rows), n)
        out = undefined(x.shape, dtype)
        with np.errstate(invalid="ignore"):
            run(x, out)
            for i in range(n):
                expected = np.prod(np.delete(x, i, axis=1), axis=1)
                np.testing.assert_array_equal(out[:, i], expected)


# Caching.

CACHED = """
import numba
import numpy as np

from graphc.runtime import accumulate, arrays, blas, kernels


@numba.njit(error_model="numpy", nogil=True, fastmath={"contract"}, cache=True)
def run(x, index, out, stack, order):
    total = x.dtype.type(0)
    largest = x[0, 0]
    seen = False
    for i in range(x.shape[0]):
        row = kernels.position(index[i], x.shape[0])
        total = accumulate.add(total, x[row, 0])
        largest = accumulate.maximum(largest, x[row, 1])
        seen = accumulate.logical_or(seen, x[row, 1] > 0)
    blas.matmul(x, x, out, False, True)
    cube = arrays.reshape(x, (1, x.shape[0], x.shape[1]))
    blas.batched_matmul(cube, cube, stack, False, True)
    kernels.argmax(x, order)
    kernels.scatter_add(index, cube, cube.copy())
    kernels.product_of_others(x, x.copy())
    apart = arrays.disjoint((arrays.span(out),), (arrays.span(x),))
    return total, largest, seen, arrays.flat(x)[1], apart


x = np.arange(6, dtype=np.float32).reshape(3, 2)
index = np.array([0, -1, 1])
out, stack = np.empty((3, 3), x.dtype), np.empty((1, 3, 3), x.dtype)
order = np.empty(3, np.int64)
result = run(x, index, out, stack, order)
assert result == (6, 5, True, 1, True), result
assert np.array_equal(out, x @ x.T), out
assert np.array_equal(stack[0], out), stack
assert order.tolist() == [1, 1, 1], order
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
