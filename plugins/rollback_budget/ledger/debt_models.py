"""The ledger's tables of eval debts. Names are a contract with the migrations; evidence is only appended."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from rollback_budget.ledger.models import Base


class DebtRow(Base):
    """An eval debt."""

    __tablename__ = "debts"

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    service: Mapped[str]
    area: Mapped[str]
    metric: Mapped[str]
    comparison: Mapped[str] = mapped_column(String(20))
    slice: Mapped[str | None]
    severity: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(20))
    occurrences: Mapped[int]
    cycle: Mapped[int]
    detected_at: Mapped[datetime]
    last_breach_at: Mapped[datetime]
    due_at: Mapped[datetime]
    paid_at: Mapped[datetime | None]
    waived_by: Mapped[str | None]
    waived_reason: Mapped[str | None]
    waived_until: Mapped[datetime | None]
    duplicate_of: Mapped[str | None] = mapped_column(String(64))


class DebtEventRow(Base):
    """What happened to a debt; append-only, and what makes a breach count once."""

    __tablename__ = "debt_events"
    __table_args__ = (UniqueConstraint("debt_fingerprint", "breach_fingerprint"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    debt_fingerprint: Mapped[str] = mapped_column(ForeignKey("debts.fingerprint"))
    breach_fingerprint: Mapped[str | None] = mapped_column(ForeignKey("breaches.fingerprint"), index=True)
    cycle: Mapped[int]
    kind: Mapped[str] = mapped_column(String(20))
    at: Mapped[datetime]
    by: Mapped[str | None]
    detail: Mapped[str | None]
    waived_until: Mapped[datetime | None]
    ageing_step: Mapped[str | None] = mapped_column(String(20))


class TicketRow(Base):
    """The ticket of a debt, before, while and after it is filed.

    ``told`` is the number of occurrences of the debt that the ticket speaks of.
    """

    __tablename__ = "tickets"

    debt_fingerprint: Mapped[str] = mapped_column(ForeignKey("debts.fingerprint"), primary_key=True)
    state: Mapped[str] = mapped_column(String(20))
    lease_token: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    unknown_since: Mapped[datetime | None]
    attempts: Mapped[int]
    last_error: Mapped[str | None]
    tracker: Mapped[str | None] = mapped_column(String(20))
    key: Mapped[str | None]
    url: Mapped[str | None]
    filed_at: Mapped[datetime | None]
    told: Mapped[int]
    issue_id: Mapped[str | None]
    status: Mapped[str | None] = mapped_column(String(20))
    seen_at: Mapped[datetime | None]


class TicketOperationRow(Base):
    """Something done to a ticket once (a comment, a file, a transition): claimed before it is sent."""

    __tablename__ = "ticket_deeds"
    __table_args__ = (UniqueConstraint("debt_fingerprint", "cycle", "occasion"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    debt_fingerprint: Mapped[str] = mapped_column(ForeignKey("debts.fingerprint"))
    cycle: Mapped[int]
    occasion: Mapped[str] = mapped_column(String(100))
    claimed_at: Mapped[datetime]
    done_at: Mapped[datetime | None]
    error: Mapped[str | None]
    closed_by: Mapped[str | None] = mapped_column(String(20))


class CaseRow(Base):
    """An eval case of a debt; its content stands in the case file, under version control."""

    __tablename__ = "cases"

    debt_fingerprint: Mapped[str] = mapped_column(ForeignKey("debts.fingerprint"), primary_key=True)
    case_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    state: Mapped[str] = mapped_column(String(20))
    drafted_at: Mapped[datetime]
    approved_at: Mapped[datetime | None]
    approved_by: Mapped[str | None]


class ProofRow(Base):
    """A red-green proof as it was judged; append-only, the same proof once."""

    __tablename__ = "proofs"
    __table_args__ = (UniqueConstraint("debt_fingerprint", "cycle", "digest"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    debt_fingerprint: Mapped[str] = mapped_column(ForeignKey("debts.fingerprint"))
    cycle: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))
    breached_release: Mapped[str]
    candidate_release: Mapped[str]
    accepted: Mapped[bool]
    by: Mapped[str]
    at: Mapped[datetime]
    proof: Mapped[str]


class GateRunRow(Base):
    """What the launch gate said before a launch; append-only."""

    __tablename__ = "gate_runs"
    __table_args__ = (UniqueConstraint("dag_id", "run_id", "at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    dag_id: Mapped[str] = mapped_column(String(250))
    run_id: Mapped[str] = mapped_column(String(250))
    service: Mapped[str] = mapped_column(index=True)
    release: Mapped[str]
    verdict: Mapped[str] = mapped_column(String(20))
    at: Mapped[datetime]
    result: Mapped[str]


class BypassRow(Base):
    """A launch past a gate that blocks: who, why, and the debt that it made; append-only."""

    __tablename__ = "bypasses"
    __table_args__ = (UniqueConstraint("debt_fingerprint", "at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    service: Mapped[str] = mapped_column(index=True)
    release: Mapped[str]
    by: Mapped[str]
    reason: Mapped[str]
    at: Mapped[datetime]
    debt_fingerprint: Mapped[str] = mapped_column(ForeignKey("debts.fingerprint"))
