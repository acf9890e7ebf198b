"""Evaluation results: what is read of each format, and what is refused at which line."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from rollback_budget.evals.read import Columns, read_results
from rollback_budget.evals.result import CaseResult
from rollback_budget.exceptions import EvalError

pytestmark = pytest.mark.pure

HEADER = "case_id,release,passed,score,slice\n"


def write(folder: Path, text: str | bytes, name: str = "results.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def verdicts(path: Path, **options: Any) -> list[bool | None]:
    return [case.passed for case in read_results(path, **options).cases]


def inspect_log(*samples: dict[str, Any], status: str = "success", **evaluated: Any) -> dict[str, Any]:
    return {"version": 2, "status": status, "eval": {"task": "t", **evaluated}, "samples": list(samples)}


def sample(name: str, value: object, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "epoch": 1,
        "input": "?",
        "target": "!",
        "scores": {"match": {"value": value}},
        **more,
    }


def promptfoo(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"evalId": "e", "results": {"version": 3, "results": list(rows), "stats": {}}, "config": {}}


def judged(name: str, success: bool, **more: Any) -> dict[str, Any]:
    return {
        "success": success,
        "score": float(success),
        "failureReason": 0 if success else 1,
        "error": None if success else "Expected output to contain 'refund'",
        "provider": {"id": "openai:chat", "label": "v42"},
        "gradingResult": {"pass": success, "score": float(success), "componentResults": [{"pass": success}]},
        "testCase": {"assert": [{"type": "contains", "value": "refund"}], "metadata": {"case_id": name}},
        **more,
    }


def test_a_csv_gives_every_row_with_its_digest(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeff" + HEADER + 'c1,v42,true,0.9,"de, at"\nc2,v41,0,,\n')
    results = read_results(path)
    assert results.cases == (CaseResult("c1", "v42", True, 0.9, "de, at"), CaseResult("c2", "v41", False))
    assert results.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [case.case_id for case in results.of("v42")] == ["c1"]


@pytest.mark.parametrize("cell", ["", "NaN", "null", " None ", "nan"])
def test_a_crashed_case_neither_passed_nor_failed(tmp_path: Path, cell: str) -> None:
    assert verdicts(write(tmp_path, HEADER + f"c1,v42,{cell},,\n")) == [None]


@pytest.mark.parametrize("score", ["NaN", "inf", "-Infinity"])
def test_a_case_whose_score_is_no_number_did_not_pass_whatever_its_verdict(
    tmp_path: Path, score: str
) -> None:
    assert verdicts(write(tmp_path, HEADER + f"c1,v42,true,{score},\n")) == [None]
    assert verdicts(write(tmp_path, HEADER + f"c1,v42,,{score},\n"), columns=Columns(pass_mark=0.5)) == [None]


def test_json_lines_and_parquet_say_the_same_as_csv(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    csv = write(tmp_path, HEADER + "c1,v42,true,0.9,de\nc2,v42,,,\nc3,v42,false,0.1,\n")
    rows: list[dict[str, Any]] = [
        {"case_id": "c1", "release": "v42", "passed": True, "score": 0.9, "slice": "de"},
        {"case_id": "c2", "release": "v42", "passed": None, "score": None, "slice": None},
        {"case_id": "c3", "release": "v42", "passed": False, "score": 0.1, "slice": None},
    ]
    lines = write(tmp_path, "\n".join(map(json.dumps, rows)), "results.jsonl")
    parquet = tmp_path / "results.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), parquet)
    assert read_results(lines).cases == read_results(csv).cases == read_results(parquet).cases


def test_columns_may_have_other_names_and_scores_a_pass_mark(tmp_path: Path) -> None:
    path = write(tmp_path, "id,model,grade,latency_s\na,v42,4,1.5\nb,v42,3.9,NaN\n")
    columns = Columns(case_id="id", release="model", score="grade", pass_mark=4, numbers=("latency_s",))
    good, bad = read_results(path, columns=columns).cases
    assert (good.passed, good.numbers) == (True, {"latency_s": 1.5})
    assert (bad.passed, bad.numbers) == (False, {"latency_s": None})


def test_the_release_may_be_named_for_a_file_that_does_not_say_it(tmp_path: Path) -> None:
    path = write(tmp_path, "case_id,passed\nc1,true\n")
    assert read_results(path, release="v42").cases[0].release == "v42"
    with pytest.raises(EvalError, match="the column 'release' is missing"):
        read_results(path)


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("case_id,release,passd\nc1,v42,true\n", "r.csv", "'passed' is missing; did you mean 'passd'"),
        (HEADER + "c1,v42,maybe,,\n", "r.csv", r"r\.csv:2: passed is 'maybe'"),
        (HEADER + "c1,v42,0.7,,\n", "r.csv", "pass_mark"),
        (HEADER + "c1,v42,true,high,\n", "r.csv", "score is 'high', not a number"),
        (HEADER + ",v42,true,,\n", "r.csv", "case_id is empty"),
        (HEADER + "c1,,true,,\n", "r.csv", "release is empty"),
        (HEADER + "c1,v42,true,,,,\n", "r.csv", "more fields than columns"),
        (HEADER, "r.csv", "no results in it"),
        ("", "r.csv", "it has no columns"),
        ('{"case_id": "c1", "release": "v42"}\n', "r.jsonl", "'passed' is missing"),
        ('{"case_id": "c1"\n', "r.jsonl", r"r\.jsonl:1: not JSON"),
        ("[1]\n", "r.jsonl", "not a JSON object"),
        ("{}", "r.json", "neither an Inspect AI log nor promptfoo"),
        ("no", "r.json", "not JSON"),
        ("no", "r.parquet", "not readable as Parquet"),
        ("no", "r.txt", "does not give the format"),
        (b"case_id,release,passed\n\xff,v42,true\n", "r.csv", "not UTF-8 at byte 23"),
        ("PK no zip", "r.eval", "not readable as an .eval file"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(
    tmp_path: Path, text: str | bytes, name: str, said: str
) -> None:
    with pytest.raises(EvalError, match=said):
        read_results(write(tmp_path, text, name))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvalError, match="there is no such file"):
        read_results(tmp_path / "results.csv")


def test_an_inspect_log_gives_grades_epochs_and_crashes(tmp_path: Path) -> None:
    log = inspect_log(
        sample("c1", "C"),
        sample("c1", "I", epoch=2),
        sample("c2", "P", metadata={"slice": "de", "input_sha256": "ab", "latency_s": 2}),
        sample("c3", "C", error={"message": "boom"}),
        sample("c4", None),
        sample("c5", float("nan")),
        sample("c6", {"tone": 1, "facts": 0}),
        sample("c7", "unheard of"),
        {"id": "c8", "epoch": 1, "scores": {}},
        metadata={"release": "v42"},
    )
    path = write(tmp_path, json.dumps(log), "log.json")
    results = read_results(path, columns=Columns(numbers=("latency_s",)))
    assert [case.passed for case in results.cases] == [
        True,
        False,
        False,
        None,
        None,
        None,
        False,
        None,
        None,
    ]
    partly = results.cases[2]
    assert (partly.case_id, partly.release, partly.score, partly.slice) == ("c2", "v42", 0.5, "de")
    assert (partly.input_sha256, partly.numbers) == ("ab", {"latency_s": 2.0})
    assert verdicts(path, columns=Columns(pass_mark=0.5))[2] is True


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, 93])
def test_an_eval_file_says_the_same_as_the_json_log(tmp_path: Path, compression: int) -> None:
    if compression == 93 and not hasattr(zipfile, "ZIP_ZSTANDARD"):
        pytest.importorskip("zipfile_zstd")
    log = inspect_log(sample("c1", "C"), sample("c2", "I"), task_args={"release": "v42"})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression=compression) as archive:
        archive.writestr("_journal/start.json", json.dumps({"version": 2, "eval": log["eval"]}))
        archive.writestr("header.json", json.dumps({**log, "samples": None}))
        for one in log["samples"]:
            archive.writestr(f"samples/{one['id']}_epoch_1.json", json.dumps(one))
    zipped = write(tmp_path, buffer.getvalue(), "log.eval")
    assert read_results(zipped).cases == read_results(write(tmp_path, json.dumps(log), "log.json")).cases


def test_a_damaged_eval_file_is_said_to_be_damaged(tmp_path: Path) -> None:
    header = json.dumps({**inspect_log(task_args={"release": "v42"}), "samples": None})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", header)
    start = 30 + len("header.json")
    damaged = bytearray(buffer.getvalue())
    damaged[start] = 0xFF
    with pytest.raises(EvalError, match=r"not readable as an \.eval file \(.*copy it again"):
        read_results(write(tmp_path, bytes(damaged), "log.eval"))


def test_an_evaluation_that_did_not_finish_is_refused(tmp_path: Path) -> None:
    unfinished = inspect_log(sample("c1", "C"), status="cancelled", metadata={"release": "v42"})
    with pytest.raises(EvalError, match="status 'cancelled'; run it to its end"):
        read_results(write(tmp_path, json.dumps(unfinished), "log.json"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("_journal/start.json", "{}")
    with pytest.raises(EvalError, match="did not finish"):
        read_results(write(tmp_path, buffer.getvalue(), "log.eval"))


def test_an_inspect_log_that_names_no_release_is_refused_unless_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps(inspect_log(sample("c1", "C"))), "log.json")
    with pytest.raises(EvalError, match="--metadata release="):
        read_results(path)
    assert read_results(path, release="v42").cases[0].release == "v42"


def test_of_several_inspect_scorers_all_decide_unless_one_is_named(tmp_path: Path) -> None:
    scores = {"tone": {"value": "C"}, "facts": {"value": "I"}}
    log = inspect_log({"id": "c1", "epoch": 1, "scores": scores}, metadata={"release": "v42"})
    path = write(tmp_path, json.dumps(log), "log.json")
    assert verdicts(path) == [False]
    assert verdicts(path, columns=Columns(scorer="tone")) == [True]
    with pytest.raises(EvalError, match="no scorer 'style'; it has 'tone', 'facts'"):
        verdicts(path, columns=Columns(scorer="style"))


def test_promptfoo_gives_failures_crashes_and_what_was_not_judged(tmp_path: Path) -> None:
    document = promptfoo(
        judged("c1", True),
        judged("c2", False),
        judged("c3", False, failureReason=2, error="timeout", gradingResult=None),
        judged("c4", True, gradingResult=None, testCase={"metadata": {"case_id": "c4"}}),
        judged("c5", True, testCase={"assert": [{}], "metadata": {"case_id": "c5", "release": "v41"}}),
    )
    results = read_results(write(tmp_path, json.dumps(document), "out.json"))
    assert [case.passed for case in results.cases] == [True, False, None, None, True]
    assert [case.release for case in results.cases] == ["v42", "v42", "v42", "v42", "v41"]


def test_two_promptfoo_providers_cannot_both_be_the_named_release(tmp_path: Path) -> None:
    document = promptfoo(judged("c1", True), judged("c1", False, provider={"id": "other"}))
    path = write(tmp_path, json.dumps(document), "out.json")
    assert [case.release for case in read_results(path).cases] == ["v42", "other"]
    with pytest.raises(EvalError, match="several providers"):
        read_results(path, release="v42")
