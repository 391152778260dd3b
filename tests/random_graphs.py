"""Random graphs as short programs: what a test builds and what it prints on failure is one text.

Every value stays within a few units, kinks and jumps are moved away from the values where exact ties
are likely, and what divides or is raised to a power is bounded away from 0. So rounding errors stay small.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from helpers import TOLERANCE, differs, largest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import graphc as gx
from graphc import reference
from graphc.dsl import Tensor
from graphc.ir import Graph
from graphc.types import Size, evaluate_size, is_float, product

MOST_STEPS = 12
MOST_ELEMENTS = 400
LARGEST_SIZE = 5
SIZES = ({"N": 3, "M": 2}, {"N": 1, "M": LARGEST_SIZE}, {"N": 0, "M": 2})

# {x}, {y}, {z} are floats, {i}, {j} integers, {b}, {c} bools; {r} is a float input of the shape of {x}.
ELEMENTWISE = (
    "gx.tanh({x})",
    "gx.sin({x})",
    "gx.cos({x})",
    "gx.exp({x} * 0.3)",
    "gx.expm1({x} * 0.3)",
    "gx.log({x} * {x} + 0.5)",
    "gx.log1p(gx.square({x}))",
    "gx.sqrt({x} * {x} + 0.25)",
    "gx.square({x}) * 0.3",
    "gx.reciprocal({x} * {x} + 0.5)",
    "1 / (1 + gx.exp(-{x}))",
    "gx.negative({x})",
    "+{x}",
    "abs({x} - 0.217)",
    "gx.nn.relu({x} + 0.173)",
    "gx.nn.leaky_relu({x} - 0.371, 0.2)",
    "gx.nn.elu({x} + 0.119)",
    "gx.nn.sigmoid({x})",
    "gx.nn.softplus({x}) - 0.5",
    "gx.clip({x}, -1.237, 1.451)",
    "gx.stop_gradient({x})",
    "{x} ** 2 * 0.3",
    "{x} ** 3 * 0.05",
    "({x} + 0.211) % 1.3",
    "({x} + 0.211) // 1.3",
    "gx.sign({x} - 0.143) + {x}",
    "gx.floor({x} + 0.317)",
    "gx.ceil({x} + 0.291)",
    "gx.round({x} + 0.183)",
    "gx.round({x} + 0.0123, 1)",
    "({x} + {y}) * 0.5",
    "({x} - {y}) * 0.5",
    "{x} * {y} * 0.3",
    "{x} / ({y} * {y} + 0.7)",
    "(gx.square({x}) + 0.5) ** gx.tanh({y}) * 0.3",
    "gx.maximum({x}, {y} + 0.137)",
    "gx.minimum({x} - 0.159, {y})",
    "gx.nn.maxout({x}, {y} + 0.133, 0.5 * {z} - 0.177)",
    "gx.where({b}, {x}, {y})",
    "gx.where({x} > 0.337, {y}, {z})",
    "gx.where({x} > 0.237, gx.log(gx.maximum({x}, 0.1)), {y})",
    "{x} * gx.constant(np.array([0.5, -1.0, 0.75], '{dtype}'))",
    "gx.zeros_like({x}) + {y}",
    "gx.ones_like({x}) * {y}",
    "gx.astype(gx.tanh(gx.astype({i}, gx.float64) * 0.1), '{dtype}') + {x} * 0.5",
    "gx.astype({b}, '{dtype}') - {x} * 0.5",
)
CASTS_OF_FLOAT32 = ("gx.astype(gx.sin(gx.astype({x}, gx.float64)), gx.float32)",)
INTEGERS = (
    "{i} + {j}",
    "{i} - {j}",
    "{i} * {j}",
    "{i} // ({j} % 4 + 1)",
    "{i} % 5",
    "{i} // 0 + {j}",
    "{i} % gx.sign({j})",
    "-{i}",
    "abs({i})",
    "gx.sign({i})",
    "gx.square({i})",
    "(abs({i}) % 4) ** 3",
    "{i} & {j}",
    "{i} | 6",
    "{i} ^ {j}",
    "~{i}",
    "{i} << (abs({j}) % 3)",
    "{i} >> 1",
    "gx.maximum({i}, {j})",
    "gx.minimum({i}, {j})",
    "gx.nn.relu({i})",
    "gx.where({b}, {i}, {j})",
    "gx.astype({i}, gx.int32)",
    "gx.astype({b}, gx.int64) - {i}",
    "gx.astype(gx.floor({x} * 2 + 0.317), gx.int64)",
    "gx.sum({i}, {axis})",
    "gx.prod({i}, {axis})",
    "gx.max({i}, {axis})",
    "gx.min({i}, {axis})",
    "gx.argmax({x} + 2 * {r}, {one_axis})",
    "gx.argmin({x} + 2 * {r}, {one_axis})",
    "gx.argmax({i}, {one_axis})",
    "gx.sum({b}, {axis})",
)
BOOLS = (
    "{x} > 0.137",
    "{x} <= -0.271",
    "{i} < {j}",
    "{i} >= 1",
    "{i} == {j}",
    "{i} != 2",
    "{b} & {c}",
    "{b} | {c}",
    "{b} ^ {c}",
    "~{b}",
    "gx.logical_and({b}, {i})",
    "gx.logical_or({b}, {i})",
    "gx.logical_xor({b}, {i})",
    "gx.logical_not({i})",
    "gx.isnan({x})",
    "gx.any({b}, {axis})",
    "gx.all({b}, {axis})",
    "gx.max({b}, {axis})",
)
REDUCTIONS = (
    "gx.tanh(gx.sum({x}, {axis}))",
    "gx.mean({x}, {axis}, keepdims=True)",
    "gx.mean({x}, {axis})",
    "gx.prod(gx.tanh({x}), {axis})",
    "gx.max({x} + 2 * {r}, {axis}) * 0.3",
    "gx.min({x} - 2 * {r}, {axis}) * 0.3",
    "gx.var({x}, {axis}) * 0.3",
    "gx.std({x} * 0.2 + {r}, {axis}, keepdims=True)",
    "gx.logsumexp({x}, {axis}) - 1",
    "gx.nn.softmax({x}, {axis})",
    "gx.nn.log_softmax({x}, {axis}) * 0.3",
    "gx.nn.mse({x}, {y}) * 0.2",
    "gx.nn.softmax_cross_entropy({x}, {labels}) * 0.3",
    "gx.nn.hinge_loss({x}, {labels}, 1.037) * 0.1",
)
SHAPES = (
    "gx.reshape({x}, -1)",
    "gx.reshape({x}, {x}.shape[::-1])",
    "{x}.T",
    "gx.permute_dims({x}, {order})",
    "gx.swapaxes({x}, 0, -1)",
    "gx.expand_dims({x}, {one_axis})",
    "gx.squeeze(gx.expand_dims({x}, -1), -1)",
    "gx.squeeze({x})",
    "gx.matrix_transpose({x})",
    "gx.broadcast_to({x}, (2, *{x}.shape))",
    "gx.concat([{x}, {y}], {one_axis})",
    "gx.concat([{x}, {x}[:1], {x} * 0.5], 0)",
    "gx.stack([{x}, {y}, {x}], {one_axis})",
    "{x}[::-1]",
    "{x}[..., ::2]",
    "{x}[1:]",
    "{x}[:1]",
    "{x}[-1]",
    "{x}[..., 0]",
    "{x}[None, ..., ::-1]",
    "gx.take({x}, {i} % {x}.shape[{one_axis}], {one_axis})",
    "gx.take({x}, gx.constant([0, -1, 0]), {one_axis})",
)
PRODUCTS = (
    "gx.tanh({x} @ {y} * 0.4)",
    "gx.tanh({x} @ gx.swapaxes({y}, -1, -2) * 0.4)",
    "gx.tanh(gx.swapaxes({x}, -1, -2) @ {y} * 0.4)",
    "gx.tanh({x}.T @ {x})",
    "gx.tanh(gx.dot({x}, {y}) * 0.4)",
    "gx.outer({x}, {y}) * 0.3",
    "gx.astype(gx.matmul({i}, {j}) % 7, '{dtype}') * 0.3",
)


def kinds_for(dtype: np.dtype) -> tuple[tuple[str, ...], ...]:
    """The tables of steps from which a graph of ``dtype`` is made."""
    casts = CASTS_OF_FLOAT32 if dtype == np.float32 else ()
    return (ELEMENTWISE, ELEMENTWISE, INTEGERS, BOOLS, REDUCTIONS, SHAPES + casts, PRODUCTS)


_HEAD = "import numpy as np\n\nimport graphc as gx\n\n"
_COMPARE = """
arrays = [
{arrays}
]
function = gx.compile(inputs, results, cache=False)
wanted = gx.evaluate(results, dict(zip(inputs, arrays)))
for name, found, value in zip(names, function(*arrays), wanted):
    np.testing.assert_allclose(found, value, rtol=0, atol={atol!r}, err_msg=name)
