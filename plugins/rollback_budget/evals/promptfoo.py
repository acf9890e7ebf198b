"""The JSON that ``promptfoo eval --output results.json`` writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rollback_budget.evals.result import CaseResult
from rollback_budget.evals.row import read_number
from rollback_budget.exceptions import EvalError
from rollback_budget.model.eval_columns import Columns

#: promptfoo's word for a request or an assertion that could not be carried out.
_CRASHED = 2


def looks_like_promptfoo(document: object) -> bool:
    """Whether a JSON document is promptfoo's output."""
    return (
        isinstance(document, dict)
        and isinstance(document.get("results"), dict)
        and isinstance(document["results"].get("results"), list)
    )


def promptfoo_rows(path: Path, document: Any, columns: Columns, release: str | None) -> Iterator[CaseResult]:
    """Yield every test's result; raises EvalError.

    The release is ``metadata.release`` of the test, else ``release``, else the provider's label, so that one
    run over two labelled providers holds both releases. The case is ``metadata.case_id``, else the test's
    description.
    """
    if not looks_like_promptfoo(document):
        raise EvalError(f"{path}: not promptfoo's JSON; write it with `promptfoo eval --output results.json`")
    rows: list[Any] = document["results"]["results"]
    if release is not None:
        _refuse_mixed(path, rows, release)
    for number, row in enumerate(rows, 1):
        place = f"{path}: result {number}"
        if not isinstance(row, dict):
            raise EvalError(f"{place}: not a JSON object; run the evaluation again")
        test = _mapping(row, "testCase")
        metadata = {**_mapping(test, "metadata"), **_mapping(row, "metadata")}
        case_id = metadata.get("case_id") or test.get("description") or row.get("description")
        if not case_id:
            raise EvalError(f"{place}: does not name its case; give the test `metadata: {{case_id: ...}}`")
        result_release = metadata.get("release") or release or _provider(row)
        if not result_release:
            raise EvalError(
                f"{place}: does not name its release; give the provider a label, or name the release"
            )
        score = read_number(place, "score", row.get("score"))
        yield CaseResult(
            case_id=str(case_id),
            release=str(result_release),
            passed=_passed(row, test, score, columns),
            score=score,
            slice=None if metadata.get("slice") is None else str(metadata["slice"]),
            input_sha256=metadata.get("input_sha256"),
            numbers={name: _number(place, name, row) for name in columns.numbers},
        )


def _passed(
    row: Mapping[str, Any], test: Mapping[str, Any], score: float | None, columns: Columns
) -> bool | None:
    grading = _mapping(row, "gradingResult")
    crashed = row.get("failureReason") == _CRASHED or (row.get("error") and not grading)
    # Without assertions promptfoo says that a test passed, though nothing was checked.
    judged = bool(test.get("assert")) or bool(grading.get("componentResults"))
    if crashed or not judged or score is None:
        return None
    if columns.pass_mark is not None:
        return score >= columns.pass_mark
    success = row.get("success")
    return success if isinstance(success, bool) else None


def _refuse_mixed(path: Path, rows: list[Any], release: str) -> None:
    """Refuse to call the answers of two providers one release."""
    providers = {_provider(row) for row in rows if isinstance(row, dict)}
    if len(providers) > 1:
        names = ", ".join(repr(name) for name in sorted(map(str, providers)))
        raise EvalError(
            f"{path}: several providers ({names}) cannot all be {release!r}; label each with its release"
        )


def _provider(row: Mapping[str, Any]) -> str | None:
    provider = row.get("provider")
    if isinstance(provider, dict):
        return provider.get("label") or provider.get("id")
    return provider if isinstance(provider, str) else None


def _number(place: str, name: str, row: Mapping[str, Any]) -> float | None:
    value = row.get(name, _mapping(row, "namedScores").get(name))
    return read_number(place, name, value)


def _mapping(of: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = of.get(key)
    return value if isinstance(value, dict) else {}
