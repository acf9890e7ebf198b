"""The local backlog: one Markdown file per debt, for teams without a ticket system."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from rollback_budget.errors import TicketError
from rollback_budget.files import replace_file
from rollback_budget.ledger.debt_records import Debt
from rollback_budget.ledger.records import LoggedBreach
from rollback_budget.tickets.description import Description, describe
from rollback_budget.tickets.tracker import TicketRef

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#|~!&])")


class LocalBacklog:
    """Files debts into a folder; a file's name depends on its debt alone, so it is never doubled.

    :param folder: made when it is not there.
    """

    name = "local"
    settle = timedelta(0)

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)

    def find(self, debt: Debt) -> TicketRef | None:
        """Return the debt's file, None when it was never written."""
        return TicketRef(_name(debt)) if (self._folder / _name(debt)).exists() else None

    def create(self, debt: Debt, breaches: Sequence[LoggedBreach]) -> TicketRef:
        """Write the debt's file. Raises TicketError."""
        file = self._folder / _name(debt)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(file, render(describe(debt, breaches)))
        except OSError as error:
            raise TicketError(
                f"the backlog file {file} cannot be written: {error.strerror}."
                " Check the folder's rights and space"
            ) from error
        return TicketRef(file.name)

    def refresh(self, ref: TicketRef, debt: Debt, breaches: Sequence[LoggedBreach]) -> None:  # noqa: ARG002
        """Write the file anew. Raises TicketError."""
        self.create(debt, breaches)


def render(description: Description) -> str:
    """Return a description as Markdown."""
    lines = [f"# {escape(description.title)}", ""]
    lines += [f"- {name}: {escape(value)}" for name, value in description.facts]
    lines += ["", "## Breaches", ""]
    for moment, rollout, sentence in description.breaches:
        lines += [f"- {moment}, {escape(rollout)}: {escape(sentence)}"]
    lines += ["", "## How to pay", "", *description.how_to_pay]
    return "\n".join(lines) + "\n"


def escape(value: str) -> str:
    """Return ``value`` as Markdown text on one line, without any markup or HTML of its own."""
    return _MARKDOWN.sub(r"\\\1", " ".join(value.split()))


def _name(debt: Debt) -> str:
    words = re.findall(r"[a-z0-9]+", f"{debt.service} {debt.area} {debt.metric}".lower())
    return f"{'-'.join(words)[:60]}-{debt.label.removeprefix('rollback-budget-')}.md"
