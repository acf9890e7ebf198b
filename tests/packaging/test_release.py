"""Version, changelog, workflows and documentation agree with each other and with what is there."""

from __future__ import annotations

import re
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import rollback_budget

pytestmark = pytest.mark.pure

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / ".github").glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-11-28\n\n- x\n\n## [1.1.0] - 2026-10-01\n"


def release_check() -> ModuleType:
    spec = spec_from_file_location("check_release", ROOT / ".ci" / "check_release.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_version_has_a_section_in_the_changelog() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert release_check().problems(rollback_budget.__version__, changelog) == []


def test_a_release_whose_tag_version_and_changelog_agree_is_fine() -> None:
    assert release_check().problems("1.2.0", CHANGELOG, "v1.2.0") == []


@pytest.mark.parametrize(
    ("version", "changelog", "tag", "problem"),
    [
        ("1.3.0", CHANGELOG, None, "no section for version 1.3.0"),
        ("1.2.0", CHANGELOG, "v1.3.0", "the tag is v1.3.0, but __version__ is 1.2.0"),
        ("1.2.0", CHANGELOG.replace("2026-11-28", "unreleased"), "v1.2.0", "has no date"),
        ("1.2.0", CHANGELOG.replace("[Unreleased]\n", "[Unreleased]\n\n- y\n"), "v1.2.0", "is not empty"),
        ("1.2.0", CHANGELOG.replace("[1.1.0]", "[1.10.0]"), None, "newest first"),
        ("1.2.0", CHANGELOG.replace("## [Unreleased]\n", ""), None, "does not begin with"),
    ],
)
def test_a_release_that_does_not_agree_is_refused(
    version: str, changelog: str, tag: str | None, problem: str
) -> None:
    assert any(problem in found for found in release_check().problems(version, changelog, tag))


def commands(workflow: Path) -> list[str]:
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_job_of_a_workflow_has_what_a_forge_needs_to_run_it(workflow: Path) -> None:
    # YAML 1.1 reads the key `on` as true.
    content: dict[Any, Any] = yaml.safe_load(workflow.read_text(encoding="utf-8"))
    assert {"name", True, "permissions", "jobs"} <= set(content)
    for job in content["jobs"].values():
        assert {"runs-on", "timeout-minutes", "steps"} <= set(job)
        assert set(job.get("needs", "").split()) <= set(content["jobs"])
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])


@pytest.mark.parametrize("script", [*WORKFLOWS, ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_every_make_target_that_is_called_exists(script: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    text = "\n".join(commands(script)) if script in WORKFLOWS else script.read_text()
    called = set(re.findall(r"\bmake ([a-z-]+)", text))
    assert called
    assert called <= targets


def test_the_workflow_runs_every_python_that_the_package_allows() -> None:
    supported = re.findall(r'requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text())
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert supported == [">=3.11,<3.14"]
    assert ci["jobs"]["supported"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.name)
def test_every_issue_form_has_a_name_and_fields_with_labels(form: Path) -> None:
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(content)
    fields = [field for field in content["body"] if field["type"] != "markdown"]
    assert all(field["id"] and field["attributes"]["label"] for field in fields)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_between_pages_leads_to_a_file(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    missing = [link for link in links if not re.match(r"https?:", link) and not (page.parent / link).exists()]
    assert missing == []


def test_the_reference_of_the_python_api_names_every_public_name() -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    assert [name for name in rollback_budget.__all__ if f"rollback_budget.{name}\n" not in page] == []


def test_the_top_level_holds_what_a_reader_expects_and_nothing_else() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a clone of the repository")
    files = {"pyproject.toml", "constraints.txt", "docker-compose.yml", "Makefile", "README.md"}
    folders = {"plugins", "dags", "budgets", "tests", "docs", "bench", "demo"}
    found = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert {name for name in found if name[0] != "."} == files | folders | {"CHANGELOG.md", "LICENSE"}
