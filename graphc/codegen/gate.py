"""The source of one fused gate: a loop nest with statements, running totals and several results."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from graphc.codegen.expressions import (
    Index,
    element,
    literal,
    scalar_operation,
    size_names,
    subscript,
    template_of,
)
from graphc.dump import Names, is_number
from graphc.facts import ReduceCode
from graphc.fuse.roles import Role, role, space
from graphc.ir import BROADCAST_TO, Graph, Node
from graphc.types import Shape, product

INDENT = "    "
_WORD = re.compile(r"[A-Za-z_]\w*")
_ATOM = re.compile(r"-?[\w.]+|np\.\w+\(-?[\w.+]+\)")
_READ = re.compile(r"(\w+)\[([\w, ]*)\]")


@dataclass(frozen=True)
class GateSource:
    """A gate's function: its lines, and what a caller passes and gets.

    ``arrays`` are the results that the caller allocates, ``scalars`` the 0-d results that are returned;
    ``flat`` says that all arrays are passed as one axis.
    """

    name: str
    lines: list[str]
    arrays: tuple[Node, ...]
    scalars: tuple[Node, ...]
    sizes: tuple[str, ...]
    flat: bool


@dataclass
class _Nest:
    """Lines of a loop nest by depth: before the inner loop, and after it."""

    depth: int
    before: list[list[str]] = field(init=False)
    after: list[list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.before = [[] for _ in range(self.depth + 1)]
        self.after = [[] for _ in range(self.depth + 1)]


def gate_source(name: str, body: Graph, names: Names) -> GateSource:
    """The function of a gate with the given body."""
    return _Gate(name, body, names).source()


class _Gate:
    def __init__(self, name: str, body: Graph, names: Names) -> None:
        self.name, self.body, self.names = name, body, names
        self.nodes = [n for n in body.nodes() if n not in body.inputs]
        self.computed = [n for n in self.nodes if role(n) in (Role.LOOP, Role.REDUCE)]
        whole = space(self.computed[0])
        self.flat = _can_be_flat(self.computed, set(body.inputs), whole)
        self.space: Shape = (product(whole),) if self.flat else whole
        self.sizes = tuple(sorted(_sizes_of(self.nodes, self.space)))
        named = [n for n in (*self.nodes, *body.inputs) if not is_number(n)]
        taken = {*self.sizes, *(names[n] for n in named)}
        self.index: Index = tuple(_fresh(taken, "ijklmn"[d % 6]) for d in range(len(self.space)))
        self.taken = taken
        self.uses = Counter(arg for node in self.computed for arg in node.args)
        self.nest = _Nest(len(self.space))
        self.depth_of = {name: d + 1 for d, name in enumerate(self.index)}
        self.local: dict[Node, str] = {}
        self.prologue: list[str] = []

    # Expressions.

    def _known(self, node: Node, index: Index) -> str | None:
        if node in self.local and index == self.index:
            return self.local[node]
        if node in self.body.inputs:
            name = self.names[node]
            if node.shape == ():
                return name
            return subscript(name, self.index if self.flat else index)
        if self.flat and node.op is BROADCAST_TO:
            return element(node.args[0], (), self._known)
        return None

    def _depth(self, text: str) -> int:
        return max((self.depth_of.get(word, 0) for word in _WORD.findall(text)), default=0)

    def _operand(self, node: Node, repeated: bool) -> str:
        """A name, a number or a single read; anything longer or used again is bound to a name first."""
        text = element(node, self.index, self._known)
        if node in self.local or _ATOM.fullmatch(text):
            return text
        if _READ.fullmatch(text) and not repeated and self.uses[node] == 1:
            return text
        return self._bind(node, self._read_name(node, text), text)

    def _read_name(self, node: Node, text: str) -> str:
        match = _READ.fullmatch(text)
        if match:
            return _fresh(self.taken, f"{match[1]}_{match[2].replace(', ', '')}")
        return _fresh(self.taken, "value") if is_number(node) else self.names[node]

    def _bind(self, node: Node, name: str, text: str) -> str:
        depth = self._depth(text)
        self.nest.before[depth].append(f"{name} = {text}")
        self.depth_of[name] = depth
        self.local[node] = name
        return name

    # Statements.

    def _loop(self, node: Node) -> None:
        template = template_of(node)
        operands = [
            self._operand(arg, template.count(f"{{{k}}}") > 1) for k, arg in enumerate(node.args)
        ]
        self._bind(node, self._free_name(node), scalar_operation(node, operands))

    def _free_name(self, node: Node) -> str:
        name = self.names[node]
        # The result's array has this name, so its element needs another.
        return _fresh(self.taken, f"{name}_{''.join(self.index)}") if node in self.results else name

    @property
    def results(self) -> tuple[Node, ...]:
        return self.body.outputs

    def _reduce(self, node: Node) -> None:
        lowering = node.op.lowering
        assert isinstance(lowering, ReduceCode)
        axes, ndim = node.attrs["axes"], len(node.args[0].shape)
        value = self._operand(node.args[0], False)
        start = literal(lowering.initial(node.dtype), node.dtype)
        kept = tuple(self.index[i] for i in range(ndim) if i not in axes) if not self.flat else ()
        first = min(axes)
        if self.flat or axes == tuple(range(first, ndim)):
            depth = 0 if self.flat else first
            total = (
                self.names[node]
                if node.shape == ()
                else _fresh(self.taken, f"{self.names[node]}_total")
            )
            self.nest.before[depth].append(f"{total} = {start}")
            self._innermost(f"{total} = {lowering.step}({total}, {value})")
            if node.shape != ():
                self.nest.after[depth].append(f"{subscript(self.names[node], kept)} = {total}")
        else:
            place = subscript(self.names[node], kept)
            self.prologue.append(f"kernels.fill({self.names[node]}, {start})")
            self._innermost(f"{place} = {lowering.step}({place}, {value})")

    def _innermost(self, line: str) -> None:
        self.nest.before[-1].append(line)

    # The function.

    def source(self) -> GateSource:
        for node in self.computed:
            self._reduce(node) if role(node) is Role.REDUCE else self._loop(node)
        for node in self.results:
            if role(node) is Role.LOOP:
                self._innermost(f"{subscript(self.names[node], self.index)} = {self.local[node]}")
        arrays = tuple(n for n in self.results if n.shape != ())
        scalars = tuple(n for n in self.results if n.shape == ())
        parameters = [self.names[n] for n in (*self.body.inputs, *arrays)] + list(self.sizes)
        lines = [f"def {self.name}({', '.join(parameters)}):"]
        lines += [INDENT + line for line in [*self.prologue, *self._nested()]]
        if scalars:
            lines.append(f"{INDENT}return {', '.join(self.names[n] for n in scalars)}")
        return GateSource(self.name, lines, arrays, scalars, self.sizes, self.flat)

    def _nested(self) -> list[str]:
        lines: list[str] = []
        for depth, before in enumerate(self.nest.before):
            lines += [INDENT * depth + line for line in before]
            if depth < len(self.space):
                loop = f"for {self.index[depth]} in range({self.space[depth]}):"
                lines.append(INDENT * depth + loop)
        for depth in reversed(range(len(self.space))):
            lines += [INDENT * depth + line for line in self.nest.after[depth]]
        return lines


def _fresh(taken: set[str], wanted: str) -> str:
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}{count}"
    taken.add(name)
    return name


def _sizes_of(nodes: Iterable[Node], whole: Shape) -> set[str]:
    found = size_names(whole)
    for node in nodes:
        found |= size_names((*node.shape, *(a.shape for a in node.args), *node.attrs.values()))
    return found


def _can_be_flat(computed: list[Node], inputs: set[Node], whole: Shape) -> bool:
    """Whether one index serves all: every array read has the space's shape, every total is over all."""
    if len(whole) < 2:
        return False
    for node in computed:
        if role(node) is Role.REDUCE and node.shape != ():
            return False
        for arg in node.args:
            stretched = arg.op is BROADCAST_TO and arg.args[0].shape == ()
            direct = arg in inputs or role(arg) in (Role.LOOP, Role.LEAF)
            if not (stretched or (direct and arg.shape == whole)):
                return False
    return True
