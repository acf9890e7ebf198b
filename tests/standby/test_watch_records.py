"""What the ledger knows of who watches: leases, heartbeats, marked looks, answers that come through it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from rollback_budget.clock import utc_now
from rollback_budget.ledger.answers import Answer
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.looks import STANDBY, LookRecord
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import FinalDecision, RollbackRecord
from rollback_budget.model.choice import Choice
from rollback_budget.model.decision import OnTimeout
from rollback_budget.targets.apply import Outcome
from tests.support.rollouts import KEY, NOON, make_spec, race

pytestmark = pytest.mark.database

PERIOD = timedelta(seconds=30)
OVER = timedelta(0)
MINUTE = timedelta(minutes=1)
OTHER = RolloutKey("rollout_model_v43", "1")


def ship(ledger: Ledger, key: RolloutKey = KEY, ago: timedelta = MINUTE) -> None:
    at = utc_now() - ago
    ledger.rollouts.open(key, make_spec(), at)
    ledger.rollouts.record_shipped(key, at, at + timedelta(hours=24))


def test_of_two_standbys_that_reach_for_a_lease_one_gets_it(ledger: Ledger) -> None:
    ship(ledger)
    taken = race(4, lambda number: ledger.watch_leases.take(KEY, f"host-{number}#1", PERIOD))
    (winner,) = [lease for lease in taken if lease is not None]
    lease = ledger.watch_leases.of(KEY)
    assert lease is not None
    assert (lease.holder, lease.is_valid) == (winner.holder, True)


def test_a_lease_that_has_run_out_is_not_renewed_and_may_be_taken_by_another(ledger: Ledger) -> None:
    ship(ledger)
    ship(ledger, OTHER)
    assert ledger.watch_leases.take(KEY, "one#1", OVER) is not None
    assert ledger.watch_leases.take(OTHER, "one#1", PERIOD) is not None
    assert ledger.watch_leases.renew("one#1", PERIOD) == {OTHER}
    assert ledger.watch_leases.take(KEY, "two#1", PERIOD) is not None
    assert ledger.watch_leases.take(KEY, "one#1", PERIOD) is None
    ledger.watch_leases.release(KEY, "one#1")
    assert ledger.watch_leases.of(KEY) is not None
    ledger.watch_leases.release_all("two#1")
    assert ledger.watch_leases.of(KEY) is None
    assert ledger.watch_leases.renew("two#1", PERIOD) == set()


def test_a_heartbeat_is_kept_as_the_newest_and_of_known_rollouts_only(ledger: Ledger) -> None:
    ship(ledger)
    ledger.watch_heartbeats.beat([KEY, OTHER])
    first = ledger.signs_of_life.of(KEY)
    ledger.watch_heartbeats.beat([KEY])
    second = ledger.signs_of_life.of(KEY)
    assert first is not None
    assert second is not None
    assert first.heartbeat_at is not None
    assert second.newest > first.newest == first.heartbeat_at
    assert ledger.signs_of_life.of(OTHER) is None


def test_a_look_of_standby_is_no_sign_of_life_until_airflow_takes_the_same(ledger: Ledger) -> None:
    ship(ledger)
    times = [NOON + minute * MINUTE for minute in range(4)]
    ledger.looks.add([LookRecord(KEY, times[0], "[null]")])
    ledger.looks.add([LookRecord(KEY, time, "[null]", STANDBY) for time in times])
    signs = ledger.signs_of_life.of(KEY)
    assert signs is not None
    assert signs.looked_at == times[0]
    assert ledger.looks.standby_periods(KEY) == [(times[1], times[3])]
    ledger.looks.add([LookRecord(KEY, times[3], "[null]")])
    signs = ledger.signs_of_life.of(KEY)
    assert signs is not None
    assert signs.looked_at == times[3]
    assert ledger.looks.standby_periods(KEY) == [(times[1], times[2])]


def test_only_rollouts_that_somebody_has_to_watch_are_expected_to_be(ledger: Ledger) -> None:
    def expected() -> list[RolloutKey]:
        return [one.key for one in ledger.signs_of_life.expected()]

    ledger.rollouts.open(OTHER, make_spec(), utc_now())
    ship(ledger)
    ship(ledger, RolloutKey("long", "over"), ago=timedelta(days=3))
    assert expected() == [KEY]
    ledger.final_decisions.take(KEY, FinalDecision.ROLLED_BACK, "the rule", "breach", utc_now())
    assert expected() == [KEY]
    ledger.rollbacks.record_request(KEY, "key", utc_now(), "", "")
    assert expected() == [KEY]
    ledger.rollbacks.record(KEY, RollbackRecord("key", Outcome.EFFECTIVE, utc_now(), utc_now()))
    assert expected() == []


def test_the_first_answer_of_a_round_holds_with_its_override_and_its_suspensions(ledger: Ledger) -> None:
    ship(ledger)
    at = utc_now()
    ledger.reviews.open(KEY, 1, at + MINUTE, OnTimeout.ROLLBACK, at)
    asked = ledger.signs_of_life.of(KEY)
    assert asked is not None
    assert asked.review_deadline == at + MINUTE
    go_on = Answer(
        1, Choice.GO_ON.value, "alice", "load test", at, at + 10 * MINUTE, ("a.b", "c.d"), mute=True
    )
    roll_back = Answer(1, Choice.ROLL_BACK.value, None, None, at + MINUTE)
    answers = race(4, lambda number: ledger.answers.take(KEY, roll_back if number % 2 else go_on))
    (held,) = {(one.option, one.at) for one in answers}
    assert held in {(one.option, one.at) for one in (go_on, roll_back)}
    assert len(ledger.decisions.of(KEY)) == 1
    is_override = held[0] == Choice.GO_ON.value
    assert len(ledger.overrides.of(KEY)) == is_override
    assert len(ledger.suspensions.of(KEY)) == 2 * is_override
    answered = ledger.signs_of_life.of(KEY)
    assert answered is not None
    assert (answered.review_deadline, answered.answers) == (None, 1)


def test_an_answer_reads_back_as_it_was_given(ledger: Ledger) -> None:
    ship(ledger)
    at = utc_now()
    answer = Answer(2, Choice.GO_ON.value, "alice", "load test", at, at + MINUTE, ("a.b",))
    assert ledger.answers.of(KEY, 2) is None
    assert ledger.answers.take(KEY, replace(answer, mute=True)) == replace(answer, mute=True)
    assert ledger.answers.of(KEY, 2) == answer


def test_standbys_are_seen_and_the_newest_is_said(ledger: Ledger) -> None:
    assert ledger.standbys.newest() is None
    began = utc_now()
    ledger.standbys.seen("one", began)
    ledger.standbys.seen("two", began)
    seen = ledger.standbys.seen("one", began)
    newest = ledger.standbys.newest()
    assert newest is not None
    assert (newest.name, newest.started_at, newest.seen_at) == ("one", began, seen)
    assert timedelta(0) <= newest.now - newest.seen_at < MINUTE
