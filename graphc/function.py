"""`Function`: what a user holds, calls and looks at."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import from_dtype, types
from numba.extending import typeof_impl

from graphc import structure
from graphc.arguments import as_array, check_result, in_order
from graphc.codegen.module import ModuleSource
from graphc.dump import dump, one_line
from graphc.errors import GraphTypeError, GraphValueError, compose
from graphc.fuse.memory import MemoryPlan, memory_text
from graphc.ir import Array, Graph, requirements
from graphc.jit import (
    Compiled,
    Interface,
    Native,
    compile_native,
    for_jitted_callers,
    is_loadable,
    load_native,
)
from graphc.native import NOT_KEPT, Kept, native_call
from graphc.reference import evaluate
from graphc.rewrite.engine import Firing
from graphc.runtime.pool import prepare
from graphc.store import load, read_code, stem_of, write_code
from graphc.types import Requirement, TensorType, bind_sizes, evaluate_size

STAGES = ("declared", "gates", "fused", "source", "memory")
FORMATS = ("text",)
_KEPT = Kept(read_code, write_code)


def _argument_type(type_: TensorType) -> Any:
    element: Any = from_dtype(type_.dtype)  # type: ignore[arg-type]
    if type_.ndim == 0:
        return element
    # An array that may be written converts to the read-only type, but not the other way round.
    return types.Array(element, type_.ndim, "C", readonly=True)


@dataclass(frozen=True)
class Rewrite:
    """One rewriting that took place: rule, label, line of the user's program, both sides."""

    rule: str
    label: str
    location: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.location}: {self.rule} ({self.label}): {self.before} -> {self.after}"


def _shown(firing: Firing) -> Rewrite:
    return Rewrite(
        rule=firing.rule.name,
        label=firing.rule.label.name,
        location=str(firing.location or ""),
        before=one_line(firing.before),
        after=one_line(firing.after),
    )


@dataclass(frozen=True)
class Plan:
    """What a `Function` is made from: the graph at its stages, the source, the structure of results."""

    stages: Mapping[str, Graph]
    source: ModuleSource
    memory: MemoryPlan
    template: Any
    cached: bool
    log: Sequence[Firing] = ()
    threads: int = 1

    @property
    def declared(self) -> Graph:
        """The graph as the user declared it."""
        return self.stages["declared"]


