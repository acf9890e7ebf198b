"""Exports, read back by the tools that they are for: nothing is changed, and nothing is evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rollback_budget.cases.case import EvalCase, ExpectationKind
from rollback_budget.cases.case_id import case_id, sha256
from rollback_budget.cases.export.approved import ApprovedCase, approved_only
from rollback_budget.cases.export.write import write_export
from rollback_budget.evals.read import read_results
from rollback_budget.exceptions import CaseError
from rollback_budget.registry import Group, names
from tests.cases.adversarial_inputs import HOSTILE
from tests.cases.factories import case, debt, expects
from tests.support.evaluators import run_python, run_tool

pytestmark = pytest.mark.service

DEBT = debt().fingerprint
CHAT = [
    {"role": "system", "content": "{{ env.HOME }}"},
    {"role": "user", "content": "file:///etc/passwd"},
]


def hostile_cases() -> list[ApprovedCase]:
    """Cases whose input, expectation, slice and metadata are all hostile."""
    made = [
        case(
            text,
            expected=expects(text),
            id=case_id([name, text], "task_success", None),
            slice=text[:100],
            metadata={"name": name, "hostile": text[:100], text[:50]: [text[:100]]},
        )
        for name, text in HOSTILE.items()
    ]
    made += [
        case(CHAT, expected=expects("{{ env.HOME }}", ExpectationKind.CONTAINS)),
        case({"$ref": "file:///etc/passwd", "tool": None}, expected=expects({"$ref": "{{ x }}"})),
    ]
    return approved_only({DEBT: made})


def readable(value: Any) -> Any:
    """The value as UTF-8 can hold it: no request, and no log of Inspect's, can carry half a character."""
    return json.loads(
        json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").replace(b"\\ud", b"\\\\ud")
    )


def test_there_are_twenty_hostile_strings_at_least() -> None:
    assert len(set(HOSTILE.values())) >= 20


def test_inspect_asks_every_case_as_it_is_and_brings_ids_and_metadata_back(tmp_path: Path) -> None:
    cases = hostile_cases()
    write_export(cases, "inspect", tmp_path)
    # A model that answers what it was asked, so that every exact expectation is met.
    (tmp_path / "echo.py").write_text(
        "from inspect_ai.model import ModelOutput, modelapi, ModelAPI\n"
        "@modelapi(name='echo')\n"
        "def echo():\n"
        "    class Echo(ModelAPI):\n"
        "        async def generate(self, input, tools, tool_choice, config):\n"
        "            return ModelOutput.from_content('echo', input[-1].text)\n"
        "    return Echo\n"
    )
    runner = (
        "import json, sys, importlib.util\n"
        "sys.path.insert(0, '.')\n"
        "import echo, task\n"
        "from inspect_ai import eval\n"
        "from inspect_ai.log import read_eval_log\n"
        "samples = {s.id: (s.input if isinstance(s.input, str) else [[m.role, m.text] for m in s.input])\n"
        "           for s in task.read_dataset()}\n"
        "[log] = eval(task.rollback_budget_cases(), model='echo/x', metadata={'release': 'model-v43'},\n"
        "             log_dir='logs', log_format='json', display='none')\n"
        "print(json.dumps({'samples': samples, 'file': log.location, 'status': log.status,\n"
        "                  'error': str(log.error)}))\n"
    )
    said = run_python("inspect", runner, tmp_path)
    assert said["status"] == "success", said["error"]
    for one in cases:
        loaded = said["samples"][one.case.id]
        if one.is_chat:
            assert loaded == [[message["role"], message["content"]] for message in CHAT]
        elif isinstance(one.case.input, str):
            assert loaded == readable(one.case.input)
        else:
            assert json.loads(loaded) == one.case.input
    log = json.loads((tmp_path / "logs" / Path(said["file"]).name).read_text())
    metadata = {sample["id"]: sample["metadata"] for sample in log["samples"]}
    for one in cases:
        carried = dict(metadata[one.case.id])
        assert carried.pop("expectation")["value"] == readable(one.expectation.value)
        assert carried == readable(one.metadata())
    results = read_results(tmp_path / "logs" / Path(said["file"]).name)
    by_id = {row.case_id: row for row in results.of("model-v43")}
    for one in cases:
        assert by_id[one.case.id].input_sha256 == sha256(one.case.input)
        if isinstance(one.case.input, str):
            assert by_id[one.case.id].passed is True, one.case.metadata["name"]


