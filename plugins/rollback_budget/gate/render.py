"""The gate's result for people: which case, which breach, which ticket."""

from __future__ import annotations

from rollback_budget.gate.result import Effect, Finding, GateResult
from rollback_budget.text import printable

_MARKS = {Effect.BLOCK: "BLOCK", Effect.ASK: "ASK", Effect.NOTE: "note"}
_ORDER = (Effect.BLOCK, Effect.ASK, Effect.NOTE)
#: The heads of the columns.
HEAD = ("", "case", "breach", "ticket", "what")


def rows_of(result: GateResult) -> list[tuple[str, str, str, str, str]]:
    """Return the table's rows, the most severe first."""
    ordered = sorted(result.findings, key=lambda finding: _ORDER.index(finding.effect))
    return [_row(finding) for finding in ordered]


def headline(result: GateResult) -> str:
    """Say the verdict and its reason in one line."""
    return f"{result.release} ({result.service}): {result.verdict.value}: {result.reason}"


def lines_of(result: GateResult) -> list[str]:
    """Return the whole result as lines of text, with a table where there are findings."""
    lines = [printable(headline(result))]
    rows = [tuple(map(printable, row)) for row in rows_of(result)]
    if rows:
        widths = [max(map(len, column)) for column in zip(HEAD, *rows, strict=True)]
        for row in (HEAD, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join(cells).rstrip())
    if result.origin is not None:
        lines.append(printable(f"results: {result.origin} (sha256 {result.digest})"))
    return lines


def _row(finding: Finding) -> tuple[str, str, str, str, str]:
    return (
        _MARKS[finding.effect],
        finding.case_id or "-",
        finding.breach or "-",
        finding.ticket or "-",
        finding.message,
    )
