"""What gates may be written in, and that it means in jitted code what it means in Python."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from jitted import FLOATS, NUMBERS, jit

from graphc.runtime import accumulate, kernels, scalar
from graphc.runtime.gate import gate

LIMIT = 3


@gate
def ranges(x, out, n):
    """Every form of a range, none and one iteration among them."""
    for i in range(n):
        out[i] = x[i]
    for i in range(2, n):
        out[i] += 1
    for i in range(0, n, 2):
        out[i] *= 3
    for i in range(n - 1, 1, -1):
        out[i] -= out[i - 1]
    for i in range(n, 0):
        out[i] = 99
    for i in range(0, n, n - 1):
        out[i] += 5
    for i in range(n - 1, -1, 1 - n):
        out[i] += 7


@gate
def written_out(x, out, n):
    """Loops of known ranges inside another: names that change in them, none and one iteration, backwards."""
    for i in range(n):
        total = 0.0
        for k in range(4):
            part = x[i] * k
            total += part
        for k in range(0):
            total += x[k]
        for k in range(5, 1, -2):
            total = total * k - x[i]
        out[i] = total


@gate
def running(x, out, n):
    """Names that change in loops, in branches, and from one loop to the next."""
    total = 0.0
    largest = x[0]
    place = 0
    for i in range(n):
        total += x[i]
        for j in range(i):
            total = total + x[j]
        if x[i] > largest:
            largest = x[i]
            place = i
        else:
            total -= 1
    out[0] = total
    out[1] = largest
    out[2] = place
    for i in range(n):
        value = x[i] * 2
        out[3] = value
    for i in range(n):
        value = x[i] * 4
        out[4] = value


@gate
def logic(x, out, n):
    """Comparisons, alone and in a row, and what is made of them."""
    for i in range(n):
        out[10 * i] = x[i] == 1
        out[10 * i + 1] = x[i] != 1
        out[10 * i + 2] = 0 < x[i] <= 2
        out[10 * i + 3] = x[i] > 0 and x[i] < 2
        out[10 * i + 4] = x[i] < 0 or x[i] > 1 or i == 0
        out[10 * i + 5] = not x[i] >= 2
        out[10 * i + 6] = (x[i] > 0) | (i > 1)
        out[10 * i + 7] = (x[i] > 0) & (i > 1)
        out[10 * i + 8] = True
        out[10 * i + 9] = -x[i] > -(1 + 1)


@gate
def integers(x, out, n):
    """Every operator on integers."""
    for i in range(n):
        out[9 * i] = x[i] + i - 3
        out[9 * i + 1] = x[i] * -7
        out[9 * i + 2] = x[i] // 3
        out[9 * i + 3] = x[i] % 3
        out[9 * i + 4] = ~x[i]
        out[9 * i + 5] = x[i] << 2
        out[9 * i + 6] = x[i] >> 1
        out[9 * i + 7] = x[i] & 6 | 8 ^ 3
        out[9 * i + 8] = +(x[i] ** 2)


@gate
def guarded(x, out, n):
    """What raises an error is not computed where it is not wanted."""
    for i in range(n):
        out[i] = x[kernels.position(i, 2)] if i < 2 and x[kernels.position(i, 2)] > 1 else -1.0


@gate
def outside(x, out, n):
    """Names from around the function, and pairs."""
    out[0] = x[0] + LIMIT
    out[1] = abs(x[0]) + np.sqrt(np.float64(4)) + np.pi
    total, lost = accumulate.carry(1e16, 0.0, 1.0)
    out[2] = accumulate.carried(total, lost)
    out[3] = scalar.select(out[2] > 0, np.float64(0.5), -np.inf)
    out[4] = np.finfo(np.float32).eps
    pass


def results(function, x, count):
    """What a gate writes in Python, and in jitted code."""
    found = []
    for compiled in (lambda f: f, jit):
        out = np.zeros(count, x.dtype)
        compiled(lambda x, out, n: function(x, out, n))(x, out, len(x))
        found.append(out)
    return found


@pytest.mark.parametrize(
    ("function", "dtypes", "count"),
    [
        (ranges, NUMBERS, 6),
        (written_out, (np.float64,), 6),
        (running, FLOATS, 5),
        (logic, NUMBERS, 40),
        (integers, (np.int64,), 36),
        (guarded, FLOATS, 4),
        (outside, (np.float64,), 5),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_jitted_gates_do_what_python_does(function, dtypes, count):
    for dtype in dtypes:
        x = np.array([2, 1, 0, 3], dtype)
        if dtype is np.int64:
            x = x * 5 - 7
        plain, jitted = results(function, x, count)
        np.testing.assert_array_equal(jitted, plain, strict=True)


def refused(function):
    """The message with which a gate is refused when its caller is compiled."""
    with pytest.raises(numba.TypingError) as caught:
        jit(lambda x, out, n: function(x, out, n))(np.ones(3), np.ones(3), 3)
    return str(caught.value)


def test_what_a_loop_assigns_is_unknown_behind_it():
    @gate
    def last(x, out, n):
        for i in range(n):
            value = x[i]
        out[0] = value

    @gate
    def counter(x, out, n):
        for i in range(n):
            out[i] = x[i]
        out[0] = i

    @gate
    def either(x, out, n):
        if n > 2:
            value = 1.0
        else:
            value = 2.0
        out[0] = value

    assert "value has no value here" in refused(last)
    assert "value has no value here" in refused(either)
    assert "i has no value here" in refused(counter)


def test_a_name_has_one_type():
    @gate
    def narrow_first(x, out, n):
        total = 0
        for i in range(n):
            total = total + x[i]
        out[0] = total

    assert "total is int64 and float64" in refused(narrow_first)


REFUSED = {
    "while n > 0:\n        n -= 1": "a gate cannot contain While",
    "for value in x:\n        out[0] = value": "a loop of a gate is over a range",
    "for i in range(n):\n        pass\n    else:\n        out[0] = 1": "else behind a loop",
    "for i in range(0, n, 0):\n        out[i] = x[i]": "the step of a range is not 0",
    "for i in range(x[0]):\n        out[i] = x[i]": "the bounds of a range are integers",
    "out[0] = sum([x[0], x[1]])": "a gate cannot contain List",
    "out[0] = select(True, x=x[0], y=x[1])": "a gate calls known functions, without keywords",
    "out[0] = x.sum()": "has no attribute sum in a gate",
    "out[0] = x is out": "a gate cannot contain Is",
    "out.size = 0": "a gate cannot assign to Attribute",
    "out[0] = missing": "missing has no value here",
    "out[0] = select.missing": "has no attribute missing",
    "first, second = x[0]": "only tuples of values have parts",
}


@pytest.mark.parametrize("text", REFUSED)
def test_the_rest_of_python_is_refused(text, tmp_path):
    path = tmp_path / "program.py"
    path.write_text(f"def function(x, out, n):\n    {text}\n")
    namespace = {"select": scalar.select}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    assert REFUSED[text] in refused(gate(namespace["function"]))


def test_a_gate_without_its_text_is_refused():
    namespace = {}
    exec("def function(x, out, n):\n    out[0] = x[0]", namespace)
    assert "the text of function is not there" in refused(gate(namespace["function"]))


def test_a_step_of_zero_is_an_error():
    @gate
    def count(x, out, n):
        for i in range(0, 3, n):
            out[i] = x[i]

    run = jit(lambda x, out, n: count(x, out, n))
    run(np.ones(3), np.zeros(3), 1)
    for zero_step in (count, run):
        with pytest.raises(ValueError, match=r"range\(\) arg 3 must not be zero"):
            zero_step(np.ones(3), np.zeros(3), 0)


def test_a_call_with_too_few_arguments_is_refused():
    @gate
    def three(x, out, n):
        out[n] = x[n]

    with pytest.raises(numba.TypingError, match="takes 3 arguments, not 2"):
        jit(lambda x, out: three(x, out))(np.ones(3), np.ones(3))


def test_errors_name_the_expression():
    @gate
    def wrong(x, out, n):
        out[0] = 1 + scalar.select(x[0], 1.0, 2.0)

    with pytest.raises(numba.TypingError) as caught:
        jit(lambda x, out, n: wrong(x, out, n))(np.ones(3), np.ones(3), 3)
    assert "in scalar.select(x[0], 1.0, 2.0)" in "".join(caught.value.__notes__)
