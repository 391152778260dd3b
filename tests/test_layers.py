"""The house rules that no other tool knows: who imports whom, where, and how long a file is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy import special

import graphc as gx

PACKAGE = Path(gx.__file__).parent
LONGEST_FILE = 700

# A unit is a module of the package or a sub-package. It may import what stands in a line above its own.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("runtime", "native"),
    ("errors", "lengths", "target"),
    ("types",),
    ("facts", "jit"),
    ("ir",),
    ("dump", "reference"),
    ("verify",),
    ("ops",),
    ("dsl", "nn", "special", "autodiff", "rewrite", "fuse", "codegen"),
    ("derivatives", "extension", "arguments", "store", "structure", "function"),
    ("compile",),
    ("check",),
    ("__init__",),
)

# And what stands in its own line only where this says so: importer and imported.
BESIDE = {
    ("nn", "dsl"),
    ("special", "dsl"),
    # Code is written from what fusion found out: roles of nodes, loops and their chunks, places in memory.
    ("codegen", "fuse.chunks"),
    ("codegen", "fuse.interior"),
    ("codegen", "fuse.singled"),
    ("codegen", "fuse.roles"),
    ("codegen", "fuse.schedule"),
    ("codegen", "fuse.memory"),
    ("function", "arguments"),
    ("function", "store"),
    ("function", "structure"),
}

RANK = {unit: rank for rank, line in enumerate(LAYERS) for unit in line}


def module_name(path: Path) -> str:
    """The name inside the package: ``ops.nn`` for ``graphc/ops/nn.py``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def unit_of(module: str) -> str:
    """The module of the package, or the sub-package, that a module belongs to."""
    return module.split(".")[0]


