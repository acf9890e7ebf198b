"""The ledger's tables. Names are a contract with the migrations; evidence is only ever appended."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Double, ForeignKey, MetaData, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

#: The migration that these models stand for.
REVISION = "0009"


class UtcTime(TypeDecorator[datetime]):
    """An aware time, stored in UTC; SQLite keeps no zone, so it is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times, because what they mean is not known."""
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError(f"{value.isoformat()} has no time zone; the ledger stores aware times only")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the time aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class AnyText(TypeDecorator[str]):
    """Text that people and services wrote, without the NUL and lone surrogates that PostgreSQL refuses."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Return text that every database can store."""
        if value is None:
            return None
        return str(value).replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


class Base(DeclarativeBase):
    """The ledger's metadata; constraints have names, so that migrations can find them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcTime(), str: AnyText()}  # noqa: RUF012 - SQLAlchemy reads it


class RolloutRow(Base):
    """A rollout, its frozen spec and its final decision."""

    __tablename__ = "rollouts"
    __table_args__ = (UniqueConstraint("dag_id", "run_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    dag_id: Mapped[str] = mapped_column(String(250))
    run_id: Mapped[str] = mapped_column(String(250))
    service: Mapped[str]
    release: Mapped[str]
    baseline: Mapped[str]
    spec: Mapped[str]
    spec_sha256: Mapped[str] = mapped_column(String(64))
    opened_at: Mapped[datetime]
    shipped_at: Mapped[datetime | None]
    window_end: Mapped[datetime | None]
    final_decision: Mapped[str | None] = mapped_column(String(20))
    final_by: Mapped[str | None]
    final_reason: Mapped[str | None]
    final_at: Mapped[datetime | None]
    rollback_terms: Mapped[str | None]
    stage_write_until: Mapped[datetime | None]


class EvaluationRow(Base):
    """What a watch or a guard said; append-only, each verdict once."""

    __tablename__ = "evaluations"
    __table_args__ = (UniqueConstraint("rollout_id", "round", "kind", "evaluated_until"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    rollout_id: Mapped[int] = mapped_column(ForeignKey("rollouts.id"))
    round: Mapped[int]
    kind: Mapped[str] = mapped_column(String(20))
    verdict: Mapped[str] = mapped_column(String(20))
    evaluated_until: Mapped[datetime | None]
    recorded_at: Mapped[datetime]
    evaluation: Mapped[str]


class LookRow(Base):
    """One look at all budgets of a rollout, packed; append-only, each look once, pruned by age."""

    __tablename__ = "looks"
    # The key is a third of a row: no second copy of it.
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012 - SQLAlchemy reads it

    rollout_id: Mapped[int] = mapped_column(ForeignKey("rollouts.id"), primary_key=True)
    time: Mapped[datetime] = mapped_column(primary_key=True)
    standings: Mapped[str]
    by: Mapped[str | None] = mapped_column(String(20))


class WatchHeartbeatRow(Base):
    """When a rollout's watch in Airflow last polled without a look to record: it lives, and sees nothing."""

    __tablename__ = "watch_heartbeats"

    rollout_id: Mapped[int] = mapped_column(ForeignKey("rollouts.id"), primary_key=True, autoincrement=False)
    at: Mapped[datetime]


class WatchLeaseRow(Base):
    """Which standby watches a rollout whose own watch is lost, and until when it may."""

    __tablename__ = "watch_leases"

    rollout_id: Mapped[int] = mapped_column(ForeignKey("rollouts.id"), primary_key=True, autoincrement=False)
    holder: Mapped[str] = mapped_column(String(250))
    taken_at: Mapped[datetime]
    until: Mapped[datetime]


class StandbyRow(Base):
    """A standby process, and when it was last seen."""

    __tablename__ = "standbys"

    name: Mapped[str] = mapped_column(String(250), primary_key=True)
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]


class BreachRow(Base):
    """A breach; append-only, once per rollout, budget and time."""

    __tablename__ = "breaches"

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    rollout_id: Mapped[int] = mapped_column(ForeignKey("rollouts.id"), index=True)
    debt_fingerprint: Mapped[str] = mapped_column(String(64), index=True)
    budget: Mapped[str]
    breached_at: Mapped[datetime]
    logged_at: Mapped[datetime]
    breach: Mapped[str]