print("equal")
"""


@dataclass(frozen=True)
class Program:
    """The text that declares inputs and builds ``results``: some values and all gradients."""

    text: str
    dtype: np.dtype

    def build(self) -> tuple[list[Tensor], list[Tensor]]:
        """Fresh inputs and results."""
        space: dict[str, Any] = {}
        exec(_HEAD + self.text, space)
        return space["inputs"], space["results"]

    def graph(self) -> Graph:
        """The declared graph of fresh inputs and results."""
        inputs, results = self.build()
        return Graph("f", tuple(t.node for t in inputs), tuple(t.node for t in results))

    def arrays(self, inputs: list[Tensor], sizes: dict[str, int], seed: int) -> list[np.ndarray]:
        """Values for the inputs."""
        rng = np.random.default_rng(seed)
        found = []
        for tensor in inputs:
            shape = [evaluate_size(size, sizes) for size in tensor.shape]
            if is_float(tensor.dtype):
                found.append(rng.uniform(-1.5, 1.5, shape).astype(tensor.dtype))
            else:
                low, high = (0, 2) if tensor.dtype.kind == "b" else (-4, 5)
                found.append(rng.integers(low, high, shape).astype(tensor.dtype))
        return [np.asarray(array) for array in found]

    def standalone(self, arrays: list[np.ndarray], atol: float) -> str:
        """A program that repeats the comparison, with the arrays written out."""
        written = (
            f"    np.array({a.ravel().tolist()!r}, {a.dtype.name!r}).reshape({a.shape!r}),"
            for a in arrays
        )
        compare = _COMPARE.format(arrays="\n".join(written), atol=atol)
        return f"{_HEAD}nan, inf = np.nan, np.inf\n{self.text}{compare}"


def allowed_error(program: Program, graph: Graph, arrays: list[np.ndarray]) -> float:
    """What rounding may cost in a graph of ``program``."""
    return rounding_error(program.dtype, graph, arrays)


def rounding_error(dtype: np.dtype, graph: Graph, arrays: list[np.ndarray]) -> float:
    """What rounding may cost: the dtype's tolerance times the largest value anywhere in the graph."""
    values = reference.evaluate_all(graph, arrays).values()
    return TOLERANCE[dtype] * max(1.0, largest(*values))