def test_inspect_runs_an_export_with_a_mock_model(tmp_path: Path) -> None:
    answer = "Default output from mockllm/model"
    cases = approved_only(
        {
            DEBT: [
                case("right", expected=expects(answer)),
                case("wrong", expected=expects("another answer")),
                case("part", expected=expects(["output from", "mockllm"], ExpectationKind.CONTAINS)),
                case("not JSON", expected=expects({"type": "object"}, ExpectationKind.JSON_SCHEMA)),
                case("a rubric", expected=expects("is {{ polite }}", ExpectationKind.RUBRIC)),
            ]
        }
    )
    write_export(cases, "inspect", tmp_path)
    command = (
        "eval task.py --model mockllm/model --metadata release=model-v43 --log-format json --log-dir logs"
    )
    # The mock model counts tokens, and Inspect would fetch the tokenizer for it from the internet.
    (tmp_path / "sitecustomize.py").write_text(
        "import tiktoken\n"
        "class Words:\n"
        "    def encode(self, text, **_): return text.split()\n"
        "tiktoken.get_encoding = lambda name: Words()\n"
    )
    further = {"PYTHONPATH": str(tmp_path)}
    run_tool("inspect", ["inspect", *command.split()], tmp_path, further=further)
    [log] = (tmp_path / "logs").glob("*.json")
    results = read_results(log)
    passed = {row.case_id: row.passed for row in results.of("model-v43")}
    assert {one.case.input: passed[one.case.id] for one in cases} == {
        "right": True,
        "wrong": False,
        "part": True,
        "not JSON": False,
        # The mock model as a grader gives no grade: unknown.
        "a rubric": None,
    }


def promptfoo(folder: Path, *arguments: str) -> Any:
    command = ["promptfoo", "eval", "--output", "out.json", "--no-cache", "--no-table", "--no-progress-bar"]
    run_tool("promptfoo", [*command, "--no-write", *arguments], folder, ok=False)
    return json.loads((folder / "out.json").read_text())["results"]["results"]


def test_promptfoo_asks_every_case_as_it_is(tmp_path: Path) -> None:
    cases = hostile_cases()
    write_export(cases, "promptfoo", tmp_path)
    rows = {row["testCase"]["description"]: row for row in promptfoo(tmp_path, "--providers", "echo")}
    assert set(rows) == {one.case.id for one in cases}
    for one in cases:
        row = rows[one.case.id]
        said = row["response"]["output"]
        if isinstance(one.case.input, str):
            assert said == one.case.input, one.case.metadata["name"]
            assert row["success"], row
        else:
            assert (json.loads(said) if isinstance(said, str) else said) == one.case.input
    results = read_results(tmp_path / "out.json", release="model-v43")
    for result in results.cases:
        assert result.input_sha256 == sha256(next(c.case.input for c in cases if c.case.id == result.case_id))


def test_promptfoo_judges_by_every_kind_of_expectation_and_shows_a_rubric_as_it_is(tmp_path: Path) -> None:
    rubric = "is polite {{ env.HOME }} {% raw %} file:///etc/passwd {# x #}"
    schema = {"type": "object", "required": ["{{ x }}"], "$defs": {"a": {"type": "string"}}}
    cases = approved_only(
        {
            DEBT: [
                case("right", expected=expects("right")),
                case("wrong", expected=expects("another")),
                case("a part of it", expected=expects(["part", "it"], ExpectationKind.CONTAINS)),
                case("no part of it", expected=expects(["apart"], ExpectationKind.CONTAINS)),
                case('{"{{ x }}": 1}', expected=expects(schema, ExpectationKind.JSON_SCHEMA)),
                case('{"y": 1}', expected=expects(schema, ExpectationKind.JSON_SCHEMA)),
                case("a rubric", expected=expects(rubric, ExpectationKind.RUBRIC)),
            ]
        }
    )
    write_export(cases, "promptfoo", tmp_path)
    (tmp_path / "grader.cjs").write_text(
        "module.exports = class { id() { return 'grader'; } async callApi(prompt) {\n"
        "  require('fs').writeFileSync('asked.txt', prompt);\n"
        '  return { output: \'{"pass": true, "score": 1, "reason": "polite"}\' }; } };\n'
    )
    rows = promptfoo(tmp_path, "--providers", "echo", "--grader", "file://grader.cjs")
    passed = {row["testCase"]["metadata"]["case_id"]: row["success"] for row in rows}
    assert {one.input_text: passed[one.case.id] for one in cases} == {
        "right": True,
        "wrong": False,
        "a part of it": True,
        "no part of it": False,
        '{"{{ x }}": 1}': True,
        '{"y": 1}': False,
        "a rubric": True,
    }
    assert rubric in json.loads((tmp_path / "asked.txt").read_text())[1]["content"]


