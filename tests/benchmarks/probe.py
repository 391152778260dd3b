"""One row in one system in a fresh process: how long until the first results, or the memory of a call.

    python probe.py '{"system": "jax", "row": "e-32", "threads": 1, "cores": [1], "memory": false}'

Prints a JSON object: ``imported`` (seconds to import the system), ``first`` (seconds to build the row and
have its results), ``data`` (seconds to make the inputs) and ``clock`` (when the results were there); with
``memory``, ``growth`` instead (bytes).

Memory is the growth of the process' largest resident size (VmHWM) during one call over its size before it.
The row is built and called once before, so that what the compiler takes is not counted; freed memory is
given back, and the kernel is told to forget the largest size so far.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

OPTIONS = json.loads(sys.argv[1])
os.sched_setaffinity(0, OPTIONS["cores"])

from rows import ROWS  # noqa: E402
from systems import SYSTEMS  # noqa: E402


def resident(field: str) -> int:
    """A size of this process, in bytes, by the kernel's name for it."""
    (kilobytes,) = re.findall(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())
    return 1024 * int(kilobytes)


def growth(function: Callable[..., Any], arguments: Sequence[Any]) -> int:
    """What the largest resident size grows by in a call that is not the first."""
    function(*arguments)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    results = function(*arguments)
    after = resident("VmHWM")
    del results
    return after - before


def main() -> None:
    """Runs the row once and prints what was measured."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    start = time.perf_counter()
    backend = SYSTEMS[OPTIONS["system"]].load(OPTIONS["threads"])
    imported = time.perf_counter()
    row = ROWS[OPTIONS["row"]]
    with backend.scope(row):
        arguments = backend.arguments(row)
        prepared = time.perf_counter()
        function = backend.build(row)
        if OPTIONS["memory"]:
            answer: dict[str, float] = {"growth": growth(function, arguments)}
        else:
            function(*arguments)
            done = time.perf_counter()
            answer = {
                "imported": imported - start,
                "data": prepared - imported,
                "first": done - prepared,
                "clock": time.time(),
            }
    print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
