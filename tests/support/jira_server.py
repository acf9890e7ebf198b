"""A real Jira stand-in, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.support.network import find_free_port, is_listening, wait_until

PROJECT = "RB"


@dataclass(frozen=True)
class JiraServer:
    """A running server; what a test wants to know of it is asked past every proxy."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def issues(self, label: str) -> list[dict[str, Any]]:
        query = {"jql": f'labels = "{label}"', "maxResults": "100"}
        reply = requests.get(f"{self.url}/rest/api/2/search", params=query, timeout=30)
        found: list[dict[str, Any]] = reply.json()["issues"]
        return found


@contextmanager
def running_jira(folder: Path) -> Iterator[JiraServer]:
    """Run the server until the end of the block; its log is in ``folder``."""
    port = find_free_port()
    environment = {
        **os.environ,
        "JIRA820_HOST": "127.0.0.1",
        "JIRA820_PORT": str(port),
        "JIRA820_PROJECT_KEY": PROJECT,
    }
    with (folder / "jira.log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "jira820"], env=environment, stdout=log, stderr=log)
        try:
            wait_until(lambda: is_listening(port) or process.poll() is not None, what="the Jira server")
            assert process.poll() is None, (folder / "jira.log").read_text()
            yield JiraServer(port)
        finally:
            process.terminate()
            process.wait(30)
