from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.debt.ageing import AgeingStep, age_debts, aged, step_of
from rollback_budget.ledger.debt_views import Debt, DebtEvent, DebtEventKind, DebtState, Waiver
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.model.budget import Severity
from tests.debt.factories import DAY, make_debt, owe
from tests.support.rollouts import NOON, race

pure = pytest.mark.pure


def walk(debt: Debt, days: Sequence[float]) -> tuple[Debt, list[DebtEvent]]:
    """Let a debt age on these days from its breach on."""
    story: list[DebtEvent] = []
    for day in days:
        debt, events = aged(debt, story, NOON + day * DAY)
        story += events
    return debt, story


@pure
def test_a_debt_is_announced_at_half_time_raised_when_due_and_brought_to_the_commander_when_overdue() -> None:
    debt, story = walk(make_debt(), [day / 2 for day in range(60)])
    assert [(step_of(event), event.at - NOON) for event in story] == [
        (AgeingStep.HALF_TIME, 5 * DAY),
        (AgeingStep.DUE, 10 * DAY),
        (AgeingStep.OVERDUE, 13 * DAY),
    ]
    assert story[0].detail == "half-time: half of its time is over, it is due 2026-03-11 12:00 UTC"
    assert story[1].detail == "due: it was due 2026-03-11 12:00 UTC, so it is critical now, not major"
    assert (debt.severity, debt.due_at) == (Severity.CRITICAL, NOON + 10 * DAY)


@pure
@given(st.lists(st.floats(0, 40), max_size=30), st.sampled_from(list(Severity)))
def test_days_off_make_steps_late_and_never_lost_or_doubled(days: list[float], severity: Severity) -> None:
    within = {Severity.CRITICAL: 3, Severity.MAJOR: 10, Severity.MINOR: 30}[severity]
    debt = make_debt(severity=severity, due_at=NOON + within * DAY)
    last, story = walk(debt, sorted(days))
    reached = [
        step
        for step, day in (
            (AgeingStep.HALF_TIME, within / 2),
            (AgeingStep.DUE, within),
            (AgeingStep.OVERDUE, within + 3),
        )
        if days and max(days) * DAY >= day * DAY
    ]
    assert [step_of(event) for event in story] == reached
    raised = {Severity.MINOR: Severity.MAJOR}.get(severity, Severity.CRITICAL)
    assert last.severity is (raised if AgeingStep.DUE in reached else severity)


@pure
@pytest.mark.parametrize("state", [DebtState.PAID, DebtState.DUPLICATE])
def test_what_is_settled_does_not_age(state: DebtState) -> None:
    debt = make_debt(state=state, paid_at=NOON)
    assert walk(debt, [40]) == (debt, [])


@pure
def test_a_waiver_stops_ageing_until_it_ends() -> None:
    debt = make_debt(waiver=Waiver("alice", "in review", NOON + 20 * DAY))
    assert walk(debt, range(20)) == (debt, [])
    assert [step_of(event) for event in walk(debt, range(21))[1]] == list(AgeingStep)


@pure
def test_a_reopened_debt_takes_its_steps_anew() -> None:
    debt, story = walk(make_debt(), [14])
    reopened = replace(debt, state=DebtState.REOPENED, severity=Severity.MAJOR, due_at=NOON + 30 * DAY)
    story.append(DebtEvent(debt.fingerprint, 1, DebtEventKind.REOPENED, NOON + 20 * DAY, "b"))
    assert aged(reopened, story, NOON + 21 * DAY) == (reopened, [])
    _, events = aged(reopened, story, NOON + 26 * DAY)
    assert [step_of(event) for event in events] == [AgeingStep.HALF_TIME]


@pure
def test_a_debt_is_as_grave_and_as_urgent_as_its_duplicates() -> None:
    debt = make_debt(severity=Severity.MINOR, due_at=NOON + 30 * DAY)
    graver = make_debt(
        fingerprint="d" * 64,
        severity=Severity.CRITICAL,
        due_at=NOON + 3 * DAY,
        state=DebtState.DUPLICATE,
        duplicate_of=debt.fingerprint,
    )
    changed, events = aged(debt, [], NOON, [graver])
    assert (changed.severity, changed.due_at) == (Severity.CRITICAL, NOON + 3 * DAY)
    assert [event.detail for event in events] == ["with its duplicates: critical, due 2026-03-04 12:00 UTC"]
    assert aged(changed, events, NOON, [graver]) == (changed, [])
    paid = replace(graver, paid_at=NOON)
    assert aged(debt, [], NOON, [paid]) == (debt, [])


@pytest.mark.database
def test_racing_reconciliations_record_every_step_once(ledger: Ledger) -> None:
    debt, other = owe(ledger), owe(ledger, "p99")
    race(4, lambda _: age_debts(Ledger(ledger.url), NOON + timedelta(days=20)))
    for one in (debt, other):
        steps = [step_of(event) for event in ledger.debt_events.of(one.fingerprint)]
        assert [step for step in steps if step is not None] == list(AgeingStep)
        after = ledger.debts.get(one.fingerprint)
        assert after is not None
        assert after.severity is Severity.CRITICAL
    assert age_debts(ledger, NOON + timedelta(days=21)) == []
