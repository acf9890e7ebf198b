"""Another company's package, installed beside ours: its source, target, exporter and notifier are used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.airflow

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

BUDGET = """\
release: model-v42
baseline: model-v41
service: support-bot
owner: acme
incident_commander: {id: casey, name: Casey}
window: 30m
rollback_budget:
  safety: {high_severity_incidents_increase: 0, action: immediate_rollback}
  quality: {task_success_delta_pp: -2, max_duration: 5m}
metrics:
  high_severity_incidents: {kind: count, unit: incidents}
  task_success: {kind: proportion}
watch: {poll: 1s, step: 1s, settle: 1s, max_gap: 1m, blind_after: 5m}
source: {type: acme_dashboard, path: FOLDER/dashboard.jsonl, timeout: 5s}
target: {type: acme_router, file: FOLDER/router.json, ship_share: 50%, deadline: 2m}
notify: {notifier: acme_pager, conn_id: pager, args: {file: FOLDER/pager.txt}}
"""

DAG_FILE = """\
# An Airflow DAG.
from pathlib import Path
from rollback_budget import RolloutDag

dag = RolloutDag(budget=Path(__file__).parents[1] / "budget.yaml", dag_id="rollout_acme")
"""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Acme's package is installed, from a wheel that is built of its source as anybody would."""
    folder = tmp_path_factory.mktemp("acme")
    source = shutil.copytree(HERE / "acme_rollouts", folder / "source")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", folder / "installed", source]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return folder / "installed"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "budget.yaml").write_text(BUDGET.replace("FOLDER", str(tmp_path)))
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "acme_dag.py").write_text(DAG_FILE)
    return tmp_path


@pytest.fixture
def run(folder: Path, packages: Path) -> Run:
    """Runs Python in a process of its own, with Acme's package unless the test says otherwise."""

    def run(*arguments: object, installed: bool = True) -> subprocess.CompletedProcess[str]:
        path = [ROOT / "plugins", ROOT, folder / "dags", *([packages] if installed else [])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'ledger.db'}",
            "AIRFLOW_CONN_PAGER": "http://pager",
        }
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)

    return run


def command_line(run: Run, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return run("-m", "rollback_budget.cli.main", *arguments, **options)


def test_a_budget_on_registered_types_is_valid_where_their_package_is_installed(
    run: Run, folder: Path
) -> None:
    valid = command_line(run, "validate", folder / "budget.yaml")
    assert valid.returncode == 0, valid.stdout + valid.stderr
    unknown = command_line(run, "validate", folder / "budget.yaml", installed=False)
    assert unknown.returncode == 1
    said = unknown.stdout + unknown.stderr
    assert "14:9: `source` has a type" in said
    assert "15:9: `target.type` is http" in said
    assert "acme_pager" in said


def test_mistakes_in_a_registered_section_are_said_at_their_place(run: Run, folder: Path) -> None:
    text = (folder / "budget.yaml").read_text()
    text = text.replace("timeout: 5s", "time_out: 5").replace("ship_share: 50%", "ship_share: 500%")
    text = text.replace(f"file: {folder}/router.json, ", "")
    (folder / "budget.yaml").write_text(text)
    said = command_line(run, "validate", folder / "budget.yaml").stdout
    assert 'unknown key "time_out"; did you mean `timeout`?' in said
    assert "`file` is missing" in said
    assert "500 % of the traffic" in said


def test_a_spec_on_registered_types_travels_as_json(run: Run, folder: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from rollback_budget.budget_file import load_budget\n"
        "from rollback_budget.model.spec import RolloutSpec\n"
        f"spec = load_budget(Path({str(folder / 'budget.yaml')!r}))\n"
        "again = RolloutSpec.model_validate_json(spec.canonical_json())\n"
        "assert again.sha256 == spec.sha256\n"
        "print(type(again.source).__name__, again.source.timeout, type(again.target).__name__)\n"
        "heavy = {'sqlalchemy', 'aiohttp', 'requests', 'airflow', 'alembic'} & sys.modules.keys()\n"
        "print(sorted(heavy))"
    )
    done = run("-c", code)
    assert done.stdout.splitlines() == ["DashboardSettings 0:00:05 RouterSettings", "[]"], done.stderr


def test_a_source_of_another_package_is_recorded(run: Run, folder: Path) -> None:
    points = [
        {"time": f"2026-10-01T12:00:{second:02}Z", "metric": metric, "version": version, "value": 0.5, "n": 9}
        for second in range(60)
        for metric in ("high_severity_incidents", "task_success")
        for version in ("model-v42", "model-v41")
    ]
    (folder / "dashboard.jsonl").write_text("\n".join(map(json.dumps, points)))
    times = ("--from", "2026-10-01T12:00:10Z", "--to", "2026-10-01T12:00:40Z", "--page", "7s")
    arguments = (folder / "budget.yaml", *times, "-o", folder / "out.csv", "--json")
    done = command_line(run, "record", *arguments)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["samples"], [one["known"] for one in said["series"]]) == (120, [30] * 4)
    replayed = command_line(run, "replay", folder / "budget.yaml", "--series", folder / "out.csv", "--json")
    assert json.loads(replayed.stdout)["budgets"][0]["looks"] == 30


def test_an_export_of_another_package_is_offered(run: Run) -> None:
    assert "acme_list" in command_line(run, "debt", "export", "nothing", "--out", "x").stderr


@pytest.mark.timeout(900)
def test_a_rollout_is_watched_and_rolled_back_through_another_packages_source_and_target(
    run: Run, folder: Path
) -> None:
    done = run(HERE / "run_rollout.py", folder)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    outcome = json.loads((folder / "outcome.json").read_text())
    assert outcome["run"] == "success"
    assert {outcome["tasks"][name] for name in ("ship", "round_1.breached", "rollback")} == {"success"}
    router = json.loads((folder / "router.json").read_text())
    assert router["weights"] == {"model-v42": 0.0, "model-v41": 1.0}
    assert router["changed_by"].endswith("/rollback")
    [breached, rolled_back] = (folder / "pager.txt").read_text().splitlines()
    assert "budget breached: safety" in breached
    assert "control plane and traffic agree on model-v41 100 %" in rolled_back
