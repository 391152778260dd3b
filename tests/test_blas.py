"""Matrix products at every kind of size, through NumPy's BLAS and SciPy's, against NumPy."""

from __future__ import annotations

import ctypes
import doctest
import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import llvmlite.binding as llvm
import numba
import numpy as np
import pytest
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

import graphc as gx
from graphc.runtime import blas, cblas, forms, tiles

jit = numba.njit(error_model="numpy", nogil=True, fastmath={"contract"})

FLOATS = (np.float32, np.float64)
FLAGS = tuple(itertools.product((False, True), repeat=2))

# Around the edges of tiles of 8 and 4 rows and of 16 and 32 columns, and of what is given to each kernel.
ROWS = (0, 1, 2, 4, 5, 8, 11, 65)
TERMS = (0, 1, 7, 8, 33, 300)
COLUMNS = (0, 1, 3, 16, 31, 32, 33, 100)
LARGE = ((32, 784, 256), (33, 1100, 516), (784, 9, 256), (300, 256, 130))

MARGIN = 64

BACKENDS = ("numpy", "scipy")


def integers(shape, dtype, seed=0):
    """Numbers with exact sums in any order."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


@jit
def multiply(a, b, out, transpose_a, transpose_b, rows, inner, columns):
    blas.matmul(a, b, out, transpose_a, transpose_b, rows, inner, columns)


def check(dtype, flags, sizes):
    """Compares one product with NumPy's, and finds what is written outside of the result."""
    rows, inner, columns = sizes
    a, b = integers((rows, inner), dtype, 1), integers((inner, columns), dtype, 2)
    memory = np.full(rows * columns + 2 * MARGIN, np.nan, dtype)
    inside = slice(MARGIN, MARGIN + rows * columns)
    operands = [
        np.ascontiguousarray(x.T if transposed else x).ravel()
        for x, transposed in zip((a, b), flags, strict=True)
    ]
    multiply(*operands, memory[inside], *flags, *sizes)
    np.testing.assert_array_equal(memory[inside].reshape(rows, columns), a @ b, str((flags, sizes)))
    assert np.isnan(memory[: inside.start]).all()
    assert np.isnan(memory[inside.stop :]).all()


def check_all():
    for dtype, flags in itertools.product(FLOATS, FLAGS):
        for sizes in (*itertools.product(ROWS, TERMS, COLUMNS), *LARGE):
            check(dtype, flags, sizes)


def product_of_known_width(columns, transposed):
    """A product whose number of columns is known when it is compiled."""
    if transposed:
        return jit(lambda a, b, out, m, k: blas.matmul(a, b, out, True, False, m, k, columns))
    return jit(lambda a, b, out, m, k: blas.matmul(a, b, out, False, False, m, k, columns))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("columns", [3, 4, 7, 8, 10, 16, 17, 31, 32])
def test_narrow_products(columns, transposed, dtype):
    run = product_of_known_width(columns, transposed)
    for rows, inner in ((30011, 9), (29, 9001), (17, 300), (5, 8)):
        a, b = integers((rows, inner), dtype, 1), integers((inner, columns), dtype, 2)
        memory = np.full(rows * columns + 2 * MARGIN, np.nan, dtype)
        inside = slice(MARGIN, MARGIN + rows * columns)
        operand = np.ascontiguousarray(a.T if transposed else a).ravel()
        run(operand, b.ravel(), memory[inside], rows, inner)
        np.testing.assert_array_equal(memory[inside].reshape(rows, columns), a @ b)
        assert np.isnan(memory[: inside.start]).all()
        assert np.isnan(memory[inside.stop :]).all()


def run_python(code, *arguments, **environment):
    """What a fresh process prints that runs ``code`` beside this file."""
    folders = [str(Path(gx.__file__).parents[1]), str(Path(__file__).parent)]
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


# A process calls one BLAS, which is chosen before it compiles or loads anything.
CHOOSE = """
import sys
import graphc as gx
from graphc.runtime import cblas
found = {"numpy": cblas.from_numpy, "scipy": cblas.from_scipy}[sys.argv[1]]()
cblas.register(found)
"""

has_numpy_blas = cblas.from_numpy() is not None
backends = [name for name in BACKENDS if name == "scipy" or has_numpy_blas]


@pytest.mark.parametrize("module", [blas, cblas, tiles])
def test_examples_in_docstrings(module):
    result = doctest.testmod(module)
    assert result.failed == 0
    assert module is not blas or result.attempted >= 4


