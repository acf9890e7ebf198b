"""Evaluation tools that exports are read back with, each in its own environment; none telephones home."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.counterparts import installed

#: Every switch that keeps these tools from sending anything or asking for updates.
SILENT = {
    "DEEPEVAL_TELEMETRY_OPT_OUT": "YES",
    "DEEPEVAL_UPDATE_WARNING_OPT_IN": "NO",
    "ERROR_REPORTING": "NO",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "PROMPTFOO_DISABLE_TELEMETRY": "1",
    "PROMPTFOO_DISABLE_UPDATE": "1",
    "PROMPTFOO_DISABLE_SHARING": "1",
    "PROMPTFOO_DISABLE_REMOTE_GENERATION": "true",
    "INSPECT_DISPLAY": "none",
}


def run_tool(
    name: str,
    command: Sequence[str],
    folder: Path,
    *,
    further: Mapping[str, str] | None = None,
    ok: bool = True,
) -> str:
    """Run a command of a tool in ``folder`` and return what it printed.

    :param command: the program, as it is called within the tool's environment, and its arguments.
    """
    programs = installed(name) / ("node_modules/.bin" if name == "promptfoo" else "venv/bin")
    # Nothing of the caller's environment, and every host but this one out of reach.
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        **SILENT,
        **(further or {}),
    }
    done = subprocess.run(
        [programs / command[0], *command[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert not ok or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def run_python(name: str, program: str, folder: Path, **options: Any) -> Any:
    """Run a Python program in a tool's environment; return the JSON that its last line is."""
    return json.loads(run_tool(name, ["python", "-c", program], folder, **options).strip().splitlines()[-1])
