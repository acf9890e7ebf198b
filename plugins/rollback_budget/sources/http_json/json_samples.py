"""From a JSON answer to samples: JMESPath finds the points, and every value is held to what it must be."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from math import isfinite, nan
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SourceError
from rollback_budget.model.json_api import JsonRequest, JsonSeries
from rollback_budget.sources.base import SeriesRequest

_LONGEST_QUOTE = 120


class PointReader:
    """Reads the answers of one :class:`JsonRequest`.

    :param place: how messages name the request, such as ``source.requests[0]``.
    """

    def __init__(self, json_request: JsonRequest, place: str) -> None:
        self.json_request = json_request
        self.place = place
        self._paths: dict[str, Any] = {}

    def samples(self, document: Any, request: SeriesRequest, version: str | None) -> list[Sample]:
        """Return the samples of ``document`` that lie in ``request``.

        :param version: whose points these are, where the points do not say it.
        :raises SourceError: not transient, for what does not look as the budget file says.
        """
        found = []
        for time, whose, point in self.points(document, request, version):
            for series, where in self._series(point):
                if series in request.series:
                    found.append(self._sample(time, series, whose, where, point))
        return found

    def points(
        self, document: Any, request: SeriesRequest, version: str | None
    ) -> Iterator[tuple[datetime, str, Any]]:
        """Yield the points of ``document`` that lie in ``request``, with the end of their bucket and version.

        :raises SourceError: see :meth:`samples`.
        """
        json_request = self.json_request
        points = self._find(json_request.points, document)
        if not isinstance(points, list):
            raise self._wrong(
                f"points ({json_request.points}) must give a list, and gave {_quote(points)}", document
            )
        if json_request.full_at is not None and len(points) >= json_request.full_at:
            raise SourceError(
                f"{self.place}: the answer is full ({len(points)} points): some are missing; "
                "ask for a shorter range or raise the backend's limit",
                transient=False,
            )
        versions = {request.release, request.baseline}
        for point in points:
            whose = version if json_request.version is None else self.name(json_request.version, point)
            if whose not in versions:
                continue
            time = self._time(point)
            if json_request.label == "start":
                time += request.step
            if request.start < time <= request.end:
                yield time, str(whose), point

    def _series(self, point: Any) -> Iterator[tuple[str, JsonSeries]]:
        if self.json_request.metric is None:
            yield from self.json_request.series.items()
        elif self.json_request.each is not None:
            name = self.name(self.json_request.metric, point)
            if name is not None:
                yield name, self.json_request.each

    def _sample(self, time: datetime, series: str, version: str, where: JsonSeries, point: Any) -> Sample:
        value = self.number(where.value, point)
        if where.divided_by is not None:
            divisor = self.number(where.divided_by, point)
            value = value / divisor if divisor else nan
        n = None if where.n is None else self.number(where.n, point)
        le = None if where.le is None else self.number(where.le, point)
        judge = None if where.judge is None else self.name(where.judge, point)
        known = n if n is None or n == n else None
        return Sample(time, series, version, value * where.scale, known, le, judge=judge)

    def number(self, path: str, point: Any) -> float:
        """Return the number at ``path``, NaN for none; raises :class:`SourceError`."""
        said = self._find(path, point)
        if said is None:
            return nan
        if isinstance(said, bool) or not isinstance(said, int | float | str):
            raise self._wrong(f"{path} must give a number, and gave {_quote(said)}", point)
        try:
            return float(said)
        except ValueError:
            raise self._wrong(f"{path} must give a number, and gave {_quote(said)}", point) from None

    def name(self, path: str, point: Any) -> str | None:
        """Return the name at ``path``; raises :class:`SourceError`."""
        said = self._find(path, point)
        if isinstance(said, dict | list | bool):
            raise self._wrong(f"{path} must give a name, and gave {_quote(said)}", point)
        return None if said is None else str(said)

    def _time(self, point: Any) -> datetime:
        said = self._find(self.json_request.time, point)
        try:
            return read_time(said, self.json_request.time_format)
        except ValueError as error:
            raise self._wrong(
                f"time ({self.json_request.time}) must be {error}, and is {_quote(said)}", point
            ) from None

    def _find(self, path: str, document: Any) -> Any:
        compiled = self._paths.get(path)
        try:
            if compiled is None:
                compiled = self._paths[path] = jmespath.compile(path)
            return compiled.search(document)
        except JMESPathError as error:
            raise self._wrong(f"JMESPath {path} cannot be used: {error}", document) from error

    def _wrong(self, what: str, document: Any) -> SourceError:
        return SourceError(f"{self.place}: {what}, in {_quote(document)}", transient=False)


def read_time(said: Any, format_: str) -> datetime:
    """Return a time in UTC; raises ValueError that says what it must be."""
    if format_ in ("iso", "iso_utc"):
        time = _iso(said)
        if time is not None and (time.tzinfo is not None or format_ == "iso_utc"):
            return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
        raise ValueError("ISO 8601 with Z or an offset" if format_ == "iso" else "ISO 8601")
    factor, unit = (1.0, "seconds") if format_ == "epoch_s" else (1000.0, "milliseconds")
    if isinstance(said, int | float | str) and not isinstance(said, bool):
        try:
            since = float(said)
            if isfinite(since):
                return datetime.fromtimestamp(since / factor, UTC)
        except (ValueError, OverflowError, OSError):
            pass
    raise ValueError(f"{unit} since 1970")


def _iso(said: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(said) if isinstance(said, str) else None
    except ValueError:
        return None


def _quote(said: Any) -> str:
    shown = repr(said)
    return shown if len(shown) <= _LONGEST_QUOTE else f"{shown[:_LONGEST_QUOTE]}..."
