"""An Airflow plugin that a bench drops into the plugins folder: when each task's own code began and ended.

Appends one line of JSON a moment to the file named by ``BENCH_MARKS``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin


@hookimpl
def on_task_instance_running(task_instance: Any) -> None:
    """Airflow has started the process and parsed the DAG; now the task itself runs."""
    _mark(task_instance, "began")


@hookimpl
def on_task_instance_success(task_instance: Any) -> None:
    """The task has succeeded."""
    _mark(task_instance, "ended")


def _mark(task_instance: Any, what: str) -> None:
    at = time.time()
    line = [task_instance.dag_id, task_instance.run_id, task_instance.task_id, what, at]
    with open(os.environ["BENCH_MARKS"], "a") as file:
        file.write(json.dumps(line) + "\n")


class MarksPlugin(AirflowPlugin):
    """Registers the two listeners above."""

    name = "bench_marks"
    listeners: list[Any] = [sys.modules[__name__]]  # noqa: RUF012 - Airflow reads a list from the class
