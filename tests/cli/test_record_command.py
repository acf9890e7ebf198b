"""``record``, and the commands that read a budget's metric source: what they say and what they refuse."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from rollback_budget.budget_file import load_budget
from rollback_budget.cli.common import parse_time, parse_until
from rollback_budget.cli.design_effect import design_effect
from rollback_budget.cli.main import cli
from rollback_budget.cli.preflight import preflight
from rollback_budget.cli.suggest import suggest
from rollback_budget.cli.time_range import time_range
from rollback_budget.common.xcom import Tasks
from rollback_budget.operators.preflight import PreflightOperator
from rollback_budget.sources.recorded import read_series
from tests.recording.command import run
from tests.suggest.records import traffic, write
from tests.support.command_line import Run

pytestmark = pytest.mark.airflow

__all__ = ["run"]

BUDGET = """\
release: model-v42
baseline: model-v41
window: 2h
rollback_budget:
  quality:
    - {task_success_delta_pp: -2, max_duration_min: 20}
    - {task_success_delta_pp: -9, max_duration_min: 20, slice: de}
  latency: {p95_delta_pct: +15, max_duration_min: 30}
metrics: {task_success: {kind: proportion}, p95: {kind: quantile}}
source: SOURCE
"""
NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RANGE = ("--from", "2026-10-01T12:00Z", "--to", "2026-10-01T14:00Z")


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A recorded series as a source: two hours, and no known latency of the release."""
    rows = ["time,metric,version,value,n"]
    for at in range(1, 121):
        time = (NOON + at * MINUTE).isoformat()
        rows += [f"{time},task_success,{version},0.9,100" for version in ("model-v42", "model-v41")]
        rows += [f"{time},p95,model-v42,NaN,", f"{time},p95,model-v41,1.5,100"]
        rows += [f"{time},task_success,model-v40,0.9,100", f"{time},handoff,model-v42,0.9,100"]
    file = tmp_path / "source.csv"
    file.write_text("\n".join(rows))
    return file


@pytest.fixture
def budget(tmp_path: Path, recorded: Path) -> Path:
    return write_budget(tmp_path, f"{{type: recorded, path: {recorded}}}")


def write_budget(folder: Path, source: str) -> Path:
    path = folder / "model-v42.yaml"
    path.write_text(BUDGET.replace("SOURCE", source))
    return path


