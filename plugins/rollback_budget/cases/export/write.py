"""Writing an export: a few files into a folder, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from rollback_budget.cases.export import deepeval, inspect_ai, mlflow, promptfoo
from rollback_budget.cases.export.approved import ApprovedCase
from rollback_budget.exceptions import CaseError
from rollback_budget.files import replace_file


class Format(StrEnum):
    """An evaluation tool that cases can be exported for."""

    INSPECT = "inspect"
    PROMPTFOO = "promptfoo"
    DEEPEVAL = "deepeval"
    MLFLOW = "mlflow"


_FILES: Mapping[Format, Callable[[Sequence[ApprovedCase]], dict[str, str]]] = {
    Format.INSPECT: inspect_ai.files,
    Format.PROMPTFOO: promptfoo.files,
    Format.DEEPEVAL: deepeval.files,
    Format.MLFLOW: mlflow.files,
}


def write_export(cases: Sequence[ApprovedCase], format_: Format, folder: Path) -> list[Path]:
    """Write what a tool needs into ``folder`` and return the files. Raises CaseError."""
    written = []
    for name, content in _FILES[format_](cases).items():
        file = folder / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, content)
        except OSError as error:
            raise CaseError(f"{file}: cannot be written: {error.strerror}. Check rights and space") from error
        written.append(file)
    return written
