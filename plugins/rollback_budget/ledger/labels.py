"""Labels: how past rollouts really went, as people said afterwards; the latest one holds."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import insert, select

from rollback_budget.exceptions import LedgerRuleError
from rollback_budget.ledger.database import Repository
from rollback_budget.ledger.models import LabelRow, RolloutRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollout_rows import rollout_row
from rollback_budget.ledger.views import FinalDecision, LoggedLabel
from rollback_budget.model.label import Label


class Labels(Repository):
    """The labels in the ledger."""

    def add(self, key: RolloutKey, label: LoggedLabel) -> None:
        """Append a label; it replaces the earlier ones of this rollout, which stay as its history.

        :raises LedgerRuleError: the rollout never shipped or is still watched, a good one is given an onset,
            or the onset lies outside of the rollout.
        """
        with self._database.write() as session:
            rollout = rollout_row(self._database, session, key)
            _check(rollout, label)
            session.execute(
                insert(LabelRow).values(
                    rollout_id=rollout.id,
                    label=label.label.value,
                    onset=label.onset,
                    by=label.by,
                    note=label.note,
                    at=label.at,
                )
            )

    def of(self, key: RolloutKey) -> list[LoggedLabel]:
        """Return the labels of a rollout in the order of recording: the last one holds."""
        with self._database.read() as session:
            rollout_id = rollout_row(self._database, session, key).id
            rows = session.scalars(
                select(LabelRow).where(LabelRow.rollout_id == rollout_id).order_by(LabelRow.id)
            )
            return [LoggedLabel(Label(row.label), row.onset, row.by, row.note, row.at) for row in rows]


def _check(rollout: RolloutRow, label: LoggedLabel) -> None:
    shipped, end = rollout.shipped_at, rollout.window_end
    if shipped is None or end is None:
        raise LedgerRuleError(f"{rollout.release} has not shipped, so there is nothing to label")
    if rollout.final_decision is None and label.at < end:
        raise LedgerRuleError(f"{rollout.release} is watched until {_said(end)}; label it when it has ended")
    if label.onset is None:
        return
    if label.label is Label.GOOD:
        raise LedgerRuleError("a good rollout has no onset; leave it out, or label it bad")
    if rollout.final_at is not None:
        # What was rolled back got no traffic any more; what was promoted early went on.
        rolled_back = rollout.final_decision == FinalDecision.ROLLED_BACK.value
        end = rollout.final_at if rolled_back else max(end, rollout.final_at)
    if not shipped <= label.onset <= end:
        raise LedgerRuleError(
            f"the onset {_said(label.onset)} is outside of the rollout of {rollout.release}, which went from"
            f" {_said(shipped)} to {_said(end)}; give a time in between, or leave it out if it is not known"
        )


def _said(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"
