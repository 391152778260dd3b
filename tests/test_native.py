"""Calls from Python that read and make arrays in native code: what they take, refuse, hold and give back."""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import tracemalloc
import weakref
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numba import cfunc, types

from graphc import native
from graphc.native import Kept, native_call, objects
from graphc.types import TensorType

WORDS = ctypes.POINTER(ctypes.c_int64)
MEASURE = ctypes.CFUNCTYPE(ctypes.c_int32, WORDS, WORDS)
RUN = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p), WORDS)

INTEGERS = types.CPointer(types.int64)
MEASURE_SIGNATURE = types.int32(INTEGERS, INTEGERS)
RUN_SIGNATURE = types.int32(types.CPointer(types.CPointer(types.float64)), INTEGERS)

DTYPES = [np.dtype(t) for t in (np.bool_, np.int32, np.int64, np.float32, np.float64)]

# Callbacks must live as long as the functions that call them.
CALLBACKS = []


def address(callback):
    CALLBACKS.append(callback)
    return ctypes.cast(callback, ctypes.c_void_p).value


def tensor(dtype, ndim):
    return TensorType(np.dtype(dtype), tuple("NMKL"[:ndim]))


def identity(dtype, ndim, returns="one", workspace=0, on_run=None, fallback=None):
    """A function that copies its argument; ``on_run`` gets the address of the workspace, returns a status."""
    itemsize = np.dtype(dtype).itemsize

    def measure(axes, shapes):
        for axis in range(ndim):
            shapes[axis] = axes[axis]
        shapes[ndim] = workspace
        return 0

    def run(buffers, axes):
        count = int(np.prod([axes[axis] for axis in range(ndim)], dtype=np.int64))
        ctypes.memmove(buffers[1], buffers[0], count * itemsize)
        return on_run(buffers[2]) if on_run else 0

    type_ = tensor(dtype, ndim)
    addresses = address(MEASURE(measure)), address(RUN(run))
    return native_call("identity", [type_], [type_], *addresses, returns=returns, fallback=fallback)


def sample(dtype, shape):
    return (np.arange(np.prod(shape, dtype=int)).reshape(shape) % 5).astype(dtype)


@cfunc(MEASURE_SIGNATURE)
def measure_two(axes, shapes):
    """Two vectors of one length; a number and two vectors; a workspace of 8 bytes."""
    if axes[0] != axes[1]:
        return 1
    shapes[0] = shapes[1] = axes[0]
    shapes[2] = 8
    return 0


@cfunc(RUN_SIGNATURE)
def run_two(buffers, axes):
    """The sum of x, 2 x and 3 y; fails for a negative sum."""
    x, y, total = buffers[0], buffers[1], buffers[2]
    twice, thrice, workspace = buffers[3], buffers[4], buffers[5]
    workspace[0] = 0.0
    for i in range(axes[0]):
        workspace[0] += x[i]
        twice[i] = 2 * x[i]
        thrice[i] = 3 * y[i]
    total[0] = workspace[0]
    return 1 if total[0] < 0 else 0


def two(returns="tuple", fallback=None):
    vector, number = tensor(float, 1), tensor(float, 0)
    return native_call(
        "two",
        [vector, vector],
        [number, vector, vector],
        measure_two.address,
        run_two.address,
        returns=returns,
        fallback=fallback,
    )


def buffers_of_two(count):
    return np.zeros(()), np.zeros(count), np.zeros(count)


def assert_two(results, x, y):
    total, twice, thrice = results
    assert total == x.sum()
    np.testing.assert_array_equal(twice, 2 * x)
    np.testing.assert_array_equal(thrice, 3 * y)


# ---- arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (3,), (1,), (0,), (2, 3), (0, 3), (4, 0), (2, 3, 2)])
def test_arrays_of_every_dtype_and_rank(dtype, shape):
    """The result is a fresh, plain array."""
    call = identity(dtype, len(shape))
    array = sample(dtype, shape)
    result = call(array)
    assert type(result) is np.ndarray
    assert (result.dtype, result.shape) == (dtype, shape)
    assert result.flags.owndata
    assert result.flags.writeable
    assert result.flags.c_contiguous
    assert not np.shares_memory(result, array)
    np.testing.assert_array_equal(result, array)


