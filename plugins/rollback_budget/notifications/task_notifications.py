"""Sending notifications from within a task: with its retries, or at once and without waiting."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException

from rollback_budget.common.xcom import RollbackReport, RolloutXcom
from rollback_budget.model.notify import Event
from rollback_budget.notifications.dispatch import SEND_TIMEOUT, send
from rollback_budget.notifications.notification import Notification

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

#: How long a task may wait for a notification about itself.
PAGE_TIMEOUT = timedelta(seconds=5)


def send_all(operator: BaseOperator, context: Context, messages: Iterable[Notification]) -> None:
    """Send messages; raises on all tries of the task but the last when a notifier was not reached."""
    missed = [one for message in messages for one in send(message, context, operator.log)]
    if missed and context["ti"].try_number <= (operator.retries or 0):
        raise AirflowException("notifiers that were not reached: " + "; ".join(missed))
    if missed:
        operator.log.error("given up: %s", "; ".join(missed))


def page(message: Notification, context: Context, log: Any) -> None:
    """Notify at once of what a later task could only report late; takes seconds at most, never raises."""
    try:
        send(message, context, log, min(PAGE_TIMEOUT, SEND_TIMEOUT))
    except Exception as error:
        log.warning("the notification is left to a later task: %s", error)


def rollback_message(xcom: RolloutXcom, report: RollbackReport) -> Notification:
    """Return the notification of a rollback."""
    event = Event.ROLLED_BACK if report.is_settled else Event.VERIFICATION_FAILED
    said = " ".join((f"By {report.by}: {report.reason}. {report.said}", *report.baseline_troubles))
    return Notification(event, event.value, xcom.key, xcom.spec(), said)
