"""The notifier itself, which imports Airflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import BaseNotifier


class PagerNotifier(BaseNotifier):
    """Adds a line to a file."""

    def __init__(self, *, summary: str, file: str, pager_conn_id: str = "pager") -> None:
        super().__init__()
        self.summary = summary
        self.file = file

    def notify(self, context: Any) -> None:
        with Path(self.file).open("a") as stream:
            stream.write(f"{self.summary}\n")
