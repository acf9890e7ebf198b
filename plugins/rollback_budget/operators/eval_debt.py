"""The life of an eval debt, task by task: logged, filed as a ticket, aged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperator

from rollback_budget.clock import utc_now
from rollback_budget.common.config import open_ledger
from rollback_budget.common.ledger_refusal import fail_when_refused
from rollback_budget.operators.ticket import TicketOperator, open_tracker
from rollback_budget.text import plural

if TYPE_CHECKING:
    from airflow.sdk import Context


class LogDebtOperator(BaseOperator):
    """
    Logs the eval debt of every breach that has none yet: those of the triggering events, and any left over.
    """

    ui_color = "#e8e8f8"

    def execute(self, context: Context) -> list[str]:
        """Return what each new breach did; a breach is counted once, however often it is announced."""
        from rollback_budget.debt.log import log_debts

        events = [
            event for group in (context.get("triggering_asset_events") or {}).values() for event in group
        ]
        self.log.info("%s", plural(len(events), "breach event"))
        with fail_when_refused():
            changes = log_debts(open_ledger(), None, utc_now())
        for change in changes:
            self.log.info("%s: %s (%s)", change.kind.value, change.debt.budget, change.debt.fingerprint)
        return [change.debt.fingerprint for change in changes]


class FileDebtOperator(TicketOperator):
    """
    Files every eval debt that has no ticket yet, in Jira or in the local backlog; updates all other tickets.

    A tracker that is down fails this task; nothing is lost, the next try and the next run catch up.
    """

    def work(self, context: Context) -> list[str]:
        """Return what was filed and updated. One task, because the last one's state is the run's."""
        from rollback_budget.tickets.sync.errors import Attempts
        from rollback_budget.tickets.sync.filing import file_debts
        from rollback_budget.tickets.sync.sync import sync_tickets

        ti = context["ti"]
        owner = f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{ti.try_number}"
        ledger, tracker = open_ledger(), open_tracker()
        attempts = Attempts()
        with fail_when_refused():
            done = [
                *attempts.do(lambda: file_debts(ledger, tracker, utc_now(), owner)),
                *attempts.do(lambda: sync_tickets(ledger, tracker, utc_now())),
            ]
        for one in done:
            self.log.info("%s", one)
        attempts.raise_all()
        return [str(one) for one in done]


class AgeDebtOperator(BaseOperator):
    """
    Lets every eval debt take the steps of ageing that it has reached: notified, raised, escalated.

    Days on which nothing ran are caught up on; each step is taken once.
    """

    ui_color = "#e8e8f8"

    def execute(self, context: Context) -> list[str]:  # noqa: ARG002
        """Return the steps that were taken now."""
        from rollback_budget.debt.ageing import age_debts

        with fail_when_refused():
            events = age_debts(open_ledger(), utc_now())
        for event in events:
            self.log.info("debt %s: %s", event.debt_fingerprint[:16], event.detail)
        return [f"{event.debt_fingerprint[:16]} {event.detail}" for event in events]
