"""Nodes, interning, canonical order, walks, and notes."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

import graphc as gx
from graphc import ir
from graphc.errors import InvalidGraph
from graphc.facts import NONDIFFERENTIABLE
from graphc.ops import elementwise as ew
from graphc.ops.reduce import sum_
from graphc.types import TensorType, float64


def vector(name: str) -> ir.Node:
    return ir.input_node(name, TensorType(float64, (3,)))


def test_equal_nodes_are_one_object():
    x, y = vector("x"), vector("y")
    assert ew.exp(x) is ew.exp(x)
    assert sum_(x, axes=(0,)) is sum_(x, axes=(0,))
    assert ew.subtract(x, y) is not ew.subtract(y, x)
    assert ir.constant_node(1.0) is ir.constant_node(1.0)
    assert ir.constant_node(0.0) is not ir.constant_node(-0.0)
    assert ir.constant_node(1.0) is not ir.constant_node(1)


def test_inputs_are_never_one_object():
    assert vector("x") is not vector("x")


def test_commutative_operands_have_one_order_with_constants_last():
    x, y = vector("x"), vector("y")
    assert ew.add(x, y) is ew.add(y, x)
    assert ew.multiply(ir.filled(x, 2.0), x).args[0] is x
    assert ew.maximum(x, y) is not ew.maximum(y, x)


def test_strict_operators_want_one_type():
    x = vector("x")
    scalar = ir.input_node("s", TensorType(float64, ()))
    with pytest.raises(
        gx.GraphValueError, match=r"add: operands have different shapes: .*f64\[3\]"
    ):
        x + scalar
    assert (2 * x).type == x.type


def test_interning_is_safe_between_threads():
    x = vector("x")
    made: list[ir.Node] = []
    start = threading.Barrier(8)

    def make() -> None:
        start.wait()
        made.extend(ew.multiply(x, ir.filled(x, float(k))) for k in range(200))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 200


def test_unused_nodes_are_freed():
    x = vector("x")
    gc.collect()
    before = len(ir._interned)
    chain = x
    for _ in range(20_000):
        chain = ew.sin(chain)
    assert len(ir._interned) == before + 20_000
    del chain
    gc.collect()
    assert len(ir._interned) == before


def test_walk_puts_operands_first_and_stops_at_leaves():
    x = vector("x")
    y = ew.exp(x)
    z = ew.add(y, ew.sin(y))
    order = ir.walk([z])
    assert all(order.index(arg) < order.index(n) for n in order for arg in n.args)
    assert x not in ir.walk([z], leaves=[y])


def test_an_op_is_registered_once_and_needs_every_fact():
    with pytest.raises(InvalidGraph, match="registered twice"):
        ew.elementwise(
            "exp",
            dtypes=(float64,),
            reference=np.exp,
            code="",
            vjp=NONDIFFERENTIABLE,
            samples=(),
        )
    with pytest.raises(TypeError, match="vjp"):
        ew.elementwise("nameless", dtypes=(float64,), reference=np.exp, code="", samples=())


def test_every_node_knows_the_users_line():
    x = gx.input("x", (3,))
    y = gx.exp(x)  # this line
    line = test_every_node_knows_the_users_line.__code__.co_firstlineno + 2
    assert str(y.node.location) == f"test_ir.py:{line}"
    gradient = gx.grad(y.sum(), x)
    assert any(n.location == y.node.location for n in ir.walk([gradient.node]) if n.op is ew.exp)


def test_ten_thousand_chained_gates(capsys):
    x = gx.input("x", ("N",))
    y = x
    for _ in range(5_000):
        y = gx.sin(y) * 1.01
    loss = gx.sum(y)
    gradient = gx.grad(loss, x)
    assert len(gx.dump([loss, gradient]).splitlines()) > 20_000
    value, slope = gx.evaluate([loss, gradient], {x: np.ones(2)})
    assert np.isfinite(value)
    assert slope.shape == (2,)
