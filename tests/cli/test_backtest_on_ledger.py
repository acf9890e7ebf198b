"""``backtest --ledger``: a budget on the past rollouts of a real ledger, and what it says it cannot know."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rollback_budget.engine.suspension import Suspension
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.views import FinalDecision, LoggedLabel
from rollback_budget.model.label import Label
from rollback_budget.model.spec import RolloutSpec
from tests.engine.builders import START, at, budget, rollout
from tests.support.command_line import Run
from tests.track_record.rollouts import key, slow, watch

pytestmark = pytest.mark.database

BUDGET = """\
release: v50
baseline: v49
service: assistant
window: 2h
watch: {on_blind: continue}

rollback_budget:
  latency:
    - p95_delta_pct: +15
      max_duration_min: MINUTES
      method: threshold
"""
MORE = """\
    - ttft_delta_pct: +15
      max_duration_min: 30
      method: threshold
      TIER
"""


def spec_of(release: str, minutes: float = 30) -> RolloutSpec:
    return rollout(budget(minutes=minutes), minutes=120).model_copy(update={"release": release})


def labelled(label: Label, onset: int | None = None) -> LoggedLabel:
    when = None if onset is None else at(onset)
    return LoggedLabel(label, when, "alice", "", START + timedelta(days=1))


@pytest.fixture
def past(ledger: Ledger) -> Ledger:
    """Rollouts of two hours, watched with a budget of 30 minutes."""
    for number, (minutes, label) in enumerate(
        (
            (range(0), labelled(Label.GOOD)),
            (range(40, 60), labelled(Label.BAD, 39)),
            (range(20, 121), labelled(Label.GOOD)),
            (range(60, 121), labelled(Label.BAD, 59)),
            (range(10, 31), None),
        ),
        start=1,
    ):
        release = f"v4{number}"
        watch(ledger, number, spec_of(release), slow(minutes, release))
        if label is not None:
            ledger.labels.add(key(number), label)
    return ledger


@pytest.fixture
def budget_of(tmp_path: Path) -> Callable[..., Path]:
    def write(minutes: int, more: str = "") -> Path:
        path = tmp_path / f"budget-{minutes}.yaml"
        path.write_text(BUDGET.replace("MINUTES", str(minutes)) + more)
        return path

    return write


def backtest(run: Run, *arguments: object) -> dict[str, Any]:
    code, out, _ = run("backtest", *arguments, "--ledger", "--json")
    assert code == 0
    said: dict[str, Any] = json.loads(out)
    return said


def test_the_rule_of_that_time_stops_what_it_stopped_then(
    past: Ledger, run: Run, budget_of: Callable[..., Path]
) -> None:
    said = backtest(run, budget_of(30))
    assert {one["rollout"]: (one["outcome"], one["trigger_minute"]) for one in said["rollouts"]} == {
        "v41": ("kept", None),
        "v42": ("missed", None),
        "v43": ("false trip", 50.0),
        "v44": ("found", 90.0),
        "v45": ("quiet", None),
    }
    for number, one in enumerate(said["rollouts"], start=1):
        live = [breach.breach.breached_at for breach in past.breaches.of(key(number))]
        assert [trigger["at"] for trigger in one["triggers"]] == [
            when.isoformat().replace("+00:00", "Z") for when in live
        ]
    rule = said["rule"]
    assert (rule["false_trips"], rule["found"], rule["missed"], rule["undecided"]) == (1, 1, 1, 0)
    first = said["rollouts"][0]
    assert (first["file"], first["run_id"], first["release"]) == (None, "manual__1", "v41")
    assert "rounded to six digits" in said["notes"][0]


def test_whether_a_looser_rule_had_tripped_after_the_rollback_is_undecided(
    past: Ledger, run: Run, budget_of: Callable[..., Path]
) -> None:
    """The looks end where the rollout ended: neither kept nor missed is known."""
    said = backtest(run, budget_of(45))
    outcomes = {one["rollout"]: one["outcome"] for one in said["rollouts"]}
    assert (outcomes["v43"], outcomes["v44"], outcomes["v42"]) == ("undecided", "undecided", "missed")
    rule = said["rule"]
    assert (rule["false_trips"], rule["found"], rule["missed"], rule["undecided"]) == (0, 0, 1, 2)


def test_a_tighter_rule_finds_what_was_missed_and_the_sweep_and_the_chart_say_so(
    past: Ledger, run: Run, budget_of: Callable[..., Path], tmp_path: Path
) -> None:
    chart = tmp_path / "trade-off.svg"
    said = backtest(run, budget_of(30), "--sweep", "--chart", chart)
    (half,) = [one for one in said["sweep"] if (one["threshold"], one["max_duration_min"]) == (15.0, 15.0)]
    assert (half["found"], half["false_trips"], half["tripped"], half["undecided"]) == (2, 1, 1, 0)
    assert "<svg" in chart.read_text()
    night = tmp_path / "night.svg"
    assert run("backtest", budget_of(15), "--ledger", "--chart", night, "--of", "v42")[0] == 0
    assert "v42: v42 against model-v41" in night.read_text()


def test_the_table_says_what_could_not_be_tried_and_why(
    past: Ledger, run: Run, budget_of: Callable[..., Path]
) -> None:
    past.rollouts.open(key(6), spec_of("v46"), START)
    watch(past, 7, spec_of("v47"), [])
    past.looks.prune(START + timedelta(minutes=30))
    watch(past, 8, spec_of("v48"), slow(range(0), "v48"))
    code, out, err = run("backtest", budget_of(30), "--ledger")
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "v46 manual__6 it never shipped" in lines
    assert "v47 manual__7 the ledger holds no look of it: they were pruned, or nobody watched" in lines
    assert (
        "v41 manual__1 its first 30 minutes are not in the ledger: they were pruned, or nobody watched"
        in lines
    )
    assert "1 of 1 rollout without a label in the ledger at" in err
    assert any(line.startswith("note: looks are rounded to six digits") for line in lines)


def test_a_budget_on_a_metric_that_was_not_recorded_leaves_the_rule_undecided(
    past: Ledger, run: Run, budget_of: Callable[..., Path]
) -> None:
    said = backtest(run, budget_of(30, MORE.replace("TIER", "tier: b")))
    outcomes = {one["rollout"]: one["outcome"] for one in said["rollouts"]}
    assert (outcomes["v41"], outcomes["v42"], outcomes["v44"]) == ("undecided", "undecided", "found")
    assert said["rollouts"][0]["untried"] == [
        {
            "budget": "latency.ttft_delta_pct",
            "reason": "ttft was not recorded: no budget of that rollout was on it",
        }
    ]
    p95, ttft = said["budgets"]
    assert (p95["good"], p95["missed"], p95["undecided"]) == (2, 1, 0)
    assert (ttft["good"], ttft["bad"], ttft["unlabelled"]) == (0, 0, 0)


def test_an_untried_budget_that_only_records_leaves_the_rule_as_it_is(
    past: Ledger, run: Run, budget_of: Callable[..., Path]
) -> None:
    said = backtest(run, budget_of(30, MORE.replace("TIER", "tier: c")))
    assert said["rollouts"][0]["outcome"] == "kept"


def test_an_onset_that_no_look_reaches_is_warned_of_with_the_command_that_corrects_it(
    ledger: Ledger, run: Run, budget_of: Callable[..., Path]
) -> None:
    """What was promoted early went on, and may go bad when nobody looks any more."""
    for number, last, onset in ((1, 60, 90), (2, 120, 40)):
        release = f"v4{number}"
        samples = slow(range(0), release, length=last)
        watch(ledger, number, spec_of(release), samples, final=FinalDecision.PROMOTED, by="alice")
        ledger.labels.add(key(number), labelled(Label.BAD, onset))
    warnings = {one["rollout"]: one["warnings"] for one in backtest(run, budget_of(30))["rollouts"]}
    assert warnings["v42"] == []
    (said,) = warnings["v41"]
    assert said == (
        "its onset 2026-10-01 13:30:00 UTC is not before the end of what was tried"
        " (2026-10-01 12:00:00 UTC to 2026-10-01 13:00:00 UTC):"
        " whatever trips counts as a false trip, and nothing can find it;"
        " correct it with `rollback-budget label v41 bad --onset TIME --run manual__1`"
    )
    assert f"warning: v41: {said}" in run("backtest", budget_of(30), "--ledger")[1]


def test_what_was_suspended_then_counts_for_nothing_now(
    ledger: Ledger, run: Run, budget_of: Callable[..., Path]
) -> None:
    hold = Suspension(budget="latency", since=at(20), until=at(100), by="alice", reason="load test")
    watch(ledger, 1, spec_of("v41"), slow(range(30, 90), "v41"), suspensions=[hold])
    assert backtest(run, budget_of(30))["rollouts"][0]["triggers"] == []


def test_what_the_commander_rolled_back_is_bad_until_somebody_says_otherwise(
    ledger: Ledger, run: Run, budget_of: Callable[..., Path]
) -> None:
    for number, by in ((1, "alice"), (2, "the rule"), (3, "the deadline")):
        release = f"v4{number}"
        samples = slow(range(20, 121), release)
        watch(ledger, number, spec_of(release), samples, final=FinalDecision.ROLLED_BACK, by=by)
    labels = [one["label"] for one in backtest(run, budget_of(30))["rollouts"]]
    assert labels == ["bad", None, None]
    ledger.labels.add(key(1), labelled(Label.GOOD))
    assert backtest(run, budget_of(30))["rollouts"][0]["label"] == "good"


def test_another_service_and_older_rollouts_are_not_tried(
    past: Ledger, run: Run, budget_of: Callable[..., Path]
) -> None:
    other = budget_of(30)
    other.write_text(other.read_text().replace("service: assistant", "service: search"))
    code, out, err = run("backtest", other, "--ledger")
    assert (code, out) == (1, "")
    assert "no past rollout of 'search' in the ledger at" in err
    assert "its services: assistant" in err
    code, out, err = run("backtest", budget_of(15), "--ledger", "--since", "1m")
    assert (code, out) == (1, "")
    assert "began in the last 1 min (since " in err
    assert "give a longer --since, or leave it out" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either FOLDER or --ledger"),
        (("rollouts", "--ledger"), "give either FOLDER or --ledger"),
        (("rollouts", "--since", "90d"), "--since and --url belong to --ledger"),
        (("--ledger", "--since", "soon"), "not a duration"),
        (("--ledger", "--of", "v99"), "there is no 'v99' in the ledger at"),
    ],
)
def test_what_makes_no_sense_is_one_message_and_exit_code_1(
    past: Ledger, run: Run, budget_of: Callable[..., Path], arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = run("backtest", budget_of(30), *arguments)
    assert (code, out) == (1, "")
    assert message in err
