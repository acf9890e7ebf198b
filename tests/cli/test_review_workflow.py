"""The workflow in the documentation does what it says: its script, on a real git repository and ledger."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rollback_budget.ledger.ledger import Ledger
from tests.engine.builders import budget, rollout
from tests.track_record.rollouts import slow, watch

pytestmark = pytest.mark.database

WORKFLOW = Path(__file__).parents[2] / "docs/how-to/review-budgets.yml"
BUDGET = """\
release: v50
baseline: v49
window: 2h
rollback_budget:
  latency:
    p95_delta_pct: +15
    max_duration_min: 30
    method: threshold
"""


class Repository:
    """A git repository with budgets, and a pull request on top of its first commit."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.root = folder / "repository"
        (self.root / "budgets").mkdir(parents=True)
        tools = folder / "bin"
        tools.mkdir()
        command = tools / "rollback-budget"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m rollback_budget.cli.main "$@"\n')
        command.chmod(0o755)
        self.comment = folder / "comment.md"
        self.environment = {
            **os.environ,
            "PATH": f"{tools}:{os.environ['PATH']}",
            "ROLLBACK_BUDGET_LEDGER": ledger.url,
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        self.git("init", "--quiet", "--initial-branch=main")
        self.write("defaults.yaml", "service: assistant\n")
        self.write("a.yaml", BUDGET)
        self.write("b.yaml", BUDGET)
        self.base = self.commit()

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=test", "-c", "user.email=test@example.com")
        return subprocess.run(
            ["git", *who, *arguments],
            cwd=self.root,
            check=True,
            capture_output=True,
            text=True,
            env=self.environment,
        ).stdout.strip()

    def write(self, name: str, text: str) -> None:
        (self.root / "budgets" / name).write_text(text)

    def commit(self) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "budgets")
        return self.git("rev-parse", "HEAD")

    def review(self) -> str:
        """Run the step of the workflow as a forge runs it; return the comment."""
        steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["review"]["steps"]
        (script,) = [step["run"] for step in steps if step.get("name") == "Try the change on past rollouts"]
        subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=self.root,
            check=True,
            capture_output=True,
            env={**self.environment, "BASE": self.base},
            timeout=120,
        )
        return self.comment.read_text()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    watch(ledger, 1, rollout(budget(), minutes=120), slow(range(20, 121)))
    return Repository(tmp_path, ledger)


def test_a_changed_budget_is_reviewed_and_one_that_is_new_or_the_same_is_not(repository: Repository) -> None:
    repository.write("a.yaml", BUDGET.replace("max_duration_min: 30", "max_duration_min: 10"))
    repository.write("c.yaml", BUDGET)
    repository.commit()
    comment = repository.review()
    assert comment.count("## Rollback budget") == 1
    assert "| `model-v42` | none | tripped | 50 | tripped | 30 | `latency.p95_delta_pct` |" in comment


def test_changed_defaults_are_a_change_of_every_budget(repository: Repository) -> None:
    repository.write("defaults.yaml", "service: assistant\nwatch: {grace: 30m}\n")
    repository.commit()
    comment = repository.review()
    assert comment.count("## Rollback budget") == 2
    assert "- `watch.grace`: `0m` → `30m`" in comment


def test_what_cannot_be_tried_is_said_in_the_comment(repository: Repository) -> None:
    repository.write("a.yaml", f"service: search\n{BUDGET}")
    repository.commit()
    assert repository.review() == (
        "What the change of `budgets/a.yaml` would have done cannot be said: see the log.\n"
    )
