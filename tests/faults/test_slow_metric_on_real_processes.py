"""A slow metric beside fast ones, watched by the real trigger in a process of its own, and by standby."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from rollback_budget.model.pace import pace_of
from tests.support.network import wait_until
from tests.support.standby import KEY, WatchedService, watched_service

pytestmark = [pytest.mark.service, pytest.mark.timeout(180)]

#: The share of handoffs comes every four seconds, six seconds late.
SLOW = "metrics: {human_handoff: {every: 4s, lag: 6s}}\n"
HANDOFFS, INCIDENTS = "escalation.human_handoff_delta_pct", "safety.high_severity_incidents_increase"
Begin = Callable[..., WatchedService]


@pytest.fixture
def begin(tmp_path: Path, postgres_url: str) -> Iterator[Begin]:
    """Return what begins a rollout, with its ledger in PostgreSQL."""
    with ExitStack() as stack:

        def run(**options: object) -> WatchedService:
            return stack.enter_context(watched_service(tmp_path, postgres_url, more=SLOW, **options))  # type: ignore[arg-type]

        yield run


def looks_of(rollout: WatchedService, budget: str) -> list[float]:
    """Return when its looks were, in seconds since the epoch."""
    return [look.time.timestamp() for look in rollout.ledger.looks.of(KEY, budget=budget)]


def test_a_slow_metric_is_looked_at_in_its_own_steps_through_a_crash_and_breaches(begin: Begin) -> None:
    rollout = begin(within="60s")
    assert pace_of(rollout.spec, "human_handoff").every == timedelta(seconds=4)
    first = rollout.airflow("first")
    wait_until(lambda: len(looks_of(rollout, HANDOFFS)) >= 2, within_s=60, what="two looks at the handoffs")
    first.kill()
    rollout.slide()
    rollout.airflow("second")
    wait_until(lambda: rollout.ledger.reviews.of(KEY), within_s=90, what="the question")
    (breach,) = rollout.ledger.breaches.of(KEY)
    assert breach.breach.budget == HANDOFFS
    slow, fast = looks_of(rollout, HANDOFFS), looks_of(rollout, INCIDENTS)
    assert {later - time for time, later in pairwise(slow)} == {4.0}
    assert {later - time for time, later in pairwise(fast)} == {1.0}
    assert breach.logged_at - breach.breach.breached_at >= timedelta(seconds=6)


def test_standby_takes_over_a_watch_of_several_paces_and_finds_the_slow_breach(begin: Begin) -> None:
    rollout = begin(within="3s")
    airflow = rollout.airflow()
    wait_until(lambda: looks_of(rollout, HANDOFFS), within_s=60, what="a look at the handoffs")
    airflow.kill()
    rollout.standby()
    rollout.wait_for_looks(by_standby=True)
    rollout.slide()
    rollout.wait_for_rollback()
    assert [one.breach.budget for one in rollout.ledger.breaches.of(KEY)] == [HANDOFFS]
    assert rollout.rollbacks() == 1
