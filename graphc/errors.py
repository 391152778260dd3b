"""The errors that graphc raises, and the one place where their messages are put together.

Every class also derives from the builtin that a user of NumPy would catch, so ``except ValueError``
works for a wrong shape and ``except TypeError`` for a wrong dtype.
"""

from __future__ import annotations

from collections.abc import Sequence


class GraphcError(Exception):
    """Base class of every error that graphc raises on purpose."""


class GraphTypeError(GraphcError, TypeError):
    """A dtype, or the kind of an object, does not fit."""


class GraphValueError(GraphcError, ValueError):
    """A shape, a size, a name or a value does not fit."""


class GraphIndexError(GraphcError, IndexError):
    """An index lies outside the axis that it addresses."""


class GradientError(GraphcError, TypeError):
    """A gradient was asked for that does not exist."""


class GradientMismatch(GraphcError, AssertionError):
    """An analytic gradient and its numerical approximation part."""


class RewriteError(GraphcError):
    """A rewrite rule changes a type, or rules undo each other without end."""


class InvalidGraph(GraphcError):
    """The verifier found a node whose type contradicts its op's type rule."""


def compose(
    subject: str,
    problem: str,
    *,
    arguments: Sequence[object] = (),
    detail: str = "",
    location: str = "",
    fix: str = "",
) -> str:
    """One message in graphc's only format: subject, problem, arguments, detail, line, fix.

    >>> compose("matmul", "inner sizes differ", arguments=["f32[N,64]", "f32[65,100]"],
    ...         detail="64 != 65", location="model.py:7")
    'matmul: inner sizes differ: argument 0 is f32[N,64], argument 1 is f32[65,100] (64 != 65), at model.py:7'
    """
    text = f"{subject}: {problem}"
    if arguments:
        text += ": " + ", ".join(f"argument {i} is {a}" for i, a in enumerate(arguments))
    if detail:
        text += f" ({detail})"
    if location:
        text += f", at {location}"
    if fix:
        text += f". {fix[0].upper()}{fix[1:]}"
    return text
