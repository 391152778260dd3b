"""Is graphc the fastest on a CPU? Measures it and its peers side by side, in one run.

    python tests/benchmarks/run.py --peers jax,numba,numpy --rows a,c-f32-1e4
    python tests/benchmarks/run.py --write-docs

Needs the extra ``bench``; a peer that is not installed is left out with ``--peers``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from measure import Client, Entry, measure_row
from report import print_table
from rows import ROWS
from systems import SYSTEMS

PEERS = tuple(dict.fromkeys(s.peer for s in SYSTEMS.values() if s.peer != "graphc"))


def names(text: str) -> list[str]:
    """A list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    timed = [row.name for row in ROWS.values() if row.timed]
    parser.add_argument("--peers", type=names, default=PEERS, help=f"of {','.join(PEERS)}")
    parser.add_argument("--rows", type=names, default=timed, help="names or first letters of rows")
    parser.add_argument("--threads", type=int, default=1, help="the cores that each system has")
    parser.add_argument("--rounds", type=int, default=9, help="how often the systems take turns")
    parser.add_argument("--seconds", type=float, default=0.05, help="the length of a turn")
    options = parser.parse_args(arguments)
    options.rows = [name for name in timed if {name, name.split("-")[0]} & set(options.rows)]
    return options


def measure(options: argparse.Namespace, console: Console) -> dict[str, dict[str, Entry]]:
    """The table: what is known by row and by system."""
    table = {}
    systems = [s.name for s in SYSTEMS.values() if s.peer in ("graphc", *options.peers)]
    with tempfile.TemporaryDirectory(prefix="graphc-benchmarks-") as folder:
        clients = [Client(system, options.threads, Path(folder)) for system in systems]
        try:
            with console.status("starting") as status:
                for row in options.rows:
                    table[row] = measure_row(
                        clients, row, options.rounds, options.seconds, status.update
                    )
        finally:
            for client in clients:
                client.close()
    return table


def main() -> None:
    """Measures and prints."""
    options, console = parse(), Console()
    table = measure(options, console)
    print_table(table, console)


if __name__ == "__main__":
    main()
