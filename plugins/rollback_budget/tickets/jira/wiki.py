"""Jira's wiki text: what its REST API 2 takes for descriptions and comments, on Cloud and Data Center."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rollback_budget.tickets.base import Comment
from rollback_budget.tickets.description import Description

#: Jira refuses longer texts: 32 767 characters.
LONGEST = 32_000

_WIKI = re.compile(r"([{}\[\]*_\-+^~?!|#@()<>:])")


def escape(value: str) -> str:
    """Return ``value`` as wiki text on one line, without any markup, link or mention of its own."""
    # Two backslashes are a line break in wiki text, so a backslash cannot escape itself.
    parts = " ".join(value.split()).split("\\")
    return "&#92;".join(_WIKI.sub(r"\\\1", part.replace("&", "&amp;")) for part in parts)


def description_text(description: Description, identity: str) -> str:
    """Return a description as wiki text.

    :param identity: the line by which the issue is known as ours; it is never cut off.
    """
    lines = [escape(description.lead), "", *_bullets(description.facts)]
    if description.table:
        lines += ["", "h3. Budgets", "", "||" + "||".join(map(escape, description.table[0])) + "||"]
        lines += ["|" + "|".join(escape(cell) or " " for cell in row) + "|" for row in description.table[1:]]
    lines += ["", "h3. Breaches", ""]
    for moment, rollout, sentence in description.breaches:
        lines += [f"* {escape(moment)}, {escape(rollout)}: {escape(sentence)}"]
    if description.decisions:
        lines += ["", "h3. What was decided", "", *(f"* {escape(line)}" for line in description.decisions)]
    if description.links:
        lines += ["", "h3. Links", ""]
        lines += [f"* {escape(title)}: {url_text(url)}" for title, url in description.links]
    lines += ["", "h3. How to pay", "", *description.how_to_pay]
    return _fitted(lines, identity)


def note_text(note: Comment) -> str:
    """Return a comment as wiki text, its marker in the last line."""
    lines = [line for paragraph in note.paragraphs for line in (escape(paragraph), "")]
    lines += [f"* {escape(bullet)}" for bullet in note.bullets]
    return _fitted(lines, note.marker)


def url_text(url: str) -> str:
    """Return an address that Jira makes a link of, without what would end the link or the line."""
    return re.sub(r"[\s|\[\]{}]", lambda found: f"%{ord(found[0]):02X}", url)


def _bullets(facts: Sequence[tuple[str, str]]) -> list[str]:
    return [f"* {name}: {escape(value)}" for name, value in facts]


def _fitted(lines: Sequence[str], last: str) -> str:
    """Put ``last`` into a line of its own at the end, and leave out what is too long before it."""
    text = "\n".join(lines).rstrip()
    room = LONGEST - len(last) - 10
    if len(text) > room:
        text = text[: text.rindex("\n", 0, room)] + "\n…"
    return f"{text}\n\n{last}"