# Comparing.


def outcome(graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray] | type:
    """The results by the reference, or the kind of error that it raises."""
    try:
        return reference.evaluate(graph, arrays)
    except gx.GraphcError as error:
        return type(error)


def is_mean_of_nothing(graph: Graph, arrays: Sequence[np.ndarray]) -> bool:
    """Whether an empty axis makes a nan: what integers become of it is not defined."""
    if not any(0 in array.shape for array in arrays):
        return False
    found = reference.evaluate_all(graph, arrays).values()
    return any(np.any(value != value) for value in found)


def compare(
    name: str, found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], atol: float
) -> str:
    """Empty if both lists agree."""
    for k, (a, b) in enumerate(zip(found, wanted, strict=True)):
        problem = differs(a, b, scale=1.0, rtol=atol) if is_float(b.dtype) else differs(a, b)
        if problem:
            return f"{name}: result {k}: {problem}"
    return ""


# Drawing.


class _Writer:
    """Writes one program line by line; every choice is a number that the test framework draws."""

    def __init__(self, number: Callable[[int], int], dtype: np.dtype) -> None:
        self.number, self.dtype = number, dtype
        self.space: dict[str, Any] = {"gx": gx, "np": np}
        self.names: list[str] = []
        self.expressions: dict[str, str] = {}
        self.used: set[str] = set()

    def choose(self, items: Any) -> Any:
        return items[self.number(len(items))]

    def write(self, name: str, expression: str) -> None:
        exec(f"{name} = {expression}", self.space)
        self.expressions[name] = expression
        self.names.append(name)

    def inputs(self) -> None:
        shapes = [("N",), ("N", "M"), ("M", 3), ("N", "M", 3), (), (3,), ("N", 1)]
        for name, kind in (("x", self.dtype.name), ("i", "int64"), ("b", "bool")):
            # One float input of each shape that others have, for the values that must not tie.
            for k, shape in enumerate(shapes[: 5 if name == "x" else 3]):
                self.write(f"{name}{k}", f"gx.input('{name}{k}', {shape!r}, '{kind}')")
        self.declared = list(self.names)

    def of_kind(self, kinds: str, like: Tensor | None = None) -> list[str]:
        def fits(name: str) -> bool:
            value = self.space[name]
            return value.dtype.kind in kinds and (like is None or _broadcasts(value, like))

        return [name for name in self.names if fits(name)]

    def step(self, template: str | None = None) -> bool:
        """Writes one more value; False if what was drawn does not fit together."""
        expression = self.filled(template or self.choose(self.choose(kinds_for(self.dtype))))
        if expression is None:
            return False
        try:
            value = eval(expression, self.space)
        except (gx.GraphValueError, gx.GraphTypeError, gx.GraphIndexError):
            return False
        sizes = {"N": LARGEST_SIZE, "M": LARGEST_SIZE}
        fits = value.ndim <= 4 and evaluate_size(product(value.shape), sizes) <= MOST_ELEMENTS
        if fits:
            self.write(f"v{len(self.names) - len(self.declared)}", expression)
        return fits

    def filled(self, template: str) -> str | None:
        """The template with operands in its places; None if there are none that fit."""
        first = next((k for k in ("{x}", "{i}", "{b}") if k in template), "{x}")
        kinds = {"{x}": "f", "{i}": "i", "{b}": "b"}
        lead = self.choose(self.of_kind(kinds[first])[::-1])
        value = self.space[lead]
        places = {first[1]: lead}
        like = None if template in PRODUCTS else value
        for letter, kind in (
            ("y", "f"),
            ("z", "f"),
            ("i", "i"),
            ("j", "i"),
            ("b", "b"),
            ("c", "b"),
        ):
            if f"{{{letter}}}" in template and letter not in places:
                candidates = self.of_kind(kind, None if template.startswith("gx.take") else like)[
                    ::-1
                ]
                if template.startswith(("gx.concat", "gx.stack")):
                    candidates = [n for n in candidates if self.space[n].shape == value.shape]
                if not candidates:
                    return None
                places[letter] = self.choose(candidates)
        same = [n for n in self.declared if n[0] == "x" and self.space[n].shape == value.shape]
        if ("{r}" in template and not same) or (value.ndim == 0 and "axis}" in template):
            return None
        self.used |= set(places.values())
        axes = range(value.ndim)
        options = {
            "dtype": self.dtype.name,
            "r": same[0] if same else "",
            "axis": self.choose(
                [None, *axes, *([tuple(axes)[:2], tuple(axes)[-2:]] * (value.ndim > 1))]
            )
            if "{axis}" in template
            else "",
            "one_axis": self.choose(axes) if "{one_axis}" in template else "",
            "order": list(np.roll(axes, 1)) if value.ndim else [],
            "labels": self.labels(value) if "{labels}" in template else "",
        }
        options["order"] = [int(a) for a in options["order"]]
        if options["labels"] is None:
            return None
        return template.format(**places, **options)

    def labels(self, value: Tensor) -> str | None:
        fitting = [n for n in self.of_kind("i") if self.space[n].shape == value.shape[:-1]]
        return f"{self.choose(fitting)} % {value.shape[-1]}" if fitting and _is_int(value) else None

    def program(self) -> Program:
        made = [name for name in self.names if name not in self.declared]
        outputs = [name for name in made if name not in self.used] or ["x0"]
        floats = [name for name in outputs if self.space[name].dtype == self.dtype]
        terms = [f"gx.sum({v} * ({v} * 0.5 + {0.7 + 0.2 * k:.1f}))" for k, v in enumerate(floats)]
        steps = "\n".join(self.expressions[name] for name in made)
        needed = [n for n in self.declared if n == "x0" or re.search(rf"\b{n}\b", steps)]
        wrt = [name for name in needed if name[0] == "x"]
        lines = [
            *(f"{name} = {self.expressions[name]}" for name in needed),
            *(f"{name} = {self.expressions[name]}" for name in made),
            f"inputs = [{', '.join(needed)}]",
            f"wrt = [{', '.join(wrt)}]",
            f"loss = {' + '.join(terms) or 'gx.sum(x0)'}",
            f"results = [{', '.join(outputs)}, *gx.grad(loss, wrt)]",
            f"names = {[*outputs, *('gradient of ' + n for n in wrt)]!r}",
        ]
        return Program("\n".join(lines) + "\n", self.dtype)


