"""When a watch is lost: by the silence that is observed, whatever the clocks of three hosts say."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from rollback_budget.ledger.views import FinalDecision
from rollback_budget.ledger.watch_leases import WatchLease
from rollback_budget.ledger.watch_signs import WatchSigns
from rollback_budget.ledger.watched_by import Who, loss_after, watched_by
from rollback_budget.model.watch_settings import Watch
from rollback_budget.standby.loss import Loss, LossDetector
from tests.support.rollouts import KEY, NOON

pytestmark = pytest.mark.pure

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
#: Settles for 90 s, polled every minute: lost after three minutes.
WATCH = Watch()


def signs(now: datetime, **changes: object) -> WatchSigns:
    plain = WatchSigns(
        key=KEY,
        shipped_at=NOON - 60 * MINUTE,
        window_end=NOON + 600 * MINUTE,
        final=None,
        final_at=None,
        looked_at=NOON,
        heartbeat_at=None,
        review_deadline=None,
        answers=0,
        lease=None,
        now=now,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


class Observer:
    """A detector that observes every ten seconds, on a ledger whose clock is ``skew`` off."""

    def __init__(self, skew: timedelta = timedelta(0), after: timedelta | None = None) -> None:
        self.elapsed_s = 0.0
        self.skew = skew
        self.detector = LossDetector(after, lambda: self.elapsed_s)

    @property
    def now(self) -> datetime:
        """The ledger's time; the watch and this process began at noon."""
        return NOON + timedelta(seconds=self.elapsed_s) + self.skew

    def observe(self, **changes: object) -> list[Loss]:
        return self.detector.observe([signs(self.now, **changes)], {KEY: WATCH})

    def silence_until_lost(self, **changes: object) -> timedelta:
        """Observe the same signs again and again; return how long until it is a loss."""
        began = self.elapsed_s
        while not self.observe(**changes):
            self.elapsed_s += 10
            assert self.elapsed_s < 86_400, "never lost"
        return timedelta(seconds=self.elapsed_s - began)


@pytest.mark.parametrize("skew_s", [-60, 0, 60])
def test_a_watch_is_lost_after_as_long_a_silence_whatever_the_ledgers_clock_says(skew_s: int) -> None:
    observer = Observer(skew_s * SECOND)
    # Its looks are of 90 s ago when they come, and one comes a minute.
    for minute in range(10):
        assert not observer.observe(looked_at=NOON + (minute - 1.5) * MINUTE)
        observer.elapsed_s += 60
    silence = observer.silence_until_lost(looked_at=NOON + 7.5 * MINUTE)
    assert loss_after(WATCH) - MINUTE <= silence <= loss_after(WATCH)


@pytest.mark.parametrize("skew_s", [-60, 0, 60])
def test_a_watch_that_was_lost_before_standby_began_is_taken_within_a_minute(skew_s: int) -> None:
    observer = Observer(skew_s * SECOND)
    assert observer.silence_until_lost(looked_at=NOON - 10 * MINUTE) <= MINUTE


def test_a_heartbeat_without_a_look_is_a_sign_of_life() -> None:
    observer = Observer()
    for _ in range(30):
        assert not observer.observe(heartbeat_at=observer.now)
        observer.elapsed_s += 60


def test_after_an_outage_of_the_ledger_the_watches_have_time_to_write_their_looks() -> None:
    observer = Observer()
    observer.observe()
    observer.elapsed_s += 600
    observer.detector.excuse(outage_s=600)
    assert not observer.observe()
    observer.elapsed_s += 30
    assert not observer.observe()
    assert not observer.observe(looked_at=NOON + 8 * MINUTE)


def test_outages_of_a_moment_put_a_loss_off_by_no_more_than_themselves() -> None:
    observer = Observer()
    for _ in range(60):
        if observer.observe():
            break
        observer.elapsed_s += 10
        observer.detector.excuse(outage_s=5)
    assert loss_after(WATCH) < timedelta(seconds=observer.elapsed_s) <= 2 * loss_after(WATCH)


def test_a_watch_has_two_polls_whatever_standby_was_told() -> None:
    assert Observer(after=SECOND).silence_until_lost() == 2 * MINUTE


def test_the_first_look_is_waited_for_as_long_as_it_settles() -> None:
    at_ship = {"looked_at": None, "shipped_at": NOON}
    assert Observer().silence_until_lost(**at_ship) == loss_after(WATCH) + WATCH.settle


def test_a_window_that_airflow_has_watched_to_its_end_is_left_to_it_for_longer() -> None:
    over = {"window_end": NOON, "looked_at": NOON}
    assert Observer().silence_until_lost(**over) > 30 * MINUTE
    asked = {**over, "review_deadline": NOON + MINUTE}
    assert Observer().silence_until_lost(**asked) == loss_after(WATCH)


def test_a_rollback_that_nobody_verifies_is_a_loss_of_its_own() -> None:
    observer = Observer()
    rolled_back = {"final": FinalDecision.ROLLED_BACK, "final_at": NOON}
    observer.silence_until_lost(**rolled_back)
    assert observer.observe(**rolled_back) == [Loss(KEY, NOON, of_rollback=True)]


def test_a_rollback_that_was_decided_after_the_watch_was_lost_is_nobodys_and_taken_within_a_minute() -> None:
    observer = Observer()
    rolled_back = {"final": FinalDecision.ROLLED_BACK, "final_at": NOON, "looked_at": NOON - 10 * MINUTE}
    assert observer.silence_until_lost(**rolled_back) <= MINUTE


def test_a_rollback_whose_task_gives_signs_of_life_is_left_to_it() -> None:
    observer = Observer()
    rolled_back = {"final": FinalDecision.ROLLED_BACK, "final_at": NOON}
    for _ in range(30):
        assert not observer.observe(**rolled_back, heartbeat_at=observer.now)
        observer.elapsed_s += 30


def test_a_teams_own_rollback_is_given_half_an_hour_more() -> None:
    rolled_back = {"final": FinalDecision.ROLLED_BACK, "final_at": NOON}
    theirs = Observer().silence_until_lost(**rolled_back, is_ours=False)
    assert theirs == Observer().silence_until_lost(**rolled_back) + 30 * MINUTE


def test_looking_once_goes_by_the_ledgers_clock_alone() -> None:
    detector = LossDetector(2 * MINUTE, lambda: 0.0)
    old = signs(NOON + WATCH.settle + 2 * MINUTE)
    assert detector.observe([old], {KEY: WATCH}, at_once=True) == [Loss(KEY, NOON)]
    assert not detector.observe([old], {}, at_once=True)


def test_who_watches_is_said_of_airflow_of_a_standby_and_of_nobody() -> None:
    lease = WatchLease("host-2#1", NOON + 5 * MINUTE, NOON + 6 * MINUTE, NOON + 5.5 * MINUTE)
    now = NOON + 5.5 * MINUTE
    assert watched_by(signs(NOON + 2 * MINUTE), WATCH).who is Who.AIRFLOW
    assert watched_by(signs(now), WATCH).who is Who.NOBODY
    held = watched_by(signs(now, lease=lease), WATCH)
    assert (held.who, held.name) == (Who.STANDBY, "host-2")
    assert watched_by(signs(now, lease=replace(lease, now=lease.until)), WATCH).who is Who.NOBODY
    back = signs(now, lease=lease, heartbeat_at=lease.taken_at + SECOND)
    assert watched_by(back, WATCH).who is Who.AIRFLOW
    assert watched_by(signs(NOON + 60 * MINUTE, window_end=NOON), WATCH).who is Who.OVER
