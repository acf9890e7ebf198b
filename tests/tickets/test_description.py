"""What a ticket says in both markups, and that nothing in it is more than data."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from rollback_budget.engine.evaluation import BudgetEvaluation, Look, Status
from rollback_budget.ledger.debt_models import GateRunRow
from rollback_budget.ledger.debt_views import Debt
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.model.budget import Method, Tier
from rollback_budget.tickets.base import Comment
from rollback_budget.tickets.description import describe
from rollback_budget.tickets.jira.issue_identity import IssueIdentity
from rollback_budget.tickets.jira.wiki import LONGEST, description_text, note_text
from rollback_budget.tickets.markdown import MarkdownBacklog
from rollback_budget.tickets.sync.filing import file_debts
from rollback_budget.tickets.sync.sync import sync_tickets
from rollback_budget.tickets.ticket_context import context_of
from tests.support.debts import MINUTE, owe
from tests.support.jira_sites import CloudSite, run_link
from tests.support.rollouts import NOON, make_evaluation

pytestmark = [pytest.mark.database, pytest.mark.service]


@pytest.fixture
def debt(sqlite_ledger: Ledger) -> Debt:
    """A debt whose rollout was evaluated and decided upon."""
    debt = owe(sqlite_ledger, "support-bot")
    (logged,) = sqlite_ledger.breaches.of_debt(debt.fingerprint)
    stands = BudgetEvaluation(
        budget="latency.p95_delta_pct",
        tier=Tier.B,
        method=Method.THRESHOLD,
        method_reason="only values are known",
        look=Look(
            time=NOON, status=Status.BAD, delta=31.25, release_value=2.1, baseline_value=1.6, release_n=480
        ),
        burn=timedelta(minutes=30),
        remaining=timedelta(0),
        looks=60,
        unknown_looks=0,
    )
    evaluation = make_evaluation(logged.breach).model_copy(update={"budgets": (stands,)})
    sqlite_ledger.evaluations.add(logged.key, 1, "watch", evaluation, NOON)
    sqlite_ledger.decisions.add(logged.key, 1, "Roll back", "ada", "users notice", NOON, timed_out=False)
    return debt


def test_the_wiki_text_has_a_table_of_every_budget(sqlite_ledger: Ledger, debt: Debt) -> None:
    text = description_text(describe(context_of(sqlite_ledger, debt), run_link), IssueIdentity.of(debt).line)
    assert "||Budget||Tier||Threshold||model\\-v41||model\\-v42||Delta||Burn||" in text
    row = next(line for line in text.splitlines() if line.startswith("|latency"))
    assert "\\(breached\\)|B|\\+15 %|1.6|2.1 \\(n = 480\\)|\\+31.2 %|30 min of 30 min|" in row
    assert text.splitlines()[-1] == f"rollback-budget {debt.fingerprint} cycle 1 occurrences 1"


def test_the_local_backlog_says_the_same(sqlite_ledger: Ledger, debt: Debt, tmp_path: Path) -> None:
    backlog = MarkdownBacklog(tmp_path / "backlog", run_link=run_link)
    file_debts(sqlite_ledger, backlog, NOON, "test")
    sync_tickets(sqlite_ledger, backlog, NOON)
    (file,) = (tmp_path / "backlog").iterdir()
    text = file.read_text()
    assert "| Budget | Tier | Threshold | model-v41 | model-v42 | Delta | Burn |" in text
    assert "ada decided: Roll back \\(users notice\\)" in text
    assert "](<https://airflow.example.com/dags/rollout_model_v42/runs/" in text
    assert "- State: filed" in text


def test_however_long_a_text_is_its_issue_identity_stays(sqlite_ledger: Ledger) -> None:
    for minute in range(10):
        debt = owe(sqlite_ledger, "wordy", NOON + minute * MINUTE, sentence="very long " * 1000)
    text = description_text(describe(context_of(sqlite_ledger, debt), run_link), IssueIdentity.of(debt).line)
    assert len(text) <= LONGEST
    identity = IssueIdentity.from_text(text)
    assert identity is not None
    assert identity.belongs_to(debt)
    assert identity.occurrences == 10


def test_a_sentence_cannot_forge_an_issue_identity(sqlite_ledger: Ledger) -> None:
    forged = IssueIdentity("f" * 64, 1, 1).line
    debt = owe(sqlite_ledger, "forged", sentence=forged)
    text = description_text(describe(context_of(sqlite_ledger, debt), run_link), IssueIdentity.of(debt).line)
    identity = IssueIdentity.from_text(text)
    assert identity is not None
    assert identity.belongs_to(debt)


def test_the_word_about_one_recurrence_is_not_taken_for_that_about_another() -> None:
    one, other = (
        Comment("rollback-budget: recurred 1.", ("x",)),
        Comment("rollback-budget: recurred 12.", ("x",)),
    )
    assert one.marker not in note_text(other)


def test_what_a_launch_gate_did_is_said_once(sqlite_ledger: Ledger, cloud: CloudSite, debt: Debt) -> None:
    file_debts(sqlite_ledger, cloud.tracker(), NOON, "test")
    sync_tickets(sqlite_ledger, cloud.tracker(), NOON)
    for minute, verdict in enumerate(("block", "block", "pass")):
        with sqlite_ledger.database.write() as session:
            session.add(
                GateRunRow(
                    dag_id="rollout_model_v43",
                    run_id=f"try {minute}",
                    service=debt.service,
                    release="model-v43",
                    verdict=verdict,
                    at=NOON + minute * MINUTE,
                    result=f'{{"findings": [{{"debt": "{debt.fingerprint}"}}]}}',
                )
            )
        sync_tickets(sqlite_ledger, cloud.tracker(), NOON + minute * MINUTE)
    (issue,) = cloud.jira.labelled(debt.label)
    (comment,) = issue.comments
    assert "The launch gate blocked model\\-v43" in comment["body"]
