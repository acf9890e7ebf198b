"""``validate``, ``explain`` and ``schema`` as scripts see them: output and exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from rollback_budget.budget_file import load_budget
from rollback_budget.cli.schema import SCHEMAS, schema_text
from tests.support.command_line import Run, command_line

pytestmark = pytest.mark.pure

ROOT = Path(__file__).parents[2]
BUDGET = ROOT / "budgets" / "model-v42.yaml"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line in this process."""
    return command_line(capsys, monkeypatch)


def test_validate_names_every_good_budget_with_its_digest(run: Run) -> None:
    outcome = run("validate", BUDGET.parent)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"{BUDGET}: OK model-v42 sha256:{load_budget(BUDGET).sha256[:12]}\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [("none.yaml", "there is no such file; check the path"), (".", "this is no file; name a budget file")],
)
def test_a_budget_that_is_not_there_is_said_with_what_to_do(
    run: Run, tmp_path: Path, name: str, said: str
) -> None:
    outcome = run("explain", tmp_path / name)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err == f"{tmp_path / name}:1:1: {said}\n"


def test_validate_says_what_is_missing_to_ship_and_still_passes(run: Run, tmp_path: Path) -> None:
    lonely = tmp_path / "lonely.yaml"
    lonely.write_text(BUDGET.read_text(encoding="utf-8"), encoding="utf-8")
    outcome = run("validate", lonely)
    assert outcome.code == 0
    for key in ("owner", "incident_commander", "source", "target"):
        assert f"warning: will not ship: `{key}` is missing" in outcome.out


def test_validate_prints_each_problem_of_each_file_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "defaults.yaml").write_text("ownr: x\n", encoding="utf-8")
    for name in ("a", "b"):
        text = BUDGET.read_text(encoding="utf-8").replace("window: 24h", f"window: {name}")
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    outcome = run("validate", tmp_path)
    assert outcome.code == 1
    assert [line.split(": ")[0] for line in outcome.out.splitlines()] == [
        f"{tmp_path}/a.yaml:3:9",
        f"{tmp_path}/defaults.yaml:1:1",
        f"{tmp_path}/b.yaml:3:9",
    ]


