"""Rules of a user's own: a graph of specimens becomes a pattern in the normal form of the other rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from graphc.errors import GraphValueError, compose
from graphc.ir import Graph, Node, uniform_number, walk
from graphc.rewrite.engine import rewrite
from graphc.rewrite.pattern import Apply, Number, Pattern, Spread, Variable, spread_source
from graphc.rewrite.rules import Label, Rule


@dataclass(frozen=True, eq=False)
class OwnRule:
    """A rule given by ``build``, a function of nodes that returns (before, after), and specimens for it."""

    name: str
    label: Label
    text: str
    build: Callable[..., tuple[Node, Node]]
    specimens: Mapping[str, Node]

    def against(self, others: Sequence[Rule]) -> Rule:
        """The rule whose left side is what ``others`` make of it: that is what it meets in a graph."""
        before = self.build(**self.specimens)[0]
        graph = Graph(self.name, tuple(self.specimens.values()), (before,))
        (normal,) = rewrite(graph, others).outputs
        pattern = _pattern(normal, {node: name for name, node in self.specimens.items()})
        pattern = pattern if self.label is Label.EXACT else pattern.loosened()
        missing = sorted(self.specimens.keys() - _names_in(normal, self.specimens))
        if pattern.heads is None or missing:
            problem = f"the left side does not mention {', '.join(missing) or 'any op'}"
            raise GraphValueError(compose(self.name, problem, detail=self.text))

        def apply(node: Node) -> Node | None:
            for bound in pattern.match(node, {}):
                return self.build(**bound)[1]
            return None

        return Rule(self.name, self.label, self.text, apply, pattern.heads)


def _names_in(before: Node, specimens: Mapping[str, Node]) -> set[str]:
    present = set(walk([before]))
    return {name for name, node in specimens.items() if node in present}


def _pattern(node: Node, names: Mapping[Node, str]) -> Pattern:
    number = uniform_number(node)
    if node in names:
        return Variable(names[node])
    if number is not None:
        return Number(number)
    source, axes = spread_source(node)
    if axes:
        return Spread(_pattern(source, names), axes)
    return Apply(node.op, tuple(_pattern(arg, names) for arg in node.args), dict(node.attrs))
