"""Asking in parts: a long range as several requests, all of them at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from datetime import timedelta
from typing import Any

from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.sources.base import SeriesRequest


def parts_of(request: SeriesRequest, longest: timedelta | None) -> Iterator[SeriesRequest]:
    """Cut a request into ranges of whole steps that are at most ``longest``, oldest first."""
    if longest is None or request.end - request.start <= longest:
        yield request
        return
    length = max(longest // request.step, 1) * request.step
    start = request.start
    while start < request.end:
        end = min(start + length, request.end)
        yield request._replace(start=start, end=end)
        start = end


async def all_of(answers: Sequence[Coroutine[Any, Any, list[Sample]]]) -> list[list[Sample]]:
    """Wait for all; the first failure cancels the rest."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer) for answer in answers]
    except ExceptionGroup as errors:
        known = [error for error in errors.exceptions if isinstance(error, SourceError)]
        raise (known[0] if known else errors.exceptions[0]) from None
    return [task.result() for task in tasks]
