"""Writing an export: a few files into a folder, each whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rollback_budget.cases.export.approved import ApprovedCase
from rollback_budget.cases.export.base import open_exporter
from rollback_budget.exceptions import CaseError
from rollback_budget.files import replace_file


def write_export(cases: Sequence[ApprovedCase], exporter: str, folder: Path) -> list[Path]:
    """Write what a tool needs into ``folder`` and return the files.

    :param exporter: the name under which it is registered.
    :raises CaseError: there is no such exporter, or a file cannot be written.
    """
    written = []
    for name, content in open_exporter(exporter).files(cases).items():
        file = folder / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, content)
        except OSError as error:
            raise CaseError(f"{file}: cannot be written: {error.strerror}. Check rights and space") from error
        written.append(file)
    return written
