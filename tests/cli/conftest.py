"""What tests of several commands share."""

from __future__ import annotations

import pytest

from rollback_budget.ledger.ledger import Ledger
from tests.support.command_line import Run, command_line


@pytest.fixture
def run(ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line on the fixture ``ledger``, in this process."""
    monkeypatch.setenv("ROLLBACK_BUDGET_LEDGER", ledger.url)
    monkeypatch.setenv("COLUMNS", "200")
    return command_line(capsys, monkeypatch)
