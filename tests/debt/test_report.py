from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rollback_budget.charts import draw_burn_down
from rollback_budget.debt.changes import advance_state, waive
from rollback_budget.debt.owners import NO_OWNER
from rollback_budget.debt.report import DebtReport, burn_down, report_of
from rollback_budget.ledger.debt_views import Debt, DebtEvent, DebtEventKind, DebtState, Waiver
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import LoggedBreach
from rollback_budget.model.budget import Severity
from tests.debt.factories import DAY, make_debt, owe
from tests.support.rollouts import KEY, NOON, make_breach, make_spec

pure = pytest.mark.pure

Line = tuple[DebtEventKind, float]


def story(debt: Debt, *lines: Line) -> tuple[list[DebtEvent], list[LoggedBreach]]:
    """Return a debt's events, days after NOON, and the breaches behind those that a breach made."""
    events, breaches = [], []
    for kind, day in lines:
        at = NOON + day * DAY
        name = None
        if kind in (DebtEventKind.DETECTED, DebtEventKind.OCCURRENCE, DebtEventKind.REOPENED):
            name = f"{debt.fingerprint} {day}"
            breach = make_breach(at, severity=debt.severity)
            key = RolloutKey("d", name)
            breaches.append(LoggedBreach(name, debt.fingerprint, key, debt.service, "v42", "v41", breach, at))
        events.append(DebtEvent(debt.fingerprint, debt.cycle, kind, at, name))
    return events, breaches


def report(now: datetime, *stories: tuple[Debt, Sequence[Line]], days: int = 100) -> DebtReport:
    reported = [(debt, *story(debt, *lines)) for debt, lines in stories]
    return burn_down(
        [debt for debt, _, _ in reported],
        [event for _, events, _ in reported for event in events],
        [breach for _, _, breaches in reported for breach in breaches],
        {"support-bot": "alice", "other-bot": "bob"},
        now,
        days,
    )


@pure
def test_the_burn_down_counts_what_was_opened_paid_and_reopened_by_day() -> None:
    paid = make_debt(state=DebtState.REOPENED, due_at=NOON + 14 * DAY)
    made = report(
        NOON + 5 * DAY,
        (paid, [(DebtEventKind.DETECTED, 0), (DebtEventKind.PAID, 2), (DebtEventKind.REOPENED, 4)]),
        (make_debt(fingerprint="o"), [(DebtEventKind.DETECTED, 1), (DebtEventKind.OCCURRENCE, 3)]),
    )
    assert [(day.day.day, day.opened, day.paid, day.owed) for day in made.days] == [
        (1, 1, 0, 1),
        (2, 2, 0, 2),
        (3, 2, 1, 1),
        (4, 2, 1, 1),
        (5, 3, 1, 2),
        (6, 3, 1, 2),
    ]


@pure
def test_overdue_is_counted_by_owner_from_the_due_date_to_the_payment_or_while_no_waiver_holds() -> None:
    waiver = Waiver("alice", "in review", NOON + 12.9 * DAY)
    debt = make_debt(waiver=waiver)
    other = make_debt(
        fingerprint="o",
        service="other-bot",
        severity=Severity.CRITICAL,
        state=DebtState.PAID,
        paid_at=NOON + 5 * DAY,
    )
    unowned = make_debt(
        fingerprint="n", service="new-bot", severity=Severity.CRITICAL, due_at=NOON + 15 * DAY
    )
    events, breaches = story(debt, (DebtEventKind.DETECTED, 0))
    waived_at = NOON + 11 * DAY
    events.append(
        DebtEvent(debt.fingerprint, 1, DebtEventKind.WAIVED, waived_at, by="alice", waived_until=waiver.until)
    )
    for one, lines in (
        (other, [(DebtEventKind.DETECTED, 0), (DebtEventKind.PAID, 5)]),
        (unowned, [(DebtEventKind.DETECTED, 12)]),
    ):
        more, further = story(one, *lines)
        events, breaches = events + more, breaches + further
    now = NOON + 16 * DAY
    made = burn_down(
        [debt, other, unowned],
        events,
        breaches,
        {"support-bot": "alice", "other-bot": "bob", "new-bot": NO_OWNER},
        now,
        100,
    )
    late = {day.day.day: day.overdue for day in made.days}
    assert [day for day, owners in late.items() if "bob" in owners] == [4, 5]
    assert [day for day, owners in late.items() if "alice" in owners] == [11, 14, 15, 16, 17]
    assert late[17] == {NO_OWNER: 1, "alice": 1}
    assert [(line.owner, line.owed, line.overdue, line.waived) for line in made.owners] == [
        ("alice", 1, 1, 0),
        (NO_OWNER, 1, 1, 0),
    ]


