"""Positions along an axis of which more is known than their text: a loop's counter plus a constant.

What a read has to check depends on where the counter can be. A loop that knows it for a part of its range
reads there without checks.
"""

from __future__ import annotations

from graphc.types import Dimension


class Position(str):
    """The text of ``counter + offset``, where the counter is at least ``low`` and below ``high``.

    >>> str(Position("i", 0, 9, -1))
    'i - 1'
    """

    counter: str
    low: Dimension
    high: Dimension
    offset: Dimension

    def __new__(
        cls, counter: str, low: Dimension, high: Dimension, offset: Dimension = 0
    ) -> Position:
        """A position; its text is that of the counter where the offset is 0."""
        added = str(offset)
        sign, size = ("-", added[1:]) if added.startswith("-") else ("+", added)
        self = super().__new__(cls, counter if offset == 0 else f"{counter} {sign} {size}")
        self.counter, self.low, self.high, self.offset = counter, low, high, offset
        return self


def shifted(index: str, by: Dimension) -> str:
    """The position ``by`` further along the axis.

    >>> shifted(Position("i", 0, 9, -1), 1), shifted("i", -2), shifted("2 * j", 1)
    ('i', 'i - 2', '2 * j + 1')
    """
    if isinstance(index, Position):
        return Position(index.counter, index.low, index.high, index.offset + by)
    return str(Position(index, 0, 0, by))


def is_below(index: str, bound: Dimension) -> bool | None:
    """Whether a position is less than ``bound`` in all iterations, or in none; None where it is not known.

    >>> i = Position("i", 1, 9)
    >>> is_below(i, 9), is_below(i, 1), is_below(i, 5)
    (True, False, None)
    """
    if not isinstance(index, Position):
        return None
    edge = bound - index.offset
    if _is_at_least(edge, index.high):
        return True
    return False if _is_at_least(index.low, edge) else None


def condition(index: str, low: Dimension, high: Dimension) -> str:
    """The condition that a position lies from ``low`` to before ``high``, without what is known.

    >>> condition("j", 0, 5), condition(Position("i", 0, 9, -1), 0, 5), condition(Position("i", 0, 9), 0, 5)
    ('0 <= j < 5', '1 <= i < 6', 'i < 5')
    >>> condition(Position("i", 1, 9), 0, 9), condition(Position("i", 5, 9), 0, 5)
    ('True', 'False')
    """
    before, after = is_below(index, low), is_below(index, high)
    if before is True or after is False:
        return "False"
    if isinstance(index, Position):
        low, high, index = low - index.offset, high - index.offset, index.counter
    first = "" if before is False else f"{low} <= "
    last = "" if after is True else f" < {high}"
    return f"{first}{index}{last}" if first or last else "True"


def below(index: str, high: Dimension) -> str:
    """The condition that a position is less than ``high``, or what is known of it.

    >>> below("j", 5), below(Position("i", 0, 9, 1), 5), below(Position("i", 0, 9), 9)
    ('j < 5', 'i < 4', 'True')
    """
    known = is_below(index, high)
    if known is not None:
        return str(known)
    if isinstance(index, Position):
        return f"{index.counter} < {high - index.offset}"
    return f"{index} < {high}"


def _is_at_least(one: Dimension, other: Dimension) -> bool:
    difference = one - other
    return difference >= 0 if isinstance(difference, int) else difference.never_negative()
