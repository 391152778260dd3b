"""Is graphc the fastest on a CPU? Measures it and its peers side by side, in one run.

    python tests/benchmarks/run.py --peers jax,numba,numpy --rows a,c-f32-1e4
    python tests/benchmarks/run.py --write-docs

Needs the extra ``bench``; a peer that is not installed is left out with ``--peers``. With ``--write-docs``
everything is measured, start-up and memory too unless ``--parts`` says otherwise, and docs/benchmarks.json
gets the new figures beside those of earlier runs; the page and the picture beside it are made from that file,
which ``--render`` does without measuring.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console

import startup
from measure import Client, measure_row
from page import page
from plot import draw
from report import print_tables
from rows import ROWS
from systems import SYSTEMS

DOCS = Path(__file__).parents[2] / "docs"
PEERS = tuple(dict.fromkeys(s.peer for s in SYSTEMS.values() if s.peer != "graphc"))
PARTS = ("rows", "startup", "memory")


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
    parser.add_argument("--repeats", type=int, default=3, help="processes a start-up figure")
    parser.add_argument("--parts", type=names, default=None, help=f"of {','.join(PARTS)}")
    parser.add_argument("--write-docs", action="store_true", help="write docs/benchmarks.*")
    parser.add_argument(
        "--render", action="store_true", help="write the page anew, measure nothing"
    )
    options = parser.parse_args(arguments)
    unknown = {*options.peers} - {*PEERS}
    options.rows = [name for name in timed if {name, name.split("-")[0]} & {*options.rows}]
    if unknown or not options.rows:
        parser.error(f"unknown peers {sorted(unknown)}" if unknown else "no such row")
    if options.parts is None:
        options.parts = PARTS if options.write_docs else ("rows",)
    return options


def machine() -> str:
    """The processor, its cores, and whether it has AVX-512."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.*)", text)
    has_avx512 = "with" if " avx512f" in text else "without"
    name = model[1].strip() if model else "unknown processor"
    return f"{name}, {os.cpu_count()} cores, {has_avx512} AVX-512; Python {sys.version.split()[0]}"


def measure(
    options: argparse.Namespace, show: startup.Show
) -> tuple[dict[str, Any], dict[str, str]]:
    """The table, by row and system, and the versions of what was measured."""
    table, versions = {}, {}
    systems = [s.name for s in SYSTEMS.values() if s.peer in ("graphc", *options.peers)]
    with tempfile.TemporaryDirectory(prefix="graphc-benchmarks-") as folder:
        clients = [Client(system, options.threads, Path(folder)) for system in systems]
        try:
            for client in clients:
                versions |= client.ask("versions")
            for row in options.rows:
                table[row] = measure_row(clients, row, options.rounds, options.seconds, show)
        finally:
            for client in clients:
                client.close()
    return table, versions


def measure_parts(options: argparse.Namespace, show: startup.Show) -> dict[str, Any]:
    """The figures of one run, in the form of docs/benchmarks.json."""
    data: dict[str, Any] = {"machine": machine()}
    if "rows" in options.parts:
        table, data["versions"] = measure(options, show)
        command = " ".join(["python tests/benchmarks/run.py", *sys.argv[1:]])
        data["runs"] = {
            str(options.threads): {
                "date": date.today().isoformat(),
                "rounds": options.rounds,
                "command": command,
                "table": table,
            }
        }
    if "startup" in options.parts:
        data["repeats"] = options.repeats
        data["starts"] = startup.starts(options.peers, options.repeats, show)
        data["imports"] = startup.imports(2 * options.repeats + 1, show)
        data["chains"] = startup.chains(options.peers, show)
    if "memory" in options.parts:
        data["memory"] = startup.memory(options.peers, show)
    return data


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """New figures in place of the old; a run replaces that of the same number of threads only."""
    return {**old, **new, "runs": {**old.get("runs", {}), **new.get("runs", {})}}


def write(new: dict[str, Any]) -> None:
    """The figures, the page and the picture in docs/."""
    path = DOCS / "benchmarks.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    data = merged(old, new)
    path.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (DOCS / "benchmarks.md").write_text(page(data), encoding="utf-8")
    if "1" in data["runs"]:
        draw(data["runs"]["1"]["table"], DOCS / "benchmarks.svg")


def main() -> None:
    """Measures, prints and writes."""
    options = parse()
    # Beyond a terminal there is no width to keep to.
    console = Console(width=None if sys.stdout.isatty() else 250)
    if options.render:
        write({})
        return
    with console.status("starting") as status:
        data = measure_parts(options, status.update)
    print_tables(data, console)
    if options.write_docs:
        write(data)


if __name__ == "__main__":
    main()
