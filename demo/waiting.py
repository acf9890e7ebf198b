"""Waiting on a condition, never on a guess: bounded, and with a message that says what did not happen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from rollback_budget.exceptions import RollbackBudgetError

Value = TypeVar("Value")


class DemoError(RollbackBudgetError):
    """Something in the demo's own machinery went wrong; says what, and which log says more."""


def wait_for(condition: Callable[[], Value], what: str, *, timeout_s: float, every_s: float = 0.25) -> Value:
    """Return the first truthy value of ``condition``; an exception of the condition ends the wait.

    :raises DemoError: when ``what`` did not happen within ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise DemoError(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(every_s)
