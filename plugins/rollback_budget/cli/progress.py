"""Progress of long work: on stderr, and only on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar:
    """One bar of progress."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def expect(self, more: float) -> None:
        """Say that there is more to do than was known."""
        [task] = self._progress.tasks
        self._progress.update(self._task, total=(task.total or 0) + more)

    def advance(self, done: float = 1) -> None:
        """Say that so many more are done."""
        self._progress.advance(self._task, done)

    def reach(self, done: float) -> None:
        """Say how much is done."""
        self._progress.update(self._task, completed=done)


@contextmanager
def progress_of(what: str, total: float) -> Iterator[Bar]:
    """Show a bar until the work is done; it vanishes then."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bar(progress, progress.add_task(what, total=total))
