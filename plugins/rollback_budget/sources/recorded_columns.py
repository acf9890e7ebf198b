"""Recorded series read by columns with pyarrow, where nothing about a file is out of the ordinary."""

from __future__ import annotations

from math import nan
from pathlib import Path
from typing import Any

from rollback_budget.engine.sample_columns import SampleColumns

_NEEDED = ("time", "metric", "version", "value")
#: Columns that samples by columns have no place for: they must be empty.
_EMPTY = ("le", "judge")


def read_columns(path: Path) -> SampleColumns | None:
    """Return the samples of a CSV or Parquet file.

    :return: None where pyarrow is not installed, and for a file in which anything is out of the ordinary:
        :func:`~rollback_budget.sources.recorded.read_series` reads it, or says what is wrong and where.
    """
    read = {".csv": _read_csv, ".parquet": _read_parquet}.get(path.suffix.lower())
    if read is None:
        return None
    try:
        import numpy
        import pyarrow
    except ImportError:
        return None
    try:
        table = read(path)
        if table is None or not table.num_rows:
            return None
        time = _array(table["time"], pyarrow.timestamp("us", "UTC")).view(pyarrow.int64())
        value, n = (_numbers(table, name) for name in ("value", "n"))
        (series, series_names), (version, version_names) = (
            _encoded(table[name].combine_chunks()) for name in ("metric", "version")
        )
    except (OSError, KeyError, pyarrow.ArrowException):
        return None
    if not all(series_names) or not all(version_names) or (n < 0.0).any():
        return None
    times = numpy.from_dlpack(time).astype(numpy.int64, copy=False)
    return SampleColumns(times, series, version, value, n, series_names, version_names)


def _array(column: Any, wanted: Any) -> Any:
    """Return a column as one array of the wanted type."""
    return (column if column.type == wanted else column.cast(wanted)).combine_chunks()


def _numbers(table: Any, name: str) -> Any:
    """Return a column of numbers, NaN for what is missing in it, or for all of it.

    By ``from_dlpack``: ``to_numpy`` imports pandas, where that is installed, which takes seconds.
    """
    import numpy
    import pyarrow

    if name not in table.column_names:
        return numpy.full(table.num_rows, nan)
    column = _array(table[name], pyarrow.float64())
    return numpy.from_dlpack(column.fill_null(nan) if column.null_count else column)


def _encoded(column: Any) -> tuple[Any, list[str]]:
    """Return the places of the names in the dictionary, and the names; raises KeyError for a missing one."""
    import numpy
    import pyarrow

    if not pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    if column.null_count:
        raise KeyError
    return numpy.from_dlpack(column.indices), column.dictionary.to_pylist()


def _read_csv(path: Path) -> Any:
    import pyarrow
    from pyarrow import csv

    with path.open("rb") as file:
        header = file.readline().decode("utf-8-sig").strip().split(",")
    if len(set(header)) < len(header):
        return None
    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    types = {
        "time": pyarrow.timestamp("us", "UTC"),
        "metric": text,
        "version": text,
        "value": pyarrow.float64(),
        "n": pyarrow.float64(),
        "le": pyarrow.float64(),
        "judge": pyarrow.string(),
    }
    options = csv.ConvertOptions(
        column_types=types,
        include_columns=[name for name in types if name in header or name in _NEEDED],
        # What else stands for "nothing" elsewhere is an error here.
        null_values=[""],
        strings_can_be_null=True,
    )
    reading = csv.ReadOptions(use_threads=False, block_size=1 << 24)
    table = csv.read_csv(path, read_options=reading, convert_options=options)
    return _checked(table.unify_dictionaries())


def _read_parquet(path: Path) -> Any:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        found = [name for name in (*_NEEDED, "n", *_EMPTY) if name in names]
        return _checked(file.read(columns=found, use_threads=False))


def _checked(table: Any) -> Any:
    """Return the table.

    :raises ArrowException: times without a zone, or what samples by columns have no place for.
    """
    import pyarrow

    if any(table[name].null_count < table.num_rows for name in _EMPTY if name in table.column_names):
        raise pyarrow.ArrowInvalid("histograms, or judges")
    if not pyarrow.types.is_timestamp(table.schema.field("time").type) or table["time"].null_count:
        raise pyarrow.ArrowInvalid("time")
    if table.schema.field("time").type.tz is None:
        raise pyarrow.ArrowInvalid("time zone")
    return table
