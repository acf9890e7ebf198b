"""``rollback-budget debt check-jira`` and ``refile``: whether Jira is ready, and tickets that are gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rollback_budget.cli.common import json_option, url_option
from rollback_budget.exceptions import LedgerRuleError, TicketError
from rollback_budget.text import printable

if TYPE_CHECKING:
    from rollback_budget.tickets.jira.jira_check import CheckResult

_MARKS = {True: "ok", False: "MISSING", None: "?"}


@click.command(name="check-jira")
@click.argument("budget", required=False, type=click.Path(path_type=Path))
@click.option(
    "--conn-id",
    metavar="ID",
    help="An Airflow connection of type jira (default: [rollback_budget] jira_conn_id).",
)
@json_option
@click.pass_context
def check_jira(ctx: click.Context, budget: Path | None, conn_id: str | None, as_json: bool) -> None:
    """Say whether Jira lets debts be filed, commented on and closed, with the fields that BUDGET gives.

    Looks at the login, the rights, the issue type, what its create screen requires, priorities, components,
    and a way to close a ticket. Nothing is written to Jira. The connection is looked up as Airflow does: the
    environment (AIRFLOW_CONN_JIRA_DEBT for the id jira_debt), a secrets backend, Airflow's database.

    \b
    Example:
      AIRFLOW_CONN_JIRA_DEBT='{"conn_type": "jira", "host": "https://jira.example.com",
        "extra": {"token": "…", "project": "LLM"}}' rollback-budget debt check-jira --conn-id jira_debt

    Exits 0 when nothing is missing, else 1. A point marked ? could not be found out.
    """
    from rollback_budget.budget_file import load_budget
    from rollback_budget.model.ticket import TicketFields
    from rollback_budget.tickets.jira.connection import api_from_jira_connection, fields_of_extra
    from rollback_budget.tickets.jira.jira_check import check_jira as find_out

    own = TicketFields() if budget is None else load_budget(budget).tickets
    host, login, password, extra = _connection(conn_id)
    fields = own.over(fields_of_extra(extra))
    findings = find_out(api_from_jira_connection(host, login, password, extra), fields)
    fine = all(one.fine is not False for one in findings)
    if as_json:
        points = [{"check": one.check, "fine": one.fine, "detail": one.detail} for one in findings]
        click.echo(json.dumps({"fine": fine, "findings": points}, indent=2))
    else:
        _print(findings)
    ctx.exit(0 if fine else 1)


@click.command()
@click.argument("fingerprint")
@url_option
def refile(fingerprint: str, url: str | None) -> None:
    """Let a new ticket be filed for a debt whose ticket is gone from Jira.

    The next run of the eval-debt DAG files it. A debt whose ticket still exists does not change.
    """
    from rollback_budget.cli.debt.common import find_debt
    from rollback_budget.cli.ledger import open_ledger

    ledger = open_ledger(url)
    one = find_debt(ledger, fingerprint)
    if not ledger.tickets.refile(one.fingerprint):
        raise LedgerRuleError(
            f"debt {one.fingerprint[:16]} has no ticket that is known to be gone. The eval-debt DAG notices"
            " that one is, within a quarter of an hour"
        )
    click.echo(f"a new ticket will be filed for debt {one.fingerprint[:16]}")


def _connection(conn_id: str | None) -> tuple[str | None, str | None, str | None, dict[str, object]]:
    # Airflow is heavy, and only this needs it.
    from airflow.models.connection import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    from rollback_budget.common.config import jira_conn_id

    name = conn_id or jira_conn_id()
    if name is None:
        raise TicketError(
            "no connection is named: give --conn-id, or set [rollback_budget] jira_conn_id in Airflow's"
            " configuration"
        )
    try:
        connection = Connection.get_connection_from_secrets(name)
    except AirflowNotFoundException as error:
        raise TicketError(
            f"Airflow has no connection {name!r}. Add it (airflow connections add {name} --conn-type jira …)"
            f" or set AIRFLOW_CONN_{name.upper()}"
        ) from error
    return connection.host, connection.login, connection.password, connection.extra_dejson


def _print(findings: list[CheckResult]) -> None:
    width = max(len(one.check) for one in findings)
    for one in findings:
        click.echo(f"{_MARKS[one.fine]:8}{one.check:{width}}  {printable(one.detail)}")
