"""Changing who serves: once, proven, and never over a newer change of another user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from rollback_budget.exceptions import TargetError
from rollback_budget.targets.apply import ChangeReport, DeadlineClock, Outcome, TrafficChange, change_traffic
from rollback_budget.targets.base import Serving
from rollback_budget.targets.traffic import Recovery, Traffic

pytestmark = pytest.mark.pure

SHIPPED = {"v2": 0.5, "v1": 0.5}
BASELINE = {"v2": 0.0, "v1": 1.0}
START = datetime(2026, 1, 1, tzinfo=UTC)


class ManualClock:
    """Time that passes only when a test waits."""

    def __init__(self) -> None:
        self.time = START

    def clock(self) -> DeadlineClock:
        return DeadlineClock(now=lambda: self.time, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class Router:
    """A control plane in memory that can misbehave in the ways that real ones do."""

    def __init__(self, shares: Mapping[str, float]) -> None:
        self.shares = dict(shares)
        self.applied: list[str] = []
        self.on_apply: Callable[[Router, Mapping[str, float]], None] = Router.obey
        self.read_fails = 0

    def obey(self, shares: Mapping[str, float]) -> None:
        self.shares = dict(shares)

    def read(self) -> Serving:
        if self.read_fails:
            self.read_fails -= 1
            raise TargetError("GET answered 500")
        return Serving(self.shares)

    def apply(self, shares: Mapping[str, float], *, expected: Serving, idempotency_key: str) -> None:
        self.applied.append(idempotency_key)
        self.on_apply(self, shares)

    def rehearse(self, serving: Serving) -> tuple[str, ...]:
        return ()


def roll_back(
    router: Router,
    *,
    observe: Callable[[datetime], Traffic] | None = None,
    send: bool = True,
) -> ChangeReport:
    change = TrafficChange(
        BASELINE, before=[SHIPPED], idempotency_key="k", deadline=timedelta(seconds=30), send=send
    )
    return change_traffic(router, change, observe=observe, clock=ManualClock().clock())


def drained(_since: datetime) -> Traffic:
    return Traffic(0.0, "0 of 100 requests")


def test_a_rollback_that_both_planes_confirm_is_effective() -> None:
    router = Router(SHIPPED)
    report = roll_back(router, observe=drained)
    assert report.outcome is Outcome.EFFECTIVE
    assert (report.requested_at, router.applied) == (START, ["k"])
    assert report.verified_at is not None


def test_a_rollback_that_holds_already_is_only_verified() -> None:
    router = Router(BASELINE)
    report = roll_back(router, observe=drained)
    assert report.outcome is Outcome.EFFECTIVE
    assert (report.requested_at, router.applied) == (None, [])


def test_a_newer_human_change_is_left_alone() -> None:
    router = Router({"v3": 1.0})
    report = roll_back(router)
    assert report.outcome is Outcome.SUPERSEDED
    assert (router.applied, router.shares) == ([], {"v3": 1.0})


def test_a_change_between_reading_and_writing_is_superseded_and_not_overwritten() -> None:
    router = Router(SHIPPED)

    def conflict(router: Router, _shares: Mapping[str, float]) -> None:
        router.shares = {"v2": 0.2, "v1": 0.8}
        raise TargetError("PUT answered 412", conflict=True)

    router.on_apply = conflict
    assert roll_back(router).outcome is Outcome.SUPERSEDED
    assert router.shares == {"v2": 0.2, "v1": 0.8}


def test_a_control_plane_that_accepts_but_does_not_serve_is_accepted_not_effective() -> None:
    router = Router(SHIPPED)
    router.on_apply = lambda _router, _shares: None
    report = roll_back(router)
    assert report.outcome is Outcome.ACCEPTED_NOT_EFFECTIVE
    assert router.applied == ["k"]


def test_traffic_that_still_reaches_the_release_is_accepted_not_effective() -> None:
    report = roll_back(Router(SHIPPED), observe=lambda _since: Traffic(0.5, "50 of 100 requests"))
    assert report.outcome is Outcome.ACCEPTED_NOT_EFFECTIVE
    assert report.data_plane == "50 of 100 requests"


def test_traffic_that_is_not_counted_is_said_and_does_not_block() -> None:
    report = roll_back(Router(SHIPPED), observe=lambda _since: Traffic(None, "no counts", knowable=False))
    assert report.outcome is Outcome.EFFECTIVE
    assert "not checked" in report.detail


def test_a_control_plane_that_never_accepts_is_failed() -> None:
    router = Router(SHIPPED)

    def refuse(_router: Router, _shares: Mapping[str, float]) -> None:
        raise TargetError("PUT answered 403")

    router.on_apply = refuse
    report = roll_back(router)
    assert report.outcome is Outcome.FAILED
    assert "403" in report.detail


def test_a_lost_reply_is_found_to_have_taken_effect() -> None:
    router = Router(SHIPPED)

    def lose(router: Router, shares: Mapping[str, float]) -> None:
        router.obey(shares)
        raise TargetError("no answer within 10 s", accepted=None)

    router.on_apply = lose
    assert roll_back(router).outcome is Outcome.EFFECTIVE
    assert router.applied == ["k"]


def test_errors_are_retried_with_the_same_key_until_the_deadline() -> None:
    router = Router(SHIPPED)
    router.read_fails = 3
    failures = iter([True, True, False])

    def flaky(router: Router, shares: Mapping[str, float]) -> None:
        if next(failures):
            raise TargetError("PUT answered 500", accepted=None)
        router.obey(shares)

    router.on_apply = flaky
    assert roll_back(router).outcome is Outcome.EFFECTIVE
    assert router.applied == ["k", "k", "k"]


def test_a_controller_that_drains_step_by_step_is_waited_for() -> None:
    steps = iter([{"v2": 0.3, "v1": 0.7}, {"v2": 0.1, "v1": 0.9}, BASELINE])

    class Draining(Router):
        def read(self) -> Serving:
            if self.applied:
                self.shares = dict(next(steps, BASELINE))
            return Serving(self.shares)

    router = Draining(SHIPPED)
    router.on_apply = lambda _router, _shares: None
    assert roll_back(router).outcome is Outcome.EFFECTIVE


def test_a_rollback_by_another_user_is_verified_without_sending() -> None:
    router = Router(BASELINE)
    assert roll_back(router, observe=drained, send=False).outcome is Outcome.EFFECTIVE
    still = Router(SHIPPED)
    assert roll_back(still, send=False).outcome is Outcome.ACCEPTED_NOT_EFFECTIVE
    assert still.applied == []


def test_what_another_process_got_accepted_is_sent_again_once_nothing_is_seen_of_it() -> None:
    change = TrafficChange(
        BASELINE, [SHIPPED], idempotency_key="k", deadline=timedelta(seconds=30), accepted_at=START
    )
    lost = Router(SHIPPED)
    assert change_traffic(lost, change, clock=ManualClock().clock()).outcome is Outcome.EFFECTIVE
    assert lost.applied == ["k"]
    held = Router(BASELINE)
    assert change_traffic(held, change, clock=ManualClock().clock()).outcome is Outcome.EFFECTIVE
    assert held.applied == []


def test_traffic_that_moves_after_a_lost_reply_is_not_taken_for_another_clients_change() -> None:
    steps = iter([{"v2": 0.3, "v1": 0.7}, {"v2": 0.1, "v1": 0.9}, BASELINE])

    class Moving(Router):
        def read(self) -> Serving:
            if self.applied:
                self.shares = dict(next(steps, BASELINE))
            return Serving(self.shares)

    def lose_the_reply(_router: Router, _shares: Mapping[str, float]) -> None:
        raise TargetError("no reply within 4 s", accepted=None)

    router = Moving(SHIPPED)
    router.on_apply = lose_the_reply
    assert roll_back(router).outcome is Outcome.EFFECTIVE


def recovering(good: bool | None, *, knowable: bool = True) -> Callable[[datetime], Traffic]:
    recovery = Recovery(good, "p95 is what it is", knowable)
    return lambda _since: Traffic(0.0, "0 of 100 requests", recovery=recovery)


def test_a_rollback_whose_breach_does_not_recover_is_not_effective_and_says_so() -> None:
    report = roll_back(Router(SHIPPED), observe=recovering(False))
    assert report.outcome is Outcome.ACCEPTED_NOT_EFFECTIVE
    assert "the release may not be what is wrong" in report.detail
    assert "p95 is what it is" in report.data_plane


def test_a_breach_that_recovers_in_time_proves_the_rollback() -> None:
    answers = iter([recovering(None), recovering(False), recovering(True)])
    report = roll_back(Router(SHIPPED), observe=lambda since: next(answers)(since))
    assert report.outcome is Outcome.EFFECTIVE
    assert report.detail.endswith("and the breached metric recovers.")


@pytest.mark.parametrize("knowable", [True, False])
def test_a_recovery_that_cannot_be_known_is_said_and_does_not_undo_the_proof(knowable: bool) -> None:
    report = roll_back(Router(SHIPPED), observe=recovering(None, knowable=knowable))
    assert report.outcome is Outcome.EFFECTIVE
    assert "Whether the breached metric recovers cannot be known" in report.detail
    waited = report.verified_at is not None and report.verified_at - START >= timedelta(seconds=30)
    assert waited is knowable


def test_every_stage_that_this_rollout_left_is_its_own_and_anything_else_is_not() -> None:
    stages = [{"v2": share, "v1": 1 - share} for share in (0.05, 0.25, 0.5)]
    for shares, outcome in [*((left, Outcome.EFFECTIVE) for left in stages), ({"v2": 0.3, "v1": 0.7}, None)]:
        change = TrafficChange(BASELINE, before=stages, idempotency_key="k", deadline=timedelta(seconds=30))
        report = change_traffic(Router(shares), change, clock=ManualClock().clock())
        assert report.outcome is (outcome or Outcome.SUPERSEDED)


def test_every_outcome_has_its_next_step() -> None:
    assert len({outcome.next_step for outcome in Outcome}) == len(Outcome)
