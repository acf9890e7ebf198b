"""The burn-down of eval debt: opened, paid, overdue by owner, and whether breaches had a case before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from rollback_budget.debt.lifecycle import DUE_WITHIN
from rollback_budget.debt.owners import owners_of
from rollback_budget.ledger.debt_views import Debt, DebtEvent, DebtEventKind
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.views import LoggedBreach
from rollback_budget.model.budget import Severity

#: Over how long the share of breaches that had a case before is taken.
TRAILING = timedelta(days=30)

_OPENS = frozenset({DebtEventKind.DETECTED, DebtEventKind.REOPENED, DebtEventKind.BYPASSED})


@dataclass(frozen=True, slots=True)
class Day:
    """How things stood at the end of a day (UTC); of today, now.

    :param opened: debts ever opened; one that was reopened counts again, a duplicate not by itself.
    :param paid: debts ever paid.
    :param overdue: owner to number of debts.
    :param breaches: in the :data:`TRAILING` days before.
    :param had_case: those of them whose weakness had an approved eval case when they happened.
    """

    day: date
    opened: int
    paid: int
    overdue: Mapping[str, int]
    breaches: int
    had_case: int

    @property
    def owed(self) -> int:
        """What is not paid."""
        return self.opened - self.paid

    @property
    def share(self) -> float | None:
        """The share of breaches that had a case before; None when there was no breach."""
        return self.had_case / self.breaches if self.breaches else None


@dataclass(frozen=True, slots=True)
class OwnerLine:
    """What one owner owes now.

    :param oldest_due: the earliest due date.
    """

    owner: str
    owed: int
    overdue: int
    waived: int
    oldest_due: datetime


@dataclass(frozen=True, slots=True)
class DebtReport:
    """The burn-down.

    :param breaches: ever counted.
    :param had_case: those of them that had a case before.
    """

    as_of: datetime
    days: tuple[Day, ...]
    owners: tuple[OwnerLine, ...]
    breaches: int
    had_case: int

    def as_json(self) -> dict[str, Any]:
        """Return it for scripts."""
        return {
            "as_of": _iso(self.as_of),
            "breaches": self.breaches,
            "breaches_with_a_case_before": self.had_case,
            "trailing_days": TRAILING.days,
            "owners": [
                {
                    "owner": line.owner,
                    "owed": line.owed,
                    "overdue": line.overdue,
                    "waived": line.waived,
                    "oldest_due": _iso(line.oldest_due),
                }
                for line in self.owners
            ],
            "days": [
                {
                    "day": day.day.isoformat(),
                    "opened": day.opened,
                    "paid": day.paid,
                    "owed": day.owed,
                    "overdue": dict(day.overdue),
                    "breaches_trailing": day.breaches,
                    "share_with_a_case_before": day.share,
                }
                for day in self.days
            ],
        }


def report_of(ledger: Ledger, now: datetime, days: int) -> DebtReport:
    """Return the burn-down of everything in the ledger. Raises LedgerError."""
    debts = ledger.debts.every()
    owners = owners_of(ledger, debts, now)
    return burn_down(debts, ledger.debt_events.every(), ledger.breaches.counted(), owners, now, days)


def burn_down(
    debts: Sequence[Debt],
    events: Iterable[DebtEvent],
    breaches: Iterable[LoggedBreach],
    owners: Mapping[str, str],
    now: datetime,
    days: int,
) -> DebtReport:
    """Compute the burn-down.

    :param events: of all debts, in the order in which they were recorded.
    :param breaches: that debts counted.
    :param owners: service to owner.
    :param days: how many days to show, today among them.
    """
    known = {logged.fingerprint: logged for logged in breaches}
    histories: dict[str, list[DebtEvent]] = {debt.fingerprint: [] for debt in debts}
    for event in events:
        histories[event.debt_fingerprint].append(event)
    spans = [span for debt in debts for span in _spans(debt, histories[debt.fingerprint], known, now)]
    covered = _covered(debts, histories, known)
    begun = min((span.start for span in spans), default=now).astimezone(UTC).date()
    today = now.astimezone(UTC).date()
    first = max(begun, today - timedelta(days=days - 1))
    shown = [first + timedelta(days=n) for n in range((today - first).days + 1)]
    return DebtReport(
        as_of=now,
        days=tuple(_day(day, spans, covered, owners, now) for day in shown),
        owners=tuple(_owner_lines(debts, owners, now)),
        breaches=len(covered),
        had_case=sum(had for _, had in covered),
    )


@dataclass(slots=True)
class _Span:
    """A debt from the breach that made it owed until it was paid.

    One that turned out to be a duplicate counts with its original, not by itself.
    """

    service: str
    start: datetime
    end: datetime | None = None
    is_duplicate: bool = False
    dues: list[tuple[datetime, datetime]] = field(default_factory=list)
    waivers: list[tuple[datetime, datetime]] = field(default_factory=list)

    def is_overdue(self, at: datetime) -> bool:
        if at < self.start or (self.end is not None and self.end <= at):
            return False
        # A newer waiver takes the place of an older one.
        given = [until for since, until in self.waivers if since <= at]
        if given and at < given[-1]:
            return False
        return any(since <= at and due < at for since, due in self.dues)


def _spans(
    debt: Debt, history: Sequence[DebtEvent], known: Mapping[str, LoggedBreach], now: datetime
) -> Iterator[_Span]:
    open_: _Span | None = None
    for event in history:
        logged = known.get(event.breach_fingerprint or "")
        at = event.at if logged is None else logged.breach.breached_at
        severity = Severity.MAJOR if logged is None else logged.breach.severity
        if event.kind in _OPENS or event.kind is DebtEventKind.OCCURRENCE:
            if open_ is None:
                open_ = _Span(debt.service, at)
            open_.start = min(open_.start, at)
            open_.dues.append((at, at + DUE_WITHIN[severity]))
        elif open_ is None:
            continue
        elif event.kind is DebtEventKind.DUPLICATE:
            open_.is_duplicate = True
        elif event.kind is DebtEventKind.WAIVED and event.waived_until is not None:
            open_.waivers.append((event.at, event.waived_until))
        elif event.kind is DebtEventKind.PAID:
            open_.end = event.at
            if not open_.is_duplicate:
                yield open_
            open_ = None
    if open_ is not None and not open_.is_duplicate:
        # What the ledger says now holds, whatever else than a breach moved the date.
        open_.dues.append((now, debt.due_at))
        yield open_


def _covered(
    debts: Sequence[Debt], histories: Mapping[str, Sequence[DebtEvent]], known: Mapping[str, LoggedBreach]
) -> list[tuple[datetime, bool]]:
    """Return for every counted breach when it happened, and whether its weakness had an approved case."""
    by_name = {debt.fingerprint: debt for debt in debts}
    covered = []
    for debt in debts:
        approved = _first_approval(
            [*histories[debt.fingerprint], *_events_of_original(debt, by_name, histories)]
        )
        for event in histories[debt.fingerprint]:
            logged = known.get(event.breach_fingerprint or "")
            if logged is not None:
                at = logged.breach.breached_at
                covered.append((at, approved is not None and approved < at))
    return covered


def _events_of_original(
    debt: Debt, by_name: Mapping[str, Debt], histories: Mapping[str, Sequence[DebtEvent]]
) -> Sequence[DebtEvent]:
    ahead = debt.duplicate_of
    if ahead is None or ahead not in by_name:
        return []
    return [*histories[ahead], *_events_of_original(by_name[ahead], by_name, histories)]


def _first_approval(history: Iterable[DebtEvent]) -> datetime | None:
    return min((event.at for event in history if event.kind is DebtEventKind.APPROVED), default=None)


def _day(
    day: date,
    spans: Sequence[_Span],
    covered: Sequence[tuple[datetime, bool]],
    owners: Mapping[str, str],
    now: datetime,
) -> Day:
    at = min(datetime.combine(day + timedelta(days=1), time(), UTC), now)
    recent = [had for breached_at, had in covered if at - TRAILING < breached_at <= at]
    overdue = Counter(owners[span.service] for span in spans if span.is_overdue(at))
    return Day(
        day=day,
        opened=sum(span.start <= at for span in spans),
        paid=sum(span.end is not None and span.end <= at for span in spans),
        overdue=dict(sorted(overdue.items())),
        breaches=len(recent),
        had_case=sum(recent),
    )


def _owner_lines(debts: Iterable[Debt], owners: Mapping[str, str], now: datetime) -> Iterator[OwnerLine]:
    owed: dict[str, list[Debt]] = {}
    for debt in debts:
        if debt.is_owed:
            owed.setdefault(owners[debt.service], []).append(debt)
    for owner, theirs in sorted(owed.items()):
        yield OwnerLine(
            owner=owner,
            owed=len(theirs),
            overdue=sum(debt.is_overdue(now) for debt in theirs),
            waived=sum(debt.is_waived(now) for debt in theirs),
            oldest_due=min(debt.due_at for debt in theirs),
        )


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