class Function:
    """A compiled graph, called like a Python function of arrays.

    ``f(*arrays)`` and ``f(name=array)`` return fresh arrays in the structure that was compiled; 0-d
    results are 0-d arrays. ``f(..., out=buffers)`` fills arrays of that structure and returns them.
    Jitted code calls ``f`` like any jitted function, with C-contiguous arrays of the declared dtypes and
    plain numbers for 0-d inputs; there it returns a tuple of arrays, or one array. ``f.jitted`` is the Numba
    dispatcher itself. Calls may run in many threads at once and release the GIL.

    Arguments are converted when NumPy calls it ``same_kind``. Raises `GraphTypeError` for a lossy dtype, a
    non-numeric object, and unknown, missing or repeated arguments; `GraphValueError` for shapes and sizes;
    `GraphIndexError` for an index outside its axis.

    >>> import graphc as gx
    >>> x = gx.input("x", ("N",))
    >>> f = gx.compile([x], {"y": 2 * x, "total": x.sum()}, name="twice")
    >>> f([1, 2])
    {'y': array([2., 4.]), 'total': array(3.)}
    """

    # Python calls what the slot ``__call__`` holds, without a frame of its own in between.
    __slots__ = ("__call__", "__dict__", "__weakref__")

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        graph = plan.declared
        self.name = graph.name
        self._inputs = graph.input_types()
        self._names = [name for name, _ in self._inputs]
        self._results = [node.tensor_type for node in graph.outputs]
        self._requirements: Sequence[Requirement] = requirements(graph.nodes())
        self._lock = threading.Lock()
        self._dispatcher: Any = None
        self._structure = structure_of(plan.template)
        if plan.threads > 1:
            prepare(plan.threads)
        self._native = native_functions(plan)
        self._call = self._native_call(fallback=None)
        flat = self._native_call(fallback=self._call_checked)
        self.__call__ = flat if self._structure else self._call_nested

    def _native_call(self, fallback: Callable[..., Any] | None) -> Callable[..., Any]:
        """A builtin that calls the native code, or ``fallback`` where arguments are not just right."""
        return native_call(
            self.name,
            [type_ for _, type_ in self._inputs],
            self._results,
            self._native.measure,
            self._native.run,
            returns=self._structure or "tuple",
            fallback=fallback,
            kept=_KEPT if self._plan.cached else NOT_KEPT,
        )

    # The slow path: conversions, nested structures and explanations.

    def _call_nested(self, *args: Any, out: Any = None, **named: Any) -> Any:
        """A call whose results are nested: native code returns them flat."""
        if out is None and not named:
            found = self._call(*args)
            if found is not NotImplemented:
                return structure.like(self._plan.template, iter(found))
        return self._call_checked(*args, out=out, **named)

    def _call_checked(self, *args: Any, out: Any = None, **named: Any) -> Any:
        values = in_order(self.name, self._names, args, named)
        arrays = [
            as_array(name, wanted, value)
            for (name, wanted), value in zip(self._inputs, values, strict=True)
        ]
        if out is not None:
            return self._fill(arrays, out)
        found = self._call(*arrays)
        if found is NotImplemented:
            self._explain(arrays)
        if self._structure:
            return found
        return structure.like(self._plan.template, iter(found))

    def _sizes(self, arrays: Sequence[Array]) -> dict[str, int]:
        """The values of the named sizes; raises what is wrong with them."""
        sizes = bind_sizes(self._inputs, [array.shape for array in arrays])
        for requirement in self._requirements:
            requirement.check(sizes)
        return sizes

    def _explain(self, arrays: Sequence[Array]) -> None:
        """Raises what made a native call fail."""
        self._sizes(arrays)
        # The reference repeats the call with the names and lines of the user's program.
        evaluate(self._plan.declared, arrays)
        raise GraphValueError(compose(self.name, "was refused by its native code"))

    def _fill(self, arrays: Sequence[Array], out: Any) -> Any:
        buffers = self._checked_buffers(out, self._sizes(arrays))
        # A result may overwrite an argument: it is read from a copy then.
        arrays = [
            array.copy() if any(np.may_share_memory(array, b) for b in buffers) else array
            for array in arrays
        ]
        direct = [b if b.flags.c_contiguous else np.empty(b.shape, b.dtype) for b in buffers]
        if self._call(*arrays, out=tuple(direct)) is NotImplemented:
            self._explain(arrays)
        for buffer, filled in zip(buffers, direct, strict=True):
            if buffer is not filled:
                buffer[...] = filled
        return out

    def _checked_buffers(self, out: Any, sizes: Mapping[str, int]) -> list[Array]:
        if not structure.matches(self._plan.template, out):
            raise GraphTypeError(compose(self.name, "out has another structure than the results"))
        buffers = structure.flatten(out)
        for k, (wanted, buffer) in enumerate(zip(self._results, buffers, strict=True)):
            check_result(k, wanted, tuple(evaluate_size(s, sizes) for s in wanted.shape), buffer)
            for other in range(k):
                if np.shares_memory(buffers[other], buffer):
                    raise GraphValueError(compose(f"out[{k}]", f"overlaps out[{other}]"))
        return buffers

    # Jitted callers.

    @property
    def jitted(self) -> Any:
        """The Numba dispatcher for jitted callers, compiled when it is first asked for."""
        with self._lock:
            if self._dispatcher is None:
                plan, given = self._plan, self._plan.source.given
                cached = plan.cached and not given
                namespace = load(self.name, plan.source.text, given, cached=cached)
                run = plan.source.run
                namespace[run] = for_jitted_callers(namespace[run])
                dispatcher = namespace[plan.source.entry]
                dispatcher.compile(tuple(_argument_type(type_) for _, type_ in self._inputs))
                dispatcher.disable_compile()
                self._dispatcher = dispatcher
        return self._dispatcher

    # Looking.

    @property
    def rewrites(self) -> tuple[Rewrite, ...]:
        """What the optimiser did, in order: each has a rule, label, location, before and after.

        >>> import graphc as gx
        >>> x = gx.input("x")
        >>> f = gx.compile([x], gx.log(1 + gx.exp(x)), cache=False)
        >>> f.rewrites[0].rule, f.rewrites[0].before, f.rewrites[0].after
        ('softplus_of_sum', 'log(exp(x) + 1.0)', 'softplus(x)')
        """
        return tuple(map(_shown, self._plan.log))

    def dump(self, stage: str = "fused", format: str = "text") -> str:
        """The graph at a stage: ``declared``, ``gates`` (recognised), ``fused``, the ``source`` that runs,
        or ``memory``: where in the workspace every intermediate array lies.

        Raises `GraphValueError` for another stage or format.
        """
        if stage not in STAGES or format not in FORMATS:
            problem = f"has no stage {stage!r} in format {format!r}"
            fix = f"stages are {', '.join(STAGES)}; formats are {', '.join(FORMATS)}"
            raise GraphValueError(compose("dump", problem, fix=fix))
        if stage == "source":
            return self._plan.source.text
        if stage == "memory":
            return memory_text(self._plan.stages["fused"], self._plan.memory)
        return dump(self._plan.stages[stage])

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}: {type_}" for name, type_ in self._inputs)
        return f"<Function {self.name}({arguments}) -> {', '.join(map(str, self._results))}>"


