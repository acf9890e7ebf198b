from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from rollback_budget.cli.main import cli
from rollback_budget.debt.log import log_debts
from rollback_budget.exceptions import LedgerUnavailableError, UnknownDebtError
from rollback_budget.ledger.ledger import Ledger
from tests.support.rollouts import NOON, log_breach, make_breach

pytestmark = pytest.mark.database


def test_a_ledger_is_migrated_checked_and_shows_what_is_owed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    monkeypatch.setenv("ROLLBACK_BUDGET_LEDGER", url)

    def run(*arguments: str) -> str:
        return CliRunner().invoke(cli, arguments, catch_exceptions=False).output

    with pytest.raises(LedgerUnavailableError, match="rollback-budget ledger migrate"):
        run("ledger", "check")
    assert "is at revision" in run("ledger", "migrate")
    assert "is ready" in run("ledger", "check")
    assert run("debt", "list") == "no debts\n"

    log_breach(Ledger(url), make_breach())
    (change,) = log_debts(Ledger(url), None, NOON)
    assert "latency.p95_delta_pct  no ticket yet" in run("debt", "list")
    (listed,) = json.loads(run("debt", "list", "--json"))
    assert (listed["fingerprint"], listed["occurrences"]) == (change.debt.fingerprint, 1)
    assert "p95 was 31 % above model-v41" in run("debt", "show", change.debt.fingerprint[:8])
    shown = json.loads(run("debt", "show", change.debt.fingerprint, "--json"))
    assert shown["breaches"][0]["breach"]["delta"] == 31.0
    with pytest.raises(UnknownDebtError, match="no debt's fingerprint begins with 'nonsense'"):
        run("debt", "show", "nonsense")
