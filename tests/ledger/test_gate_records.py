"""What the launch gate said and who launched past it, on a real SQLite and a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rollback_budget.gate.bypass import HOLDS_FOR, bypass_now, record_bypass
from rollback_budget.ledger.debt_views import GateRun
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey

pytestmark = pytest.mark.database

NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)


def said(verdict: str, at: datetime, run_id: str = "run") -> GateRun:
    return GateRun("support", "v43", "rollout", run_id, verdict, at, "{}")


def test_the_gate_is_kept_run_by_run_and_once_each(ledger: Ledger) -> None:
    later = said("pass", NOON + timedelta(minutes=1))
    for run in (later, said("ask", NOON), said("ask", NOON), said("block", NOON, "another")):
        ledger.gate_runs.add(run)
    assert [run.verdict for run in ledger.gate_runs.of("support")] == ["ask", "block", "pass"]
    assert ledger.gate_runs.last(RolloutKey("rollout", "run")) == later
    assert ledger.gate_runs.last(RolloutKey("rollout", "unknown")) is None
    assert ledger.gate_runs.of("other") == []


def test_a_bypass_holds_for_its_release_and_for_a_day(ledger: Ledger) -> None:
    made = record_bypass(ledger, "support", "v43", "ada", "stops a leak", NOON)
    note = bypass_now(ledger, "support", "v43", NOON + HOLDS_FOR)
    assert note is not None
    assert (note.by, note.reason, note.at) == ("ada", "stops a leak", NOON)
    assert bypass_now(ledger, "support", "v43", NOON + HOLDS_FOR + timedelta(seconds=1)) is None
    assert bypass_now(ledger, "support", "v44", NOON) is None
    assert bypass_now(ledger, "other", "v43", NOON) is None
    assert ledger.bypasses.of("support") == [made]


def test_the_same_bypass_is_recorded_once_and_another_one_is_counted(ledger: Ledger) -> None:
    for at in (NOON, NOON, NOON + timedelta(hours=2)):
        made = record_bypass(ledger, "support", "v43", "ada", "stops a leak", at)
    debt = ledger.debts.get(made.debt_fingerprint)
    assert debt is not None
    assert debt.occurrences == 2
    assert len(ledger.bypasses.of("support")) == 2
