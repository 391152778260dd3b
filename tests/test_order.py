"""The order and the connected parts of graphs, by networkx as an oracle."""

from __future__ import annotations

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphc.errors import InvalidGraph
from graphc.fuse.order import connected, in_order

PAIRS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=20)


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(PAIRS, st.permutations(range(9)))
def test_the_order_is_the_first_of_all_in_the_order_of_the_keys(pairs, keys):
    before = {key: {a for a, b in pairs if b == key and a < key} for key in keys}
    graph = nx.DiGraph([(a, key) for key, others in before.items() for a in others])
    graph.add_nodes_from(keys)
    assert in_order(before) == list(nx.lexicographical_topological_sort(graph, key=keys.index))


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(PAIRS)
def test_the_parts_are_the_connected_ones(links):
    parts = list(connected(links))
    assert sorted(map(sorted, parts)) == sorted(
        map(sorted, nx.connected_components(nx.Graph(links)))
    )
    met = list(dict.fromkeys(key for link in links for key in link))
    assert [part[0] for part in parts] == [k for k in met if k in {part[0] for part in parts}]


def test_a_cycle_is_found():
    with pytest.raises(InvalidGraph, match="wait for each other"):
        in_order({"a": ["b"], "b": ["c"], "c": ["b"]})
