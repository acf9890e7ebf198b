"""The path under which Airflow's databases know ``rollback_budget.triggers.hitl_response``."""

from rollback_budget.triggers.hitl_response import PriorAnswerTrigger

__all__ = ["PriorAnswerTrigger"]
