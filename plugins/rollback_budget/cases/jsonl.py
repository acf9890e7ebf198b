"""Case files: canonical JSON Lines, one case a line, made to be read as a diff."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from rollback_budget.cases.case import EvalCase
from rollback_budget.exceptions import CaseError

#: Characters that UTF-8 cannot hold (lone surrogates), that some tools take for the end of a line, or that
#: reorder the text around them, so that a diff would not show what stands there.
_ESCAPED = re.compile("[\ud800-\udfff\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff]")


def write_json(value: Any) -> str:
    """Return canonical JSON on one line: sorted keys, and readable but for characters that would mislead."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def write_case(case: EvalCase) -> str:
    """Return the line of one case, without its end; keys that say nothing are left out."""
    value = case.document()
    value["provenance"] = _without_none(value["provenance"])
    if not case.metadata:
        del value["metadata"]
    return write_json(_without_none(value))


def _without_none(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if item is not None}


def write_lines(cases: Iterable[EvalCase]) -> str:
    """Return a whole case file: in the order of ids, so that adding a case adds a line."""
    return "".join(f"{write_case(case)}\n" for case in sorted(cases, key=lambda case: case.id))


def read_file(path: Path) -> tuple[EvalCase, ...]:
    """Return the cases of a file. Raises CaseError naming every line that is not a case."""
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CaseError(f"{path}: the case file cannot be read: {error}") from error
    cases: dict[str, EvalCase] = {}
    problems: list[str] = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            case = read_case(line)
        except ValueError as error:
            problems.append(f"{path}:{number}: {error}")
            continue
        if case.id in cases:
            problems.append(f"{path}:{number}: the case {case.id} is here twice: keep one line")
        cases[case.id] = case
    if problems:
        raise CaseError("\n".join(problems))
    return tuple(cases.values())


def read_case(line: str) -> EvalCase:
    """Return the case that a line holds. Raises ValueError saying what is wrong and what would be right."""
    value = read_json(line)
    if not isinstance(value, dict):
        raise ValueError("a line is one JSON object: an eval case")
    try:
        return EvalCase.model_validate(value)
    except ValidationError as error:
        raise ValueError("; ".join(_sentence(detail) for detail in error.errors())) from error


def read_json(text: str) -> Any:
    """Return what JSON holds; strict where Python is not. Raises ValueError."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number: write null, or leave the key out")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is twice in one object")
    return made


def _sentence(detail: Any) -> str:
    where = ".".join(str(part) for part in detail["loc"])
    match detail["type"]:
        case "missing":
            return f"{where} is missing"
        case "extra_forbidden":
            return f"{where} is not a key of a case: put your own keys under metadata"
        case _:
            return f"{where}: {detail['msg']}"
