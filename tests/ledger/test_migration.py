from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from rollback_budget.exceptions import LedgerUnavailableError
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.models import REVISION, Base
from tests.support.postgres import Postgres
from tests.support.rollouts import KEY, race

pytestmark = pytest.mark.database


def test_migrations_make_what_the_models_say_and_run_again_harmlessly(ledger: Ledger) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    from rollback_budget.ledger.database import VERSION_TABLE
    from rollback_budget.ledger.migrate import alembic_config

    assert ledger.migrate() == ledger.check() == REVISION
    with ledger.database.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, Base.metadata) == []
        assert ScriptDirectory.from_config(alembic_config(connection)).get_heads() == [REVISION]


def test_racing_migrations_on_postgresql_make_one_ledger(postgres_url: str) -> None:
    assert race(4, lambda _: Ledger(postgres_url).migrate()) == [REVISION] * 4


def test_racing_migrations_on_sqlite_make_one_ledger(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new folder' / 'ledger.db'}"
    assert race(4, lambda _: Ledger(url).migrate()) == [REVISION] * 4


def test_a_ledger_without_tables_says_how_to_make_them(tmp_path: Path, postgres_url: str) -> None:
    for url in (f"sqlite:///{tmp_path / 'ledger.db'}", postgres_url):
        with pytest.raises(LedgerUnavailableError, match="rollback-budget ledger migrate"):
            Ledger(url).rollouts.get(KEY)
        with pytest.raises(LedgerUnavailableError, match="rollback-budget ledger migrate"):
            Ledger(url).check()
    assert not (tmp_path / "ledger.db").exists()


def test_a_ledger_of_a_newer_version_is_left_alone(ledger: Ledger) -> None:
    with ledger.database.connect() as connection:
        connection.execute(text("UPDATE rollback_budget_alembic_version SET version_num = '9999'"))
    for use in (ledger.check, ledger.migrate):
        with pytest.raises(LedgerUnavailableError, match="9999"):
            use()


def test_airflows_own_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "airflow.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE dag_run (id INTEGER)")
    with pytest.raises(LedgerUnavailableError, match="Airflow's metadata database"):
        Ledger(f"sqlite:///{file}").migrate()


def test_an_unreachable_ledger_fails_soon_and_hides_the_password(free_port: int) -> None:
    ledger = Ledger(f"postgresql://me:s3cret@127.0.0.1:{free_port}/ledger?sslpassword=s3cret")
    began = time.monotonic()
    with pytest.raises(LedgerUnavailableError, match=r"cannot be reached.*Check that") as caught:
        ledger.rollouts.get(KEY)
    assert time.monotonic() - began < 5
    assert "s3cret" not in str(caught.value)


def test_a_wrong_password_or_database_is_said_in_the_servers_words(postgres: Postgres) -> None:
    with pytest.raises(LedgerUnavailableError, match='database "nowhere" does not exist'):
        Ledger(f"postgresql://postgres@127.0.0.1:{postgres.port}/nowhere").check()


@pytest.mark.parametrize(
    ("url", "complaint"),
    [("mysql://host/db", "cannot be kept in mysql"), ("s3cret nonsense", "cannot be read")],
)
def test_an_unusable_url_is_refused_when_it_is_used(url: str, complaint: str) -> None:
    with pytest.raises(LedgerUnavailableError, match=complaint) as caught:
        Ledger(url).check()
    assert "s3cret" not in str(caught.value)
