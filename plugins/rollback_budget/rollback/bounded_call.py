"""Calling what may not come back, such as a ledger whose host is gone, without waiting for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Generic, TypeVar

T = TypeVar("T")


class NoAnswerError(Exception):
    """The call had not returned in time; it goes on in its thread, and its result is dropped."""


def call_within(timeout: timedelta, function: Callable[[], T]) -> T:
    """Return what ``function`` returns, or raise what it raises.

    :raises NoAnswerError: it did neither in time. No pool's thread is held by it, and no process is kept
        from ending.
    """
    return _Call(function).result(timeout)


class _Call(Generic[T]):
    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._values: list[T] = []
        threading.Thread(target=self._run, name="bounded call", daemon=True).start()

    def result(self, timeout: timedelta) -> T:
        if not self._done.wait(timeout.total_seconds()):
            raise NoAnswerError(f"no answer within {timeout.total_seconds():g} s")
        if self._error is not None:
            raise self._error
        return self._values[0]

    def _run(self) -> None:
        try:
            self._values.append(self._function())
        except BaseException as error:
            self._error = error
        finally:
            self._done.set()