@typeof_impl.register(Function)
def _typeof_function(function: Function, context: Any) -> Any:
    """Inside jitted code a `Function` is its dispatcher."""
    return types.Dispatcher(function.jitted)


def structure_of(template: Any) -> str:
    """How native code returns results of a flat structure; empty if it is nested or of another kind."""
    if not isinstance(template, list | tuple | dict):
        return "one"
    is_flat = all(not isinstance(item, list | tuple | dict) for item in template)
    if type(template) is tuple and is_flat:
        return "tuple"
    return "list" if type(template) is list and is_flat else ""


def native_functions(plan: Plan) -> Native:
    """The machine code of a plan: in this process already, on disk, or compiled now."""
    source, graph = plan.source, plan.declared
    cached = plan.cached and not source.given
    stem = stem_of(graph.name, source.text)
    if not cached:
        return load_native(_compiled(plan, f"{stem}_{next(_serials)}", cached=False).code)
    with _loading:
        known = _loaded.get(stem)
        if known is None:
            known = _loaded[stem] = load_native(_kept_code(plan, stem))
    return known


_serials = itertools.count()
_loaded: weakref.WeakValueDictionary[str, Native] = weakref.WeakValueDictionary()
_loading = threading.Lock()


def _kept_code(plan: Plan, stem: str) -> bytes:
    name = f"{stem}.bin"
    code = read_code(name)
    if code is not None and is_loadable(code):
        return code
    compiled = _compiled(plan, stem, cached=True)
    if compiled.is_portable:
        write_code(name, compiled.code)
    return compiled.code


def _compiled(plan: Plan, name: str, *, cached: bool) -> Compiled:
    source = plan.source
    namespace = load(plan.declared.name, source.text, source.given, cached=cached)
    functions = {"run": namespace[source.run], "measure": namespace[source.measure]}
    return compile_native(name, functions, interface_of(plan))


def interface_of(plan: Plan) -> Interface:
    """What the native functions of a plan are called with."""
    graph = plan.declared
    return Interface(
        tuple((type_.dtype, type_.ndim) for _, type_ in graph.input_types()),
        tuple((node.dtype, len(node.shape)) for node in graph.outputs),
        plan.source.sizes,
    )
