"""The loops of one gate: which nodes share a loop at every depth, and which values a later loop reads again.

A gate is a tree of loops. At every depth the nodes that iterate over one axis share a loop unless one needs
a value that another has only when its loop is over, such as a total over that axis. So a softmax becomes one
loop over rows, and in it three loops over a row that stays in the cache: the maximum, the exponentials with
their sum, the products. The same rule at the outermost depth says which nodes become one gate, see
`graphc.fuse.group`.

The construction is loop fusion by levels, as in Kennedy and McKinley, "Maximizing Loop Parallelism and
Improving Data Locality via Loop Fusion and Distribution" (LCPC 1993).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from graphc.fuse.access import Accesses, Index, counters, is_checked, stays_inside
from graphc.fuse.order import in_order
from graphc.fuse.overlay import hosted
from graphc.fuse.roles import Role, role, space
from graphc.fuse.strips import SHORT, Strip, parts, strip_of
from graphc.ir import BROADCAST_TO, Graph, Node
from graphc.types import Dimension, Shape, product

CHEAP = 2
"""Up to this many operations an element is computed again in a later loop of its gate; else it is kept."""


@dataclass(frozen=True)
class Loop:
    """A loop over one axis of the nodes in it; ``body`` is what an iteration does, in order.

    With a ``strip`` it runs over a strip of the axis at a time: it is a part of `Strips`.
    """

    axis: int
    size: Dimension
    body: tuple[Step, ...]
    strip: Strip | None = None

    def parts(self) -> tuple[Loop, ...]:
        """The loop itself, which is in one piece."""
        return (self,)

    def nodes(self) -> Iterator[Node]:
        """All nodes computed in this loop, in order, as often as they are computed."""
        return _in_steps(self.body)


@dataclass(frozen=True)
class Strips(Loop):
    """Loops over one axis, the parts, which take turns: all of them run over a strip, then over the next."""

    def parts(self) -> tuple[Loop, ...]:
        """The loops that take turns."""
        return tuple(step for step in self.body if isinstance(step, Loop))


Step: TypeAlias = "Node | Loop"


@dataclass(frozen=True)
class Schedule:
    """The loops of a gate, and what it keeps in memory beside its results.

    ``flat`` says that one loop runs over all elements, whatever their axes. ``scratch`` are values that
    later loops read, each with the number of leading axes that it lacks in memory, because all its readers
    are in the same iteration of as many loops. ``hosted`` are such values that lie in the memory of a result
    instead, each with the result. In memory ``in_strip`` have the rows of a strip only.
    """

    steps: tuple[Step, ...]
    scratch: tuple[tuple[Node, int], ...] = ()
    flat: bool = False
    in_strip: frozenset[Node] = frozenset()
    hosted: tuple[tuple[Node, Node], ...] = ()

    def __str__(self) -> str:
        return "schedule"

    def nodes(self) -> Iterator[Node]:
        """All nodes in the order in which they are computed, as often as they are."""
        return _in_steps(self.steps)

    def shape(self, node: Node) -> Shape:
        """The shape in memory of a scratch value."""
        if node in self.in_strip:
            (loop,) = self.steps
            assert isinstance(loop, Loop)
            assert loop.strip
            return (loop.strip.longest, *node.shape[1:])
        return node.shape[dict(self.scratch)[node] :]


def _in_steps(steps: Sequence[Step]) -> Iterator[Node]:
    for step in steps:
        yield from step.nodes() if isinstance(step, Loop) else (step,)


def schedule(body: Graph) -> Schedule:
    """The loops of a gate with the given body."""
    nodes = [n for n in body.nodes() if n not in body.inputs]
    computed = [n for n in nodes if role(n) in (Role.LOOP, Role.REDUCE)]
    if _can_be_flat(computed, set(body.inputs)):
        loop = Loop(0, product(space(computed[0])), tuple(computed))
        return Schedule((loop,), flat=True)
    accesses = Accesses()
    steps = _steps(computed, 0, accesses)
    found = _with_memory(_in_strips(steps, accesses), computed, body, accesses)
    if all(isinstance(size, int) for node in found.in_strip for size in node.shape[1:]):
        return found
    return _with_memory(steps, computed, body, accesses)


def _in_strips(steps: tuple[Step, ...], accesses: Accesses) -> tuple[Step, ...]:
    """The only loop of a gate as loops over strips, where that lets statements between loops vectorise."""
    if len(steps) != 1 or not isinstance(loop := steps[0], Loop):
        return steps
    width = inner_elements(loop)
    are_short = isinstance(width, int) and width <= SHORT
    strip = strip_of(loop.size, width)
    if strip is None or (are_short and _vectorises(loop, accesses)):
        return steps
    cut = parts(loop.body, accesses, are_short)
    if len(cut) == 1:
        return steps
    loops = tuple(Loop(loop.axis, loop.size, tuple(part), strip) for part in cut)
    return (Strips(loop.axis, loop.size, loops, strip),)


def _vectorises(loop: Loop, accesses: Accesses) -> bool:
    """Whether nothing keeps a loop over short rows from being vectorised as a whole."""
    nodes = set(loop.nodes())
    adds_in_memory = any(role(n) is Role.REDUCE and not is_local_total(n) for n in nodes)
    raises = any(is_checked(index) for node in nodes for _, index in accesses.of(node))
    return not adds_in_memory and not raises


def inner_elements(loop: Loop) -> Dimension:
    """How many elements an iteration of an outermost loop has."""
    deepest = max(loop.nodes(), key=lambda node: len(space(node)))
    return product(space(deepest)[1:])


def stages(nodes: Sequence[Node], axis: int, accesses: Accesses) -> dict[Node, int]:
    """Numbers the loops over ``axis``: nodes of one size and stage can share a loop."""
    stage: dict[Node, int] = {}
    for node in nodes:
        found = 0
        for producer, index in accesses.of(node):
            if producer in stage:
                shared = shares_loop(producer, node, axis) and stays_inside(producer, index, axis)
                is_statement = len(space(producer)) == axis
                found = max(found, stage[producer] + (not shared and not is_statement))
        stage[node] = found
    return _postponed(nodes, axis, stage, accesses)


def _postponed(
    nodes: Sequence[Node], axis: int, stage: dict[Node, int], accesses: Accesses
) -> dict[Node, int]:
    """The stages, with what reads nothing of its own loop in the loop of its readers: nobody keeps it."""
    readers: dict[Node, list[tuple[Node, Index]]] = {}
    local: set[Node] = set()
    for node in nodes:
        for producer, index in accesses.of(node):
            if producer in stage:
                readers.setdefault(producer, []).append((node, index))
                if stage[producer] == stage[node] and len(space(producer)) > axis:
                    local.add(node)
    for node in reversed(nodes):
        if role(node) is Role.LOOP and node not in local and len(space(node)) > axis:
            read = readers.get(node, [])
            if read and all(
                shares_loop(node, r, axis) and stays_inside(node, i, axis) for r, i in read
            ):
                stage[node] = min(stage[reader] for reader, _ in read)
    return stage


def shares_loop(producer: Node, node: Node, axis: int) -> bool:
    """Whether both iterate over ``axis``, and equally often."""
    first, second = space(producer), space(node)
    return len(first) > axis and len(second) > axis and first[axis] == second[axis]


def _steps(nodes: Sequence[Node], axis: int, accesses: Accesses) -> tuple[Step, ...]:
    stage = stages(nodes, axis, accesses)
    units: dict[object, list[Node]] = {}
    unit_of: dict[Node, object] = {}
    for node in nodes:
        shape = space(node)
        unit: object = node if len(shape) == axis else (shape[axis], stage[node])
        unit_of[node] = unit
        units.setdefault(unit, []).append(node)
    steps: list[Step] = []
    for each in _in_order(nodes, unit_of, accesses):
        if isinstance(each, Node):
            steps.append(each)
        else:
            inside = units[each]
            steps.append(Loop(axis, space(inside[0])[axis], _steps(inside, axis + 1, accesses)))
    return tuple(steps)


def _in_order(
    nodes: Sequence[Node], unit_of: Mapping[Node, object], accesses: Accesses
) -> list[object]:
    before: dict[object, set[object]] = {unit: set() for unit in unit_of.values()}
    for node in nodes:
        for producer, _ in accesses.of(node):
            if producer in unit_of and unit_of[producer] != unit_of[node]:
                before[unit_of[node]].add(unit_of[producer])
    return in_order(before)


# What a gate costs.


def traffic(body: Graph) -> Dimension:
    """The bytes of all arrays that a gate reads or writes, each once."""
    arrays = [n for n in (*body.inputs, *body.outputs) if n.shape != ()]
    total: Dimension = 0
    for node in arrays:
        total = total + product(node.shape) * node.dtype.itemsize
    return total


def work(steps: Sequence[Step]) -> Dimension:
    """The operations of a gate: the costs of its ops, as often as they are computed."""
    total: Dimension = 0
    for step in steps:
        if isinstance(step, Loop):
            total = total + work(step.body)
        else:
            total = total + product(space(step)) * round(step.op.cost)
    return total


# What later loops read.


Path: TypeAlias = "tuple[tuple[int, int], ...]"


def _paths(steps: Sequence[Step], path: Path = ()) -> Iterator[tuple[Node, Path]]:
    """Every node with the loops around it, one for an axis.

    A loop is named by its place among its parent's steps, and its own among the parts of strips.
    """
    for k, step in enumerate(steps):
        if isinstance(step, Loop):
            for part, loop in enumerate(step.parts()):
                yield from _paths(loop.body, (*path, (k, part)))
        else:
            yield step, path


def visible_from(node: Node, path: Path) -> Path:
    """The loops in which the value of a node, computed in the loops ``path``, is a local variable."""
    if role(node) is not Role.REDUCE:
        return path
    return path[: trailing_axes(node)]


def trailing_axes(node: Node) -> int:
    """The first of the axes that a reduction adds up in a variable: the reduced axes that are last."""
    first = len(space(node))
    while first - 1 in node.attrs["axes"]:
        first -= 1
    return first


def is_local_total(node: Node) -> bool:
    """Whether a reduction is a variable until it is done; else it is added up in memory."""
    return all(axis >= trailing_axes(node) for axis in node.attrs["axes"])


def _with_memory(
    steps: tuple[Step, ...], nodes: Sequence[Node], body: Graph, accesses: Accesses
) -> Schedule:
    path = dict(_paths(steps))
    crossing: dict[Node, int] = {}
    elsewhere: set[Node] = set()
    beyond_strip: set[Node] = set()
    for node in nodes:
        for producer, index in accesses.of(node):
            if producer in path and not _sees(node, producer, path):
                common = _common(path[producer], path[node])
                crossing[producer] = min(crossing.get(producer, common), common)
                if not _in_one_strip(producer, path[producer], path[node]):
                    beyond_strip.add(producer)
                if producer not in node.args or index != counters(len(space(node))):
                    elsewhere.add(producer)
    kept = {*body.outputs, *elsewhere}
    cheap = _cheap(nodes, crossing, path, accesses)
    again = {n for n in cheap if n not in kept}
    for node in nodes:
        if role(node) is Role.REDUCE and not is_local_total(node) and node not in crossing:
            crossing[node] = 0
            beyond_strip.add(node)
    in_memory = {n: k for n, k in crossing.items() if n not in again}
    if again:
        kept = {*in_memory, *body.outputs}
        steps = _needed(_with_copies(steps, path, kept, nodes), kept, accesses)
    scratch = [n for n in in_memory if n not in body.outputs]
    guests = hosted(scratch, body.outputs, list(_in_steps(steps)))
    own = tuple((n, in_memory[n]) for n in scratch if n not in guests)
    has_strips = any(isinstance(step, Strips) for step in steps)
    in_strip = {n for n, k in own if has_strips and k == 0} - beyond_strip
    return Schedule(steps, own, in_strip=frozenset(in_strip), hosted=tuple(guests.items()))


def _in_one_strip(producer: Node, first: Path, second: Path) -> bool:
    """Whether a value is read in the strip of rows in which it is complete."""
    is_of_a_row = role(producer) is not Role.REDUCE or 0 not in producer.attrs["axes"]
    return is_of_a_row and first[0][0] == second[0][0]


def _needed(steps: Sequence[Step], kept: set[Node], accesses: Accesses) -> tuple[Step, ...]:
    """The steps without values that only their copies are read of."""
    places = list(_paths(steps))
    places_of: dict[Node, list[Path]] = {}
    for node, path in places:
        places_of.setdefault(node, []).append(path)
    needed: set[tuple[Node, Path]] = set()
    for node, path in reversed(places):
        if node in kept or role(node) is Role.REDUCE:
            needed.add((node, path))
        if (node, path) in needed:
            for producer, _ in accesses.of(node):
                scopes = ((visible_from(producer, p), p) for p in places_of.get(producer, ()))
                seen = [p for scope, p in scopes if _reaches(scope, path)]
                needed.update((producer, p) for p in seen[-1:])
    return _filtered(steps, needed)


def _filtered(
    steps: Sequence[Step], needed: set[tuple[Node, Path]], here: Path = ()
) -> tuple[Step, ...]:
    found: list[Step] = []
    for k, step in enumerate(steps):
        if isinstance(step, Loop):
            loops = tuple(
                replace(loop, body=_filtered(loop.body, needed, (*here, (k, part))))
                for part, loop in enumerate(step.parts())
            )
            found.append(replace(step, body=loops) if isinstance(step, Strips) else loops[0])
        elif (step, here) in needed:
            found.append(step)
    return tuple(found)


def _reaches(outer: Path, inner: Path) -> bool:
    return inner[: len(outer)] == outer


def _sees(node: Node, producer: Node, path: Mapping[Node, Path]) -> bool:
    if role(producer) is Role.REDUCE and not is_local_total(producer):
        return False
    return _reaches(visible_from(producer, path[producer]), path[node])


def _common(first: Path, second: Path) -> int:
    count = 0
    while count < min(len(first), len(second)) and first[count] == second[count]:
        count += 1
    return count


def _cheap(
    nodes: Sequence[Node],
    crossing: Mapping[Node, int],
    path: Mapping[Node, Path],
    accesses: Accesses,
) -> list[Node]:
    """The elementwise values that cost no more than `CHEAP` to compute where they are read."""
    price: dict[Node, float] = {}
    # How many loops around a node its readers must share with it, for what it needs to be at hand there.
    bound: dict[Node, int] = {}
    dear: set[Node] = set()
    for node in nodes:
        if role(node) is not Role.LOOP:
            continue
        price[node], bound[node] = node.op.cost, 0
        if any(is_checked(index) for _, index in accesses.of(node)):
            price[node] = math.inf
        for producer in {p for p, _ in accesses.of(node) if p in path}:
            if producer in price and producer in node.args:
                price[node] += price[producer]
                bound[node] = max(bound[node], bound[producer])
            elif producer in crossing:
                bound[node] = max(bound[node], crossing[producer])
            else:
                bound[node] = max(bound[node], len(visible_from(producer, path[producer])))
        if node in crossing and (price[node] > CHEAP or bound[node] > crossing[node]):
            price[node], bound[node] = 0, crossing[node]
            dear.add(node)
    return [n for n in crossing if n in price and n not in dear]


def _with_copies(
    steps: Sequence[Step], path: Mapping[Node, Path], in_memory: set[Node], nodes: Sequence[Node]
) -> tuple[Step, ...]:
    """The steps, with what a loop reads and nobody keeps computed in that loop too."""
    position = {node: i for i, node in enumerate(nodes)}

    def copied(steps: Sequence[Step]) -> tuple[Step, ...]:
        found: dict[Step, None] = {}
        for step in steps:
            if isinstance(step, Loop):
                found[replace(step, body=copied(step.body))] = None
                continue
            here = {other for other in found if isinstance(other, Node)}
            missing = _missing(step, path, in_memory | here)
            for node in sorted(missing, key=position.__getitem__):
                found[node] = None
            found[step] = None
        return tuple(found)

    return copied(steps)


def _missing(reader: Node, path: Mapping[Node, Path], at_hand: set[Node]) -> set[Node]:
    """The elementwise values that ``reader`` needs and finds neither in memory nor in a loop around it."""
    found: set[Node] = set()
    pending = [reader]
    while pending:
        for arg in pending.pop().args:
            is_computed = role(arg) is Role.LOOP and arg in path
            if is_computed and arg not in at_hand | found and not _sees(reader, arg, path):
                found.add(arg)
                pending.append(arg)
    return found


def _can_be_flat(computed: Sequence[Node], inputs: set[Node]) -> bool:
    """Whether one index serves all: every array read has the space's shape, every total is over all."""
    whole = space(computed[0])
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
