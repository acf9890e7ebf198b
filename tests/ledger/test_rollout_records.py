from __future__ import annotations

import multiprocessing
import sqlite3
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import update

from rollback_budget.exceptions import LedgerRuleError, UnknownRolloutError, UnreadableSpecError
from rollback_budget.ledger.history import history_of
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.models import RolloutRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import (
    CommanderDecision,
    FinalDecision,
    LoggedBreach,
    RecordedOverride,
    RollbackRecord,
)
from rollback_budget.targets.apply import Outcome
from tests.support.rollouts import (
    KEY,
    NOON,
    make_breach,
    make_evaluation,
    make_spec,
    race,
    take_final_in_a_process,
    take_some_final,
)

pytestmark = pytest.mark.database

HOSTILE = 'v1\'; DROP TABLE rollouts; --\n{{ config }} \x00 \ud800 "%s"'


def test_the_first_frozen_spec_wins(ledger: Ledger) -> None:
    first = make_spec()
    assert ledger.rollouts.open(KEY, first, NOON) == first
    assert ledger.rollouts.open(KEY, make_spec(release="model-v43"), NOON) == first
    rollout = ledger.rollouts.get(KEY)
    assert rollout is not None
    assert (rollout.spec, rollout.spec.sha256) == (first, first.sha256)
    assert ledger.rollouts.get(RolloutKey("other", "run")) is None
    assert [one.key for one in ledger.rollouts.newest()] == [KEY]


def test_times_come_back_aware_and_in_utc_and_naive_ones_are_refused(ledger: Ledger) -> None:
    ledger.rollouts.open(KEY, make_spec(), NOON)
    local = NOON.astimezone(timezone(timedelta(hours=5, minutes=30))).replace(microsecond=123456)
    shipped, end = ledger.rollouts.record_shipped(KEY, local, local + timedelta(hours=24))
    assert (shipped, end) == (local, local + timedelta(hours=24))
    assert shipped.tzinfo is UTC
    assert ledger.rollouts.record_shipped(KEY, NOON + timedelta(hours=1), NOON) == (shipped, end)
    with pytest.raises(LedgerRuleError, match="no time zone"):
        ledger.final_decisions.take(KEY, FinalDecision.PROMOTED, "task", "", datetime(2026, 3, 1))  # noqa: DTZ001


def test_the_final_decision_is_taken_once_and_never_changes_whatever_races(ledger: Ledger) -> None:
    ledger.rollouts.open(KEY, make_spec(), NOON)

    answers = race(8, lambda number: take_some_final(ledger, number))
    assert len(set(answers)) == 1
    rollout = ledger.rollouts.get(KEY)
    assert rollout is not None
    assert rollout.final == answers[0]


def test_processes_of_different_hosts_agree_on_the_final_decision(ledger: Ledger) -> None:
    ledger.rollouts.open(KEY, make_spec(), NOON)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.rollouts"])
    start, answers = context.Barrier(8), context.Queue()
    runners = [
        context.Process(target=take_final_in_a_process, args=(ledger.url, number, start, answers))
        for number in range(8)
    ]
    for runner in runners:
        runner.start()
    finals = {answers.get(timeout=60) for _ in runners}
    for runner in runners:
        runner.join(60)
    assert len(finals) == 1
    rollout = ledger.rollouts.get(KEY)
    assert rollout is not None
    assert finals == {rollout.final}


def test_names_and_reasons_are_data(ledger: Ledger) -> None:
    spec = make_spec(release=HOSTILE.replace("\ud800", ""), service="a'b\"c")
    ledger.rollouts.open(KEY, spec, NOON)
    final = ledger.final_decisions.take(KEY, FinalDecision.ROLLED_BACK, HOSTILE, HOSTILE, NOON)
    assert final.reason == 'v1\'; DROP TABLE rollouts; --\n{{ config }} \ufffd ? "%s"'
    rollout = ledger.rollouts.get(KEY)
    assert rollout is not None
    assert rollout.spec == spec


