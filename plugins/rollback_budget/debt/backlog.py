"""The backlog in words: what each service owes, the most urgent first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from rollback_budget.ledger.debt_views import Debt
from rollback_budget.ledger.tickets import GONE
from rollback_budget.text import plural

#: A message names this many debts and counts the rest.
NAMED = 20


@dataclass(frozen=True, slots=True)
class ServiceBacklog:
    """What one service owes.

    :param debts: owed, the one that is due first at the head.
    """

    service: str
    owner: str
    debts: tuple[Debt, ...]

    def sentence(self, now: datetime) -> str:
        """Return it for a message: one line that sums it up, and one for each debt."""
        overdue = sum(debt.is_overdue(now) for debt in self.debts)
        waived = sum(debt.is_waived(now) for debt in self.debts)
        debts = plural(len(self.debts), "eval debt")
        head = f"{debts} owed by {self.owner}: {overdue} overdue, {waived} waived"
        lines = [
            f"- {debt.budget}: {debt.severity.value}, {due(debt, now)}, {ticket(debt)}"
            for debt in self.debts[:NAMED]
        ]
        rest = len(self.debts) - NAMED
        return "\n".join([head, *lines, *([f"- and {rest} more"] if rest > 0 else [])])


def backlogs(debts: Iterable[Debt], owners: Mapping[str, str]) -> list[ServiceBacklog]:
    """Return what is owed, service by service.

    :param owners: service to owner.
    """
    owed: dict[str, list[Debt]] = {}
    for debt in debts:
        if debt.is_owed:
            owed.setdefault(debt.service, []).append(debt)
    return [
        ServiceBacklog(service, owners[service], tuple(sorted(theirs, key=lambda debt: debt.due_at)))
        for service, theirs in sorted(owed.items())
    ]


def due(debt: Debt, now: datetime) -> str:
    """Say where a debt stands in time."""
    if debt.paid_at is not None:
        return f"paid {debt.paid_at:%Y-%m-%d}"
    if not debt.is_owed:
        return f"of {(debt.duplicate_of or '')[:16]}"
    if debt.is_waived(now) and debt.waiver is not None:
        return f"waived to {debt.waiver.until:%Y-%m-%d}"
    if debt.is_overdue(now):
        return f"overdue by {days(now - debt.due_at)}"
    return f"due in {days(debt.due_at - now)}"


def days(duration: timedelta) -> str:
    """Return a duration for people who plan in days: ``3 d``, and ``5 h`` below one."""
    hours = max(int(duration.total_seconds()), 0) // 3600
    return f"{hours // 24} d" if hours >= 24 else f"{hours} h"


def ticket(debt: Debt) -> str:
    """Say where a debt's ticket is."""
    if debt.ticket is None:
        return "no ticket yet"
    if debt.ticket.key is None:
        return f"ticket {debt.ticket.state.value}"
    gone = " (gone: debt refile)" if debt.ticket.status == GONE else ""
    return f"{debt.ticket.url or debt.ticket.key}{gone}"


def ticket_with_error(debt: Debt) -> str:
    """Say where a debt's ticket is, and why there is none: for people who may see addresses."""
    if debt.ticket is None or debt.ticket.key is not None or not debt.ticket.last_error:
        return ticket(debt)
    return f"{ticket(debt)}: {debt.ticket.last_error}"


def line(debt: Debt, owner: str, now: datetime) -> str:
    """Return a debt as a line of a table."""
    return (
        f"{debt.fingerprint[:16]}  {debt.state_at(now).value:9} {debt.severity.value:8} {due(debt, now):21}"
        f"  {days(now - debt.detected_at):>6} old  {debt.occurrences:3}x"
        f"  {debt.service} ({owner}): {debt.budget}  {ticket_with_error(debt)}"
    )
