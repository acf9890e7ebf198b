"""Samples from Prometheus and what speaks its API: one ``query_range`` for all metrics and versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Any

from rollback_budget.engine.frame import quantile_of
from rollback_budget.engine.sample import Sample, SeriesRequest
from rollback_budget.errors import SourceError
from rollback_budget.sources.http_client import HttpClient, Reply, read_json
from rollback_budget.sources.prometheus_samples import Found, samples_of
from rollback_budget.sources.promql import PART, Question, build_question
from rollback_budget.spec.model import Metric, RolloutSpec
from rollback_budget.spec.source import PrometheusSource

#: Prometheus refuses more points a series (11 000).
MOST_POINTS = 11_000
#: So many queries of groups of rollouts are kept as text, some 15 kB each.
MOST_QUESTIONS = 128

PATH = "api/v1/query_range"
_BACKEND = "Prometheus"
#: What a query that ran out of time is called in a 422, by Prometheus, Thanos and Mimir.
_OUT_OF_TIME = ("context deadline exceeded", "timed out", "timeout", "canceled")
_PASSING = frozenset({"timeout", "canceled", "unavailable", "internal", "too_many_requests"})


@dataclass(frozen=True, slots=True)
class _Grid:
    """The times of one request: the end of each step, ``start`` left out."""

    start: datetime
    step: timedelta
    points: int
    start_s: float
    step_s: float

    @classmethod
    def of(cls, request: SeriesRequest) -> _Grid:
        start, step = request.start, request.step
        points = max((request.end - start) // step, 0)
        return cls(start, step, points, start.timestamp(), step.total_seconds())

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

    :param client: asks the backend; its base URL ends before ``/api/v1``.
    :param source: labels, scrape interval and time-out.
    :param metrics: descriptions of the metrics, with their queries.
    """

    def __init__(self, client: HttpClient, source: PrometheusSource, metrics: Mapping[str, Metric]) -> None:
        self._client = client
        self._source = source
        # The same rollouts ask together again and again, for other times only.
        self._question = lru_cache(MOST_QUESTIONS)(partial(build_question, source, metrics))

    @classmethod
    def of(cls, spec: RolloutSpec, client: HttpClient) -> PrometheusSeries:
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
        question = self._question(first.series, versions, first.step)
        grid = _Grid.of(first)
        found = Found()
        for asked in question.requests:
            for start, stop in grid.chunks():
                for series in await self._ask(asked.text, grid, start, stop):
                    self._add(found, series, grid, asked.bare)
        by_version = self._put_together(question, grid, found, versions)
        return [by_version[one.release] + by_version[one.baseline] for one in requests]

    async def _ask(self, query: str, grid: _Grid, start: int, stop: int) -> list[Any]:
        form = {
            "query": query,
            "start": _epoch(grid.time(start)),
            "end": _epoch(grid.time(stop)),
            "step": f"{grid.step.total_seconds():g}",
            "timeout": f"{self._source.timeout // timedelta(milliseconds=1)}ms",
        }
        # Slightly longer than the server has, so that it is the server who says why.
        timeout = self._source.timeout + timedelta(seconds=2)
        reply = await self._client.request("POST", PATH, form=form, timeout=timeout)
        return _result(reply)

    def _add(self, found: Found, series: Any, grid: _Grid, bare: str | None) -> None:
        """Sort one series of an answer in; a place that has a value already means that it is ambiguous."""
        try:
            labels: Mapping[str, str] = series["metric"]
            part, version = labels.get(PART, bare), labels.get(self._source.version_label)
            if part is None:
                raise KeyError(PART)
            if version is None:
                raise SourceError(
                    f"a query gives values without the label {self._source.version_label!r}; "
                    f"let it end in `by ({self._source.version_label})`, or set `source.version_label`",
                    transient=False,
                )
            bound = labels.get("le")
            column = found.column(part, version, None if bound is None else float(bound))
            for epoch, value in series.get("values", ()):
                number = grid.number(epoch)
                if number in column:
                    raise SourceError(
                        f"a query gives more than one value for {version!r} at one time; aggregate it, "
                        f"such as `sum by ({self._source.version_label}) (...)`",
                        transient=False,
                    )
                column[number] = float(value)
            for epoch, histogram in series.get("histograms", ()):
                found.add_native(part, version, grid.number(epoch), histogram)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SourceError(
                f"{_BACKEND} answered something else than series: {error!r}", transient=True
            ) from None

    @staticmethod
    def _put_together(
        question: Question, grid: _Grid, found: Found, versions: Sequence[str]
    ) -> dict[str, list[Sample]]:
        # One object a time: the engine notices.
        times = {number: grid.time(number) for number in range(grid.points)}
        samples: dict[str, list[Sample]] = {version: [] for version in versions}
        for asked in question.asked:
            name, level = asked.name, quantile_of(asked.name)
            for version, of_version in samples.items():
                for number, value, n, le in samples_of(asked, found, version, question.scale, level):
                    if (time := times.get(number)) is not None:
                        of_version.append(Sample(time, name, version, value, n, le))
        return samples


def _result(reply: Reply) -> list[Any]:
    """Return the series of an answer; raises :class:`SourceError` unless all of them are there."""
    if reply.status == 422 and any(sign in reply.body.decode("utf-8", "replace") for sign in _OUT_OF_TIME):
        raise SourceError(f"{_BACKEND} had not enough time for the query (422)", transient=True)
    answer = read_json(reply, _BACKEND)
    try:
        if answer["status"] != "success":
            kind, said = answer.get("errorType", "error"), answer.get("error", "no reason given")
            raise SourceError(f"{_BACKEND} answered {kind}: {said}", transient=kind in _PASSING)
        data = answer["data"]
        warnings = [str(said) for said in answer.get("warnings") or ()]
        if answer.get("isPartial") or data.get("isPartial"):
            warnings.append("the answer is partial")
        result = data["result"]
        if data["resultType"] != "matrix" or not isinstance(result, list):
            raise TypeError(f"a {data['resultType']}")
    except (AttributeError, KeyError, TypeError) as error:
        raise SourceError(f"{_BACKEND} answered JSON of another kind: {error!r}", transient=True) from None
    # Before `infos` had a field of their own, they came as warnings.
    doubts = [said for said in warnings if not said.startswith("PromQL info:")]
    if doubts:
        about_query = all(said.startswith("PromQL warning:") for said in doubts)
        raise SourceError(
            f"{_BACKEND} says that its answer is not whole: {'; '.join(doubts)[:300]}",
            transient=not about_query,
        )
    return result


def _epoch(time: datetime) -> str:
    return f"{time.timestamp():.3f}"
