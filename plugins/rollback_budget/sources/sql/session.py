"""Reading a database from an event loop: few threads, read-only transactions, statements that end in time."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, Executable, Row, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from rollback_budget.exceptions import SourceError

#: Threads per engine: as many as its pool keeps connections.
THREADS = 5
#: SQLite asks whether to go on after so many of its instructions, some tenths of a millisecond.
INSTRUCTIONS = 10_000

#: What an ``OperationalError`` begins or ends with when no retry helps.
_LASTING = (
    "no such",
    "near ",
    "unrecognized token",
    "incomplete input",
    "attempt to write",
    "unable to open",
)
_LASTING_INSIDE = ("authentication failed", "does not exist", "permission denied", "read-only")

_threads: WeakKeyDictionary[Engine, ThreadPoolExecutor] = WeakKeyDictionary()


class SqlSession:
    """Reads through one engine.

    PostgreSQL ends a statement itself and refuses to write; SQLite is stopped by its progress handler and set
    to ``query_only``. Other databases are cancelled by their driver, if it can. Nothing is committed.

    :param engine: a SQLAlchemy engine that someone else made (and may share).
    :param timeout: how long one statement may take.
    """

    def __init__(self, engine: Engine, timeout: timedelta) -> None:
        self._engine = engine
        self._timeout = timeout

    async def read(self, statement: Executable) -> Sequence[Row[Any]]:
        """Return the rows of ``statement``; raises :class:`SourceError`.

        A reading that is cancelled is cancelled in the database too, so that it holds no thread.
        """
        loop = asyncio.get_running_loop()
        reading = _Reading(self._engine, self._timeout)
        done = loop.run_in_executor(_threads_of(self._engine), reading.run, statement)
        try:
            return await asyncio.wait_for(done, self._timeout.total_seconds() + 5.0)
        except TimeoutError:
            reading.cancel()
            raise reading.too_slow() from None
        except asyncio.CancelledError:
            reading.cancel()
            raise

    def read_now(self, statement: Executable) -> Sequence[Row[Any]]:
        """Do what :meth:`read` does, in the calling thread."""
        return _Reading(self._engine, self._timeout).run(statement)


class _Reading:
    """One statement, in a transaction of its own."""

    def __init__(self, engine: Engine, timeout: timedelta) -> None:
        self._engine = engine
        self._timeout = timeout
        self._deadline = 0.0
        self._lock = threading.Lock()
        self._cancelled = False
        self._stop: Callable[[], Any] | None = None

    def run(self, statement: Executable) -> Sequence[Row[Any]]:
        try:
            with self._engine.connect() as connection:
                self._prepare(connection)
                try:
                    return connection.execute(statement).all()
                finally:
                    with self._lock:
                        self._stop = None
                    self._release(connection)
        except DBAPIError as error:
            if self._was_too_slow(error):
                raise self.too_slow() from error
            raise SourceError(
                f"the database did not answer: {error.orig}", transient=_is_transient(error)
            ) from error
        except SQLAlchemyError as error:
            raise SourceError(f"the query is not valid: {error}", transient=False) from error

    def cancel(self) -> None:
        """Stop the statement from another thread; the driver's own call may block, so it gets one."""
        with self._lock:
            self._cancelled = True
            stop = self._stop
        if stop is not None:
            threading.Thread(target=_quietly, args=(stop,), daemon=True, name="sql-cancel").start()

    def too_slow(self) -> SourceError:
        return SourceError(
            f"the metric query took longer than {self._timeout.total_seconds():g} s and was ended "
            "(source.statement_timeout); an index on the time column helps",
            transient=True,
        )

    def _prepare(self, connection: Connection) -> None:
        driver: Any = connection.connection.dbapi_connection
        self._deadline = time.monotonic() + self._timeout.total_seconds()
        if connection.dialect.name == "postgresql":
            milliseconds = max(1, round(self._timeout.total_seconds() * 1000))
            settings = {
                "statement_timeout": str(milliseconds),
                "timezone": "UTC",
                "transaction_read_only": "on",
            }
            calls = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())
            connection.execute(text(f"SELECT {calls}"))
        elif connection.dialect.name == "sqlite":
            connection.execute(text("PRAGMA query_only = ON"))
            driver.set_progress_handler(self._must_stop, INSTRUCTIONS)
        with self._lock:
            self._stop = getattr(driver, "interrupt", None) or getattr(driver, "cancel", None)
            if self._cancelled:
                raise SourceError("the reading was cancelled", transient=True)

    def _release(self, connection: Connection) -> None:
        if connection.dialect.name == "sqlite":
            driver: Any = connection.connection.dbapi_connection
            driver.set_progress_handler(None, 0)
            try:
                driver.execute("PRAGMA query_only = OFF")
            except sqlite3.OperationalError:
                # A late interrupt may hit this statement instead of the one it was meant for.
                connection.invalidate()

    def _must_stop(self) -> bool:
        return self._cancelled or time.monotonic() >= self._deadline

    def _was_too_slow(self, error: DBAPIError) -> bool:
        if type(error.orig).__name__ == "QueryCanceled":
            return True
        return "interrupt" in str(error.orig).lower() and time.monotonic() >= self._deadline


def _threads_of(engine: Engine) -> ThreadPoolExecutor:
    threads = _threads.get(engine)
    if threads is None:
        threads = _threads[engine] = ThreadPoolExecutor(THREADS, thread_name_prefix="sql-source")
    return threads


def _quietly(stop: Callable[[], Any]) -> None:
    with suppress(Exception):
        stop()


def _is_transient(error: DBAPIError) -> bool:
    """Distinguish a database that is unavailable or busy (retry) from a query that it rejects (do not)."""
    if error.connection_invalidated:
        return True
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    # SQLite reports a misspelt table as an OperationalError too, and PostgreSQL a wrong password.
    said = str(error.orig)
    return not said.startswith(_LASTING) and not any(part in said for part in _LASTING_INSIDE)
