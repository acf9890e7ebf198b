"""Case files: what is written is read again, and what is wrong in one is said with its line."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rollback_budget.cases.case import EvalCase, Provenance
from rollback_budget.cases.case_id import case_id
from rollback_budget.cases.folder import CaseFolder
from rollback_budget.cases.jsonl import read_case, write_case
from rollback_budget.exceptions import CaseError
from tests.cases.factories import case, debt, expects

pytestmark = pytest.mark.pure

texts = st.text(st.characters(), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@given(json_values, json_values, json_values, st.dictionaries(texts, json_values, max_size=3))
@example("hello", {"\ud800": 1, "b\udfff": 2}, {"\ud800": None}, {"\ud800": {"\udfff": "half a character"}})
def test_a_case_reads_as_it_was_written_whatever_it_holds(
    asked: object, said: object, expected: object, extra: object
) -> None:
    made = case(asked, expected=expects(expected), breached_output=said, metadata=extra)
    line = write_case(made)
    assert "\n" not in line
    assert len(line.splitlines()) == 1
    assert read_case(line) == made


def test_cases_stand_in_one_file_per_debt_in_the_order_of_their_ids(tmp_path: Path) -> None:
    folder = CaseFolder(tmp_path / "eval-cases")
    cases = [case(f"question {number}") for number in range(5)]
    file = folder.write(debt(), cases)
    assert file.name == f"support-quality-task-success-{debt().fingerprint[:16]}.jsonl"
    ids = [json.loads(line)["id"] for line in file.read_text().splitlines()]
    assert ids == sorted(one.id for one in cases)
    assert folder.write(debt(), reversed(cases)).read_text() == file.read_text()
    assert folder.cases_of(debt()) == tuple(sorted(cases, key=lambda one: one.id))
    assert folder.read() == {debt().fingerprint: folder.cases_of(debt())}


def test_a_debt_without_a_file_has_no_cases(tmp_path: Path) -> None:
    assert CaseFolder(tmp_path / "nowhere").cases_of(debt()) == ()
    assert CaseFolder(tmp_path / "nowhere").read() == {}


def test_a_renamed_file_is_still_the_debts(tmp_path: Path) -> None:
    folder = CaseFolder(tmp_path)
    file = folder.write(debt(), [case("hello")])
    renamed = file.rename(tmp_path / f"refunds-{debt().fingerprint[:16]}.jsonl")
    assert folder.write(debt(), [case("hello"), case("bye")]) == renamed
    assert len(folder.cases_of(debt())) == 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"id": ', "not JSON"),
        ("[1]", "one JSON object"),
        ('{"id": "a", "id": "b"}', "the key 'id' is twice"),
        ('{"input": NaN}', "NaN is no JSON number"),
        ('{"id": "x", "debt": "d", "metric": "m"}', "provenance is missing"),
        ('{"idd": "x"}', "idd is not a key of a case"),
        ('{"schema_version": 2}', "schema_version"),
    ],
)
def test_a_line_that_is_no_case_is_named_with_its_place(tmp_path: Path, line: str, problem: str) -> None:
    folder = CaseFolder(tmp_path)
    file = folder.write(debt(), [case("hello")])
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(CaseError) as raised:
        folder.read()
    assert str(raised.value).startswith(f"{file}:2: ")
    assert problem in str(raised.value)


def test_all_wrong_lines_are_said_at_once(tmp_path: Path) -> None:
    file = CaseFolder(tmp_path).file_of(debt())
    file.write_text("{\n" + write_case(case("hello")) + "\n[]\n")
    with pytest.raises(CaseError) as raised:
        CaseFolder(tmp_path).cases_of(debt())
    assert [message.split(":")[1] for message in str(raised.value).split("\n")] == ["1", "3"]


def test_a_case_of_another_debt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="belongs to another debt"):
        CaseFolder(tmp_path).write(debt(), [case("hello", of="f" * 64)])


def test_characters_that_would_mislead_a_reviewer_are_written_out() -> None:
    line = write_case(case("a\u202eb\u2028c\ud800d\x00e\x85f é 😀"))
    assert r"a\u202eb\u2028c\ud800d\u0000e\u0085f é 😀" in line


def test_a_case_has_the_same_id_in_every_debt() -> None:
    assert case_id("Where is  my ORDER?", "task_success", None) == case_id(
        " where is my order?\n", "task_success", None
    )
    assert case_id("hello", "task_success", None) != case_id("hello", "task_success", "language=de")
    assert case_id("hello", "task_success", None) != case_id("hello", "csat", None)
    assert case_id(["a", "b"], "m", None) != case_id("a b", "m", None)


def test_a_null_within_an_input_stays() -> None:
    made = EvalCase(
        id="x",
        debt="d",
        metric="m",
        input={"tool": None, "args": {}},
        provenance=Provenance(breach="b", release="r", asked_at=datetime(2026, 1, 1, tzinfo=UTC)),
    )
    assert read_case(write_case(made)) == made
