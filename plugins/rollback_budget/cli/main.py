"""``rollback-budget``: the command line. Each command is imported only when it is called."""

from __future__ import annotations

import sys

import click

from rollback_budget import __version__
from rollback_budget.cli.lazy import LazyGroup
from rollback_budget.exceptions import RollbackBudgetError

COMMANDS = {
    "validate": "rollback_budget.cli.validate:validate",
    "explain": "rollback_budget.cli.explain:explain",
    "preflight": "rollback_budget.cli.preflight:preflight",
    "record": "rollback_budget.cli.record:record",
    "replay": "rollback_budget.cli.replay:replay",
    "design-effect": "rollback_budget.cli.design_effect:design_effect",
    "suggest": "rollback_budget.cli.suggest:suggest",
    "backtest": "rollback_budget.cli.backtest:backtest",
    "review-change": "rollback_budget.cli.review_change:review_change",
    "schema": "rollback_budget.cli.schema:schema",
    "status": "rollback_budget.cli.status:status",
    "decide": "rollback_budget.cli.decide:decide",
    "standby": "rollback_budget.cli.standby:standby",
    "history": "rollback_budget.cli.history:history",
    "label": "rollback_budget.cli.label:label",
    "report": "rollback_budget.cli.report:report",
    "suspend": "rollback_budget.cli.suspend:suspend",
    "resume": "rollback_budget.cli.suspend:resume",
    "suspensions": "rollback_budget.cli.suspend:suspensions",
    "setup": "rollback_budget.cli.setup:setup",
    "ledger": "rollback_budget.cli.ledger:ledger",
    "debt": "rollback_budget.cli.debt.group:debt",
    "gate": "rollback_budget.cli.gate:gate",
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rollback-budget")
def cli() -> None:
    """A launch gate says when to ship. A rollback budget says when to stop.

    Exit codes: 0 fine, 1 an error (bad input, a backend that is down). `replay` adds 2 breach and 3 blind;
    `gate check` adds 4 ask and 5 block. 130 after Ctrl-C.
    """


def main() -> None:
    """Run the command line; an expected error is one message and exit code 1, never a traceback."""
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(1)
    except RollbackBudgetError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
