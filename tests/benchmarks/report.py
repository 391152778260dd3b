"""Tables of what was measured."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from measure import Entry
from systems import SYSTEMS

Measured = dict[str, dict[str, Entry]]


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def cell(entry: Entry | None) -> str:
    """The median, or a word for why there is none."""
    if entry is None or "without" in entry:
        return "-"
    return duration(entry["median"]) if "median" in entry else "error"


def print_table(table: Measured, console: Console) -> None:
    """Rows down, systems across; errors below."""
    columns = [name for name in SYSTEMS if any(name in entries for entries in table.values())]
    shown = Table("row", *columns)
    for row, entries in table.items():
        shown.add_row(row, *(cell(entries.get(name)) for name in columns))
    console.print(shown)
    for row, entries in table.items():
        for name, entry in entries.items():
            if "error" in entry:
                console.print(f"{row}: {name}: {entry['error']}", markup=False)
