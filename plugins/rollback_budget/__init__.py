"""Rollback Budget: the stop-loss for LLM rollouts, on Apache Airflow."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rollback_budget.dags.eval_debt import eval_debt_dag
    from rollback_budget.dags.eval_debt_reconcile import eval_debt_reconcile_dag
    from rollback_budget.dags.rollout import RolloutDag, rollout_dags
    from rollback_budget.dags.task_group import RollbackBudgetGroup
    from rollback_budget.operators.log_breach import BREACH
    from rollback_budget.sensors.rollback_budget import RollbackBudgetSensor

__version__ = "0.1.0"

__all__ = [
    "BREACH",
    "RollbackBudgetGroup",
    "RollbackBudgetSensor",
    "RolloutDag",
    "eval_debt_dag",
    "eval_debt_reconcile_dag",
    "rollout_dags",
]

_HOMES = {
    "BREACH": "rollback_budget.operators.log_breach",
    "RollbackBudgetGroup": "rollback_budget.dags.task_group",
    "RollbackBudgetSensor": "rollback_budget.sensors.rollback_budget",
    "RolloutDag": "rollback_budget.dags.rollout",
    "eval_debt_dag": "rollback_budget.dags.eval_debt",
    "eval_debt_reconcile_dag": "rollback_budget.dags.eval_debt_reconcile",
    "rollout_dags": "rollback_budget.dags.rollout",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, so that the pure part is used without Airflow."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
