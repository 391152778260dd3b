"""Orders and connected parts of small graphs, the same in every run."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

from graphc.errors import InvalidGraph

_Key = TypeVar("_Key", bound=Hashable)


def in_order(before: Mapping[_Key, Collection[_Key]]) -> list[_Key]:
    """The keys, each behind all that it names; where there is a choice, the first of the mapping goes first.

    This is the algorithm of Kahn, "Topological sorting of large networks" (CACM 1962), with a heap.

    Raises `InvalidGraph` for a cycle.

    >>> in_order({"c": [], "a": ["b"], "b": []})
    ['c', 'b', 'a']
    """
    keys = list(before)
    position = {key: i for i, key in enumerate(keys)}
    behind: list[list[int]] = [[] for _ in keys]
    missing = [len(before[key]) for key in keys]
    for key, others in before.items():
        for other in others:
            behind[position[other]].append(position[key])
    ready = [i for i, count in enumerate(missing) if not count]
    found: list[_Key] = []
    while ready:
        here = heapq.heappop(ready)
        found.append(keys[here])
        for i in behind[here]:
            missing[i] -= 1
            if not missing[i]:
                heapq.heappush(ready, i)
    if len(found) < len(keys):
        raise InvalidGraph("the parts of a graph wait for each other")
    return found


def connected(links: Iterable[tuple[_Key, _Key]]) -> Iterator[list[_Key]]:
    """The connected parts of an undirected graph, each in the order in which its keys are met.

    A key without neighbours is linked to itself.

    >>> list(connected([(1, 2), (3, 3), (4, 2)]))
    [[1, 2, 4], [3]]
    """
    neighbours: dict[_Key, list[_Key]] = {}
    for one, other in links:
        neighbours.setdefault(one, []).append(other)
        neighbours.setdefault(other, []).append(one)
    met: set[_Key] = set()
    for start in neighbours:
        if start in met:
            continue
        met.add(start)
        part = [start]
        # The part grows while it is walked through.
        for key in part:
            new = dict.fromkeys(n for n in neighbours[key] if n not in met)
            met.update(new)
            part += new
        yield part
