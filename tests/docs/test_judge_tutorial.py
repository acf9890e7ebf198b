"""The tutorial about a judge runs as it is written, and prints what it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.airflow

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "llm-judge.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"Write this into `([^`]+)`:\s*\Z")


class Command(NamedTuple):
    """What a reader types, and what the page says that it prints."""

    typed: str
    shown: str


def commands(folder: Path) -> Iterator[Command]:
    """Yield the commands of the page in its order; files are written when their turn comes."""
    text = PAGE.read_text(encoding="utf-8")
    for block in _BLOCK.finditer(text):
        named = _FILE.search(text[: block.start()])
        if named is not None:
            path = folder / named[1]
            path.write_text(block[2], encoding="utf-8")
            continue
        for part in re.split(r"^\$ ", block[2], flags=re.MULTILINE)[1:]:
            typed, _, shown = part.partition("\n")
            yield Command(typed, shown)


def pattern_of(shown: str) -> str:
    """Return what the output must match; a line of … stands for any lines."""
    return re.escape(shown).replace(re.escape("…\n"), r"(?:.*\n)*")


def test_the_tutorial_about_a_judge_prints_what_it_shows(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "PYTHONPATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    shell = subprocess.Popen(
        ["bash", "--norc"],
        cwd=tmp_path,
        env={**environment, "NO_COLOR": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    assert shell.stdin is not None
    assert shell.stdout is not None
    ran = 0
    with shell:
        for command in commands(tmp_path):
            shell.stdin.write(f"{command.typed}\necho; echo '@@ done'\n")
            shell.stdin.flush()
            lines = list(iter(shell.stdout.readline, "@@ done\n"))
            printed = "".join(lines).removesuffix("\n")
            assert re.fullmatch(pattern_of(command.shown), printed), f"$ {command.typed}\n{printed}"
            ran += 1
        shell.stdin.close()
    assert ran > 20
