"""Compiled functions: ways to call them, threads, jitted callers, caching, one compile for all sizes."""

from __future__ import annotations

import collections
import linecache
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

import graphc as gx


@pytest.fixture(scope="module")
def network():
    """A two-layer network's loss and gradients, and a function that makes arguments for it."""
    x, y = gx.input("x", ("N", 6), gx.float32), gx.input("y", ("N",), gx.int64)
    W1, b1 = gx.input("W1", (6, 8), gx.float32), gx.input("b1", (8,), gx.float32)
    W2 = gx.input("W2", (8, 3), gx.float32)
    h = gx.maximum(x @ W1 + b1, 0)
    loss = gx.mean(gx.nn.softmax_cross_entropy(h @ W2, y))
    inputs, outputs = [x, y, W1, b1, W2], [loss, *gx.grad(loss, [W1, b1, W2])]
    step = gx.compile(inputs, outputs, name="step", cache=False)

    def arguments(count, seed=0):
        rng = np.random.default_rng(seed)
        arrays = [rng.normal(size=(count, 6)), rng.integers(0, 3, count)]
        arrays += [rng.normal(size=s) for s in ((6, 8), (8,), (8, 3))]
        return [a.astype(i.dtype) for a, i in zip(arrays, inputs, strict=True)]

    def expected(arrays):
        return gx.evaluate(outputs, dict(zip(inputs, arrays, strict=True)))

    return step, arguments, expected


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_one_compilation_serves_every_size(network):
    step, arguments, expected = network
    for count in range(1, 51):
        arrays = arguments(count, seed=count)
        assert_close(step(*arrays), expected(arrays))
    assert len(step.jitted.signatures) == 1


def test_positional_and_named_arguments(network):
    step, arguments, expected = network
    arrays = arguments(5)
    names = ["x", "y", "W1", "b1", "W2"]
    assert_close(
        step(*arrays[:2], **dict(zip(names[2:], arrays[2:], strict=True))), expected(arrays)
    )
    assert_close(step(**dict(zip(names, arrays, strict=True))), expected(arrays))


def test_results_are_fresh_arrays(network):
    step, arguments, _ = network
    arrays = arguments(4)
    first, second = step(*arrays), step(*arrays)
    for one, other in zip(first, second, strict=True):
        assert not np.shares_memory(one, other)
        assert all(not np.shares_memory(one, a) for a in arrays)


Pair = collections.namedtuple("Pair", "left right")


@pytest.mark.parametrize(
    "structure",
    [
        lambda a, b: a,
        lambda a, b: (a,),
        lambda a, b: [a],
        lambda a, b: (a, b),
        lambda a, b: [a, b],
        lambda a, b: {"a": a, "b": {"c": [b, (a,)]}},
        lambda a, b: Pair(a, [b]),
        lambda a, b: [a, a, (a, b)],
    ],
)
def test_results_have_the_structure_that_was_compiled(structure):
    x = gx.input("x", ("N",))
    f = gx.compile([x], structure(x + 1, x.sum()), cache=False)
    array = np.array([1.0, 2.0])
    found, expected = f(array), structure(array + 1, array.sum())
    assert type(found) is type(expected) or isinstance(found, np.ndarray)
    assert repr(found).replace("array(3.)", "np.float64(3.0)") == repr(expected)


def test_inputs_constants_and_repeated_values_as_results():
    x = gx.input("x", (2,))
    y = x * 2
    f = gx.compile(
        [x], [x, x, y, y, y.reshape(2, 1), gx.constant([1.0, 2.0]), x[0], x.T], cache=False
    )
    array = np.array([1.0, 2.0])
    found = f(array)
    expected = [array, array, array * 2, array * 2, [[2], [4]], [1, 2], 1.0, array]
    for k, (one, other) in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_array_equal(one, other)
        assert one.flags.writeable
        assert not any(np.shares_memory(one, another) for another in [array, *found[:k]])


def test_unused_inputs_are_allowed():
    x, y = gx.input("x", ("N",)), gx.input("y", ("M", 3))
    f = gx.compile([y, x], x * 2, cache=False)
    np.testing.assert_array_equal(f(np.ones((1, 3)), [1.0]), [2.0])


def test_out_is_filled_and_returned(network):
    step, arguments, expected = network
    arrays = arguments(5)
    out = [np.full_like(result, np.nan) for result in expected(arrays)]
    assert step(*arrays, out=out) is out
    assert_close(out, expected(arrays))
    assert step(**dict(zip(["x", "y", "W1", "b1", "W2"], arrays, strict=True)), out=out) is out


def test_out_may_be_strided_or_overlap_an_argument():
    x = gx.input("x", ("N",))
    f = gx.compile([x], (x[::-1] * 2, x.sum()), cache=False)
    array = np.arange(4.0)
    strided = np.zeros(8)[::2]
    f(array, out=(strided, np.zeros(())))
    np.testing.assert_array_equal(strided, [6, 4, 2, 0])
    f(array, out=(array, np.zeros(())))
    np.testing.assert_array_equal(array, [6, 4, 2, 0])


