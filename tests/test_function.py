"""Compiled functions: ways to call them, threads, jitted callers, caching, one compile for all sizes."""

from __future__ import annotations

import collections
import gc
import hashlib
import linecache
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
from jitted import lowered

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

    def call_at_every_size():
        for count in range(1, 51):
            arrays = arguments(count, seed=count)
            assert_close(step(*arrays), expected(arrays))

    assert lowered(call_at_every_size) == []


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


def test_jitted_callers_cost_nothing_until_there_are_some():
    x = gx.input("x", ("N",))
    f = gx.compile([x], x * 2, name="twice", cache=False)
    assert lowered(lambda: f(np.ones(3))) == []
    assert "twice" in lowered(lambda: f.jitted)
    assert lowered(lambda: f.jitted) == []
    assert f.jitted is f.jitted
    assert f.jitted(np.ones(3)).tolist() == [2, 2, 2]


def test_jitted_callers_get_errors_as_exceptions():
    x, k = gx.input("x", ("N",)), gx.input("k", ("N",), gx.int64)
    f = gx.compile([x, k], gx.take(x, k) * 2, cache=False)

    @numba.njit
    def call(x, k):
        return f(x, k)

    assert call(np.array([1.0, 2.0]), np.array([-1, 0])).tolist() == [4, 2]
    with pytest.raises(IndexError, match="index out of bounds"):
        call(np.ones(2), np.array([0, 2]))
    with pytest.raises(ValueError, match="sizes of the arguments do not fit"):
        call(np.ones(2), np.array([0]))


def test_equal_graphs_share_their_machine_code():
    def build(cache):
        x = gx.input("x", ("N",))
        return gx.compile([x], gx.sum(gx.cos(x) * x), name="shared", cache=cache)

    first = build(True)
    built = []
    assert lowered(lambda: built.append(build(True))) == []
    array = np.linspace(0, 1, 5)
    assert first(array) == built[0](array)
    assert lowered(lambda: built.append(build(False))) != []
    assert lowered(lambda: built.append(build(False))) != []
    assert {float(f(array)) for f in built} == {float(first(array))}


def test_a_function_is_collected_with_its_machine_code():
    x = gx.input("x", ("N",))
    f = gx.compile([x], x * 3, cache=False)
    f(np.ones(2))
    watched = [weakref.ref(f), weakref.ref(f._native.library)]
    call = f.__call__
    del f
    gc.collect()
    # Who holds the bound call holds all that it needs.
    assert call(np.ones(2)).tolist() == [3, 3]
    assert call([1, 2]).tolist() == [3, 6]
    del call
    gc.collect()
    assert [w() for w in watched] == [None, None]


PROGRAM = """
import numpy as np
import graphc as gx
from numba.core import event
with event.install_recorder("numba:run_pass") as passes:
    x, W = gx.input("x", ("N", 3)), gx.input("W", (3, 2))
    loss = gx.sum(1 / (1 + gx.exp(-(x @ W)))) + gx.sum(gx.take(x, [0], axis=0))
    f = gx.compile([x, W], (loss, *gx.grad(loss, [x, W])), name="cached")
    results = f(np.ones((2, 3)), np.ones((3, 2)))
    f(np.ones((2, 3)), np.ones((3, 2)), out=results)
print(len(passes.buffer))
print([a.tolist() for a in results])
"""
JITTED = """
with event.install_recorder("numba:run_pass") as passes:
    again = f.jitted(np.ones((2, 3)), np.ones((3, 2)))
print(len(passes.buffer), all(map(np.array_equal, again, results)))
"""


def run_program(text, folder, **variables):
    script = folder / "program.py"
    if not script.exists() or script.read_text() != text:
        script.write_text(text)
    environment = {
        **os.environ,
        "GRAPHC_CACHE_DIR": str(folder / "cache"),
        "PYTHONPATH": str(Path(gx.__file__).parents[1]),
        **variables,
    }
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def files_of(folder, ending):
    return sorted((folder / "cache").glob(f"*.{ending}"))


def test_a_second_process_compiles_nothing(tmp_path):
    first, second = (run_program(PROGRAM, tmp_path).splitlines() for _ in range(2))
    assert int(first[0]) > 0
    assert int(second[0]) == 0
    assert first[1] == second[1]
    (code,), (source,) = files_of(tmp_path, "bin"), files_of(tmp_path, "py")
    assert code.stem == source.stem
    assert code.stem.startswith("cached_")


