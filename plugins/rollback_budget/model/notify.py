"""Who is told what about a rollout, as the spec says it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import Field

from rollback_budget.model.base import Frozen


class Event(StrEnum):
    """What somebody may want to be told."""

    BREACH = "breach"
    BLIND = "blind"
    REVIEW_OPENED = "review_opened"
    DEADLINE_NEAR = "deadline_near"
    DECIDED = "decided"
    ROLLED_BACK = "rolled_back"
    VERIFICATION_FAILED = "verification_failed"
    PROMOTED = "promoted"
    DEBT_DUE = "debt_due"
    DEBT_OVERDUE = "debt_overdue"
    DEBT_BACKLOG = "debt_backlog"


#: What a notifier is told when nobody says what: everything but the daily list.
BY_DEFAULT = tuple(event for event in Event if event is not Event.DEBT_BACKLOG)


class Known(NamedTuple):
    """A notifier with a short name.

    :param conn_argument: what its constructor calls the connection.
    :param needs: arguments that it cannot do without.
    :param package: what to install for it; None for what is always there.
    """

    path: str
    conn_argument: str
    needs: tuple[str, ...] = ()
    package: str | None = None


_AIRFLOW = "airflow.providers"
_OWN = "rollback_budget.notifications.webhook"

KNOWN = {
    "slack": Known(
        f"{_AIRFLOW}.slack.notifications.slack.SlackNotifier",
        "slack_conn_id",
        ("channel",),
        "apache-airflow-providers-slack",
    ),
    "slack_webhook": Known(
        f"{_AIRFLOW}.slack.notifications.slack_webhook.SlackWebhookNotifier",
        "slack_webhook_conn_id",
        (),
        "apache-airflow-providers-slack",
    ),
    "email": Known(
        f"{_AIRFLOW}.smtp.notifications.smtp.SmtpNotifier",
        "smtp_conn_id",
        ("to",),
        "apache-airflow-providers-smtp",
    ),
    "pagerduty": Known(
        f"{_AIRFLOW}.pagerduty.notifications.pagerduty.PagerdutyNotifier",
        "pagerduty_events_conn_id",
        (),
        "apache-airflow-providers-pagerduty",
    ),
    "teams": Known(f"{_OWN}.TeamsNotifier", "http_conn_id"),
    "http": Known(f"{_OWN}.WebhookNotifier", "http_conn_id"),
}


class Notify(Frozen):
    """One notifier and what it is told.

    :param notifier: a short name (:data:`KNOWN`), or the path of an Airflow notifier class.
    :param conn_id: the connection, for a short name; a class takes it in ``args``.
    :param args: further arguments of its constructor; data, never rendered as templates.
    """

    notifier: str
    conn_id: str | None = None
    args: dict[str, Any] = Field(default_factory=dict)
    events: tuple[Event, ...] = BY_DEFAULT
