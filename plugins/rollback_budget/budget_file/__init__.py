"""Budget files: from YAML to a frozen spec, or to every problem with its place."""

from __future__ import annotations

from rollback_budget.budget_file.lint import preflight_problems, warnings
from rollback_budget.budget_file.load import find_budgets, load_budget, rollout_name

__all__ = ["find_budgets", "load_budget", "preflight_problems", "rollout_name", "warnings"]