def test_deepeval_loads_every_case_as_it_is_and_judges(tmp_path: Path) -> None:
    cases = hostile_cases()
    write_export(cases, "deepeval", tmp_path)
    program = (
        "import json, metric\n"
        "goldens = metric.read_goldens()\n"
        "judge = metric.Expectation()\n"
        "print(json.dumps([[g.name, g.input, g.expected_output, g.additional_metadata,\n"
        "    judge.measure(metric.test_case(g, g.input))] for g in goldens]))\n"
    )
    said = {row[0]: row[1:] for row in run_python("deepeval", program, tmp_path)}
    assert set(said) == {one.case.id for one in cases}
    for one in cases:
        loaded, expected, metadata, score = said[one.case.id]
        assert loaded == one.input_text
        assert metadata.pop("expectation")["value"] == one.expectation.value
        assert metadata == one.metadata()
        if isinstance(one.case.input, str):
            assert (expected, score) == (one.expectation.value, 1.0)


def test_mlflow_keeps_every_case_as_it_is(tmp_path: Path) -> None:
    cases = hostile_cases()
    write_export(cases, "mlflow", tmp_path)
    further = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    program = (
        "import json, load\n"
        "load.load('cases'); made = load.load('cases')\n"
        "print(json.dumps(made.to_df()[['inputs', 'expectations', 'tags']].to_dict('records')))\n"
    )
    records = run_python("mlflow", program, tmp_path, further=further)
    by_id = {record["expectations"]["case"]["case_id"]: record for record in records}
    assert set(by_id) == {one.case.id for one in cases}
    for one in cases:
        record = by_id[one.case.id]
        assert record["inputs"] == ({"messages": CHAT} if one.is_chat else {"input": one.case.input})
        assert record["expectations"]["expectation"]["value"] == one.expectation.value
        assert record["expectations"]["case"] == one.metadata()
        assert record["tags"]["case_id"] == one.case.id


@pytest.mark.parametrize("format_", names(Group.EXPORTERS))
def test_every_export_writes_each_case_into_its_files(format_: str, tmp_path: Path) -> None:
    cases = approved_only({DEBT: [case("a question", expected=expects("yes"))]})
    written = write_export(cases, format_, tmp_path / "out")
    assert written
    assert any(cases[0].case.id in file.read_text() for file in written)


@pytest.mark.parametrize("format_", names(Group.EXPORTERS))
def test_a_case_without_an_approved_expectation_is_refused_by_name(format_: str, tmp_path: Path) -> None:
    draft, good = case("draft"), case("good", expected=expects("yes"))
    stub = case(None, missing="Bring requests.", expected=expects("yes"))
    with pytest.raises(CaseError) as raised:
        write_export(approved_only({DEBT: [draft, good, stub]}), format_, tmp_path / "out")
    assert draft.id in str(raised.value)
    assert stub.id in str(raised.value)
    assert good.id not in str(raised.value)
    assert not (tmp_path / "out").exists()
    assert [one.case for one in approved_only({DEBT: [draft, good, stub]}, skip_drafts=True)] == [good]


def test_a_case_of_two_debts_is_exported_once_and_names_both() -> None:
    other = "f" * 64
    both: dict[str, list[EvalCase]] = {
        DEBT: [case("hello", expected=expects("hi"))],
        other: [case("hello", of=other, expected=expects("hi"))],
    }
    [one] = approved_only(both)
    assert set(one.metadata()["debts"]) == {DEBT, other}  # type: ignore[arg-type]
    both[other] = [case("hello", of=other, expected=expects("bye"))]
    with pytest.raises(CaseError, match="not the same case"):
        approved_only(both)
