from __future__ import annotations

from datetime import timedelta

import pytest

from rollback_budget.ledger.ledger import Ledger
from tests.support.debts import owe, watch
from tests.support.rollouts import NOON

pytestmark = pytest.mark.airflow


def test_a_chart_has_a_track_for_every_budget_up_to_the_newest_look(ledger: Ledger) -> None:
    from rollback_budget.api.chart import trace_in

    owe(ledger, "support-bot")
    watch(ledger, "support-bot")
    rollout = ledger.rollouts.newest_of("support-bot", NOON)
    assert rollout is not None
    trace = trace_in(ledger, rollout)
    assert [track.budget for track in trace.budgets] == list(rollout.spec.budgets)
    [track] = [track for track in trace.budgets if track.points]
    assert (track.points[-1].time, track.points[-1].burn) == (NOON, timedelta(minutes=30))
    assert track.breached_at == NOON
