"""What the ledger hands out of eval debts: frozen views of its rows. Every time is aware and in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from rollback_budget.model.budget import Comparison, Severity


class DebtState(StrEnum):
    """The state of an eval debt; ``debt/state_machine.py`` says which may follow which."""

    DETECTED = "detected"
    FILED = "filed"
    DRAFTED = "drafted"
    APPROVED = "approved"
    PROVEN = "proven"
    PAID = "paid"
    WAIVED = "waived"
    DUPLICATE = "duplicate"
    REOPENED = "reopened"


#: Nothing is owed any more.
SETTLED = frozenset({DebtState.PAID, DebtState.DUPLICATE})


class DebtEventKind(StrEnum):
    """What happened to a debt."""

    DETECTED = "detected"
    OCCURRENCE = "occurrence"
    REOPENED = "reopened"
    FILED = "filed"
    DRAFTED = "drafted"
    APPROVED = "approved"
    PROVEN = "proven"
    PAID = "paid"
    WAIVED = "waived"
    DUPLICATE = "duplicate"
    ESCALATED = "escalated"
    BYPASSED = "bypassed"


class TicketState(StrEnum):
    """The state of a ticket: nothing sent, perhaps being sent, perhaps sent, there."""

    PENDING = "pending"
    POSTING = "posting"
    UNKNOWN = "unknown"
    FILED = "filed"


class ClosedBy(StrEnum):
    """Who closed a ticket: this program, because its debt is settled, or a person, who pays nothing by it."""

    ROLLBACK_BUDGET = "rollback-budget"
    PERSON = "person"


class CaseState(StrEnum):
    """The state of an eval case: a draft until a person approves what is expected."""

    DRAFT = "draft"
    APPROVED = "approved"


@dataclass(frozen=True, slots=True)
class Ticket:
    """The one ticket of a debt; ``key`` and ``url`` are known once it is filed.

    :param issue_id: the tracker's own id, which stays when the ticket moves to another project.
    :param status: the category of its status when it was last seen: ``new``, ``indeterminate``, ``done``, or
        ``gone``; None when it was never looked at.
    :param reported_occurrences: the number of occurrences of the debt that it speaks of.
    """

    state: TicketState
    tracker: str | None = None
    key: str | None = None
    url: str | None = None
    filed_at: datetime | None = None
    lease_until: datetime | None = None
    unknown_since: datetime | None = None
    last_error: str | None = None
    issue_id: str | None = None
    status: str | None = None
    seen_at: datetime | None = None
    reported_occurrences: int = 0


@dataclass(frozen=True, slots=True)
class Waiver:
    """A recorded permission to launch in spite of a debt; over by itself at ``until``."""

    by: str
    reason: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Debt:
    """One eval debt.

    :param state: how far it is on the way to being paid; a waiver leaves it where it is.
    :param occurrences: breaches of this cycle.
    :param cycle: counts how often the same weakness came back long after it was paid; 1 at first.
    :param waiver: the newest one, whether or not it is over.
    :param duplicate_of: fingerprint of the debt that this one is paid with.
    """

    fingerprint: str
    service: str
    area: str
    metric: str
    comparison: Comparison
    slice: str | None
    severity: Severity
    state: DebtState
    occurrences: int
    cycle: int
    detected_at: datetime
    last_breach_at: datetime
    due_at: datetime
    paid_at: datetime | None = None
    ticket: Ticket | None = None
    waiver: Waiver | None = None
    duplicate_of: str | None = None

    @property
    def label(self) -> str:
        """The word by which a tracker finds this debt's ticket again."""
        again = "" if self.cycle == 1 else f"-{self.cycle}"
        return f"rollback-budget-{self.fingerprint[:16]}{again}"

    @property
    def budget(self) -> str:
        """``<area>.<metric>_<comparison>``, with the slice where there is one."""
        name = f"{self.area}.{self.metric}_{self.comparison.value}"
        return name if self.slice is None else f"{name} in {self.slice}"

    def is_waived(self, now: datetime) -> bool:
        """Whether a waiver holds now."""
        return self.waiver is not None and now < self.waiver.until

    def state_at(self, now: datetime) -> DebtState:
        """Return the state that people are shown: ``waived`` while a waiver holds, else how far it is."""
        return DebtState.WAIVED if self.is_owed and self.is_waived(now) else self.state

    @property
    def is_owed(self) -> bool:
        """Whether it is neither paid nor a duplicate."""
        return self.state not in SETTLED

    def is_overdue(self, now: datetime) -> bool:
        """Whether it is owed, not waived, and its due date has passed."""
        return self.is_owed and not self.is_waived(now) and self.due_at < now


@dataclass(frozen=True, slots=True)
class DebtChange:
    """What logging one breach did; ``debt`` is the debt afterwards."""

    kind: DebtEventKind
    breach_fingerprint: str
    debt: Debt


@dataclass(frozen=True, slots=True)
class DebtEvent:
    """Something that happened to a debt.

    :param by: the person or, for what happens by itself, the task; None for a breach.
    :param detail: one sentence for people, or None; nothing reads it back.
    :param waived_until: the end of the waiver that it records; None for other events.
    :param ageing_step: the step of ageing that it records; None for other events.
    """

    debt_fingerprint: str
    cycle: int
    kind: DebtEventKind
    at: datetime
    breach_fingerprint: str | None = None
    by: str | None = None
    detail: str | None = None
    waived_until: datetime | None = None
    ageing_step: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to file one debt's ticket, until the lease ends.

    :param unknown_since: since when a ticket may exist that the ledger does not know; None when nothing was
        ever sent.
    """

    debt_fingerprint: str
    token: str
    unknown_since: datetime | None


@dataclass(frozen=True, slots=True)
class CaseEntry:
    """What the ledger knows of an eval case; its content stands in the case file, under version control."""

    debt_fingerprint: str
    case_id: str
    state: CaseState
    drafted_at: datetime
    approved_at: datetime | None = None
    approved_by: str | None = None


@dataclass(frozen=True, slots=True)
class ProofRecord:
    """A red-green proof as it was judged.

    :param digest: SHA-256 (hex) of what was judged, so that the same proof is kept once.
    :param proof: JSON: every case with its results on both releases.
    """

    debt_fingerprint: str
    cycle: int
    digest: str
    breached_release: str
    candidate_release: str
    accepted: bool
    by: str
    at: datetime
    proof: str


@dataclass(frozen=True, slots=True)
class GateRun:
    """What the launch gate said before one launch.

    :param verdict: ``pass``, ``ask`` or ``block``.
    :param result: JSON of the gate's whole result.
    """

    service: str
    release: str
    dag_id: str
    run_id: str
    verdict: str
    at: datetime
    result: str


@dataclass(frozen=True, slots=True)
class Bypass:
    """A recorded decision to launch past a gate that blocks; itself a debt."""

    service: str
    release: str
    by: str
    reason: str
    at: datetime
    debt_fingerprint: str