@pure
def test_a_breach_had_a_case_before_when_its_weakness_was_approved_before_it_happened() -> None:
    debt = make_debt(state=DebtState.REOPENED)
    original = make_debt(fingerprint="o")
    duplicate = make_debt(fingerprint="d", state=DebtState.DUPLICATE, duplicate_of="o")
    made = report(
        NOON + 40 * DAY,
        (
            debt,
            [
                (DebtEventKind.DETECTED, 0),
                (DebtEventKind.APPROVED, 1),
                (DebtEventKind.OCCURRENCE, 2),
                (DebtEventKind.PAID, 3),
                (DebtEventKind.REOPENED, 35),
            ],
        ),
        (original, [(DebtEventKind.DETECTED, 1), (DebtEventKind.APPROVED, 5)]),
        (duplicate, [(DebtEventKind.DETECTED, 6), (DebtEventKind.DUPLICATE, 7)]),
    )
    assert (made.had_case, made.breaches) == (3, 5)
    shares = {day.day: day.share for day in made.days}
    assert shares[NOON.date()] == 0
    assert shares[(NOON + 2 * DAY).date()] == pytest.approx(1 / 3)
    assert shares[(NOON + 40 * DAY).date()] == 1
    assert made.days[-1].opened == 3, "a duplicate does not count by itself"


@pure
def test_only_the_days_asked_for_are_shown_and_nothing_is_no_error() -> None:
    made = report(NOON + 9 * DAY, (make_debt(), [(DebtEventKind.DETECTED, 0)]), days=3)
    assert [day.day.day for day in made.days] == [8, 9, 10]
    empty = report(NOON)
    assert [(day.opened, day.share) for day in empty.days] == [(0, None)]


@pytest.mark.database
def test_the_report_reads_the_ledger_and_draws_itself(ledger: Ledger, tmp_path: Path) -> None:
    ledger.rollouts.open(KEY, make_spec(owner="alice"), NOON - timedelta(hours=2))
    debt, late = owe(ledger), owe(ledger, "p99", severity=Severity.CRITICAL)
    waive(ledger.debts, debt.fingerprint, Waiver("alice", "in review", NOON + DAY), NOON)
    advance_state(ledger.debts, late.fingerprint, DebtState.APPROVED, by="alice", at=NOON)
    made = report_of(ledger, NOON + 6 * DAY, 90)
    assert made.days[-1].overdue == {"alice": 1}
    assert made.breaches == 2
    for file in (tmp_path / "debt.svg", tmp_path / "debt.png"):
        draw_burn_down(made.days, 30, file)
    drawn = ElementTree.parse(tmp_path / "debt.svg")
    said = " ".join(node.text or "" for node in drawn.iter())
    for words in ("what lies between is owed", "opened", "alice", "had an eval case before", "100%"):
        assert words in said
    assert (tmp_path / "debt.png").read_bytes().startswith(b"\x89PNG")
    nothing = replace(made, days=made.days[:1])
    draw_burn_down(nothing.days, 30, tmp_path / "one-day.svg")
