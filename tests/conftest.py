"""What tests of several folders share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import tests.support.examples  # noqa: F401 - how many inputs property tests get
from rollback_budget.ledger.ledger import Ledger
from tests.support.network import find_free_port
from tests.support.postgres import Postgres, find_binaries, running_postgres

MARKERS = {"pure", "database", "airflow", "stack", "service"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse tests without a marker."""
    for item in items:
        if not MARKERS & {marker.name for marker in item.iter_markers()}:
            raise pytest.UsageError(f"{item.nodeid} carries none of the markers {sorted(MARKERS)}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL; tests that need it are skipped where its server is not installed."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server found under /usr/lib/postgresql; install the package postgresql")
    with running_postgres(binaries) as cluster:
        yield cluster


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """The URL of an empty database in a real PostgreSQL."""
    return postgres.database()


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    """A migrated ledger, once on SQLite and once on a real PostgreSQL."""
    url = (
        f"sqlite:///{tmp_path / 'ledger.db'}"
        if request.param == "sqlite"
        else request.getfixturevalue("postgres_url")
    )
    ledger = Ledger(url)
    ledger.migrate()
    return ledger


@pytest.fixture
def free_port() -> int:
    """A port on 127.0.0.1 that no process listens on."""
    return find_free_port()
