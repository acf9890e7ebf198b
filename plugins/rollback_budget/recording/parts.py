"""Recordings on their way to a file: pages beside it, until it is whole."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import msgspec

from rollback_budget.exceptions import RecordingError
from rollback_budget.files import replace_bytes
from rollback_budget.recording.page import Page
from rollback_budget.recording.plan import RecordingPlan
from rollback_budget.recording.writer import write_series
from rollback_budget.sources.recorded import read_series

_STATE = "recording.json"
_LOCK = "lock"


@dataclass(frozen=True)
class Asked:
    """The range as the command was given it: ``-24h`` and ``now`` mean the same when they are given again."""

    start: str
    end: str


@dataclass(frozen=True)
class _State:
    """What the pages belong to.

    :param is_written: whether the whole file was written, to be moved to its name.
    """

    asked: Asked
    plan: RecordingPlan
    is_written: bool = False
    version: int = field(default=1)


class RecordingInParts:
    """A recording whose pages lie in ``FILE.part/`` until all are there.

    A page is there whole or not at all, so that a process may be killed at any moment: the next one goes on
    with the page that is missing.

    :param file: what it becomes.
    """

    def __init__(self, file: Path, state: _State, pages: list[Path], done_until: datetime) -> None:
        self.file = file
        self._state = state
        self._pages = pages
        self._done_until = done_until

    @property
    def plan(self) -> RecordingPlan:
        """What is recorded."""
        return self._state.plan

    @property
    def done_until(self) -> datetime:
        """Up to where pages are in."""
        return self._done_until

    @property
    def folder(self) -> Path:
        """Where the pages lie."""
        return folder_of(self.file)

    @property
    def _whole(self) -> Path:
        return self.folder / f"whole{self.file.suffix.lower()}"

    @property
    def is_empty(self) -> bool:
        """Whether no page is in."""
        return not self._pages

    @property
    def is_complete(self) -> bool:
        """Whether every page is in."""
        return self._done_until >= self.plan.end

    @classmethod
    def begin(cls, file: Path, asked: Asked, plan: RecordingPlan) -> RecordingInParts:
        """Begin a new one; raises :class:`RecordingError`."""
        state = _State(asked, plan)
        with _writing(folder_of(file)):
            replace_bytes(folder_of(file) / _STATE, msgspec.json.format(msgspec.json.encode(state)))
        return cls(file, state, [], plan.start)

    @classmethod
    def resume(cls, file: Path, asked: Asked, plan: RecordingPlan) -> RecordingInParts | None:
        """Return the one that was interrupted, with its own plan; None when there is none.

        :param plan: what is asked for now; its times may be later when they are relative ones.
        :raises RecordingError: it is of something else, or cannot be read.
        """
        folder = folder_of(file)
        path = folder / _STATE
        if not path.exists():
            if folder.exists():
                _refuse_other_folder(folder)
            return None
        try:
            state = msgspec.json.decode(path.read_bytes(), type=_State)
        except (OSError, msgspec.MsgspecError) as error:
            raise RecordingError(f"{path}: cannot be read ({error}); {_anew(folder)}") from error
        if differ := _differences(state, _State(asked, plan)):
            raise RecordingError(
                f"{folder} holds an interrupted recording of something else: {'; '.join(differ)}."
                f" Give the command that began it, record into another file, or {_anew(folder)}"
            )
        recording = cls(file, state, [], state.plan.end)
        if recording.was_moved():
            return recording
        pages = sorted(folder.glob("*.page"))
        done_until = state.plan.start
        for page in map(_read_page, pages):
            if page.start != done_until:
                raise RecordingError(
                    f"{folder}: the page after {done_until.isoformat()} is missing; {_anew(folder)}"
                )
            done_until = page.end
        return cls(file, state, pages, done_until)

    def add(self, page: Page) -> None:
        """Write the next page; raises :class:`RecordingError`."""
        path = self.folder / f"{len(self._pages):06}.page"
        with _writing(self.folder):
            replace_bytes(path, msgspec.msgpack.encode(page))
        self._pages.append(path)
        self._done_until = page.end

    def pages(self) -> Iterator[Page]:
        """Yield the pages in order, each read when it is asked for; raises :class:`RecordingError`.

        Where only their removal is left, what the file holds is one page.
        """
        if self.was_moved():
            return iter((Page(self.plan.start, self.plan.end, read_series(self.file)),))
        return map(_read_page, self._pages)

    def finish(self) -> None:
        """Write the whole file, move it to its name in one step, and remove the pages.

        :raises RecordingError: it cannot be written; the pages stay.
        """
        assert self.is_complete
        if not self.was_moved():
            with _writing(self.folder):
                write_series(self._whole, (page.samples for page in self.pages()))
                with self._whole.open("rb+") as stream:
                    os.fsync(stream.fileno())
                self._state = replace(self._state, is_written=True)
                replace_bytes(self.folder / _STATE, msgspec.json.encode(self._state))
                os.replace(self._whole, self.file)
        self.discard()

    def was_moved(self) -> bool:
        """Whether the whole file has its name, and nothing but the removal of the pages is left."""
        return self._state.is_written and self.file.exists() and not self._whole.exists()

    def discard(self) -> None:
        """Remove the pages, the newest first and their state last: cut off in between, it can be resumed."""
        with _writing(self.folder):
            for path in (
                self._whole,
                *sorted(self.folder.glob("*.page"), reverse=True),
                self.folder / _STATE,
            ):
                path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def folder_of(file: Path) -> Path:
    """Return where the pages of a recording lie until it is whole."""
    return file.with_name(f"{file.name}.part")


@contextmanager
def only_process(file: Path) -> Iterator[None]:
    """Keep every other process from recording into ``file``; raises :class:`RecordingError`."""
    folder = folder_of(file)
    with _writing(folder):
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RecordingError(f"{folder}: another process is recording into {file} just now") from None
        try:
            yield
        finally:
            if folder.exists() and {entry.name for entry in folder.iterdir()} <= {_LOCK}:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def _read_page(path: Path) -> Page:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Page)
    except (OSError, msgspec.MsgspecError) as error:
        raise RecordingError(f"{path}: cannot be read ({error}); {_anew(path.parent)}") from error


def _differences(found: _State, wanted: _State) -> list[str]:
    """Say in what two recordings differ."""
    one, other = found.plan, wanted.plan
    pairs = [
        ("release", one.release, other.release),
        ("baseline", one.baseline, other.baseline),
        ("from", found.asked.start, wanted.asked.start),
        ("to", found.asked.end, wanted.asked.end),
        ("metrics and steps", _said(one), _said(other)),
    ]
    said = [f"its {what} is {was}, not {now}" for what, was, now in pairs if was != now]
    if not said and one.source_sha256 != other.source_sha256:
        said.append("the budget's source or metrics have other settings")
    if found.version != wanted.version:
        said.append("another version of rollback-budget began it")
    return said


def _said(plan: RecordingPlan) -> str:
    return ", ".join(f"{'+'.join(pace.series)} every {pace.every}" for pace in plan.paces)


def _refuse_other_folder(folder: Path) -> None:
    # A name with a dot is what a process left behind that was killed while it wrote the first file.
    others = [entry.name for entry in folder.iterdir() if entry.name != _LOCK and entry.name[0] != "."]
    if others:
        raise RecordingError(
            f"{folder}: holds no recording, but {', '.join(sorted(others)[:3])}; move it away, or record into"
            " another file"
        )


def _anew(folder: Path) -> str:
    return f"remove {folder} to begin anew"


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecordingError(
            f"{folder}: cannot be written ({error.strerror or error}); check the disk and the permissions"
        ) from error
