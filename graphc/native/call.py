"""Native code of a whole call: reads what the caller gives, makes the results, runs the function.

It is written once, for any number of arguments of any type, and driven by a descriptor
(graphc/native/descriptor.py). Each function here builds the native function of the same name, whose
signature heads its docstring. A call that is not as it should be is refused: Python converts or explains.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from graphc.native import descriptor as d
from graphc.native import objects as o
from graphc.native.body import (
    BIT,
    FALSE,
    INT,
    NULL,
    POINTER,
    TRUE,
    VOID,
    WORD,
    Body,
    declare_objects,
    external,
    word,
)
from graphc.native.operands import add_operands, int_of, operand_count, place, record_of

# What `execute` returns. After FAILED a Python exception is set.
DONE, REFUSED, FAILED = (ir.Constant(INT, k) for k in range(3))

NDARRAY, NONE, NOT_IMPLEMENTED, OUT = map(external, ("ndarray", "None", "NotImplemented", "out"))

ALIGNMENT = 64
MUCH_WORK = 4096
"""From so many bytes of inputs, results and workspace on, the interpreter lock is released."""

# The items of `self`.
DESCRIPTOR, WORKSPACE, FALLBACK = range(3)


def native_module() -> Any:
    """The module of LLVM's IR whose function ``call`` CPython calls.

    Its `self` is a list: a descriptor, a workspace or None, and a fallback or None. The fallback is called
    in the same way when the call is refused; without it, a refused call returns ``NotImplemented``.
    """
    module = ir.Module("native")
    declare_objects(module)
    add_operands(module)
    for build in (
        *(_new_array, _take_workspace, _give_workspace, _run, _execute),
        *(_new_results, _container, _fresh, _filled, _items_filled, _into),
        *(_attempt, _call),
    ):
        build(module)
    return module


# Memory. The workspace is an array that `self` keeps. Whoever holds the interpreter lock may change the items
# of `self`: a call takes the workspace out, so that calls inside of it, or in other threads, make their own.


def _item(b: Body, self: Any, index: int) -> Any:
    return b.at(b.get(POINTER, self, o.LIST_ITEMS), d.WORD_BYTES * index)


def _new_array(module: Any) -> None:
    """PyObject *new_array(number, ndim, shape): an array with whatever its memory held, or NULL."""
    b = Body(module, "new_array", POINTER, INT, INT, POINTER, inline=True)
    number, ndim, shape = b.parameters
    zero = ir.Constant(INT, 0)
    arguments = (NDARRAY, ndim, shape, number, NULL, NULL, zero, zero, NULL)
    b.ret(b.python(POINTER, "PyArray_New", *arguments))


def _take_workspace(module: Any) -> None:
    """PyObject *take_workspace(self, size): an array of that many bytes or more, or NULL."""
    b = Body(module, "take_workspace", POINTER, POINTER, WORD)
    self, size = b.parameters
    item = _item(b, self, WORKSPACE)
    kept = b.get(POINTER, item)
    b.hold(NONE)
    b.put(NONE, item)
    with b.if_then(b.differ(kept, NONE)):
        capacity = b.get(WORD, b.get(POINTER, kept, o.ARRAY_SHAPE))
        with b.if_then(b.icmp_signed(">=", capacity, size)):
            b.ret(kept)
    b.release(kept)
    wanted = b.alloca(WORD)
    b.put(size, wanted)
    number = ir.Constant(INT, np.dtype(np.uint8).num)
    b.ret(b.own("new_array", number, ir.Constant(INT, 1), wanted))


def _give_workspace(module: Any) -> None:
    """void give_workspace(self, workspace): keeps it for the next call, unless there is one again."""
    b = Body(module, "give_workspace", VOID, POINTER, POINTER, inline=True)
    self, workspace = b.parameters
    item = _item(b, self, WORKSPACE)
    kept = b.get(POINTER, item)
    with b.if_then(b.differ(kept, NONE)):
        b.release(workspace)
        b.ret_void()
    b.put(workspace, item)
    b.release(NONE)
    b.ret_void()


# Running.


def _run(module: Any) -> None:
    """int run(descriptor, buffers, axes, size): calls the function, which handles that many bytes.

    Little work is done with the interpreter lock held: to release it and take it again costs half as much
    as a small call, and whoever finds it taken then may wait for milliseconds.
    """
    b = Body(module, "run", INT, POINTER, POINTER, POINTER, WORD, inline=True)
    descriptor, buffers, axes, size = b.parameters
    function = b.get(WORD, descriptor, d.RUN)
    with b.if_then(b.icmp_signed("<", size, word(MUCH_WORK))):
        b.ret(b.foreign(INT, function, buffers, axes))
    state = b.python(POINTER, "PyEval_SaveThread")
    status = b.foreign(INT, function, buffers, axes)
    b.python(VOID, "PyEval_RestoreThread", state)
    b.ret(status)


def _execute(module: Any) -> None:
    """int execute(self, descriptor, scratch): runs the function on buffers that are all there."""
    b = Body(module, "execute", INT, POINTER, POINTER, POINTER)
    self, descriptor, scratch = b.parameters
    buffers, extents = (place(b, scratch, descriptor, p) for p in (d.BUFFERS, d.EXTENTS))
    last = b.item(operand_count(b, descriptor))
    total = b.get(WORD, extents, last)
    needed = b.get(WORD, place(b, scratch, descriptor, d.WORKSPACE_BYTES))
    with b.if_then(b.is_equal(needed, word(0))):
        b.ret(_status(b, b.own("run", descriptor, buffers, scratch, total)))
    workspace = b.own("take_workspace", self, b.add(needed, word(ALIGNMENT - 1)))
    b.guard(b.differ(workspace, NULL), FAILED)
    address = b.add(b.get(WORD, workspace, o.ARRAY_DATA), word(ALIGNMENT - 1))
    b.put(b.and_(address, word(-ALIGNMENT)), buffers, last)
    status = b.own("run", descriptor, buffers, scratch, total)
    b.own("give_workspace", self, workspace)
    b.ret(_status(b, status))


def _status(b: Body, status: Any) -> Any:
    return b.select(b.is_equal(status, ir.Constant(INT, 0)), DONE, REFUSED)


def _unless_done(b: Body, status: Any) -> Any:
    return b.select(b.is_equal(status, REFUSED), NOT_IMPLEMENTED, NULL)


# Fresh results.


def _new_results(module: Any) -> None:
    """bool new_results(descriptor, scratch, items): makes an array for each result, or sets an error."""
    b = Body(module, "new_results", BIT, POINTER, POINTER, POINTER, inline=True)
    descriptor, scratch, items = b.parameters
    buffers = place(b, scratch, descriptor, d.BUFFERS)
    inputs = b.get(WORD, descriptor, d.INPUTS)
    with b.loop(b.get(WORD, descriptor, d.RESULTS)) as k:
        operand = b.add(inputs, k)
        record = record_of(b, descriptor, operand)
        number, ndim = (int_of(b, record, field) for field in (d.NUMBER, d.NDIM))
        array = b.own("new_array", number, ndim, place(b, scratch, record, d.AXES))
        b.put(array, items, b.item(k))
        b.guard(b.differ(array, NULL), FALSE)
        b.put(b.get(POINTER, array, o.ARRAY_DATA), buffers, b.item(operand))
    b.ret(TRUE)


def _container(module: Any) -> None:
    """PyObject *container(descriptor, &items): a new tuple or list, and where its items are, or NULL."""
    b = Body(module, "container", POINTER, POINTER, POINTER, inline=True)
    descriptor, items = b.parameters
    count = b.get(WORD, descriptor, d.RESULTS)
    with b.if_then(_returns(b, descriptor, d.RETURNS_LIST)):
        made = b.python(POINTER, "PyList_New", count)
        b.guard(b.differ(made, NULL), NULL)
        b.put(b.get(POINTER, made, o.LIST_ITEMS), items)
        b.ret(made)
    made = b.python(POINTER, "PyTuple_New", count)
    b.put(b.at(made, o.TUPLE_ITEMS), items)
    b.ret(made)


def _returns(b: Body, descriptor: Any, kind: int) -> Any:
    return b.is_equal(b.get(WORD, descriptor, d.RETURNS), word(kind))


def _fresh(module: Any) -> None:
    """PyObject *fresh(self, descriptor, objects, scratch): the results, NotImplemented, or NULL."""
    b = Body(module, "fresh", POINTER, POINTER, POINTER, POINTER, POINTER)
    self, descriptor, objects, scratch = b.parameters
    items, single, result, status = (b.alloca(t) for t in (POINTER, POINTER, POINTER, INT))
    b.guard(b.own("prepare", descriptor, objects, scratch), NOT_IMPLEMENTED)
    b.put(NULL, single)
    b.put(single, items)
    b.put(FAILED, status)
    is_one = _returns(b, descriptor, d.RETURNS_ONE)
    with b.if_then(b.not_(is_one)):
        b.put(b.own("container", descriptor, items), result)
        b.guard(b.differ(b.get(POINTER, result), NULL), NULL)
    with b.if_then(b.own("new_results", descriptor, scratch, b.get(POINTER, items))):
        b.put(b.own("execute", self, descriptor, scratch), status)
    with b.if_then(is_one):
        b.put(b.get(POINTER, single), result)
    with b.if_then(b.is_equal(b.get(INT, status), DONE)):
        b.ret(b.get(POINTER, result))
    b.release(b.get(POINTER, result))
    b.ret(_unless_done(b, b.get(INT, status)))


# Results in the caller's arrays.


def _filled(module: Any) -> None:
    """int filled(self, descriptor, objects, scratch): runs the function on these arrays for results."""
    b = Body(module, "filled", INT, POINTER, POINTER, POINTER, POINTER)
    self, descriptor, objects, scratch = b.parameters
    b.guard(b.own("buffers", descriptor, objects, scratch), REFUSED)
    b.ret(b.own("execute", self, descriptor, scratch))


def _items_filled(module: Any) -> None:
    """int items_filled(self, descriptor, out, scratch): the same for a tuple or a list of arrays."""
    b = Body(module, "items_filled", INT, POINTER, POINTER, POINTER, POINTER, inline=True)
    self, descriptor, out, scratch = b.parameters
    is_list = b.is_a(out, list)
    b.guard(b.or_(is_list, b.is_a(out, tuple)), REFUSED)
    count = b.get(WORD, out, o.COUNT)
    b.guard(b.is_equal(count, b.get(WORD, descriptor, d.RESULTS)), REFUSED)
    with b.if_then(is_list):
        # Another thread may change the list while the function runs: a tuple holds its arrays.
        items = b.python(POINTER, "PyList_AsTuple", out)
        b.guard(b.differ(items, NULL), FAILED)
        status = b.own("filled", self, descriptor, b.at(items, o.TUPLE_ITEMS), scratch)
        b.release(items)
        b.ret(status)
    b.ret(b.own("filled", self, descriptor, b.at(out, o.TUPLE_ITEMS), scratch))


def _into(module: Any) -> None:
    """PyObject *into(self, descriptor, objects, names, scratch): out, NotImplemented, or NULL.

    ``names`` are the names of the objects after the inputs: there must be one, "out".
    """
    b = Body(module, "into", POINTER, POINTER, POINTER, POINTER, POINTER, POINTER)
    self, descriptor, objects, names, scratch = b.parameters
    b.guard(b.is_equal(b.get(WORD, names, o.COUNT), word(1)), NOT_IMPLEMENTED)
    name = b.get(POINTER, names, o.TUPLE_ITEMS)
    b.guard(b.is_equal(name, OUT), NOT_IMPLEMENTED)
    b.guard(b.own("prepare", descriptor, objects, scratch), NOT_IMPLEMENTED)
    after_inputs = b.at(objects, b.item(b.get(WORD, descriptor, d.INPUTS)))
    out = b.get(POINTER, after_inputs)
    status = b.alloca(INT)
    with b.if_else(_returns(b, descriptor, d.RETURNS_ONE)) as (one, several):
        with one:
            b.put(b.own("filled", self, descriptor, after_inputs, scratch), status)
        with several:
            b.put(b.own("items_filled", self, descriptor, out, scratch), status)
    result = b.get(INT, status)
    b.guard(b.is_equal(result, DONE), _unless_done(b, result))
    b.hold(out)
    b.ret(out)


# A call.


def _attempt(module: Any) -> None:
    """PyObject *attempt(self, objects, count, names): what `call` returns, before any fallback."""
    b = Body(module, "attempt", POINTER, POINTER, POINTER, WORD, POINTER, inline=True)
    self, objects, count, names = b.parameters
    descriptor = b.get(POINTER, b.get(POINTER, _item(b, self, DESCRIPTOR)), o.ARRAY_DATA)
    b.guard(b.is_equal(count, b.get(WORD, descriptor, d.INPUTS)), NOT_IMPLEMENTED)
    scratch = b.alloca(WORD, b.get(WORD, descriptor, d.SCRATCH_WORDS))
    with b.if_then(b.is_equal(names, NULL), likely=True):
        b.ret(b.own("fresh", self, descriptor, objects, scratch))
    b.ret(b.own("into", self, descriptor, objects, names, scratch))


def _call(module: Any) -> None:
    """PyObject *call(self, objects, count, names): a function of CPython for METH_FASTCALL_KEYWORDS."""
    b = Body(module, "call", POINTER, POINTER, POINTER, WORD, POINTER)
    b.function.linkage = "external"
    self, objects, count, names = b.parameters
    result = b.own("attempt", self, objects, count, names)
    b.guard(b.is_equal(result, NOT_IMPLEMENTED), result)
    fallback = b.get(POINTER, _item(b, self, FALLBACK))
    with b.if_then(b.is_equal(fallback, NONE)):
        b.hold(NOT_IMPLEMENTED)
        b.ret(NOT_IMPLEMENTED)
    b.ret(b.python(POINTER, "PyObject_Vectorcall", fallback, objects, count, names))
