"""``rollback-budget setup``: everything that is made once, and again after an upgrade."""

from __future__ import annotations

import click

from rollback_budget.cli.ledger import open_ledger
from rollback_budget.exceptions import RollbackBudgetError


@click.command()
@click.option(
    "--url",
    metavar="URL",
    help="SQLAlchemy URL of the ledger (default: ROLLBACK_BUDGET_LEDGER, then Airflow's configuration, then a"
    " SQLite file in AIRFLOW_HOME).",
)
def setup(url: str | None) -> None:
    """Bring the ledger up to this version, and create the pool of the rollouts' tasks in Airflow's database.

    Run it after every installation and upgrade, where `airflow db migrate` is run; again is harmless. The
    pool is created by Airflow, too, when it starts.
    """
    store = open_ledger(url)
    click.echo(f"the ledger at {store.place} is at revision {store.migrate()}")
    click.echo(_create_pool())


def _create_pool() -> str:
    # Airflow takes seconds to import, and opens its database for commands that need it.
    from airflow import settings
    from airflow.utils.session import create_session

    from rollback_budget.common.config import pool
    from rollback_budget.common.pool import SLOTS, create_pool

    try:
        settings.initialize()
        with create_session() as session:
            created = create_pool(session)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RollbackBudgetError(
            f"the pool {pool()} could not be created in Airflow's database: {first}. Run `airflow db migrate`"
            " first, and this where the scheduler's configuration is"
        ) from error
    return f"the pool {pool()} " + (f"is created, with {SLOTS} slots" if created else "is there")