@pytest.mark.parametrize("backend", backends)
def test_products_of_all_sizes(backend):
    assert (
        run_python(CHOOSE + "import test_blas; test_blas.check_all(); print('done')", backend)
        == "done"
    )


def test_products_without_kernels_of_our_own():
    code = (
        CHOOSE
        + "import test_blas; test_blas.check_all(); print(test_blas.forms.has_wide_registers())"
    )
    assert run_python(code, backends[0], NUMBA_CPU_NAME="generic") == "False"


# Which library.


def openblas_of_numpy():
    """Whether NumPy says that it was built with the OpenBLAS of its wheels."""
    config = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return config["name"] == "scipy-openblas" and "USE64BITINT" in config["openblas configuration"]


def test_the_blas_of_the_wheels_is_found():
    assert has_numpy_blas == openblas_of_numpy()


def library(config):
    """Stands for a library that has all functions and says how it was built."""
    names = (f"cblas_{name}64_" for name in cblas.NAMES)
    functions = {name: ctypes.CFUNCTYPE(None)(print) for name in names}

    def get_config():
        return config

    return SimpleNamespace(**functions, openblas_get_config64_=get_config)


def test_libraries_with_other_integers_are_not_taken():
    assert set(cblas._addresses(library(b"OpenBLAS 0.3.31 USE64BITINT"), "")) == set(cblas.NAMES)
    assert cblas._addresses(library(b"OpenBLAS 0.3.31 DYNAMIC_ARCH"), "") is None
    assert cblas._addresses(SimpleNamespace(), "") is None


@pytest.mark.skipif(not has_numpy_blas, reason="NumPy has another BLAS")
def test_products_call_numpys_blas():
    for name, address in cblas.from_numpy().items():
        assert llvm.address_of_symbol(f"graphc_{name}") == address


# Kept code.

STEP = """
import numpy as np
x, w = gx.input("x", ("N", 40), gx.float32), gx.input("w", (40, 64), gx.float32)
f = gx.compile([x, w], [x @ w, gx.grad(gx.sum((x @ w) ** 2), w)], name="step")
a, b = np.ones((70, 40), np.float32), np.full((40, 64), 0.5, np.float32)
for g in (f, f.jitted):
    for n in (0, 1, 7, 70):
        product, slope = g(a[:n], b)
        assert (product == 20).all(), product
        assert (slope == n * 40).all(), slope
files = sorted(path.name for path in __import__("pathlib").Path(sys.argv[2]).rglob("*.bin"))
print(files, sum(f.jitted.stats.cache_hits.values()))
"""


@pytest.mark.skipif(not has_numpy_blas, reason="there is one BLAS only")
@pytest.mark.parametrize("order", [BACKENDS, BACKENDS[::-1]])
def test_kept_code_runs_with_another_blas(order, tmp_path):
    printed = [
        run_python(
            CHOOSE + STEP,
            backend,
            tmp_path,
            GRAPHC_CACHE_DIR=str(tmp_path),
            NUMBA_CACHE_DIR=str(tmp_path),
        )
        for backend in order
    ]
    first, second = (line.rpartition(" ") for line in printed)
    assert first[0] == second[0] != "[]"
    assert (first[2], second[2]) == ("0", "1")


