"""All tables, in the order in which rules are tried, and the choice of which are on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from graphc.errors import GraphValueError, compose
from graphc.ir import Graph
from graphc.rewrite.activations import ACTIVATIONS
from graphc.rewrite.engine import Firing, rewrite, rewrite_jointly
from graphc.rewrite.gates import GATES
from graphc.rewrite.joint import JOINT
from graphc.rewrite.motion import MOTION
from graphc.rewrite.own import OwnRule
from graphc.rewrite.rules import ON_BY_DEFAULT, JointRule, Label, Rule
from graphc.rewrite.signs import SIGNS
from graphc.rewrite.simplify import SIMPLIFY
from graphc.rewrite.softmax import SOFTMAX
from graphc.rewrite.stabilize import STABILIZE

RULES: tuple[Rule, ...] = (
    *SIMPLIFY.rules,
    *SIGNS.rules,
    *MOTION.rules,
    *STABILIZE.rules,
    *SOFTMAX.rules,
    *ACTIVATIONS.rules,
    *GATES.rules,
)
GROUPS = ("simplify", "stabilize", "gates")

Rewrites: TypeAlias = "bool | Mapping[str | OwnRule, bool]"


@dataclass(frozen=True)
class RuleSet:
    """The rules that are on, and the log of what they did."""

    rules: tuple[Rule, ...]
    joint: tuple[JointRule, ...]
    log: list[Firing] = field(default_factory=list)

    def rewrite(self, graph: Graph) -> Graph:
        """``graph`` in normal form."""
        late = [rule for rule in self.rules if rule.late]
        early = [rule for rule in self.rules if not rule.late]
        return rewrite(rewrite(graph, early, self.log), late, self.log)

    def join(self, graph: Graph) -> Graph:
        """``graph`` with its gates of several results."""
        return rewrite_jointly(graph, self.joint, self.log)

    def simplify(self, graph: Graph) -> Graph:
        """``graph`` in the normal form of the table *simplify* alone: gates that were expanded stay so."""
        return rewrite(graph, [rule for rule in self.rules if rule.group == "simplify"])


def choose(rewrites: Rewrites = True, to_differentiate: bool = False) -> RuleSet:
    """The rules that are on.

    True means all that are EXACT or STABLER, False none. A mapping changes this by group, by label in lower
    case, by rule name, or by a rule of the user's own: ``{"gates": False, "reassociates": True}``. The more
    particular entry wins. Without rules of values only if the graph is ``to_differentiate``. Raises
    `GraphValueError` for an unknown name and lists the names.
    """
    possible = tuple(rule for rule in RULES if not (to_differentiate and rule.values_only))
    if isinstance(rewrites, bool):
        return RuleSet(_on(possible, {}) if rewrites else (), _on(JOINT, {}) if rewrites else ())
    _refuse_unknown(rewrites)
    named = {name: on for name, on in rewrites.items() if isinstance(name, str)}
    rules = _on(possible, named)
    own = [rule for rule, on in rewrites.items() if isinstance(rule, OwnRule) and on]
    return RuleSet((*(rule.against(rules) for rule in own), *rules), _on(JOINT, named))


_AnyRule = TypeVar("_AnyRule", Rule, JointRule)


def _on(rules: tuple[_AnyRule, ...], named: Mapping[str, bool]) -> tuple[_AnyRule, ...]:
    def is_on(rule: _AnyRule) -> bool:
        default = rule.label in ON_BY_DEFAULT
        by_label = named.get(rule.label.name.lower(), default)
        by_group = named.get(rule.group, True)
        return named.get(rule.name, by_label and by_group)

    return tuple(rule for rule in rules if is_on(rule))


def _refuse_unknown(rewrites: Mapping[str | OwnRule, bool]) -> None:
    labels = [label.name.lower() for label in Label]
    rules = sorted({rule.name for rule in RULES} | {rule.name for rule in JOINT})
    for name in rewrites:
        if isinstance(name, OwnRule) or name in (*GROUPS, *labels, *rules):
            continue
        fix = (
            f"groups are {', '.join(GROUPS)}; labels {', '.join(labels)}; rules {', '.join(rules)}"
        )
        raise GraphValueError(compose("rewrites", f"{name!r} is no rule, label or group", fix=fix))
