"""Measures rows in all systems, which take turns: A B C A B C ..."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from systems import SYSTEMS

HERE = Path(__file__).parent
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")

Entry = dict[str, Any]
"""What is known of a row in a system: ``median``, ``low``, ``high`` and ``first`` in seconds, or why not."""


def cores_for(threads: int) -> list[int]:
    """The last cores of this process: other work tends to be on the first."""
    available = sorted(os.sched_getaffinity(0))
    return available[-threads:]


def environment(threads: int, folder: Path) -> dict[str, str]:
    """The environment of a system: its threads, and all caches below one folder."""
    caches = {
        "GRAPHC_CACHE_DIR": folder / "graphc",
        "NUMBA_CACHE_DIR": folder / "numba",
        "TORCHINDUCTOR_CACHE_DIR": folder / "torch",
        "JAX_COMPILATION_CACHE_DIR": folder / "jax",
    }
    # Installed packages come with their bytecode. That of a checkout is kept by the first process, if it may.
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {
        **inherited,
        **dict.fromkeys(THREAD_VARIABLES, str(threads)),
        **{name: str(path) for name, path in caches.items()},
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
        "PYTENSOR_FLAGS": f"base_compiledir={folder / 'pytensor'}",
    }


class Client:
    """A worker process, started again if it dies."""

    def __init__(self, system: str, threads: int, folder: Path) -> None:
        self.system = system
        everywhere = SYSTEMS[system].all_cores
        count = len(os.sched_getaffinity(0)) if everywhere else threads
        options = {"system": system, "threads": count, "cores": cores_for(count)}
        self._command = [sys.executable, str(HERE / "worker.py"), json.dumps(options)]
        self._environment = environment(count, folder)
        self._log = (folder / f"{system.replace(' ', '_')}.log").open("ab")
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ask(self, do: str, **options: Any) -> Entry:
        """The worker's answer to a command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps({"do": do, **options}), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer:
            return dict(json.loads(answer))
        status = self._process.wait()
        self._start()
        return {"error": f"the process ended with status {status}"}

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._log.close()


def measure_row(
    clients: Sequence[Client], row: str, rounds: int, seconds: float, show: Callable[[str], None]
) -> dict[str, Entry]:
    """Builds and checks the row in every system, then measures those that are right in rounds."""
    entries = {}
    for client in clients:
        show(f"{row}: {client.system}")
        entries[client.system] = client.ask("prepare", row=row)
    running = [client for client in clients if "first" in entries[client.system]]
    times: dict[str, list[float]] = {client.system: [] for client in running}
    # The first turn finds out how many calls fill it, and does not count.
    for k in range(rounds + 1):
        show(f"{row}: round {k} of {rounds}")
        for client in list(running):
            answer = client.ask("time", seconds=seconds)
            if "error" in answer:
                entries[client.system] = answer
                running.remove(client)
            elif k:
                times[client.system].append(answer["seconds"])
    for client in running:
        entries[client.system] |= summary(times[client.system])
    return entries


def summary(taken: Iterable[float]) -> Entry:
    """The median of the rounds and their quartiles."""
    values = sorted(taken)
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": median(values), "low": low, "high": high}
