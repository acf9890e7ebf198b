"""Ctrl-C for commands that stay: it ends them between two rounds, and never gets lost in one."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptible() -> Iterator[Callable[[float], bool]]:
    """Yield a sleep, in seconds, that says whether Ctrl-C was pressed; a second one interrupts at once.

    Python raises KeyboardInterrupt wherever it happens to be. Where that is a finalizer or a callback, as
    database drivers have them, it is printed and swallowed, and the command would stay for ever.
    """
    readable, writable = os.pipe()
    os.set_blocking(writable, False)

    def on_interrupt(_number: int, _frame: Any) -> None:
        os.write(writable, b"\0")
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda seconds: bool(select.select([readable], [], [], seconds)[0])
    finally:
        signal.signal(signal.SIGINT, before)
        os.close(readable)
        os.close(writable)
