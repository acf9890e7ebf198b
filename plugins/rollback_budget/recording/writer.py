"""Writing recorded series: CSV or Parquet, by the suffix, with every digit of a number."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from math import isnan
from pathlib import Path
from typing import Any

from rollback_budget.engine.sample import Sample
from rollback_budget.exceptions import RecordingError

COLUMNS = ("time", "metric", "version", "value", "n", "le", "judge")
#: Samples in one row group of Parquet, wherever pages were cut.
ROWS = 100_000


def check_format(file: Path) -> None:
    """Refuse a file that could not be written; raises :class:`RecordingError`."""
    if file.suffix.lower() not in _WRITERS:
        raise RecordingError(
            f"{file}: {file.suffix or 'no suffix'} is not a format of recordings; use {' or '.join(_WRITERS)}"
        )
    if file.suffix.lower() == ".parquet":
        _pyarrow(file)


def write_series(file: Path, pages: Iterable[Iterable[Sample]]) -> None:
    """Write the samples of ``pages``, which come in order; raises OSError, :class:`RecordingError`."""
    _WRITERS[file.suffix.lower()](file, chain.from_iterable(pages))


def _write_csv(file: Path, samples: Iterator[Sample]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(
            (
                sample.time.isoformat().replace("+00:00", "Z"),
                sample.series,
                sample.version,
                "" if isnan(sample.value) else repr(sample.value),
                "" if sample.n is None else repr(sample.n),
                "" if sample.le is None else repr(sample.le),
                sample.judge or "",
            )
            for sample in samples
        )


def _write_parquet(file: Path, samples: Iterator[Sample]) -> None:
    pa = _pyarrow(file)
    schema = pa.schema(
        [
            pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
            pa.field("metric", pa.string(), nullable=False),
            pa.field("version", pa.string(), nullable=False),
            pa.field("value", pa.float64()),
            pa.field("n", pa.float64()),
            pa.field("le", pa.float64()),
            pa.field("judge", pa.string()),
        ]
    )
    with pa.parquet.ParquetWriter(file, schema) as writer:
        while rows := list(islice(samples, ROWS)):
            columns = [
                [sample.time for sample in rows],
                [sample.series for sample in rows],
                [sample.version for sample in rows],
                [None if isnan(sample.value) else sample.value for sample in rows],
                [sample.n for sample in rows],
                [sample.le for sample in rows],
                [sample.judge for sample in rows],
            ]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _pyarrow(file: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise RecordingError(
            f"{file}: Parquet needs pyarrow; install rollback-budget[parquet], or record into a .csv"
        ) from None
    return pyarrow


_WRITERS: dict[str, Callable[[Path, Iterator[Sample]], None]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}
