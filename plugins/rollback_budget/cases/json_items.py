"""Reading the items of JSON answers, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from rollback_budget.exceptions import SourceError
from rollback_budget.sources.http_json.json_samples import read_time
from rollback_budget.sources.http_responses import read_json, send_request
from rollback_budget.transport.async_client import AsyncHttpClient

#: A cursor that never ends is a fault of the backend.
MOST_PAGES = 1000


def find(path: str, document: Any) -> Any:
    """Return what a JMESPath finds. Raises SourceError for one that cannot be used."""
    # Heavy to import for what only few budgets use.
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        return jmespath.search(path, document)
    except JMESPathError as error:
        raise SourceError(
            f"cases.source: JMESPath {path} cannot be used: {error}", transient=False
        ) from error


async def pages(
    client: AsyncHttpClient,
    path: str,
    query: Mapping[str, str],
    *,
    backend: str,
    cursor: str,
    next_: str,
    timeout: timedelta,
) -> AsyncIterator[Any]:
    """Yield the answers to a GET, page by page.

    :param cursor: the parameter that takes the cursor.
    :param next_: JMESPath to the cursor of the next page.
    :raises SourceError: the backend did not answer, or its pages go in a circle.
    """
    at: str | None = None
    seen: set[str] = set()
    for _ in range(MOST_PAGES):
        parameters = {**query, **({} if at is None else {cursor: at})}
        answer = read_json(
            await send_request(client, "GET", path, query=parameters, timeout=timeout), backend
        )
        yield answer
        found = find(next_, answer)
        if found in (None, "", False):
            return
        at = str(found)
        if at in seen:
            break
        seen.add(at)
    raise SourceError(f"{backend}: its pages have no end (cursor {at!r} came again)", transient=False)


def items_of(answer: Any, path: str, backend: str) -> list[Any]:
    """Return the list that stands at ``path``. Raises SourceError when none does."""
    found = find(path, answer)
    if not isinstance(found, list):
        raise SourceError(
            f"{backend}: {path} must give a list, and gave {str(found)[:100]!r}", transient=False
        )
    return found


def moment(value: object, backend: str) -> datetime:
    """Return the time of an answer, in UTC. Raises SourceError."""
    try:
        return read_time(value, "iso_utc")
    except ValueError as error:
        raise SourceError(
            f"{backend}: a time must be {error}, and is {str(value)[:100]!r}", transient=False
        ) from None


def number(value: object) -> float | None:
    """Return a number of an answer, None for anything else."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
