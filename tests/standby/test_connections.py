"""A process without Airflow's processes and database finds connections as Airflow's configuration says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.airflow

READ = """
import asyncio, sys
from rollback_budget.hooks.connections import connection_problems
from rollback_budget.hooks.traffic_target import AirflowTargetConnections
from airflow.sdk import BaseHook
from tests.standby.builders import TARGET
from tests.engine.builders import rollout
print(connection_problems(rollout(target=TARGET)))
if len(sys.argv) > 1:
    print(BaseHook.get_connection("router").host, asyncio.run(BaseHook.aget_connection("router")).host)
"""


def run(tmp_path: Path, *arguments: str, **environment: str) -> list[str]:
    found = subprocess.run(
        [sys.executable, "-c", READ, *arguments],
        env={
            "PATH": os.environ["PATH"],
            "AIRFLOW_HOME": str(tmp_path),
            # There is no such database.
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://nobody@127.0.0.1:1/nothing",
            **environment,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.splitlines()


def test_a_connection_of_the_environment_is_found(tmp_path: Path) -> None:
    lines = run(tmp_path, "read", AIRFLOW_CONN_ROUTER="http://control.example.com")
    assert lines == ["[]", "control.example.com control.example.com"]


def test_a_connection_of_the_secrets_backend_is_found(tmp_path: Path) -> None:
    secrets = tmp_path / "connections.json"
    secrets.write_text(json.dumps({"router": "http://control.example.com"}))
    lines = run(
        tmp_path,
        "read",
        AIRFLOW__SECRETS__BACKEND="airflow.secrets.local_filesystem.LocalFilesystemBackend",
        AIRFLOW__SECRETS__BACKEND_KWARGS=json.dumps({"connections_file_path": str(secrets)}),
    )
    assert lines == ["[]", "control.example.com control.example.com"]


def test_a_connection_that_airflow_cannot_read_is_not_said_to_be_missing(tmp_path: Path) -> None:
    (line,) = [one for one in run(tmp_path, AIRFLOW_CONN_ROUTER="{bad json") if one.startswith("[")]
    assert "connection 'router' cannot be read: what AIRFLOW_CONN_ROUTER holds is neither" in line
    assert "isn't defined" not in line


def test_a_connection_that_is_nowhere_is_named(tmp_path: Path) -> None:
    (line,) = run(tmp_path)
    assert "connection 'router' cannot be found" in line
    assert "isn't defined" in line
