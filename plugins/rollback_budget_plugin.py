"""Registers the plugin when the folder is dropped into ``$AIRFLOW_HOME/plugins`` instead of installed.

An installed distribution registers itself by its entry point; doing both would be an import error.
"""

from importlib.metadata import PackageNotFoundError, distribution

try:
    distribution("rollback-budget")
except PackageNotFoundError:
    from rollback_budget.plugin import RollbackBudgetPlugin

    __all__ = ["RollbackBudgetPlugin"]