# Values.


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize(
    "sizes", [(1, 9, 5), (9, 3, 1), (9, 9, 1), (4, 9, 8), (9, 9, 64), (9, 300, 64)]
)
def test_special_values(dtype, flags, sizes):
    rows, inner, columns = sizes
    for value in (np.nan, np.inf):
        a, b = np.ones((rows, inner), dtype), np.ones((inner, columns), dtype)
        a[rows // 2, inner // 2] = value
        b[inner // 2] = 0
        out = np.full(rows * columns, np.nan, dtype)
        operands = (
            np.ascontiguousarray(x.T if t else x) for x, t in zip((a, b), flags, strict=True)
        )
        multiply(*(x.ravel() for x in operands), out, *flags, *sizes)
        expected = np.full((rows, columns), inner - 1, dtype)
        expected[rows // 2] = np.nan
        np.testing.assert_array_equal(out.reshape(rows, columns), expected)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("sizes", [(33, 300, 96), (9, 1000, 64), (200, 40, 256)])
def test_errors_of_sums(dtype, flags, sizes):
    rows, inner, columns = sizes
    rng = np.random.default_rng(0)
    a, b = (
        rng.normal(size=(rows, inner)).astype(dtype),
        rng.normal(size=(inner, columns)).astype(dtype),
    )
    out = np.empty(rows * columns, dtype)
    operands = (np.ascontiguousarray(x.T if t else x) for x, t in zip((a, b), flags, strict=True))
    multiply(*(x.ravel() for x in operands), out, *flags, *sizes)
    exact = a.astype(np.longdouble) @ b.astype(np.longdouble)
    # The bound for sums of products in any order.
    bound = inner * np.finfo(dtype).eps * (abs(a).astype(np.longdouble) @ abs(b))
    assert (abs(out.reshape(rows, columns) - exact) <= bound).all()


def test_products_in_threads():
    @jit
    def repeated(a, b, out, rows, inner, columns, times):
        for _ in range(times):
            blas.matmul(a, b, out, False, False, rows, inner, columns)

    shapes = [(32, 200, 256), (3, 50, 40), (1, 300, 200), (200, 300, 200)]
    cases = [
        (integers((rows, inner), np.float32, 1), integers((inner, columns), np.float32, 2))
        for rows, inner, columns in shapes
    ]
    results = [np.full(rows * columns, np.nan, np.float32) for rows, _, columns in shapes]
    arguments = [
        (a.ravel(), b.ravel(), out, *shape, 100)
        for (a, b), out, shape in zip(cases, results, shapes, strict=True)
    ]
    repeated(*arguments[1][:-1], 1)
    threads = [threading.Thread(target=repeated, args=given) for given in arguments * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (a, b), out, (rows, _, columns) in zip(cases, results, shapes, strict=True):
        np.testing.assert_array_equal(out.reshape(rows, columns), a @ b)


@pytest.mark.parametrize("sizes", [(33, 300, 96), (9, 700, 64), (2, 30, 40)])
def test_products_are_repeatable(sizes):
    rows, inner, columns = sizes
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=n).astype(np.float32) for n in (rows * inner, inner * columns))
    for flags in FLAGS:
        results = []
        for shift in range(4):
            # Wherever in memory the operands lie.
            first, second = (np.concatenate([np.empty(shift, x.dtype), x])[shift:] for x in (a, b))
            out = np.empty(rows * columns, np.float32)
            multiply(first, second, out, *flags, *sizes)
            results.append(out)
        assert all(np.array_equal(results[0], out) for out in results)


# What is compiled.


def kernels_of(rows, inner, columns, flags):
    """The kernels in the machine code of a product with known sizes and flags."""
    sizes = (rows, inner, columns)

    @intrinsic
    def known(typing_context, a, b, out):
        def lower(context, builder, sig, args):
            kinds = (types.boolean,) * 2 + (types.intp,) * 3
            values = [
                context.get_constant(kind, value)
                for kind, value in zip(kinds, (*flags, *sizes), strict=True)
            ]
            full = signature(types.none, *sig.args, *kinds)
            return blas._lower_matmul(context, builder, full, (*args, *values))

        return types.none(a, b, out), lower

    @jit
    def run(a, b, out):
        known(a, b, out)

    x = types.float32[::1]
    run.compile((x, x, x))
    code = run.inspect_llvm(run.signatures[0])
    return {name for name in ("broadcast", "dot") if f"graphc_{name}" in code}


@pytest.mark.skipif(not forms.has_wide_registers(), reason="the processor has too few registers")
def test_only_kernels_that_may_be_called_are_compiled():
    assert kernels_of(32, 784, 256, (False, False)) == {"broadcast"}
    assert kernels_of(32, 784, 256, (False, True)) == {"dot"}
    assert kernels_of(32, 784, 256, (True, True)) == {"broadcast"}
    assert kernels_of(31, 784, 256, (True, True)) == set()
    assert kernels_of(32, 784, 10, (False, False)) == set()
    # Where BLAS would copy an operand that does not fit the cache.
    assert kernels_of(9000, 64, 10, (False, False)) == {"broadcast"}
    assert kernels_of(9000, 64, 5, (False, False)) == set()
    assert kernels_of(32, 10, 256, (False, True)) == {"broadcast"}
    assert kernels_of(31, 10, 256, (False, True)) == set()
    assert kernels_of(4, 784, 256, (False, False)) == set()
    assert kernels_of(3200, 784, 256, (False, False)) == set()
