"""From the text of a gate to LLVM's IR, in one walk.

Gates are written in a small part of Python: loops over ranges, names, numbers, buffers, calls of functions
that Numba knows. An expression has its type when its operands have theirs, so each statement is typed and its
instructions are written as it is met. Numba's own compiler, made for all of Python, took most of the time of
compiling such code. What operations mean is Numba's here too, see `graphc.runtime.operations`.

A name that is assigned once stands for its value; any other is a place in memory that LLVM makes registers
of. What is first assigned in a loop or a branch is unknown behind it.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import itertools
import linecache
import operator
import textwrap
from collections import ChainMap, Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils, event, types
from numba.core.callconv import create_error_model
from numba.core.cpu_options import FastMathOptions
from numba.core.errors import TypingError
from numba.core.funcdesc import FunctionDescriptor

from .forms import add_attributes
from .loops import hints, is_short, rolled, work
from .operations import Computed, Known, Operand, Operations

__all__ = ["compile_into"]

_serials = itertools.count(1)

_BINARY: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_UNARY: dict[type, Callable[..., Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
    ast.Not: operator.not_,
}
_RELATIONS: dict[type, Callable[..., Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def compile_into(
    context: Any, library: Any, function: Callable[..., None], kinds: tuple[Any, ...], fastmath: Any
) -> Any:
    """Return what Numba knows of a function that is compiled into a library, for arguments of these types.

    The function returns nothing. ``fastmath`` are the flags of LLVM for its arithmetic.

    Raises Numba's TypingError for what is not understood, or has no type.
    """
    context.refresh()
    context.typing_context.refresh()
    description = _describe(function, kinds)
    # Who listens to Numba's passes hears of what is compiled without them, too.
    heard = {"name": f"native_lowering [{description.qualname}]", "qualname": description.qualname}
    with event.trigger_event("numba:run_pass", data=heard):
        _write(context, library, function, description, fastmath)
    return description


def _write(context: Any, library: Any, function: Any, description: Any, fastmath: Any) -> None:
    own = context.subtarget(
        fastmath=FastMathOptions(fastmath), error_model=create_error_model("numpy", context)
    )
    module = library.create_ir_module(description.unique_name)
    with own.push_code_library(library):
        _Gate(own, module, description, function).write()
        own.post_lowering(module, library)
    library.add_ir_module(module)


def _describe(function: Callable[..., None], kinds: tuple[Any, ...]) -> Any:
    """What Numba calls a function, and calls it with."""
    serial = next(_serials)
    name, parameters = function.__qualname__, tuple(inspect.signature(function).parameters)
    if len(parameters) != len(kinds):
        raise TypingError(f"{name} takes {len(parameters)} arguments, not {len(kinds)}")
    return FunctionDescriptor(
        native=True,
        modname=function.__module__,
        qualname=name,
        unique_name=f"{name}${serial}",
        doc="",
        typemap=None,
        restype=types.none,
        calltypes=None,
        args=parameters,
        kws=(),
        argtypes=kinds,
        noalias=True,
        uid=serial,
    )


class _Gate(ast.NodeVisitor):
    """Visiting an expression returns its value, visiting a statement writes it."""

    def __init__(self, context: Any, module: Any, description: Any, function: Any) -> None:
        self.context = context
        llvm_function = context.declare_function(module, description)
        self.builder = ir.IRBuilder(llvm_function.append_basic_block("entry"))
        context.call_conv.init_call_helper(self.builder)
        self.operations = Operations(context, self.builder)
        self.tree = _syntax(function)
        self.outside = _names_outside(function)
        kinds = description.argtypes
        values = context.call_conv.decode_arguments(self.builder, kinds, llvm_function)
        self.names: ChainMap[str, Computed] = ChainMap()
        self.places: dict[str, Computed] = {}
        self.changing = _changing_names(self.tree)
        self.loops_around = 0
        for name, kind, value in zip(description.args, kinds, values, strict=True):
            self._assign(name, Computed(kind, value))

    def write(self) -> None:
        """Writes the whole function."""
        self._statements(self.tree.body)
        self.context.call_conv.return_value(self.builder, self.context.get_dummy_value())

    # Statements.

    def _statements(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            self.visit(statement)

    def visit(self, node: ast.AST) -> Any:
        try:
            return super().visit(node)
        except TypingError as error:
            _add_place(error, node)
            raise

    def generic_visit(self, node: ast.AST) -> None:
        raise TypingError(f"a gate cannot contain {type(node).__name__}")

    def visit_Pass(self, node: ast.Pass) -> None:
        pass

    def visit_Expr(self, node: ast.Expr) -> None:
        self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        value = self.visit(node.value)
        for target in node.targets:
            self._store(target, value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        function = _BINARY[type(node.op)]
        if isinstance(node.target, ast.Subscript):
            buffer, index = self.visit(node.target.value), self.visit(node.target.slice)
            old = self.operations.operate(operator.getitem, buffer, index)
            new = self.operations.operate(function, old, self.visit(node.value))
            self.operations.operate(operator.setitem, buffer, index, new)
        else:
            old = self.visit(ast.Name(_identifier(node.target), ast.Load()))
            new = self.operations.operate(function, old, self.visit(node.value))
            self._assign(_identifier(node.target), new)

    def _store(self, target: ast.expr, value: Operand) -> None:
        if isinstance(target, ast.Subscript):
            buffer, index = self.visit(target.value), self.visit(target.slice)
            self.operations.operate(operator.setitem, buffer, index, value)
        elif isinstance(target, ast.Tuple):
            for item, part in zip(target.elts, self._parts(value), strict=True):
                self._store(item, part)
        else:
            self._assign(_identifier(target), value)

    def _parts(self, value: Operand) -> list[Computed]:
        kinds = getattr(self.operations.kind_of(value), "types", None)
        if kinds is None or isinstance(value, Known):
            raise TypingError("only tuples of values have parts")
        return [
            Computed(kind, self.builder.extract_value(value.value, k))
            for k, kind in enumerate(kinds)
        ]

    def _assign(self, name: str, value: Operand) -> None:
        kind = types.unliteral(self.operations.kind_of(value))
        if name not in self.changing:
            self.names[name] = Computed(kind, self.operations.convert(value, kind))
            return
        if name not in self.places:
            place = cgutils.alloca_once(self.builder, self.context.get_value_type(kind), name=name)
            self.places[name] = Computed(kind, place)
        self.names.setdefault(name, self.places[name])
        wanted, place = self.places[name]
        if kind != wanted and self.operations.unified(value, self.places[name]) != wanted:
            raise TypingError(f"{name} is {wanted} and {kind}")
        self.builder.store(self.operations.convert(value, wanted), place)

    def visit_For(self, node: ast.For) -> None:
        if node.orelse:
            raise TypingError("a gate cannot contain else behind a loop")
        function, first, last, step = self._range(node.iter)
        builder = self.builder
        if function is range and self._is_written_out(node.body, first, last, step):
            for index in range(first.constant, last.constant, step.constant):
                self._iteration(node, cgutils.intp_t(index))
            return
        before, done = builder.block, work(builder.function)
        head, body, end = map(builder.append_basic_block, ("loop", "loop.body", "loop.end"))
        builder.branch(head)
        builder.position_at_end(head)
        counter = builder.phi(cgutils.intp_t)
        counter.add_incoming(first, before)
        builder.cbranch(self._goes_on(counter, last, step), body, end)
        builder.position_at_end(body)
        # Vectors for which there is no register do not cross cache lines then.
        add_attributes(builder.function, '"stackrealign"')
        self.loops_around += 1
        self._iteration(node, counter)
        self.loops_around -= 1
        counter.add_incoming(builder.add(counter, step, flags=["nsw"]), builder.block)
        back = builder.branch(head)
        length = work(builder.function) - done
        if (told := hints(builder.module, function is rolled, last, length)) is not None:
            back.set_metadata("llvm.loop", told)
        builder.position_at_end(end)

    def _iteration(self, node: ast.For, counter: Any) -> None:
        with self._scope():
            self._assign(_identifier(node.target), Computed(types.intp, counter))
            self._statements(node.body)

    def _is_written_out(self, body: Sequence[ast.stmt], *bounds: Any) -> bool:
        """Whether a loop becomes its iterations, in a row: one of few and short ones inside another loop."""
        if not self.loops_around or not all(isinstance(each, ir.Constant) for each in bounds):
            return False
        parts = [part for statement in body for part in ast.walk(statement)]
        calls = [self.visit(part.func) for part in parts if isinstance(part, ast.Call)]
        count = len(range(*(each.constant for each in bounds)))
        return is_short(parts, count) and not any(map(_has_a_body, calls))

    def _goes_on(self, counter: Any, last: Any, step: Any) -> Any:
        """Whether a counter has not reached its last value, from the side that its step says."""
        if isinstance(step, ir.Constant):
            return self.builder.icmp_signed("<" if step.constant > 0 else ">", counter, last)
        upwards, downwards = (self.builder.icmp_signed(sign, counter, last) for sign in "<>")
        is_positive = self.builder.icmp_signed(">", step, cgutils.intp_t(0))
        return self.builder.select(is_positive, upwards, downwards)

    def _range(self, node: ast.expr) -> tuple[Any, Any, Any, Any]:
        """What makes a range, the first value of a counter, the first that it does not reach, its step."""
        function = self.visit(node.func) if isinstance(node, ast.Call) else None
        if not isinstance(node, ast.Call) or function not in (Known(range), Known(rolled)):
            raise TypingError("a loop of a gate is over a range")
        bounds = [self.visit(argument) for argument in node.args]
        step = bounds.pop() if len(bounds) == 3 else Known(1)
        first, last = bounds if len(bounds) == 2 else (Known(0), *bounds)
        return function.item, self._index(first), self._index(last), self._step(step)

    def _step(self, operand: Operand) -> Any:
        step = self._index(operand)
        if operand == Known(0):
            raise TypingError("the step of a range is not 0")
        if isinstance(operand, Computed):
            is_zero = self.builder.icmp_signed("==", step, cgutils.intp_t(0))
            with self.builder.if_then(is_zero, likely=False):
                message = "range() arg 3 must not be zero"
                self.context.call_conv.return_user_exc(self.builder, ValueError, (message,))
        return step

    def _index(self, operand: Operand) -> Any:
        if not isinstance(self.operations.kind_of(operand), types.Integer):
            raise TypingError("the bounds of a range are integers")
        return self.operations.convert(operand, types.intp)

    def visit_If(self, node: ast.If) -> None:
        with self.builder.if_else(self._truth(node.test)) as (then, otherwise):
            with then, self._scope():
                self._statements(node.body)
            with otherwise, self._scope():
                self._statements(node.orelse)

    @contextmanager
    def _scope(self) -> Iterator[None]:
        self.names = self.names.new_child()
        yield
        self.names = self.names.parents

    # Expressions.

    def visit_Constant(self, node: ast.Constant) -> Operand:
        return Known(node.value)

    def visit_Name(self, node: ast.Name) -> Operand:
        if node.id in self.names:
            kind, value = self.names[node.id]
            return Computed(kind, self.builder.load(value) if node.id in self.places else value)
        if node.id in self.outside:
            return Known(self.outside[node.id])
        raise TypingError(f"{node.id} has no value here")

    def visit_Attribute(self, node: ast.Attribute) -> Operand:
        return self.operations.attribute(self.visit(node.value), node.attr)

    def visit_Subscript(self, node: ast.Subscript) -> Operand:
        buffer, index = self.visit(node.value), self.visit(node.slice)
        return self.operations.operate(operator.getitem, buffer, index)

    def visit_Call(self, node: ast.Call) -> Operand:
        function = self.visit(node.func)
        if not isinstance(function, Known) or node.keywords:
            raise TypingError("a gate calls known functions, without keywords")
        return self.operations.call(function.item, *map(self.visit, node.args))

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Operand:
        operand, function = self.visit(node.operand), _UNARY[type(node.op)]
        if isinstance(operand, Known):
            return Known(function(operand.item))
        return self.operations.operate(function, operand)

    def visit_BinOp(self, node: ast.BinOp) -> Operand:
        operands = self.visit(node.left), self.visit(node.right)
        return self.operations.operate(_BINARY[type(node.op)], *operands)

    def visit_Compare(self, node: ast.Compare) -> Operand:
        return self._compare(self.visit(node.left), node.ops, node.comparators)

    def _compare(
        self, left: Operand, relations: Sequence[ast.cmpop], others: Sequence[ast.expr]
    ) -> Operand:
        if type(relations[0]) not in _RELATIONS:
            raise TypingError(f"a gate cannot contain {type(relations[0]).__name__}")
        right = self.visit(others[0])
        result = self.operations.operate(_RELATIONS[type(relations[0])], left, right)
        if not relations[1:]:
            return result
        return self._choice(
            self._as_truth(result),
            lambda: self._compare(right, relations[1:], others[1:]),
            lambda: Known(False),
        )

    def visit_BoolOp(self, node: ast.BoolOp) -> Operand:
        return self._both_or_either(isinstance(node.op, ast.And), node.values)

    def _both_or_either(self, both: bool, operands: Sequence[ast.expr]) -> Operand:
        test = self._truth(operands[0])
        if not operands[1:]:
            return Computed(types.boolean, test)

        def rest() -> Operand:
            return self._both_or_either(both, operands[1:])

        if both:
            return self._choice(test, rest, lambda: Known(False))
        return self._choice(test, lambda: Known(True), rest)

    def visit_IfExp(self, node: ast.IfExp) -> Operand:
        test = self._truth(node.test)
        return self._choice(test, lambda: self.visit(node.body), lambda: self.visit(node.orelse))

    def _choice(
        self, test: Any, then: Callable[[], Operand], otherwise: Callable[[], Operand]
    ) -> Computed:
        """One of two values, of which only the one that is wanted is computed."""
        builder = self.builder
        first, second, end = map(builder.append_basic_block, ("then", "otherwise", "chosen"))
        builder.cbranch(test, first, second)
        builder.position_at_end(first)
        one = then()
        end_of_first = builder.block
        builder.position_at_end(second)
        other = otherwise()
        end_of_second = builder.block
        kind = self.operations.unified(one, other)
        phi_values = []
        for operand, block in ((one, end_of_first), (other, end_of_second)):
            builder.position_at_end(block)
            phi_values.append((self.operations.convert(operand, kind), builder.block))
            builder.branch(end)
        builder.position_at_end(end)
        result = builder.phi(self.context.get_value_type(kind))
        for value, block in phi_values:
            result.add_incoming(value, block)
        return Computed(kind, result)

    def _truth(self, node: ast.expr) -> Any:
        return self._as_truth(self.visit(node))

    def _as_truth(self, operand: Operand) -> Any:
        return self.operations.convert(operand, types.boolean)


def _syntax(function: Any) -> ast.FunctionDef:
    """The syntax of a function, from the lines where it stands."""
    code = function.__code__
    last = max(end or 0 for _, end, _, _ in code.co_positions())
    lines = linecache.getlines(code.co_filename, function.__globals__)
    text = textwrap.dedent("".join(lines[code.co_firstlineno - 1 : last]))
    try:
        (tree,) = ast.parse(text).body
    except (SyntaxError, ValueError):
        tree = ast.Pass()
    if not isinstance(tree, ast.FunctionDef):
        raise TypingError(f"the text of {function.__qualname__} is not there")
    if ast.get_docstring(tree, clean=False) is not None:
        del tree.body[0]
    return tree


def _names_outside(function: Any) -> ChainMap[str, Any]:
    """What the names mean that a function does not assign."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    enclosing = {name: cell.cell_contents for name, cell in cells}
    return ChainMap(enclosing, function.__globals__, vars(builtins))


