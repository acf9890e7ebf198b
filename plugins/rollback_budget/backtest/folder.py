"""A folder of recorded rollouts: one series file each, and ``labels.csv`` with how they went."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from rollback_budget.exceptions import SeriesError

LABELS = "labels.csv"
SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")

_NEEDED = ("file", "label")
_OPTIONAL = ("onset", "release", "baseline")


class Label(StrEnum):
    """How a rollout went: a bad one should have been stopped."""

    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded rollout.

    :param label: None for an unlabelled rollout.
    :param onset: when a bad one went bad, in UTC; None when not known.
    :param release: the version that was rolled out, when it is not the one that the budget names.
    :param baseline: likewise.
    """

    path: Path
    label: Label | None = None
    onset: datetime | None = None
    release: str | None = None
    baseline: str | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name


def recordings_of(folder: Path) -> list[Recording]:
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
    return [labelled.get(path.name, Recording(path)) for path in paths]


def _read_labels(labels: Path, paths: Mapping[str, Path]) -> dict[str, Recording]:
    found: dict[str, Recording] = {}
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


def _recording(place: str, path: Path, texts: Mapping[str, str]) -> Recording:
    if texts["label"] not in list(Label):
        raise SeriesError(f"{place}: {texts['label']!r} is no label; write good or bad")
    label = Label(texts["label"])
    onset = _onset(place, texts["onset"]) if texts["onset"] else None
    if onset is not None and label is Label.GOOD:
        raise SeriesError(f"{place}: a good rollout has no onset; leave it empty")
    return Recording(path, label, onset, texts["release"] or None, texts["baseline"] or None)


def _onset(place: str, text: str) -> datetime:
    try:
        onset = datetime.fromisoformat(text)
    except ValueError:
        onset = None
    if onset is None or onset.tzinfo is None:
        raise SeriesError(
            f"{place}: {text!r} is not a time in UTC; write it as 2026-10-01T12:00:00Z"
        ) from None
    return onset.astimezone(UTC)
