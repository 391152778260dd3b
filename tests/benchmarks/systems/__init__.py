"""The systems that are compared, and how to load one of them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from systems.base import Backend


@dataclass(frozen=True)
class System:
    """A column of the table: ``peer`` is what it counts for, ``variant`` is for its module to know."""

    name: str
    peer: str
    variant: str = ""
    all_cores: bool = False

    def load(self, threads: int) -> Backend:
        """Imports the system and nothing of the others."""
        module = import_module(f"systems.{self.peer}_rows")
        return module.System(self.variant, threads)


SYSTEMS = {
    system.name: system
    for system in (
        System("graphc", "graphc"),
        System("graphc out=", "graphc", "out"),
        System("numba", "numba"),
        System("jax", "jax"),
        System("jax, all cores", "jax", all_cores=True),
        System("pytensor", "pytensor"),
        System("pytensor, numba", "pytensor", "NUMBA"),
        System("torch", "torch"),
        System("torch.compile", "torch", "compile"),
        System("casadi", "casadi"),
        System("autograd", "autograd"),
        System("numpy", "numpy"),
    )
}
"""Every column, in the order of the tables."""
