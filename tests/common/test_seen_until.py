"""Up to where a rescheduled watch was seen: only a poll that missed a look says that metrics were away."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest

from rollback_budget.common import config, watch_process
from rollback_budget.model.watch_settings import Watch
from tests.standby.test_loss import signs
from tests.support.rollouts import KEY, NOON

pytestmark = pytest.mark.airflow

#: A step of a minute that settles for 90 s, polled every minute.
WATCH = Watch()
SHIPPED = NOON - timedelta(hours=1)


def seen_until(
    monkeypatch: pytest.MonkeyPatch, *, looked_at: datetime | None, heartbeat_at: datetime | None
) -> datetime | None:
    noted = signs(NOON, looked_at=looked_at, heartbeat_at=heartbeat_at)
    ledger = SimpleNamespace(signs_of_life=SimpleNamespace(of=lambda key: noted))
    monkeypatch.setattr(config, "open_ledger", lambda: ledger)
    return watch_process.seen_until(KEY, SHIPPED, WATCH)


@pytest.mark.parametrize("after_s", [0, 91, 209])
def test_a_poll_before_the_next_look_has_settled_says_nothing(
    monkeypatch: pytest.MonkeyPatch, after_s: int
) -> None:
    """The scheduler may have been away since: its first failed poll must not end the watch."""
    heartbeat_at = NOON + timedelta(seconds=after_s)
    assert seen_until(monkeypatch, looked_at=NOON, heartbeat_at=heartbeat_at) is None


def test_a_poll_that_missed_a_look_says_up_to_where_it_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat_at = NOON + timedelta(seconds=211)
    assert seen_until(monkeypatch, looked_at=NOON, heartbeat_at=heartbeat_at) == NOON
    heartbeat_at = SHIPPED + timedelta(minutes=4)
    assert seen_until(monkeypatch, looked_at=None, heartbeat_at=heartbeat_at) == SHIPPED


def test_a_watch_that_never_polled_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen_until(monkeypatch, looked_at=None, heartbeat_at=None) is None
