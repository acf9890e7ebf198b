"""``decide`` and ``standby --check``, and what ``status`` and ``history`` say of who watches."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.looks import STANDBY, LookRecord
from rollback_budget.ledger.views import FinalDecision
from rollback_budget.model.decision import OnTimeout
from rollback_budget.model.spec import Commander
from tests.support.command_line import Run, command_line
from tests.support.rollouts import KEY, make_breach, make_evaluation, make_spec

pytestmark = pytest.mark.database

MINUTE = timedelta(minutes=1)
WHY = "a load test until then"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A ledger with a rollout that shipped an hour ago, and that nobody watches."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("ROLLBACK_BUDGET_LEDGER", url)
    monkeypatch.setenv("COLUMNS", "200")
    store = Ledger(url)
    store.migrate()
    shipped = datetime.now(UTC) - 60 * MINUTE
    spec = make_spec(incident_commanders=(Commander(id="7", name="alice"), Commander(id="8", name="bob")))
    store.rollouts.open(KEY, spec, shipped)
    store.rollouts.record_shipped(KEY, shipped, shipped + spec.window)
    return store


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return command_line(capsys, monkeypatch)


def ask(store: Ledger) -> None:
    """A question about one breach, open for ten minutes."""
    now = datetime.now(UTC)
    store.reviews.open(KEY, 1, now + 10 * MINUTE, OnTimeout.ROLLBACK, now)
    store.evaluations.add(KEY, 1, "watch", make_evaluation(make_breach()), now)


def watch_by_standby(store: Ledger) -> None:
    assert store.watch_leases.take(KEY, "host-2#1", timedelta(minutes=5)) is not None
    store.standbys.seen("host-2", datetime.now(UTC))


def decide(run: Run, *arguments: str, by: str = "alice") -> tuple[object, str, str]:
    return run("decide", "model-v42", *arguments, "--by", by)


def test_rolling_back_is_the_final_decision_at_once(store: Ledger, run: Run) -> None:
    ask(store)
    watch_by_standby(store)
    code, out, err = decide(run, "roll-back", by="7")
    assert (code, err) == (0, "")
    assert "standby host-2 rolls it back within seconds" in out
    final = store.final_decisions.of(KEY)
    assert final is not None
    assert (final.decision, final.by) == (FinalDecision.ROLLED_BACK, "alice")
    assert final.reason == make_evaluation(make_breach()).sentence
    code, _, err = decide(run, "go-on", "--reason", WHY)
    assert code == 1
    assert "rolled back by alice" in err


def test_going_on_is_an_override_until_the_time_that_was_said(store: Ledger, run: Run) -> None:
    ask(store)
    until = datetime.now(UTC) + 30 * MINUTE
    arguments = ("go-on", "--reason", WHY, "--until", until.isoformat(), "--mute", "--json")
    code, out, _ = decide(run, *arguments)
    assert code == 0
    assert json.loads(out)["option"] == "Go on"
    (override,) = store.overrides.of(KEY)
    assert (override.by, override.reason, override.until) == ("alice", WHY, until)
    assert override.budget_ids == (make_breach().budget,)
    assert [one.suspension.budget for one in store.suspensions.of(KEY)] == [make_breach().budget]
    assert store.final_decisions.of(KEY) is None


def test_a_promotion_is_written_down_for_airflow(store: Ledger, run: Run) -> None:
    ask(store)
    code, out, _ = decide(run, "promote", "--reason", WHY)
    assert code == 0
    assert "Airflow promotes it when it is back" in out
    assert store.final_decisions.of(KEY) is None
    assert [one.option for one in store.decisions.of(KEY)] == ["Promote now"]


@pytest.mark.parametrize(
    ("arguments", "by", "complaint"),
    [
        (("roll-back",), "mallory", "who may: 7, 8"),
        (("go-on",), "alice", "needs a --reason of at least 5 letters"),
        (("promote", "--reason", "ok"), "alice", "needs a --reason of at least 5 letters"),
        (("go-on", "--reason", WHY, "--until", "2020-01-01T00:00Z"), "alice", "is over"),
        (("roll-back", "--mute"), "alice", "belong to go-on"),
    ],
)
def test_an_answer_that_airflow_would_not_take_is_not_taken(
    store: Ledger, run: Run, arguments: tuple[str, ...], by: str, complaint: str
) -> None:
    ask(store)
    code, _, err = decide(run, *arguments, by=by)
    assert code == 1
    assert complaint in err
    assert store.decisions.of(KEY) == []


def test_beside_a_live_airflow_it_refuses_and_says_how_to_answer_there(store: Ledger, run: Run) -> None:
    ask(store)
    store.watch_heartbeats.beat([KEY])
    code, _, err = decide(run, "roll-back")
    assert code == 1
    assert f"/dags/{KEY.dag_id}/runs/" in err
    assert "taskInstances/round_1.review/-1/hitlDetails" in err
    assert store.decisions.of(KEY) == []


def test_the_second_answer_is_refused_and_the_first_named(store: Ledger, run: Run) -> None:
    ask(store)
    assert decide(run, "promote", "--reason", WHY)[0] == 0
    code, _, err = decide(run, "go-on", "--reason", WHY, by="bob")
    assert code == 1
    assert "answered already: alice decided 'Promote now'" in err


def test_a_promotion_that_airflow_has_not_followed_yet_can_be_taken_back_by_rolling_back(
    store: Ledger, run: Run
) -> None:
    ask(store)
    assert decide(run, "promote", "--reason", WHY)[0] == 0
    assert decide(run, "roll-back", "--reason", "seen in the tickets", by="bob")[0] == 0
    final = store.final_decisions.of(KEY)
    assert final is not None
    assert (final.decision, final.by) == (FinalDecision.ROLLED_BACK, "bob")
    assert [one.by for one in store.decisions.of(KEY)] == ["alice"]


@pytest.mark.parametrize(
    ("option", "so"), [("go-on", "goes on anyway"), ("promote", "Airflow promotes it at the end")]
)
def test_without_a_question_nothing_but_a_rollback_is_taken(
    store: Ledger, run: Run, option: str, so: str
) -> None:
    watch_by_standby(store)
    code, _, err = decide(run, option, "--reason", WHY)
    assert code == 1
    assert so in err
    assert store.decisions.of(KEY) == []


def test_a_rollback_is_taken_without_a_question_and_says_when_nobody_is_there_to_do_it(
    store: Ledger, run: Run
) -> None:
    code, out, _ = decide(run, "roll-back", "--reason", "seen in the tickets")
    assert code == 0
    assert "no standby watches it now" in out
    assert "rollback-budget standby --once" in out
    assert store.final_decisions.of(KEY) is not None


def test_what_is_refused_writes_nothing_either_where_airflow_left_an_answer_half_written(
    store: Ledger, run: Run
) -> None:
    ask(store)
    store.decisions.add(KEY, 1, "Go on", "alice", WHY, datetime.now(UTC), timed_out=False)
    code, _, err = decide(run, "promote", "--reason", WHY, by="bob")
    assert code == 1
    assert "answered already: alice decided 'Go on'" in err
    assert store.overrides.of(KEY) == []


def test_the_check_exits_1_until_a_standby_is_alive_and_all_is_watched(store: Ledger, run: Run) -> None:
    code, out, _ = run("standby", "--check")
    assert code == 1
    assert "no standby has ever been seen" in out
    assert "watched by nobody since" in out
    watch_by_standby(store)
    code, out, _ = run("standby", "--check")
    assert code == 0
    assert "watched by standby host-2 since" in out
    code, out, _ = run("standby", "--check", "--json")
    document = json.loads(out)
    assert (code, document["healthy"], document["standby"]["alive"]) == (0, True, True)
    assert document["rollouts"][0]["watched_by"]["name"] == "host-2"


def test_the_check_without_a_ledger_exits_1(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ROLLBACK_BUDGET_LEDGER", f"sqlite:///{tmp_path / 'nowhere.db'}")
    code, _, err = run("standby", "--check")
    assert code == 1
    assert "there is no ledger" in err


def test_status_and_history_say_who_watches(store: Ledger, run: Run) -> None:
    assert "watched by nobody since" in run("status")[1]
    watch_by_standby(store)
    assert "watched by standby host-2" in run("status")[1]
    (document,) = json.loads(run("status", "--json")[1])
    assert document["watched_by"]["who"] == "standby"
    now = datetime.now(UTC)
    store.looks.add([LookRecord(KEY, now - minute * MINUTE, "[null]", STANDBY) for minute in range(3)])
    events = json.loads(run("history", "model-v42", "--json")[1])["events"]
    assert [one["event"] for one in events] == ["opened", "shipped", "standby watched"]
    store.watch_heartbeats.beat([KEY])
    (document,) = json.loads(run("status", "--json")[1])
    assert document["watched_by"]["who"] == "airflow"
