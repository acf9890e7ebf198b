"""Up to where a rescheduled watch was seen: only a poll that missed a look says that metrics were away."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest

from rollback_budget.common import config, watch_process
from rollback_budget.model.metric import Metric
from rollback_budget.model.pace import pace_of
from rollback_budget.model.spec import RolloutSpec
from tests.engine.builders import budget, rollout
from tests.standby.test_loss import signs
from tests.support.rollouts import KEY, NOON

pytestmark = pytest.mark.airflow

#: A step of a minute that settles for 90 s, polled every minute.
SPEC = rollout()
HOUR = timedelta(hours=1)
#: Nothing but a score of the hour, two hours late.
SLOW = rollout(budget(minutes=120), metrics={"p95": Metric(every=HOUR, lag=2 * HOUR)})
WATCH = SLOW.watch
#: A latency by the minute beside a score of the hour.
BOTH = rollout(budget(), budget("score", minutes=120), metrics={"score": Metric(every=HOUR, lag=2 * HOUR)})
SHIPPED = NOON - timedelta(hours=1)


def seen_until(
    monkeypatch: pytest.MonkeyPatch,
    *,
    looked_at: datetime | None,
    heartbeat_at: datetime | None,
    spec: RolloutSpec = SPEC,
    newest: Sequence[tuple[str, datetime]] = (),
) -> dict[str, datetime]:
    """Return up to where each metric was seen of which a look was missed."""
    noted = signs(NOON, looked_at=looked_at, heartbeat_at=heartbeat_at)
    looks = [SimpleNamespace(budget=budget_id, time=time) for budget_id, time in newest]
    ledger = SimpleNamespace(
        signs_of_life=SimpleNamespace(of=lambda key: noted), looks=SimpleNamespace(newest=lambda key: looks)
    )
    monkeypatch.setattr(config, "open_ledger", lambda: ledger)
    found = watch_process.seen_until(KEY, SHIPPED, spec)
    metrics = {one.metric: pace_of(spec, one.metric) for one in spec.budgets}
    return {metric: found[pace] for metric, pace in metrics.items() if pace in found}


@pytest.mark.parametrize("after_s", [0, 91, 209])
def test_a_poll_before_the_next_look_has_settled_says_nothing(
    monkeypatch: pytest.MonkeyPatch, after_s: int
) -> None:
    """The scheduler may have been away since: its first failed poll must not end the watch."""
    heartbeat_at = NOON + timedelta(seconds=after_s)
    assert seen_until(monkeypatch, looked_at=NOON, heartbeat_at=heartbeat_at) == {}


def test_a_poll_that_missed_a_look_says_up_to_where_it_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat_at = NOON + timedelta(seconds=211)
    assert seen_until(monkeypatch, looked_at=NOON, heartbeat_at=heartbeat_at) == {"p95": NOON}
    heartbeat_at = SHIPPED + timedelta(minutes=4)
    assert seen_until(monkeypatch, looked_at=None, heartbeat_at=heartbeat_at) == {"p95": SHIPPED}


def test_a_watch_that_never_polled_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen_until(monkeypatch, looked_at=None, heartbeat_at=None) == {}


def test_a_slow_metric_misses_a_look_only_after_its_own_step(monkeypatch: pytest.MonkeyPatch) -> None:
    # The look of ten o'clock is recorded when it is decided, by the clock of looks that settle.
    looked_at = NOON - WATCH.settle
    for minutes, missed in ((59, False), (64, True)):
        heartbeat_at = NOON + timedelta(minutes=minutes)
        found = seen_until(monkeypatch, looked_at=looked_at, heartbeat_at=heartbeat_at, spec=SLOW)
        assert found == ({"p95": NOON - 2 * HOUR} if missed else {})
    for hours, missed in ((2.9, False), (4.1, True)):
        heartbeat_at = SHIPPED + timedelta(hours=hours)
        found = seen_until(monkeypatch, looked_at=None, heartbeat_at=heartbeat_at, spec=SLOW)
        assert found == ({"p95": SHIPPED} if missed else {})


def test_the_looks_of_a_fast_metric_do_not_hide_what_a_slow_one_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    newest = [("latency.p95_delta_pct", NOON), ("latency.score_delta_pct", NOON - 6 * HOUR)]
    heartbeat_at = NOON + timedelta(minutes=2)
    found = seen_until(monkeypatch, looked_at=NOON, heartbeat_at=heartbeat_at, spec=BOTH, newest=newest)
    assert found == {"score": NOON - 6 * HOUR}


@pytest.mark.parametrize(
    ("minutes", "missed"),
    [(85, set()), (95, {"cost"}), (150, {"cost"}), (175, {"cost", "p95"})],
)
def test_where_every_metric_is_slow_each_misses_a_look_in_its_own_time(
    monkeypatch: pytest.MonkeyPatch, minutes: int, missed: set[str]
) -> None:
    """Hourly and half an hour late, beside half-hourly and ten minutes late; each was seen for a while."""
    half = timedelta(minutes=30)
    spec = rollout(
        budget(minutes=120),
        budget("cost", minutes=120),
        metrics={"p95": Metric(every=HOUR, lag=half), "cost": Metric(every=half, lag=half / 3)},
    )
    seen = {"p95": SHIPPED + HOUR, "cost": SHIPPED + 1.5 * half}
    found = seen_until(
        monkeypatch,
        looked_at=NOON,
        heartbeat_at=SHIPPED + timedelta(minutes=minutes),
        spec=spec,
        newest=[(f"latency.{metric}_delta_pct", time) for metric, time in seen.items()],
    )
    assert found == {metric: seen[metric] for metric in missed}
