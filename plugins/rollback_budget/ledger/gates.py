"""What the launch gate said before each launch, and the launches past it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import select

from rollback_budget.ledger.database import Repository, insert_once
from rollback_budget.ledger.debt_models import BypassRow, GateRunRow
from rollback_budget.ledger.debt_views import Bypass, GateRun
from rollback_budget.ledger.rollout_key import RolloutKey


class GateRuns(Repository):
    """What the launch gate said, in the ledger."""

    def add(self, run: GateRun) -> None:
        """Store what the gate said; a second time changes nothing."""
        values: dict[str, Any] = {
            "dag_id": run.dag_id,
            "run_id": run.run_id,
            "service": run.service,
            "release": run.release,
            "verdict": run.verdict,
            "at": run.at,
            "result": run.result,
        }
        with self._database.write() as session:
            insert_once(session, GateRunRow, values)

    def of(self, service: str) -> list[GateRun]:
        """Return what the gate said of a service's launches, oldest first."""
        query = select(GateRunRow).where(GateRunRow.service == service).order_by(GateRunRow.at, GateRunRow.id)
        with self._database.read() as session:
            return [_gate_run(row) for row in session.scalars(query)]

    def last(self, key: RolloutKey) -> GateRun | None:
        """Return what the gate last said in a run; None when it has said nothing."""
        query = (
            select(GateRunRow)
            .where(GateRunRow.dag_id == key.dag_id, GateRunRow.run_id == key.run_id)
            .order_by(GateRunRow.at.desc(), GateRunRow.id.desc())
            .limit(1)
        )
        with self._database.read() as session:
            row = session.scalar(query)
            return None if row is None else _gate_run(row)

    def about(self, debt_fingerprint: str) -> list[GateRun]:
        """Return what launch gates said in which a debt was named, oldest first."""
        query = (
            select(GateRunRow)
            .where(GateRunRow.result.contains(debt_fingerprint, autoescape=True))
            .order_by(GateRunRow.at, GateRunRow.id)
        )
        with self._database.read() as session:
            return [_gate_run(row) for row in session.scalars(query)]


class Bypasses(Repository):
    """The launches past a gate that blocked, in the ledger."""

    def add(self, bypass: Bypass) -> None:
        """Store a launch past the gate, whose debt is there already; a second time changes nothing."""
        values: dict[str, Any] = {
            "service": bypass.service,
            "release": bypass.release,
            "by": bypass.by,
            "reason": bypass.reason,
            "at": bypass.at,
            "debt_fingerprint": bypass.debt_fingerprint,
        }
        with self._database.write() as session:
            insert_once(session, BypassRow, values)

    def newest(self, service: str, release: str, since: datetime) -> Bypass | None:
        """Return the newest launch of ``release`` past the gate that was allowed at ``since`` or later."""
        query = (
            select(BypassRow)
            .where(BypassRow.service == service, BypassRow.release == release, BypassRow.at >= since)
            .order_by(BypassRow.at.desc())
            .limit(1)
        )
        with self._database.read() as session:
            row = session.scalar(query)
            return None if row is None else _bypass(row)

    def of(self, service: str) -> list[Bypass]:
        """Return every launch of a service past the gate, oldest first."""
        query = select(BypassRow).where(BypassRow.service == service).order_by(BypassRow.at, BypassRow.id)
        with self._database.read() as session:
            return [_bypass(row) for row in session.scalars(query)]


def _gate_run(row: GateRunRow) -> GateRun:
    return GateRun(
        service=row.service,
        release=row.release,
        dag_id=row.dag_id,
        run_id=row.run_id,
        verdict=row.verdict,
        at=row.at,
        result=row.result,
    )


def _bypass(row: BypassRow) -> Bypass:
    return Bypass(
        service=row.service,
        release=row.release,
        by=row.by,
        reason=row.reason,
        at=row.at,
        debt_fingerprint=row.debt_fingerprint,
    )
