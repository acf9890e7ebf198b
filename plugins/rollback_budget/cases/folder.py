"""The folder of case files: one per debt, under version control, edited by people and by tasks."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rollback_budget.cases.case import EvalCase
from rollback_budget.cases.jsonl import read_file, write_lines
from rollback_budget.exceptions import CaseError
from rollback_budget.files import replace_file
from rollback_budget.ledger.debt_views import Debt

#: How much of a debt's fingerprint its file's name carries.
SHORT = 16


class CaseFolder:
    """The case files. Every method raises CaseError.

    :param path: made when something is written and it is not there.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @contextmanager
    def editing(self) -> Iterator[None]:
        """Hold the folder for reading, changing and writing, so that no two lose one another's changes."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            folder = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise CaseError(f"{self.path}: the folder of cases cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def cases_of(self, debt: Debt) -> tuple[EvalCase, ...]:
        """Return a debt's cases in the order of their ids; none when it has no file."""
        file = self.file_of(debt)
        return _checked(file, debt.fingerprint) if file.exists() else ()

    def read(self) -> dict[str, tuple[EvalCase, ...]]:
        """Return every debt's cases by the debt's fingerprint; a file without a case is left out."""
        found: dict[str, tuple[EvalCase, ...]] = {}
        for file in self.files():
            cases = _checked(file)
            if not cases:
                continue
            if cases[0].debt in found:
                raise CaseError(
                    f"{file}: a second file of the debt {cases[0].debt}: put their lines into one"
                )
            found[cases[0].debt] = cases
        return found

    def files(self) -> list[Path]:
        """Return the case files, sorted."""
        return sorted(self.path.glob("*.jsonl"))

    def write(self, debt: Debt, cases: Iterable[EvalCase]) -> Path:
        """Replace a debt's file by these cases, whole or not at all; return its path."""
        file = self.file_of(debt)
        kept = list(cases)
        foreign = next((case.id for case in kept if case.debt != debt.fingerprint), None)
        if foreign is not None:
            raise CaseError(f"{file}: the case {foreign} belongs to another debt than {debt.fingerprint}")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            replace_file(file, write_lines(kept))
        except OSError as error:
            raise CaseError(
                f"{file}: the case file cannot be written: {error.strerror}."
                " Check the folder's rights and space"
            ) from error
        return file

    def file_of(self, debt: Debt) -> Path:
        """Return the path of a debt's file, whether or not it exists: found by its fingerprint."""
        short = debt.fingerprint[:SHORT]
        there = sorted(self.path.glob(f"*{short}.jsonl"))
        if len(there) > 1:
            names = ", ".join(file.name for file in there)
            raise CaseError(f"{self.path}: {names} are files of one debt: put their lines into one")
        return there[0] if there else self.path / f"{_slug(debt)}-{short}.jsonl"


def _checked(file: Path, debt: str | None = None) -> tuple[EvalCase, ...]:
    cases = read_file(file)
    for case in cases:
        expected = debt or cases[0].debt
        if case.debt != expected:
            raise CaseError(f"{file}: the case {case.id} names the debt {case.debt}, not {expected}")
    return tuple(sorted(cases, key=lambda case: case.id))


def _slug(debt: Debt) -> str:
    words = re.findall(r"[a-z0-9]+", f"{debt.service} {debt.area} {debt.metric}".lower())
    return "-".join(words)[:80]
