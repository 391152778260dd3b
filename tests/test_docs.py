"""The README's commands and words are those that are tested; its examples run as doctests.

Pages made from tables and programs are compared with what these give now; `pages` says how to write
them anew.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pages
import pytest
from helpers import UPDATE, same_as_file

import graphc as gx
from graphc.compile import declared_graph
from graphc.rewrite.tables import JOINT, RULES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def commands() -> list[str]:
    """The README's shell blocks of one line."""
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", README, flags=re.DOTALL)
    return [block.strip() for block in blocks]


def test_continuous_integration_runs_the_readmes_command() -> None:
    """The line that passes the tests stands in .ci/run, letter by letter."""
    (command,) = (line for line in commands() if line.endswith("-m pytest"))
    script = ROOT / ".ci" / "run"
    assert command in script.read_text().splitlines()
    assert os.access(script, os.X_OK)


def test_commands_set_up_everything() -> None:
    """Each command makes its environment and names extras and files that exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(commands()) == 2
    for command in commands():
        assert command.startswith("python3.11 -m venv .venv && .venv/bin/pip install ")
        assert set(re.findall(r"\.\[(\w+)\]", command)) <= set(project["optional-dependencies"])
        assert all((ROOT / path).exists() for path in re.findall(r"[\w/]+\.py", command))


def test_linked_files_exist() -> None:
    """Every relative link leads somewhere."""
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_page_of_rewrites_is_current() -> None:
    """It says what the tables say, every rule once."""
    page = pages.rewrites_page()
    same_as_file(ROOT / "docs" / "rewrites.md", page)
    named = re.findall(r"^\| `(\w+)` \| [A-Z_]+ \| ", page, flags=re.MULTILINE)
    assert sorted(named) == sorted(rule.name for rule in (*RULES, *JOINT))


@pytest.mark.parametrize("k", [0, len(RULES) // 2, len(RULES) - 1])
def test_changed_rule_is_noticed(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever rule it is: in words, or by its absence."""
    monkeypatch.delenv(UPDATE, raising=False)
    changed = replace(RULES[k], text=RULES[k].text + "!")
    for rules in ((*RULES[:k], changed, *RULES[k + 1 :]), (*RULES[:k], *RULES[k + 1 :])):
        with pytest.raises(AssertionError, match=UPDATE):
            same_as_file(ROOT / "docs" / "rewrites.md", pages.rewrites_page(rules))


def test_page_of_the_gallery_is_current() -> None:
    """Its numbers are those that the programs have now."""
    same_as_file(ROOT / "docs" / "gallery.md", pages.gallery_page())


def test_page_of_stability_is_current() -> None:
    """Its values are those that graphc and NumPy compute now."""
    same_as_file(ROOT / "docs" / "stability.md", pages.stability_page())


def test_operations_are_counted() -> None:
    """No inputs, constants, sizes, and no selections of results; a gate is one."""
    x = gx.input("x", ("N",))
    y = 2 * gx.exp(x) / x.shape[0]
    counted = [node.op.name for node in pages.operations(declared_graph([x], [y], "f"))]
    assert sorted(counted) == ["broadcast_to", "divide", "exp", "multiply"]
    adam = pages.at_gates(pages.program_graph("adam_step"))
    assert pages.gates_of(adam) == {"adam": 1, "matmul": 2, "mse": 1, "mse_gradient": 1}