def test_a_second_process_loads_the_function_for_jitted_callers(tmp_path):
    run_program(PROGRAM, tmp_path)
    compiling, loading = (
        run_program(PROGRAM + JITTED, tmp_path).splitlines()[2].split() for _ in range(2)
    )
    assert int(compiling[0]) > 0
    assert int(loading[0]) == 0
    assert compiling[1] == loading[1] == "True"


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[:-1], lambda b: b[:40] + b"?" + b[41:]]
)
def test_damaged_machine_code_is_compiled_again(damage, tmp_path):
    first = run_program(PROGRAM, tmp_path).splitlines()
    (code,) = files_of(tmp_path, "bin")
    whole = code.read_bytes()
    code.write_bytes(damage(whole))
    second = run_program(PROGRAM, tmp_path).splitlines()
    assert int(second[0]) > 0
    assert first[1] == second[1]
    assert int(run_program(PROGRAM, tmp_path).splitlines()[0]) == 0


@pytest.mark.parametrize(
    "damage", [lambda code: b"", lambda code: code[:-1], lambda code: code + b"0"]
)
def test_damaged_code_of_calls_is_compiled_again(damage, tmp_path):
    first = run_program(PROGRAM, tmp_path).splitlines()
    (code,) = files_of(tmp_path, "o")
    whole = code.read_bytes()
    code.write_bytes(damage(whole))
    assert run_program(PROGRAM, tmp_path).splitlines() == ["0", *first[1:]]
    assert code.read_bytes() == whole


PRODUCTS = """
import sys
import numpy as np
import graphc as gx
x, W = gx.input("x", ("N", 60)), gx.input("W", (60, 50))
f = gx.compile([x, W], gx.grad(gx.sum(gx.tanh(x @ W)), [x, W]), name="products")
print("numba.np.npyimpl" in sys.modules)
print([float(a.sum()) for a in f(np.full((40, 60), 0.125), np.full((60, 50), 0.25))])
"""


def test_products_of_matrices_run_in_a_process_that_compiles_nothing(tmp_path):
    first, second = (run_program(PRODUCTS, tmp_path).splitlines() for _ in range(2))
    # Numba's definitions of operations are loaded only for compiling.
    assert (first[0], second[0]) == ("True", "False")
    assert first[1] == second[1]


def test_code_that_calls_what_is_not_there_is_compiled_again(tmp_path):
    first = run_program(PRODUCTS, tmp_path).splitlines()
    (path,) = files_of(tmp_path, "bin")
    # A name of the same length, in a file that is whole.
    code = path.read_bytes()[32:].replace(b"graphc_dgemm", b"graphc_dgone")
    path.write_bytes(hashlib.sha256(code).digest() + code)
    assert run_program(PRODUCTS, tmp_path).splitlines() == first


def test_an_altered_source_is_written_anew(tmp_path):
    first = run_program(PROGRAM + JITTED, tmp_path).splitlines()
    (file,) = files_of(tmp_path, "py")
    text = file.read_text()
    file.write_text("raise SystemExit('altered')")
    # Whoever needs no more than the machine code does not run the source.
    assert run_program(PROGRAM, tmp_path).splitlines()[1] == first[1]
    second = run_program(PROGRAM + JITTED, tmp_path).splitlines()
    assert second[1] == first[1]
    assert second[2].endswith("True")
    assert file.read_text() == text


LARGE = """
import numpy as np
import graphc as gx
from numba.core import event
x = gx.input("x", (200,))
table = np.arange(2000.0 * 200).reshape(2000, 200) % 7
with event.install_recorder("numba:run_pass") as passes:
    f = gx.compile([x], gx.sum(table @ x), name="large")
print(len(passes.buffer), f(np.ones(200)) == table.sum())
print(f.jitted(np.ones(200)) == table.sum())
"""


def test_machine_code_with_addresses_in_it_is_not_kept(tmp_path):
    for _ in range(2):
        first, second = run_program(LARGE, tmp_path).splitlines()
        assert int(first.split()[0]) > 0
        assert first.endswith("True")
        assert second == "True"
    assert files_of(tmp_path, "bin") == []


def test_processes_may_compile_the_same_graph_at_once(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: run_program(PROGRAM, tmp_path).splitlines()[1], range(3)))
    assert len(set(found)) == 1
    assert len(files_of(tmp_path, "bin")) == 1
    assert files_of(tmp_path, "tmp") == []


def test_a_folder_that_cannot_be_written_does_not_matter(tmp_path):
    (tmp_path / "file").write_text("")
    assert run_program(
        PROGRAM + JITTED, tmp_path, GRAPHC_CACHE_DIR=str(tmp_path / "file" / "cache")
    )


def test_without_cache_nothing_is_written(tmp_path):
    run_program((PROGRAM + JITTED).replace('name="cached"', "cache=False"), tmp_path)
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
    assert f.dump("memory") == "workspace of f: 0 bytes"
    for bad in ({"stage": "assembly"}, {"format": "dot"}):
        with pytest.raises(
            gx.GraphValueError, match="Stages are declared, gates, fused, source, memory;"
        ):
            f.dump(**bad)
