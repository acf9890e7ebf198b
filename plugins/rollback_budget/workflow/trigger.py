"""The path under which Airflow's databases know ``rollback_budget.triggers.rollback_budget``."""

from rollback_budget.triggers.rollback_budget import RollbackBudgetTrigger

__all__ = ["RollbackBudgetTrigger"]
