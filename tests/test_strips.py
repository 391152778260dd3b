"""Loops over rows in strips: statements between the loops along a row are vectorised over the rows."""

from __future__ import annotations

import re

import numpy as np
import pytest
from test_assembly import functions_of, pytestmark  # noqa: F401

import graphc as gx
from graphc.fuse.strips import LONGEST, Strip, strip_of
from graphc.types import Size

ROWS = (0, 1, 2, 63, 64, 65, 257, 1500)


def logistic(width, dtype=gx.float64):
    x, y = gx.input("x", ("N", width), dtype), gx.input("y", ("N",), dtype)
    w, b = gx.input("w", (width,), dtype), gx.input("b", (), dtype)
    score = x @ w + b
    loss = gx.sum(gx.nn.softplus(score) - score * y)
    return [x, y, w, b], [loss, *gx.grad(loss, [w, b])]


def classifier(width):
    x, y = gx.input("x", ("N", width)), gx.input("y", ("N",), gx.int64)
    loss = gx.mean(gx.nn.softmax_cross_entropy(x, y))
    return [x, y], [loss, gx.grad(loss, x)]


def norms(width):
    x = gx.input("x", ("N", width))
    norm = gx.sqrt(gx.sum(x * x, axis=1) + 0.5)
    scaled = x / gx.expand_dims(gx.log(norm) + 2, 1)
    return [x], [scaled, gx.max(gx.exp(-norm)), gx.sum(scaled, axis=0), gx.argmax(x, axis=1)]


def arrays_for(inputs, rows, width):
    rng = np.random.default_rng(rows)
    for given in inputs:
        shape = tuple({"N": rows, "M": width}.get(str(size), size) for size in given.shape)
        if given.dtype == gx.int64:
            yield rng.integers(0, width, shape)
        else:
            yield rng.normal(size=shape)[()].astype(given.dtype)


def in_strips(f):
    return "stop = " in f.dump("source")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("width", [3, 10, 50, "M"])
@pytest.mark.parametrize("program", [logistic, classifier, norms])
def test_values(program, width, threads):
    inputs, results = program(width)
    f = gx.compile(inputs, results, cache=False, threads=threads)
    number = 20 if width == "M" else width
    for rows in ROWS:
        if rows == 0 and program is norms:
            continue
        given = list(arrays_for(inputs, rows, number))
        expected = gx.evaluate(results, dict(zip(inputs, given, strict=True)))
        for found, wanted in zip(f(*given), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("width", [3, 50, "M"])
@pytest.mark.parametrize("program", [logistic, classifier, norms])
def test_results_do_not_depend_on_the_number_of_threads(program, width):
    inputs, results = program(width)
    number = 20 if width == "M" else width
    given = list(arrays_for(inputs, 20_000, number))
    one, *others = (
        gx.compile(inputs, results, cache=False, threads=threads)(*given) for threads in (1, 2, 3)
    )
    for other in others:
        for first, second in zip(one, other, strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("width", [10, 50, "M"])
def test_statements_between_loops_are_vectorised(width):
    inputs, results = logistic(width)
    f = gx.compile(inputs, results, cache=False)
    assert in_strips(f)
    text = "\n".join(functions_of(f).values())
    # softplus and its slope divide: one quotient a row, or a vector of them.
    assert re.search(r"\bvdivpd\s[^\n]*%[yz]mm", text)


def test_what_gains_nothing_is_one_loop():
    inputs, results = logistic(1000)
    assert not in_strips(gx.compile(inputs, results, cache=False))
    x, w = gx.input("x", ("N", 50)), gx.input("w", (50,))
    residual = gx.sum((x @ w) ** 2)
    assert not in_strips(gx.compile([x, w], [residual, gx.grad(residual, w)], cache=False))
    x = gx.input("x", (8, 50))
    assert not in_strips(gx.compile([x], gx.nn.softplus(gx.sum(x, axis=1)), cache=False))


def test_a_strip_fits_the_cache():
    n = Size.named("N")
    assert strip_of(n, 50) == Strip(64, 50)
    assert strip_of(n, 2) == Strip(LONGEST, 2)
    assert strip_of(n, 257) is None
    assert strip_of(20, 50) is None
    assert "parallel.size(4096, N, 1)" in str(strip_of(n, n))


def test_memory_holds_a_strip_not_all_rows():
    inputs, results = classifier(10)
    text = gx.compile(inputs, results, cache=False).dump("memory")
    assert "2048 bytes" in text
    assert not re.search(r"\b80\*N", text)


@pytest.mark.parametrize("width", [5, 10, 50])
def test_labels_out_of_range_are_refused(width):
    inputs, results = classifier(width)
    f = gx.compile(inputs, results, cache=False)
    x, y = arrays_for(inputs, 300, width)
    f(x, y)
    for place in (0, 150, 299):
        for label in (width, -width - 1):
            wrong = y.copy()
            wrong[place] = label
            with pytest.raises(IndexError):
                f(x, wrong)
