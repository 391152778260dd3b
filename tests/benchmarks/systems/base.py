"""What the benchmark asks of a system."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from rows import Row


class Backend:
    """One system in a process of its own, with a number of threads."""

    def __init__(self, variant: str, threads: int) -> None:
        self.variant = variant
        self.threads = threads

    def without(self, row: Row) -> str:
        """Why the system does not have a row; nothing if it has."""
        return ""

    def build(self, row: Row) -> Callable[..., Sequence[Any]]:
        """The function of a row, of the arrays that `arguments` gives, to a sequence of results.

        A call returns when the results are there. What the system compiles at the first call is compiled
        at the first call.
        """
        raise NotImplementedError

    def arguments(self, row: Row) -> list[Any]:
        """The inputs of a row as arrays of the system; without axes, as numbers of NumPy's."""
        return [array[()] for array in row.arrays()]

    def scope(self, row: Row) -> AbstractContextManager[Any]:
        """What must hold while a row is built and called."""
        return nullcontext()

    def versions(self) -> dict[str, str]:
        """The packages that are measured, with their versions."""
        raise NotImplementedError