@pytest.mark.parametrize("choose", [lambda f: f, lambda f: f.jitted], ids=["f", "f.jitted"])
def test_jitted_code_calls_it(choose):
    w, x = gx.input("w", ("N",)), gx.input("x", ("N",))
    rate = gx.input("rate")
    loss = gx.sum(gx.square(w - x)) * rate
    f = gx.compile([w, x, rate], (loss, gx.grad(loss, w)), cache=False)

    gradient = choose(f)

    @numba.njit
    def descend(w, x, steps):
        value = 0.0
        for _ in range(steps):
            loss, slope = gradient(w, x, 0.25)
            value = loss[()]
            w = w - slope
        return value, w

    value, found = descend(np.zeros(3), np.array([1.0, 2.0, 3.0]), 40)
    assert value < 1e-15
    np.testing.assert_allclose(found, [1, 2, 3])


def test_eight_threads_hammer_one_function(network):
    step, arguments, expected = network
    work = [arguments(count, seed=count) for count in range(1, 9)]
    wanted = [expected(arrays) for arrays in work]
    start = threading.Barrier(8)

    def hammer(k):
        start.wait()
        out = [np.empty_like(a) for a in wanted[k]]
        for _ in range(300):
            assert_close(step(*work[k]), wanted[k])
            step(*work[k], out=out)
            assert_close(out, wanted[k])
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(hammer, range(8))) == [True] * 8


def test_the_call_releases_the_gil():
    x = gx.input("x", ("N",))
    y = x
    for _ in range(20):
        y = gx.sin(y)
    f = gx.compile([x], y.sum(), cache=False)
    array = np.ones(2_000_000)
    running = threading.Event()
    finished = threading.Event()

    def call():
        running.set()
        f(array)
        finished.set()

    thread = threading.Thread(target=call)
    thread.start()
    running.wait()
    turns = 0
    while not finished.is_set():
        turns += 1
    thread.join()
    # A call that held the lock would let this thread run only before and after it.
    assert turns > 10_000


CACHED = """
import sys, time
import numpy as np
import graphc as gx
x, W = gx.input("x", ("N", 3)), gx.input("W", (3, 2))
loss = gx.sum(1 / (1 + gx.exp(-(x @ W)))) + gx.sum(gx.take(x, [0], axis=0))
f = gx.compile([x, W], (loss, *gx.grad(loss, [x, W])), name="cached")
print(sum(f.jitted.stats.cache_hits.values()), [a.tolist() for a in f(np.ones((2, 3)), np.ones((3, 2)))])
f(np.ones((2, 3)), np.ones((3, 2)), out=f(np.ones((2, 3)), np.ones((3, 2))))
"""


def run_program(text, folder, **variables):
    script = folder / "program.py"
    script.write_text(textwrap.dedent(text))
    environment = {**os.environ, "GRAPHC_CACHE_DIR": str(folder / "cache"), **variables}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_second_process_loads_machine_code_from_disk(tmp_path):
    first, second = (run_program(CACHED, tmp_path) for _ in range(2))
    assert first.startswith("0 ")
    assert second.startswith("1 ")
    assert first[2:] == second[2:]
    files = list((tmp_path / "cache").glob("*.py"))
    assert len(files) == 1
    assert files[0].name.startswith("cached_")


def test_an_altered_file_is_written_anew(tmp_path):
    run_program(CACHED, tmp_path)
    (file,) = (tmp_path / "cache").glob("*.py")
    text = file.read_text()
    file.write_text("raise SystemExit('altered')")
    run_program(CACHED, tmp_path)
    assert file.read_text() == text


def test_a_folder_that_cannot_be_written_does_not_matter(tmp_path):
    (tmp_path / "file").write_text("")
    assert run_program(CACHED, tmp_path, GRAPHC_CACHE_DIR=str(tmp_path / "file" / "cache"))


def test_without_cache_nothing_is_written(tmp_path):
    run_program(CACHED.replace('name="cached"', "cache=False"), tmp_path)
    assert not (tmp_path / "cache").exists()


def test_the_source_can_be_seen_by_a_debugger():
    x = gx.input("x")
    f = gx.compile([x], x + 1, name="visible", cache=False)
    filename = f.jitted.py_func.__code__.co_filename
    assert "def visible(x):" in "".join(linecache.getlines(filename))
    assert repr(f) == "<Function visible(x: f64[]) -> f64[]>"


def test_the_same_program_gives_the_same_source():
    def source():
        x, w = gx.input("x", ("N", 3)), gx.input("w", (3,))
        loss = gx.sum(gx.tanh(x @ w))
        return gx.compile([x, w], gx.grad(loss, [w, x]), cache=False).dump("source")

    assert source() == source()


def test_stages_of_the_dump():
    x = gx.input("x")
    f = gx.compile([x], 1 / (1 + gx.exp(-x)), cache=False)
    assert "exp(" in f.dump("declared")
    assert "sigmoid(" in f.dump("gates")
    assert f.dump() == f.dump("fused", format="text")
    assert f.dump("source").startswith('"""f: generated by graphc."""')
    for bad in ({"stage": "memory"}, {"format": "dot"}):
        with pytest.raises(gx.GraphValueError, match="Stages are declared, gates, fused, source"):
            f.dump(**bad)