def test_the_end_says_for_every_metric_and_version_what_is_known(
    budget: Path, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "two hours.csv"
    code, out, err = run("record", budget, *RANGE, "-o", file, "--json")
    said = json.loads(out)
    assert code == 0
    assert [tuple(one.values())[:5] for one in said["series"]] == [
        ("p95", "model-v42", 120, 0, 120),
        ("p95", "model-v41", 120, 120, 0),
        ("task_success", "model-v42", 120, 120, 0),
        ("task_success", "model-v41", 120, 120, 0),
        ("task_success:de", "model-v42", 0, 0, 120),
        ("task_success:de", "model-v41", 0, 0, 120),
    ]
    assert said["warnings"] == [
        "p95 of model-v42: not a single known value in 120 samples",
        "task_success:de of model-v42: no sample came; all of it is unknown",
        "task_success:de of model-v41: no sample came; all of it is unknown",
    ]
    assert {name: said[name] for name in ("file", "release", "baseline", "start", "end", "samples")} == {
        "file": str(file),
        "release": "model-v42",
        "baseline": "model-v41",
        "start": "2026-10-01T12:00:00Z",
        "end": "2026-10-01T14:00:00Z",
        "samples": 480,
    }
    assert {sample.version for sample in read_series(file)} == {"model-v42", "model-v41"}
    code, out, err = run("record", budget, *RANGE, "-o", file, "--overwrite")
    assert code == 0
    assert "480 samples of model-v42 against model-v41" in out
    assert "warning: p95 of model-v42: not a single known value" in err


def test_values_that_cannot_be_are_unknown_in_the_summary(
    budget: Path, recorded: Path, run: Run, tmp_path: Path
) -> None:
    recorded.write_text(
        recorded.read_text().replace("task_success,model-v42,0.9", "task_success,model-v42,90")
    )
    _, out, _ = run("record", budget, *RANGE, "-o", tmp_path / "out.csv", "--json")
    assert "task_success of model-v42: not a single known value in 120 samples" in json.loads(out)["warnings"]


def test_an_existing_file_is_replaced_only_when_that_is_said_and_only_by_a_whole_one(
    budget: Path, recorded: Path, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "out.csv"
    file.write_text("mine")
    code, _, err = run("record", budget, *RANGE, "-o", file)
    assert (code, file.read_text()) == (1, "mine")
    assert "there is such a file; give another name, or --overwrite" in err
    assert not Path(f"{file}.part").exists()
    hidden = recorded.rename(tmp_path / "away.csv")
    assert run("record", budget, *RANGE, "-o", file, "--overwrite")[0] == 1
    assert file.read_text() == "mine"
    hidden.rename(recorded)
    assert run("record", budget, *RANGE, "-o", file, "--overwrite")[0] == 0
    assert len(read_series(file)) == 480


def test_the_file_that_is_the_source_is_not_recorded_over(
    budget: Path, recorded: Path, run: Run, tmp_path: Path
) -> None:
    before = recorded.read_bytes()
    link = tmp_path / "link.csv"
    link.symlink_to(recorded)
    for output in (recorded, recorded.parent / "." / recorded.name, link):
        code, _, err = run("record", budget, *RANGE, "-o", output, "--overwrite")
        assert code == 1
        assert "is the source that is read; name another file" in err
    assert recorded.read_bytes() == before


def test_a_source_that_has_nothing_leaves_no_file_and_says_what_to_check(
    budget: Path, run: Run, tmp_path: Path
) -> None:
    command = ("record", budget, *RANGE, "-o", tmp_path / "out.csv", "--release", "v8", "--baseline", "v7")
    code, _, err = run(*command)
    assert code == 1
    assert "nothing is recorded: the source has no sample of v8 or v7 from 2026-10-01 12:00:00 UTC" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model-v42.yaml", "source.csv"]
    code, _, err = run("replay", budget, "--live", *command[2:6], "--release", "v8", "--baseline", "v7")
    assert code == 1
    assert "the source has no sample of v8 or v7" in err


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("null", "the budget names no source; add `source:` to it or to defaults.yaml"),
        ("{type: prometheus, conn_id: nowhere}", "connection 'nowhere' cannot be found"),
        ("{type: sql, conn_id: nowhere}", "AIRFLOW_CONN_NOWHERE"),
    ],
)
@pytest.mark.parametrize("command", ["record", "replay", "preflight", "design-effect", "suggest"])
def test_a_source_that_cannot_be_opened_is_one_message(
    run: Run, tmp_path: Path, command: str, source: str, complaint: str
) -> None:
    options = {
        "record": (*RANGE, "-o", tmp_path / "out.csv"),
        "replay": ("--live", *RANGE),
        "preflight": (),
        "design-effect": ("--last", "7d"),
        "suggest": ("--last", "7d"),
    }
    code, out, err = run(command, write_budget(tmp_path, source), *options[command])
    assert (code, out) == (1, "")
    assert complaint in err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["model-v42.yaml"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "say what to record"),
        (("--to", "now"), "--to needs --from"),
        (("--last", "1h", "--from", "-2h"), "leave out --from and --to"),
        (("--from", "-1h", "--to", "-2h"), "is not before --to -2h"),
        (
            ("--from", "2026-10-02T00:00Z", "--to", "2026-10-01T00:00Z"),
            "; give an earlier --from, or a later --to",
        ),
        (("--from", "now"), "is not before --to now"),
        (("--from", "2030-01-01T00:00Z", "--to", "2030-01-02T00:00Z"), "values are in until"),
        (("--last", "20s"), "values are in until"),
        (("--from", "yesterday"), "'yesterday' is not a time; write ISO 8601"),
        (("--from", "2026-10-01T12:00:00"), "has no time zone; write it as UTC (2026-10-01T12:00Z)"),
        (("--from", "2026-11-27"), "write it as UTC (2026-11-27T00:00Z)"),
        (("--from", "2026-11-27 01:02:03"), "write it as UTC (2026-11-27T01:02:03Z)"),
        (("--from", "24h"), "did you mean -24h"),
        (
            ("--from", "-3h", "--to", "1h30m"),
            "Invalid value for --to: '1h30m' is not a time; did you mean -1h30m",
        ),
        (("--from", "-1w"), "not a duration"),
        (("--last", "long"), "Invalid value for --last: 'long': not a duration; write it like 20m, 24h"),
        (("--last", "0h"), "Invalid value for --last: '0h' is no time at all; write how far back, as 24h"),
        (("--last", "400d"), "longer than 365d is surely a mistake; write no more than that"),
        (("--from", "0001-01-01T00:00+14:00"), "is before year 1 or after year 9999 in UTC; check the year"),
        ((*RANGE, "--page", "0m"), "longer than nothing"),
        ((*RANGE, "-o", "out.jsonl"), "use .csv or .parquet"),
        ((*RANGE, "-o", "no/such/out.csv"), "there is no folder no/such"),
        ((*RANGE, "--release", "model-v41"), "release and baseline are both model-v41"),
    ],
)
def test_what_cannot_be_recorded_is_refused_before_the_source_is_asked(
    budget: Path, run: Run, tmp_path: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    code, out, err = run("record", budget, "-o", tmp_path / "out.csv", *arguments)
    assert (code, out) == (1, "")
    assert complaint in err
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    "text",
    ["2026-11-27", "20261127", "2026-11-27T09", "2026-11-27 09:30", "2026-11-27T09:30:15.5", "2026-W48"],
)
@pytest.mark.parametrize("read", [parse_time, lambda text: parse_until(text, NOON)])
def test_a_time_that_is_proposed_is_taken(text: str, read: Callable[[str], datetime]) -> None:
    with pytest.raises(click.BadParameter) as refused:
        read(text)
    proposed = refused.value.message.partition("as UTC (")[2].rstrip(")")
    assert read(proposed) == datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_suggestion_from_the_source_is_that_from_its_recording(run: Run, tmp_path: Path) -> None:
    series = write(tmp_path / "day.csv", traffic(n=60))
    budget = tmp_path / "model-v42.yaml"
    budget.write_text(
        f"""\
release: model-v42
baseline: model-v41
window: 2h
metrics: {{task_success: {{kind: proportion}}}}
rollback_budget: {{quality: {{task_success_delta_pp: -10, max_duration_min: 10}}}}
source: {{type: recorded, path: {series}}}
"""
    )
    few = ("--days", "100", "--jobs", "1", "--json")
    code, out, _ = run("suggest", budget, "--series", series, *few)
    day = ("--from", "2026-10-01T00:00Z", "--to", "2026-10-02T00:00Z")
    live_code, live, _ = run("suggest", budget, *day, *few)
    assert (code, live_code) == (0, 0)
    assert json.loads(live) == json.loads(out)
    code, _, err = run("suggest", budget, *day, *few, "--release", "model-v9")
    assert code == 1
    assert "the metric source: no sample of model-v9, the release" in err


