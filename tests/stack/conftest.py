"""What tests of several real Airflows share."""

from __future__ import annotations

import pytest

from tests.support.postgres import Postgres, find_binaries


@pytest.fixture(scope="module")
def airflow_url(request: pytest.FixtureRequest) -> str | None:
    """The URL of an empty PostgreSQL database for Airflow; None, for SQLite, where no server is installed.

    On a loaded machine Airflow fails tasks whose end it cannot write, because SQLite is locked.
    """
    if find_binaries() is None:
        return None
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.database().replace("postgresql:", "postgresql+psycopg2:")
