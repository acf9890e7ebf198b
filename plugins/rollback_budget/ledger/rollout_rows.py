"""Rows of rollouts, and what they say of the final decision."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, select, tuple_
from sqlalchemy.orm import Session

from rollback_budget.exceptions import UnknownRolloutError
from rollback_budget.ledger.database import Database
from rollback_budget.ledger.models import RolloutRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import Final, FinalDecision

T = TypeVar("T")


def among(keys: Collection[RolloutKey]) -> ColumnElement[bool]:
    """Return the condition that a row is one of these rollouts."""
    return tuple_(RolloutRow.dag_id, RolloutRow.run_id).in_([(key.dag_id, key.run_id) for key in keys])


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Return the items in lists of at most ``size``: databases limit the values of one statement."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def named_row(key: RolloutKey) -> Select[RolloutRow]:
    """Return the query for the row of one rollout."""
    return select(RolloutRow).where(RolloutRow.dag_id == key.dag_id, RolloutRow.run_id == key.run_id)


def rollout_row(database: Database, session: Session, key: RolloutKey) -> RolloutRow:
    """Return the row of a rollout that must be in the ledger. Raises UnknownRolloutError.

    A session reads it once: calls that are one transaction share it.
    """
    rows: dict[RolloutKey, RolloutRow] = session.info.setdefault("rollouts", {})
    row = rows.get(key) or session.scalar(named_row(key))
    if row is None:
        raise UnknownRolloutError(
            f"the rollout {key} is not in the ledger at {database.place}; its preflight task puts it there,"
            " so clear that task first"
        )
    rows[key] = row
    return row


def final_of(row: RolloutRow) -> Final | None:
    """Return the final decision that a row holds, None while there is none."""
    if row.final_decision is None:
        return None
    assert row.final_by is not None
    assert row.final_reason is not None
    assert row.final_at is not None
    return Final(FinalDecision(row.final_decision), row.final_by, row.final_reason, row.final_at)
