"""Samples from Prometheus and what speaks its API: one ``query_range`` for all metrics and versions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial
from math import nan
from typing import Any

from msgspec import DecodeError, Struct, ValidationError
from msgspec.json import Decoder

from rollback_budget.engine.histogram import quantile_of
from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.model.metric import Metric
from rollback_budget.model.source import PrometheusSource
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.http_responses import read_json, send_request
from rollback_budget.sources.prometheus.promql import (
    BORN,
    PART,
    RECOVERS_WITHIN,
    Counters,
    PromqlQuery,
    QueriedSeries,
    build_query,
)
from rollback_budget.sources.prometheus.samples import AnswerSamples, faults_of, samples_of
from rollback_budget.sources.prometheus.survey import scrape_remarks, survey_query
from rollback_budget.transport.async_client import AsyncHttpClient
from rollback_budget.transport.response import Response

#: Prometheus refuses more points a series.
MOST_POINTS = 11_000
#: So many queries of groups of rollouts are kept as text, some 30 kB each, or 150 kB where counters fell.
MOST_QUERIES = 128
#: After so many series of an answer the others of this process have their turn.
SERIES_A_TURN = 64

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


#: Of some points of one version, by their numbers.
_Times = Mapping[int, datetime]


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


def _chunks(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield first and last point of each request, in as few as Prometheus allows."""
    points = last - first + 1
    pieces = -(-points // MOST_POINTS)
    for piece in range(pieces):
        yield first + points * piece // pieces, first + points * (piece + 1) // pieces - 1


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
        self._metrics = metrics
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
        """Return the samples of each request, in their order.

        They come from one query, and further ones for the looks at which a counter fell or is new.

        :param requests: alike in series, times and step; only their versions differ.
        :raises SourceError: nothing of it can be had, or a part of it is known to be missing.
        """
        first = requests[0]
        alike = (first.series, first.start, first.end, first.step)
        assert all((other.series, other.start, other.end, other.step) == alike for other in requests)
        versions = tuple(sorted({v for one in requests for v in (one.release, one.baseline)}))
        grid = _Grid.of(first)
        by_version: dict[str, list[Sample]] = {version: [] for version in versions}
        # One object a time: the engine notices.
        times: _Times = {number: grid.time(number) for number in range(grid.points)}
        left = {Counters.GO_ON: dict.fromkeys(versions, times), Counters.ARE_NEW: {}, Counters.FELL: {}}
        for counters, times_of in left.items():
            if not grid.points or not times_of:
                continue
            query = self._build_query(first.series, tuple(sorted(times_of)), first.step, counters=counters)
            # Whether a counter that rises had fallen is seen in some steps more.
            more = RECOVERS_WITHIN if counters is Counters.FELL else 0
            span = min(map(min, times_of.values())) - more, max(map(max, times_of.values()))
            found = await self._ask(query, grid, span)
            for version, points in found.not_so.items() if counters is not Counters.FELL else ():
                _put_off(left, counters, version, points)
            for version, samples in (await self._put_together(query, found, times_of)).items():
                by_version[version] += samples
        return [by_version[one.release] + by_version[one.baseline] for one in requests]

    async def survey(self, request: SeriesRequest) -> list[str]:
        """Return what of these series is not as the settings say; raises :class:`SourceError`."""
        versions = (request.release, request.baseline)
        promql, parts = survey_query(self._source, self._metrics, request.series, versions)
        if not parts:
            return []
        newest = _Grid.of(request._replace(start=request.end - request.step))
        counts: dict[str, float] = {}
        for series in await self._query_range(promql, newest, 0, 0):
            name, values = parts.get(series.metric.get(PART, "")), series.values
            if name is not None and values:
                counts[name] = float(values[-1][1])
        return list(scrape_remarks(self._source, counts))

    async def _ask(self, query: PromqlQuery, grid: _Grid, span: tuple[int, int]) -> AnswerSamples:
        """Return what Prometheus answers for the points of ``grid`` from first to last of ``span``."""
        found, fell = AnswerSamples(), query.fell()
        for sent in query.requests:
            for start, stop in _chunks(*span):
                answer = await self._query_range(sent.text, grid, start, stop)
                for number, series in enumerate(answer):
                    self._add(found, series, grid, sent.bare, fell)
                    if number % SERIES_A_TURN == SERIES_A_TURN - 1:
                        await asyncio.sleep(0)
        return found

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

    def _add(
        self, found: AnswerSamples, series: _Series, grid: _Grid, bare: str | None, fell: Set[str]
    ) -> None:
        """Sort one series of an answer in; what cannot be read costs the metrics of its part, no others."""
        labels = series.metric
        part, version = labels.get(PART, bare), labels.get(self._source.version_label)
        if part is None:
            raise _other(f"a series without {PART!r}")
        if version is None:
            found.faults[part] = (
                f"its query gives values without the label {self._source.version_label!r}; "
                f"let it end in `by ({self._source.version_label})`, or set `source.version_label`"
            )
            return
        if BORN in labels or part in fell:
            points = found.not_so.setdefault(version, {})
            for epoch, _ in series.values:
                at = grid.number(epoch)
                if part in fell or at not in points:
                    points[at] = Counters.FELL if part in fell else Counters.ARE_NEW
            return
        known = grid.numbers
        try:
            bound = labels.get("le")
            column = found.column(part, version, None if bound is None else float(bound))
            # `1` and `1.0` are one bound, while a library that writes it otherwise is rolled out.
            adds_up = bound is not None
            for epoch, value in series.values:
                number = known.get(epoch)
                if number is None:
                    number = grid.number(epoch)
                if number not in column:
                    column[number] = float(value)
                elif adds_up:
                    column[number] += float(value)
                else:
                    found.faults[part] = (
                        f"its query gives more than one value for {version!r} at one time; aggregate it, "
                        f"such as `sum by ({self._source.version_label}) (...)`"
                    )
                    return
        except ValueError as error:
            raise _other(str(error)) from None
        for epoch, histogram in series.histograms:
            found.add_native(part, version, grid.number(epoch), histogram)

    @staticmethod
    async def _put_together(
        query: PromqlQuery, found: AnswerSamples, times_of: Mapping[str, _Times]
    ) -> dict[str, list[Sample]]:
        """Return the samples of each version, at its times."""
        samples = {}
        for version, times in times_of.items():
            samples[version] = [
                sample
                for one in query.queried
                for sample in _samples(one, query.scale, found, version, times)
            ]
            # Other watches of this process have their turn.
            await asyncio.sleep(0)
        return samples


def _put_off(
    left: dict[Counters, dict[str, _Times]], counters: Counters, version: str, points: Mapping[int, Counters]
) -> None:
    """Leave the points of one version at which its counters are otherwise to the queries for that."""
    times = left[counters].get(version)
    if times is None:
        return
    for later in Counters:
        put_off = {
            number: times[number] for number, is_so in points.items() if is_so is later and number in times
        }
        if put_off:
            left[later][version] = {**left[later].get(version, {}), **put_off}
    kept = {number: time for number, time in times.items() if number not in points}
    if kept:
        left[counters][version] = kept
    else:
        del left[counters][version]


def _samples(
    queried: QueriedSeries, scale: float, found: AnswerSamples, version: str, times: _Times
) -> Iterator[Sample]:
    """Yield the samples of one series of one version; where it cannot be read, with the reason."""
    name = queried.name
    fault = next((found.faults[part] for part in queried.parts.values() if part in found.faults), None)
    faults = dict.fromkeys(times, fault) if fault is not None else faults_of(queried, found, version)
    if fault is None:
        for number, value, n, le in samples_of(queried, found, version, scale, quantile_of(name)):
            if (time := times.get(number)) is not None and number not in faults:
                yield Sample(time, name, version, value, n, le)
    for number, why in faults.items():
        if number in times:
            yield Sample(times[number], name, version, nan, fault=why)


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
