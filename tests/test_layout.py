"""Intermediate values with a short last axis have the long one last in memory, if nobody else sees them."""

from __future__ import annotations

import numpy as np
import pytest
from test_columns import ops_of

import graphc as gx
from graphc.fuse.layout import long_axes_last
from graphc.fuse.roles import Role, role, space
from graphc.ir import Graph, Node
from graphc.ops.linalg import matmul, transpose_copy


def mixture(few):
    x, means = gx.input("x", ("N", few)), gx.input("means", (9, few))
    factors = gx.input("factors", (9, few, few))
    y = x - gx.expand_dims(means, 1)
    z = y @ gx.swapaxes(factors, 1, 2) + gx.exp(gx.expand_dims(means, 1)) * y
    loss = gx.sum(gx.logsumexp(-0.5 * gx.sum(z * z, axis=2), axis=0))
    return [x, means, factors], [loss, *gx.grad(loss, [x, means, factors])]


def both_operands(few):
    """Narrow values on both sides of a product, as they are and transposed, and sums over every axis."""
    x, y = gx.input("x", ("N", few)), gx.input("y", (9, few))
    a = gx.tanh(gx.expand_dims(y, 1) * x)
    b = gx.exp(-a * a) + gx.expand_dims(y, 1)
    square = gx.swapaxes(a, 1, 2) @ b
    wide = a @ gx.swapaxes(b, 1, 2)
    sums = [
        gx.sum(a),
        gx.sum(b, axis=0),
        gx.sum(a * b, axis=1),
        gx.max(b, axis=2),
        gx.sum(b, axis=(0, 2)),
    ]
    return [x, y], [square, wide, *sums]


def test_points_may_be_joined_to_numbers():
    x, means = gx.input("x", ("N", 8)), gx.input("means", (9, 8))
    factors = gx.input("factors", (9, 8, 8))
    points = gx.concat([x, gx.constant(np.zeros((2, 8)))], axis=0)
    z = gx.tanh((points - gx.expand_dims(means, 1)) @ factors)
    inputs = [x, means, factors]
    results = gx.grad(gx.sum(gx.exp(-gx.sum(z * z, axis=2))), inputs)
    rng = np.random.default_rng(0)
    given = [rng.normal(size=size) for size in ((70, 8), (9, 8), (9, 8, 8))]
    expected = gx.evaluate(results, dict(zip(inputs, given, strict=True)))
    for found, wanted in zip(
        gx.compile(inputs, results, cache=False)(*given), expected, strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12)


def last_axes(outputs):
    """The last axes of all loops of three axes."""
    nodes = (each if isinstance(each, Node) else each.node for each in outputs)
    graph = long_axes_last(Graph("f", (), tuple(nodes)))
    loops = [node for node in graph.nodes() if role(node) in (Role.LOOP, Role.REDUCE)]
    return {str(space(node)[-1]) for node in loops if len(space(node)) == 3}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("few", [2, 10, 16])
@pytest.mark.parametrize("program", [mixture, both_operands])
def test_values(program, few, threads):
    inputs, results = program(few)
    f = gx.compile(inputs, results, cache=False, threads=threads)
    assert transpose_copy in ops_of(f)
    for rows in (0, 1, 7, 200):
        rng = np.random.default_rng(rows)
        given = [
            rng.normal(size=[rows if n == rows or str(n) == "N" else n for n in i.shape])
            for i in inputs
        ]
        expected = gx.evaluate(results, dict(zip(inputs, given, strict=True)))
        for found, wanted in zip(f(*given), expected, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-11)


def products(seen):
    """A product that reads narrow values, as the rules leave it."""
    return [matmul(seen.node, seen.node, transpose_a=True, transpose_b=False)]


def test_the_long_axis_is_last():
    x, y = gx.input("x", ("N", 10)), gx.input("y", (9, 10))
    narrow = gx.exp(gx.expand_dims(y, 1) * x)
    assert last_axes(products(narrow)) == {"N"}


def test_products_keep_what_they_are_of():
    inputs, results = mixture(10)
    f = gx.compile(inputs, results, cache=False)
    shapes = [node.shape for node in f._plan.stages["fused"].nodes() if node.op is matmul]
    assert [tuple(map(str, shape)) for shape in shapes] == [
        ("9", "10", "N"),
        ("9", "10", "N"),
        ("9", "10", "10"),
    ]


def test_what_others_see_stays_as_it_is():
    x, y = gx.input("x", ("N", 10)), gx.input("y", (9, 10))
    seen = gx.exp(gx.expand_dims(y, 1) * x)
    assert last_axes([*products(seen), seen]) == {"10"}
    given = gx.input("given", (9, "N", 10))
    assert last_axes(products(gx.exp(given * x))) == {"10"}
    assert last_axes(products(gx.exp(gx.swapaxes(gx.expand_dims(x, 0), 0, 1) * y))) == {"10"}


def test_what_has_no_short_axis_stays_as_it_is():
    x, y = gx.input("x", ("N", 32)), gx.input("y", (9, 32))
    assert last_axes(products(gx.exp(gx.expand_dims(y, 1) * x))) == {"32"}


def test_what_no_product_reads_stays_as_it_is():
    x, y = gx.input("x", ("N", 10)), gx.input("y", (9, 10))
    assert last_axes([gx.sum(gx.exp(gx.expand_dims(y, 1) * x), axis=2)]) == {"10"}
