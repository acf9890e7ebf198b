"""What a standby does for a rollout whose watch is lost, on real ledgers."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from rollback_budget.clock import utc_now
from rollback_budget.ledger.answers import Answer
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.models import RolloutRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import FinalDecision, Rollout
from rollback_budget.model.choice import Choice
from rollback_budget.model.decision import OnTimeout
from rollback_budget.standby.report import standby_report
from rollback_budget.targets.apply import Outcome
from tests.engine.builders import BASELINE, RELEASE
from tests.standby.builders import INCIDENTS, LATENCY, MINUTE, SECOND, StandbyInMemory, shipped_rollout
from tests.support.rollouts import KEY

pytestmark = pytest.mark.database

AFTER = 2 * SECOND


def rollout_of(ledger: Ledger) -> Rollout:
    found = ledger.rollouts.get(KEY)
    assert found is not None
    return found


def assert_rolled_back(standby: StandbyInMemory, by: str = "the rule") -> None:
    final = rollout_of(standby.ledger).final
    assert final is not None
    assert (final.decision, final.by) == (FinalDecision.ROLLED_BACK, by)
    record = standby.ledger.rollbacks.of(KEY)
    assert record is not None
    assert record.outcome is Outcome.EFFECTIVE
    assert standby.router.shares == {RELEASE: 0.0, BASELINE: 1.0}
    assert len(standby.router.accepted) == 1


def tier_a(standby: StandbyInMemory) -> None:
    standby.metrics.incidents_from = utc_now() - MINUTE


def tier_b(standby: StandbyInMemory) -> None:
    standby.metrics.slow_from = utc_now() - 2 * MINUTE


def promoted_by_alice(ledger: Ledger) -> None:
    """A rollout whose commander wants it promoted, which Airflow has not done."""
    shipped_rollout(ledger)
    now = utc_now()
    ledger.reviews.open(KEY, 1, now + 10 * MINUTE, OnTimeout.ROLLBACK, now - MINUTE)
    ledger.answers.take(KEY, Answer(1, Choice.PROMOTE.value, "alice", "it is fine", now))


async def test_a_tier_a_breach_is_rolled_back_verified_written_down_and_said(ledger: Ledger) -> None:
    shipped_rollout(ledger)
    standby = StandbyInMemory(ledger)
    tier_a(standby)
    await standby.run_once()
    assert_rolled_back(standby)
    assert [one.breach.budget for one in ledger.breaches.of(KEY)] == [INCIDENTS.id]
    assert [one.kind for one in ledger.evaluations.of(KEY)] == ["watch"]
    assert len(ledger.debts.every()) == 1
    assert standby.events() == ["watch_lost", "breach", "rolled_back"]
    (period,) = ledger.looks.standby_periods(KEY)
    assert period[1] - period[0] >= 3 * MINUTE
    assert ledger.watch_leases.of(KEY) is None
    assert ledger.signs_of_life.expected() == []


async def test_a_watch_that_gives_signs_of_life_is_left_alone(ledger: Ledger) -> None:
    shipped_rollout(ledger)
    ledger.watch_heartbeats.beat([KEY])
    standby = StandbyInMemory(ledger)
    tier_a(standby)
    await standby.run_once()
    assert standby.sent == []
    assert rollout_of(ledger).final is None


async def test_a_standby_that_stood_still_while_it_took_a_lease_does_not_begin(ledger: Ledger) -> None:
    shipped_rollout(ledger)

    def elapsed() -> float:
        is_taken = ledger.watch_leases.of(KEY) is not None
        return time.monotonic() + (3600 if is_taken else 0)

    standby = StandbyInMemory(ledger, elapsed=elapsed)
    tier_a(standby)
    assert not await standby.run_once()
    assert standby.sent == []
    assert rollout_of(ledger).final is None
    assert ledger.watch_leases.of(KEY) is None


async def test_a_rollout_that_a_teams_own_operator_rolls_back_is_paged_and_left_to_airflow(
    ledger: Ledger,
) -> None:
    shipped_rollout(ledger, ours=False)
    standby = StandbyInMemory(ledger)
    tier_a(standby)
    await standby.run_once()
    assert standby.router.accepted == []
    assert standby.events() == ["watch_lost", "breach", "verification_failed"]
    assert "standby cannot do it" in standby.sent[-1].sentence
    final = rollout_of(ledger).final
    assert final is not None
    assert final.decision is FinalDecision.ROLLED_BACK


async def test_a_tier_b_breach_asks_with_a_deadline_that_holds_for_the_next_standby(ledger: Ledger) -> None:
    shipped_rollout(ledger)
    standby = StandbyInMemory(ledger)
    tier_b(standby)
    await standby.run_once()
    (review,) = ledger.reviews.of(KEY)
    assert standby.events() == ["watch_lost", "breach", "review_opened"]
    question = standby.sent[-1]
    assert question.deadline == review.deadline
    assert f"rollback-budget decide {RELEASE}" in question.sentence
    assert [one.breach.budget for one in ledger.breaches.of(KEY)] == [LATENCY.id]
    second = StandbyInMemory(ledger, "host-2")
    tier_b(second)
    await second.run_once()
    assert [one.deadline for one in ledger.reviews.of(KEY)] == [review.deadline]
    assert second.events() == ["watch_lost", "review_opened"]
    assert rollout_of(ledger).final is None


async def test_a_message_that_reaches_nobody_is_sent_again(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollback_budget.standby.takeover.MESSAGE_AGAIN_S", 0.01)
    shipped_rollout(ledger)
    standby = StandbyInMemory(ledger, after=AFTER)
    standby.misses = [["http: 503"], ["http: 503"]]
    await standby.run_until(lambda: len(standby.sent) == 3)
    assert standby.events() == ["watch_lost"] * 3


async def test_a_question_that_is_open_longer_than_the_window_is_waited_for_in_peace(ledger: Ledger) -> None:
    shipped_rollout(ledger, window=5 * MINUTE - SECOND)
    standby = StandbyInMemory(ledger, after=AFTER)
    standby.metrics.slow_from = utc_now() - 3 * MINUTE
    asked_at: list[int] = []

    def has_waited() -> bool:
        if not ledger.reviews.of(KEY) or "review_opened" not in standby.events():
            return False
        asked_at.append(standby.open_ledger.asked)
        return standby.open_ledger.asked > asked_at[0] + 6

    await standby.run_until(has_waited)
    # The watch, the guard beside the question, and nothing again and again.
    assert standby.metrics.fetched <= 4


async def test_silence_rolls_back_at_the_deadline(ledger: Ledger) -> None:
    shipped_rollout(ledger, within=SECOND)
    standby = StandbyInMemory(ledger, after=AFTER)
    tier_b(standby)
    await standby.run_until(lambda: "rolled_back" in standby.events())
    assert_rolled_back(standby, by="the deadline")
    assert [(one.by, one.timed_out) for one in ledger.decisions.of(KEY)] == [(None, True)]


async def test_silence_goes_on_where_the_budget_says_so_and_the_budget_burns_anew(
    ledger: Ledger,
) -> None:
    shipped_rollout(ledger, on_timeout=OnTimeout.CONTINUE)
    now = utc_now()
    ledger.reviews.open(KEY, 1, now - MINUTE, OnTimeout.CONTINUE, now - 16 * MINUTE)
    standby = StandbyInMemory(ledger)
    tier_b(standby)
    await standby.run_once()
    (override,) = ledger.overrides.of(KEY)
    assert (override.round, override.by) == (1, "the deadline")
    assert rollout_of(ledger).final is None
    # It burns anew from the override on, which is of just now: there is no further breach yet.
    assert len(ledger.reviews.of(KEY)) == 1


async def test_a_tier_a_breach_during_a_review_does_not_wait_for_the_answer(ledger: Ledger) -> None:
    shipped_rollout(ledger)
    now = utc_now()
    ledger.reviews.open(KEY, 1, now + 10 * MINUTE, OnTimeout.ROLLBACK, now)
    standby = StandbyInMemory(ledger)
    tier_a(standby)
    await standby.run_once()
    assert_rolled_back(standby)
    assert [one.kind for one in ledger.evaluations.of(KEY)][-1] == "guard"


async def test_an_answer_in_the_ledger_is_followed_at_once(ledger: Ledger) -> None:
    shipped_rollout(ledger)
    standby = StandbyInMemory(ledger, after=AFTER)
    tier_b(standby)

    def answer_when_asked() -> bool:
        if ledger.reviews.of(KEY) and not ledger.decisions.of(KEY):
            ledger.answers.take(KEY, Answer(1, Choice.ROLL_BACK.value, "alice", None, utc_now()))
        return "rolled_back" in standby.events()

    await standby.run_until(answer_when_asked)
    assert_rolled_back(standby, by="alice")


async def test_a_decision_without_a_question_is_followed_at_once(ledger: Ledger) -> None:
    shipped_rollout(ledger)
    standby = StandbyInMemory(ledger, after=AFTER)

    def decide_when_watched() -> bool:
        if standby.standby.in_hand:
            ledger.final_decisions.take(KEY, FinalDecision.ROLLED_BACK, "alice", "seen in tickets", utc_now())
        return "rolled_back" in standby.events()

    await standby.run_until(decide_when_watched)
    assert_rolled_back(standby, by="alice")


async def test_a_promotion_is_left_to_airflow_and_what_was_breached_is_not_asked_again(
    ledger: Ledger,
) -> None:
    promoted_by_alice(ledger)
    standby = StandbyInMemory(ledger, after=AFTER)
    tier_b(standby)
    await standby.run_until(lambda: "decided" in standby.events() and standby.metrics.fetched > 2)
    assert standby.events() == ["watch_lost", "decided"]
    assert rollout_of(ledger).final is None
    assert standby.router.accepted == []


async def test_a_release_that_airflow_has_not_promoted_yet_is_guarded_against_tier_a(ledger: Ledger) -> None:
    promoted_by_alice(ledger)
    standby = StandbyInMemory(ledger, after=AFTER)

    def hurt_once_promoted() -> bool:
        if "decided" in standby.events() and standby.metrics.incidents_from is None:
            tier_a(standby)
        return "rolled_back" in standby.events()

    await standby.run_until(hurt_once_promoted)
    assert_rolled_back(standby)


async def test_a_promotion_that_is_taken_back_is_rolled_back_at_once(ledger: Ledger) -> None:
    promoted_by_alice(ledger)
    standby = StandbyInMemory(ledger, after=AFTER)

    def roll_back_once_promoted() -> bool:
        if "decided" in standby.events():
            ledger.final_decisions.take(KEY, FinalDecision.ROLLED_BACK, "bob", "seen in tickets", utc_now())
        return "rolled_back" in standby.events()

    await standby.run_until(roll_back_once_promoted)
    assert_rolled_back(standby, by="bob")


@pytest.mark.parametrize("by", ["an answer", "the deadline"])
async def test_a_metric_source_that_hangs_keeps_neither_an_answer_nor_a_deadline_waiting(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr("rollback_budget.standby.takeover.LAST_LOOK_S", 0.1)
    monkeypatch.setattr("rollback_budget.rollback.verify.MOST_PROOFS", 1)
    shipped_rollout(ledger, within=2 * SECOND if by == "the deadline" else 15 * MINUTE)
    standby = StandbyInMemory(ledger, after=AFTER)
    tier_b(standby)

    def hang_once_asked() -> bool:
        if "review_opened" in standby.events() and not standby.metrics.hangs:
            standby.metrics.hangs = True
        if standby.metrics.hangs and by == "an answer" and not ledger.decisions.of(KEY):
            ledger.answers.take(KEY, Answer(1, Choice.ROLL_BACK.value, "alice", None, utc_now()))
        return bool(standby.router.accepted)

    await standby.run_until(hang_once_asked)
    final = rollout_of(ledger).final
    assert final is not None
    assert final.decision is FinalDecision.ROLLED_BACK


async def test_a_notifier_that_hangs_does_not_hold_up_the_rollback(ledger: Ledger) -> None:
    shipped_rollout(ledger)
    standby = StandbyInMemory(ledger, after=AFTER)
    tier_a(standby)
    standby.may_send.clear()

    def settled() -> bool:
        record = ledger.rollbacks.of(KEY)
        return record is not None and record.outcome is not None

    await standby.run_until(settled)
    standby.may_send.set()
    assert_rolled_back(standby)


async def test_an_answer_to_go_on_that_airflow_left_half_written_is_completed(ledger: Ledger) -> None:
    shipped_rollout(ledger)
    now = utc_now()
    ledger.reviews.open(KEY, 1, now + 10 * MINUTE, OnTimeout.ROLLBACK, now)
    ledger.decisions.add(KEY, 1, Choice.GO_ON.value, "alice", "a load test", now, timed_out=False)
    standby = StandbyInMemory(ledger)
    await standby.run_once()
    (override,) = ledger.overrides.of(KEY)
    assert (override.round, override.by, override.reason) == (1, "alice", "a load test")


async def test_one_that_lacks_a_connection_leaves_a_lost_watch_to_others_at_first(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped_rollout(ledger)
    lacking = StandbyInMemory(ledger, "host-1", after=AFTER)
    lacking.problems = ["connection 'router' cannot be found"]
    await lacking.run_until(lambda: lacking.open_ledger.asked > 20)
    assert lacking.sent == []
    other = StandbyInMemory(ledger, "host-2", after=AFTER)
    await other.run_until(lambda: other.standby.in_hand == [KEY])
    monkeypatch.setattr("rollback_budget.standby.lacks.HOLD_BACK_S", 0.0)
    await lacking.run_until(lambda: lacking.standby.in_hand == [KEY])


async def test_looking_once_says_whether_anything_is_left_undone(ledger: Ledger) -> None:
    shipped_rollout(ledger)
    standby = StandbyInMemory(ledger)
    tier_a(standby)
    standby.router.works = False
    assert not await standby.run_once()
    again = StandbyInMemory(ledger)
    tier_a(again)
    assert await again.run_once()
    assert_rolled_back(again)


async def test_a_window_that_ends_well_is_said_and_the_promotion_left_to_airflow(ledger: Ledger) -> None:
    shipped_rollout(ledger, window=4 * MINUTE)
    standby = StandbyInMemory(ledger)
    await standby.run_once()
    assert standby.events() == ["watch_lost", "decided"]
    assert "leaves the promotion to Airflow" in standby.sent[-1].sentence
    assert rollout_of(ledger).final is None


async def test_a_rollback_that_was_decided_and_not_sent_is_sent_and_verified(ledger: Ledger) -> None:
    shipped_rollout(ledger)
    decided_at = utc_now() - 10 * MINUTE
    ledger.final_decisions.take(KEY, FinalDecision.ROLLED_BACK, "the rule", "an incident", decided_at)
    standby = StandbyInMemory(ledger)
    await standby.run_once()
    assert_rolled_back(standby)


async def test_a_target_that_refuses_is_asked_again_and_the_page_goes_out_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollback_budget.standby.rolling_back.PAUSE_S", 0.05)
    monkeypatch.setattr("rollback_budget.standby.rolling_back.WITHIN", timedelta(0))
    shipped_rollout(ledger)
    standby = StandbyInMemory(ledger, after=AFTER)
    tier_a(standby)
    standby.router.works = False

    def works_after_a_page() -> bool:
        standby.router.works = "verification_failed" in standby.events()
        return "rolled_back" in standby.events()

    await standby.run_until(works_after_a_page)
    assert_rolled_back(standby)
    assert standby.events().count("verification_failed") == 1


async def test_cut_off_from_the_ledger_it_decides_nothing_and_goes_on_afterwards(ledger: Ledger) -> None:
    shipped_rollout(ledger)
    standby = StandbyInMemory(ledger, after=AFTER)
    asked = 0

    def cut_off_once_it_watches() -> bool:
        nonlocal asked
        gate = standby.open_ledger
        if standby.standby.in_hand and not asked:
            gate.is_cut, asked = True, gate.asked
            tier_a(standby)
            ledger.signs_of_life.expected()
        if gate.is_cut and gate.asked > asked + 5:
            assert rollout_of(ledger).final is None
            assert standby.router.accepted == []
            gate.is_cut = False
        return "rolled_back" in standby.events()

    await standby.run_until(cut_off_once_it_watches, within_s=90)
    assert_rolled_back(standby)


async def test_a_lease_of_another_standby_is_respected(ledger: Ledger) -> None:
    shipped_rollout(ledger)
    ledger.watch_leases.take(KEY, "host-9#1", timedelta(minutes=5))
    standby = StandbyInMemory(ledger)
    tier_a(standby)
    await standby.run_once()
    assert standby.sent == []
    assert rollout_of(ledger).final is None


async def test_it_lets_go_when_airflow_gives_a_sign_of_life(ledger: Ledger) -> None:
    shipped_rollout(ledger)
    standby = StandbyInMemory(ledger, after=AFTER)

    def beat_when_watched() -> bool:
        if standby.standby.in_hand:
            ledger.watch_heartbeats.beat([KEY])
        return "watch_back" in standby.events()

    await standby.run_until(beat_when_watched)
    assert standby.events() == ["watch_lost", "watch_back"]
    assert ledger.watch_leases.of(KEY) is None


async def test_a_rollout_that_cannot_be_read_stops_no_other_one(ledger: Ledger) -> None:
    broken = RolloutKey("broken", "1")
    shipped_rollout(ledger, key=broken)
    shipped_rollout(ledger)
    with ledger.database.write() as session:
        row = session.query(RolloutRow).filter_by(dag_id="broken").one()
        row.spec = row.spec.replace('"recorded"', '"of another package"')
    standby = StandbyInMemory(ledger)
    tier_a(standby)
    await standby.run_once()
    assert_rolled_back(standby)
    report = standby_report(ledger)
    assert report.unreadable == (broken,)
    assert not report.is_healthy


async def test_the_report_says_who_watches_and_whether_a_standby_is_alive(ledger: Ledger) -> None:
    shipped_rollout(ledger)
    report = standby_report(ledger)
    assert (report.is_alive, report.is_healthy) == (False, False)
    assert "nobody since" in str(report.rollouts[0][1])
    standby = StandbyInMemory(ledger, after=AFTER)
    seen: list[str] = []

    def watched() -> bool:
        report = standby_report(ledger)
        if standby.standby.in_hand and report.is_healthy:
            seen.append(str(report.rollouts[0][1]))
        return bool(seen)

    await standby.run_until(watched)
    assert seen[0].startswith("standby host-1 since")
    # It has let go, and was seen a moment ago.
    report = standby_report(ledger)
    assert (report.is_alive, report.is_healthy) == (True, False)
    ledger.watch_heartbeats.beat([KEY])
    report = standby_report(ledger)
    assert (str(report.rollouts[0][1]), report.is_healthy) == ("Airflow", True)
