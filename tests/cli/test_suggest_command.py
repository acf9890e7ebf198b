"""What ``rollback-budget suggest`` prints, and how it ends."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import TypeAdapter

from rollback_budget.budget_file import load_budget
from rollback_budget.cli.suggest import suggest
from rollback_budget.exceptions import SeriesError
from tests.suggest.records import DAY, METRIC, RELEASE, scores, traffic, write

pytestmark = [pytest.mark.pure, pytest.mark.slow]

BUDGET = """\
release: model-v42
baseline: model-v41
window: 4h
metrics: {task_success: {kind: proportion}}
rollback_budget:
  quality:
    task_success_delta_pp: -4
    max_duration_min: 4
    method: threshold
"""
FEW = ("--days", "100", "--jobs", "1")


def budget_in(folder: Path, text: str = BUDGET) -> Path:
    path = folder / "budget.yaml"
    path.write_text(text)
    return path


def test_it_prints_a_table_reasons_and_what_may_be_pasted_and_writes_nothing(tmp_path: Path) -> None:
    budget = budget_in(tmp_path)
    series = write(tmp_path / "series.csv", traffic(n=20, wander=0.03))
    run = CliRunner().invoke(suggest, [str(budget), "--series", str(series), *FEW])
    assert run.exit_code == 0, run.output
    assert "100 windows of 4 h drawn from 2026-10-01 00:00 to 2026-10-02 00:00 UTC" in run.output
    assert "-4 pp for 4 min" in run.output
    assert "from look to look" in run.output
    assert "they share its noise" in run.output
    pasted = run.output[run.output.index("rollback_budget:") :]
    (tmp_path / "new.yaml").write_text(BUDGET[: BUDGET.index("rollback_budget:")] + pasted)
    assert load_budget(tmp_path / "new.yaml").budgets[0].metric == METRIC
    assert budget.read_text() == BUDGET
    assert sorted(path.name for path in tmp_path.iterdir()) == ["budget.yaml", "new.yaml", "series.csv"]


def test_a_rule_that_is_fine_has_nothing_to_be_pasted(tmp_path: Path) -> None:
    budget = budget_in(tmp_path, BUDGET.replace("-4\n", "-10\n").replace("threshold", "auto"))
    series = write(tmp_path / "series.csv", traffic(n=60))
    run = CliRunner().invoke(suggest, [str(budget), "--series", str(series), *FEW])
    assert "the rule is fine as it is" in run.output
    assert "pasted" not in run.output


def test_json_holds_everything_that_is_printed(tmp_path: Path) -> None:
    series = write(tmp_path / "series.csv", traffic(n=20, wander=0.03))
    arguments = [str(budget_in(tmp_path)), "--series", str(series), *FEW, "--seed", "3", "--json"]
    run = CliRunner().invoke(suggest, arguments)
    # No bar, and nothing of one, where standard error is no terminal.
    assert run.stderr == ""
    said = json.loads(run.stdout)
    assert (said["windows"], said["seed"], said["alpha"], said["start"]) == (
        100,
        3,
        0.05,
        "2026-10-01T00:00:00Z",
    )
    assert said["false_trips"].keys() == {"windows", "count", "rate", "low", "high"}
    (budget,) = said["budgets"]
    assert (budget["current"]["threshold"], budget["current"]["max_duration"]) == (-4.0, "PT4M")
    assert budget["noise"]["release_events"] == 20
    assert budget["clustering"] is None
    assert budget["is_changed"] is True
    assert budget["reasons"]
    assert said["reasons"]
    assert said["yaml"].startswith("rollback_budget:")


@pytest.mark.parametrize(
    ("minutes", "version", "said"),
    [
        (300, None, "series.csv: 5 h recorded"),
        (DAY, RELEASE, "series.csv: no sample of model-v41, the baseline"),
    ],
)
def test_a_record_that_is_no_good_is_named_with_its_file(
    tmp_path: Path, minutes: int, version: str | None, said: str
) -> None:
    record = [one for one in traffic(minutes) if version in (None, one.version)]
    series = write(tmp_path / "series.csv", record)
    run = CliRunner().invoke(suggest, [str(budget_in(tmp_path)), "--series", str(series), *FEW])
    assert isinstance(run.exception, SeriesError)
    assert said in str(run.exception)


def test_a_time_that_is_no_duration_is_refused(tmp_path: Path) -> None:
    series = write(tmp_path / "series.csv", traffic(10))
    run = CliRunner().invoke(suggest, [str(budget_in(tmp_path)), "--series", str(series), "--within", "soon"])
    assert run.exit_code == 2
    assert "'soon' is not a duration" in run.output


PACED = """\
release: model-v42
baseline: model-v41
window: 24h
metrics:
  task_success: {kind: proportion}
  judge_score: {every: 1h, lag: 2h}
analysis: {alpha: 0.2}
rollback_budget:
  quality:
    - {task_success_delta_pp: -12, max_duration_min: 8}
    - {judge_score_delta: -2.5, max_duration: 90m, method: threshold}
"""


def test_an_hourly_judge_beside_a_success_rate_by_the_minute_is_said_in_its_own_looks(tmp_path: Path) -> None:
    budget = budget_in(tmp_path, PACED)
    judged = [one._replace(n=40.0) for one in scores()]
    series = write(tmp_path / "series.csv", [*traffic(n=60), *judged])
    arguments = [str(budget), "--series", str(series), *FEW]
    run = CliRunner().invoke(suggest, arguments)
    assert run.exit_code == 0, run.output
    assert "100 windows of 24 h drawn from 2026-10-01 00:00 to 2026-10-02 00:00 UTC" in run.output
    assert "40 events of the release and 40 of the baseline a look of 1 h" in run.output
    assert "few looks, 24 of 1 h" in run.output
    said = json.loads(CliRunner().invoke(suggest, [*arguments, "--json"]).stdout)
    fast, judge = said["budgets"]
    assert (fast["noise"]["looks"], judge["noise"]["looks"]) == (DAY, 24)
    assert (fast["current"]["found"]["lost"], judge["current"]["found"]["lost"]) == ("PT0S", "PT1H58M30S")
    assert said["alpha"] == 0.2
    assert judge["fast"] is None
    assert judge["is_changed"]
    proposed = TypeAdapter(timedelta).validate_python(judge["proposed"]["max_duration"])
    assert proposed % timedelta(hours=1) == timedelta(0)
    assert not any("few looks" in warning for warning in fast["warnings"])
