"""Real servers that targets are tested against, where ``tests/counterparts.sh`` could install them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.network import find_free_port, wait_until

FOLDER = Path(__file__).resolve().parents[2] / ".counterparts"
ADMIN_TOKEN = "*:*.admin-secret"


def installed(name: str) -> Path:
    """Return the folder of a counterpart, once it is installed; skip the test where it is not."""
    folder = FOLDER / name
    if not folder.exists():
        pytest.skip(f"{name} is not installed; run tests/counterparts.sh")

    def is_settled() -> bool:
        return (folder / "ready").exists() or (folder / "failed").exists()

    wait_until(is_settled, within_s=250, what=f"the installation of {name}")
    if not (folder / "ready").exists():
        pytest.skip(f"{name} could not be installed, see {folder / 'log'}")
    return folder


@contextmanager
def running_mlflow(folder: Path) -> Iterator[str]:
    """Run a tracking server with its own SQLite database; yield its URL."""
    port = find_free_port()
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [installed("mlflow") / "venv/bin/mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    store = ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    with _running([*command, *store], environment, folder, f"http://127.0.0.1:{port}") as url:
        yield url


@contextmanager
def running_unleash(folder: Path, database_url: str) -> Iterator[str]:
    """Run an Unleash server on an empty PostgreSQL database; yield its URL."""
    port = find_free_port()
    environment = {
        "DATABASE_URL": database_url,
        "DATABASE_SSL": "false",
        "HTTP_HOST": "127.0.0.1",
        "HTTP_PORT": str(port),
        "INIT_ADMIN_API_TOKENS": ADMIN_TOKEN,
        "SEND_TELEMETRY": "false",
        "CHECK_VERSION": "false",
        "LOG_LEVEL": "warn",
    }
    server = installed("unleash") / "node_modules/unleash-server/dist/server.js"
    with _running(["node", server], environment, folder, f"http://127.0.0.1:{port}") as url:
        yield url


@contextmanager
def _running(
    command: list[str | Path], environment: Mapping[str, str], folder: Path, url: str
) -> Iterator[str]:
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def answers() -> bool:
        assert server.poll() is None, (folder / "server.log").read_text()[-2000:]
        try:
            return httpx.get(f"{url}/health", trust_env=False, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        wait_until(answers, within_s=150, what=f"{command[0]} to answer")
        yield url
    finally:
        os.killpg(server.pid, 15)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, 9)
            server.wait(20)
