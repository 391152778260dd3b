"""docs/benchmarks.md, from the figures alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from measure import Entry
from report import (
    BY_HAND,
    PEERS,
    VERDICT,
    Measured,
    cell,
    columns_of,
    duration,
    fastest,
    geometric_means,
    markdown,
    problems,
    ratio,
    spread,
    times,
    verdict,
)
from rows import ROWS

INTRODUCTION = """\
# Benchmarks

Value and gradients of the same computations in graphc and in what else there is for a CPU, side by side,
in one run. This page is made from [the figures](benchmarks.json) by `tests/benchmarks/run.py`; nothing on
it is written by hand.
"""

METHOD = """\
## How it is measured

- **The same work.** A row is one loss and its gradients, written once (`tests/benchmarks/formulas.py`)
  for all systems that differentiate by themselves, in their own words: `jax.nn.softmax`, `torch.softmax`,
  `gx.nn.softmax`. NumPy's and Numba's gradients are derived by hand.
- **Right first.** Every result of every system is compared with NumPy's in float64 before anything is
  timed: each element to 1e-9 (float64) or 1e-4 (float32) of itself and of the root mean square of its
  array. A system that is wrong has an error in its cell and no time.
- **Taking turns.** Each system is a process of its own, started with the same number of BLAS and OpenMP
  threads and pinned to as many cores before it imports anything. They are called in rounds, A B C A B C,
  each time for about 50 ms. A cell is the median over the rounds; ± is half the distance between the
  quartiles: how much else the machine had to do. The garbage collector waits meanwhile.
- **Fresh results.** The ratios are those of the plain call of graphc, which allocates its results, as the
  Numba functions do. The column `out=` fills the same arrays at every call.
- **Arguments.** graphc, Numba, NumPy, PyTensor, Autograd and CasADi are given NumPy arrays (numbers of
  NumPy where there is no axis), JAX arrays that are on its device, PyTorch tensors.
- **graphc** is compiled for any number of examples: the sizes that differ from call to call have names.
- **Numba** is the function that a person would write by hand with much care: gradients derived on paper,
  loops fused, rows kept in the cache, exponentials without the special cases. It is the limit to reach,
  not a peer. Nor is **NumPy**, whose gradients are derived by hand too, and written plainly.
- **JAX** is `jit(value_and_grad)`, waited for. It is measured twice: pinned like the others, and with all
  cores of the machine, as it is installed. The better one counts.
- **PyTensor** is measured with its default compiler and with its Numba one, its arguments unchecked
  (`trust_input`); **PyTorch** eager (`autograd.grad`) and with `torch.compile` of loss and gradients as
  one graph. The better one counts.
- **CasADi** runs its virtual machine through a `FunctionBuffer`, without a C compiler.
"""

STARTUP = """\
## Until the first gradient

The network of row e at batch 32, in a fresh process. *Compile* is what building the function and its
first call take with all caches empty, Numba's included; *again* is the same in the next process, with the
caches filled: what a program waits that has imported the system already. The last two columns count from
the start of the process to the first gradient, import included, with empty and with filled caches.
Medians of {repeats} processes, each pinned to one core.
"""

CHAINS = """\
## Compile time and the length of the program

Row n with 200 gates and with 400, first call included, caches empty, one process each.
"""

MEMORY = """\
## Memory of a call

