"""``rollback-budget debt``: what is owed, and how it is paid. Commands are imported when they are called."""

from __future__ import annotations

import click

from rollback_budget.cli.lazy import LazyGroup

COMMANDS = {
    "list": "rollback_budget.cli.debt.listing:list_",
    "show": "rollback_budget.cli.debt.show:show",
    "draft": "rollback_budget.cli.debt.cases:draft",
    "add-case": "rollback_budget.cli.debt.cases:add_case",
    "cases": "rollback_budget.cli.debt.cases:cases",
    "approve": "rollback_budget.cli.debt.approve:approve",
    "export": "rollback_budget.cli.debt.export:export",
    "prove": "rollback_budget.cli.debt.prove:prove",
    "waive": "rollback_budget.cli.debt.settle:waive",
    "duplicate": "rollback_budget.cli.debt.settle:duplicate",
    "report": "rollback_budget.cli.debt.report:report",
    "check-jira": "rollback_budget.cli.debt.jira:check_jira",
    "refile": "rollback_budget.cli.debt.jira:refile",
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def debt() -> None:
    """Show and pay eval debts: breaches that evaluation before the release did not catch."""
