"""Recorded series: what is read, and what is refused at which line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from math import inf, isnan
from pathlib import Path

import pytest

from rollback_budget.engine import Sample
from rollback_budget.exceptions import SeriesError, SourceError
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.recorded import RecordedSeries, read_series

pytestmark = pytest.mark.pure

NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)
HEADER = "time,metric,version,value,n,le\n"


def write(folder: Path, text: str, name: str = "series.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_is_read_in_any_order_with_offsets_unknown_values_and_extra_columns(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "\ufeffversion,metric,time,region,value,le,n\n"
        'v42,"p95:de, at",2026-10-01T14:01:00+02:00,eu,2.10,,194\n'
        "v41,p95,2026-10-01T12:00:00Z,eu,,+Inf,\n"
        "v41,p95,2026-10-01T12:00:00.000000Z,eu, NaN ,inf,\n"
        "'; DROP TABLE--,{{ x }},20261001T120000Z,eu,1e3,0.5,0\n",
    )
    german, unknown, strange = read_series(path)
    assert german == Sample(NOON + timedelta(minutes=1), "p95:de, at", "v42", 2.1, 194.0, None)
    assert (unknown.time, unknown.n, unknown.le) == (NOON, None, inf)
    assert isnan(unknown.value)
    assert strange == Sample(NOON, "{{ x }}", "'; DROP TABLE--", 1000.0, 0.0, 0.5)


def test_json_lines_and_parquet_say_the_same_as_csv(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    csv = write(
        tmp_path, HEADER + "2026-10-01T12:00:00Z,p95,v42,2.1,194,\n2026-10-01T12:01:00Z,p95,v42,3,,\n"
    )
    lines = write(
        tmp_path,
        '{"time": "2026-10-01T12:00:00Z", "metric": "p95", "version": "v42", "value": 2.1, "n": 194}\n\n'
        '{"time": "2026-10-01T12:01:00Z", "metric": "p95", "version": "v42", "value": 3, "n": null}\n',
        "series.jsonl",
    )
    columns = {
        "time": [NOON, NOON + timedelta(minutes=1)],
        "metric": ["p95", "p95"],
        "version": ["v42", "v42"],
        "value": [2.1, 3.0],
        "n": [194, None],
    }
    parquet = tmp_path / "series.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), parquet)
    assert read_series(csv) == read_series(lines) == read_series(parquet)


def test_a_judge_is_read_from_every_kind_of_file(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [
        ("2026-10-01T12:00:00Z", "h", "v42", 0.9, "judge 7"),
        ("2026-10-01T13:00:00Z", "h", "v42", 0.8, None),
    ]
    names = ("time", "metric", "version", "value", "judge")
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
    plain = write(tmp_path, "\n".join([",".join(names), *lines]) + "\n")
    # A row that is there twice is looked at row by row.
    other = write(tmp_path, f"{plain.read_text()}{lines[0]}\n", "twice.csv")
    objects = [dict(zip(names, row, strict=True)) for row in rows]
    jsonl = write(tmp_path, "\n".join(json.dumps(each) for each in objects), "series.jsonl")
    parquet = tmp_path / "series.parquet"
    table = {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    pyarrow.parquet.write_table(pyarrow.table(table), parquet)
    for path in (plain, other, jsonl, parquet):
        assert [sample.judge for sample in read_series(path)] == ["judge 7", None]


ROW = "2026-10-01T12:00:00Z,p95,v42,2.1,194,\n"

REFUSED = {
    "naive time": (HEADER + ROW + "2026-10-01T12:01:00,p95,v42,2,1,\n", r"csv:3: .*no time zone.*00Z"),
    "not a time": (HEADER + "noon,p95,v42,2,1,\n", r"csv:2: 'noon' is not a time"),
    "time out of range": (HEADER + "0001-01-01T00:00:00+02:00,p95,v42,2,1,\n", r"csv:2: .*out of range"),
    "not a number": (HEADER + ROW + 'x,p95,v42,"1,5",1,\n', r"csv:3: value is '1,5', not a number"),
    "grouped number": (HEADER + "2026-10-01T12:00:00Z,p95,v42,1_000,1,\n", r"csv:2: value is '1_000'"),
    "decimal comma": (HEADER + "2026-10-01T12:00:00Z,p95,v42,2,1,,5\n", r"csv:2: more fields than columns"),
    "negative n": (HEADER + "2026-10-01T12:00:00Z,p95,v42,2,-1,\n", r"csv:2: n is -1; .*0 or more"),
    "no metric": (HEADER + "2026-10-01T12:00:00Z,,v42,2,1,\n", r"csv:2: metric is ''; write a name"),
    "cut off": (HEADER + "2026-10-01T12:00:00Z,p95\n", r"csv:2: version is None; write a name"),
    "conflict": (
        HEADER + ROW + ROW + ROW.replace("2.1", "2.2"),
        r"csv:4: p95 of v42 at .*2\.1 \(n 194\) at .*csv:2",
    ),
    "conflicting n": (HEADER + ROW + ROW.replace("194", ""), r"csv:3: .* is 2\.1 here and 2\.1 \(n 194\)"),
    "misnamed column": (
        "timestamp,metric,version,value\n",
        r"csv:1: the column 'time' is missing; rename 'timestamp'",
    ),
    "missing column": (
        "time,metric,value\n",
        r"csv:1: the column 'version' is missing; it has 'time', 'metric'",
    ),
    "empty file": ("", r"csv:1: the column 'time' is missing; it has no columns"),
    "no rows": (HEADER, r"series\.csv: no samples"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_series_that_cannot_be_trusted_is_refused_at_its_line(tmp_path: Path, case: str) -> None:
    text, message = REFUSED[case]
    with pytest.raises(SeriesError, match=message):
        read_series(write(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("series.csv", b"time,metric,version,value\n\xff\xfe", "not UTF-8 at byte"),
        ("series.jsonl", b'{"time": 1\n', r"jsonl:1: not JSON"),
        ("series.jsonl", b"[1]\n", r"jsonl:1: not a JSON object"),
        (
            "series.ndjson",
            b'{"time": "2026-10-01T12:00:00Z", "metric": "p95", "value": 1}',
            "'version' is missing",
        ),
        ("series.parquet", b"PAR1", "not readable as Parquet"),
        ("series.txt", b"", r"\.txt is not a format of recorded series; use \.csv"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SeriesError, match=message):
        read_series(path)


async def test_the_source_answers_a_request_and_nothing_more(tmp_path: Path) -> None:
    rows = [
        f"2026-10-01T12:{minute:02}:00Z,{metric},{version},{minute},,\n"
        for minute in range(5)
        for metric in ("p95", "p50")
        for version in ("v40", "v41", "v42")
    ]
    source = RecordedSeries(write(tmp_path, HEADER + "".join(rows)))
    minute = timedelta(minutes=1)
    request = SeriesRequest(("p95",), "v42", "v41", NOON + minute, NOON + 3 * minute, minute)
    found = await source.fetch(request)
    assert sorted((sample.version, sample.value) for sample in found) == [
        ("v41", 2.0),
        ("v41", 3.0),
        ("v42", 2.0),
        ("v42", 3.0),
    ]
    with pytest.raises(SourceError, match="no such file") as caught:
        await RecordedSeries(tmp_path / "gone.csv").fetch(request)
    assert not caught.value.transient


def test_a_plain_csv_is_read_as_one_that_must_be_read_row_by_row(tmp_path: Path) -> None:
    rows = (
        ROW
        + "2026-10-01T12:00:00Z,p95,v41,,,\n"
        + "2026-10-01T12:00:00Z,p95,v41,12,,0.5\n"
        + "2026-10-01T12:00:00Z,p95,v41,14,,+Inf\n"
    )
    plain = read_series(write(tmp_path, HEADER + rows))
    by_row = read_series(write(tmp_path, HEADER + rows + ROW))
    assert repr(plain) == repr(by_row)
    assert [sample.le for sample in plain] == [None, None, 0.5, inf]
    # The same time, spelled otherwise, is the same place.
    for other in (ROW.replace("00Z", "00+00:00"), ROW.replace(",194,", ",194.0,")):
        assert repr(read_series(write(tmp_path, HEADER + rows + other))) == repr(plain)
