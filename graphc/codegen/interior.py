"""The lines of a loop that runs in two parts: its interior, and what is at the ends of its range."""

from __future__ import annotations

from graphc.fuse.interior import Interior
from graphc.fuse.schedule import Loop

INDENT = "    "


def in_parts(
    cut: Interior,
    loop: Loop,
    bounds: tuple[str, str],
    names: tuple[str, str, str, str],
    bodies: tuple[list[str], list[str]],
) -> list[str]:
    """The lines of a loop over a range, which may be a part of the loop's.

    ``names`` are that of the counter and three that are free; ``bodies`` are the lines of an iteration in the
    interior, and of one elsewhere. The others have one loop, which makes less machine code than two.
    """
    (begin, end), (counter, low, high, step), (inside, elsewhere) = bounds, names, bodies
    return [
        f"{low} = accumulate.maximum({begin}, accumulate.minimum({end}, {cut.before}))",
        f"{high} = accumulate.maximum({low}, accumulate.minimum({end}, {loop.size - cut.after}))",
        f"for {counter} in range({low}, {high}):",
        *(INDENT + line for line in inside),
        f"for {step} in range({begin}, {end} - {high} + {low}):",
        f"{INDENT}{counter} = scalar.select({step} < {low}, {step}, {step} - {low} + {high})",
        *(INDENT + line for line in elsewhere),
    ]
