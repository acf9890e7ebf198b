from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from rollback_budget.debt.log import log_debts
from rollback_budget.exceptions import TicketError
from rollback_budget.ledger.debt_views import Claim, Debt, DebtState, Ticket, TicketState
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.tickets.markdown import MarkdownBacklog, escape
from rollback_budget.tickets.sync.filing import file_debts
from rollback_budget.tickets.sync.sync import sync_tickets
from rollback_budget.tickets.ticket_context import context_of
from tests.support.debts import now_owed, owe, pay
from tests.support.rollouts import NOON, log_breach, make_breach, race

pytestmark = pytest.mark.database

MINUTE = timedelta(minutes=1)


def test_every_debt_becomes_one_file_that_shows_each_recurrence(ledger: Ledger, tmp_path: Path) -> None:
    backlog = MarkdownBacklog(tmp_path / "backlog")
    log_breach(ledger, make_breach(NOON))
    (change,) = log_debts(ledger, None, NOON)
    (filed,) = file_debts(ledger, backlog, NOON, "test")
    (file,) = (tmp_path / "backlog").iterdir()
    assert (file.name, file.name.startswith("support-bot-latency-p95-")) == (filed.key, True)
    text = file.read_text()
    assert "p95 was 31 % above model-v41" in text
    assert "Occurrences: 1\n" in text
    assert "red-green proof" in text
    debt = ledger.debts.get(change.debt.fingerprint)
    assert debt is not None
    assert debt.state is DebtState.FILED

    log_breach(ledger, make_breach(NOON + MINUTE))
    log_debts(ledger, None, NOON + MINUTE)
    assert file_debts(ledger, backlog, NOON + MINUTE, "test") == []
    assert len(sync_tickets(ledger, backlog, NOON + MINUTE)) == 1
    assert sync_tickets(ledger, backlog, NOON + MINUTE) == []
    assert list((tmp_path / "backlog").iterdir()) == [file]
    assert "Occurrences: 2\n" in file.read_text()
    assert file.read_text().count("p95 was 31 %") == 3, "one in the lead"


def test_a_ticket_is_closed_by_paying_and_opened_again_when_the_debt_is(
    ledger: Ledger, tmp_path: Path
) -> None:
    backlog = MarkdownBacklog(tmp_path / "backlog")
    debt = owe(ledger, "support-bot")
    file_debts(ledger, backlog, NOON, "test")
    sync_tickets(ledger, backlog, NOON)
    assert status_of(ledger, debt) is None
    pay(ledger, debt, NOON + MINUTE)
    reported = sync_tickets(ledger, backlog, NOON + MINUTE)
    assert [one.what for one in reported] == ["written anew", "closed"]
    assert status_of(ledger, debt) == "done"
    assert sync_tickets(ledger, backlog, NOON + MINUTE) == []
    log_breach(ledger, make_breach(NOON + 2 * MINUTE))
    log_debts(ledger, None, NOON + 2 * MINUTE)
    sync_tickets(ledger, backlog, NOON + 2 * MINUTE)
    assert status_of(ledger, debt) == "new"


def status_of(ledger: Ledger, debt: Debt) -> str | None:
    ticket = now_owed(ledger, debt).ticket
    assert ticket is not None
    return ticket.status


def test_names_and_sentences_cannot_write_markdown_or_leave_the_folder(
    ledger: Ledger, tmp_path: Path
) -> None:
    hostile = "../../etc/<script>alert(1)</script>\n# [x](javascript:y) `z` {{ config }} | \\"
    backlog = MarkdownBacklog(tmp_path / "backlog")
    log_breach(ledger, make_breach(sentence=hostile, area=hostile, metric="../m"), service=hostile)
    log_debts(ledger, None, NOON)
    file_debts(ledger, backlog, NOON, "test")
    (file,) = tmp_path.glob("**/*.md")
    assert file.parent == tmp_path / "backlog"
    text = file.read_text()
    assert "<script" not in text.replace("\\<", "")
    assert "\n# \\[x" not in text
    assert escape("a\n# b*") == "a \\# b\\*"


def test_racing_tasks_write_one_file_and_every_one_that_lost_says_so_or_sees_it(
    ledger: Ledger, tmp_path: Path
) -> None:
    log_breach(ledger, make_breach())
    log_debts(ledger, None, NOON)

    def run(number: int) -> str:
        try:
            return f"{len(file_debts(ledger, MarkdownBacklog(tmp_path / 'b'), NOON, f'task {number}'))} filed"
        except TicketError as error:
            return str(error).rpartition(": ")[2]

    answers = Counter(race(8, run))
    assert answers["1 filed"] == 1
    assert answers.keys() <= {"1 filed", "0 filed", "another task is filing it"}
    assert len(list((tmp_path / "b").iterdir())) == 1


def test_of_racing_claims_one_wins_every_time(ledger: Ledger) -> None:
    log_breach(ledger, make_breach())
    log_debts(ledger, None, NOON)
    (debt,) = ledger.debts.every()

    def claim(number: int) -> Claim | Ticket:
        own = Ledger(ledger.url)
        return own.tickets.claim(debt.fingerprint, f"task {number}", NOON, lease=MINUTE, settle=MINUTE)

    for _ in range(8):
        (won,) = [answer for answer in race(8, claim) if isinstance(answer, Claim)]
        ledger.tickets.release(won, "for the next round", unknown_since=None)


def test_a_debt_that_cannot_be_filed_stays_and_is_caught_up_with(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    log_breach(ledger, make_breach())
    log_debts(ledger, None, NOON)
    with pytest.raises(TicketError, match=r"latency.p95_delta_pct.*cannot be written.*Check"):
        file_debts(ledger, MarkdownBacklog(tmp_path / "file"), NOON, "test")
    (debt,) = ledger.debts.every()
    assert debt.state is DebtState.DETECTED
    assert debt.ticket is not None
    assert debt.ticket.state is TicketState.PENDING
    assert len(file_debts(ledger, MarkdownBacklog(tmp_path / "b"), NOON, "test")) == 1


def test_a_task_that_dies_while_filing_blocks_others_only_for_its_lease(
    ledger: Ledger, tmp_path: Path
) -> None:
    backlog = MarkdownBacklog(tmp_path)
    log_breach(ledger, make_breach())
    log_debts(ledger, None, NOON)
    (debt,) = ledger.debts.every()
    # It dies after the file was written and before the ledger knew.
    claim = ledger.tickets.claim(debt.fingerprint, "dead", NOON, lease=5 * MINUTE, settle=backlog.settle)
    assert isinstance(claim, Claim)
    written = backlog.create(context_of(ledger, debt))

    with pytest.raises(TicketError, match="another task") as waiting:
        file_debts(ledger, backlog, NOON + 2 * MINUTE, "alive")
    assert waiting.value.retry_after is not None
    assert timedelta(0) < waiting.value.retry_after <= 3 * MINUTE
    (filed,) = file_debts(ledger, backlog, NOON + 6 * MINUTE, "alive")
    assert (filed.key, filed.adopted) == (written.key, True)
