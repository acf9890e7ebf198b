"""Recorded series: samples in a CSV, JSON Lines or Parquet file, one row a sample.

Columns: ``time`` (ISO 8601 with ``Z`` or an offset), ``metric`` (``metric:slice`` for a slice), ``version``,
``value``, and optionally ``n``, ``le`` and ``judge``; further columns are ignored. An empty value or ``NaN``
is unknown.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from difflib import get_close_matches
from itertools import repeat
from math import isnan, nan
from pathlib import Path
from typing import Any

from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import SeriesError, SourceError
from rollback_budget.model.source import RecordedSource
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import MetricSource, SeriesRequest, SourceConnections

REQUIRED = ("time", "metric", "version", "value")

#: One row with its place, ``file:line``.
_Row = tuple[str, Mapping[str, Any]]


class RecordedSeries(MetricSource):
    """The ``recorded`` source: a file; what replays, tests and the demo use."""

    settings = RecordedSource

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    @classmethod
    async def open(cls, spec: RolloutSpec, connections: SourceConnections) -> RecordedSeries:  # noqa: ARG003
        """Return the file that ``spec`` names; no connection is needed."""
        assert isinstance(spec.source, RecordedSource)
        return cls(spec.source.path)

    async def fetch(self, request: SeriesRequest) -> Sequence[Sample]:
        """Return the samples of ``request``; the file is read anew, since it may still be written."""
        try:
            samples = await asyncio.to_thread(read_series, self._path)
        except SeriesError as error:
            raise SourceError(str(error), transient=False) from error
        versions = {request.release, request.baseline}
        return [
            sample
            for sample in samples
            if sample.series in request.series
            and sample.version in versions
            and request.start < sample.time <= request.end
        ]


def read_series(path: str | Path) -> list[Sample]:
    """Return the samples of a recorded series, in the file's order and each once, with times in UTC.

    :raises SeriesError: ``file:line: what, what to do``.
    """
    path = Path(path)
    read = _READERS.get(path.suffix.lower())
    if read is None:
        known = ", ".join(_READERS)
        raise SeriesError(
            f"{path}: {path.suffix or 'no suffix'} is not a format of recorded series; use {known}"
        )
    samples: dict[tuple[datetime, str, str, float | None], tuple[str, Sample]] = {}
    clock = _Clock()
    try:
        if read is _csv_rows and (plain := _plain_csv(path)):
            return plain
        for place, row in read(path):
            sample = _sample(place, row, clock)
            key = (sample.time, sample.series, sample.version, sample.le)
            first_place, first = samples.setdefault(key, (place, sample))
            if first is not sample and not _same(first, sample):
                raise SeriesError(
                    f"{place}: {sample.series} of {sample.version} at {sample.time.isoformat()} is "
                    f"{_said(sample)} here and {_said(first)} at {first_place}; keep one"
                )
    except FileNotFoundError:
        raise SeriesError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        raise SeriesError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise SeriesError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    if not samples:
        raise SeriesError(f"{path}: no samples in it; write one row a sample under {','.join(REQUIRED)}")
    return [sample for _, sample in samples.values()]


class _Clock:
    """Reads times; rows of one time share one object, which the engine notices."""

    def __init__(self) -> None:
        self._text = object()
        self._time = datetime.min.replace(tzinfo=UTC)

    def read(self, place: str, value: object) -> datetime:
        if value != self._text:
            self._time = _time(place, value)
            self._text = value
        return self._time


def _csv_rows(path: Path) -> Iterator[_Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            _check_columns(f"{path}:1", reader.fieldnames or ())
            for row in reader:
                place = f"{path}:{reader.line_num}"
                if None in row:
                    raise SeriesError(f"{place}: more fields than columns; quote a value with a comma in it")
                yield place, row
        except csv.Error as error:
            raise SeriesError(
                f"{path}:{reader.line_num}: not readable as CSV ({error}); correct this line"
            ) from None


def _plain_csv(path: Path) -> list[Sample] | None:
    """Read a CSV in which nothing is out of the ordinary by whole columns, in half the time.

    None for any other file: reading it row by row says what is wrong, and where.
    """
    text = path.read_bytes().decode("utf-8-sig")
    try:
        header, *rows = filter(None, csv.reader(io.StringIO(text, newline="")))
        texts = dict(zip(header, zip(*rows, strict=True), strict=True))
        time, metric, version, value = (texts[name] for name in REQUIRED)
        n, le, judge = (texts.get(name, ("",) * len(time)) for name in ("n", "le", "judge"))
        # float() would take 1_000 for a number.
        if not all(metric) or not all(version) or "_" in "".join((*value, *n, *le)):
            return None
        moments = {said: _time("", said) for said in set(time)}
        bounds = {said: float(said) if said else None for said in set(le)}
        values = [float(said) if said else nan for said in value]
        numbers = [float(said) if said else None for said in n]
    except (csv.Error, KeyError, ValueError, SeriesError):
        return None
    if any(len(set(known.values())) < len(known) for known in (moments, bounds)):
        return None
    if len(set(zip(time, metric, version, le, strict=True))) < len(time):
        return None
    if not all(number is None or number >= 0.0 for number in numbers):
        return None
    times, limits = map(moments.__getitem__, time), map(bounds.__getitem__, le)
    judges = [said or None for said in judge]
    return list(map(Sample, times, metric, version, values, numbers, limits, repeat(None), judges))


def _json_rows(path: Path) -> Iterator[_Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise SeriesError(f"{place}: not JSON ({error}); write one object a line") from None
            if not isinstance(row, dict):
                raise SeriesError(f"{place}: not a JSON object; write one object a line")
            _check_columns(place, row)
            yield place, row


def _parquet_rows(path: Path) -> Iterator[_Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise SeriesError(
            f"{path}: Parquet needs pyarrow; install rollback-budget[parquet], or save the series as CSV"
        ) from None
    with path.open("rb") as file:
        try:
            table = pyarrow.parquet.ParquetFile(file)
            _check_columns(str(path), table.schema_arrow.names)
            number = 0
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}:row {number}", row
        except pyarrow.ArrowException as error:
            raise SeriesError(f"{path}: not readable as Parquet ({error}); write the file again") from None


_READERS: dict[str, Callable[[Path], Iterator[_Row]]] = {
    ".csv": _csv_rows,
    ".jsonl": _json_rows,
    ".ndjson": _json_rows,
    ".parquet": _parquet_rows,
}


def _check_columns(place: str, found: Sequence[str] | Mapping[str, Any]) -> None:
    for name in REQUIRED:
        if name not in found:
            others = [other for other in found if other not in REQUIRED]
            near = get_close_matches(name, others, n=1)
            what = f"rename {near[0]!r}" if near else f"it has {', '.join(map(repr, found)) or 'no columns'}"
            raise SeriesError(
                f"{place}: the column {name!r} is missing; {what} ({','.join(REQUIRED)} are needed)"
            )


def _sample(place: str, row: Mapping[str, Any], clock: _Clock) -> Sample:
    n = _number(place, "n", row.get("n"))
    if n is not None and n < 0:
        raise SeriesError(f"{place}: n is {n:g}; a number of events is 0 or more, or empty when not known")
    value = _number(place, "value", row["value"])
    return Sample(
        time=clock.read(place, row["time"]),
        series=_name(place, "metric", row["metric"]),
        version=_name(place, "version", row["version"]),
        value=nan if value is None else value,
        n=None if n is None or isnan(n) else n,
        le=_number(place, "le", row.get("le")),
        judge=None if row.get("judge") in (None, "") else _name(place, "judge", row["judge"]),
    )


def _time(place: str, value: object) -> datetime:
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value.strip())
    if not isinstance(value, datetime):
        raise SeriesError(f"{place}: {value!r} is not a time; write ISO 8601, such as 2026-10-01T12:00:00Z")
    if value.tzinfo is None:
        text = value.isoformat()
        raise SeriesError(f"{place}: the time {text} has no time zone; write it as UTC ({text}Z)")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise SeriesError(f"{place}: {value.isoformat()} is out of range; correct this time") from None


def _name(place: str, column: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise SeriesError(f"{place}: {column} is {value!r}; write a name")
    return value


def _number(place: str, column: str, value: object) -> float | None:
    if isinstance(value, str):
        value = value.strip()
    if value is None or value == "":
        return None
    if isinstance(value, str | int | float) and not isinstance(value, bool) and "_" not in str(value):
        with suppress(ValueError, OverflowError):
            return float(value)
    raise SeriesError(f"{place}: {column} is {value!r}, not a number; leave it empty when it is not known")


def _same(first: Sample, second: Sample) -> bool:
    same_value = first.value == second.value or (isnan(first.value) and isnan(second.value))
    return same_value and first.n == second.n and first.judge == second.judge


def _said(sample: Sample) -> str:
    said = f"{sample.value:g}" if sample.n is None else f"{sample.value:g} (n {sample.n:g})"
    return said if sample.judge is None else f"{said} by {sample.judge}"
