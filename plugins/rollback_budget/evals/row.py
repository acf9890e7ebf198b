"""One row of a table of evaluation results, whatever file or database it came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from math import isfinite
from typing import Any

from rollback_budget.evals.result import CaseResult
from rollback_budget.exceptions import EvalError, MissingColumnError
from rollback_budget.model.eval_columns import Columns
from rollback_budget.model.mistake import nearest

PASS = frozenset({"true", "t", "yes", "y", "pass", "passed", "1", "1.0"})
FAIL = frozenset({"false", "f", "no", "n", "fail", "failed", "0", "0.0"})
_NOTHING = frozenset({"", "nan", "null", "none", "na", "n/a", "nat"})


def read_row(place: str, row: Mapping[str, Any], columns: Columns, release: str | None) -> CaseResult:
    """Read one row.

    :param place: where it stands, for people.
    :param release: whose results these are when the row does not say.
    :raises EvalError: a cell that cannot be read.
    """
    score = read_number(place, columns.score, row.get(columns.score))
    if columns.pass_mark is None:
        passed = _passed(place, columns.passed, row.get(columns.passed))
        if _is_no_number(row.get(columns.score)):
            passed = None
    else:
        passed = None if score is None else score >= columns.pass_mark
    return CaseResult(
        case_id=_name(place, columns.case_id, row.get(columns.case_id)),
        release=_name(place, columns.release, row.get(columns.release) or release),
        passed=passed,
        score=score,
        slice=_text(row.get(columns.slice)),
        input_sha256=_text(row.get(columns.input_sha256)),
        numbers={name: read_number(place, name, row.get(name)) for name in columns.numbers},
    )


def check_columns(place: str, found: Iterable[str], columns: Columns, release: str | None) -> None:
    """Refuse a table without the columns that it needs; raises EvalError."""
    names = list(found)
    for name in columns.needed:
        if name in names or (name == columns.release and release is not None):
            continue
        near = nearest(name, names, cutoff=0.7)
        has = f"did you mean {near!r}" if near else f"it has {', '.join(map(repr, names)) or 'no columns'}"
        raise MissingColumnError(
            f"{place}: the column {name!r} is missing; {has}; name it under `columns:` of `launch_gate:`"
        )


def read_number(place: str, column: str, value: object) -> float | None:
    """Read a number; None for nothing, NaN and infinity. Raises EvalError for anything else."""
    if value is None or _is_nothing(value):
        return None
    if isinstance(value, str | int | float | Decimal) and "_" not in str(value):
        with suppress(ValueError, OverflowError):
            number = float(value)
            return number if isfinite(number) else None
    raise EvalError(f"{place}: {column} is {value!r}, not a number; leave it empty when it is not known")


def _passed(place: str, column: str, value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in PASS:
        return True
    if word in FAIL:
        return False
    if word in _NOTHING:
        return None
    raise EvalError(
        f"{place}: {column} is {value!r}; write true or false, or leave it empty for a case that crashed"
        f" (for scores set `pass_mark`)"
    )


def _is_no_number(value: object) -> bool:
    """Whether an evaluator computed a score and it came out as NaN or infinite."""
    if isinstance(value, str):
        return value.strip().lower() in ("nan", "inf", "-inf", "+inf", "infinity", "-infinity")
    return isinstance(value, float | Decimal) and not isfinite(value)


def _is_nothing(value: object) -> bool:
    return isinstance(value, str) and value.strip().lower() in _NOTHING


def _name(place: str, column: str, value: object) -> str:
    text = None if value is None else str(value).strip()
    if not text or text.lower() == "nan":
        raise EvalError(f"{place}: {column} is empty; every row names its case and its release")
    return text


def _text(value: object) -> str | None:
    if value is None or value != value:
        return None
    return str(value) or None
