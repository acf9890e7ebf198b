"""Look spans: from when to when the ledger holds looks of a rollout, without reading them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select

from rollback_budget.ledger.database import Repository
from rollback_budget.ledger.models import LookRow, RolloutRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollout_rows import among, batches

#: Databases limit the values of one statement.
_KEYS = 400


@dataclass(frozen=True, slots=True)
class LookSpan:
    """The first and the last look that the ledger holds of a rollout, and how many there are."""

    first: datetime
    last: datetime
    looks: int

    @property
    def spacing(self) -> timedelta:
        """The mean time from look to look; zero for a single one."""
        return (self.last - self.first) / max(self.looks - 1, 1)


class LookSpans(Repository):
    """The spans of looks in the ledger."""

    def of(self, keys: Collection[RolloutKey]) -> dict[RolloutKey, LookSpan]:
        """Return the span of each of these rollouts that has looks."""
        found: dict[RolloutKey, LookSpan] = {}
        with self._database.read() as session:
            for some in batches(keys, _KEYS):
                query = (
                    select(
                        RolloutRow.dag_id,
                        RolloutRow.run_id,
                        func.min(LookRow.time),
                        func.max(LookRow.time),
                        func.count(),
                    )
                    .join(LookRow, LookRow.rollout_id == RolloutRow.id)
                    .where(among(some))
                    .group_by(RolloutRow.dag_id, RolloutRow.run_id)
                )
                for dag_id, run_id, first, last, looks in session.execute(query):
                    found[RolloutKey(dag_id, run_id)] = LookSpan(first, last, looks)
        return found