TAKEN = [
    (np.float64, 0.1, 0.1),
    (np.float64, np.float64(0.1), 0.1),
    (np.float64, float("nan"), np.nan),
    (np.float32, np.float32(0.1), np.float32(0.1)),
    (np.float32, 0.1, np.float32(0.1)),
    (np.float32, np.float64(0.1), np.float32(0.1)),
    (np.float32, 1e300, np.inf),
    (np.int64, 7, 7),
    (np.int64, 2**63 - 1, 2**63 - 1),
    (np.int64, -(2**63), -(2**63)),
    (np.int64, np.int64(-7), -7),
    (np.int32, 2**31 - 1, 2**31 - 1),
    (np.int32, -(2**31), -(2**31)),
    (np.int32, -1, -1),
    (np.int32, np.int32(-7), -7),
    (np.bool_, True, True),
    (np.bool_, False, False),
    (np.bool_, np.True_, True),
    (np.bool_, np.False_, False),
]


@pytest.mark.parametrize(("dtype", "value", "expected"), TAKEN)
def test_numbers_that_are_taken(dtype, value, expected):
    """An input without axes is a number, if that is no conversion that loses anything but digits."""
    result = identity(dtype, 0)(value)
    assert type(result) is np.ndarray
    assert (result.dtype, result.shape) == (dtype, ())
    np.testing.assert_array_equal(result, expected)


class Real(float):
    """A subclass, which might hold anything."""


class Whole(int):
    """A subclass of int."""


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (np.float64, 1),
        (np.float64, True),
        (np.float64, np.float32(1)),
        (np.float64, np.longdouble(1)),
        (np.float64, np.int64(1)),
        (np.float64, Real(1.0)),
        (np.float64, 1j),
        (np.float64, None),
        (np.float64, "1"),
        (np.float64, [1.0]),
        (np.float64, np.ones(1)),
        (np.float64, np.ones((), np.float32)),
        (np.float64, np.ones((), ">f8")),
        (np.float32, Real(1.0)),
        (np.float32, 1),
        (np.float32, np.float16(1)),
        (np.int64, 2**63),
        (np.int64, -(2**63) - 1),
        (np.int64, 10**100),
        (np.int64, True),
        (np.int64, 1.0),
        (np.int64, Whole(1)),
        (np.int64, np.int32(1)),
        (np.int64, np.uint64(1)),
        (np.int32, 2**31),
        (np.int32, -(2**31) - 1),
        (np.int32, 2**32),
        (np.int32, 10**100),
        (np.int32, np.int64(1)),
        (np.bool_, 1),
        (np.bool_, 0.0),
        (np.bool_, np.int8(1)),
        (np.bool_, None),
    ],
)
def test_numbers_that_are_refused(dtype, value):
    """What would be another conversion is left to Python; no exception is left behind."""
    assert identity(dtype, 0)(value) is NotImplemented


def misaligned(count):
    return np.zeros(8 * count + 1, np.uint8)[1:].view(np.float64)


@pytest.mark.parametrize(
    "value",
    [
        [[1.0, 2.0]],
        None,
        1.0,
        np.ones((2, 2)).view(np.matrix),
        np.ma.ones((2, 2)),
        np.ones(2),
        np.ones((1, 2, 2)),
        np.array(1.0),
        np.ones((2, 2), np.float32),
        np.ones((2, 2), np.int64),
        np.ones((2, 2), ">f8"),
        np.ones((2, 3)).T,
        np.ones((4, 4))[:, ::2],
        np.ones((4, 4))[::-1],
        np.broadcast_to(1.0, (2, 2)),
        misaligned(4).reshape(2, 2),
    ],
    ids=str,
)
def test_arrays_that_are_refused(value):
    """Another type, dtype, rank or layout."""
    assert identity(np.float64, 2)(value) is NotImplemented


def test_integers_of_the_same_size_but_another_number_are_refused():
    """NumPy has two integer types of 8 bytes where C has."""
    call = identity(np.int64, 1)
    for name in ("longlong", "long", "intp"):
        array = np.ones(2, name)
        is_same = array.dtype.num == np.dtype(np.int64).num
        assert (call(array) is NotImplemented) != is_same


