"""An Inspect AI log, as JSON or as the zip file ``.eval``; read by its documented format, without Inspect."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rollback_budget.evals.result import CaseResult
from rollback_budget.evals.row import read_number
from rollback_budget.exceptions import EvalError
from rollback_budget.model.eval_columns import Columns

#: What Inspect's scorers write in place of a number: correct, incorrect, partly, no answer.
_GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_ZSTANDARD = 93


def looks_like_inspect(document: object) -> bool:
    """Whether a JSON document is an Inspect log."""
    return isinstance(document, dict) and isinstance(document.get("eval"), dict) and "status" in document


def inspect_rows(path: Path, log: Any, columns: Columns, release: str | None) -> Iterator[CaseResult]:
    """Yield the samples of a log that was written as JSON; raises EvalError."""
    if not looks_like_inspect(log):
        raise EvalError(f"{path}: not an Inspect AI log; give the file that `inspect eval` wrote to its logs")
    samples = log.get("samples")
    if not isinstance(samples, list):
        raise EvalError(f"{path}: a log without samples; run `inspect eval` without --no-log-samples")
    yield from _samples(path, log, enumerate(samples, 1), columns, release)


def zipped_inspect_rows(
    path: Path, content: bytes, columns: Columns, release: str | None
) -> Iterator[CaseResult]:
    """Yield the samples of an ``.eval`` file; raises EvalError."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if any(member.compress_type == _ZSTANDARD for member in archive.infolist()):
                _register_zstandard(path)
            names = archive.namelist()
            if "header.json" not in names:
                raise EvalError(f"{path}: the evaluation did not finish; run it to its end")
            header = json.loads(archive.read("header.json"))
            if not looks_like_inspect(header):
                raise EvalError(f"{path}: header.json is not an Inspect AI log's; run the evaluation again")
            samples = sorted(name for name in names if name.startswith("samples/") and name.endswith(".json"))
            read = ((name, json.loads(archive.read(name))) for name in samples)
            yield from _samples(path, header, read, columns, release)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, EOFError) as error:
        raise EvalError(
            f"{path}: not readable as an .eval file ({error}); copy it again, or convert it with "
            "`inspect log convert --to json`"
        ) from None


def _register_zstandard(path: Path) -> None:
    """Register the compression of newer versions of Inspect with Python's zip reader."""
    if hasattr(zipfile, "ZIP_ZSTANDARD"):
        return
    try:
        import zipfile_zstd  # noqa: F401
    except ImportError:
        raise EvalError(
            f"{path}: compressed with Zstandard; install rollback-budget[inspect], or convert it with "
            "`inspect log convert --to json`"
        ) from None


def _samples(
    path: Path,
    log: Mapping[str, Any],
    samples: Iterable[tuple[int | str, Any]],
    columns: Columns,
    release: str | None,
) -> Iterator[CaseResult]:
    status = log.get("status")
    if status != "success":
        raise EvalError(f"{path}: the evaluation ended with status {status!r}; run it to its end")
    evaluated = log["eval"]
    log_release = (evaluated.get("metadata") or {}).get("release") or (evaluated.get("task_args") or {}).get(
        "release"
    )
    for number, sample in samples:
        place = f"{path}: sample {number}"
        if not isinstance(sample, dict) or sample.get("id") is None:
            raise EvalError(f"{place}: has no id; run the evaluation again")
        metadata = sample.get("metadata") or {}
        sample_release = metadata.get("release") or log_release or release
        if sample_release is None:
            raise EvalError(
                f"{path}: does not say which release answered; run `inspect eval --metadata release=...`, "
                "or name the release"
            )
        score = _score(place, sample, columns)
        passed = None if score is None else score >= _pass_mark(columns)
        yield CaseResult(
            case_id=str(metadata.get("case_id") or sample["id"]),
            release=str(sample_release),
            passed=passed,
            score=score,
            slice=None if metadata.get("slice") is None else str(metadata["slice"]),
            input_sha256=metadata.get("input_sha256"),
            numbers={name: read_number(place, name, metadata.get(name)) for name in columns.numbers},
        )


def _pass_mark(columns: Columns) -> float:
    return 1.0 if columns.pass_mark is None else columns.pass_mark


def _score(place: str, sample: Mapping[str, Any], columns: Columns) -> float | None:
    """Return the worst of the scores that decide; None when the sample crashed or one is missing."""
    scores = sample.get("scores") or {}
    if sample.get("error") is not None or not scores:
        return None
    if columns.scorer is not None:
        if columns.scorer not in scores:
            raise EvalError(f"{place}: no scorer {columns.scorer!r}; it has {', '.join(map(repr, scores))}")
        scores = {columns.scorer: scores[columns.scorer]}
    values = [_value(score.get("value") if isinstance(score, dict) else None) for score in scores.values()]
    return None if None in values else min(value for value in values if value is not None)


def _value(value: object) -> float | None:
    """Read one score as Inspect does, but nothing that is not known as a failure or a success."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, dict):
        values = [_value(part) for part in value.values()]
        return None if not values or None in values else min(part for part in values if part is not None)
    if isinstance(value, str):
        if value in _GRADES:
            return _GRADES[value]
        if value.lower() in _WORDS:
            return _WORDS[value.lower()]
    try:
        return read_number("", "", value)
    except EvalError:
        return None
