"""Calls of native functions from Python that read and make NumPy arrays in native code themselves."""

from __future__ import annotations

import ctypes
import hashlib
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import llvmlite
import numpy as np
from llvmlite import binding

from graphc.native.call import native_module
from graphc.native.descriptor import ArrayType, describe
from graphc.native.memory import Loaded, define, target_machine
from graphc.native.objects import addresses, check_layout, symbol_of

NativeCall: TypeAlias = Callable[..., Any]

_METH_FASTCALL_KEYWORDS = 0x82


class _MethodDef(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_new_function = ctypes.PYFUNCTYPE(
    ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p
)(("PyCFunction_NewEx", ctypes.pythonapi))


class Kept(NamedTuple):
    """Where object code is kept between processes, in a file of a given name.

    ``read(name)`` returns what ``write(name, code)`` was given, or None if that is not there or not whole.
    """

    read: Callable[[str], bytes | None]
    write: Callable[[str, bytes], None]


NOT_KEPT = Kept(lambda name: None, lambda name, code: None)


def _fingerprint() -> str:
    """What the code of calls depends on: its own text, what compiles it, and the layouts of objects."""
    versions = (sys.implementation.cache_tag, sys.hexversion, np.__version__, llvmlite.__version__)
    digest = hashlib.sha256(repr((versions, binding.get_process_triple())).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:20]


def _compiled() -> bytes:
    """The object code of all calls."""
    module = binding.parse_assembly(str(native_module()))
    machine = target_machine(opt=2)
    # These passes do nearly all that counts here, in a sixth of the time of LLVM's own choice.
    passes = binding.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.run(module, binding.create_pass_builder(machine, binding.PipelineTuningOptions()))
    code: bytes = machine.emit_object(module)
    return code


def _machine_code(kept: Kept) -> Loaded:
    """The machine code of all calls; compiled when no process has compiled it."""
    with _loading:
        if not _loaded:
            _loaded.append(_load(kept))
    return _loaded[0]


_loaded: list[Loaded] = []
_loading = threading.Lock()


def _load(kept: Kept) -> Loaded:
    check_layout()
    define({symbol_of(name): address for name, address in addresses().items()})
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    name = f"call_{_fingerprint()}.o"
    code = kept.read(name)
    if code is None:
        code = _compiled()
        kept.write(name, code)
    return Loaded(code, target_machine(opt=2))


def native_call(
    name: str,
    inputs: Sequence[ArrayType],
    results: Sequence[ArrayType],
    measure: int,
    run: int,
    *,
    returns: str,
    fallback: NativeCall | None = None,
    kept: Kept = NOT_KEPT,
) -> NativeCall:
    """A builtin function that calls a native one on NumPy arrays.

    ``measure`` and ``run`` are the addresses of two C functions::

        int32_t measure(const int64_t *axes, int64_t *shapes);
        int32_t run(void **buffers, const int64_t *axes);

    ``axes`` are the lengths of the axes of all inputs, one input after the other. `measure` returns 0 if
    they fit, and writes the lengths of the axes of all results, and then the bytes of workspace that `run`
    needs. `run` gets a pointer to the data of each input, of each result, and to the workspace, which is
    aligned to 64 bytes; it returns 0 if all went well. The interpreter lock is released while it runs, unless
    there is little to do.

    ``call(*arrays)`` returns fresh arrays: one array, a tuple or a list, as ``returns`` says ("one", "tuple",
    "list"). ``call(*arrays, out=out)`` writes to the array ``out``, or to a tuple or list of arrays, and
    returns ``out``. A workspace is kept until the function is gone, so that calls allocate nothing but
    results, unless several run at once.

    Inputs are C-contiguous, aligned arrays of native byte order, of the input's dtype and rank, and of no
    subclass. An input without axes may also be a NumPy scalar of its dtype, a float if it is a float, an int
    that fits if it is an int, and a bool if it is a bool. Arrays in ``out`` are such arrays too, have the
    shape of the result, are writeable, and share no memory with any other array. All else is refused, and
    so is a call whose `measure` or `run` returns nonzero: then ``fallback`` is called with the same
    arguments, or ``NotImplemented`` is returned if there is none. When `run` has failed, ``out`` may hold
    anything.

    The code of calls is the same for all functions. With ``kept`` it is compiled once for all processes.

    Raises `ValueError` for another ``returns``, and `RuntimeError` if it is not known how this Python or
    NumPy lays out its objects. A call raises what NumPy raises when there is no memory for a result.

    >>> import numpy as np
    >>> from numba import cfunc, types
    >>> from graphc.types import TensorType, float64
    >>> words = types.CPointer(types.int64)
    >>> @cfunc(types.int32(words, words))
    ... def measure(axes, shapes):
    ...     shapes[0], shapes[1] = axes[0], 0
    ...     return 0
    >>> @cfunc(types.int32(types.CPointer(types.CPointer(types.float64)), words))
    ... def run(buffers, axes):
    ...     for i in range(axes[0]):
    ...         buffers[1][i] = 2 * buffers[0][i]
    ...     return 0
    >>> vector = TensorType(float64, ("N",))
    >>> twice = native_call(
    ...     "twice", [vector], [vector], measure.address, run.address, returns="one"
    ... )
    >>> twice(np.array([1.0, 2.0]))
    array([2., 4.])
    >>> twice([1.0, 2.0])
    NotImplemented
    """
    code = _machine_code(kept)
    method = _MethodDef(name.encode(), code.address("call"), _METH_FASTCALL_KEYWORDS, None)
    # What the function needs lives as long as its `self`: the definition and the machine code too.
    self = [describe(inputs, results, measure, run, returns), None, fallback, method, code]
    function: NativeCall = _new_function(ctypes.addressof(method), self, None)
    return function