@pytest.mark.parametrize(
    "array",
    [
        np.frombuffer(np.arange(4.0).tobytes()).reshape(2, 2),
        np.ones((1, 3)).T,
        np.ones((4, 4))[1:3],
        np.ones((4, 4))[2:2],
        np.ones((2, 2), "<f8" if sys.byteorder == "little" else ">f8"),
        np.ones((2, 2), np.dtype(np.float64, metadata={"unit": "m"})),
    ],
    ids=["read-only", "one column", "rows", "no rows", "named byte order", "metadata"],
)
def test_unusual_arrays_that_are_taken(array):
    """What has the wanted layout, however it came to it."""
    np.testing.assert_array_equal(identity(np.float64, 2)(array), array)


def test_wrong_number_of_arguments_is_refused():
    """Too few, too many; arrays for results are not positional."""
    call, x = two(), np.ones(3)
    for arguments in ((), (x,), (x, x, x), (x, x, *buffers_of_two(3))):
        assert call(*arguments) is NotImplemented


def test_sizes_that_do_not_fit_are_refused():
    """`measure` decides."""
    assert two()(np.ones(3), np.ones(2)) is NotImplemented


# ---- results ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("returns", "type_"), [("tuple", tuple), ("list", list)])
@pytest.mark.parametrize("count", [0, 1, 3, 1000])
def test_several_results(returns, type_, count):
    """A tuple or a list of arrays, whether the interpreter lock is released or not."""
    x, y = np.arange(float(count)), np.ones(count)
    results = two(returns)(x, y)
    assert type(results) is type_
    assert_two(results, x, y)


@pytest.mark.parametrize(
    ("returns", "type_"), [("one", np.ndarray), ("tuple", tuple), ("list", list)]
)
def test_one_result(returns, type_):
    """An array, or a tuple or list of one."""
    assert type(identity(np.float64, 1, returns)(np.ones(2))) is type_


def test_no_inputs_and_no_results():
    """Nothing comes of nothing."""

    def measure(axes, shapes):
        shapes[0] = 0
        return 0

    addresses = address(MEASURE(measure)), address(RUN(lambda buffers, axes: 0))
    assert native_call("nothing", [], [], *addresses, returns="tuple")() == ()
    assert native_call("nothing", [], [], *addresses, returns="list")() == []


def test_results_that_do_not_fit_how_they_are_returned():
    """One result is one; a word that is none of the three."""
    vector = tensor(float, 1)
    for results, returns in (([vector, vector], "one"), ([], "one"), ([vector], "dict")):
        with pytest.raises(
            ValueError, match=f"{len(results)} results cannot be returned as '{returns}'"
        ):
            native_call("f", [vector], results, 0, 0, returns=returns)


def test_failed_run_is_refused():
    """And what was made for it is given up."""
    x = np.array([-1.0, 0.5])
    assert two()(x, x) is NotImplemented
    assert two("list")(x, x) is NotImplemented
    assert identity(np.float64, 1, on_run=lambda workspace: 7)(x) is NotImplemented


def test_no_memory_for_a_result_is_an_error():
    """What NumPy raises when it cannot make the array."""

    def measure(axes, shapes):
        shapes[0], shapes[1] = axes[0], 2**58
        shapes[2] = 0
        return 0

    vector = tensor(float, 1)
    addresses = address(MEASURE(measure)), address(RUN(lambda buffers, axes: 0))
    for returns in ("tuple", "list"):
        call = native_call("huge", [vector], [vector] * 2, *addresses, returns=returns)
        with pytest.raises(MemoryError):
            call(np.ones(2))


def test_no_memory_for_the_workspace_is_an_error():
    """And the next call is as good as the first."""
    call = identity(np.float64, 1, workspace=2**58)
    for _ in range(2):
        with pytest.raises(MemoryError):
            call(np.ones(2))


# ---- arrays for results -------------------------------------------------------------------------------


@pytest.mark.parametrize("returns", ["tuple", "list"])
@pytest.mark.parametrize("type_", [tuple, list])
@pytest.mark.parametrize("count", [0, 3, 1000])
def test_out_is_filled_and_returned(returns, type_, count):
    """A tuple or a list, whichever is returned otherwise."""
    x, y = np.arange(float(count)), np.ones(count)
    out = type_(buffers_of_two(count))
    assert two(returns)(x, y, out=out) is out
    assert_two(out, x, y)


