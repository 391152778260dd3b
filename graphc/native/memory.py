"""Object code in the memory of this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llvmlite import binding


def target_machine(**options: Any) -> Any:
    """LLVM's target machine for code that `Loaded` can load; ``options`` are those of llvmlite."""
    triple = binding.get_process_triple()
    # Addresses of other code may be far away. On x86 LLVM's loader knows no other model for that.
    model = "static" if triple.startswith("x86") else "default"
    options = {"reloc": model, "codemodel": "jitdefault", "jit": True, **options}
    return binding.Target.from_triple(triple).create_target_machine(**options)


def define(addresses: Mapping[str, int]) -> None:
    """Tells LLVM what symbols stand for in all code that is loaded later."""
    for symbol, address in addresses.items():
        binding.add_symbol(symbol, address)


class Loaded:
    """Object code that can run, for as long as this lives; its memory is given back then.

    ``machine`` is a target machine that nobody else uses.
    """

    def __init__(self, object_code: bytes, machine: Any) -> None:
        self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
        self._engine.add_object_file(binding.ObjectFileRef.from_data(object_code))
        self._engine.finalize_object()

    def address(self, function: str) -> int:
        """The address of a function of the object code."""
        address: int = self._engine.get_function_address(function)
        return address
