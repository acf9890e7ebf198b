"""The path under which Airflow's databases know ``rollback_budget.triggers.review``."""

from rollback_budget.triggers.review import ReviewTrigger

__all__ = ["ReviewTrigger"]
