"""The function that combines what the chunks of a gate leave: partial totals, in the order of the chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.codegen.expressions import flat_index
from graphc.codegen.totals import Total
from graphc.fuse.chunks import Chunks, Kind, Part
from graphc.types import product

INDENT = "    "


@dataclass(frozen=True)
class Kept:
    """A total over the outermost loop: ``result`` and ``parts`` are the names of its buffers."""

    part: Part
    total: Total
    result: str
    parts: str


def totals_function(
    name: str,
    chunks: Chunks,
    kept: Sequence[Kept],
    sizes: Sequence[str],
) -> tuple[str, ...]:
    """The lines of the function ``name``, of all results, all parts and the sizes; none if none are kept."""
    if not kept:
        return ()
    parameters = [*(k.result for k in kept), *(k.parts for k in kept), *sizes]
    taken = {*parameters, *(f"{k.total.name}{end}" for k in kept for end in ("", "_sum", "_lost"))}
    lines: list[str] = []
    pieces = ""
    if any(k.part.kind in (Kind.ARRAYS, Kind.NUMBERS) for k in kept):
        pieces = _unique(taken, "pieces")
        length, size = chunks.length, chunks.size
        if size.isdigit():
            lines.append(f"{pieces} = ({length} + {int(size) - 1}) // {size}")
        else:
            chunk = _unique(taken, "chunk")
            lines.append(f"{chunk} = {size}")
            lines.append(f"{pieces} = ({length} + {chunk} - 1) // {chunk}")
    counter, inner = _unique(taken, "part"), _unique(taken, "k")
    for each in kept:
        if each.part.kind is Kind.ARRAYS:
            lines += _arrays(each, pieces, counter, inner)
        else:
            lines += _numbers(each, pieces, counter)
    return (f"def {name}({', '.join(parameters)}):", *(INDENT + line for line in lines))


def _unique(taken: set[str], wanted: str) -> str:
    name = wanted
    while name in taken:
        name = f"{name}_"
    taken.add(name)
    return name


def _arrays(kept: Kept, pieces: str, counter: str, inner: str) -> list[str]:
    """Takes the array of every chunk into the result, which starts as the total of nothing."""
    length = product(kept.part.node.shape)
    at = flat_index((counter, inner), (1, length))
    place = f"{kept.result}[{inner}]"
    elements = f"for {inner} in range({length}):"
    return [
        elements,
        f"{INDENT}{place} = {kept.total.initial}",
        f"for {counter} in range({pieces}):",
        f"{INDENT}{elements}",
        f"{INDENT}{INDENT}{kept.total.step(place, f'{kept.parts}[{at}]')}",
    ]


def _numbers(kept: Kept, pieces: str, counter: str) -> list[str]:
    total, value = kept.total, f"{kept.parts}[{counter}]"
    is_sum = total.in_parts
    count = str(kept.part.count) if is_sum else pieces
    return [
        *total.start(),
        f"for {counter} in range({count}):",
        INDENT + (total.add_part(value) if is_sum else total.step(total.name, value)),
        *total.end(),
        f"{kept.result}[0] = {total.name}",
    ]
