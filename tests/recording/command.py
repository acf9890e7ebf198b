"""The command line as a user calls it: here, and in a process that can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.command_line import Run, command_line
from tests.support.network import wait_until


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_PROXY", "*")
    return command_line(capsys, monkeypatch)


class CommandProcess:
    """The command in a process of its own, without a database of Airflow's."""

    def __init__(self, home: Path, connections: Mapping[str, str], *arguments: object) -> None:
        environment = {
            **os.environ,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://nobody@127.0.0.1:1/nothing",
            "NO_PROXY": "*",
            **{f"AIRFLOW_CONN_{name.upper()}": uri for name, uri in connections.items()},
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rollback_budget.cli.main", *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end_when(self, condition: Callable[[], bool], number: int) -> tuple[int, str, str]:
        """Send a signal as soon as ``condition`` holds; returns exit code, output and errors."""

        def is_time() -> bool:
            assert self.process.poll() is None, self.process.communicate()
            return condition()

        wait_until(is_time, within_s=120, what="the moment to end it")
        self.process.send_signal(number)
        return self.end()

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; returns exit code, output and errors."""
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out, err
