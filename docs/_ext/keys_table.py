"""A table whose cells are texts with inline markup."""

from __future__ import annotations

from collections.abc import Sequence

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


def keys_table(
    directive: SphinxDirective, heads: Sequence[str], rows: Sequence[Sequence[str]]
) -> nodes.table:
    """Build a table; cells are parsed in the syntax of the page that the directive stands on."""
    group = nodes.tgroup("", cols=len(heads))
    for _ in heads:
        group += nodes.colspec(colwidth=1)
    group += nodes.thead("", _row(directive, heads))
    group += nodes.tbody("", *[_row(directive, row) for row in rows])
    return nodes.table("", group, classes=["colwidths-auto"])


def _row(directive: SphinxDirective, cells: Sequence[str]) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        children, _ = directive.parse_inline(cell)
        row += nodes.entry("", nodes.paragraph("", "", *children))
    return row
