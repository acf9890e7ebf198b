"""Evaluation results from a file: CSV, JSON Lines, Parquet, an Inspect AI log, promptfoo's JSON."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rollback_budget.evals.inspect_log import inspect_rows, looks_like_inspect, zipped_inspect_rows
from rollback_budget.evals.promptfoo import looks_like_promptfoo, promptfoo_rows
from rollback_budget.evals.result import CaseResult, Results
from rollback_budget.evals.row import check_columns, read_row
from rollback_budget.exceptions import EvalError
from rollback_budget.model.eval_columns import AS_NAMED, Columns

__all__ = ["FORMATS", "Columns", "read_results"]

#: The names of the formats, as a budget file and the command line say them.
FORMATS = ("csv", "jsonl", "parquet", "inspect", "promptfoo")
_SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".eval": "inspect"}

_Reader = Callable[[Path, bytes, Columns, str | None], Iterator[CaseResult]]


def read_results(
    path: Path,
    *,
    format: str | None = None,  # noqa: A002
    columns: Columns = AS_NAMED,
    release: str | None = None,
) -> Results:
    """Return what an evaluation said, row by row, in the file's order.

    :param format: one of :data:`FORMATS`; None: by the suffix, and JSON by what is in it.
    :param columns: the names of the columns, and what passes.
    :param release: whose results these are where the file itself does not say.
    :raises EvalError: ``file:line: what is wrong, what to do``.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise EvalError(
            f"{path}: there is no such file; run the evaluation first, or check the path"
        ) from None
    except OSError as error:
        raise EvalError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from None
    try:
        cases = tuple(_READERS[_format(path, content, format)](path, content, columns, release))
    except UnicodeDecodeError as error:
        raise EvalError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    if not cases:
        raise EvalError(f"{path}: no results in it; run the evaluation again")
    return Results(origin=str(path), digest=hashlib.sha256(content).hexdigest(), cases=cases)


def _format(path: Path, content: bytes, name: str | None) -> str:
    if name is not None:
        if name in FORMATS:
            return name
        raise EvalError(f"{path}: {name!r} is not a format of results; use {', '.join(FORMATS)}")
    suffix = path.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if suffix == ".json":
        document = _json(path, content)
        if looks_like_inspect(document):
            return "inspect"
        if looks_like_promptfoo(document):
            return "promptfoo"
        raise EvalError(
            f"{path}: neither an Inspect AI log nor promptfoo's JSON; write a table as .csv or .jsonl"
        )
    raise EvalError(
        f"{path}: {suffix or 'no suffix'} does not give the format; name it: {', '.join(FORMATS)}"
    )


def _csv(path: Path, content: bytes, columns: Columns, release: str | None) -> Iterator[CaseResult]:
    reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    try:
        check_columns(f"{path}:1", reader.fieldnames or (), columns, release)
        for row in reader:
            place = f"{path}:{reader.line_num}"
            if None in row:
                raise EvalError(f"{place}: more fields than columns; quote a value with a comma in it")
            yield read_row(place, row, columns, release)
    except csv.Error as error:
        raise EvalError(f"{path}:{reader.line_num}: not readable as CSV ({error}); fix this line") from None


def _jsonl(path: Path, content: bytes, columns: Columns, release: str | None) -> Iterator[CaseResult]:
    names: dict[str, None] = {}
    # Not splitlines(): JSON may hold other line ends unescaped.
    for number, line in enumerate(content.decode("utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise EvalError(f"{place}: not JSON ({error}); write one object a line") from None
        if not isinstance(row, dict):
            raise EvalError(f"{place}: not a JSON object; write one object a line")
        names.update(dict.fromkeys(row))
        yield read_row(place, row, columns, release)
    # A row may leave out what its case has no value for; a column that no row has is a mistake.
    if names:
        check_columns(str(path), names, columns, release)


def _parquet(path: Path, content: bytes, columns: Columns, release: str | None) -> Iterator[CaseResult]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise EvalError(
            f"{path}: Parquet needs pyarrow; install rollback-budget[parquet], or save the results as CSV"
        ) from None
    try:
        table = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content))
        names = list(table.schema_arrow.names)
        check_columns(str(path), names, columns, release)
        wanted = [name for name in names if name in _wanted(columns)]
        number = 0
        for batch in table.iter_batches(columns=wanted):
            for row in batch.to_pylist():
                number += 1
                yield read_row(f"{path}:row {number}", row, columns, release)
    except pyarrow.ArrowException as error:
        raise EvalError(f"{path}: not readable as Parquet ({error}); write the file again") from None


def _inspect(path: Path, content: bytes, columns: Columns, release: str | None) -> Iterator[CaseResult]:
    if content[:2] == b"PK":
        yield from zipped_inspect_rows(path, content, columns, release)
    else:
        yield from inspect_rows(path, _json(path, content), columns, release)


def _promptfoo(path: Path, content: bytes, columns: Columns, release: str | None) -> Iterator[CaseResult]:
    yield from promptfoo_rows(path, _json(path, content), columns, release)


_READERS: Mapping[str, _Reader] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
    "inspect": _inspect,
    "promptfoo": _promptfoo,
}


def _json(path: Path, content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        raise EvalError(f"{path}: not JSON ({error}); write the file again") from None


def _wanted(columns: Columns) -> set[str]:
    return {*columns.needed, columns.score, columns.slice, columns.input_sha256}
