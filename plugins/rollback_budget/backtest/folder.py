"""A folder of recorded rollouts: one series file each, and ``labels.csv`` with how they went."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rollback_budget.backtest.recording import Recording
from rollback_budget.engine import Sample
from rollback_budget.engine.sample_columns import SampleColumns
from rollback_budget.exceptions import SeriesError
from rollback_budget.model.label import Label
from rollback_budget.sources.recorded import read_series
from rollback_budget.sources.recorded_columns import read_columns

LABELS = "labels.csv"
SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")

_NEEDED = ("file", "label")
_OPTIONAL = ("onset", "release", "baseline")


@dataclass(frozen=True, slots=True)
class RecordedFile(Recording):
    """A rollout in a file, which is all that there is of it."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def place(self) -> str:
        """The file's path."""
        return str(self.path)

    @property
    def relabel(self) -> str:
        """In the labels beside it."""
        return f"correct it in {LABELS}"

    @property
    def extend(self) -> str:
        """Of the rollout's whole time."""
        return "record the rollout from its beginning to its end"

    @property
    def shorten(self) -> str:
        """To the time of one rollout."""
        return "record no more than its window, from when it was shipped"

    def samples(self) -> list[Sample]:
        """Read the file. Raises SeriesError."""
        return read_series(self.path)

    def columns(self) -> SampleColumns | None:
        """Read the file by columns, if that is possible."""
        return read_columns(self.path)


def recordings_of(folder: Path) -> list[RecordedFile]:
    """Return the recorded rollouts of ``folder`` by name, with what ``labels.csv`` says of them.

    :raises SeriesError: no folder, no series in it, or labels that cannot be used (with their line).
    """
    if not folder.is_dir():
        raise SeriesError(f"{folder}: not a folder; give one with a series file for each recorded rollout")
    paths = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.name != LABELS)
    if not paths:
        raise SeriesError(f"{folder}: no series in it; put one file a rollout there ({', '.join(SUFFIXES)})")
    labels = folder / LABELS
    labelled = _read_labels(labels, {path.name: path for path in paths}) if labels.exists() else {}
    return [labelled.get(path.name, RecordedFile(path)) for path in paths]


def _read_labels(labels: Path, paths: Mapping[str, Path]) -> dict[str, RecordedFile]:
    found: dict[str, RecordedFile] = {}
    try:
        with labels.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            for name in _NEEDED:
                if name not in (reader.fieldnames or ()):
                    columns = ",".join((*_NEEDED, *_OPTIONAL))
                    raise SeriesError(f"{labels}:1: the column {name!r} is missing; columns are {columns}")
            for row in reader:
                place = f"{labels}:{reader.line_num}"
                texts = {name: (row.get(name) or "").strip() for name in (*_NEEDED, *_OPTIONAL)}
                if texts["file"] not in paths:
                    raise SeriesError(f"{place}: there is no {texts['file']!r} in the folder; fix the name")
                if texts["file"] in found:
                    raise SeriesError(f"{place}: {texts['file']!r} is labelled twice; keep one line")
                found[texts["file"]] = _recording(place, paths[texts["file"]], texts)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SeriesError(f"{labels}: cannot be read ({error}); save it as CSV in UTF-8") from error
    return found


def _recording(place: str, path: Path, texts: Mapping[str, str]) -> RecordedFile:
    if texts["label"] not in list(Label):
        raise SeriesError(f"{place}: {texts['label']!r} is no label; write good or bad")
    label = Label(texts["label"])
    onset = _onset(place, texts["onset"]) if texts["onset"] else None
    if onset is not None and label is Label.GOOD:
        raise SeriesError(f"{place}: a good rollout has no onset; leave it empty")
    return RecordedFile(
        path,
        label=label,
        onset=onset,
        release=texts["release"] or None,
        baseline=texts["baseline"] or None,
    )


def _onset(place: str, text: str) -> datetime:
    try:
        onset = datetime.fromisoformat(text)
    except ValueError:
        onset = None
    if onset is None or onset.tzinfo is None:
        raise SeriesError(
            f"{place}: {text!r} is not a time in UTC; write it as 2026-10-01T12:00:00Z"
        ) from None
    try:
        return onset.astimezone(UTC)
    except OverflowError:
        raise SeriesError(
            f"{place}: {text!r} is before year 1 or after year 9999 in UTC; check the year"
        ) from None
