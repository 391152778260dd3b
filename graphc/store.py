"""Generated modules and their machine code as files, named by a hash of all that they depend on."""

from __future__ import annotations

import hashlib
import linecache
import os
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numba

from graphc import jit, lengths, runtime, target
from graphc.target import codegen

VARIABLE = "GRAPHC_CACHE_DIR"
"""The environment variable that names another folder for generated modules."""

_COMPILER = (jit.__file__, lengths.__file__, target.__file__)


@cache
def _fingerprint() -> bytes:
    """What compiled code depends on besides its own text: what compiles it, and the processor."""
    processor = codegen().magic_tuple()
    digest = hashlib.sha256(repr((numba.__version__, processor)).encode())
    for path in (*sorted(Path(runtime.__path__[0]).glob("*.py")), *map(Path, _COMPILER)):
        digest.update(path.read_bytes())
    return digest.digest()


def stem_of(name: str, text: str) -> str:
    """The name, without an ending, of the files of a generated module."""
    return f"{name}_{hashlib.sha256(_fingerprint() + text.encode()).hexdigest()[:20]}"


@cache
def _private_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="graphc-"))


def folder() -> Path:
    """Where generated modules are kept: ``$GRAPHC_CACHE_DIR``, or graphc's folder in the user's cache.

    A folder that lasts as long as the process serves where neither can be written.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    wanted = Path(os.environ.get(VARIABLE) or os.path.join(base, "graphc"))
    try:
        wanted.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return _private_folder()
    return wanted if os.access(wanted, os.W_OK) else _private_folder()


def load(name: str, text: str, given: Mapping[str, Any], *, cached: bool) -> dict[str, Any]:
    """Runs a generated module, in which the values ``given`` are there already; returns its namespace.

    With ``cached`` it is written to a file first, once for every content; otherwise it stays in memory,
    where tracebacks and debuggers find it too.
    """
    stem = stem_of(name, text)
    module = ModuleType(f"graphc_generated_{stem}")
    vars(module).update(given)
    if cached:
        path = folder() / f"{stem}.py"
        _write_once(path, text)
        module.__file__ = str(path)
        # Numba imports a module by its name when it loads the machine code of its functions.
        sys.modules[module.__name__] = module
    else:
        module.__file__ = f"<graphc {stem}>"
        lines = text.splitlines(keepends=True)
        linecache.cache[module.__file__] = (len(text), None, lines, module.__file__)
    exec(compile(text, module.__file__, "exec"), module.__dict__)
    return module.__dict__


def read_code(name: str) -> bytes | None:
    """The machine code that was kept in the file ``name``; None if there is none, or not all of it."""
    try:
        data = (folder() / name).read_bytes()
    except OSError:
        return None
    digest, code = data[:_DIGEST], data[_DIGEST:]
    return code if hashlib.sha256(code).digest() == digest else None


def write_code(name: str, code: bytes) -> None:
    """Keeps machine code in the file ``name``."""
    _write(folder() / name, hashlib.sha256(code).digest() + code)


_DIGEST = hashlib.sha256().digest_size


def _write_once(path: Path, text: str) -> None:
    content = text.encode("utf-8")
    if not (path.exists() and path.read_bytes() == content):
        _write(path, content)


def _write(path: Path, content: bytes) -> None:
    # Several processes may write at once: each replaces the file as a whole.
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
        file.write(content)
    os.replace(file.name, path)
