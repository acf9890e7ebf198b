"""The pool of the rollouts' tasks: made by every component that starts, and at setup."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rollback_budget.common.config import pool

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

#: Tasks that wait in the triggerer take none of them.
SLOTS = 128


def create_pool(session: Session) -> bool:
    """Create the pool unless it is there; return whether this call did. One that is there stays as it is."""
    from airflow.models.pool import Pool
    from sqlalchemy import select
    from sqlalchemy.exc import IntegrityError

    name = pool()
    if session.scalar(select(Pool.id).where(Pool.pool == name)) is not None:
        return False
    created = Pool(
        pool=name,
        slots=SLOTS,
        description="Tasks of rollouts under a rollback budget: they never wait for other DAGs' tasks.",
        include_deferred=False,
    )
    try:
        with session.begin_nested():
            session.add(created)
    except IntegrityError:
        # Another component that starts at the same time was a moment faster.
        return False
    return True
