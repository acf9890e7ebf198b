"""``report`` on a real ledger: table, JSON and picture of the track record."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import FinalDecision, LoggedLabel, RollbackRecord
from rollback_budget.model.label import Label
from rollback_budget.targets.apply import Outcome
from tests.engine.builders import START, at, budget, rollout
from tests.support.command_line import Run
from tests.track_record.rollouts import key, slow, watch

pytestmark = pytest.mark.database

DAY = timedelta(days=1)
#: Far enough in the past and the future that every rollout of these tests is shown, and is over.
ALL = ("--since", "365d")
P95 = "latency.p95_delta_pct"


@pytest.fixture(autouse=True)
def long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """Today is a month after the rollouts of these tests."""

    class Today(datetime):
        @classmethod
        def now(cls, _tz: object = None) -> datetime:  # type: ignore[override]
            return START + 30 * DAY

    monkeypatch.setattr("rollback_budget.cli.report.datetime", Today)


@pytest.fixture
def past(ledger: Ledger) -> Ledger:
    """One promoted and good, one rolled back rightly, one wrongly, one that the commander went past."""
    spec = rollout(budget(), minutes=120)
    watch(ledger, 1, spec, slow(range(0)))
    watch(ledger, 2, spec, slow(range(60, 121)))
    watch(ledger, 3, spec, slow(range(20, 121)))
    watch(ledger, 4, spec, slow(range(40, 121)), final=FinalDecision.PROMOTED, by="bob")
    watch(ledger, 5, spec, slow(range(5, 121)), by="carol")
    bad = LoggedLabel(Label.BAD, at(59), "alice", "", START + DAY)
    good = replace(bad, label=Label.GOOD, onset=None)
    for number, label in ((1, good), (2, bad), (3, good), (4, replace(bad, onset=at(39)))):
        ledger.labels.add(key(number), label)
    ledger.overrides.add(key(4), 1, (P95,), "bob", "known", at(75), at(120))
    for number, minute in ((2, 90), (3, 50), (5, 35)):
        ledger.rollbacks.record(
            key(number), RollbackRecord(f"{number}", Outcome.EFFECTIVE, at(minute), at(minute + 2))
        )
    return ledger


def report(run: Run, *arguments: object) -> dict[str, Any]:
    code, out, _ = run("report", *arguments, "--json")
    assert code == 0
    said: dict[str, Any] = json.loads(out)
    return said


def test_json_holds_the_track_record_of_every_budget(past: Ledger, run: Run) -> None:
    said = report(run, *ALL)
    assert {how: count for how, count in said["rollouts"].items() if count} == {
        "total": 5,
        "promoted": 2,
        "rolled_back_by_rule": 2,
        "rolled_back_by_commander": 1,
    }
    assert said["labels"] == {"good": 2, "bad": 3, "assumed_bad": 1, "unlabelled": 0}
    outcomes = {"false_trips": 1, "found": 2, "missed": 0, "overridden": 1, "unlabelled": 0}
    assert said["outcomes"] == outcomes
    (p95,) = said["budgets"]
    assert (p95["service"], p95["budget"], p95["rollouts"], p95["breaches"]) == ("assistant", P95, 5, 4)
    assert p95["outcomes"] == {**outcomes, "found_by_another": 0}
    # From the onset at minute 59 to 92, and from where the breach's first bad look begins at minute 4 to 37.
    assert p95["harm"] == {
        "total_min": 66.0,
        "median_min": 33.0,
        "measured": 2,
        "from_breach": 1,
        "unknown": 0,
    }
    assert (p95["overrides"]["total"], p95["overrides"]["promoted"], p95["overrides"]["labelled_bad"]) == (
        1,
        1,
        1,
    )
    assert (p95["looks"], p95["unknown_looks"], p95["unknown_share"]) == (120 + 90 + 50 + 70 + 35, 0, 0.0)


def test_the_table_says_it_for_people(past: Ledger, run: Run) -> None:
    code, out, _ = run("report", *ALL)
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "how they ended: 2 promoted, 2 rolled back by rule, 1 rolled back by commander" in lines
    assert (
        "labels of those that are over: 2 good, 3 bad (1 by the commander's rollback alone), 0 without"
        in lines
    )
    harm = "1 h 6 min in 2, median 33 min (1 from the breach on)"
    assert f"{P95} 5 4 2 1 0 1 0 {harm}" in lines
    assert f"{P95} 1: 1 promoted, 1 labelled bad 0 min 0 0.0 % of 365" in lines


def test_looks_that_were_pruned_are_said_and_not_counted_as_seen(past: Ledger, run: Run) -> None:
    past.looks.prune(START + DAY)
    (p95,) = report(run, *ALL)["budgets"]
    assert (p95["unknown_share"], p95["rollouts_without_looks"]) == (None, 5)
    assert "not known" in run("report", *ALL)[1]


def test_a_rollout_whose_budget_cannot_be_read_is_named_and_not_counted(past: Ledger, run: Run) -> None:
    with past.database.write() as session:
        session.execute(text("UPDATE rollouts SET spec = '{}' WHERE run_id = 'manual__3'"))
    said = report(run, *ALL)
    assert (said["rollouts"]["total"], said["outcomes"]["false_trips"]) == (4, 0)
    assert [one["run_id"] for one in said["unreadable"]] == ["manual__3"]
    assert "not counted: rollout_model_v42 manual__3" in run("report", *ALL)[1]


def test_only_the_rollouts_of_the_time_and_the_service_are_counted(past: Ledger, run: Run) -> None:
    spec = rollout(budget(), minutes=120).model_copy(update={"service": "search"})
    past.rollouts.open(RolloutKey("search", "1"), spec, START + 20 * DAY)
    assert report(run, *ALL)["rollouts"]["total"] == 6
    assert report(run, *ALL, "--service", "search")["rollouts"]["total"] == 1
    assert report(run, "--since", "15d")["rollouts"] == {
        **dict.fromkeys(report(run, *ALL)["rollouts"], 0),
        "total": 1,
        "not_shipped": 1,
    }


def test_rollouts_without_a_label_are_named(ledger: Ledger, run: Run) -> None:
    spec = rollout(budget(), minutes=120)
    for number in range(1, 13):
        watch(ledger, number, spec, slow(range(0)))
    ledger.labels.add(key(1), LoggedLabel(Label.GOOD, None, "alice", "", START + DAY))
    unlabelled = report(run, *ALL)["unlabelled"]
    assert [one["run_id"] for one in unlabelled] == [f"manual__{number}" for number in range(2, 13)]
    assert unlabelled[0] == {
        "dag_id": "rollout_model_v42",
        "run_id": "manual__2",
        "release": "model-v42",
        "service": "assistant",
    }
    err = run("report", *ALL)[2]
    assert "say how the 11 went" in err
    assert "model-v42 manual__2, model-v42 manual__3" in err
    assert "model-v42 manual__11 and 1 more" in err


def test_a_service_that_is_not_in_the_ledger_is_no_perfect_record(past: Ledger, run: Run) -> None:
    code, out, err = run("report", *ALL, "--service", "nope")
    assert (code, out) == (1, "")
    assert "no rollout of the service 'nope' is in the ledger at" in err
    assert "its services: assistant" in err


def test_a_time_without_a_rollout_is_no_perfect_record(past: Ledger, run: Run) -> None:
    code, out, _ = run("report", "--since", "1d", "--service", "assistant")
    assert code == 0
    assert out.splitlines()[1:] == ["there is nothing to report; give a longer --since"]


def test_the_tables_fit_100_columns(past: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("report", *ALL)[1].splitlines()
    tables = lines[next(place for place, line in enumerate(lines) if line.startswith("budget")) :]
    assert max(len(line.rstrip()) for line in tables) <= 100
    assert any(line.startswith(P95) for line in tables)


def test_nothing_in_the_ledger_is_a_report_of_nothing(ledger: Ledger, run: Run, tmp_path: Path) -> None:
    code, out, _ = run("report", "--picture", tmp_path / "record.svg")
    assert code == 0
    assert "0 rollouts since" in out


@pytest.mark.parametrize(("name", "magic"), [("record.svg", b"<svg"), ("record.png", b"\x89PNG")])
def test_the_picture_is_drawn(past: Ledger, run: Run, tmp_path: Path, name: str, magic: bytes) -> None:
    picture = tmp_path / name
    assert run("report", *ALL, "--picture", picture)[0] == 0
    assert picture.read_bytes().startswith(magic)


def test_the_picture_says_of_which_budget_nothing_was_seen(past: Ledger, run: Run, tmp_path: Path) -> None:
    past.looks.prune(START + DAY)
    picture = tmp_path / "record.svg"
    assert run("report", *ALL, "--picture", picture)[0] == 0
    assert f"{P95} (not known)" in picture.read_text()


def test_a_picture_of_another_format_is_refused_before_anything_is_read(ledger: Ledger, run: Run) -> None:
    code, out, err = run("report", "--picture", "record.pdf")
    assert (code, out) == (1, "")
    assert "a chart is written as .svg or .png" in err