@pytest.mark.parametrize("shape", [(), (3,), (2, 2), (0, 2)])
def test_out_of_one_result_is_an_array(shape):
    """Not a tuple of one."""
    call, array, out = identity(np.float64, len(shape)), sample(float, shape), np.zeros(shape)
    assert call(array, out=out) is out
    np.testing.assert_array_equal(out, array)
    assert call(array, out=(out,)) is NotImplemented


def read_only(count):
    array = np.zeros(count)
    array.flags.writeable = False
    return array


Three = namedtuple("Three", "total twice thrice")


@pytest.mark.parametrize(
    "out",
    [
        None,
        np.zeros(3),
        (),
        buffers_of_two(3)[:2],
        (*buffers_of_two(3), np.zeros(3)),
        dict(enumerate(buffers_of_two(3))),
        Three(*buffers_of_two(3)),
        (0.0, np.zeros(3), np.zeros(3)),
        (np.float64(0), np.zeros(3), np.zeros(3)),
        (np.zeros(1), np.zeros(3), np.zeros(3)),
        (np.zeros(()), np.zeros(4), np.zeros(3)),
        (np.zeros(()), np.zeros(3), np.zeros((3, 1))),
        (np.zeros(()), np.zeros(3, np.float32), np.zeros(3)),
        (np.zeros(()), np.zeros(3, ">f8"), np.zeros(3)),
        (np.zeros(()), np.zeros(6)[::2], np.zeros(3)),
        (np.zeros(()), misaligned(3), np.zeros(3)),
        (np.zeros(()), read_only(3), np.zeros(3)),
        (np.zeros(()), np.zeros(3).view(np.recarray), np.zeros(3)),
        [np.zeros(()), np.zeros(3), None],
    ],
    ids=str,
)
def test_out_that_is_refused(out):
    """Another structure, type, dtype, shape or layout; read-only."""
    assert two()(np.ones(3), np.ones(3), out=out) is NotImplemented


def test_out_that_overlaps_is_refused():
    """With an input or another buffer, by any byte; arrays side by side do not overlap."""
    call = two()
    memory = np.zeros(20)
    x, y = memory[:3], memory[3:6]
    total, twice, thrice = memory[6:7].reshape(()), memory[7:10], memory[10:13]
    overlapping = [
        (total, x, thrice),
        (total, memory[5:8], memory[10:13]),
        (memory[2:3].reshape(()), twice, thrice),
        (total, twice, memory[9:12]),
        (total, twice, twice),
        (memory[12:13].reshape(()), twice, thrice),
        (total, memory[4:7], thrice),
    ]
    for out in overlapping:
        memory[:] = 1
        assert call(x, y, out=out) is NotImplemented
        assert (memory == 1).all()
    memory[:] = 1
    out = (total, twice, thrice)
    assert call(x, y, out=out) is out
    np.testing.assert_array_equal(memory, [1] * 6 + [3] + [2] * 3 + [3] * 3 + [1] * 7)


def test_other_names_are_refused():
    """There is one name, out."""
    call, x, out = two(), np.ones(3), buffers_of_two(3)
    assert call(x, x, into=out) is NotImplemented
    assert call(x, x, out=out, other=1) is NotImplemented
    assert call(x, y=x) is NotImplemented
    assert call(x, out=out) is NotImplemented


def test_list_of_buffers_may_change_during_the_call():
    """Its arrays live until the call is over."""
    out = [np.zeros(1000)]
    watched = weakref.ref(out[0])

    def clear(_):
        out.clear()
        return 0 if watched() is not None else 1

    assert identity(np.float64, 1, "list", on_run=clear)(np.ones(1000), out=out) is out
    assert out == []
    assert watched() is None


# ---- the fallback -------------------------------------------------------------------------------------


def test_fallback_gets_the_refused_call():
    """All arguments as they were; its result is the result."""
    calls = []

    def fallback(*args, **named):
        calls.append((args, named))
        return "explained"

    call, x = two(fallback=fallback), np.ones(3)
    assert_two(call(x, x), x, x)
    assert calls == []
    assert call([1], 2) == "explained"
    assert call(x, y=x, out=None) == "explained"
    assert calls == [(([1], 2), {}), ((x,), {"y": x, "out": None})]


