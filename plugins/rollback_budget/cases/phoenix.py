"""Failing requests from Arize Phoenix: spans of a project, and the annotations that they got.

As documented in Phoenix's REST API: ``GET /v1/projects/{project}/spans`` and ``.../span_annotations``, both
with cursors. A server that does not know a filter ignores it, so every span is looked at here, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from rollback_budget.cases.failed_request import FailedRequest, content_of
from rollback_budget.cases.json_items import items_of, moment, number, pages
from rollback_budget.cases.query import FailureQuery
from rollback_budget.model.budget import Worse
from rollback_budget.model.case_source import PhoenixCases, ScoreRule
from rollback_budget.model.sql_table import is_quantile
from rollback_budget.sources.http_json.templating import iso_millis
from rollback_budget.transport.async_client import AsyncHttpClient

_PAGE = 500
#: Ids of spans that one URL can hold.
_IDS = 50


class PhoenixFailures:
    """Reads spans of the window; by latency and status they fail themselves, else by their annotations."""

    def __init__(self, phoenix: PhoenixCases, client: AsyncHttpClient, timeout: timedelta) -> None:
        self._phoenix = phoenix
        self._client = client
        self._timeout = timeout
        self._path = f"/v1/projects/{quote(phoenix.project, safe='')}"

    async def failing(self, query: FailureQuery) -> list[FailedRequest]:
        """Return the requests that failed; raises SourceError."""
        found: list[FailedRequest] = []
        parameters = {
            "start_time": iso_millis(query.start),
            "end_time": iso_millis(query.end + timedelta(milliseconds=1)),
            "limit": str(_PAGE),
            "attribute": f"{self._phoenix.version}:{json.dumps(query.release)}",
            **({"span_kind": self._phoenix.span_kind} if self._phoenix.span_kind else {"parent_id": "null"}),
        }
        async for answer in pages(
            self._client,
            f"{self._path}/spans",
            parameters,
            backend="Phoenix's spans",
            cursor="cursor",
            next_="next_cursor",
            timeout=self._timeout,
        ):
            spans = [
                span for span in items_of(answer, "data", "Phoenix's spans") if self._is_meant(span, query)
            ]
            failed = await self._failed(spans, query)
            found += [self._read(span) for span in spans if _span_id(span) in failed]
            if len(found) >= query.limit:
                break
        return found[: query.limit]

    async def _failed(self, spans: Sequence[Mapping[str, Any]], query: FailureQuery) -> set[str]:
        if is_quantile(query.metric) and query.bound is not None:
            return {_span_id(span) for span in spans if _is_beyond(_duration(span), query)}
        failed = {
            _span_id(span)
            for span in spans
            if query.metric in self._phoenix.errors and span.get("status_code") == "ERROR"
        }
        rule = self._phoenix.annotations.get(query.metric, ScoreRule())
        ids = [_span_id(span) for span in spans]
        for first in range(0, len(ids), _IDS):
            failed |= await self._failed_by_annotation(ids[first : first + _IDS], rule, query.metric)
        return failed

    async def _failed_by_annotation(self, ids: Sequence[str], rule: ScoreRule, metric: str) -> set[str]:
        repeated = urlencode({"span_ids": ids, "include_annotation_names": rule.name or metric}, doseq=True)
        failed: set[str] = set()
        async for answer in pages(
            self._client,
            f"{self._path}/span_annotations?{repeated}",
            {"limit": str(_PAGE)},
            backend="Phoenix's annotations",
            cursor="cursor",
            next_="next_cursor",
            timeout=self._timeout,
        ):
            for annotation in items_of(answer, "data", "Phoenix's annotations"):
                result = annotation.get("result") or {}
                label = result.get("label")
                if rule.fails(number(result.get("score")), label if isinstance(label, str) else None):
                    failed.add(str(annotation.get("span_id")))
        return failed

    def _is_meant(self, span: Mapping[str, Any], query: FailureQuery) -> bool:
        version, slice_ = _attribute(span, self._phoenix.version), self._phoenix.slice
        started = moment(span.get("start_time"), "Phoenix's spans")
        return (
            version == query.release
            and query.start < started <= query.end
            and (self._phoenix.span_kind is None or span.get("span_kind") == self._phoenix.span_kind)
            and (query.slice is None or slice_ is None or str(_attribute(span, slice_)) == query.slice)
        )

    def _read(self, span: Mapping[str, Any]) -> FailedRequest:
        slice_ = None if self._phoenix.slice is None else _attribute(span, self._phoenix.slice)
        return FailedRequest(
            input=content_of(_attribute(span, "input.value")),
            output=content_of(_attribute(span, "output.value")),
            trace_id=str((span.get("context") or {}).get("trace_id")),
            time=moment(span.get("start_time"), "Phoenix's spans"),
            slice=None if slice_ is None else str(slice_),
            metadata={
                key: value
                for key, value in (
                    ("span_id", _span_id(span)),
                    ("name", span.get("name")),
                    ("status_message", span.get("status_message")),
                )
                if value
            },
        )


def _attribute(span: Mapping[str, Any], path: str) -> Any:
    """Return an attribute: flat (``metadata.version``), nested, or in an object that is stored as text."""
    at: Any = span.get("attributes") or {}
    parts = path.split(".")
    for taken in range(len(parts), 0, -1):
        name, rest = ".".join(parts[:taken]), parts[taken:]
        value = at.get(name) if isinstance(at, dict) else None
        if value is None:
            continue
        for part in rest:
            value = _object(value).get(part)
        return value
    return None


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def _span_id(span: Mapping[str, Any]) -> str:
    return str((span.get("context") or {}).get("span_id"))


def _duration(span: Mapping[str, Any]) -> float | None:
    times: list[datetime] = []
    for key in ("start_time", "end_time"):
        if span.get(key) is None:
            return None
        times.append(moment(span[key], "Phoenix's spans"))
    return (times[1] - times[0]).total_seconds()


def _is_beyond(value: float | None, query: FailureQuery) -> bool:
    if value is None or query.bound is None:
        return False
    return value > query.bound if query.worse is Worse.HIGHER else value < query.bound
