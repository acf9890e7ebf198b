"""What ``rollback-budget backtest`` prints, and how it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backtest.rollouts import past_rollouts, write_budget

pytestmark = [pytest.mark.pure, pytest.mark.slow]


def backtest(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rollback_budget.cli.main", "backtest", *map(str, arguments)]
    environment = {**os.environ, "AIRFLOW_HOME": "/nonexistent", "COLUMNS": "80"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def test_the_tables_say_when_each_rollout_trips_and_how_good_the_rule_is(tmp_path: Path) -> None:
    run = backtest(write_budget(tmp_path), past_rollouts(tmp_path))
    assert run.returncode == 0
    assert "1 of 6 rollouts without a label" in run.stderr
    lines = {line.split("  ")[0]: " ".join(line.split()) for line in run.stdout.splitlines() if line}
    assert lines["c-found.csv"] == "c-found.csv bad 70 latency.p95_delta_pct found 31 min"
    assert lines["e-missed.csv"] == "e-missed.csv bad missed"
    assert lines["the rule"] == "the rule 2 of 5 1 of 3 1 1 of 1 31 min 31 min"


def test_json_holds_every_trigger_and_the_sweep(tmp_path: Path) -> None:
    chart = tmp_path / "trade-off.svg"
    run = backtest(write_budget(tmp_path), past_rollouts(tmp_path), "--json", "--sweep", "--chart", chart)
    said = json.loads(run.stdout)
    assert (said["rule"]["found"], said["rule"]["missed"], said["rule"]["false_trips"]) == (1, 1, 2)
    found = said["rollouts"][2]
    assert (found["file"], found["outcome"], found["trigger_minute"], found["delay_min"]) == (
        "c-found.csv",
        "found",
        70.0,
        31.0,
    )
    assert found["triggers"][0]["sentence"].startswith("latency: p95 was 31 % above v39")
    (current,) = [
        one for one in said["sweep"] if one["is_current"] and one["budget"] == "latency.p95_delta_pct"
    ]
    assert (current["threshold"], current["max_duration_min"], current["found"]) == (15.0, 30.0, 1)
    assert "<svg" in chart.read_text()


def test_what_lies_outside_of_the_window_is_said_beside_the_tables_and_in_json(tmp_path: Path) -> None:
    budget, folder = write_budget(tmp_path), past_rollouts(tmp_path)
    budget.write_text(budget.read_text().replace("window: 4h", "window: 1h"))
    out = backtest(budget, folder).stdout
    assert (
        "warning: d-early.csv: its onset 2026-10-01 13:40:00 UTC is not before the end of what was tried"
        in out
    )
    assert out.count("it goes on for 1 h after the window of 1 h ended at 2026-10-01 13:00:00 UTC") == 6
    rollouts = {
        one["rollout"]: one for one in json.loads(backtest(budget, folder, "--json").stdout)["rollouts"]
    }
    assert [len(one["warnings"]) for one in rollouts.values()] == [1, 1, 1, 2, 1, 1]
    assert rollouts["d-early.csv"]["warnings"][0].startswith(
        "its onset 2026-10-01 13:40:00 UTC is not before"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--chart", "chart.pdf"), "a chart is written as .svg or .png"),
        (("--of", "z.csv"), "there is no 'z.csv'"),
        (("--chart", "/nonexistent/chart.svg"), "cannot be written"),
    ],
)
def test_bad_input_exits_1_with_one_message_and_no_traceback(
    tmp_path: Path, options: tuple[str, str], message: str
) -> None:
    run = backtest(write_budget(tmp_path), past_rollouts(tmp_path), *options)
    assert (run.returncode, run.stdout) == (1, "")
    assert message in run.stderr
    assert "Traceback" not in run.stderr