def test_error_of_the_fallback_is_the_callers():
    """It may explain by an exception."""

    def fallback(*_):
        raise KeyError("why")

    with pytest.raises(KeyError, match="why"):
        two(fallback=fallback)(1, 2)


# ---- memory -------------------------------------------------------------------------------------------


def situations():
    """Calls of every kind: name, what is called."""
    x, y, negative = np.ones(3), np.ones(3), -np.ones(3)
    out, large, large_out = buffers_of_two(3), np.ones(1000), buffers_of_two(1000)
    as_tuple, as_list = two(), two("list")
    explained = two(fallback=lambda *args, **named: None)
    return {
        "tuple": lambda: as_tuple(x, y),
        "list": lambda: as_list(x, y),
        "large": lambda: as_tuple(large, large),
        "out": lambda: as_tuple(x, y, out=out),
        "out as a list": lambda: as_tuple(x, y, out=list(out)),
        "large out": lambda: as_tuple(large, large, out=large_out),
        "refused": lambda: as_tuple(x, None),
        "refused out": lambda: as_tuple(x, y, out=(x, x, None)),
        "failed": lambda: as_tuple(negative, y),
        "failed list": lambda: as_list(negative, y),
        "failed out": lambda: as_tuple(negative, y, out=list(out)),
        "fallback": lambda: explained(x, 1, out=out),
    }, (
        x,
        y,
        negative,
        large,
        *out,
        None,
        NotImplemented,
        "out",
        np.dtype(float),
        np.ndarray,
        as_tuple,
    )


@pytest.mark.parametrize("name", situations()[0])
def test_calls_hold_and_keep_nothing(name):
    """After 10,000 calls all counts of references, and the memory in use, are what they were."""
    calls, watched = situations()
    call = calls[name]
    for _ in range(100):
        call()
    gc.collect()
    tracemalloc.start()
    try:
        call()
        counts = [sys.getrefcount(o) for o in watched]
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10_000):
            call()
        after = tracemalloc.get_traced_memory()[0]
        found = [sys.getrefcount(o) for o in watched]
    finally:
        tracemalloc.stop()
    # Less than a byte a call: Python itself keeps some lists for later.
    assert after - before < 10_000
    assert all(abs(a - b) < 10 for a, b in zip(found, counts, strict=True))


def test_results_are_given_to_the_caller_alone():
    """Nobody else holds a result."""
    total, twice, thrice = two()(np.ones(3), np.ones(3))
    watched = [weakref.ref(a) for a in (total, twice, thrice)]
    del total, twice, thrice
    assert [w() for w in watched] == [None] * 3


def test_workspace_is_aligned_and_kept():
    """One allocation serves later calls; a larger one takes its place, and goes with the function."""
    seen = []
    sizes = iter([1000, 1000, 10, 5_000_000, 1000, 5_000_000])

    def measure(axes, shapes):
        shapes[0], shapes[1] = axes[0], next(sizes)
        return 0

    def run(buffers, axes):
        seen.append(buffers[2])
        return 0

    vector = tensor(float, 1)
    addresses = address(MEASURE(measure)), address(RUN(run))
    call = native_call("f", [vector], [vector], *addresses, returns="one")
    for _ in range(3):
        call(np.ones(2))
    small = weakref.ref(call.__self__[1])
    for _ in range(3):
        call(np.ones(2))
    assert small() is None
    assert all(pointer % 64 == 0 for pointer in seen)
    assert seen[0] == seen[1] == seen[2]
    assert seen[3] == seen[4] == seen[5] != seen[0]
    workspace = weakref.ref(call.__self__[1])
    assert workspace().nbytes >= 5_000_000
    del call
    assert workspace() is None


@pytest.mark.parametrize("size", [1, 100_000])
def test_call_inside_a_call_has_its_own_workspace(size):
    """And afterwards one of the two is kept."""
    seen, array = [], np.arange(float(size))

    def again(workspace):
        seen.append(workspace)
        if len(seen) < 4:
            np.testing.assert_array_equal(call(array), array)
        return 0

    call = identity(np.float64, 1, workspace=1_000_000, on_run=again)
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(call(array), array)
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(set(seen)) == 4
    assert 1_000_000 < kept < 2_000_000
    call(array)
    assert seen[-1] in seen[:4]


