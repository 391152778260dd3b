"""`Function`: what a user holds, calls and looks at."""

from __future__ import annotations

import threading
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
from graphc.ir import Array, Graph, requirements
from graphc.reference import evaluate
from graphc.rewrite.engine import Firing
from graphc.store import load
from graphc.types import Requirement, TensorType, bind_sizes, evaluate_size

STAGES = ("declared", "gates", "fused", "source")
FORMATS = ("text",)


def _argument_type(type_: TensorType) -> Any:
    element: Any = from_dtype(type_.dtype)  # type: ignore[arg-type]
    if type_.ndim == 0:
        return element
    # An array that may be written converts to the read-only type, but not the other way round.
    return types.Array(element, type_.ndim, "C", readonly=True)


def _result_type(type_: TensorType) -> Any:
    element: Any = from_dtype(type_.dtype)  # type: ignore[arg-type]
    return types.Array(element, type_.ndim, "C")


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
    template: Any
    cached: bool
    log: Sequence[Firing] = ()

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

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        graph = plan.declared
        self.name = graph.name
        self._inputs = graph.input_types()
        self._names = [name for name, _ in self._inputs]
        self._results = [node.tensor_type for node in graph.outputs]
        self._requirements: Sequence[Requirement] = requirements(graph.nodes())
        self._lock = threading.Lock()
        self._into: Any = None
        given = plan.source.given
        self._namespace = load(self.name, plan.source.text, given, cached=plan.cached and not given)
        self.jitted: Any = self._namespace[plan.source.entry]
        self._compile(self.jitted, [_argument_type(t) for _, t in self._inputs])
        self._rebuild = _rebuilder(plan.template)
        # Numba would cut a float down to an integer argument, so those are looked at in Python.
        self._is_direct = all(t.ndim or t.dtype.kind == "f" for _, t in self._inputs)

    @staticmethod
    def _compile(dispatcher: Any, signature: Sequence[Any]) -> None:
        dispatcher.compile(tuple(signature))
        dispatcher.disable_compile()

    def __call__(self, /, *args: Any, out: Any = None, **named: Any) -> Any:
        if not named and self._is_direct:
            try:
                if out is None:
                    return self._rebuild(self.jitted(*args))
                if structure.matches(self._plan.template, out):
                    self._compiled_into()(*args, *structure.flatten(out))
                    return out
            except (TypeError, ValueError, IndexError, OverflowError):
                # Converted arguments may still do; otherwise the slow path says what is wrong.
                pass
        return self._call_checked(in_order(self.name, self._names, args, named), out)

    # The slow path: conversions and explanations.

    def _call_checked(self, values: Sequence[Any], out: Any) -> Any:
        arrays = [
            as_array(name, wanted, value)
            for (name, wanted), value in zip(self._inputs, values, strict=True)
        ]
        sizes = bind_sizes(self._inputs, [array.shape for array in arrays])
        for requirement in self._requirements:
            requirement.check(sizes)
        try:
            if out is None:
                return self._rebuild(self.jitted(*map(_passed, arrays)))
            return self._fill(arrays, out, sizes)
        except (IndexError, ValueError) as error:
            if isinstance(error, GraphValueError):
                raise
            # The reference repeats the call with the names and lines of the user's program.
            evaluate(self._plan.declared, arrays)
            raise

    def _fill(self, arrays: Sequence[Array], out: Any, sizes: Mapping[str, int]) -> Any:
        buffers = self._checked_buffers(out, sizes)
        # A result may overwrite an argument: it is read from a copy then.
        arrays = [
            array.copy() if any(np.may_share_memory(array, b) for b in buffers) else array
            for array in arrays
        ]
        direct = [b if b.flags.c_contiguous else np.empty(b.shape, b.dtype) for b in buffers]
        self._compiled_into()(*map(_passed, arrays), *direct)
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

    def _compiled_into(self) -> Any:
        """The entry that fills arrays of the caller's, compiled when it is first needed."""
        if self._into is None:
            with self._lock:
                into = self._namespace[self._plan.source.entry_into]
                signature = [_argument_type(t) for _, t in self._inputs]
                if not into.signatures:
                    self._compile(into, [*signature, *map(_result_type, self._results)])
                self._into = into
        return self._into

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
        """The graph at a stage: ``declared``, ``gates`` (recognised), ``fused``, or the ``source`` that runs.

        Raises `GraphValueError` for another stage or format.
        """
        if stage not in STAGES or format not in FORMATS:
            problem = f"has no stage {stage!r} in format {format!r}"
            fix = f"stages are {', '.join(STAGES)}; formats are {', '.join(FORMATS)}"
            raise GraphValueError(compose("dump", problem, fix=fix))
        return self._plan.source.text if stage == "source" else dump(self._plan.stages[stage])

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}: {type_}" for name, type_ in self._inputs)
        return f"<Function {self.name}({arguments}) -> {', '.join(map(str, self._results))}>"


@typeof_impl.register(Function)
def _typeof_function(function: Function, context: Any) -> Any:
    """Inside jitted code a `Function` is its dispatcher."""
    return types.Dispatcher(function.jitted)


def _passed(array: Array) -> Any:
    return array if array.ndim else array[()]


def _rebuilder(template: Any) -> Callable[[Any], Any]:
    """From what the jitted function returns to the structure that the user compiled."""
    if not isinstance(template, list | tuple | dict):
        return lambda result: result
    count = len(structure.flatten(template))
    if type(template) is tuple and count > 1 and len(template) == count:
        return lambda results: results
    if type(template) is list and count > 1 and len(template) == count:
        return list
    if count == 1:
        return lambda result: structure.like(template, iter((result,)))
    return lambda results: structure.like(template, iter(results))
