"""The way into the ledger's database: transactions, and errors that say what to do."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, CursorResult, Engine, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    MultipleResultsFound,
    NoResultFound,
    NoSuchModuleError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from rollback_budget.clock import utc_now
from rollback_budget.exceptions import LedgerError, LedgerRuleError, LedgerUnavailableError
from rollback_budget.ledger.models import REVISION, Base

VERSION_TABLE = "rollback_budget_alembic_version"

_WRITE = "rollback_budget_write"
#: Migrations take the time that they take.
_UNHURRIED = "rollback_budget_unhurried"
_LOCK_TIMEOUT_S = 15
#: A process that hangs in mid-transaction keeps its locks from the others for so long.
_IDLE_TIMEOUT_S = 30
#: A connection whose host is gone fails within about half a minute, and not only when the kernel gives up.
_TCP = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_MIGRATE = "Run: rollback-budget ledger migrate"


class Database:
    """SQLite or PostgreSQL. Nothing is held between transactions, so forks are harmless.

    :param url: an SQLAlchemy URL; ``postgresql://`` means psycopg2.
    :param connect_timeout_s: how long connecting may take before the ledger counts as unreachable.
    """

    def __init__(self, url: str, connect_timeout_s: float = 5) -> None:
        self.url = url
        self._connect_timeout_s = connect_timeout_s
        self._of_this_thread = threading.local()

    @property
    def place(self) -> str:
        """Where the ledger is, without any secret."""
        try:
            return self._url.set(query={}).render_as_string(hide_password=True)
        except LedgerUnavailableError:
            return "the configured URL"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a transaction that only reads. Raises LedgerError."""
        with self._transaction(write=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Open a transaction that writes, committed at the end. Raises LedgerError."""
        with self._transaction(write=True) as session:
            yield session

    @contextmanager
    def one_transaction(self, *, write: bool = True) -> Iterator[None]:
        """Let all that this thread reads and writes inside be one transaction. Raises LedgerError.

        By default each call of a repository has one of its own, on a connection of its own.

        :param write: False where nothing is written inside, so that no writer has to wait for it.
        """
        with self._transaction(write=write) as session:
            self._of_this_thread.session = session
            try:
                yield
            finally:
                self._of_this_thread.session = None

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a writing transaction whether the ledger exists or not. Raises LedgerError."""
        try:
            options = {_WRITE: True, _UNHURRIED: True}
            with self._engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection
        except SQLAlchemyError as error:
            raise self._failure(error) from error

    @property
    def file(self) -> Path | None:
        """The SQLite file, None for other databases."""
        if self._url.get_backend_name() != "sqlite" or not self._url.database:
            return None
        return Path(self._url.database)

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Session]:
        joined: Session | None = getattr(self._of_this_thread, "session", None)
        # SQLite would create an empty file where there is none.
        if self.file is not None and not self.file.exists():
            raise LedgerUnavailableError(f"there is no ledger at {self.place}. {_MIGRATE}")
        try:
            if joined is not None:
                yield joined
                return
            with (
                self._engine.connect().execution_options(**{_WRITE: write}) as connection,
                Session(connection, expire_on_commit=False) as session,
                session.begin(),
            ):
                yield session
        except SQLAlchemyError as error:
            raise self._failure(error) from error

    @cached_property
    def _url(self) -> URL:
        try:
            url = make_url(self.url)
        except SQLAlchemyError:
            raise LedgerUnavailableError(
                "the ledger's URL cannot be read; it should look like sqlite:////path/to/ledger.db"
                " or postgresql://user:password@host/database"
            ) from None
        if url.drivername in ("postgres", "postgresql"):
            # SQLAlchemy 2.0 and 2.1 differ in what they take a bare "postgresql" for.
            url = url.set(drivername="postgresql+psycopg2")
        if url.get_backend_name() not in ("sqlite", "postgresql"):
            raise LedgerUnavailableError(
                f"the ledger cannot be kept in {url.get_backend_name()}; use sqlite:// or postgresql://"
            )
        return url

    @cached_property
    def _engine(self) -> Engine:
        try:
            if self._url.get_backend_name() == "sqlite":
                engine = create_engine(
                    self._url, poolclass=NullPool, connect_args={"timeout": _LOCK_TIMEOUT_S}
                )
                event.listen(engine, "connect", _prepare_sqlite)
                event.listen(engine, "begin", _begin_sqlite)
                return engine
            waits = {"connect_timeout": max(2, math.ceil(self._connect_timeout_s)), **_TCP}
            engine = create_engine(
                self._url,
                poolclass=NullPool,
                isolation_level="READ COMMITTED",
                # What the URL says wins.
                connect_args={name: value for name, value in waits.items() if name not in self._url.query},
            )
            event.listen(engine, "begin", _begin_postgresql)
            return engine
        except (NoSuchModuleError, ImportError) as error:
            raise LedgerUnavailableError(
                f"the driver of {self.place} is not installed ({error})."
                " Run: pip install 'rollback-budget[postgres]'"
            ) from error

    def _failure(self, error: SQLAlchemyError) -> LedgerError:
        """Say what is wrong: not reachable, not migrated, not in order, or against a rule of the tables."""
        try:
            with self._engine.connect() as connection:
                revision = current_revision(connection)
        except SQLAlchemyError:
            return LedgerUnavailableError(
                f"the ledger at {self.place} cannot be reached: {_first_line(error)}."
                " Check that its database runs and that [rollback_budget] sql_alchemy_conn (or"
                " ROLLBACK_BUDGET_LEDGER) names it"
            )
        if (not_migrated := self.not_migrated(revision)) is not None:
            return not_migrated
        refused = f"the ledger at {self.place} refused: {_first_line(error)}"
        if _is_about_the_data(error):
            return LedgerRuleError(refused)
        return LedgerUnavailableError(f"{refused}. Check its disk, its rights and its locks")

    def not_migrated(self, revision: str | None) -> LedgerUnavailableError | None:
        """Return the error for a ledger at ``revision``, None when this version can use it."""
        if revision == REVISION:
            return None
        if revision is None:
            return LedgerUnavailableError(f"the ledger at {self.place} has no tables yet. {_MIGRATE}")
        return LedgerUnavailableError(
            f"the ledger at {self.place} is at revision {revision}, this version needs {REVISION}. {_MIGRATE}"
            " (or install the version that wrote it)"
        )


