"""Rows that are written alike but for one element: labels cost no comparison for every element."""

from __future__ import annotations

import re

import numpy as np
import pytest
from helpers import run_source

import graphc as gx
from graphc.compile import declared_graph, run_pipeline
from graphc.dsl import Tensor
from graphc.fuse.chunks import BLOCK
from graphc.ops.shape import iota


@pytest.fixture
def x():
    return gx.input("x", ("N", "M"))


@pytest.fixture
def y():
    return gx.input("y", ("N",), gx.int64)


def gradient_of_cross_entropy(x, y):
    loss = gx.mean(gx.nn.softmax_cross_entropy(x, y))
    return [loss, gx.grad(loss, x)]


def gradient_of_a_selection(x, y):
    return [gx.grad(gx.sum(gx.sin(gx.take_along_axis(x, y[:, None], axis=1))), x)]


def is_chosen(y, count):
    """True at the place in each row that ``y`` names, False elsewhere."""
    place = iota(shape=(*y.node.shape, count), axis=1, dtype=np.dtype(np.int64))
    return Tensor(place) == y[:, None]


def source(inputs, outputs, **options):
    return gx.compile(inputs, outputs, cache=False, **options).dump("source")


def results(inputs, outputs, arrays, **options):
    """Results of generated code by Python and compiled; they must be the reference's."""
    expected = gx.evaluate(outputs, dict(zip(inputs, arrays, strict=True)))
    graph = run_pipeline(declared_graph(inputs, outputs, "f"))["fused"]
    for found in (run_source(graph, arrays), gx.compile(inputs, outputs, cache=False)(*arrays)):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-300)
    return expected


@pytest.mark.parametrize("program", [gradient_of_cross_entropy, gradient_of_a_selection])
@pytest.mark.parametrize("shape", [(3, 1), (4, 5), (2, 33), (3, BLOCK + 7)], ids=str)
def test_labels_in_all_places(program, shape, x, y):
    outputs = program(x, y)
    text = source([x, y], outputs)
    assert "if 0 <= " in text
    assert not re.search(r" == [ijk]\b|\b[ijk] == ", text)
    rng = np.random.default_rng(0)
    for place in (0, shape[1] - 1, -1, -shape[1], shape[1] // 2):
        results([x, y], outputs, [rng.normal(size=shape), np.full(shape[0], place)])


def test_an_index_outside_the_row_is_no_place(y):
    hot = gx.where(is_chosen(y, 5), 1.0, 0.0)
    assert "if 0 <= " in source([y], [hot])
    (found,) = results([y], [hot], [np.array([0, 4, 5, -1, 1000, 2])])
    assert found.sum() == 3


def test_rows_that_are_read_in_their_loop_are_compared(x, y):
    """The sum of a row is of what is there, not of what is written over it."""
    (slope,) = gradient_of_cross_entropy(x, y)[1:]
    outputs = [slope, gx.sum(slope * slope, axis=1), gx.sum(slope, axis=0)]
    text = source([x, y], outputs)
    assert "if 0 <= " not in text
    results([x, y], outputs, [np.random.default_rng(1).normal(size=(6, 7)), np.arange(6)])


def test_what_a_later_loop_reads_is_written_by_then(x, y):
    (slope,) = gradient_of_cross_entropy(x, y)[1:]
    total = gx.sum(gx.sin(slope), axis=1, keepdims=True)
    outputs = [slope, gx.cos(x) * total, slope[:, ::-1] * total]
    results([x, y], outputs, [np.random.default_rng(2).normal(size=(6, 7)), np.arange(6)])


def test_a_value_that_depends_on_the_place_is_compared(y):
    z = gx.input("z", ("N", 5))
    outputs = [gx.where(is_chosen(y, 5), z, 1.0)]
    assert "if 0 <= " not in source([y, z], outputs)
    results([y, z], outputs, [np.arange(4), np.random.default_rng(3).normal(size=(4, 5))])


def test_a_condition_with_other_readers_is_compared(y):
    z = gx.input("z", ("N", 5))
    chosen = is_chosen(y, 5)
    outputs = [gx.where(chosen, 2.0, z), chosen]
    assert "if 0 <= " not in source([y, z], outputs)
    results([y, z], outputs, [np.arange(4), np.random.default_rng(6).normal(size=(4, 5))])


def test_any_number_of_threads_gives_the_same_bits(x, y):
    outputs = gradient_of_cross_entropy(x, y)
    rng = np.random.default_rng(4)
    arrays = [rng.normal(size=(300, 700)), rng.integers(0, 700, 300)]
    one, two = (gx.compile([x, y], outputs, threads=n, cache=False) for n in (1, 2))
    for first, second in zip(one(*arrays), two(*arrays), strict=True):
        assert first.tobytes() == second.tobytes()


def test_a_single_row_in_chunks():
    """Whoever has the chunk with the label in it cannot write over it before the others are done."""
    x, y = gx.input("x", ("M",)), gx.input("y", (), gx.int64)
    outputs = [gx.grad(gx.sin(gx.take(x, y)), x), gx.exp(x)]
    arrays = [np.random.default_rng(5).normal(size=100_000), np.int64(77_777)]
    expected = gx.evaluate(outputs, dict(zip([x, y], arrays, strict=True)))
    for threads in (1, 2):
        f = gx.compile([x, y], outputs, threads=threads, cache=False)
        for found, wanted in zip(f(*arrays), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-12)
