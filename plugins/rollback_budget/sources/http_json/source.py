"""Samples from any API that answers JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from rollback_budget.engine.sample import Sample
from rollback_budget.model.json_api import JsonRequest
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.http_json.json_samples import PointReader
from rollback_budget.sources.http_json.templating import as_text, fill, fill_path, range_values
from rollback_budget.sources.http_responses import read_json, send_request
from rollback_budget.sources.resilience.chunking import all_of, parts_of
from rollback_budget.transport.async_client import AsyncHttpClient


class JsonApi:
    """The ``http_json`` source. One attempt for each request; all of them at once.

    :param readers: of the answers to the requests; those that give none of the wanted series are not sent.
    :param timeout: for one request.
    """

    def __init__(self, readers: Sequence[PointReader], client: AsyncHttpClient, timeout: timedelta) -> None:
        self._client = client
        self._timeout = timeout
        self._readers = readers

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        """Return the samples of ``request``; raises :class:`SourceError`."""
        answers = []
        for reader in self._readers:
            json_request = reader.json_request
            if json_request.metric is None and not json_request.series.keys() & set(request.series):
                continue
            versions: tuple[str | None, ...] = (None,)
            if _mentions(json_request, "$version"):
                versions = (request.release, request.baseline)
            for part in parts_of(request, json_request.longest):
                answers += [self._query(reader, part, version) for version in versions]
        return [sample for samples in await all_of(answers) for sample in samples]

    async def _query(self, reader: PointReader, request: SeriesRequest, version: str | None) -> list[Sample]:
        json_request, values = reader.json_request, _values(request, version)
        response = await send_request(
            self._client,
            json_request.method,
            fill_path(json_request.path, values),
            query={name: as_text(fill(value, values)) for name, value in json_request.query.items()} or None,
            body=fill(json_request.body, values),
            timeout=self._timeout,
        )
        return reader.samples(
            read_json(response, f"{reader.place} ({json_request.method} {json_request.path})"),
            request,
            version,
        )


def _values(request: SeriesRequest, version: str | None) -> dict[str, Any]:
    return {
        **range_values(request.start, request.end),
        "$step_s": int(request.step.total_seconds()),
        "$step_ms": round(request.step.total_seconds() * 1000),
        "$release": request.release,
        "$baseline": request.baseline,
        "$version": version,
    }


def _mentions(json_request: JsonRequest, placeholder: str) -> bool:
    return placeholder in json_request.path.split("/") or _holds(
        (json_request.query, json_request.body), placeholder
    )


def _holds(template: Any, placeholder: str) -> bool:
    if isinstance(template, Mapping):
        return any(_holds(value, placeholder) for value in template.values())
    if isinstance(template, list | tuple):
        return any(_holds(item, placeholder) for item in template)
    return bool(template == placeholder)