The growth of the process' largest resident size (VmHWM) in one call, results included, arguments not. The
function was called once before, so that the compiler does not count; its memory was given back, and the
kernel's record was reset.
"""


def page(data: dict[str, Any]) -> str:
    """The whole page."""
    return "\n".join(part for part in _parts(data))


def _parts(data: dict[str, Any]) -> Iterator[str]:
    yield INTRODUCTION
    yield _machine(data)
    for threads, run in data["runs"].items():
        yield from _run(threads, run)
    yield METHOD
    if "starts" in data:
        yield STARTUP.format(repeats=data["repeats"]) + "\n" + _starts(data["starts"])
        yield _imports(data["imports"])
        yield CHAINS + "\n" + _by_row(data["chains"], lambda entry: duration(entry["first"]))
    if "memory" in data:
        yield MEMORY + "\n" + _by_row(data["memory"], lambda entry: megabytes(entry["growth"]))


def _machine(data: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    return f"{data['machine']}; {versions}.\n"


def _run(threads: str, run: dict[str, Any]) -> Iterator[str]:
    table = run["table"]
    yield f"## Run time, {threads} thread{'s' if threads != '1' else ''}\n"
    yield f"{run['date']}, {run['rounds']} rounds: `{run['command']}`\n"
    yield _summary(table)
    if threads == "1":
        yield "![Times relative to graphc's](benchmarks.svg)\n"
    columns = columns_of(table)
    lines = [
        [row, *(_timed(entries.get(name)) for name in columns), *verdict(entries)]
        for row, entries in table.items()
    ]
    yield markdown(["row", *columns, *VERDICT], lines)
    yield _legend(table)
    yield _gaps(table)


def _timed(entry: Entry | None) -> str:
    return f"{cell(entry)} ±{spread(entry)}" if entry and "median" in entry else cell(entry)


def _summary(table: Measured) -> str:
    lines = [
        [f"{peer} by hand" if peer in BY_HAND else peer, times(mean), str(count)]
        for peer, (mean, count) in geometric_means(table).items()
    ]
    text = "How many times faster graphc is, as geometric means:\n\n"
    text += markdown(["against", "times", "rows"], lines) + "\n"
    measured = [row for row, entries in table.items() if ratio(entries, PEERS) is not None]
    behind = _behind(table, PEERS)
    text += (
        f"Of the systems that derive gradients, graphc is the fastest in {len(measured) - len(behind)} of "
        f"{len(measured)} rows{_where(behind)}.\n"
    )
    return (
        text
        + f"Where NumPy is faster, with gradients by hand: {_list(_behind(table, ['numpy']))}.\n"
    )


def _behind(table: Measured, peers: Sequence[str]) -> list[str]:
    ratios = {row: r for row, e in table.items() if (r := ratio(e, peers)) is not None}
    return [
        f"{row} ({fastest(table[row], peers)}, {1 / r:.2f} times)"
        for row, r in ratios.items()
        if r < 1
    ]


def _where(behind: Sequence[str]) -> str:
    return f"; it is slower in {_list(behind)}" if behind else ""


def _list(items: Sequence[str]) -> str:
    return ", ".join(items) or "nowhere"


def _legend(table: Measured) -> str:
    return "\n".join(f"- **{row}**: {ROWS[row].title}" for row in table) + "\n"


def _gaps(table: Measured) -> str:
    """Why cells are empty, each reason once."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for kind in ("without", "error"):
        for row, name, reason in problems(table, kind):
            reasons.setdefault((name, " ".join(reason.split())), []).append(row)
    return "".join(
        f"- {name} has no {', '.join(rows)}: {why}\n" for (name, why), rows in reasons.items()
    )


def _starts(starts: dict[str, dict[str, Entry]]) -> str:
    lines = []
    for system, found in starts.items():
        cold, warm = found["cold"], found["warm"]
        cells = [
            entry["error"] if "error" in entry else duration(entry[field])
            for field in ("first", "total")
            for entry in (cold, warm)
        ]
        lines.append([system, *cells])
    header = ["system", "compile", "again", "process, caches empty", "process, caches filled"]
    return markdown(header, lines)


def _imports(imports: dict[str, float]) -> str:
    ours, theirs = imports["graphc"], imports["numba"]
    return (
        f"`import graphc` takes {duration(ours)}, of which `import numba` alone takes "
        f"{duration(theirs)}: {duration(max(ours - theirs, 0))} more.\n"
    )


def _by_row(found: dict[str, dict[str, Entry]], show: Any) -> str:
    rows = list(dict.fromkeys(row for entries in found.values() for row in entries))
    lines = []
    for system, entries in found.items():
        known = (entries.get(row, {"error": "-"}) for row in rows)
        lines.append([system, *(e["error"] if "error" in e else show(e) for e in known)])
    return markdown(["system", *rows], lines)


def megabytes(size: float) -> str:
    """In units of 2**20 bytes."""
    return f"{size / 2**20:.1f} MB"
