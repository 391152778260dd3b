"""The source of one fused gate: its loops, statements and running totals, over flat buffers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from graphc.codegen.expressions import (
    Index,
    element,
    flat_index,
    scalar_operation,
    size_names,
    template_of,
)
from graphc.codegen.interior import in_parts
from graphc.codegen.rows import stays_rolled
from graphc.codegen.totals import SUFFIXES, Total, total
from graphc.dump import Names, is_number
from graphc.fuse.chunks import (
    BLOCK,
    Chunks,
    Kind,
    Part,
    is_long,
    private_scratch,
    private_size,
    run_shape,
)
from graphc.fuse.interior import interior
from graphc.fuse.roles import Role, kept_axes, role, space
from graphc.fuse.schedule import Loop, Schedule, Step, Strips
from graphc.fuse.singled import singled_out
from graphc.ir import BROADCAST_TO, Graph, Node
from graphc.ops.index import WITH_EDGES
from graphc.ops.position import Position
from graphc.types import Shape, product

INDENT = "    "
_WORD = re.compile(r"(?<![\w.])[A-Za-z_]\w*")
_ATOM = re.compile(r"-?[\w.]+([eE][+-]\d+)?|np\.\w+\(-?[\w.+-]+\)")
_READ = re.compile(r"(\w+)\[([^\[\]]*)\]")


@dataclass(frozen=True)
class GateSource:
    """A gate's function: its lines, and the buffers that a caller passes after the body's inputs.

    ``results`` are results with a buffer of their own, ``scratch`` what later loops of the gate read, and
    ``sizes`` the named sizes, in the order of the parameters. A gate that runs in ``chunks`` has ``parts``
    behind its scratch, in place of ``totals`` over its outermost loop: names for their partial totals.
    """

    name: str
    lines: list[str]
    results: tuple[Node, ...]
    scratch: tuple[Node, ...]
    sizes: tuple[str, ...]
    chunks: Chunks | None = None
    parts: tuple[str, ...] = ()
    totals: tuple[Total, ...] = ()


def gate_source(
    name: str,
    body: Graph,
    schedule: Schedule,
    names: Names,
    replaced: Mapping[Node, Node],
    chunks: Chunks | None = None,
) -> GateSource:
    """The function of a gate; ``replaced`` gives results that are written over one of the body's inputs.

    With ``chunks`` it is a function of the bounds of a chunk, its number, and the number of the thread.
    """
    return _Gate(name, body, schedule, names, replaced, chunks).source()


class _Gate:
    def __init__(
        self,
        name: str,
        body: Graph,
        schedule: Schedule,
        names: Names,
        replaced: Mapping[Node, Node],
        chunks: Chunks | None,
    ) -> None:
        self.name, self.body, self.names = name, body, names
        self.schedule = schedule
        self.scratch = dict(schedule.scratch)
        self.replaced, self.chunks = replaced, chunks
        self.hosts = dict(schedule.hosted)
        self.private = private_scratch(schedule, chunks)
        steps = list(schedule.nodes())
        self.sizes = tuple(sorted(_sizes_of([*steps, *body.nodes()])))
        depth = 1 if schedule.flat else max(len(space(node)) for node in steps)
        named = [n for n in (*steps, *body.inputs) if not is_number(n)]
        self.taken = {*self.sizes, *(names[n] for n in named)}
        self.counters: Index = tuple(_fresh(self.taken, "ijklmn"[d % 6]) for d in range(depth))
        self.bounds = [_fresh(self.taken, name) for name in ("first", "last", "part", "thread")]
        has_strips = any(isinstance(step, Strips) for step in schedule.steps)
        names_of_strip = ("start", "stop", "strip") if has_strips else ()
        self.strip_names = [_fresh(self.taken, name) for name in names_of_strip]
        self.depth_of = {name: d + 1 for d, name in enumerate(self.counters)}
        # What a scratch value holds is new in every iteration of the loops that its readers share.
        self.depth_of |= {names[node]: first for node, first in schedule.scratch}
        self.uses = Counter(arg for node in steps for arg in node.args)
        self.innermost = _innermost_loops(schedule.steps)
        # The counters of open loops that step through an array by more than an element.
        self.striding: set[str] = set()
        self.has_edges = not schedule.flat and any(n.op in WITH_EDGES for n in body.nodes())
        # Loops at the edge of another's range are short work, and not cut again.
        self.at_an_edge = False
        # Choices of one place in a row, and the lines that write there when the row is done.
        self.singled: dict[Node, Node] = {}
        self.written_last: dict[Node, list[str]] = {}
        self.totals: dict[Node, Total] = {}
        self.parts: dict[Node, str] = {}
        # What is known in each of the loops that are open, and their lines; the first is the function.
        self.scopes: list[list[str]] = [[]]
        self.locals: list[dict[Node, str]] = [{}]

    # Elements.

    def own_index(self, node: Node) -> Index:
        """Where a node's value of the current iteration lies among all its values."""
        if self.schedule.flat:
            return self.counters if node.shape != () else ()
        if role(node) is not Role.REDUCE or node in self.body.inputs:
            return self.counters[: len(node.shape)]
        return tuple(self.counters[axis] for axis in kept_axes(node))

    def _local(self, node: Node) -> str | None:
        return next((known[node] for known in reversed(self.locals) if node in known), None)

    def _known(self, node: Node, index: Index) -> str | None:
        local = self._local(node)
        if local is not None and (node.shape == () or index == self.own_index(node)):
            return local
        if node in self.body.inputs and node.shape == ():
            return self.names[node]
        if node in self.body.inputs or self._is_stored(node):
            return self.place(node, index)
        if self.schedule.flat and node.op is BROADCAST_TO:
            return element(node.args[0], (), self._known)
        return None

    def _is_stored(self, node: Node) -> bool:
        return node in self.scratch or node in self.hosts or node in self.body.outputs

    def place(self, node: Node, index: Index) -> str:
        """The element in memory of a value at an index."""
        holder = self.hosts.get(node, node)
        name = self.names[self.replaced.get(holder, holder)]
        if self.schedule.flat:
            return f"{name}[{index[0] if index else '0'}]"
        self.striding.update(word for text in index[:-1] for word in _WORD.findall(text))
        return f"{name}[{flat_index(*self._in_memory(node, index, node.shape))}]"

    def _in_memory(self, node: Node, index: Index, shape: Shape) -> tuple[Index, Shape]:
        """Where an element of a value is kept, and in which shape: without the axes that memory lacks."""
        if node in self.schedule.in_strip:
            rows = self.schedule.shape(node)[0]
            return (f"{index[0]} - {self.strip_names[0]}", *index[1:]), (rows, *shape[1:])
        first = self.scratch.get(node, 0)
        return index[first:], shape[first:]

    def _parts_name(self, node: Node) -> str:
        if node not in self.parts:
            self.parts[node] = _fresh(self.taken, f"{self.names[node]}_parts")
        return self.parts[node]

    def _kept(self, part: Part, block: str) -> str:
        """Where a part of a total over the outermost loop is kept."""
        name = self._parts_name(part.node)
        if part.kind is Kind.NUMBERS:
            return f"{name}[{self.bounds[2]}]"
        if self.schedule.flat:
            return f"{name}[{block}]"
        shape = run_shape(part.node, part.kind, self.innermost[part.node])
        index = self.counters[: len(shape)]
        if part.kind is Kind.RUNS:
            index = (*index[:-1], block or "0")
        return f"{name}[{flat_index(index, shape)}]"

    def _operand(self, node: Node, repeated: bool) -> str:
        """A name, a number or a single read; anything longer or used again is bound to a name first."""
        index = self.counters if self.schedule.flat else self.counters[: len(node.shape)]
        text = element(node, index, self._known)
        if self._local(node) == text or _ATOM.fullmatch(text):
            return text
        if _READ.fullmatch(text) and not repeated and self.uses[node] == 1:
            return text
        name = self._read_name(node, text)
        if node.shape != () and index != self.own_index(node):
            # A total is known by the axes it keeps: what is read at others is another of its elements.
            self._assign(name, text)
            return name
        return self._bind(node, name, text)

    def _read_name(self, node: Node, text: str) -> str:
        match = _READ.fullmatch(text)
        if match:
            letters = "".join(word for word in _WORD.findall(match[2]) if word in self.counters)
            return _fresh(self.taken, f"{match[1]}_{letters or 'first'}")
        return _fresh(self.taken, "value") if is_number(node) else self.names[node]

    def _bind(self, node: Node, name: str, text: str) -> str:
        self.remember(node, name, self._assign(name, text))
        return name

    def _assign(self, name: str, text: str) -> int:
        """Gives a value a name, in the outermost loop that has all it is made of: its depth is returned."""
        depth = max((self.depth_of.get(word, 0) for word in _WORD.findall(text)), default=0)
        self.scopes[depth].append(f"{name} = {text}")
        self.depth_of[name] = depth
        return depth

    def remember(self, node: Node, name: str, depth: int) -> None:
        """``name`` is the value of ``node`` in the loops that are open down to ``depth``."""
        self.depth_of[name] = depth
        self.locals[depth][node] = name

    # Statements.

    def emit(self, depth: int, *lines: str) -> None:
        """Adds lines behind what the loop at ``depth`` does so far."""
        self.scopes[depth] += lines

    def _step(self, step: Step) -> None:
        if isinstance(step, Loop):
            self._loop(step)
        elif any(step is choice.args[0] for choice in self.singled):
            return  # Its only reader does without.
        elif role(step) is Role.REDUCE:
            value = self._operand(step.args[0], False)
            self.emit(len(self.scopes) - 1, self.totals[step].element(value))
        else:
            self._statement(step)

    def _statement(self, node: Node) -> None:
        if node in self.singled:
            self._all_but_one(node)
            return
        template = template_of(node)
        operands = [
            self._operand(arg, template.count(f"{{{k}}}") > 1) for k, arg in enumerate(node.args)
        ]
        text = scalar_operation(node, operands)
        if text in self.depth_of and not self._is_stored(node):
            self.remember(node, text, self.depth_of[text])
            return
        self._bind(node, self._element_name(node), text)
        self.store(node, len(self.own_index(node)))

    def _all_but_one(self, node: Node) -> None:
        """Writes what is chosen everywhere but at one place, and remembers what to write there."""
        place, chosen, other = (
            self._operand(arg, True) for arg in (self.singled[node], *node.args[1:])
        )
        index = self.own_index(node)
        self.emit(len(index), f"{self.place(node, index)} = {other}")
        self.written_last[node] = [
            f"if 0 <= {place} < {node.shape[-1]}:",
            f"{INDENT}{self.place(node, (*index[:-1], place))} = {chosen}",
        ]

    def _element_name(self, node: Node) -> str:
        # A stored value's array has its name, so the element needs another.
        if not self._is_stored(node):
            return self.names[node]
        return _fresh(self.taken, f"{self.names[node]}_{''.join(self.own_index(node))}")

    def store(self, node: Node, depth: int) -> None:
        """Writes the value of this iteration to memory if anybody reads it there."""
        if self._is_stored(node):
            self.emit(depth, f"{self.place(node, self.own_index(node))} = {self._local(node)}")

    # Loops.

    def _loop(self, loop: Loop) -> None:
        totals = [self._total(node) for node in _reductions(loop)]
        depth = loop.axis
        for each in totals:
            self.emit(depth, *each.before(depth))
        first, last = self.bounds[:2] if self.chunks and depth == 0 else ("0", str(loop.size))
        singled = self._singled_out(loop)
        if isinstance(loop, Strips):
            lines = self._strips(loop, first, last)
        elif is_long(loop) and any(t.in_parts and t.inner == depth for t in totals):
            start = _fresh(self.taken, "start")
            bounds = (start, f"accumulate.minimum({start} + {BLOCK}, {last})")
            lines = self._iterations(loop, bounds, f"{start} // {BLOCK}")
            lines = _loop_of(start, f"{first}, {last}, {BLOCK}", lines)
        else:
            lines = self._iterations(loop, (first, last), "")
        if not lines:
            return  # Nothing in it depends on its counter.
        self.emit(depth, *lines)
        for node in singled:
            self.emit(depth, *self.written_last[node])
        for each in totals:
            self.emit(depth, *each.after(depth))
            if each.is_variable and each.first_inner == depth and not each.kept:
                self.remember(each.node, each.name, depth)
                self.store(each.node, depth)

    def _strips(self, loop: Strips, first: str, last: str) -> list[str]:
        assert loop.strip
        start, stop, strip = self.strip_names
        if loop.strip.is_known:
            strip = str(loop.strip)
        else:
            self.emit(0, f"{strip} = {loop.strip}")
        lines = [f"{stop} = accumulate.minimum({start} + {strip}, {last})"]
        for part in loop.parts():
            lines += self._iterations(part, (start, stop), f"{start} // {strip}")
        return _loop_of(start, f"{first}, {last}, {strip}", lines)

    def _singled_out(self, loop: Loop) -> dict[Node, Node]:
        """The choices of one place in a loop that all of a row passes through."""
        if self.schedule.flat or isinstance(loop, Strips) or (self.chunks and loop.axis == 0):
            return {}
        found = {
            choice: place
            for choice, place in singled_out(loop, self.uses).items()
            if self._is_stored(choice) and not self._is_stored(choice.args[0])
        }
        self.singled |= found
        return found

    def _iterations(self, loop: Loop, bounds: tuple[str, str], block: str) -> list[str]:
        """The lines of a loop over a range; ``block`` is the number of the block of its axis that it is."""
        totals = [self._total(node) for node in _reductions(loop)]
        lines = self._range(loop, bounds)
        if not lines:
            return []
        return [
            *(line for each in totals for line in each.before_part(loop.axis)),
            *lines,
            *(line for each in totals for line in each.after_part(loop.axis, block)),
        ]

    def _range(self, loop: Loop, bounds: tuple[str, str]) -> list[str]:
        """The lines of a loop over a range, or of its parts where what is read depends on the place."""
        axis, counter = loop.axis, str(self.counters[loop.axis])
        self.striding.discard(counter)
        anywhere = _with_counter(self.counters, axis, Position(counter, 0, loop.size))
        may_cut = self.has_edges and not self.at_an_edge
        cut = interior(loop, anywhere) if may_cut else None
        if not cut:
            body = self._body(loop, anywhere)
            if not body:
                return []
            text = ", ".join(bounds) if bounds[0] != "0" else bounds[1]
            in_order = text == str(loop.size) and counter not in self.striding
            rolled = in_order and stays_rolled(loop, map(self._total, _reductions(loop)))
            return _loop_of(counter, text, body, "loops.rolled" if rolled else "range")
        low, high, step = (_fresh(self.taken, name) for name in ("low", "high", "k"))
        known = Position(counter, cut.before, loop.size - cut.after)
        inside = self._body(loop, _with_counter(self.counters, axis, known))
        self.at_an_edge = True
        elsewhere = self._body(loop, anywhere)
        self.at_an_edge = False
        names = (counter, low, high, step)
        return in_parts(cut, loop, bounds, names, (inside, elsewhere))

    def _body(self, loop: Loop, counters: Index) -> list[str]:
        around, self.counters = self.counters, counters
        self.scopes.append([])
        self.locals.append({})
        for step in loop.body:
            self._step(step)
        self.locals.pop()
        self.counters = around
        return self.scopes.pop()

    def _total(self, node: Node) -> Total:
        if node not in self.totals:
            name = self.names[node]
            if self._is_stored(node):
                name = _fresh(self.taken, f"{name}_total")
            while any(f"{name}_{suffix}" in self.taken for suffix in SUFFIXES):
                name = _fresh(self.taken, name)
            place = self.place(node, self.own_index(node)) if self._is_stored(node) else ""
            part = self.chunks.part_of(node) if self.chunks else None
            kept = partial(self._kept, part) if part and part.kind is not Kind.ARRAYS else None
            self.totals[node] = total(
                node,
                name,
                self.innermost[node],
                self.schedule.flat,
                place,
                partial(self._cleared, node),
                kept,
            )
        return self.totals[node]

    def _cleared(self, node: Node, start: str) -> list[str]:
        """Fills the memory of a total over the loop that begins."""
        outermost = min(node.attrs["axes"])
        if self.chunks and outermost == 0:
            return [f"combine.fill({self.names[node]}, {product(node.shape)}, {start})"]
        counter = _fresh(self.taken, "k")
        rest = product(node.shape[outermost:])
        index = (*self.own_index(node)[:outermost], counter)
        kept = self._in_memory(node, index, (*node.shape[:outermost], rest))
        place = f"{self.names[node]}[{flat_index(*kept)}]"
        return _loop_of(counter, str(rest), [f"{place} = {start}"])

    # The function.

    def source(self) -> GateSource:
        shared = self._own_memory()
        for step in self.schedule.steps:
            self._step(step)
        results = tuple(n for n in self.body.outputs if n not in self.replaced)
        scratch = tuple(self.scratch)
        parts = [self._parts_name(part.node) for part in self.chunks.parts] if self.chunks else []
        stored = [n for n in (*self.body.inputs, *results, *scratch) if n not in self.parts]
        bounds = self.bounds if self.chunks else []
        buffers = [shared.get(n, self.names[n]) for n in stored]
        lines = [f"def {self.name}({', '.join([*buffers, *parts, *self.sizes, *bounds])}):"]
        lines += [INDENT + line for line in self.scopes[0]]
        return GateSource(
            self.name,
            lines,
            results,
            scratch,
            self.sizes,
            self.chunks,
            tuple(parts),
            tuple(self.totals[part.node] for part in self.chunks.parts) if self.chunks else (),
        )

    def _own_memory(self) -> dict[Node, str]:
        """Binds what a thread or a chunk has of its own in the memory of all; returns what that is called."""
        if not self.chunks:
            return {}
        _, _, part, thread = self.bounds
        shared = {
            n: _fresh(self.taken, f"{self.names[n]}_of_all")
            for n in self.scratch
            if n in self.private
        }
        for node, name in shared.items():
            start = flat_index((thread, "0"), (1, private_size(self.schedule, node)))
            self.emit(0, f"{self.names[node]} = buffers.at({name}, {start})")
        for each in self.chunks.parts:
            if each.kind is Kind.ARRAYS:
                start = flat_index((part, "0"), (1, product(each.node.shape)))
                name = self._parts_name(each.node)
                self.emit(0, f"{self.names[each.node]} = buffers.at({name}, {start})")
        return shared


def _loop_of(counter: str, bounds: str, body: Iterable[str], over: str = "range") -> list[str]:
    return [f"for {counter} in {over}({bounds}):", *(INDENT + line for line in body)]


def _reductions(loop: Loop) -> list[Node]:
    return [node for node in dict.fromkeys(loop.nodes()) if role(node) is Role.REDUCE]


def _with_counter(counters: Index, axis: int, counter: str) -> Index:
    return (*counters[:axis], counter, *counters[axis + 1 :])


def _innermost_loops(steps: Sequence[Step]) -> dict[Node, Loop]:
    """The loop whose iterations compute the elements of each reduction."""
    found: dict[Node, Loop] = {}
    for step in steps:
        if isinstance(step, Loop):
            found |= {n: step for n in step.body if isinstance(n, Node) and role(n) is Role.REDUCE}
            found |= _innermost_loops(step.body)
    return found


def _fresh(taken: set[str], wanted: str) -> str:
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}{count}"
    taken.add(name)
    return name


def _sizes_of(nodes: Iterable[Node]) -> set[str]:
    found: set[str] = set()
    for node in nodes:
        shapes: list[Shape] = [node.shape, *(a.shape for a in node.args)]
        found |= size_names((*shapes, *node.attrs.values()))
    return found
