"""What the commands say about evidence: forecasts, fast lines and the design effect."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from rollback_budget.cli.design_effect import design_effect
from rollback_budget.cli.explain import explain
from rollback_budget.cli.preflight import preflight
from rollback_budget.cli.validate import validate
from rollback_budget.exceptions import SeriesError

pytestmark = pytest.mark.pure

BUDGET = """\
release: model-v42
baseline: model-v41
window: 24h
metrics: {task_success: {kind: proportion}}
rollback_budget:
  quality:
    task_success_delta_pp: -2.0
    max_duration_min: 20
"""


@pytest.fixture
def budget(tmp_path: Path) -> Path:
    path = tmp_path / "model-v42.yaml"
    path.write_text(BUDGET)
    return path


def test_explain_forecasts_the_time_to_detection_at_a_given_traffic(budget: Path) -> None:
    said = CliRunner().invoke(explain, [str(budget), "--traffic", "30"]).output
    assert "a 10-point drop is found in about 30 min" in said
    assert json.loads(CliRunner().invoke(explain, [str(budget), "--json"]).output)["detection"] == []


def test_validate_recommends_a_fast_line_at_low_traffic_only(budget: Path) -> None:
    slow = CliRunner().invoke(validate, [str(budget), "--traffic", "5"])
    assert slow.exit_code == 0
    assert "add a fast line to quality, such as `task_success_delta_pp: -20` for 3 min" in slow.output
    assert "fast line" not in CliRunner().invoke(validate, [str(budget), "--traffic", "300"]).output


def record(path: Path, minutes: int) -> Path:
    random, rows = Random(3), ["time,metric,version,value,n"]
    for minute in range(minutes):
        time = f"2026-10-01T{minute // 60:02}:{minute % 60:02}:00Z"
        rows += [
            f"{time},task_success,{version},{1 - random.randrange(12) / 60},60"
            for version in ("model-v42", "model-v41")
        ]
    path.write_text("\n".join(rows))
    return path


def test_the_design_effect_of_a_series_is_estimated_and_ready_to_copy(budget: Path, tmp_path: Path) -> None:
    series = record(tmp_path / "aa.csv", 900)
    said = json.loads(
        CliRunner().invoke(design_effect, [str(budget), "--series", str(series), "--json"]).output
    )
    # Uniform on twelve counts has 2.38 times the variance of a binomial with the same mean.
    assert said["design_effect"] == pytest.approx(
        (12**2 - 1) / 12 / (60 * 5.5 / 60 * (1 - 5.5 / 60)), rel=0.4
    )
    assert said["budgets"] == {"quality.task_success_delta_pp": said["design_effect"]}
    text = CliRunner().invoke(design_effect, [str(budget), "--series", str(series)]).output
    assert f"analysis: {{design_effect: {said['design_effect']:.2f}}}" in text
    short = CliRunner().invoke(design_effect, [str(budget), "--series", str(record(tmp_path / "b.csv", 30))])
    assert isinstance(short.exception, SeriesError)


SLOW = """\
release: model-v42
baseline: model-v41
window: 24h
metrics:
  task_success: {kind: proportion}
  helpful: {kind: proportion, every: 1h}
rollback_budget:
  quality:
    - {task_success_delta_pp: -2.0, max_duration_min: 20}
    - {helpful_delta_pp: -5.0, max_duration: 2h}
"""


def test_a_budget_with_too_few_steps_is_warned_of_and_leaves_the_estimates_of_the_others(
    tmp_path: Path,
) -> None:
    slow, series = tmp_path / "slow.yaml", record(tmp_path / "aa.csv", 900)
    slow.write_text(SLOW)
    hours = [
        f"2026-10-01T{hour:02}:00:00Z,helpful,{version},0.9,60"
        for hour in range(1, 15)
        for version in ("model-v42", "model-v41")
    ]
    series.write_text("\n".join([series.read_text(), *hours]))
    shown = CliRunner().invoke(design_effect, [str(slow), "--series", str(series)])
    assert shown.exit_code == 0, shown.output
    assert "warning: quality.helpful_delta_pp: no estimate: 14 steps with counts of both" in shown.stderr
    assert "record 8 d 8 h or longer (200 times 1 h)" in shown.stderr
    assert "quality.task_success_delta_pp: " in shown.stdout
    said = json.loads(
        CliRunner().invoke(design_effect, [str(slow), "--series", str(series), "--json"]).stdout
    )
    assert list(said["budgets"]) == ["quality.task_success_delta_pp"]
    assert list(said["warnings"]) == ["quality.helpful_delta_pp"]
    few = CliRunner().invoke(design_effect, [str(slow), "--series", str(record(tmp_path / "b.csv", 30))])
    assert isinstance(few.exception, SeriesError)
    assert "30 steps with counts of both versions" in str(few.exception)
    assert "record 3 h 20 min or longer" in str(few.exception)


def test_preflight_prints_what_a_watch_can_expect_and_the_same_as_json(tmp_path: Path) -> None:
    series = tmp_path / "hour.csv"
    rows = [f"2026-10-01T12:{minute:02}:00Z,p95,model-v41,1.6,60" for minute in range(60)]
    series.write_text("\n".join(["time,metric,version,value,n", *rows, ""]))
    budget = Path(__file__).parents[2] / "budgets" / "model-v42.yaml"
    shown = CliRunner().invoke(preflight, [str(budget), "--series", str(series)])
    assert shown.exit_code == 0, shown.output
    assert "latency.p95_delta_pct" in shown.output
    assert "warning: quality.task_success_delta_pct: no baseline traffic" in shown.output
    reported = CliRunner().invoke(preflight, [str(budget), "--series", str(series), "--json"])
    (p95,) = [line for line in json.loads(reported.output)["budgets"] if line["series"] == "p95"]
    assert (p95["method"], p95["baseline"]["value"], p95["baseline"]["per_minute"]) == ("sign", 1.6, 60.0)


def test_preflight_of_a_file_counts_no_look_from_before_it(tmp_path: Path) -> None:
    slow = tmp_path / "slow.yaml"
    slow.write_text(
        (Path(__file__).parents[2] / "budgets" / "model-v42.yaml").read_text()
        + "metrics: {p95: {kind: quantile, every: 1h}}\n"
    )
    series = tmp_path / "hours.csv"
    rows = [f"2026-10-01T{hour:02}:00:00Z,p95,model-v41,1.6,60" for hour in range(9, 14)]
    series.write_text("\n".join(["time,metric,version,value,n", *rows, ""]))
    reported = CliRunner().invoke(preflight, [str(slow), "--series", str(series), "--json"])
    (p95,) = [line for line in json.loads(reported.output)["budgets"] if line["series"] == "p95"]
    assert (p95["start"], p95["looks"], p95["baseline"]["known"]) == ("2026-10-01T08:00:00Z", 5, 5)