def test_the_history_of_a_rollout_is_recorded_once_and_in_order(ledger: Ledger) -> None:
    ledger.rollouts.open(KEY, make_spec(), NOON)
    breach = make_breach(NOON)
    decided, until = NOON + timedelta(minutes=5), NOON + timedelta(hours=1)
    requested, verified = NOON + timedelta(minutes=10), NOON + timedelta(minutes=11)
    for _ in range(2):
        assert len(ledger.breaches.log(KEY, [breach], NOON)) == 1
        ledger.decisions.add(KEY, 1, "Go on", "ann", "known cause", decided, timed_out=False)
        ledger.overrides.add(KEY, 1, (breach.budget,), "ann", "known cause", decided, until)
    ledger.rollbacks.record(KEY, RollbackRecord("k", None, requested, None, "asked"))
    ledger.rollbacks.record(
        KEY,
        RollbackRecord(
            "k", Outcome.EFFECTIVE, requested + timedelta(minutes=9), verified, "v41", "0 %", "ok"
        ),
    )
    final = ledger.final_decisions.take(
        KEY, FinalDecision.ROLLED_BACK, "task", "breach", NOON + timedelta(minutes=9)
    )

    rollback = RollbackRecord("k", Outcome.EFFECTIVE, requested, verified, "v41", "0 %", "ok")
    assert ledger.rollbacks.of(KEY) == rollback
    override = RecordedOverride(1, (breach.budget,), "ann", "known cause", decided, until)
    assert ledger.overrides.of(KEY) == [override]
    first, *rest = history_of(ledger, KEY)
    assert isinstance(first, LoggedBreach)
    assert (first.breach, first.key, first.release) == (breach, KEY, "model-v42")
    assert rest == [
        CommanderDecision(1, "Go on", "ann", "known cause", decided, False),
        override,
        final,
        rollback,
    ]


def test_evaluations_are_appended_and_round_trip(ledger: Ledger) -> None:
    ledger.rollouts.open(KEY, make_spec(), NOON)
    healthy, breached = make_evaluation(), make_evaluation(make_breach())
    ledger.evaluations.add(KEY, 1, "watch", healthy, NOON)
    ledger.evaluations.add(KEY, 1, "guard", breached, NOON)
    assert [one.evaluation for one in ledger.evaluations.of(KEY)] == [healthy, breached]
    assert [one.kind for one in ledger.evaluations.of(KEY)] == ["watch", "guard"]


def test_racing_loggers_log_a_breach_once(ledger: Ledger) -> None:
    ledger.rollouts.open(KEY, make_spec(), NOON)
    breaches = [make_breach(NOON), make_breach(NOON + timedelta(minutes=1))]
    answers = race(8, lambda _: tuple(ledger.breaches.log(KEY, breaches, NOON)))
    assert len(set(answers)) == 1
    assert [one.breach for one in ledger.breaches.of(KEY)] == breaches


def test_a_rollout_that_was_never_opened_is_named_in_the_error(ledger: Ledger) -> None:
    with pytest.raises(
        UnknownRolloutError, match="rollout_model_v42 manual__2026-03-01 is not in the ledger"
    ):
        ledger.breaches.log(KEY, [make_breach()], NOON)


def test_a_reader_is_not_held_up_by_a_writer_on_sqlite(tmp_path: object) -> None:
    file = f"{tmp_path}/ledger.db"
    ledger = Ledger(f"sqlite:///{file}")
    ledger.migrate()
    ledger.rollouts.open(KEY, make_spec(), NOON)
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE rollouts SET final_decision = 'promoted'")
    rollout = ledger.rollouts.get(KEY)
    writer.close()
    assert rollout is not None
    assert rollout.final is None


def test_a_rollout_whose_budget_cannot_be_read_here_hides_no_other_and_its_end_is_known(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    other = RolloutKey("other", "run")
    ledger.rollouts.open(KEY, make_spec(), NOON)
    ledger.rollouts.open(other, make_spec(), NOON)
    ledger.final_decisions.take(other, FinalDecision.ROLLED_BACK, "the rule", "worse", NOON)
    with ledger.database.write() as session:
        session.execute(
            update(RolloutRow)
            .where(RolloutRow.dag_id == other.dag_id)
            .values(spec='{"source": {"type": "gone"}}')
        )
    assert [one.key for one in ledger.rollouts.newest()] == [KEY]
    assert "other" in caplog.text
    assert "Install the package" in caplog.text
    with pytest.raises(UnreadableSpecError, match="Install the package"):
        ledger.rollouts.get(other)
    final = ledger.final_decisions.of(other)
    assert final is not None
    assert final.decision is FinalDecision.ROLLED_BACK
