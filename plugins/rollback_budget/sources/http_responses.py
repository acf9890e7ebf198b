"""What the answer of a metric backend means, and what it means that there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from rollback_budget.exceptions import SourceError
from rollback_budget.transport.async_client import AsyncHttpClient
from rollback_budget.transport.errors import TransportError
from rollback_budget.transport.response import Response


async def send_request(
    client: AsyncHttpClient, method: str, path: str, *, timeout: timedelta, **content: Any
) -> Response:
    """Return the answer to one request, whatever its status; raises :class:`SourceError` without one.

    :param content: ``query``, ``form``, ``body`` and ``headers``, as :class:`AsyncHttpClient` takes them.
    """
    try:
        return await client.request(method, path, timeout=timeout, **content)
    except TransportError as error:
        raise source_error_of(error) from error


def source_error_of(error: TransportError) -> SourceError:
    """Return what a request without an answer means to a source."""
    return SourceError(str(error), transient=error.transient)


def read_json(
    response: Response,
    backend: str,
    *,
    now: datetime | None = None,
    decode: Callable[[bytes], Any] = json.loads,
) -> Any:
    """Return the JSON of a good answer.

    :param backend: who answered, for the message.
    :param decode: raises ValueError for what is not JSON.
    :raises SourceError: for every status but 2xx, and for a body that is not JSON. 408, 425, 429 and 5xx are
        transient, and so is a body that is not JSON (a proxy's error page, an answer cut short).
    """
    if not response.ok:
        raise SourceError(
            f"{backend} answered {response.status}: {response.quote}",
            transient=response.transient,
            retry_after=response.retry_after(now),
        )
    try:
        return response.json(decode)
    except ValueError:
        kind = response.headers.get("content-type", "no content type")
        raise SourceError(
            f"{backend} answered no JSON ({kind}, {len(response.body)} bytes): {response.quote}",
            transient=True,
        ) from None
