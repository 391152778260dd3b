"""What the figures say: cells, ratios, geometric means; and the table for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, log
from typing import Any

from rich.console import Console
from rich.table import Table

from measure import Entry
from systems import SYSTEMS

Measured = dict[str, dict[str, Entry]]

LIMIT = "numba"
"""Written by hand with care: what there is to reach."""

BY_HAND = (LIMIT, "numpy")
"""Their gradients are derived by a person, so they are no peers."""

PEERS = tuple(dict.fromkeys(s.peer for s in SYSTEMS.values() if s.peer not in ("graphc", *BY_HAND)))


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}" if seconds < 1000 * scale else f"{seconds:.0f} s"
    return f"{seconds * 1e9:.0f} ns"


def cell(entry: Entry | None) -> str:
    """The median, or a word for why there is none."""
    if entry is None or "without" in entry:
        return "-"
    return duration(entry["median"]) if "median" in entry else "error"


def spread(entry: Entry) -> str:
    """Half of the distance between the quartiles, relative to the median."""
    return f"{(entry['high'] - entry['low']) / (2 * entry['median']):.0%}"


def best(entries: dict[str, Entry], peer: str) -> float | None:
    """The least median of a peer's columns: every peer counts with its better variant."""
    found = [
        entry["median"]
        for name, entry in entries.items()
        if SYSTEMS[name].peer == peer and "median" in entry
    ]
    return min(found, default=None)


def ratio(entries: dict[str, Entry], peers: Iterable[str]) -> float | None:
    """How many times faster graphc's plain call is than the best of the peers."""
    ours = entries.get("graphc", {}).get("median")
    theirs = [time for peer in peers if (time := best(entries, peer)) is not None]
    return min(theirs) / ours if ours and theirs else None


def fastest(entries: dict[str, Entry], peers: Iterable[str]) -> str:
    """The peer that the ratio is taken against."""
    known = {peer: time for peer in peers if (time := best(entries, peer)) is not None}
    return min(known, key=lambda peer: known[peer])


def times(number: float | None) -> str:
    """A ratio with three digits."""
    return "-" if number is None else f"{number:.3g}"


def geometric_means(table: Measured) -> dict[str, tuple[float, int]]:
    """By peer, the geometric mean of the ratios and in how many rows both were measured."""
    found = {}
    for peer in (*PEERS, *BY_HAND):
        ratios = [r for entries in table.values() if (r := ratio(entries, [peer])) is not None]
        if ratios:
            found[peer] = (exp(sum(map(log, ratios)) / len(ratios)), len(ratios))
    return found


def columns_of(table: Measured) -> list[str]:
    """The systems that were measured, in order."""
    return [name for name in SYSTEMS if any(name in entries for entries in table.values())]


def verdict(entries: dict[str, Entry]) -> list[str]:
    """The last columns: the best peer over graphc, and the hand-written row over graphc."""
    return [times(ratio(entries, PEERS)), times(ratio(entries, [LIMIT]))]


VERDICT = ("best peer / graphc", "by hand / graphc")


def problems(table: Measured, kind: str) -> list[tuple[str, str, str]]:
    """Row, system and reason of the entries that have no time: an ``error``, or ``without`` the row."""
    return [
        (row, name, entry[kind])
        for row, entries in table.items()
        for name, entry in entries.items()
        if kind in entry
    ]


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table; all columns but the first are aligned to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines)) + "\n"


def print_tables(data: dict[str, Any], console: Console) -> None:
    """The run times for the terminal, and what went wrong."""
    for threads, run in data.get("runs", {}).items():
        table = run["table"]
        columns = columns_of(table)
        shown = Table("row", *columns, *VERDICT, title=f"{threads} thread(s)")
        for row, entries in table.items():
            shown.add_row(row, *(cell(entries.get(name)) for name in columns), *verdict(entries))
        console.print(shown)
        for row, name, reason in problems(table, "error"):
            console.print(f"{row}: {name}: {reason}", markup=False)
