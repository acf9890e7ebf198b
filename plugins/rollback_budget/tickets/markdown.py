"""The local backlog: one Markdown file per debt, for teams without a ticket system."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

from rollback_budget.exceptions import TicketError
from rollback_budget.files import replace_file
from rollback_budget.ledger.debt_views import Debt
from rollback_budget.tickets.base import (
    FoundTicket,
    RunLink,
    TicketRef,
    TicketTracker,
    TrackerDeployment,
    no_link,
)
from rollback_budget.tickets.description import Description, describe
from rollback_budget.tickets.ticket_context import TicketContext

#: What an address may hold as it is; the rest would end the link.
_URL = "%/:?#[]@!$&'()*+,;=~"

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#|~!&])")


class MarkdownBacklog(TicketTracker):
    """Files debts into a folder; a file's name depends on its debt alone, so it is never doubled.

    :param folder: made when it is not there.
    :param run_link: where a rollout's DAG run is seen.
    """

    name = "local"
    settle = timedelta(0)

    def __init__(self, folder: Path | str, *, run_link: RunLink = no_link) -> None:
        self._folder = Path(folder)
        self._run_link = run_link

    @classmethod
    def open(cls, deployment: TrackerDeployment) -> MarkdownBacklog:
        """Return the backlog in the deployment's folder."""
        return cls(deployment.backlog_folder, run_link=deployment.run_link)

    def find(self, debt: Debt) -> FoundTicket | None:
        """Return the debt's file, None when it was never written."""
        return (
            FoundTicket(TicketRef(_name(debt)), reported=0) if (self._folder / _name(debt)).exists() else None
        )

    def create(self, context: TicketContext) -> TicketRef:
        """Write the debt's file. Raises TicketError."""
        file = self._folder / _name(context.debt)
        self._write(file, context)
        return TicketRef(file.name)

    def rewrite(self, ref: TicketRef, context: TicketContext) -> bool:
        """Write the file anew where it says anything else, also when it was deleted."""
        return self._write(self._folder / ref.key, context)

    def _write(self, file: Path, context: TicketContext) -> bool:
        text = render(describe(context, self._run_link))
        try:
            if file.exists() and file.read_text(encoding="utf-8", errors="replace") == text:
                return False
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(file, text)
        except OSError as error:
            raise TicketError(
                f"the backlog file {file} cannot be written: {error.strerror}."
                " Check the folder's rights and space"
            ) from error
        return True


def render(description: Description) -> str:
    """Return a description as Markdown."""
    lines = [f"# {escape(description.title)}", "", escape(description.lead), ""]
    lines += [f"- {name}: {escape(value)}" for name, value in description.facts]
    if description.table:
        lines += ["", "## Budgets", "", _row(description.table[0]), "|" + "---|" * len(description.table[0])]
        lines += [_row(cells) for cells in description.table[1:]]
    lines += ["", "## Breaches", ""]
    for moment, rollout, sentence in description.breaches:
        lines += [f"- {moment}, {escape(rollout)}: {escape(sentence)}"]
    for title, lines_of in (("What was decided", description.decisions), ("Since then", description.story)):
        if lines_of:
            lines += ["", f"## {title}", "", *(f"- {escape(line)}" for line in lines_of)]
    if description.links:
        lines += ["", "## Links", ""]
        lines += [f"- [{escape(title)}](<{quote(url, safe=_URL)}>)" for title, url in description.links]
    lines += ["", "## How to pay", "", *description.how_to_pay]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escape(cell) for cell in cells) + " |"


def escape(value: str) -> str:
    """Return ``value`` as Markdown text on one line, without any markup or HTML of its own."""
    return _MARKDOWN.sub(r"\\\1", " ".join(value.split()))


def _name(debt: Debt) -> str:
    words = re.findall(r"[a-z0-9]+", f"{debt.service} {debt.area} {debt.metric}".lower())
    return f"{'-'.join(words)[:60]}-{debt.label.removeprefix('rollback-budget-')}.md"
