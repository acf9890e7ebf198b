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
from rollback_budget.sources.http_responses import ask, read_json
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
    """The ``request`` of ``cases.source``: asked page by page until there are enough."""

    def __init__(self, source: HttpJsonCases, request: CaseRequest, client: AsyncHttpClient) -> None:
        self._timeout = source.timeout
        self._request = request
        self._client = client
        self._backend = f"cases.source.request ({request.method} {request.path})"

    async def failing(self, question: FailureQuery) -> list[FailedRequest]:
        """Return the requests that failed; raises SourceError."""
        asked, found = self._request, []
        values: dict[str, Any] = {
            **range_values(question.start, question.end),
            "$release": question.release,
            "$baseline": question.baseline,
            "$metric": question.metric,
            "$slice": question.slice,
            "$bound": question.bound,
            "$limit": question.limit,
            "$cursor": None,
        }
        for _ in range(MOST_PAGES):
            # A parameter without a value is not sent: no slice, no cursor yet.
            query = {name: fill(value, values) for name, value in asked.query.items()}
            response = await ask(
                self._client,
                asked.method,
                fill_path(asked.path, values),
                query={name: as_text(value) for name, value in query.items() if value is not None} or None,
                body=fill(asked.body, values),
                timeout=self._timeout,
            )
            answer = read_json(response, self._backend)
            found += [
                self._read(item)
                for item in items_of(answer, asked.items, self._backend)
                if self._is_meant(item, question)
            ]
            cursor = None if asked.next is None else find(asked.next, answer)
            if cursor in (None, "", False) or cursor == values["$cursor"] or len(found) >= question.limit:
                break
            values["$cursor"] = cursor
        return found[: question.limit]

    def _is_meant(self, item: Any, question: FailureQuery) -> bool:
        asked = self._request
        if asked.failed is not None and not find(asked.failed, item):
            return False
        if asked.version is not None and find(asked.version, item) != question.release:
            return False
        if question.slice is not None and asked.slice is not None:
            return bool(str(find(asked.slice, item)) == question.slice)
        return True

    def _read(self, item: Any) -> FailedRequest:
        asked = self._request

        def said(path: str | None) -> Any:
            return None if path is None else find(path, item)

        time = said(asked.time)
        try:
            at = None if time is None else read_time(time, asked.time_format)
        except ValueError as error:
            raise SourceError(
                f"{self._backend}: time ({asked.time}) must be {error}, and is {str(time)[:100]!r}",
                transient=False,
            ) from None
        trace_id, slice_ = said(asked.trace_id), said(asked.slice)
        kept = {name: find(path, item) for name, path in asked.metadata.items()}
        return FailedRequest(
            input=content_of(said(asked.input)),
            output=content_of(said(asked.output)),
            trace_id=None if trace_id is None else str(trace_id),
            time=at,
            slice=None if slice_ is None else str(slice_),
            metadata={name: value for name, value in kept.items() if value is not None},
        )
