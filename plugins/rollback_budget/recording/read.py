"""Reading a source page by page, into a file or into memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from rollback_budget.clock import grid_floor
from rollback_budget.engine.sample import Sample
from rollback_budget.recording.page import Page, order, samples_for
from rollback_budget.recording.plan import RecordingPlan
from rollback_budget.sources.base import Source

PAGE = timedelta(hours=6)


class Recording(Protocol):
    """Where pages go."""

    @property
    def plan(self) -> RecordingPlan:
        """What is recorded."""
        ...

    @property
    def done_until(self) -> datetime:
        """Up to where pages are in."""
        ...

    def add(self, page: Page) -> None:
        """Take the page that begins at :attr:`done_until`; raises :class:`RecordingError`."""
        ...


class RecordingInMemory:
    """Pages that are used at once."""

    def __init__(self, plan: RecordingPlan) -> None:
        self.plan = plan
        self.done_until = plan.start
        self.samples: list[Sample] = []

    def add(self, page: Page) -> None:
        """Take the next page."""
        self.samples += page.samples
        self.done_until = page.end


async def read_pages(
    source: Source,
    recording: Recording,
    *,
    page: timedelta = PAGE,
    on_page: Callable[[datetime], None] = lambda _: None,
) -> None:
    """Read what is left of a recording, one request for each pace and page.

    :param page: how much is asked for at once; pages end on its UTC grid.
    :param on_page: called after every page with the time up to which pages are in.
    :raises SourceError: the source gives no answer; what was read before is in.
    :raises RecordingError: a page cannot be written.
    """
    plan = recording.plan
    while recording.done_until < plan.end:
        start = recording.done_until
        end = min(grid_floor(start, page) + page, plan.end)
        samples: list[Sample] = []
        for request in plan.requests(start, end):
            samples += samples_for(request, await source.fetch(request))
        recording.add(Page(start, end, sorted(samples, key=order)))
        on_page(end)
