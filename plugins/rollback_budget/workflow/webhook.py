"""The path under which Airflow's databases know ``rollback_budget.notifications.webhook``."""

from rollback_budget.notifications.webhook import TeamsNotifier, WebhookNotifier

__all__ = ["TeamsNotifier", "WebhookNotifier"]