def test_function_in_a_cycle_is_collected():
    """A function whose fallback knows it."""
    holder = []
    call = two(fallback=lambda *args: holder)
    holder.append(call)
    watched = weakref.ref(call)
    del call
    holder = None
    gc.collect()
    assert watched() is None


# ---- threads ------------------------------------------------------------------------------------------

GIL_IS_HELD = ctypes.cast(ctypes.pythonapi.PyGILState_Check, ctypes.c_void_p).value


@pytest.mark.parametrize(("count", "is_held"), [(3, True), (100_000, False)])
def test_interpreter_lock_is_released_for_much_work(count, is_held):
    """A function that fails when it is held."""
    vector = tensor(float, 1)

    def measure(axes, shapes):
        shapes[0], shapes[1] = axes[0], 0
        return 0

    call = native_call(
        "held", [vector], [vector], address(MEASURE(measure)), GIL_IS_HELD, returns="one"
    )
    assert (call(np.ones(count)) is NotImplemented) == is_held


@cfunc(MEASURE_SIGNATURE)
def measure_repeated(axes, shapes):
    """A vector of the same length, and a workspace 50 times as large."""
    shapes[0] = axes[0]
    shapes[1] = 8 * 50 * axes[0]
    return 0


@cfunc(RUN_SIGNATURE)
def run_repeated(buffers, axes):
    """Writes x to the workspace 50 times, and the sum of what is there to the result."""
    x, result, workspace, count = buffers[0], buffers[1], buffers[2], axes[0]
    for k in range(50):
        for i in range(count):
            workspace[k * count + i] = x[i]
    for i in range(count):
        result[i] = 0.0
    for k in range(50):
        for i in range(count):
            result[i] += workspace[k * count + i]
    return 0


def test_many_threads_call_at_once():
    """Large workspaces of calls that run at once are not the same."""
    vector = tensor(float, 1)
    call = native_call(
        "repeated",
        [vector],
        [vector],
        measure_repeated.address,
        run_repeated.address,
        returns="one",
    )
    start = threading.Barrier(8)

    def work(seed):
        start.wait()
        for k in range(100):
            x = np.full(2000 + 500 * (k % 3), float(seed + k))
            out = np.empty_like(x) if k % 2 else None
            result = call(x) if out is None else call(x, out=out)
            assert (result == 50 * (seed + k)).all()
        return seed

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == list(range(8))


# ---- what must be known of Python and NumPy -----------------------------------------------------------

LAYOUT = [
    name for name in vars(objects) if name.startswith(("ARRAY_", "DTYPE_", "LIST_", "TUPLE_"))
]


@pytest.mark.parametrize("name", [*LAYOUT, "TYPE", "VALUE", "COUNT"])
def test_another_layout_is_an_error(name, monkeypatch):
    """Every offset is compared with objects of this process."""
    objects.check_layout()
    monkeypatch.setattr(objects, name, getattr(objects, name) + 8)
    with pytest.raises(RuntimeError, match="does not know how"):
        objects.check_layout()


def test_another_table_of_numpys_functions_is_an_error(monkeypatch):
    """The table has NumPy's array type where it should be."""
    monkeypatch.setattr(objects, "_NDARRAY_ENTRY", 3)
    with pytest.raises(RuntimeError, match="another C API"):
        objects.new_array_address()


# ---- machine code that is kept ------------------------------------------------------------------------


def test_code_is_compiled_once_for_all_processes():
    """What was written is read, and works at other addresses."""
    files = {}
    kept = Kept(files.get, files.__setitem__)
    first = native._load(kept)
    ((name, code),) = files.items()
    assert name.startswith("call_")

    def write(name, code):
        pytest.fail("compiled again")

    second = native._load(Kept(files.get, write))
    assert first.address("call") != second.address("call") != 0
    # No address of this process is in it.
    for address in objects.addresses().values():
        assert address.to_bytes(8, sys.byteorder) not in code


@pytest.mark.parametrize(
    ("module", "name"), [(np, "__version__"), (native.llvmlite, "__version__"), (sys, "hexversion")]
)
def test_other_versions_have_code_of_their_own(module, name, monkeypatch):
    """The layouts of objects, and what LLVM makes of the code, may be others."""
    before = native._fingerprint()
    value = getattr(module, name)
    monkeypatch.setattr(module, name, value + type(value)(1))
    assert native._fingerprint() != before
