"""Migrations, run from the package itself: no configuration file, no command of Alembic's."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, inspect, text

from rollback_budget.exceptions import LedgerUnavailableError
from rollback_budget.ledger.database import VERSION_TABLE, Database, current_revision
from rollback_budget.ledger.models import REVISION, Base

_ADVISORY_LOCK = 7_209_461_538
#: How long another migration of the same SQLite file is waited for.
LOCK_TIMEOUT_S = 15.0


def upgrade(database: Database) -> str:
    """Run every migration that is missing and return the revision; several callers at once are fine.

    Raises LedgerUnavailableError when the database cannot be reached, is newer than this version, or is
    Airflow's own.
    """
    from alembic import command
    from alembic.script import ScriptDirectory

    if database.file is not None:
        _prepare_file(database, database.file)
    with database.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
        _refuse_airflows_database(database, connection)
        config = alembic_config(connection)
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        found = current_revision(connection)
        if found is not None and found not in known:
            raise LedgerUnavailableError(
                f"the ledger at {database.place} is at revision {found}, which this version does not know."
                f" Install the version that wrote it (this one writes {REVISION})"
            )
        command.upgrade(config, "head")
    return REVISION


def alembic_config(connection: Connection) -> Any:
    """Return Alembic's configuration for the migrations of this package, to be run on ``connection``."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def run_environment() -> None:
    """Run what Alembic was asked to do; its ``env.py`` calls this."""
    from alembic import context

    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
        # The caller's transaction holds it all, on SQLite too.
        transactional_ddl=True,
    )
    context.run_migrations()


def _refuse_airflows_database(database: Database, connection: Connection) -> None:
    if inspect(connection).has_table("dag_run"):
        raise LedgerUnavailableError(
            f"{database.place} is Airflow's metadata database, which the ledger must not share."
            " Give it a database of its own in [rollback_budget] sql_alchemy_conn"
        )


def _prepare_file(database: Database, file: Path) -> None:
    """Make the file, and let readers go on during a write: SQLite keeps that setting in the file."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(file, timeout=LOCK_TIMEOUT_S)) as connection:
            _write_ahead(connection)
    except (OSError, sqlite3.Error) as error:
        raise LedgerUnavailableError(
            f"the ledger at {database.place} cannot be opened: {error}. Check the folder's rights"
        ) from error


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging; SQLite's own time-out does not cover a race for this one switch."""
    give_up_at = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up_at:
                raise
            time.sleep(0.05)
        else:
            return