def _is_int(value: Tensor) -> bool:
    return value.ndim > 0 and isinstance(value.shape[-1], int) and value.shape[-1] > 0


def _broadcasts(value: Tensor, like: Tensor) -> bool:
    pairs = zip(value.shape[::-1], like.shape[::-1], strict=False)
    return all(a == b or (not isinstance(a, Size) and a == 1) or b == 1 for a, b in pairs)


@st.composite
def programs(draw: Any, dtype: np.dtype) -> Program:
    """Programs of up to `MOST_STEPS` steps on float, integer and bool inputs with named sizes."""
    writer = _Writer(lambda n: draw(st.integers(0, n - 1)), dtype)
    writer.inputs()
    for _ in range(draw(st.integers(1, MOST_STEPS))):
        # Operands whose shapes do not fit make no step: another try makes it likely.
        any(writer.step() for _ in range(4))
    return writer.program()


def covering_programs(dtype: np.dtype) -> list[Program]:
    """Programs that together take every step of the tables at least once."""
    templates = [step for kind in dict.fromkeys(kinds_for(dtype)) for step in kind]
    number = random.Random(0).randrange
    found = []
    for start in range(0, len(templates), MOST_STEPS):
        writer = _Writer(number, dtype)
        writer.inputs()
        for template in templates[start : start + MOST_STEPS]:
            assert any(writer.step(template) for _ in range(1000)), template
        found.append(writer.program())
    return found


quietly = settings(
    phases=[Phase.generate, Phase.shrink],
    deadline=None,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


def for_programs(
    check: Callable[[Program], None], dtype: np.dtype, examples: int, number: int
) -> None:
    """Calls ``check`` with as many programs as ``examples``; every ``number`` has programs of its own."""

    @seed(number)
    @settings(quietly, derandomize=False, max_examples=examples)
    @given(programs(dtype))
    def run_one(program: Program) -> None:
        check(program)

    run_one()
