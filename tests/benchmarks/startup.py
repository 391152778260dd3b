"""What happens before a program runs at full speed: imports, compilation, caches; the memory of a call."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

from measure import HERE, Entry, cores_for, environment
from systems import SYSTEMS

ROW = "e-32"
CHAINS = ("n-200", "n-400")
LARGE = ("g", "i")
NOTHING_TO_COMPILE = ("numba", "torch", "autograd", "numpy")
"""In row n: Numba's function by hand has loops over the gates."""

LIMIT = 200
"""Seconds after which a probe is given up."""

JAX_CACHE = {
    "JAX_ENABLE_COMPILATION_CACHE": "true",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
# Blocks from this size on go back to the system when they are freed.
MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536"}

Show = Callable[[str], None]


def probe(
    system: str, row: str, folder: Path, extra: Mapping[str, str] = {}, *, memory: bool = False
) -> Entry:
    """The answer of `probe.py`, and ``total``: seconds from the start of the process, without the data."""
    options = {"system": system, "row": row, "threads": 1, "cores": cores_for(1), "memory": memory}
    start = time.time()
    try:
        run = subprocess.run(
            [sys.executable, str(HERE / "probe.py"), json.dumps(options)],
            env=environment(1, folder) | extra,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"more than {LIMIT} s"}
    if run.returncode:
        raised = re.findall(r"^[\w.]*(?:Error|Exception)\b.*", run.stderr, flags=re.MULTILINE)
        return {"error": raised[-1][:200] if raised else f"ended with status {run.returncode}"}
    answer = dict(json.loads(run.stdout))
    if "clock" in answer:
        answer["total"] = answer.pop("clock") - start - answer["data"]
    return answer


def middle(answers: Sequence[Entry]) -> Entry:
    """The medians of what several probes answered, or the error of one of them."""
    for answer in answers:
        if "error" in answer:
            return answer
    return {name: median(answer[name] for answer in answers) for name in answers[0]}


def compiled_systems(peers: Sequence[str]) -> list[str]:
    """The systems that do something before the first call, those that are measured twice once."""
    left_out = ("graphc out=", "jax, all cores")
    return [
        s.name for s in SYSTEMS.values() if s.peer in ("graphc", *peers) and s.name not in left_out
    ]


def starts(peers: Sequence[str], repeats: int, show: Show) -> dict[str, dict[str, Entry]]:
    """The first gradients of the network by system: ``cold`` with empty caches, ``warm`` with filled ones.

    The systems take turns, so that what else the machine does meanwhile hits all of them.
    """
    plans = {name: (name, {}) for name in compiled_systems(peers) if name != "casadi"}
    if "jax" in peers:
        plans["jax, its cache on"] = ("jax", JAX_CACHE)
    answers: dict[str, dict[str, list[Entry]]] = {
        label: {"cold": [], "warm": []} for label in plans
    }
    for k in range(repeats):
        for label, (system, extra) in plans.items():
            show(f"start of {label}, {k + 1} of {repeats}")
            with tempfile.TemporaryDirectory() as folder:
                for state in ("cold", "warm"):
                    answers[label][state].append(probe(system, ROW, Path(folder), extra))
    return {
        label: {state: middle(found) for state, found in states.items()}
        for label, states in answers.items()
    }


def imports(repeats: int, show: Show) -> dict[str, float]:
    """Seconds to import Numba, and graphc with Numba, each in a process of its own."""
    found: dict[str, list[float]] = {"numba": [], "graphc": []}
    with tempfile.TemporaryDirectory() as folder:
        variables = environment(1, Path(folder))
        # The first process writes the bytecode of a checkout, and does not count.
        for k in range(repeats + 1):
            for name, times in found.items():
                show(f"import of {name}, {k} of {repeats}")
                times.append(_import_time(name, variables))
    return {name: median(times[1:]) for name, times in found.items()}


def _import_time(name: str, variables: Mapping[str, str]) -> float:
    program = f"import time; s = time.perf_counter(); import {name}; print(time.perf_counter() - s)"
    run = subprocess.run(
        [sys.executable, "-c", program], env=variables, capture_output=True, text=True, check=True
    )
    return float(run.stdout)


def chains(peers: Sequence[str], show: Show) -> dict[str, dict[str, Entry]]:
    """The first gradient of a long chain and of one twice as long, with empty caches."""
    found: dict[str, dict[str, Entry]] = {}
    for system in compiled_systems(peers):
        if system in NOTHING_TO_COMPILE:
            continue
        for row in CHAINS:
            show(f"{row} in {system}")
            with tempfile.TemporaryDirectory() as folder:
                found.setdefault(system, {})[row] = probe(system, row, Path(folder))
    return found


def memory(peers: Sequence[str], show: Show) -> dict[str, dict[str, Entry]]:
    """What a call of each large row takes."""
    found: dict[str, dict[str, Entry]] = {}
    systems = [s.name for s in SYSTEMS.values() if s.peer in ("graphc", *peers)]
    for system in systems:
        if system in ("casadi", "jax, all cores"):
            continue
        for row in LARGE:
            show(f"memory of {row} in {system}")
            with tempfile.TemporaryDirectory() as folder:
                found.setdefault(system, {})[row] = probe(
                    system, row, Path(folder), MEMORY, memory=True
                )
    return found
