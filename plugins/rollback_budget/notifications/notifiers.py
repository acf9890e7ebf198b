"""The notifiers with a short name; registered one by one, in ``rollback_budget.notifiers``."""

from __future__ import annotations

from rollback_budget.model.notify import NotifierEntry

SLACK = NotifierEntry(
    "airflow.providers.slack.notifications.slack.SlackNotifier",
    "slack_conn_id",
    ("channel",),
    "apache-airflow-providers-slack",
)
SLACK_WEBHOOK = NotifierEntry(
    "airflow.providers.slack.notifications.slack_webhook.SlackWebhookNotifier",
    "slack_webhook_conn_id",
    package="apache-airflow-providers-slack",
)
EMAIL = NotifierEntry(
    "airflow.providers.smtp.notifications.smtp.SmtpNotifier",
    "smtp_conn_id",
    ("to",),
    "apache-airflow-providers-smtp",
)
PAGERDUTY = NotifierEntry(
    "airflow.providers.pagerduty.notifications.pagerduty.PagerdutyNotifier",
    "pagerduty_events_conn_id",
    package="apache-airflow-providers-pagerduty",
)
TEAMS = NotifierEntry("rollback_budget.notifications.webhook.TeamsNotifier", "http_conn_id")
HTTP = NotifierEntry("rollback_budget.notifications.webhook.WebhookNotifier", "http_conn_id")
