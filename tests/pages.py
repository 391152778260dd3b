"""Text that is generated: three pages of the documentation, and the dumps of the gallery's programs.

Tests compare it with the files that keep it. After a change that is meant, write all files anew:

    GRAPHC_UPDATE_GOLDEN=1 python -m pytest tests/test_docs.py tests/test_gallery.py
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

import graphc as gx
from gallery import PROGRAMS
from graphc.compile import declared_graph, pipeline, run_pipeline
from graphc.dump import dump
from graphc.facts import ReadCode, ViewCode
from graphc.ir import CONSTANT, INPUT, SIZE, Graph, Node, uniform_value
from graphc.ops.fused import item
from graphc.rewrite.rules import ON_BY_DEFAULT, JointRule, Label, Rule
from graphc.rewrite.tables import JOINT, RULES, Rewrites, choose
from stability import CASES, results


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; columns whose name begins with ``#`` are numbers."""
    rule = ["---:" if name.startswith("#") else "---" for name in header]
    lines = [[name.removeprefix("#") for name in header], rule, *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


# The rules.

REWRITES_INTRODUCTION = """\
# Rewrites

Before a graph is compiled, and before it is differentiated, it is rewritten: every node is brought to a
normal form, operands first, by the first rule of these tables that applies; what a rule makes is rewritten in
turn, until no rule applies. This page lists all {count} rules in the order in which they are tried. It is
generated from the tables themselves.

## What a rule may do to a value

{labels}

## What is on

`gx.compile(inputs, outputs, rewrites=...)` and `gx.grad(output, wrt, rewrites=...)` take `True` (the rules
that are on by default), `False` (none), or a mapping that switches a group, a label in lower case, or one
rule by its name. The more particular entry wins: a rule before a label, and a rule runs if its label and its
group are on.

```python
f = gx.compile([x], y, rewrites={{"gates": False, "reassociates": True}})
```

The groups are *simplify*, *stabilize* and *gates*. `f.rewrites` lists what the optimiser did, in order: the
rule, its label, your line, and both sides. `f.dump("declared")` and `f.dump("gates")` show the graph before
and after.

A rule of your own is a function of tensors that returns (before, after), written in `gx` functions, under
`@gx.rule("STABLER")` with the label that it deserves. `rewrites={{my_rule: True}}` switches it on, and it is
tried before those of these tables.
"""

PROMISES = {
    Label.EXACT: "Nothing changes: equal bit by bit, for every input with nan, infinities and -0.0.",
    Label.STABLER: (
        "No value is further from the true one than it was, or than a stable evaluation is: 4 units in the "
        "last place, or what one unit in each operand does."
    ),
    Label.REASSOCIATES: "The same in exact arithmetic; roundings happen in another order.",
    Label.ASSUMES_FINITE: "Equal as long as no nan, infinity or -0.0 is met.",
}

GROUPS = {
    "simplify": "The algebra of units, signs, powers and choices, and moves of axes and broadcasts.",
    "stabilize": """\
Forms that overflow, cancel or give nan where the value itself does not. `spread` stands for the broadcast of
a reduced value along the axes that were reduced.""",
    "gates": """\
Arithmetic that a person would call by a name. A gate has a derivative of its own, or is one kernel.""",
}
VALUES_ONLY = """\
Rules of values only: the gate has another slope at its kink, so `gx.grad` leaves them out, and the gradient
is that of what was written."""
LATE_GATES = "Gates that take in others, tried when all the rest has found its form:"
JOINT_GATES = """\
Several nodes that become the results of one gate, looked for in the whole graph at the end. A primed letter
is an output; `p`, `v` and `m` are inputs of the graph."""


def rewrites_page(rules: Sequence[Rule] = RULES, joint: Sequence[JointRule] = JOINT) -> str:
    """docs/rewrites.md: all rules, as their tables have them."""
    labels = (
        (f"`{label.name}`", PROMISES[label], "yes" if label in ON_BY_DEFAULT else "no")
        for label in Label
    )
    count = len(rules) + len(joint)
    parts = [
        REWRITES_INTRODUCTION.format(
            count=count, labels=table(["label", "promise", "on by default"], labels)
        )
    ]
    for group, meaning in GROUPS.items():
        of_group = [rule for rule in rules if rule.group == group]
        parts.append(f"## {group}\n\n{meaning}\n")
        parts.append(_rule_table(r for r in of_group if not r.late and not r.values_only))
        values = [rule for rule in of_group if rule.values_only]
        if values:
            parts.append(f"{VALUES_ONLY}\n\n{_rule_table(values)}")
        last = [rule for rule in of_group if rule.late]
        if last:
            parts.append(f"{LATE_GATES}\n\n{_rule_table(last)}")
    parts.append(f"### Gates with several results\n\n{JOINT_GATES}\n\n{_rule_table(joint)}")
    return "\n".join(parts)


def _rule_table(rules: Iterable[Rule | JointRule]) -> str:
    rows = [(f"`{r.name}`", r.label.name, "`" + r.text.replace("|", r"\|") + "`") for r in rules]
    return table(["rule", "label", "before -> after"], rows) + "\n"


# The gallery.

GALLERY_INTRODUCTION = """\
# The gallery

What the rewrite rules make of the {count} programs of [examples/gallery.py](../examples/gallery.py), each
written as its formula stands in a textbook. `python examples/gallery.py NAME` prints the graphs of one. This
page is generated.

How it counts: a node is one operation of a graph. Inputs, constants, sizes and the selection of one result of
a gate with several are none. Broadcasts and other index maps count, though they cost nothing in a loop. A
gate counts as one node, whatever it stands for: it is expanded before code is generated, so these numbers say
how much there is to read, not how much there is to compute.

- *declared*: the program alone, as it was written;
- *differentiated*: with its gradients, as `gx.grad(..., rewrites=False)` declares them;
- *rewritten*: with its gradients, after `gx.grad` and the rules that are on by default;
- *gates that remain*: nodes of the rewritten graph that NumPy has no one function for, and matrix products,
  with their numbers where there are several. The rest is arithmetic, choices, plain reductions and index
  maps.

The Adam step differentiates inside its own formula, so its declared graph has been rewritten in part already.
"""

# What NumPy has no function for, yet no gate: a sum of gradients, a conversion, a guarded product.
PLAIN = frozenset({"accumulate", "cast", "chain"})


def program_graph(name: str, rewrites: Rewrites | None = True, dtype: type = gx.float64) -> Graph:
    """The declared graph of a program; with its gradients unless ``rewrites``, which they take, is None."""
    inputs, output, wrt = PROGRAMS[name].build(dtype)
    if rewrites is None or not wrt:
        return declared_graph(inputs, output, name)
    gradients = gx.grad(output, wrt, rewrites=rewrites)
    return declared_graph(inputs, [output, gradients], name)


def at_gates(graph: Graph, rewrites: Rewrites = True) -> Graph:
    """The graph at the stage *gates*, without compiling it."""
    steps = pipeline(choose(rewrites))
    last = [step.stage for step in steps].index("gates")
    return run_pipeline(graph, steps[: last + 1])["gates"]


def operations(graph: Graph) -> list[Node]:
    """The nodes that count: no inputs, constants, sizes, or selections of a gate's result."""
    leaves = (INPUT, CONSTANT, SIZE, item)
    # A number that is spread over an array is still a constant.
    return [n for n in graph.nodes() if n.op not in leaves and uniform_value(n) is None]


def gates_of(graph: Graph) -> Counter[str]:
    """How often each gate is there, by name: what NumPy has no function for, and matrix products."""
    return Counter(_shown_name(node) for node in operations(graph) if _is_gate(node))


def _shown_name(node: Node) -> str:
    return str(node.attrs["name"]) if "body" in node.attrs else node.op.name


def _is_gate(node: Node) -> bool:
    if isinstance(node.op.lowering, ReadCode | ViewCode) or node.op.name in PLAIN:
        return False
    return node.op.name == "matmul" or not hasattr(np, node.op.name)


def gallery_page() -> str:
    """docs/gallery.md: how large every program is at each step, and its gates."""
    header = ["program", "what it is", "#declared", "#differentiated", "#rewritten"]
    rows: list[list[object]] = []
    totals = Counter[int]()
    for name, program in PROGRAMS.items():
        rewritten = at_gates(program_graph(name))
        graphs = (program_graph(name, None), program_graph(name, False), rewritten)
        sizes = [len(operations(graph)) for graph in graphs]
        totals.update(dict(enumerate(sizes)))
        found = sorted(gates_of(rewritten).items())
        gates = ", ".join(f"{gate} {times}" if times > 1 else gate for gate, times in found)
        title = program.title.replace("|", r"\|").replace("^", r"\^")
        rows.append([f"`{name}`", title, *sizes, gates])
    rows.append(["all", "", *totals.values(), ""])
    introduction = GALLERY_INTRODUCTION.format(count=len(PROGRAMS))
    return f"{introduction}\n{table([*header, 'gates that remain'], rows)}\n"


# Stability.

STABILITY_INTRODUCTION = """\
# Stability

The same expressions as a user writes them, computed by NumPy and by graphc in float64, and their true
values. Nothing is written differently for graphc: the rules of the table *stabilize* find the form that does
not overflow or cancel, for values and, since they come before differentiation, for gradients. `python
examples/stability.py` prints this table with all digits; this page is generated.
"""


def stability_page() -> str:
    """docs/stability.md."""
    rows = []
    for case in CASES:
        point = ", ".join(f"{value:.15g}" for value in case.point)
        values = (f"{value:.10g}" for value in results(case))
        rows.append((f"`{case.text}`", point, *values))
    return f"{STABILITY_INTRODUCTION}\n{table(('expression', 'x', '#NumPy', '#graphc', '#true'), rows)}\n"


def program_dumps(name: str) -> str:
    """A program with its gradients as declared and at the stage *gates*, without lines of source."""
    declared = program_graph(name)
    graphs = "\n\n".join(map(dump, (declared, at_gates(declared))))
    # A line added to the gallery is not worth 25 other files.
    return re.sub(r"(, | *# )\w+\.py:\d+$", "", graphs, flags=re.MULTILINE) + "\n"
