"""The contract of ``rollback-budget replay`` that scripts rely on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rollback_budget.engine import Evaluation

pytestmark = [pytest.mark.pure, pytest.mark.slow]

BUDGET = """\
release: model-v42
baseline: model-v41
window: 24h

rollback_budget:
  quality:
    task_success_delta_pct: -2.0
    max_duration_min: 20
  safety:
    high_severity_incidents_increase: 0
    action: immediate_rollback
  latency:
    p95_delta_pct: +15
    max_duration_min: 30
    method: threshold
  escalation:
    human_handoff_delta_pct: +8
    max_duration_min: 20

decision:
  tier_a_breach: auto_rollback
  tier_b_breach: incident_commander_decision_within_15m
"""

NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)
STEADY = {"task_success": 0.9, "high_severity_incidents": 0.0, "p95": 1.6, "human_handoff": 0.1}


def record(
    folder: Path,
    *,
    minutes: int = 60,
    slow_from: int = 10**6,
    incident_at: int = 0,
    versions: tuple[str, str] = ("model-v42", "model-v41"),
) -> Path:
    rows = ["time,metric,version,value,n"]
    for minute in range(1, minutes + 1):
        time = (NOON + timedelta(minutes=minute)).isoformat()
        release = dict(STEADY)
        if minute >= slow_from:
            release["p95"] = 2.1
        if minute == incident_at:
            release["high_severity_incidents"] = 1.0
        for version, values in zip(versions, (release, STEADY), strict=True):
            rows += [f"{time},{metric},{version},{value},194" for metric, value in values.items()]
    path = folder / "series.csv"
    path.write_text("\n".join(rows))
    return path


def replay(folder: Path, series: Path, *options: str) -> subprocess.CompletedProcess[str]:
    budget = folder / "model-v42.yaml"
    budget.write_text(BUDGET)
    command = ["-m", "rollback_budget.cli.main", "replay", str(budget), "--series", str(series), *options]
    # Neither a home of Airflow nor a writable folder is needed.
    environment = {**os.environ, "AIRFLOW_HOME": "/nonexistent", "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=60, env=environment
    )


def test_a_kept_budget_exits_0_and_says_how_far_it_was_watched(tmp_path: Path) -> None:
    run = replay(tmp_path, record(tmp_path), "--json")
    said = json.loads(run.stdout)
    assert (run.returncode, run.stderr) == (0, "")
    assert (said["verdict"], said["final"], said["breaches"]) == ("healthy", False, [])
    assert said["evaluated_until"] == "2026-10-01T13:00:00Z"
    assert said["window_start"] == "2026-10-01T12:00:00Z"


def test_a_breach_exits_2_with_one_json_object_that_reads_back(tmp_path: Path) -> None:
    run = replay(tmp_path, record(tmp_path, slow_from=10), "--json")
    said = json.loads(run.stdout)
    assert (run.returncode, said["verdict"], said["evaluated_until"]) == (2, "breach", "2026-10-01T12:40:00Z")
    (breach,) = said["breaches"]
    contract = ("budget", "tier", "method", "started_at", "breached_at", "delta", "sentence")
    assert {name: breach[name] for name in contract} == {
        "budget": "latency.p95_delta_pct",
        "tier": "b",
        "method": "threshold",
        "started_at": "2026-10-01T12:10:00Z",
        "breached_at": "2026-10-01T12:40:00Z",
        "delta": pytest.approx(31.25),
        "sentence": "latency: p95 was 31 % above model-v41 (2.10 against 1.60, n = 6 014 and 6 014) "
        "for 30 min, budget +15 % for 30 min",
    }
    assert Evaluation.model_validate_json(run.stdout).breaches[0].budget == "latency.p95_delta_pct"


def test_keep_going_lists_every_breach_of_the_window(tmp_path: Path) -> None:
    series = record(tmp_path, minutes=90, slow_from=20, incident_at=10)
    stopped = replay(tmp_path, series, "--json")
    went_on = replay(tmp_path, series, "--json", "--keep-going")
    assert [b["budget"] for b in json.loads(stopped.stdout)["breaches"]] == [
        "safety.high_severity_incidents_increase"
    ]
    said = json.loads(went_on.stdout)
    assert [(b["budget"], b["breached_at"][11:16]) for b in said["breaches"]] == [
        ("safety.high_severity_incidents_increase", "12:10"),
        ("latency.p95_delta_pct", "12:50"),
        ("latency.p95_delta_pct", "13:21"),
    ]
    assert (stopped.returncode, went_on.returncode, said["evaluated_until"]) == (2, 2, "2026-10-01T13:30:00Z")


def test_a_version_that_is_not_there_is_blind_exits_3_and_is_named(tmp_path: Path) -> None:
    run = replay(tmp_path, record(tmp_path, versions=("model-v43", "model-v41")))
    assert run.returncode == 3
    assert run.stdout.startswith(
        "BLIND at 2026-10-01 12:15:00 UTC\nquality: no budget could be read for 15 min"
    )
    assert "no sample of version model-v42" in run.stderr
    assert "found: model-v43, model-v41" in run.stderr


def test_a_person_reads_the_verdict_the_sentence_and_where_each_budget_stands(tmp_path: Path) -> None:
    run = replay(tmp_path, record(tmp_path, slow_from=10), "--start", "2026-10-01T14:30:00+02:00")
    assert run.returncode == 0
    assert run.stdout.startswith("HEALTHY at 2026-10-01 13:00:00 UTC so far")
    lines = {line.split()[0]: line for line in run.stdout.splitlines() if line}
    assert "29 min of 30 min" in lines["latency.p95_delta_pct"]
    assert "safety.high_severity_incidents_increase" in lines


def test_a_person_reads_which_judge_changed_before_the_breach(tmp_path: Path) -> None:
    series = record(tmp_path, slow_from=1)
    header, *rows = series.read_text().splitlines()
    changed = f"{(NOON + timedelta(minutes=10)).isoformat()},"
    judged = [f"{row},{'judge-1' if row < changed else 'judge-2'}" for row in rows if ",p95," in row]
    series.write_text(
        "\n".join([f"{header},judge", *judged, *(f"{row}," for row in rows if ",p95," not in row)])
    )
    run = replay(tmp_path, series)
    verdict, finding, doubt, *_ = run.stdout.splitlines()
    assert (run.returncode, verdict) == (2, "BREACH at 2026-10-01 12:40:00 UTC")
    assert finding.endswith("for 30 min, budget +15 % for 30 min")
    assert doubt == (
        "mind that the judge of latency.p95_delta_pct changed from judge-1 to judge-2"
        " at 2026-10-01 12:10 UTC: what it had scored before does not count any more"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--start", "2026-10-01T12:00:00"), "no time zone"),
        (("--start", "2027-01-01T00:00:00Z"), "start earlier"),
        (("--series", "/nonexistent/series.csv"), "there is no such file"),
    ],
)
def test_bad_input_exits_1_with_one_message_and_no_traceback(
    tmp_path: Path, options: tuple[str, str], message: str
) -> None:
    run = replay(tmp_path, record(tmp_path, minutes=2), *options)
    assert (run.returncode, run.stdout) == (1, "")
    assert message in run.stderr
    assert "Traceback" not in run.stderr


def test_a_replay_of_a_file_imports_no_airflow(tmp_path: Path) -> None:
    budget = tmp_path / "model-v42.yaml"
    budget.write_text(BUDGET)
    code = (
        "import sys; from click.testing import CliRunner; from rollback_budget.cli.replay import replay;"
        " run = CliRunner().invoke(replay, sys.argv[1:]); print(run.exit_code, 'airflow' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(budget), "--series", str(record(tmp_path))]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "0 False\n"
