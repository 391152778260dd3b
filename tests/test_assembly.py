"""The machine code of every kind of gate has packed instructions: its inner loops are vectorised."""

from __future__ import annotations

import platform
import re

import llvmlite.binding as llvm
import numpy as np
import pytest

import graphc as gx
from graphc.function import interface_of
from graphc.jit import native_library
from graphc.store import load

pytestmark = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64")
    or not llvm.get_host_cpu_features().get("avx2"),
    reason="looks for packed instructions of x86 with AVX2",
)


def library_of(f):
    """The code of a function as LLVM has it."""
    plan = f._plan
    namespace = load(f.name, plan.source.text, {}, cached=False)
    functions = {"run": namespace[plan.source.run], "measure": namespace[plan.source.measure]}
    return native_library("looked_at", functions, interface_of(plan))


def functions_of(f):
    """The assembly of each gate of a function, by the gate's name."""
    text = library_of(f).get_asm_str()
    parts = re.split(r"^(?!\.)(\S+):\s*(?:#.*)?$", text, flags=re.M)
    named = zip(parts[1::2], parts[2::2], strict=True)
    return {name: body for name, body in named if "gate_" in name}


def packed(f, *instructions):
    """How many packed instructions of each kind the gates of a function have in wide registers."""
    text = "\n".join(functions_of(f).values())
    return {
        name: len(re.findall(rf"\bv(?:{name})\w*\s[^\n]*%[yz]mm", text)) for name in instructions
    }


def elementwise(dtype):
    x, y = gx.input("x", ("N",), dtype), gx.input("y", ("N",), dtype)
    return [x, y], [x * y + gx.maximum(x, y)], ("mul|fmadd", "max|cmp")


def flat(dtype):
    x, y = gx.input("x", ("N", "M"), dtype), gx.input("y", ("N", "M"), dtype)
    return [x, y], [x * y - 2], ("mul|fmadd|fmsub",)


def vector_functions(dtype):
    x = gx.input("x", ("N",), dtype)
    functions = [gx.exp, gx.log, gx.tanh, gx.nn.sigmoid, gx.nn.softplus, gx.special.erf]
    return [x], [function(x) for function in functions], ("fmadd|mul", "div")


def total(dtype):
    x = gx.input("x", ("N",), dtype)
    return [x], [gx.sum(x * x), gx.max(x)], ("add|fmadd", "max|cmp|range")


def columns(dtype):
    x = gx.input("x", ("N", 64), dtype)
    return [x], [gx.sum(gx.abs(x), axis=0)], ("add",)


def softmax(dtype):
    x = gx.input("x", ("N", "M"), dtype)
    return [x], [gx.nn.softmax(x, axis=1)], ("fmadd|mul", "sub", "max|cmp|range")


def cross_entropy(dtype):
    x, y = gx.input("x", ("N", "M"), dtype), gx.input("y", ("N",), gx.int64)
    loss = gx.mean(gx.nn.softmax_cross_entropy(x, y))
    return [x, y], [loss, gx.grad(loss, x)], ("fmadd|mul", "sub")


def layer_norm(dtype):
    x, gain = gx.input("x", ("N", 64), dtype), gx.input("gain", (64,), dtype)
    loss = gx.sum(gx.tanh(gx.nn.layer_norm(x) * gain))
    return [x, gain], [loss, *gx.grad(loss, [x, gain])], ("fmadd|mul", "add", "sub")


def extreme_index(dtype):
    x = gx.input("x", ("N", "M"), dtype)
    return [x], [gx.argmax(x, axis=1)], ("cmp",)


def product_with_a_vector(dtype):
    a, x = gx.input("a", ("N", "M"), dtype), gx.input("x", ("M",), dtype)
    loss = gx.sum(gx.tanh(a @ x))
    return [a, x], [loss, *gx.grad(loss, [a, x])], ("fmadd|mul",)


