"""A wrong value is unknown with the same reason, whichever source it comes through."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from math import inf
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import create_engine, text

from rollback_budget.engine import Sample, VerdictKind, evaluate
from rollback_budget.exceptions import SeriesError
from rollback_budget.model.budget import Budget
from rollback_budget.model.json_api import JsonRequest, JsonSeries
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.http_json.json_samples import PointReader
from rollback_budget.sources.http_json.source import JsonApi
from rollback_budget.sources.recorded import read_series
from rollback_budget.sources.sql.source import SqlSeries
from rollback_budget.transport.async_client import AiohttpClient
from tests.engine.builders import BASELINE, RELEASE, START, at, rollout
from tests.engine.test_invalid_values import CASES, METRICS, MINUTES
from tests.support.http_server import Answer, running_http_server

pytestmark = [pytest.mark.database, pytest.mark.service]

NAMES = ("time", "metric", "version", "value", "n", "le")
Through = Callable[[Sequence[Sample], Path], Sequence[Sample]]


def rows(samples: Sequence[Sample]) -> list[tuple[object, ...]]:
    return [(s.time, s.series, s.version, s.value, s.n, s.le) for s in samples]


def request(samples: Sequence[Sample]) -> SeriesRequest:
    series = tuple({sample.series for sample in samples})
    return SeriesRequest(series, RELEASE, BASELINE, START, at(MINUTES), timedelta(minutes=1))


def recorded(samples: Sequence[Sample], folder: Path) -> Sequence[Sample]:
    path = folder / "samples.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(NAMES)
        for time, series, version, value, n, le in rows(samples):
            end = "+Inf" if le == inf else "" if le is None else le
            table.writerow((time.isoformat(), series, version, value, "" if n is None else n, end))  # type: ignore[attr-defined]
    return read_series(path)


def sql(samples: Sequence[Sample], folder: Path) -> Sequence[Sample]:
    engine = create_engine(f"sqlite:///{folder / 'samples.db'}")
    table = "CREATE TABLE samples (epoch REAL, metric TEXT, version TEXT, value REAL, n REAL, le REAL)"
    with engine.begin() as connection:
        connection.execute(text(table))
        connection.execute(
            text("INSERT INTO samples VALUES (:time, :metric, :version, :value, :n, :le)"),
            [
                dict(zip(NAMES, (s.time.timestamp(), *row[1:]), strict=True))
                for s, row in zip(samples, rows(samples), strict=True)
            ],
        )
    query = (
        "SELECT epoch AS time, metric, version, value, n, le FROM samples "
        "WHERE epoch > :start_epoch AND epoch <= :end_epoch"
    )
    return asyncio.run(SqlSeries(engine, {}, query).fetch(request(samples)))


def http_json(samples: Sequence[Sample], _folder: Path) -> Sequence[Sample]:
    points = [
        dict(
            zip(
                NAMES,
                (s.time.isoformat(), s.series, s.version, s.value, s.n, "+Inf" if s.le == inf else s.le),
                strict=True,
            )
        )
        for s in samples
    ]
    bounded = any(sample.le is not None for sample in samples)
    each = JsonSeries(value="value", n="n", le="le" if bounded else None)
    asked = JsonRequest(path="/points", points="data", version="version", metric="metric", each=each)

    async def fetch(url: str) -> Sequence[Sample]:
        async with aiohttp.ClientSession() as session:

            async def open_session() -> aiohttp.ClientSession:
                return session

            readers = [PointReader(asked, "source.requests[0]")]
            api = JsonApi(readers, AiohttpClient(open_session, url), timedelta(seconds=10))
            return await api.fetch(request(samples))

    with running_http_server(Answer(body=json.dumps({"data": points}).encode())) as server:
        return asyncio.run(fetch(server.url))


@pytest.mark.parametrize("through", [recorded, sql, http_json])
@pytest.mark.parametrize(("line", "samples", "reason"), CASES)
def test_it_is_unknown_with_the_same_reason(
    through: Through, line: Budget, samples: list[Sample], reason: str, tmp_path: Path
) -> None:
    if through is recorded and "n = -5" in reason:
        # A file is refused as a whole, with the place.
        with pytest.raises(SeriesError, match="-5"):
            through(samples, tmp_path)
        return
    found = evaluate(rollout(line, metrics=METRICS), through(samples, tmp_path), start=START)
    assert found.verdict is VerdictKind.BLIND
    assert reason in found.sentence
