"""Ageing: what happens to a debt by time alone. One rule, in three steps, each taken once.

Half of its time is over: the owner is notified. It is due: its severity is raised by one. It is overdue for
:data:`COMMANDER_AFTER`: the incident commander is notified. A waiver stops the steps until it ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from rollback_budget.debt.lifecycle import DUE_WITHIN, GRAVEST_FIRST
from rollback_budget.debt.state_machine import duplicates_of
from rollback_budget.ledger.debt_views import Debt, DebtEvent, DebtEventKind
from rollback_budget.ledger.debts import DebtRule, DebtUpdate, LockedDebt
from rollback_budget.ledger.ledger import Ledger

#: How long a debt may be overdue before the incident commander hears of it.
COMMANDER_AFTER = timedelta(days=3)
#: Who did it, in a debt's events.
BY = "ageing"


class AgeingStep(StrEnum):
    """A step of ageing, in the order of time."""

    HALF_TIME = "half-time"
    DUE = "due"
    OVERDUE = "overdue"


def when(debt: Debt, step: AgeingStep) -> datetime:
    """Return when a debt reaches a step."""
    match step:
        case AgeingStep.HALF_TIME:
            return debt.due_at - DUE_WITHIN[debt.severity] / 2
        case AgeingStep.DUE:
            return debt.due_at
        case AgeingStep.OVERDUE:
            return debt.due_at + COMMANDER_AFTER


def aged(
    debt: Debt, events: Sequence[DebtEvent], now: datetime, duplicates: Iterable[Debt] = ()
) -> tuple[Debt, list[DebtEvent]]:
    """Return what ``debt`` becomes by time, with an event for each step that it takes now.

    :param events: of the debt, so far.
    :param duplicates: the debts that are to be paid with it: it is as grave, and as urgent, as any of them.
    """
    if not debt.is_owed:
        return debt, []
    older, taken_now = _with_duplicates(debt, duplicates, now)
    if older.is_waived(now):
        return older, taken_now
    due = older
    taken = _steps_taken(debt, events)
    for step in AgeingStep:
        if step in taken or when(due, step) > now:
            continue
        older, sentence = _take(step, older)
        taken_now.append(_event(older, f"{step.value}: {sentence}", now, step))
    return older, taken_now


def age_debts(ledger: Ledger, now: datetime) -> list[DebtEvent]:
    """Let every debt take the steps that it has reached; return the events, each recorded once.

    :raises LedgerUnavailableError: a further call does the rest.
    """
    debts = {debt.fingerprint: debt for debt in ledger.debts.every()}
    recorded = []
    for debt in debts.values():
        if debt.is_owed:
            rule = _rule(now, duplicates_of(debt.fingerprint, debts))
            recorded += ledger.debts.change(debt.fingerprint, rule)[1]
    return recorded


def _rule(now: datetime, duplicates: Sequence[Debt]) -> DebtRule:
    def rule(locked: LockedDebt) -> list[DebtUpdate]:
        older, taken = aged(locked.debt, locked.events, now, duplicates)
        return [DebtUpdate(older, tuple(taken))] if taken else []

    return rule


def step_of(event: DebtEvent) -> AgeingStep | None:
    """Return the step that an event records, None for other events."""
    return None if event.ageing_step is None else AgeingStep(event.ageing_step)


def _take(step: AgeingStep, debt: Debt) -> tuple[Debt, str]:
    due = f"{debt.due_at:%Y-%m-%d %H:%M} UTC"
    match step:
        case AgeingStep.HALF_TIME:
            return debt, f"half of its time is over, it is due {due}"
        case AgeingStep.DUE:
            graver = GRAVEST_FIRST[max(GRAVEST_FIRST.index(debt.severity) - 1, 0)]
            if graver is debt.severity:
                return debt, f"it was due {due}, and is {graver.value} already"
            raised = replace(debt, severity=graver)
            return raised, f"it was due {due}, so it is {graver.value} now, not {debt.severity.value}"
        case AgeingStep.OVERDUE:
            return debt, f"it is overdue since {due}, the incident commander is notified"


def _with_duplicates(debt: Debt, duplicates: Iterable[Debt], now: datetime) -> tuple[Debt, list[DebtEvent]]:
    family = [debt, *(one for one in duplicates if one.paid_at is None)]
    severity = min((one.severity for one in family), key=GRAVEST_FIRST.index)
    due_at = min(one.due_at for one in family)
    if (severity, due_at) == (debt.severity, debt.due_at):
        return debt, []
    changed = replace(debt, severity=severity, due_at=due_at)
    detail = f"with its duplicates: {severity.value}, due {due_at:%Y-%m-%d %H:%M} UTC"
    return changed, [_event(changed, detail, now)]


def _event(debt: Debt, detail: str, now: datetime, step: AgeingStep | None = None) -> DebtEvent:
    return DebtEvent(
        debt.fingerprint,
        debt.cycle,
        DebtEventKind.ESCALATED,
        now,
        by=BY,
        detail=detail,
        ageing_step=None if step is None else step.value,
    )


def _steps_taken(debt: Debt, events: Sequence[DebtEvent]) -> set[AgeingStep]:
    """Return the steps since the debt was last owed anew."""
    taken: set[AgeingStep] = set()
    for event in events:
        if event.cycle != debt.cycle:
            continue
        if event.kind is DebtEventKind.REOPENED:
            taken.clear()
        step = step_of(event)
        if step is not None:
            taken.add(step)
    return taken
