"""`measure` as machine code against the same function in Python."""

from __future__ import annotations

import ctypes
import itertools

import pytest
from llvmlite import binding, ir

from graphc.lengths import add_measure
from graphc.native.memory import Loaded, target_machine

WORDS = ctypes.POINTER(ctypes.c_int64)


def compiled(measure):
    """What calls the machine code of ``measure``: it returns the status and three lengths."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    module = ir.Module()
    add_measure(module, "measure", measure)
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    loaded = Loaded(target_machine().emit_object(parsed), target_machine())
    function = ctypes.CFUNCTYPE(ctypes.c_int32, WORDS, WORDS)(loaded.address("measure"))

    def call(*axes):
        shapes = (ctypes.c_int64 * 3)(-1, -1, -1)
        status = function((ctypes.c_int64 * len(axes))(*axes), shapes)
        return status, list(shapes)

    # The machine code lives as long as what calls it.
    call.loaded = loaded
    return call


def polynomials(axes, shapes):
    n, m = axes[0], axes[1]
    shapes[0] = 64 * ((40 * n + 63) // 64) + 3 * n * m - 2
    shapes[1] = -n + (5 - m) // 3
    shapes[2] = 7


@pytest.mark.parametrize(("n", "m"), list(itertools.product([0, 1, 63, 64, 10**6], repeat=2)))
def test_lengths_are_those_of_python(n, m):
    """Floor division rounds down below 0 too."""
    wanted = [0, 0, 0]
    polynomials((n, m), wanted)
    assert compiled(polynomials)(n, m) == (0, wanted)


def conditions(axes, shapes):
    n = axes[0]
    if axes[1] != 3 or axes[2] != n or n < 2:
        raise ValueError
    if 10 - n < 0:
        raise ValueError
    shapes[0] = n


@pytest.mark.parametrize(
    ("axes", "status"),
    [
        ((2, 3, 2), 0),
        ((10, 3, 10), 0),
        ((2, 4, 2), 1),
        ((2, 3, 3), 1),
        ((1, 3, 1), 1),
        ((11, 3, 11), 1),
    ],
)
def test_lengths_that_do_not_fit_are_refused(axes, status):
    """By each condition alone; nothing is written then."""
    assert compiled(conditions)(*axes) == (status, [axes[0] if status == 0 else -1, -1, -1])


def test_what_never_fits_is_always_refused():
    """A condition without lengths is Python's own."""

    def never(axes, shapes):
        if 2 != 3:
            raise ValueError
        shapes[0] = axes[0]

    assert compiled(never)(1) == (1, [-1, -1, -1])