class DecisionRow(Base):
    """An answer to a review; append-only."""

    __tablename__ = "decisions"
    __table_args__ = (UniqueConstraint("rollout_id", "round", "at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    rollout_id: Mapped[int] = mapped_column(ForeignKey("rollouts.id"))
    round: Mapped[int]
    option: Mapped[str]
    by: Mapped[str | None]
    reason: Mapped[str | None]
    at: Mapped[datetime]
    timed_out: Mapped[bool]


class OverrideRow(Base):
    """A decision to go on, and until when; append-only."""

    __tablename__ = "overrides"
    __table_args__ = (UniqueConstraint("rollout_id", "round", "at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    rollout_id: Mapped[int] = mapped_column(ForeignKey("rollouts.id"))
    round: Mapped[int]
    budget_ids: Mapped[str]
    by: Mapped[str]
    reason: Mapped[str]
    at: Mapped[datetime]
    until: Mapped[datetime]


class RollbackRow(Base):
    """A rollback; one row per idempotency key, brought up to date by each try."""

    __tablename__ = "rollbacks"

    idempotency_key: Mapped[str] = mapped_column(primary_key=True)
    rollout_id: Mapped[int] = mapped_column(ForeignKey("rollouts.id"), index=True)
    outcome: Mapped[str | None] = mapped_column(String(30))
    requested_at: Mapped[datetime | None]
    verified_at: Mapped[datetime | None]
    control_plane: Mapped[str]
    data_plane: Mapped[str]
    detail: Mapped[str]


class SuspensionRow(Base):
    """A budget suspended for a while; only its early end is ever added.

    It holds for one rollout (``dag_id``, ``run_id``), for every one of a DAG, or for those whose release or
    service has this ``name``.
    """

    __tablename__ = "suspensions"
    __table_args__ = (UniqueConstraint("once"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    once: Mapped[str] = mapped_column(String(250))
    dag_id: Mapped[str | None] = mapped_column(String(250))
    run_id: Mapped[str | None] = mapped_column(String(250))
    name: Mapped[str | None]
    budget: Mapped[str]
    since: Mapped[datetime]
    until: Mapped[datetime]
    by: Mapped[str]
    reason: Mapped[str]
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None]
    ended_reason: Mapped[str | None]


class LabelRow(Base):
    """How a rollout really went, as a person said afterwards; append-only, the latest one holds."""

    __tablename__ = "labels"

    id: Mapped[int] = mapped_column(primary_key=True)
    rollout_id: Mapped[int] = mapped_column(ForeignKey("rollouts.id"), index=True)
    label: Mapped[str] = mapped_column(String(10))
    onset: Mapped[datetime | None]
    by: Mapped[str]
    note: Mapped[str]
    at: Mapped[datetime]


class ReviewRow(Base):
    """A question to the incident commander: since when, and until when it waits; append-only."""

    __tablename__ = "reviews"
    __table_args__ = (UniqueConstraint("rollout_id", "round"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    rollout_id: Mapped[int] = mapped_column(ForeignKey("rollouts.id"))
    round: Mapped[int]
    opened_at: Mapped[datetime]
    deadline: Mapped[datetime]
    on_timeout: Mapped[str] = mapped_column(String(20))
    asked_at: Mapped[datetime | None]


class NotificationRow(Base):
    """A message about a rollout: claimed before it is sent, so that a retry does not send it again."""

    __tablename__ = "notifications"
    __table_args__ = (UniqueConstraint("rollout_id", "occasion", "notifier"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    rollout_id: Mapped[int] = mapped_column(ForeignKey("rollouts.id"))
    occasion: Mapped[str] = mapped_column(String(100))
    notifier: Mapped[str] = mapped_column(String(250))
    claimed_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    error: Mapped[str | None]


class StageRow(Base):
    """A stage of a rollout's ramp; append-only, each stage once."""

    __tablename__ = "stages"
    __table_args__ = (UniqueConstraint("rollout_id", "stage"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    rollout_id: Mapped[int] = mapped_column(ForeignKey("rollouts.id"))
    stage: Mapped[int]
    share: Mapped[float] = mapped_column(Double)
    at: Mapped[datetime]
