"""The path under which Airflow's databases know ``rollback_budget.triggers.stage``."""

from rollback_budget.triggers.stage import StageTrigger

__all__ = ["StageTrigger"]
