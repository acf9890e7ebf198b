"""The path under which Airflow's databases know ``rollback_budget.triggers.reminder``."""

from rollback_budget.triggers.reminder import ReminderTrigger

__all__ = ["ReminderTrigger"]