def distances(dtype):
    x, y = gx.input("x", ("N", 8), dtype), gx.input("y", ("K", 8), dtype)
    squares = gx.sum((gx.expand_dims(x, 1) - y) ** 2, axis=-1)
    return [x, y], [gx.sum(gx.min(squares, axis=1))], ("sub", "mul|fmadd", "min|cmp|range")


def gradients_of_distances(dtype):
    x, y = gx.input("x", ("N", 8), dtype), gx.input("y", ("K", 8), dtype)
    distances = gx.sum(gx.abs(gx.expand_dims(x, 1) - y), axis=-1)
    return [x, y], gx.grad(gx.sum(gx.exp(-distances)), [x, y]), ("sub", "fmadd|fnmadd", "cmp")


def energies(dtype):
    x = gx.input("x", ("N", 3), dtype)
    energy = gx.sum(1 / gx.sqrt(gx.sum((gx.expand_dims(x, 1) - x) ** 2, axis=-1) + 1))
    return [x], [energy, gx.grad(energy, x)], ("sqrt|rsqrt", "div|rcp|fnmadd|fmadd")


def kernel_sums(dtype):
    x, a = gx.input("x", ("N", 2), dtype), gx.input("a", ("N",), dtype)
    roots = gx.sqrt(gx.sum((gx.expand_dims(x, 1) - x) ** 2, axis=-1))
    return [x, a], [gx.sum(roots * a, axis=1)], ("sqrt|rsqrt",)


def neighbours(dtype):
    x = gx.input("x", ("N",), dtype)
    loss = gx.sum((x[1:] - x[:-1] ** 2) ** 2)
    return [x], [gx.grad(loss, x)], ("sub|fnmadd|fmsub", "mul|fmadd")


def windows(dtype):
    x, w = gx.input("x", ("N",), dtype), gx.input("w", (5,), dtype)
    count = x.shape[0] - 4
    y = sum((w[k] * x[k : count + k] for k in range(1, 5)), w[0] * x[:count])
    return [x, w], [gx.grad(gx.sum(gx.tanh(y)), x)], ("mul|fmadd",)


GATES = [
    elementwise,
    flat,
    vector_functions,
    total,
    columns,
    softmax,
    cross_entropy,
    layer_norm,
    extreme_index,
    product_with_a_vector,
    distances,
    gradients_of_distances,
    energies,
    kernel_sums,
    neighbours,
    windows,
]


@pytest.mark.parametrize("dtype", [gx.float32, gx.float64])
@pytest.mark.parametrize("gate", GATES)
def test_inner_loops_are_vectorised(gate, dtype):
    inputs, outputs, instructions = gate(dtype)
    f = gx.compile(inputs, outputs, name=gate.__name__, cache=False)
    counts = packed(f, *instructions)
    assert all(counts.values()), counts


def test_a_loop_that_cannot_be_vectorised_is_told_apart():
    x = gx.input("x", ("N",))
    slow = gx.compile([x], gx.remainder(x, 0.7), cache=False)
    assert not any(packed(slow, "mul", "fmadd").values())


@pytest.mark.parametrize("gate", [neighbours, windows])
def test_reads_at_shifted_places_are_not_masked(gate):
    inputs, outputs, _ = gate(gx.float64)
    text = "\n".join(functions_of(gx.compile(inputs, outputs, cache=False)).values())
    assert not re.search(r"maskmov|vmovup[sd]\s[^\n]*\{%k", text)


def test_gates_do_not_check_whether_buffers_overlap():
    x, y = gx.input("x", ("N",)), gx.input("y", ("N",))
    f = gx.compile([x, y], x * y + x, cache=False)
    assert "vector.memcheck" not in library_of(f).get_llvm_str()


def test_rows_are_as_numpy_computes_them():
    """What was looked at is what runs."""
    x = np.random.default_rng(0).normal(size=(5, 33))
    inputs, outputs, _ = softmax(gx.float64)
    expected = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    np.testing.assert_allclose(gx.compile(inputs, outputs, cache=False)(x)[0], expected, 1e-14)