def _changing_names(tree: ast.FunctionDef) -> set[str]:
    """The names that are assigned in more than one place, or in terms of themselves."""
    times = Counter(argument.arg for argument in tree.args.args)
    for target, count in _targets(tree.body):
        for item in target.elts if isinstance(target, ast.Tuple) else (target,):
            if isinstance(item, ast.Name):
                times[item.id] += count
    return {name for name, count in times.items() if count > 1}


def _targets(statements: Sequence[ast.stmt]) -> Iterator[tuple[ast.expr, int]]:
    """What is assigned, also inside other statements, and how often it has a value by that."""
    for statement in statements:
        if isinstance(statement, ast.Assign):
            yield from ((target, 1) for target in statement.targets)
        elif isinstance(statement, ast.AugAssign):
            yield statement.target, 2
        elif isinstance(statement, ast.For | ast.If):
            yield from _targets(statement.body)
            yield from _targets(statement.orelse)


def _has_a_body(function: Operand) -> bool:
    """Whether a function is more than one or two instructions: it wraps one that is written in Python."""
    item = function.item if isinstance(function, Known) else None
    return hasattr(item, "py_func") or hasattr(item, "__wrapped__")


def _identifier(target: ast.expr) -> str:
    if not isinstance(target, ast.Name):
        raise TypingError(f"a gate cannot assign to {type(target).__name__}")
    return target.id


def _add_place(error: TypingError, node: ast.AST) -> None:
    """Says in an error, once, which expression it is about."""
    if not getattr(error, "__notes__", None):
        error.add_note(f"in {ast.unparse(node)}")
