"""Failing requests from Langfuse's public API: observations of the release, and the scores that they got.

As documented at https://api.reference.langfuse.com: ``GET /api/public/v2/observations`` (cursor pages, field
groups, a JSON filter) and ``GET /api/public/v2/scores`` (numbered pages of 100).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from rollback_budget.cases.failed_request import FailedRequest, content_of
from rollback_budget.cases.json_items import MOST_PAGES, items_of, moment, number, pages
from rollback_budget.cases.query import FailureQuery
from rollback_budget.model.budget import Worse
from rollback_budget.model.case_source import LangfuseCases, ScoreRule
from rollback_budget.model.sql_table import is_quantile
from rollback_budget.sources.http_json.templating import iso_millis
from rollback_budget.sources.http_responses import read_json, send_request
from rollback_budget.transport.async_client import AsyncHttpClient

_OBSERVATIONS = "/api/public/v2/observations"
_SCORES = "/api/public/v2/scores"
_FIELDS = "core,basic,io,metadata"
_PAGE = 100
#: Observations that are looked at for one that failed.
_SEARCHED = 20


class LangfuseFailures:
    """Reads observations of the window; by latency and cost they fail themselves, else by their scores."""

    def __init__(self, langfuse: LangfuseCases, client: AsyncHttpClient, timeout: timedelta) -> None:
        self._langfuse = langfuse
        self._client = client
        self._timeout = timeout

    async def failing(self, query: FailureQuery) -> list[FailedRequest]:
        """Return the requests that failed; raises SourceError."""
        column = _column(query.metric)
        if column is not None and query.bound is not None:
            beyond = {
                "type": "number",
                "column": column,
                "operator": ">" if query.worse is Worse.HIGHER else "<",
                "value": query.bound,
            }
            return await self._observations(query, [beyond], None)
        return await self._observations(query, [], await self._failed_by_score(query))

    async def _failed_by_score(self, query: FailureQuery) -> frozenset[str]:
        """Return the ids of the traces and observations whose score fails; scores may come long after."""
        rule = self._langfuse.scores.get(query.metric, ScoreRule())
        parameters = {
            "name": rule.name or query.metric,
            "fromTimestamp": iso_millis(query.start),
            "limit": str(_PAGE),
            "fields": "score",
        }
        failed: set[str] = set()
        for page in range(1, MOST_PAGES):
            response = await send_request(
                self._client, "GET", _SCORES, query={**parameters, "page": str(page)}, timeout=self._timeout
            )
            scores = items_of(read_json(response, "Langfuse's scores"), "data", "Langfuse's scores")
            for score in scores:
                label = score.get("stringValue")
                if rule.fails(number(score.get("value")), label if isinstance(label, str) else None):
                    failed.add(str(score.get("observationId") or score.get("traceId")))
            if len(scores) < _PAGE:
                break
        return frozenset(failed)

    async def _observations(
        self, query: FailureQuery, further: list[dict[str, Any]], failed: frozenset[str] | None
    ) -> list[FailedRequest]:
        found: list[FailedRequest] = []
        if failed is not None and not failed:
            return found
        conditions = [
            {
                "type": "datetime",
                "column": "startTime",
                "operator": ">",
                "value": iso_millis(query.start),
            },
            {
                "type": "datetime",
                "column": "startTime",
                "operator": "<=",
                "value": iso_millis(query.end),
            },
            {"type": "string", "column": "version", "operator": "=", "value": query.release},
            {"type": "string", "column": "type", "operator": "=", "value": self._langfuse.type},
            *further,
        ]
        if query.slice is not None and self._langfuse.slice is not None:
            conditions.append(
                {
                    "type": "stringObject",
                    "column": "metadata",
                    "key": self._langfuse.slice,
                    "operator": "=",
                    "value": query.slice,
                }
            )
        parameters = {
            "fields": _FIELDS,
            "limit": str(_PAGE),
            "filter": json.dumps(conditions, separators=(",", ":")),
        }
        searched = 0
        async for answer in pages(
            self._client,
            _OBSERVATIONS,
            parameters,
            backend="Langfuse's observations",
            cursor="cursor",
            next_="meta.cursor",
            timeout=self._timeout,
        ):
            for item in items_of(answer, "data", "Langfuse's observations"):
                searched += 1
                if failed is None or {str(item.get("id")), str(item.get("traceId"))} & failed:
                    found.append(self._read(item))
            if len(found) >= query.limit or searched >= _SEARCHED * query.limit:
                break
        return found[: query.limit]

    def _read(self, item: Mapping[str, Any]) -> FailedRequest:
        metadata = item.get("metadata")
        slice_ = (
            metadata.get(self._langfuse.slice)
            if isinstance(metadata, dict) and self._langfuse.slice
            else None
        )
        started = item.get("startTime")
        return FailedRequest(
            input=content_of(item.get("input")),
            output=content_of(item.get("output")),
            trace_id=None if item.get("traceId") is None else str(item["traceId"]),
            time=None if started is None else moment(started, "Langfuse's observations"),
            slice=None if slice_ is None else str(slice_),
            metadata={
                key: item[key] for key in ("id", "name", "metadata") if item.get(key) not in (None, {}, "")
            },
        )


def _column(metric: str) -> str | None:
    if is_quantile(metric):
        return "latency"
    return {"tokens_per_request": "totalTokens", "cost_per_request": "totalCost"}.get(metric)
