"""``python -m bench [NAME…]``: measure and print the figures that the README quotes, a table each."""

from __future__ import annotations

import importlib
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.figure import Figure

#: Each module has a ``TITLE`` and a ``measure() -> list[Figure]``.
BENCHES = {
    "engine": "bench.engine",
    "dags": "bench.dags",
    "backtest": "bench.backtest",
    "suggestion": "bench.suggestion",
    "looks": "bench.looks",
    "gate": "bench.gate",
    "demo": "bench.demo",
    "decision": "bench.decision",
    "watch": "bench.watch",
    "triggerer": "bench.triggerer",
    "breaches": "bench.breaches",
    "standby": "bench.standby",
}


def main(names: list[str]) -> int:
    """Run the named benches, or all; exit code 1 when a limit is not kept."""
    console = Console()
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        console.print(f"no such bench: {', '.join(unknown)}; there are {', '.join(BENCHES)}")
        return 1
    kept = True
    for name in names or BENCHES:
        bench = importlib.import_module(BENCHES[name])
        with console.status(f"measuring {name}"):
            figures = bench.measure()
        console.print(_table(bench.TITLE, figures))
        kept = kept and all(figure.kept for figure in figures)
    return 0 if kept else 1


def _table(title: str, figures: list[Figure]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("figure")
    for heading in ("measured", "target"):
        table.add_column(heading, justify="right")
    table.add_column("kept")
    for figure in figures:
        kept = "" if not figure.target else "yes" if figure.kept else "NO"
        measured = "" if figure.value is None else f"{figure.value:.3g} {figure.unit}"
        table.add_row(escape(figure.what), measured, figure.target, kept)
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
