"""Nested lists, tuples and dicts of values: taken apart and put together again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def flatten(nested: Any) -> list[Any]:
    """The leaves of nested lists, tuples and dicts, in order.

    >>> flatten({"a": 1, "b": [2, (3,)]})
    [1, 2, 3]
    """
    if isinstance(nested, dict):
        return [leaf for value in nested.values() for leaf in flatten(value)]
    if isinstance(nested, list | tuple):
        return [leaf for value in nested for leaf in flatten(value)]
    return [nested]


def like(template: Any, leaves: Iterator[Any]) -> Any:
    """The structure of ``template`` with its leaves replaced by ``leaves``, in order.

    >>> like({"a": 0, "b": [0, (0,)]}, iter("xyz"))
    {'a': 'x', 'b': ['y', ('z',)]}
    """
    if isinstance(template, dict):
        return {key: like(value, leaves) for key, value in template.items()}
    if isinstance(template, list):
        return [like(value, leaves) for value in template]
    if isinstance(template, tuple):
        items = [like(value, leaves) for value in template]
        # A named tuple is made from its fields one by one.
        return type(template)(*items) if hasattr(template, "_fields") else tuple(items)
    return next(leaves)


def matches(template: Any, nested: Any) -> bool:
    """Whether both have the same nesting, keys and lengths."""
    if isinstance(template, dict):
        same = isinstance(nested, dict) and template.keys() == nested.keys()
        return same and all(matches(template[key], nested[key]) for key in template)
    if isinstance(template, list | tuple):
        same = isinstance(nested, list | tuple) and len(template) == len(nested)
        return same and all(map(matches, template, nested))
    return not isinstance(nested, list | tuple | dict)
