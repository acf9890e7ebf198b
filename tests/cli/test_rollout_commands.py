"""``status``, ``history``, ``suspend``, ``resume`` and ``suspensions`` on a real ledger."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rollback_budget.engine.evaluation import BudgetEvaluation, Look, Status, VerdictKind
from rollback_budget.exceptions import LedgerUnavailableError
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.looks import LookRecord
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import FinalDecision, RollbackRecord
from rollback_budget.model.budget import Method, Tier
from rollback_budget.model.decision import OnTimeout
from rollback_budget.targets.apply import Outcome
from tests.support.command_line import Run, command_line
from tests.support.rollouts import KEY, make_breach, make_evaluation, make_spec

pytestmark = pytest.mark.database

MINUTE = timedelta(minutes=1)
P95 = "latency.p95_delta_pct"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("ROLLBACK_BUDGET_LEDGER", url)
    monkeypatch.setenv("COLUMNS", "200")
    store = Ledger(url)
    store.migrate()
    return store


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return command_line(capsys, monkeypatch)


def open_rollout(
    store: Ledger, key: RolloutKey = KEY, *, shipped_min: float = 60, **changes: Any
) -> datetime:
    """Open and ship a rollout so many minutes ago; return when."""
    shipped = datetime.now(UTC) - shipped_min * MINUTE
    spec = make_spec(**changes)
    store.rollouts.open(key, spec, shipped - MINUTE)
    store.rollouts.record_shipped(key, shipped, shipped + spec.window)
    return shipped


def suspend(run: Run, *more: object) -> dict[str, Any]:
    code, out, _ = run(
        "suspend", "model-v42", P95, "--until", "+30m", "--reason", "load test", "--json", *more
    )
    assert code == 0
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_suspension_is_recorded_listed_seen_in_the_status_and_ended(store: Ledger, run: Run) -> None:
    open_rollout(store)
    hold = suspend(run, "--by", "alice")
    assert (hold["budget"], hold["by"], hold["reason"], hold["active"]) == (P95, "alice", "load test", True)
    assert store.suspensions.of(KEY)[0].id == hold["id"]
    assert "load test" in run("suspensions")[1]
    (standing,) = json.loads(run("status", "--json")[1])
    assert (standing["phase"], standing["budgets"][0]["suspended"]) == ("watching", True)
    assert "suspended until" in run("status")[1]
    assert run("resume", hold["id"], "--by", "bob", "--reason", "done")[0] == 0
    assert run("suspensions")[1] == "no suspensions\n"
    assert json.loads(run("status", "--json")[1])[0]["suspensions"] == []
    events = json.loads(run("history", "model-v42", "--json")[1])["events"]
    assert [(e["event"], e["by"]) for e in events[2:]] == [("suspended", "alice"), ("resumed", "bob")]


def test_a_budget_that_no_rollout_has_is_refused_and_the_nearest_named(store: Ledger, run: Run) -> None:
    open_rollout(store)
    code, out, err = run("suspend", "model-v42", "latency.p95_delta", "--until", "+1h", "--reason", "x")
    assert (code, out) == (1, "")
    assert P95 in err
    assert store.suspensions.ending_after() == []


def test_ahead_of_time_a_release_may_be_named_and_a_slip_is_warned_of(store: Ledger, run: Run) -> None:
    open_rollout(store)
    code, out, err = run("suspend", "model-v43", "all", "--until", "+1h", "--reason", "x")
    assert code == 0
    assert "every rollout of model-v43" in out
    assert "did you mean 'model-v42'" in err
    later = RolloutKey("rollout_model_v43", "1")
    open_rollout(store, later, shipped_min=0, release="model-v43")
    assert len(store.suspensions.of(later)) == 1
    assert store.suspensions.of(KEY) == []


def test_suspending_tier_a_or_past_the_window_warns_and_one_run_can_be_meant(
    store: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__ROLLBACK_BUDGET__MAX_SUSPENSION", "7d")
    budgets = tuple(line.model_copy(update={"tier": Tier.A}) for line in make_spec().budgets)
    open_rollout(store, budgets=budgets)
    other = RolloutKey(KEY.dag_id, "another")
    open_rollout(store, other)
    until = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    command = ("suspend", KEY.dag_id, "latency", "--until", until, "--reason", "x", "--run", KEY.run_id)
    code, _, err = run(*command)
    assert code == 0
    assert f"tier A is suspended: {P95}" in err
    assert "outlasts the window" in err
    assert (len(store.suspensions.of(KEY)), store.suspensions.of(other)) == (1, [])


def test_what_cannot_be_suspended_says_why(store: Ledger, run: Run) -> None:
    open_rollout(store)
    store.final_decisions.take(KEY, FinalDecision.PROMOTED, "the rule", "kept", datetime.now(UTC))
    for arguments, complaint in [
        ((KEY.run_id, "all", "--until", "+1h", "--reason", "x"), "has ended (promoted)"),
        (("model-v42", "all", "--until", "2020-01-01T00:00:00Z", "--reason", "x"), "not in the future"),
        (("model-v42", "all", "--until", "tomorrow", "--reason", "x"), "is no time"),
        (("model-v42", "all", "--until", "2026-01-01T00:00:00", "--reason", "x"), "no time zone"),
        (("model-v42", "all", "--until", "+1h", "--reason", " "), "say why"),
        (("model-v42", "all", "--until", "9999-12-31T00:00:00Z", "--reason", "x"), "4 h is the longest"),
        (("model-v42", "all", "--until", "+1h", "--reason", "x", "--run", "7"), "has no run '7'"),
    ]:
        code, _, err = run("suspend", *arguments)
        assert (code, complaint in err) == (1, True), err
    assert run("resume", 99)[0] == 1


def test_the_status_counts_a_review_down_and_shows_what_is_left(store: Ledger, run: Run) -> None:
    shipped = open_rollout(store)
    breach = make_breach(shipped + 50 * MINUTE)
    now = datetime.now(UTC)
    store.evaluations.add(KEY, 1, "watch", make_evaluation(breach), now)
    store.reviews.open(KEY, 1, now + 10 * MINUTE, OnTimeout.ROLLBACK, now)
    (standing,) = json.loads(run("status", "--json")[1])
    assert (standing["phase"], standing["round"]) == ("review", 1)
    assert standing["review"]["on_timeout"] == "rollback"
    assert "silence rolls back in 9 min" in run("status")[1]
    store.decisions.add(KEY, 1, "Go on", "alice", "looks fine", now, timed_out=False)
    store.overrides.add(KEY, 1, (P95,), "alice", "looks fine", now, now + 60 * MINUTE)
    (standing,) = json.loads(run("status", "--json")[1])
    assert (standing["phase"], standing["round"], standing["review"]) == ("watching", 2, None)


def test_the_status_and_history_say_what_is_doubtful_about_the_verdict_under_review(
    store: Ledger, run: Run
) -> None:
    shipped = open_rollout(store)
    now = datetime.now(UTC)
    verdict = make_evaluation(make_breach(shipped + 50 * MINUTE))
    doubtful = verdict.model_copy(update={"doubts": ("the judge of it changed",)})
    store.evaluations.add(KEY, 1, "watch", doubtful, now)
    store.reviews.open(KEY, 1, now + 10 * MINUTE, OnTimeout.ROLLBACK, now)
    (standing,) = json.loads(run("status", "--json")[1])
    assert standing["review"]["doubts"] == ["the judge of it changed"]
    assert "model-v42: mind that the judge of it changed" in run("status")[1]
    assert "; the judge of it changed" in run("history", "model-v42")[1]
    store.decisions.add(KEY, 1, "Go on", "alice", "looks fine", now, timed_out=False)
    assert "mind that" not in run("status")[1]


def look(time: datetime, *burns_min: float | None, delta: float = 31.0) -> LookRecord:
    """A bad look with so much burnt of each budget of the spec; None is a budget that was not looked at."""
    entries = [None if burn is None else ["b", burn * 60, delta] for burn in burns_min]
    return LookRecord(KEY, time, json.dumps(entries))


def test_the_status_goes_by_the_newest_look_of_a_watch_that_is_on(store: Ledger, run: Run) -> None:
    shipped = open_rollout(store)
    assert json.loads(run("status", "--json")[1])[0]["budgets"][0]["status"] is None
    store.looks.add([look(shipped + minute * MINUTE, minute - 3) for minute in range(3, 23)])
    (standing,) = json.loads(run("status", "--json")[1])
    [budget] = standing["budgets"]
    assert (budget["status"], budget["delta"], budget["burn_s"], budget["remaining_s"]) == (
        "bad",
        31.0,
        19 * 60.0,
        11 * 60.0,
    )
    newest = (shipped + 22 * MINUTE).isoformat().replace("+00:00", "Z")
    assert (budget["looked_at"], standing["evaluated_until"]) == (newest, newest)
    assert "███████░░░░░ 11 min left" in run("status")[1]


def test_a_budget_that_a_guard_does_not_watch_keeps_the_look_before(store: Ledger, run: Run) -> None:
    [p95] = make_spec().budgets
    incidents = p95.model_copy(
        update={"id": "safety.incidents_increase", "tier": Tier.A, "max_duration": timedelta(0)}
    )
    shipped = open_rollout(store, budgets=(p95, incidents))
    store.looks.add([look(shipped + 30 * MINUTE, 30, 0), look(shipped + 31 * MINUTE, None, 0, delta=2.0)])
    (standing,) = json.loads(run("status", "--json")[1])
    assert [(one["burn_s"], one["delta"]) for one in standing["budgets"]] == [(1800.0, 31.0), (0.0, 2.0)]
    assert "████████████ at once" in run("status")[1]


def test_after_go_on_the_status_shows_the_new_burn_and_not_the_verdict_before(
    store: Ledger, run: Run
) -> None:
    shipped = open_rollout(store)
    breach = make_breach(shipped + 40 * MINUTE)
    at_breach = Look(time=breach.breached_at, status=Status.BAD, delta=31.0)
    verdict = make_evaluation(breach).model_copy(update={"budgets": (standing_at(at_breach),)})
    store.looks.add([look(shipped + 39 * MINUTE, 29)])
    store.evaluations.add(KEY, 1, "watch", verdict, breach.breached_at)
    assert json.loads(run("status", "--json")[1])[0]["budgets"][0]["burn_s"] == 1800.0
    store.looks.add([look(shipped + 45 * MINUTE, 2)])
    assert json.loads(run("status", "--json")[1])[0]["budgets"][0]["burn_s"] == 120.0


def standing_at(found: Look) -> BudgetEvaluation:
    return BudgetEvaluation(
        budget=P95,
        tier=Tier.B,
        method=Method.THRESHOLD,
        method_reason="",
        look=found,
        burn=timedelta(minutes=30),
        remaining=timedelta(0),
        looks=31,
        unknown_looks=0,
    )


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_rollback_is_only_said_to_be_over_with_its_outcome(
    store: Ledger, run: Run, outcome: Outcome
) -> None:
    open_rollout(store)
    now = datetime.now(UTC)
    store.final_decisions.take(KEY, FinalDecision.ROLLED_BACK, "alice", "worse", now)
    assert json.loads(run("status", "--json")[1])[0]["phase"] == "rolling_back"
    store.rollbacks.record(KEY, RollbackRecord("k", outcome, now, now, "baseline", "0 %"))
    (standing,) = json.loads(run("status", "model-v42", "--json")[1])
    assert (standing["phase"], standing["rollback_outcome"]) == ("rolled_back", outcome.value)
    assert outcome.value.replace("_", " ") in run("status")[1]


def test_a_rollout_is_shown_in_order_with_who_when_and_why(store: Ledger, run: Run) -> None:
    shipped = open_rollout(store)
    breach = make_breach(shipped + 10 * MINUTE)
    evaluation = make_evaluation(breach)
    assert evaluation.verdict is VerdictKind.BREACH
    store.evaluations.add(KEY, 1, "watch", evaluation, shipped + 11 * MINUTE)
    store.breaches.log(KEY, [breach], shipped + 11 * MINUTE)
    store.reviews.open(KEY, 1, shipped + 27 * MINUTE, OnTimeout.ROLLBACK, shipped + 12 * MINUTE)
    store.notifications.claim(KEY, "review_opened 1", "1 slack", shipped + 12 * MINUTE)
    store.notifications.settle(KEY, "review_opened 1", "1 slack", shipped + 13 * MINUTE)
    store.decisions.add(KEY, 1, "Roll back now", None, None, shipped + 27 * MINUTE, timed_out=True)
    store.final_decisions.take(
        KEY, FinalDecision.ROLLED_BACK, "the deadline", "no answer", shipped + 28 * MINUTE
    )
    record = RollbackRecord(
        "k", Outcome.EFFECTIVE, shipped + 29 * MINUTE, shipped + 30 * MINUTE, "v41", "0 %"
    )
    store.rollbacks.record(KEY, record)
    reported = json.loads(run("history", "model-v42", "--json")[1])
    assert [(line["event"], line["by"]) for line in reported["events"]] == [
        ("opened", None),
        ("shipped", None),
        ("breach", None),
        ("verdict", None),
        ("review opened", None),
        ("notified", None),
        ("decided", "the deadline"),
        ("rolled back", "the deadline"),
        ("rollback", None),
    ]
    code, out, _ = run("history", "model-v42")
    assert code == 0
    assert "Roll back now  [the deadline]" in out


def test_the_stages_of_a_ramp_are_shown_with_the_share_that_each_gave(store: Ledger, run: Run) -> None:
    shipped = open_rollout(store)
    store.stages.record(KEY, 1, 0.005, shipped)
    store.stages.record(KEY, 2, 0.25, shipped + 30 * MINUTE)
    events = json.loads(run("history", "model-v42", "--json")[1])["events"]
    reported = [(one["stage"], one["share"]) for one in events if one["event"] == "stage"]
    assert reported == [(1, 0.005), (2, 0.25)]
    out = run("history", "model-v42")[1]
    assert "1: the release gets 0.5 % of the traffic" in out
    assert "2: the release gets 25 % of the traffic" in out


def test_of_several_runs_the_newest_is_shown_and_the_others_are_named(store: Ledger, run: Run) -> None:
    open_rollout(store, shipped_min=90)
    newest = RolloutKey(KEY.dag_id, "manual__newest")
    open_rollout(store, newest, shipped_min=5)
    reported = json.loads(run("history", "model-v42", "--json")[1])
    assert (reported["run_id"], reported["other_runs"]) == (newest.run_id, [KEY.run_id])
    older = json.loads(run("history", "model-v42", "--run", KEY.run_id, "--json")[1])
    assert older["run_id"] == KEY.run_id


@pytest.mark.parametrize("command", ["history", "status"])
def test_an_unknown_release_names_the_nearest_known(store: Ledger, run: Run, command: str) -> None:
    code, _, err = run(command, "model-v24")
    assert (code, "holds no rollout yet" in err) == (1, True)
    open_rollout(store)
    code, _, err = run(command, "model-v24")
    assert (code, "did you mean 'model-v42'" in err) == (1, True)


def test_hostile_names_reach_the_terminal_as_text(store: Ledger, run: Run) -> None:
    open_rollout(store, release="v\x1b[31m[bold]", service="[/nonsense]")
    for command in (("status",), ("history", "[/nonsense]")):
        code, out, _ = run(*command)
        assert (code, "\x1b[31m" in out) == (0, False)
        assert "v\\x1b[31m[bold]" in out
        assert "\\n" not in out


def test_watching_says_every_change_until_it_is_stopped(store: Ledger) -> None:
    open_rollout(store)
    command = [
        sys.executable,
        "-m",
        "rollback_budget.cli.main",
        "status",
        "--watch",
        "--json",
        "--every",
        "0.2",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ}) as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())[0]["phase"] == "watching"
        store.final_decisions.take(KEY, FinalDecision.PROMOTED, "the rule", "kept", datetime.now(UTC))
        phases = (json.loads(line)[0]["phase"] for line in watching.stdout)
        assert next(phase for phase in phases if phase != "watching") == "promoted"
        watching.send_signal(signal.SIGINT)
        watching.stdout.read()
        assert watching.wait(20) == 0


def test_without_a_ledger_the_commands_say_what_to_do(run: Run, tmp_path: Path) -> None:
    nowhere = f"sqlite:///{tmp_path / 'none.db'}"
    for command in (("status",), ("history", "x"), ("suspensions",)):
        code, _, err = run(*command, "--url", nowhere)
        assert (code, "rollback-budget ledger migrate" in err) == (1, True)
    with pytest.raises(LedgerUnavailableError):
        Ledger(nowhere).suspensions.ending_after()
