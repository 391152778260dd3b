"""One system in a process of its own: reads commands from its standard input, a JSON object a line.

    python worker.py '{"system": "jax", "threads": 1, "cores": [1]}'

The process is pinned before anything of the system is imported. It answers every command with a line:
``prepare`` builds a row, checks its results and gives the time until the first; ``time`` calls the row that
is prepared; ``versions`` names the packages. Whatever a system prints goes to the standard error.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from itertools import repeat
from time import perf_counter
from typing import Any

OPTIONS = json.loads(sys.argv[1]) if __name__ == "__main__" else {}
if OPTIONS.get("cores"):
    os.sched_setaffinity(0, OPTIONS["cores"])

from checks import mismatch, reference  # noqa: E402
from rows import ROWS  # noqa: E402
from systems import SYSTEMS  # noqa: E402
from systems.base import Backend  # noqa: E402


def seconds_of(function: Callable[..., Any], arguments: Sequence[Any], calls: int) -> float:
    """The time of so many calls, with the garbage collector waiting."""
    gc.collect()
    gc.disable()
    start = perf_counter()
    for _ in repeat(None, calls):
        function(*arguments)
    taken = perf_counter() - start
    gc.enable()
    return taken


def detached(results: Sequence[Any]) -> list[Any]:
    """Results without their tapes, for NumPy to read."""
    return [result.detach() if hasattr(result, "detach") else result for result in results]


class Worker:
    """Holds one row at a time."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.calls = 0

    def prepare(self, row: str) -> dict[str, Any]:
        """Builds a row and checks what it gives."""
        self.row = ROWS[row]
        reason = self.backend.without(self.row)
        if reason:
            return {"without": reason}
        with self.backend.scope(self.row):
            self.arguments = self.backend.arguments(self.row)
            start = perf_counter()
            self.function = self.backend.build(self.row)
            results = self.function(*self.arguments)
            taken = perf_counter() - start
        problem = mismatch(self.row, detached(results), reference(self.row))
        self.calls = 0
        return {"error": problem} if problem else {"first": taken}

    def time(self, seconds: float) -> dict[str, float]:
        """The time of a call, from about so many seconds of calls; the first time, it finds out how many."""
        with self.backend.scope(self.row):
            if not self.calls:
                self.calls = self._calls_in(seconds)
            return {"seconds": seconds_of(self.function, self.arguments, self.calls) / self.calls}

    def _calls_in(self, seconds: float) -> int:
        calls = 1
        while True:
            taken = seconds_of(self.function, self.arguments, calls)
            if taken >= seconds / 4 or calls >= 10_000_000:
                return max(1, round(calls * seconds / taken))
            calls *= 2

    def versions(self) -> dict[str, str]:
        """The packages."""
        return self.backend.versions()


def main() -> None:
    """Answers until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(SYSTEMS[OPTIONS["system"]].load(OPTIONS["threads"]))
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(worker, command.pop("do"))(**command)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {str(error).strip()[:200]}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
