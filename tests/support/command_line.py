"""The command line as a user calls it, in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from rollback_budget.cli.main import main


class Outcome(NamedTuple):
    """What a command leaves: its exit code, its standard output and its standard error."""

    code: object
    out: str
    err: str


#: Runs ``rollback-budget`` with these arguments.
Run = Callable[..., Outcome]


def command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what runs a command in this process."""

    def run_command(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["rollback-budget", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capsys.readouterr()
        return Outcome(exited.value.code, captured.out, captured.err)

    return run_command
