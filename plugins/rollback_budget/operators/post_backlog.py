"""Posting what is owed: the steps of ageing once, the list of eval debts once a day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from rollback_budget.clock import utc_now
from rollback_budget.common.config import open_ledger
from rollback_budget.common.retries import NOTIFICATION_RETRIES, with_defaults
from rollback_budget.model.notify import Event
from rollback_budget.notifications.notification import Notification
from rollback_budget.notifications.task_notifications import send_all

if TYPE_CHECKING:
    from airflow.sdk import Context

    from rollback_budget.debt.backlog import ServiceBacklog
    from rollback_budget.ledger.debt_views import Debt, DebtEvent
    from rollback_budget.ledger.ledger import Ledger

#: A step of ageing that could not be announced for so long is not announced any more.
NEWS = timedelta(days=7)


class PostBacklogOperator(BaseOperator):
    """
    Posts what is owed: as a table in the task's log, and to the notifiers of each service's newest rollout.

    A step of ageing is sent once (``debt_due``, ``debt_overdue``), the list once a day (``debt_backlog``).
    """

    ui_color = "#f2f2f2"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**with_defaults(kwargs, NOTIFICATION_RETRIES))

    def execute(self, context: Context) -> None:
        """Post everything that was not posted yet."""
        from rollback_budget.debt.backlog import backlogs, line
        from rollback_budget.debt.owners import owners_of

        ledger, now = open_ledger(), utc_now()
        debts = ledger.debts.every()
        lists = backlogs(debts, owners_of(ledger, debts, now))
        table = [line(debt, one.owner, now) for one in lists for debt in one.debts]
        self.log.info("owed:\n%s", "\n".join(table) or "nothing")
        messages = [*_steps(ledger, {debt.fingerprint: debt for debt in debts}, now)]
        send_all(self, context, [*messages, *_lists(ledger, lists, now)])


def _steps(ledger: Ledger, debts: dict[str, Debt], now: datetime) -> Iterator[Notification]:
    """Yield a message for the last of the steps that a debt took at once; the earlier ones are no news."""
    from rollback_budget.debt.ageing import AgeingStep, step_of

    last: dict[tuple[str, datetime], DebtEvent] = {
        (event.debt_fingerprint, event.at): event
        for event in ledger.debt_events.every()
        if step_of(event) is not None and event.at > now - NEWS
    }
    for event in last.values():
        debt, step = debts[event.debt_fingerprint], step_of(event)
        if not debt.is_owed or step is None:
            continue
        kind = Event.DEBT_OVERDUE if step is AgeingStep.OVERDUE else Event.DEBT_DUE
        occasion = f"debt {debt.fingerprint[:16]} {step.value} {event.at:%Y-%m-%dT%H:%M:%S}"
        yield from _message(ledger, kind, occasion, debt, event)


def _message(
    ledger: Ledger, kind: Event, occasion: str, debt: Debt, event: DebtEvent
) -> Iterator[Notification]:
    from rollback_budget.debt.backlog import ticket

    # The newest rollout by then, so that a later try means the same one, and sends nothing twice.
    rollout = ledger.rollouts.newest_of(debt.service, event.at)
    if rollout is None:
        return
    commanders = ", ".join(one.name for one in rollout.spec.incident_commanders) or "none named"
    who = f"incident commander: {commanders}" if kind is Event.DEBT_OVERDUE else ""
    whose = f"owner: {rollout.spec.owner or 'none named'}"
    detail = (event.detail or "").partition(": ")[2]
    sentence = f"{debt.budget} ({debt.severity.value}): {detail}. {'; '.join(filter(None, (whose, who)))}."
    yield Notification(kind, occasion, rollout.key, rollout.spec, f"{sentence} {ticket(debt)}")


def _lists(ledger: Ledger, lists: list[ServiceBacklog], now: datetime) -> Iterator[Notification]:
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for one in lists:
        rollout = ledger.rollouts.newest_of(one.service, midnight) or ledger.rollouts.newest_of(
            one.service, now
        )
        if rollout is not None:
            occasion = f"debt backlog {midnight:%Y-%m-%d}"
            yield Notification(Event.DEBT_BACKLOG, occasion, rollout.key, rollout.spec, one.sentence(now))