def imported_modules(module: str, source: str) -> Iterator[str]:
    """The modules of graphc that a module's source imports, by their names inside the package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, "an import from a parent"
            here = f"graphc.{unit_of(module)}." if node.level else ""
            base = f"{here}{node.module or ''}"
            # ``from graphc import dsl`` imports a module, ``from graphc.dsl import Tensor`` a name of one.
            names = [f"{base}.{a.name}" for a in node.names] if base in PACKAGES else [base]
        else:
            continue
        for name in names:
            if name == "graphc" or name.startswith("graphc."):
                yield name.removeprefix("graphc").removeprefix(".")


PACKAGES = {"graphc"} | {f"graphc.{path.parent.name}" for path in PACKAGE.glob("*/__init__.py")}


def is_allowed(importer: str, imported: str) -> bool:
    """Whether the table lets ``importer`` import ``imported``."""
    here, there = unit_of(importer), unit_of(imported)
    if here == there:
        return importer != imported
    if here not in RANK or there not in RANK:
        return False
    beside = (here, there) in BESIDE or (here, imported) in BESIDE
    return RANK[there] < RANK[here] or beside


def wrong_imports(module: str, source: str) -> list[str]:
    """What a module imports against the table."""
    found = imported_modules(module, source)
    return [imported for imported in found if not is_allowed(module, imported)]


def inner_imports(source: str) -> list[int]:
    """The lines of imports inside functions."""
    functions = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    ]
    inner = [node for function in functions for node in ast.walk(function)]
    return sorted({n.lineno for n in inner if isinstance(n, ast.Import | ast.ImportFrom)})


def undocumented(source: str) -> list[str]:
    """Public functions, classes and methods without a docstring, overloads aside.

    A method that takes the place of a documented one of a base class in the same file needs none.
    """
    missing: list[str] = []
    tree = ast.parse(source)
    inherited = {
        method.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for method in node.body
        if isinstance(method, ast.FunctionDef) and ast.get_docstring(method)
    }
    bodies: list[tuple[str, list[ast.stmt]]] = [("", tree.body)]
    derived: set[str] = set()
    while bodies:
        prefix, body = bodies.pop()
        for node in body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            name = f"{prefix}{node.name}"
            overloads = [d for d in node.decorator_list if ast.unparse(d) == "overload"]
            overrides = prefix in derived and node.name in inherited
            if not ast.get_docstring(node) and not overloads and not overrides:
                missing.append(name)
            if isinstance(node, ast.ClassDef):
                derived |= {f"{name}."} if node.bases else set()
                bodies.append((f"{name}.", node.body))
    return sorted(missing)


FILES = sorted(PACKAGE.rglob("*.py"))
every_file = pytest.mark.parametrize("path", FILES, ids=map(module_name, FILES))


@every_file
def test_imports_run_one_way(path: Path) -> None:
    """A module imports only what the table allows."""
    assert unit_of(module_name(path)) in RANK, "say in LAYERS where this module stands"
    assert wrong_imports(module_name(path), path.read_text()) == []


@every_file
def test_no_import_inside_a_function(path: Path) -> None:
    """All imports stand at the top."""
    assert inner_imports(path.read_text()) == []


@every_file
def test_files_are_short(path: Path) -> None:
    """A file that grows too long is two files."""
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


@every_file
def test_public_names_are_documented(path: Path) -> None:
    """Every module, and every public function, class and method in it, has a docstring."""
    source = path.read_text()
    assert ast.get_docstring(ast.parse(source)), "the module has no docstring"
    assert undocumented(source) == []


def test_table_has_no_dead_rows() -> None:
    """Every unit in the table exists."""
    units = {unit_of(module_name(path)) for path in FILES}
    assert set(RANK) == units
    assert {unit_of(name) for pair in BESIDE for name in pair} <= units


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("ir", "from graphc.dsl import Tensor"),
        ("ir", "import graphc.compile"),
        ("ir", "def f():\n    from graphc.compile import compile"),
        ("autodiff", "from graphc.rewrite.gates import gates"),
        ("rewrite.gates", "from graphc import autodiff"),
        ("codegen.gate", "from graphc.fuse.group import fuse"),
        ("codegen.gate", "from graphc.fuse.access import Accesses"),
        ("fuse.memory", "from graphc.codegen.totals import Total"),
        ("jit", "from graphc.codegen.module import ModuleSource"),
        ("jit", "from graphc.store import load"),
        ("native.call", "from graphc.types import float64"),
        ("fuse.group", "from graphc.codegen.gate import gate_source"),
        ("runtime.blas", "from graphc.types import float64"),
        ("check", "import graphc as gx"),
        ("check", "from graphc import grad"),
        ("dsl", "from graphc.nn import relu"),
        ("nowhere", "from graphc.errors import GraphcError"),
    ],
)
def test_checker_catches_a_wrong_import(module: str, source: str) -> None:
    """Negative control: each of these breaks the table."""
    assert wrong_imports(module, source)


def test_checker_lets_right_imports_pass() -> None:
    """Positive control."""
    source = "import numpy\nfrom graphc.fuse.roles import role\nfrom graphc.ir import Node"
    assert wrong_imports("codegen.gate", source) == []


def test_other_checkers_catch_what_they_should() -> None:
    """Negative controls of the rest."""
    assert inner_imports("import os\ndef f():\n    if f:\n        import sys") == [4]
    assert undocumented("class A:\n    'a'\n    def f(self): ...\ndef g(): ...\ndef _h(): ...") == [
        "A.f",
        "g",
    ]


# ---- every public name, used once ---------------------------------------------------------------------

# The same expression with NumPy's and graphc's functions: m is the module.
SAME_AS_NUMPY = {
    "abs": lambda m, x, y, k: m.abs(y),
    "absolute": lambda m, x, y, k: m.absolute(y),
    "add": lambda m, x, y, k: m.add(x, y),
    "all": lambda m, x, y, k: m.all(y > 0),
    "any": lambda m, x, y, k: m.any(y > 0, axis=0),
    "argmax": lambda m, x, y, k: m.argmax(y, axis=1),
    "argmin": lambda m, x, y, k: m.argmin(y),
    "bitwise_and": lambda m, x, y, k: m.bitwise_and(k, 1),
    "bitwise_or": lambda m, x, y, k: m.bitwise_or(k, 4),
    "bitwise_xor": lambda m, x, y, k: m.bitwise_xor(k, 3),
    "broadcast_to": lambda m, x, y, k: m.broadcast_to(x, (4, *x.shape)),
    "ceil": lambda m, x, y, k: m.ceil(y),
    "clip": lambda m, x, y, k: m.clip(y, -0.5, 0.5),
    "concat": lambda m, x, y, k: m.concat([x, y], axis=1),
    "cos": lambda m, x, y, k: m.cos(y),
    "divide": lambda m, x, y, k: m.divide(y, x),
    "dot": lambda m, x, y, k: m.dot(x, y.T),
    "equal": lambda m, x, y, k: m.equal(k, 2),
    "exp": lambda m, x, y, k: m.exp(y),
    "expand_dims": lambda m, x, y, k: m.expand_dims(x, 1),
    "expm1": lambda m, x, y, k: m.expm1(y),
    "floor": lambda m, x, y, k: m.floor(y),
    "floor_divide": lambda m, x, y, k: m.floor_divide(k, 2),
    "greater": lambda m, x, y, k: m.greater(x, y),
    "greater_equal": lambda m, x, y, k: m.greater_equal(k, 1),
    "invert": lambda m, x, y, k: m.invert(k),
    "isnan": lambda m, x, y, k: m.isnan(m.sqrt(m.abs(y))),
    "left_shift": lambda m, x, y, k: m.left_shift(k, 2),
    "less": lambda m, x, y, k: m.less(x, y),
    "less_equal": lambda m, x, y, k: m.less_equal(k, 1),
    "log": lambda m, x, y, k: m.log(x),
    "log1p": lambda m, x, y, k: m.log1p(x),
    "logical_and": lambda m, x, y, k: m.logical_and(y > 0, k),
    "logical_not": lambda m, x, y, k: m.logical_not(k),
    "logical_or": lambda m, x, y, k: m.logical_or(y > 0, k),
    "logical_xor": lambda m, x, y, k: m.logical_xor(y > 0, k),
    "matmul": lambda m, x, y, k: m.matmul(x, y.T),
    "matrix_transpose": lambda m, x, y, k: m.matrix_transpose(x),
    "max": lambda m, x, y, k: m.max(y, axis=0),
    "maximum": lambda m, x, y, k: m.maximum(x, y),
    "mean": lambda m, x, y, k: m.mean(x, axis=1, keepdims=True),
    "min": lambda m, x, y, k: m.min(y),
    "minimum": lambda m, x, y, k: m.minimum(x, y),
    "multiply": lambda m, x, y, k: m.multiply(x, y),
    "negative": lambda m, x, y, k: m.negative(y),
    "not_equal": lambda m, x, y, k: m.not_equal(k, 2),
    "ones_like": lambda m, x, y, k: m.ones_like(x),
    "outer": lambda m, x, y, k: m.outer(x, k),
    "permute_dims": lambda m, x, y, k: m.permute_dims(x, (1, 0)),
    "power": lambda m, x, y, k: m.power(x, y),
    "prod": lambda m, x, y, k: m.prod(x, axis=1),
    "reciprocal": lambda m, x, y, k: m.reciprocal(x),
    "remainder": lambda m, x, y, k: m.remainder(k, 2),
    "ravel": lambda m, x, y, k: m.ravel(x),
    "reshape": lambda m, x, y, k: m.reshape(x, (3, -1)),
    "right_shift": lambda m, x, y, k: m.right_shift(k, 1),
    "round": lambda m, x, y, k: m.round(y, 1),
    "sign": lambda m, x, y, k: m.sign(y),
    "sin": lambda m, x, y, k: m.sin(y),
    "sqrt": lambda m, x, y, k: m.sqrt(x),
    "square": lambda m, x, y, k: m.square(y),
    "squeeze": lambda m, x, y, k: m.squeeze(m.expand_dims(x, 0)),
    "stack": lambda m, x, y, k: m.stack([x, y]),
    "std": lambda m, x, y, k: m.std(x),
    "subtract": lambda m, x, y, k: m.subtract(x, y),
    "sum": lambda m, x, y, k: m.sum(x, axis=0),
    "swapaxes": lambda m, x, y, k: m.swapaxes(x, 0, 1),
    "take": lambda m, x, y, k: m.take(x, k, axis=1),
    "take_along_axis": lambda m, x, y, k: m.take_along_axis(
        x, m.argmax(y, axis=1)[:, None], axis=1
    ),
    "tanh": lambda m, x, y, k: m.tanh(y),
    "transpose": lambda m, x, y, k: m.transpose(x),
    "var": lambda m, x, y, k: m.var(x, axis=1),
    "where": lambda m, x, y, k: m.where(y > 0, x, y),
    "zeros_like": lambda m, x, y, k: m.zeros_like(x),
}

X = np.array([[0.5, 1.5, 2.0], [3.0, 0.25, 1.0]])
Y = np.array([[-1.25, 0.5, 0.0], [2.0, -0.75, 1.0]])
K = np.array([2, 0, 1])

X_INPUT = gx.input("x", ("N", 3))
Y_INPUT = gx.input("y", ("N", 3))
K_INPUT = gx.input("k", (3,), gx.int64)
VALUES = {X_INPUT: X, Y_INPUT: Y, K_INPUT: K}

# What NumPy has not: a use, and what must come out.
OWN = {
    "Function": lambda: isinstance(gx.compile([X_INPUT], X_INPUT + 1), gx.Function),
    "Size": lambda: X_INPUT.shape[0] == gx.Size.named("N"),
    "Tensor": lambda: isinstance(X_INPUT, gx.Tensor),
    "astype": lambda: gx.astype(X_INPUT, gx.float32).dtype == np.float32,
    "bool": lambda: gx.constant(True).dtype == gx.bool,
    "bool_": lambda: gx.bool_ == gx.bool,
    "check_grad": lambda: gx.check_grad(gx.sum(X_INPUT * Y_INPUT), X_INPUT, VALUES) < 1e-9,
    "compile": lambda: gx.compile([X_INPUT], X_INPUT.sum())(X) == X.sum(),
    "constant": lambda: gx.evaluate(gx.constant([1.0, 2.0]), {}).tolist() == [1, 2],
    "dump": lambda: gx.dump(gx.exp(X_INPUT)).startswith("graph f(%x: f64[N,3]) {"),
    "evaluate": lambda: gx.evaluate(X_INPUT.sum(), VALUES) == X.sum(),
    "float32": lambda: gx.input("z", (), gx.float32).dtype == np.float32,
    "float64": lambda: gx.input("z").dtype == gx.float64,
    "grad": lambda: np.all(gx.evaluate(gx.grad(gx.sum(X_INPUT * Y_INPUT), X_INPUT), VALUES) == Y),
    "input": lambda: gx.input("z", 3).shape == (3,),
    "int32": lambda: gx.input("z", (), gx.int32).dtype == np.int32,
    "int64": lambda: K_INPUT.dtype == gx.int64,
    "logsumexp": lambda: np.isclose(
        gx.evaluate(gx.logsumexp(X_INPUT), VALUES), np.log(np.exp(X).sum())
    ),
    "nn": lambda: np.all(gx.evaluate(gx.nn.relu(Y_INPUT), VALUES) == np.maximum(Y, 0)),
    "special": lambda: np.all(gx.evaluate(gx.special.erf(Y_INPUT), VALUES) == special.erf(Y)),
    "rule": lambda: gx.rule("EXACT")(lambda x: (gx.sin(x), gx.cos(x))).text == "sin(x) -> cos(x)",
    "stop_gradient": lambda: np.all(gx.evaluate(gx.stop_gradient(X_INPUT), VALUES) == X),
}

ERRORS = {
    "GradientError": lambda: gx.grad(X_INPUT, X_INPUT),
    "GraphIndexError": lambda: gx.evaluate(gx.take(X_INPUT, 7, axis=1), VALUES),
    "GraphTypeError": lambda: bool(X_INPUT),
    "GraphValueError": lambda: X_INPUT + gx.input("z", (4,)),
    "RewriteError": lambda: gx.compile(
        [X_INPUT],
        gx.sin(X_INPUT),
        rewrites={gx.rule("EXACT")(lambda x: (gx.sin(x), gx.sin(x) * 2)): True},
    ),
    "GraphcError": lambda: gx.compile([X_INPUT], Y_INPUT),
}

# Raised only when graphc itself is wrong; tested with wrong rules elsewhere.
INTERNAL = {"GradientMismatch", "InvalidGraph"}


def test_every_public_name_is_used() -> None:
    """The tables here are complete: a new public name needs a line."""
    # A function may have the name of a module, and hides it: compile, dump.
    public = {
        name
        for name, value in vars(gx).items()
        if not name.startswith("_")
        and not (name in RANK and type(value) is type(np) and name not in ("nn", "special"))
    }
    assert public == {*SAME_AS_NUMPY, *OWN, *ERRORS, *INTERNAL}


@pytest.mark.parametrize("name", SAME_AS_NUMPY)
def test_public_function_is_numpys(name: str) -> None:
    """Value, shape and dtype are NumPy's."""
    use = SAME_AS_NUMPY[name]
    found = gx.evaluate(use(gx, X_INPUT, Y_INPUT, K_INPUT), VALUES)
    expected = np.asarray(use(np, X, Y, K))
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("name", OWN)
def test_own_public_name(name: str) -> None:
    """What is graphc's own does what its line says."""
    assert OWN[name]()


@pytest.mark.parametrize("name", ERRORS)
def test_public_error_is_raised(name: str) -> None:
    """Each class of error has a way to happen."""
    with pytest.raises(getattr(gx, name)):
        ERRORS[name]()


def test_all_functions_compile_together() -> None:
    """One compiled function of every public function gives what NumPy gives."""
    outputs = {name: use(gx, X_INPUT, Y_INPUT, K_INPUT) for name, use in SAME_AS_NUMPY.items()}
    everything = gx.compile([X_INPUT, Y_INPUT, K_INPUT], outputs, name="everything")
    for name, found in everything(X, Y, K).items():
        expected = SAME_AS_NUMPY[name](np, X, Y, K)
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=name)
