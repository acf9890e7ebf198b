"""``rollback-budget debt``: what is owed, and how it is paid. Commands are imported when they are called."""

from __future__ import annotations

import click

from rollback_budget.cli.lazy import LazyGroup

COMMANDS = {
    "list": "rollback_budget.cli.debt_list:list_",
    "show": "rollback_budget.cli.debt_show:show",
    "draft": "rollback_budget.cli.debt_cases:draft",
    "add-case": "rollback_budget.cli.debt_cases:add_case",
    "cases": "rollback_budget.cli.debt_cases:cases",
    "approve": "rollback_budget.cli.debt_approve:approve",
    "export": "rollback_budget.cli.debt_export:export",
    "prove": "rollback_budget.cli.debt_prove:prove",
    "waive": "rollback_budget.cli.debt_settle:waive",
    "duplicate": "rollback_budget.cli.debt_settle:duplicate",
    "report": "rollback_budget.cli.debt_report:report",
    "check-jira": "rollback_budget.cli.debt_jira:check_jira",
    "refile": "rollback_budget.cli.debt_jira:refile",
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def debt() -> None:
    """Show and pay eval debts: breaches that evaluation before the release did not catch."""
