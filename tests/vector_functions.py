"""What tests of the vectorisable functions share: the measure of accuracy, loops, and calls."""

import re
import warnings

import llvmlite.binding
import mpmath
import numba
import numpy as np
import pytest

import graphc as gx
from graphc.runtime.inline import Emitted, inline

TYPES = {"f32": np.float32, "f64": np.float64}

FEATURES = llvmlite.binding.get_host_cpu_features()
HAS_FMA = bool(FEATURES.get("avx2") and FEATURES.get("fma"))

# A fused multiply-add on registers of 256 or 512 bits.
PACKED = {
    "f32": re.compile(r"\bvfn?m(add|sub)\d+ps\b.*[yz]mm"),
    "f64": re.compile(r"\bvfn?m(add|sub)\d+pd\b.*[yz]mm"),
}


def ulp_errors(exact_function, x, got, bits=160):
    """The distance of each result from the exact one, in the spacing of floats at the exact one."""
    info = np.finfo(x.dtype)
    beyond = mpmath.mpf(2) ** int(info.maxexp)
    errors = np.empty(x.size)
    with mpmath.workprec(bits):
        for i in range(x.size):
            exact = exact_function(mpmath.mpf(float(x[i])))
            # An infinity stands for the float that would come after the largest.
            if abs(exact) > beyond:
                exact = mpmath.sign(exact) * beyond
            result = float(got[i])
            result = beyond * int(np.sign(result)) if np.isinf(result) else mpmath.mpf(result)
            exponent = max(mpmath.frexp(exact)[1] - 1, int(info.minexp))
            errors[i] = float(mpmath.ldexp(abs(result - exact), int(info.nmant) - exponent))
    return errors


def jitted_loop(function):
    """A loop over arrays that LLVM may vectorise."""

    @numba.njit(error_model="numpy", fastmath={"contract"})
    def loop(x, out):
        for i in range(x.size):
            out[i] = function(x[i])

    return loop


def graphc_loop(name, kind):
    """Such a loop as graphc compiles it."""
    function = next(getattr(m, name) for m in (gx, gx.nn, gx.special) if hasattr(m, name))
    x = gx.input("x", ("N",), TYPES[kind])
    compiled = gx.compile([x], (function(x),), cache=False)
    return lambda x, out: compiled(x, out=(out,))


def on_processors(function, kind, fuses):
    """A function as it is compiled for processors without `lanes`, and with fused products or without."""

    @inline(TYPES[kind])
    def other(x):
        if isinstance(x, Emitted):
            x = Emitted(x.builder, x.value, has_lanes=False, fuses=fuses)
        return function.__wrapped__(x)

    return other


WAYS = ("numba", "graphc", "other processors")
"""How functions are compiled in tests: by Numba, by graphc, and as both do for less of a processor."""


def loops_compiled(way, names, function_of):
    """The loops of functions, by name and type; ``function_of`` these is one."""
    keys = [(name, kind) for name in names for kind in TYPES]
    if way == "numba":
        return {key: jitted_loop(function_of(*key)) for key in keys}
    if way == "graphc":
        return {key: graphc_loop(*key) for key in keys}
    others = (on_processors(function_of(name, kind), kind, HAS_FMA) for name, kind in keys)
    return dict(zip(keys, map(jitted_loop, others), strict=True))


def loop_fixtures(names, function_of):
    """The fixture ``loops``, those compiled by Numba, and ``all_loops``, compiled in each way in turn."""

    @pytest.fixture(scope="module")
    def loops():
        return loops_compiled("numba", names, function_of)

    @pytest.fixture(scope="module", params=WAYS)
    def all_loops(request):
        if request.param == "numba":
            return request.getfixturevalue("loops")
        return loops_compiled(request.param, names, function_of)

    return loops, all_loops


def jitted_call(function):
    """One call of it, as jitted code makes it outside loops; Numba returns Python's floats."""

    @numba.njit(error_model="numpy", fastmath={"contract"})
    def call(x):
        return function(x)

    return call


def run(loop, x):
    """The results of such a loop."""
    out = np.empty_like(x)
    loop(x, out)
    return out


def apply(function, x):
    """Results of calls one by one, where a warning is an error."""
    with warnings.catch_warnings(), np.errstate(over="raise", invalid="raise", divide="raise"):
        warnings.simplefilter("error")
        return [function(value) for value in x]
