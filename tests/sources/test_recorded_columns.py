"""Files that are read by columns give the same looks as by rows, and what is unusual goes by rows."""

from __future__ import annotations

import csv
from datetime import timedelta
from math import nan
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollback_budget.engine import Frame, Sample, frame_of
from rollback_budget.engine.sample_columns import frame_of_columns
from rollback_budget.model.budget import Comparison
from rollback_budget.model.metric import Metric, MetricKind
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.recorded import read_series
from rollback_budget.sources.recorded_columns import read_columns
from tests.engine.builders import BASELINE, RELEASE, START, at, budget, rollout
from tests.support.examples import examples

pytestmark = pytest.mark.pure

pyarrow = pytest.importorskip("pyarrow")

MINUTES = 20
SPEC = rollout(
    budget(),
    budget("success", Comparison.DELTA_PP, -2.0, area="quality"),
    budget("score", threshold=20.0, area="quality"),
    metrics={
        "success": Metric(kind=MetricKind.PROPORTION, scale=0.01),
        "score": Metric(every=timedelta(minutes=5), lag=timedelta(minutes=10)),
    },
)
HEADER = ("time", "metric", "version", "value", "n")


@st.composite
def recordings(draw: st.DrawFn) -> list[Sample]:
    """Samples of every metric, and of others, in any order, each place once; a phase of their own."""
    phase = draw(st.sampled_from((0.0, 0.0, 0.5)))
    places = st.tuples(
        st.integers(1, MINUTES),
        st.sampled_from(("p95", "success", "score", "cost")),
        st.sampled_from((RELEASE, BASELINE, "model-v40")),
    )
    found = []
    for minute, metric, version in draw(st.lists(places, min_size=1, max_size=80, unique=True)):
        value = draw(st.sampled_from((0.0, 1.5, 70.0, 99.5, nan, float("inf"))))
        n = draw(st.sampled_from((None, 0.0, 12.0)))
        found.append(Sample(at(minute + phase), metric, version, value, n))
    return found


def write_csv(path: Path, samples: list[Sample]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for one in samples:
            value = "" if one.value != one.value else repr(one.value)
            n = "" if one.n is None else repr(one.n)
            writer.writerow((one.time.isoformat(), one.series, one.version, value, n))


def write_parquet(path: Path, samples: list[Sample]) -> None:
    from pyarrow import parquet

    columns = {
        "time": [one.time for one in samples],
        "metric": [one.series for one in samples],
        "version": [one.version for one in samples],
        "value": [one.value for one in samples],
        "n": pyarrow.array([one.n for one in samples], pyarrow.float64()),
    }
    parquet.write_table(pyarrow.table(columns), path)


def told(frame: Frame) -> list[object]:
    """Return all that a frame says, with None for NaN, so that it can be compared."""
    return [
        (
            part.times,
            part.end,
            {
                name: tuple([None if value != value else value for value in column] for column in arms[:4])
                for name, arms in part.arms.items()
            },
        )
        for part in frame.paces
    ]


@pytest.mark.parametrize(("suffix", "write"), [(".csv", write_csv), (".parquet", write_parquet)])
@examples(60)
@given(samples=recordings(), cut=st.integers(1, MINUTES + 1), as_of=st.booleans())
def test_columns_and_rows_give_the_same_looks(
    suffix: str, write: object, samples: list[Sample], cut: int, as_of: bool
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"series{suffix}"
        write(path, samples)  # type: ignore[operator]
        columns = read_columns(path)
        assert columns is not None
        span = {"start": START, "end": at(cut), "as_of": at(MINUTES) if as_of else None}
        by_columns = frame_of_columns(SPEC, columns, **span)
        assert by_columns is not None
        by_rows = frame_of(SPEC, read_series(path), **span)
    assert told(by_columns) == told(by_rows)


def lines(*rows: str) -> str:
    return "\n".join(rows) + "\n"


ROW = "2026-10-01T12:01:00Z,p95,model-v42,2.1,50"


@pytest.mark.parametrize(
    "text",
    [
        lines("time,metric,version,value", "2026-10-01T12:01:00,p95,model-v42,2.1"),
        lines("time,metric,version,value", "2026-10-01T12:01:00Z,p95,model-v42,NA"),
        lines("time,metric,version,value", "2026-10-01T12:01:00Z,,model-v42,2.1"),
        lines("time,metric,version,value,n", "2026-10-01T12:01:00Z,p95,model-v42,2.1,-5"),
        lines("time,metric,version,value,le", "2026-10-01T12:01:00Z,p95,model-v42,2.1,5"),
        lines("time,metric,version,value,judge", "2026-10-01T12:01:00Z,p95,model-v42,2.1,judge-1"),
        lines("time,metric,version", "2026-10-01T12:01:00Z,p95,model-v42"),
        lines("time,metric,version,value", ROW),
        lines("time,metric,version,value"),
        "",
    ],
    ids=[
        "time without a zone",
        "value that is no number",
        "no name",
        "negative n",
        "histogram",
        "judge",
        "column missing",
        "more fields than columns",
        "no row",
        "empty file",
    ],
)
def test_what_is_out_of_the_ordinary_goes_by_rows(tmp_path: Path, text: str) -> None:
    path = tmp_path / "series.csv"
    path.write_text(text, encoding="utf-8")
    assert read_columns(path) is None


@pytest.mark.parametrize(
    ("rows", "spec"),
    [
        (("2026-10-01T12:01:00Z,success,model-v42,170,50",), SPEC),
        ((ROW, ROW), SPEC),
    ],
    ids=["value outside of its domain", "two samples for one place"],
)
def test_what_has_to_be_said_of_a_value_is_said_by_rows(
    tmp_path: Path, rows: tuple[str, ...], spec: RolloutSpec
) -> None:
    path = tmp_path / "series.csv"
    path.write_text(lines(",".join(HEADER), *rows), encoding="utf-8")
    columns = read_columns(path)
    assert columns is not None
    assert frame_of_columns(spec, columns, start=START, end=at(5)) is None


def test_a_file_that_is_not_there_goes_by_rows(tmp_path: Path) -> None:
    assert read_columns(tmp_path / "nothing.csv") is None
    assert read_columns(tmp_path / "nothing.parquet") is None
    assert read_columns(tmp_path / "nothing.jsonl") is None