def test_relative_times_count_from_now_and_keep_their_words() -> None:
    now = NOON
    last = time_range(None, None, "24h", now)
    assert last is not None
    assert (last.start, last.end, last.asked) == (now - timedelta(days=1), now, ("-24h", "now"))
    assert time_range("-24h", None, None, now) == time_range("-24h", "now", None, now) == last
    absolute = time_range("2026-09-30T14:00:00+02:00", "-1h30m", None, now)
    assert absolute is not None
    assert absolute.asked == ("2026-09-30T12:00:00Z", "-1h30m")
    assert absolute.end == now - timedelta(minutes=90)
    assert time_range(None, None, None, now) is None


def test_a_live_replay_says_what_a_replay_of_the_recording_says(
    budget: Path, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "out.parquet"
    assert run("record", budget, *RANGE, "-o", file)[0] == 0
    code, out, err = run("replay", budget, "--series", file, "--json")
    for says_live in (("--live",), ()):
        live_code, live, live_err = run("replay", budget, *says_live, *RANGE, "--json")
        assert (code, json.loads(out)) == (live_code, json.loads(live))
        assert err.replace(str(file), "the metric source") == live_err


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("replay", ()),
        ("replay", ("--series", "x.csv", "--live")),
        ("replay", ("--series", "x.csv", "--last", "1h")),
        ("design-effect", ()),
        ("design-effect", ("--series", "x.csv", "--last", "1h")),
        ("suggest", ()),
        ("suggest", ("--series", "x.csv", "--last", "1h")),
    ],
)
def test_a_file_and_a_live_source_exclude_each_other_and_one_is_needed(
    budget: Path, run: Run, command: str, options: tuple[str, ...]
) -> None:
    code, _, err = run(command, budget, *options)
    assert code == 1
    assert "--series" in err or "--live" in err


def test_preflight_reads_the_last_hour_of_the_source(budget: Path, recorded: Path, run: Run) -> None:
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    rows = ["time,metric,version,value,n"]
    for back in range(2, 90):
        time = (now - back * MINUTE).isoformat()
        for version in ("model-v42", "model-v41"):
            rows += [f"{time},task_success,{version},0.9,100", f"{time},task_success:de,{version},0.9,50"]
            rows += [f"{time},p95,{version},1.5,100"]
    recorded.write_text("\n".join(rows))
    code, out, _ = run("preflight", budget, "--json")
    said = json.loads(out)
    assert (code, said["looks"], said["source_warnings"]) == (0, 60, [])
    assert [one["baseline"]["known"] >= 59 for one in said["budgets"]] == [True] * 3
    code, out, _ = run("preflight", budget)
    assert code == 0
    assert "quality.task_success_delta_pp" in out
    task = PreflightOperator(task_id="preflight", budget=budget, tasks=Tasks())
    surveyed = task._survey(load_budget(budget)).model_dump(mode="json")
    assert surveyed["looks"] == 60
    assert [one["method"] for one in surveyed["budgets"]] == [one["method"] for one in said["budgets"]]


def test_the_help_of_each_command_has_an_example() -> None:
    for command in (cli.get_command(None, "record"), preflight, design_effect, suggest):  # type: ignore[arg-type]
        assert command is not None
        assert "Example" in CliRunner().invoke(command, ["--help"]).output