class Repository:
    """What each repository stands on: the ledger's database, which all of them share.

    Every method of a repository raises :class:`~rollback_budget.exceptions.LedgerUnavailableError` when the
    database cannot be used, and :class:`~rollback_budget.exceptions.LedgerRuleError` when it refuses.
    """

    def __init__(self, database: Database) -> None:
        self._database = database


def current_revision(connection: Connection) -> str | None:
    """Return the migration that the database is at, None when it has never been migrated."""
    if not connection.dialect.has_table(connection, VERSION_TABLE):
        return None
    found: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    return found


def database_time(session: Session) -> datetime:
    """Return the time of day of the database's host, whatever the clock of this one says.

    SQLite has no host but this one.
    """
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        return utc_now()
    found: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return found.astimezone(UTC)


def insert_once(session: Session, row: type[Base], values: Mapping[str, Any]) -> bool:
    """Insert, unless a unique key is already there; return whether this call did."""
    dialect = session.connection().dialect.name
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    result = session.execute(insert(row).values(**values).on_conflict_do_nothing())
    assert isinstance(result, CursorResult)
    return result.rowcount == 1


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver's own idea of when a transaction begins would let two writers both start by reading.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(
        "BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITE) else "BEGIN"
    )


def _begin_postgresql(connection: Connection) -> None:
    # For this transaction alone, and not as options of the connection: poolers in between refuse those.
    if connection.get_execution_options().get(_UNHURRIED):
        return
    connection.exec_driver_sql(
        f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_S}s';"
        f" SET LOCAL idle_in_transaction_session_timeout = '{_IDLE_TIMEOUT_S}s'"
    )


def _is_about_the_data(error: SQLAlchemyError) -> bool:
    """Whether what was asked for is wrong; else the database is, and the same may succeed later."""
    if isinstance(error, (IntegrityError, DataError, NoResultFound, MultipleResultsFound)):
        return True
    # A value that its column does not take, such as a time without a zone.
    return isinstance(error, StatementError) and isinstance(error.orig, (TypeError, ValueError))


def _first_line(error: SQLAlchemyError) -> str:
    """The driver's own words; SQLAlchemy's would repeat the statement with its values."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0].rstrip(".")
