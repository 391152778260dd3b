"""The rewrite engine: rules applied bottom-up to a fixpoint, with a log of what fired.

Every node is brought to its normal form after its operands; what a rule makes is brought to its normal form
in turn. The walk is iterative, and each node of the graph is looked at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from graphc.errors import RewriteError, compose
from graphc.ir import NOTES, Graph, Location, Node, Op, located, make_node, walk
from graphc.rewrite.rules import JointRule, Rule
from graphc.types import TensorType

LONGEST_CHAIN = 200
"""The most rewritings that may be open at a time, each begun by the result of the one before."""


@dataclass(frozen=True)
class Firing:
    """One rewriting that took place: the rule, the user's line, and both sides."""

    rule: Rule | JointRule
    before: Node
    after: Node

    @property
    def location(self) -> Location | None:
        """The line on which the user wrote what was replaced."""
        return self.before.location


@dataclass
class Engine:
    """Rewrites nodes with ``rules``, the first that applies wins; ``log`` is what fired, in order."""

    rules: Sequence[Rule]
    log: list[Firing] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._normal: dict[Node, Node] = {}
        self._becomes: dict[Node, Node] = {}
        self._by_op: dict[Op, list[Rule]] = {}
        self._fired: dict[Node, Rule] = {}

    def normal_form(self, root: Node) -> Node:
        """What ``root`` is when no rule applies to it or to anything below it.

        Raises `RewriteError` for a rule that changes a type and for rules that never come to an end, naming
        them.
        """
        stack = [root]
        open_rewritings: dict[Node, None] = {}
        while stack:
            node = stack[-1]
            if node in self._normal:
                stack.pop()
            elif node in self._becomes:
                self._follow(node, stack, open_rewritings)
            else:
                pending = [arg for arg in node.args if arg not in self._normal]
                if pending:
                    self._refuse_loop(pending, open_rewritings)
                    stack.extend(reversed(pending))
                else:
                    self._step(node)
        return self._normal[root]

    def _follow(self, node: Node, stack: list[Node], open_rewritings: dict[Node, None]) -> None:
        following = self._becomes[node]
        if following in self._normal:
            self._normal[node] = self._normal[following]
            open_rewritings.pop(node, None)
            NOTES.carry(node, self._normal[node])
            return
        open_rewritings[node] = None
        self._refuse_loop([following], open_rewritings)
        stack.append(following)

    def _step(self, node: Node) -> None:
        """Rebuilds a node from normal operands, or applies one rule, or finds that it is normal."""
        args = tuple(self._normal[arg] for arg in node.args)
        with located(node.location):
            if args != node.args:
                self._becomes[node] = make_node(node.op, args, node.attrs)
                return
            # A gate of several results is in its form already: its body was rewritten before it was made.
            rules = self._rules_for(node.op) if isinstance(node.type, TensorType) else ()
            for rule in rules:
                after = rule.apply(node)
                if after is not None and after is not node:
                    self._record(rule, node, after)
                    return
        self._normal[node] = node

    def _record(self, rule: Rule, node: Node, after: Node) -> None:
        if after.type != node.type:
            problem = f"the rule changes {node.type} to {after.type}"
            raise RewriteError(
                compose(rule.name, problem, location=str(node.location or ""), detail=rule.text)
            )
        self._becomes[node] = after
        self._fired[node] = rule
        self.log.append(Firing(rule, node, after))

    def _rules_for(self, op: Op) -> list[Rule]:
        known = self._by_op.get(op)
        if known is None:
            known = [rule for rule in self.rules if rule.roots is None or op in rule.roots]
            self._by_op[op] = known
        return known

    def _refuse_loop(self, following: Iterable[Node], open_rewritings: dict[Node, None]) -> None:
        loops = any(node in open_rewritings for node in following)
        if not loops and len(open_rewritings) <= LONGEST_CHAIN:
            return
        rules = [self._fired[node].name for node in open_rewritings if node in self._fired]
        names = ", ".join(name for name, _ in Counter(rules[-LONGEST_CHAIN:]).most_common(4))
        raise RewriteError(compose("rewrite", f"these rules never come to an end: {names}"))


def rewrite(graph: Graph, rules: Sequence[Rule], log: list[Firing] | None = None) -> Graph:
    """``graph`` in the normal form of ``rules``; what fires is added to ``log``."""
    engine = Engine(rules, [] if log is None else log)
    for node in graph.nodes():
        engine.normal_form(node)
    outputs = tuple(engine.normal_form(output) for output in graph.outputs)
    return Graph(graph.name, graph.inputs, outputs)


def rewrite_jointly(
    graph: Graph, rules: Sequence[JointRule], log: list[Firing] | None = None
) -> Graph:
    """``graph`` with sets of nodes replaced together by the results of one gate."""
    for rule in rules:
        found = rule.find(graph)
        if found:
            graph = _replaced(graph, found)
            if log is not None:
                log.extend(Firing(rule, before, after) for before, after in found.items())
    return graph


def _replaced(graph: Graph, found: dict[Node, Node]) -> Graph:
    new: dict[Node, Node] = {}
    # What replaces them comes first: a gate reads nothing that it replaces.
    for node in walk([*found.values(), *graph.outputs]):
        if node in found:
            new[node] = new[found[node]]
            NOTES.carry(node, new[node])
            continue
        args = tuple(new.get(arg, arg) for arg in node.args)
        with located(node.location):
            new[node] = node if args == node.args else make_node(node.op, args, node.attrs)
        NOTES.carry(node, new[node])
    return Graph(graph.name, graph.inputs, tuple(new[output] for output in graph.outputs))
