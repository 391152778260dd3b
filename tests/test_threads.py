"""`compile(threads=)`: results bit by bit those of one thread, errors, many callers, forks, the cache."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

import graphc as gx

COUNTS = (1, 2, 3, 7)


def arrays_for(inputs, sizes, seed=0):
    """Random arrays for inputs, whose named axes have the given sizes."""
    rng = np.random.default_rng(seed)
    arrays = []
    for each in inputs:
        shape = [s if isinstance(s, int) else s.evaluate(sizes) for s in each.node.shape]
        if each.node.dtype.kind == "i":
            # Labels of classes are among them.
            most = max(1, min(5, sizes.get("M", 5)))
            arrays.append(rng.integers(0, most, shape).astype(each.node.dtype))
        else:
            arrays.append(rng.normal(size=shape).astype(each.node.dtype))
    return arrays


def bits(results):
    return [np.asarray(result).tobytes() for result in results]


def outcome(f, arrays):
    """The bits of the results, or the error for sizes that are refused."""
    try:
        return bits(f(*arrays))
    except gx.GraphcError as error:
        return type(error), str(error)


def elementwise():
    x, y = gx.input("x", ("N",), gx.float32), gx.input("y", ("N",), gx.float32)
    return [x, y], [gx.exp(x) * y, gx.tanh(x - y)]


def total(dtype):
    def graph():
        a, x, b = (gx.input(n, ("N",), dtype) for n in "axb")
        loss = gx.sum(gx.nn.sigmoid(a * x + b) ** 2)
        return [a, x, b], [loss, *gx.grad(loss, [a, x, b])]

    return graph


def parameters():
    a, b, x = gx.input("a"), gx.input("b"), gx.input("x", ("N",))
    loss = gx.mean(gx.nn.sigmoid(a * x + b) ** 2)
    return [a, b, x], [loss, *gx.grad(loss, [a, b, x])]


def flat():
    x, y = gx.input("x", ("N", "M"), gx.float32), gx.input("y", ("N", "M"), gx.float32)
    loss = gx.sum(gx.exp(x) * y)
    return [x, y], [loss, *gx.grad(loss, [x, y])]


def cross_entropy(dtype):
    def graph():
        z, y = gx.input("z", ("N", "M"), dtype), gx.input("y", ("N",), gx.int64)
        loss = gx.mean(gx.nn.softmax_cross_entropy(z, y))
        return [z, y], [loss, gx.grad(loss, z)]

    return graph


def layer_norm():
    x = gx.input("x", ("N", "M"), gx.float32)
    g, b = gx.input("g", ("M",), gx.float32), gx.input("b", ("M",), gx.float32)
    loss = gx.sum(gx.tanh(gx.nn.layer_norm(x) * g + b))
    return [x, g, b], [loss, *gx.grad(loss, [x, g, b])]


def columns():
    x, i = gx.input("x", ("N", "M")), gx.input("i", ("N", "M"), gx.int32)
    positive = gx.maximum(x, 0)
    return [x, i], [positive, positive.sum(axis=0), x.max(axis=0), i.sum(axis=0)]


def narrow_columns():
    x = gx.input("x", ("N", 3))
    return [x], [x.sum(axis=0), gx.sum(gx.exp(x) * x)]


def three_axes():
    x, w = gx.input("x", ("N", "M", 5), gx.float32), gx.input("w", ("M",), gx.float32)
    y = gx.sin(x) * w[:, None]
    return [x, w], [y.sum(axis=(0, 2)), y.sum(axis=1), y.sum(axis=0), gx.sum(y**2)]


def numbers():
    x, i = gx.input("x", ("N",), gx.float32), gx.input("i", ("N",), gx.int64)
    return [x, i], [gx.sum(i * i), gx.max(i), gx.any(x > 3), gx.max(x), gx.prod(1 + x / 100)]


def stages():
    x, w = gx.input("x", ("N", 8), gx.float32), gx.input("w", (8, 8), gx.float32)
    y = gx.exp(gx.sin(x) @ w)
    place = gx.argmax(y, axis=1)
    return [x, w], [place, gx.sum(y), y / y.sum(axis=0)]


GRAPHS = {
    "elementwise": elementwise,
    "total_f32": total(gx.float32),
    "total_f64": total(gx.float64),
    "parameters": parameters,
    "flat": flat,
    "cross_entropy_f32": cross_entropy(gx.float32),
    "cross_entropy_f64": cross_entropy(gx.float64),
    "layer_norm": layer_norm,
    "columns": columns,
    "narrow_columns": narrow_columns,
    "three_axes": three_axes,
    "numbers": numbers,
    "stages": stages,
}

# Chunks have a power of two of elements, 512 to 32768, or so many rows.
LENGTHS = (0, 1, 31, 32, 33, 511, 512, 513, 1023, 1025, 2049, 4095, 4097, 8193, 50_000)
WIDTHS = (0, 1, 7, 600)


def sizes_of(inputs):
    """Sizes for the named axes: around the borders of chunks, empty, and large."""
    if any("M" in s.names() for x in inputs for s in x.node.shape if not isinstance(s, int)):
        for width in WIDTHS:
            for length in LENGTHS:
                if width * length <= 400_000:
                    yield {"N": length, "M": width}
    else:
        yield from ({"N": length} for length in LENGTHS)


@pytest.mark.parametrize("name", GRAPHS)
def test_any_number_of_threads_gives_the_same_bits(name):
    inputs, outputs = GRAPHS[name]()
    functions = [gx.compile(inputs, outputs, cache=False, threads=t) for t in COUNTS]
    for threads, f in zip(COUNTS[1:], functions[1:], strict=True):
        assert f"parallel.run({threads}, " in f.dump("source")
    for sizes in sizes_of(inputs):
        arrays = arrays_for(inputs, sizes)
        expected = outcome(functions[0], arrays)
        for f in functions[1:]:
            assert outcome(f, arrays) == expected, sizes


@pytest.mark.parametrize("name", GRAPHS)
def test_values_are_those_of_the_reference(name):
    inputs, outputs = GRAPHS[name]()
    f = gx.compile(inputs, outputs, cache=False, threads=2)
    arrays = arrays_for(inputs, {"N": 2500, "M": 37})
    expected = gx.evaluate(outputs, dict(zip(inputs, arrays, strict=True)))
    for one, other in zip(f(*arrays), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-4)


def test_one_thread_runs_no_chunks_that_it_need_not():
    for graph in (elementwise, flat, cross_entropy(gx.float32), numbers):
        assert "parallel.run" not in gx.compile(*graph(), cache=False).dump("source")


def test_a_loop_that_is_known_to_be_short_is_not_cut():
    x = gx.input("x", (300,))
    assert "parallel" not in gx.compile([x], gx.exp(x), cache=False, threads=2).dump("source")


def test_the_dump_of_memory_shows_partial_totals():
    x = gx.input("x", ("N", 50))
    f = gx.compile([x], x.sum(axis=0), name="columns", cache=False)
    assert f.dump("memory").splitlines() == [
        "workspace of columns: 25600 bytes",
        "  partial totals  25600 bytes at 0  in sum",
    ]


def test_many_callers_at_once():
    inputs, outputs = layer_norm()
    serial = gx.compile(inputs, outputs, cache=False)
    f = gx.compile(inputs, outputs, cache=False, threads=2)
    arguments = [arrays_for(inputs, {"N": 1000 + k, "M": 50}, seed=k) for k in range(8)]
    expected = [bits(serial(*arrays)) for arrays in arguments]

    def repeat(k):
        return all(bits(f(*arguments[k])) == expected[k] for _ in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(repeat, range(8)))


@pytest.fixture(scope="module")
def looked_up():
    """Gathers elements by index: in a chunk, an index may be wrong."""
    x, i = gx.input("x", (10,), gx.float32), gx.input("i", ("N",), gx.int64)
    outputs = gx.exp(x[i])
    return [gx.compile([x, i], outputs, name="looked_up", cache=False, threads=t) for t in (1, 3)]


@pytest.mark.parametrize("place", [0, 20_000, 99_999])
def test_errors_in_a_chunk_reach_the_caller(looked_up, place):
    x, i = np.ones(10, np.float32), np.zeros(100_000, np.int64)
    assert "parallel.run(3" in looked_up[1].dump("source")
    good = looked_up[0](x, i)
    i[place] = 10
    messages = []
    for f in looked_up:
        with pytest.raises(gx.GraphIndexError) as caught:
            f(x, i)
        messages.append(str(caught.value))
        with pytest.raises(IndexError, match="index out of bounds"):
            f.jitted(x, i)
        i[place] = 0
        np.testing.assert_array_equal(f(x, i), good)
        i[place] = 10
    assert messages[0] == messages[1]


def test_jitted_callers():
    inputs, outputs = layer_norm()
    serial = gx.compile(inputs, outputs, cache=False)
    f = gx.compile(inputs, outputs, cache=False, threads=3)
    arrays = arrays_for(inputs, {"N": 3000, "M": 40})

    @numba.njit
    def call(x, g, b):
        return f(x, g, b)

    assert bits(call(*arrays)) == bits(f.jitted(*arrays)) == bits(serial(*arrays))


def test_calls_from_threads_of_numba():
    inputs, outputs = total(gx.float64)()
    f = gx.compile(inputs, outputs, cache=False, threads=2)
    arrays = arrays_for(inputs, {"N": 20_000})

    @numba.njit(parallel=True)
    def calls(a, x, b, totals):
        for k in numba.prange(len(totals)):
            totals[k] = f(a, x, b)[0][()]

    totals = np.empty(20)
    calls(*arrays, totals)
    assert bits(totals) == bits([f(*arrays)[0]] * 20)


@pytest.mark.parametrize("threads", [0, -1, 257])
def test_a_number_of_threads_that_cannot_be(threads):
    x = gx.input("x", ("N",))
    with pytest.raises(gx.GraphValueError, match=rf"threads is {threads}. Give 1 to 256"):
        gx.compile([x], x + 1, threads=threads)


@pytest.mark.parametrize("threads", [1.0, "2", None, True])
def test_threads_that_are_no_number(threads):
    x = gx.input("x", ("N",))
    with pytest.raises(gx.GraphTypeError, match="Give a whole number, 1 or more"):
        gx.compile([x], x + 1, threads=threads)


def run_program(text, folder):
    script = folder / "program.py"
    script.write_text(textwrap.dedent(text))
    environment = {**os.environ, "GRAPHC_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


CACHED = """
import threading
import numpy as np
import graphc as gx
assert threading.active_count() == 1
x = gx.input("x", ("N",))
f = gx.compile([x], [gx.sum(gx.exp(x)), gx.tanh(x)], name="cached", threads=3)
assert {t.name for t in threading.enumerate()} == {"MainThread", "graphc-1", "graphc-2"}
a = np.linspace(-1, 1, 100_000)
values = [v.tobytes().hex() for v in f(a)]
assert values == [v.tobytes().hex() for v in f.jitted(a)]
print(sum(f.jitted.stats.cache_hits.values()), hash(tuple(values[0])) and values[0])
"""


def test_a_second_process_loads_machine_code_from_disk(tmp_path):
    first, second = (run_program(CACHED, tmp_path) for _ in range(2))
    assert first.startswith("0 ")
    assert second.startswith("1 ")
    assert first[2:] == second[2:]


FORKED = """
import os, threading
import numpy as np
import graphc as gx
x = gx.input("x", ("N",))
f = gx.compile([x], [gx.sum(gx.exp(x)), gx.tanh(x)], cache=False, threads=2)
a = np.linspace(-1, 1, 100_000)
expected = [v.tobytes() for v in f(a)]
stop = threading.Event()

def work():
    while not stop.is_set():
        f(a)

caller = threading.Thread(target=work)
caller.start()
for fresh in (False, True) * 5:
    child = os.fork()
    if not child:
        if fresh:  # Starts threads of the child's own.
            f = gx.compile([x], [gx.sum(gx.exp(x)), gx.tanh(x)], cache=False, threads=2)
        ok = all([v.tobytes() for v in f(a)] == expected for _ in range(20))
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
caller.join()
assert [v.tobytes() for v in f(a)] == expected
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_does_not_wait_for_threads_it_has_not(tmp_path):
    assert run_program(FORKED, tmp_path) == "done\n"