def test_validate_as_json_says_the_same(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("release: on\n", encoding="utf-8")
    outcome = run("validate", "--json", BUDGET, broken)
    said = json.loads(outcome.out)
    assert (outcome.code, said["ok"]) == (1, False)
    good, bad = said["budgets"]
    assert (good["ok"], good["name"], good["sha256"]) == (True, "model-v42", load_budget(BUDGET).sha256)
    assert bad["ok"] is False
    assert {"file": str(broken), "line": 1, "column": 10}.items() <= bad["problems"][-1].items()


@pytest.mark.parametrize("make", ["nothing", "folder", "defaults", "twins"])
def test_validate_refuses_what_holds_no_budget_or_two_of_one_name(
    run: Run, tmp_path: Path, make: str
) -> None:
    path = tmp_path / "x.yaml"
    if make == "folder":
        path.mkdir()
    elif make == "defaults":
        path = tmp_path / "defaults.yaml"
        path.touch()
    elif make == "twins":
        for suffix in (".yaml", ".yml"):
            (tmp_path / f"x{suffix}").write_text(BUDGET.read_text(encoding="utf-8"), encoding="utf-8")
        path = tmp_path
    outcome = run("validate", path)
    assert outcome.code == 1
    assert outcome.out.startswith(str(path))


def test_explain_says_the_rule_in_sentences(run: Run) -> None:
    outcome = run("explain", BUDGET)
    assert outcome.code == 0
    for sentence in (
        "quality: if task_success falls more than 2 % below model-v41 for 20 min, "
        "the incident commander decides within 15 min; silence rolls back",
        "safety: as soon as model-v42 has any high_severity_incidents beyond those of model-v41 "
        "(scaled to its traffic), model-v42 is rolled back at once, without asking",
        "latency: if p95 rises more than 15 % above model-v41 for 30 min",
        "model-v42 is watched for 24 h after shipping",
        "if an area sees nothing for 15 min, the incident commander is asked",
        "quality.task_success_delta_pct: sequential (auto: events among requests are counted; "
        "sign where samples carry no counts): in at most 1.7 % of rollouts it is used up without harm",
        "latency.p95_delta_pct: sequential (auto: requests beyond a bound are counted; "
        "sign where samples carry no histogram)",
    ):
        assert sentence in outcome.out


def test_explain_says_once_how_long_slow_metrics_may_be_unseen(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "slow.yaml"
    path.write_text(
        """\
release: model-v42
baseline: model-v41
window: 24h
metrics: {helpful: {every: 1h}, late_helpful: {every: 1h, lag: 2h}, daily: {every: 2h}, quick: {lag: 5m}}
rollback_budget:
  quality:
    - {helpful_delta: -4, max_duration: 2h}
    - {late_helpful_delta: -4, max_duration: 2h}
    - {daily_delta: -4, max_duration: 2h}
    - {quick_delta: -4, max_duration: 2h}
""",
        encoding="utf-8",
    )
    said = "sees nothing for 15 min (15 h for helpful and late_helpful, 30 h for daily), the incident"
    assert said in run("explain", path).out


def test_explain_as_json_and_of_a_broken_file(run: Run, tmp_path: Path) -> None:
    said = json.loads(run("explain", BUDGET, "--json").out)
    assert [line["budget"] for line in said["budgets"]] == [b.id for b in load_budget(BUDGET).budgets]
    assert said["missing_to_ship"] == []
    broken = tmp_path / "broken.yaml"
    broken.write_text("release: 1\nbaseline: 2\n", encoding="utf-8")
    outcome = run("explain", broken)
    assert (outcome.code, outcome.out) == (1, "")
    assert f"{broken}:1:10: " in outcome.err
    assert f"{broken}:2:11: " in outcome.err


def test_explain_escapes_what_a_terminal_would_act_on(run: Run, tmp_path: Path) -> None:
    text = BUDGET.read_text(encoding="utf-8").replace("release: model-v42", 'release: "\\e[2Jv\\n42"')
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    assert "\\x1b[2Jv\\n42" in run("explain", path).out


def test_checked_in_schemas_are_those_of_the_types(run: Run, tmp_path: Path) -> None:
    assert run("schema", "--check", ROOT / "docs").code == 0
    assert run("schema", "--write", tmp_path).code == 0
    stale = tmp_path / "budget.schema.json"
    stale.write_text(stale.read_text(encoding="utf-8").replace("24h", "25h"), encoding="utf-8")
    outcome = run("schema", "--check", tmp_path)
    assert outcome.code == 1
    assert str(stale) in outcome.err
    assert "evaluation" not in outcome.err


@pytest.mark.parametrize("name", list(SCHEMAS))
def test_schema_prints_a_valid_schema(run: Run, name: str) -> None:
    outcome = run("schema", name)
    assert outcome.code == 0
    jsonschema.Draft202012Validator.check_schema(json.loads(outcome.out))


def test_schemas_accept_what_the_types_accept() -> None:
    validator = jsonschema.Draft202012Validator(json.loads(schema_text("budget")))
    for path in (BUDGET, BUDGET.parent / "defaults.yaml"):
        validator.validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    for wrong in (
        {"windw": "24h"},
        {"window": 24},
        {"rollback_budget": {"a": {"p95_delta_pc": 1}}},
        {"rollback_budget": {"a": [{"p95_delta_pct": "2%"}]}},
        {"decision": {"tier_a_breach": "immediate_rollback"}},
    ):
        assert not validator.is_valid(wrong), wrong
    spec = jsonschema.Draft202012Validator(json.loads(schema_text("spec")))
    spec.validate(json.loads(load_budget(BUDGET).canonical_json()))


def test_loading_a_budget_imports_nothing_heavy() -> None:
    heavy = "{'airflow', 'sqlalchemy', 'pandas', 'numpy', 'jinja2', 'requests', 'click'}"
    program = f"import sys, rollback_budget.budget_file; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
