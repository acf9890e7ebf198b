"""Samples from Prometheus and what speaks its API: one ``query_range`` for all metrics and versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Any

from msgspec import DecodeError, Struct, ValidationError
from msgspec.json import Decoder

from rollback_budget.engine.frame import quantile_of
from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.model.metric import Metric
from rollback_budget.model.source import PrometheusSource
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.http_responses import read_json, send_request
from rollback_budget.sources.prometheus.promql import PART, PromqlQuery, build_query
from rollback_budget.sources.prometheus.samples import AnswerSamples, samples_of
from rollback_budget.transport.async_client import AsyncHttpClient
from rollback_budget.transport.response import Response

#: Prometheus refuses more points a series (11 000).
MOST_POINTS = 11_000
#: So many queries of groups of rollouts are kept as text, some 15 kB each.
MOST_QUERIES = 128

PATH = "api/v1/query_range"
_BACKEND = "Prometheus"
#: What a query that ran out of time is called in a 422, by Prometheus, Thanos and Mimir.
_OUT_OF_TIME = ("context deadline exceeded", "timed out", "timeout", "canceled")
_PASSING = frozenset({"timeout", "canceled", "unavailable", "internal", "too_many_requests"})


class _Series(Struct, gc=False):
    """One series of an answer: times in seconds since the epoch, values as text."""

    metric: dict[str, str]
    values: tuple[tuple[float, str | float], ...] = ()
    histograms: tuple[tuple[float, dict[str, Any]], ...] = ()


class _Data(Struct):
    """What was found; Thanos and Mimir may say that it is not all."""

    resultType: str  # noqa: N815 - Prometheus' name
    result: list[_Series]
    isPartial: bool = False  # noqa: N815 - likewise


class _Answer(Struct):
    """An answer of ``query_range``; a typed one takes less time and memory than dicts of dicts."""

    status: str
    data: _Data | None = None
    errorType: str = "error"  # noqa: N815 - likewise
    error: str = "no reason given"
    warnings: list[str] | None = None
    isPartial: bool = False  # noqa: N815 - likewise


_DECODER = Decoder(_Answer)


@dataclass(frozen=True, slots=True)
class _Grid:
    """The times of one request: the end of each step, ``start`` left out."""

    start: datetime
    step: timedelta
    points: int
    start_s: float
    step_s: float
    #: Of the times that an answer should have, which every series has again.
    numbers: dict[float, int]

    @classmethod
    def of(cls, request: SeriesRequest) -> _Grid:
        start, step = request.start, request.step
        points = max((request.end - start) // step, 0)
        start_s, step_s = start.timestamp(), step.total_seconds()
        numbers = {start_s + (number + 1) * step_s: number for number in range(points)}
        return cls(start, step, points, start_s, step_s, numbers)

    def time(self, number: int) -> datetime:
        return self.start + (number + 1) * self.step

    def number(self, epoch: float) -> int:
        return round((epoch - self.start_s) / self.step_s) - 1

    def chunks(self) -> Iterator[tuple[int, int]]:
        """Yield first and last point of each request, in as few as Prometheus allows."""
        pieces = -(-self.points // MOST_POINTS)
        for piece in range(pieces):
            yield self.points * piece // pieces, self.points * (piece + 1) // pieces - 1


class PrometheusSeries:
    """The ``prometheus`` source; one attempt a fetch, retries are its caller's.

    :param client: of the backend; its base URL ends before ``/api/v1``.
    :param source: labels, scrape interval and time-out.
    :param metrics: descriptions of the metrics, with their queries.
    """

    def __init__(
        self, client: AsyncHttpClient, source: PrometheusSource, metrics: Mapping[str, Metric]
    ) -> None:
        self._client = client
        self._source = source
        # The same rollouts query together again and again, for other times only.
        self._build_query = lru_cache(MOST_QUERIES)(partial(build_query, source, metrics))

    @classmethod
    def of(cls, spec: RolloutSpec, client: AsyncHttpClient) -> PrometheusSeries:
        """Build the source that ``spec`` describes."""
        assert isinstance(spec.source, PrometheusSource)
        return cls(client, spec.source, spec.metrics)

    async def fetch(self, request: SeriesRequest) -> list[Sample]:
        """Return the samples of ``request``; raises :class:`SourceError`."""
        return (await self.fetch_many([request]))[0]

    async def fetch_many(self, requests: Sequence[SeriesRequest]) -> list[list[Sample]]:
        """Return the samples of each request, in their order, from one query.

        :param requests: alike in series, times and step; only their versions differ.
        :raises SourceError: nothing of it can be had, or a part of it is known to be missing.
        """
        first = requests[0]
        alike = (first.series, first.start, first.end, first.step)
        assert all((other.series, other.start, other.end, other.step) == alike for other in requests)
        versions = tuple(sorted({v for one in requests for v in (one.release, one.baseline)}))
        query = self._build_query(first.series, versions, first.step)
        grid = _Grid.of(first)
        found = AnswerSamples()
        for sent in query.requests:
            for start, stop in grid.chunks():
                for series in await self._query_range(sent.text, grid, start, stop):
                    self._add(found, series, grid, sent.bare)
        by_version = self._put_together(query, grid, found, versions)
        return [by_version[one.release] + by_version[one.baseline] for one in requests]

    async def _query_range(self, promql: str, grid: _Grid, start: int, stop: int) -> list[_Series]:
        form = {
            "query": promql,
            "start": _epoch(grid.time(start)),
            "end": _epoch(grid.time(stop)),
            "step": f"{grid.step.total_seconds():g}",
            "timeout": f"{self._source.timeout // timedelta(milliseconds=1)}ms",
        }
        # Slightly longer than the server has, so that it is the server who says why.
        timeout = self._source.timeout + timedelta(seconds=2)
        return _result(await send_request(self._client, "POST", PATH, form=form, timeout=timeout))

    def _add(self, found: AnswerSamples, series: _Series, grid: _Grid, bare: str | None) -> None:
        """Sort one series of an answer in; a place that has a value already means that it is ambiguous."""
        labels = series.metric
        part, version = labels.get(PART, bare), labels.get(self._source.version_label)
        if part is None:
            raise _other(f"a series without {PART!r}")
        if version is None:
            raise SourceError(
                f"a query gives values without the label {self._source.version_label!r}; "
                f"let it end in `by ({self._source.version_label})`, or set `source.version_label`",
                transient=False,
            )
        known = grid.numbers
        try:
            bound = labels.get("le")
            column = found.column(part, version, None if bound is None else float(bound))
            for epoch, value in series.values:
                number = known.get(epoch)
                if number is None:
                    number = grid.number(epoch)
                if number in column:
                    raise SourceError(
                        f"a query gives more than one value for {version!r} at one time; aggregate it, "
                        f"such as `sum by ({self._source.version_label}) (...)`",
                        transient=False,
                    )
                column[number] = float(value)
        except ValueError as error:
            raise _other(str(error)) from None
        for epoch, histogram in series.histograms:
            found.add_native(part, version, grid.number(epoch), histogram)

    @staticmethod
    def _put_together(
        query: PromqlQuery, grid: _Grid, found: AnswerSamples, versions: Sequence[str]
    ) -> dict[str, list[Sample]]:
        # One object a time: the engine notices.
        times = {number: grid.time(number) for number in range(grid.points)}
        samples: dict[str, list[Sample]] = {version: [] for version in versions}
        for queried in query.queried:
            name, level = queried.name, quantile_of(queried.name)
            for version, of_version in samples.items():
                for number, value, n, le in samples_of(queried, found, version, query.scale, level):
                    if (time := times.get(number)) is not None:
                        of_version.append(Sample(time, name, version, value, n, le))
        return samples


def _result(response: Response) -> list[_Series]:
    """Return the series of an answer; raises :class:`SourceError` unless all of them are there."""
    if response.status == 422 and any(sign in response.text for sign in _OUT_OF_TIME):
        raise SourceError(f"{_BACKEND} had not enough time for the query (422)", transient=True)
    answer: _Answer = read_json(response, _BACKEND, decode=_decode)
    if answer.status != "success":
        kind = answer.errorType
        raise SourceError(f"{_BACKEND} answered {kind}: {answer.error}", transient=kind in _PASSING)
    data = answer.data
    if data is None or data.resultType != "matrix":
        raise _other("no data" if data is None else f"a {data.resultType}")
    warnings = answer.warnings or []
    if answer.isPartial or data.isPartial:
        warnings = [*warnings, "the answer is partial"]
    # Before `infos` had a field of their own, they came as warnings.
    doubts = [said for said in warnings if not said.startswith("PromQL info:")]
    if doubts:
        about_query = all(said.startswith("PromQL warning:") for said in doubts)
        raise SourceError(
            f"{_BACKEND} says that its answer is not whole: {'; '.join(doubts)[:300]}",
            transient=not about_query,
        )
    return data.result


def _decode(body: bytes) -> _Answer:
    try:
        return _DECODER.decode(body)
    except ValidationError as error:
        raise _other(str(error)) from None
    except DecodeError as error:
        raise ValueError(str(error)) from None


def _other(what: str) -> SourceError:
    return SourceError(f"{_BACKEND} answered something else than series: {what}", transient=True)


def _epoch(time: datetime) -> str:
    return f"{time.timestamp():.3f}"
