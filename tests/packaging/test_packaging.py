"""Installed or dropped into the plugins folder, Airflow finds the plugin once and without errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).resolve().parents[2]

#: Loads every plugin as a component does, and says which of ours there are and what went wrong.
LOAD = """
import json
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
from importlib.metadata import PackageNotFoundError, distribution
try:
    distribution("rollback-budget"); installed = True
except PackageNotFoundError:
    installed = False
print(json.dumps([installed, [p.name for p in plugins if p.name == "rollback_budget"], errors]))
"""


def load_plugins(tmp_path: Path, *, installed: bool) -> tuple[bool, list[str], dict[str, str]]:
    packages = sysconfig.get_path("purelib")
    if not installed:
        packages = str(without_distribution(Path(packages), tmp_path / "packages"))
    environment = {
        "PATH": os.environ["PATH"],
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "PYTHONPATH": f"{packages}:{ROOT / 'plugins'}",
    }
    done = subprocess.run(
        [sys.executable, "-S", "-c", LOAD], env=environment, capture_output=True, text=True, check=True
    )
    found, names, errors = json.loads(done.stdout.splitlines()[-1])
    return found, names, errors


def without_distribution(packages: Path, folder: Path) -> Path:
    """Make the installed packages but ours, by links."""
    folder.mkdir()
    for entry in packages.iterdir():
        if "rollback_budget" not in entry.name:
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.mark.parametrize("installed", [True, False], ids=["installed", "dropped in"])
def test_the_plugin_is_registered_once_and_without_errors(tmp_path: Path, installed: bool) -> None:
    assert load_plugins(tmp_path, installed=installed) == (installed, ["rollback_budget"], {})
