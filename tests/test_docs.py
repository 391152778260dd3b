"""The README's commands and words are those that are tested; its examples run as doctests."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

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
