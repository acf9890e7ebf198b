"""Failing requests from any API that answers JSON."""

from __future__ import annotations

from typing import Any

from rollback_budget.cases.failed_request import FailedRequest, content_of
from rollback_budget.cases.json_items import MOST_PAGES, find, items_of
from rollback_budget.cases.langfuse import LangfuseFailures
from rollback_budget.cases.phoenix import PhoenixFailures
from rollback_budget.cases.query import CaseSource, FailureQuery
from rollback_budget.exceptions import SourceError
from rollback_budget.model.case_source import CaseRequest, HttpJsonCases
from rollback_budget.sources.http_json.json_samples import read_time
from rollback_budget.sources.http_json.templating import as_text, fill, fill_path, range_values
from rollback_budget.sources.http_responses import read_json, send_request
from rollback_budget.transport.async_client import AsyncHttpClient


def open_http_cases(source: HttpJsonCases, client: AsyncHttpClient) -> CaseSource:
    """Return the source of cases that the budget file describes."""
    if source.langfuse is not None:
        return LangfuseFailures(source.langfuse, client, source.timeout)
    if source.phoenix is not None:
        return PhoenixFailures(source.phoenix, client, source.timeout)
    assert source.request is not None
    return JsonFailures(source, source.request, client)


class JsonFailures:
    """The ``request`` of ``cases.source``: queried page by page until there are enough."""

    def __init__(self, source: HttpJsonCases, request: CaseRequest, client: AsyncHttpClient) -> None:
        self._timeout = source.timeout
        self._request = request
        self._client = client
        self._backend = f"cases.source.request ({request.method} {request.path})"

    async def failing(self, query: FailureQuery) -> list[FailedRequest]:
        """Return the requests that failed; raises SourceError."""
        request, found = self._request, []
        values: dict[str, Any] = {
            **range_values(query.start, query.end),
            "$release": query.release,
            "$baseline": query.baseline,
            "$metric": query.metric,
            "$slice": query.slice,
            "$bound": query.bound,
            "$limit": query.limit,
            "$cursor": None,
        }
        for _ in range(MOST_PAGES):
            # A parameter without a value is not sent: no slice, no cursor yet.
            parameters = {name: fill(value, values) for name, value in request.query.items()}
            response = await send_request(
                self._client,
                request.method,
                fill_path(request.path, values),
                query={name: as_text(value) for name, value in parameters.items() if value is not None}
                or None,
                body=fill(request.body, values),
                timeout=self._timeout,
            )
            answer = read_json(response, self._backend)
            found += [
                self._read(item)
                for item in items_of(answer, request.items, self._backend)
                if self._is_meant(item, query)
            ]
            cursor = None if request.next is None else find(request.next, answer)
            if cursor in (None, "", False) or cursor == values["$cursor"] or len(found) >= query.limit:
                break
            values["$cursor"] = cursor
        return found[: query.limit]

    def _is_meant(self, item: Any, query: FailureQuery) -> bool:
        request = self._request
        if request.failed is not None and not find(request.failed, item):
            return False
        if request.version is not None and find(request.version, item) != query.release:
            return False
        if query.slice is not None and request.slice is not None:
            return bool(str(find(request.slice, item)) == query.slice)
        return True

    def _read(self, item: Any) -> FailedRequest:
        request = self._request

        def said(path: str | None) -> Any:
            return None if path is None else find(path, item)

        time = said(request.time)
        try:
            at = None if time is None else read_time(time, request.time_format)
        except ValueError as error:
            raise SourceError(
                f"{self._backend}: time ({request.time}) must be {error}, and is {str(time)[:100]!r}",
                transient=False,
            ) from None
        trace_id, slice_ = said(request.trace_id), said(request.slice)
        kept = {name: find(path, item) for name, path in request.metadata.items()}
        return FailedRequest(
            input=content_of(said(request.input)),
            output=content_of(said(request.output)),
            trace_id=None if trace_id is None else str(trace_id),
            time=at,
            slice=None if slice_ is None else str(slice_),
            metadata={name: value for name, value in kept.items() if value is not None},
        )
