"""``python -m bench.decision_quality``: how often the rules roll back what is harmless, and miss what is not.

Simulates with fixed seeds, prints the tables, and writes ``docs/explanation/decision-quality.md`` with its
chart.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import track

from bench.quality.cells import cells, measure
from bench.quality.report import chart, page, targets_missed

DOCS = Path(__file__).resolve().parents[1] / "docs" / "explanation"


def main(arguments: list[str]) -> int:
    """Simulate and report; exit code 1 when a row of what must be reached is not."""
    parser = argparse.ArgumentParser(prog="python -m bench.decision_quality", description=__doc__)
    parser.add_argument("--rollouts", type=int, default=2000, help="simulated rollouts a cell")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where the page and its chart are written")
    options = parser.parse_args(arguments)
    console = Console()
    begun = perf_counter()
    todo = cells()
    with ProcessPoolExecutor(options.jobs) as pool:
        found = pool.map(partial(measure, rollouts=options.rollouts), todo)
        results = dict(zip(todo, track(found, "simulating", len(todo), console=console), strict=True))
    text = page(results, options.rollouts, perf_counter() - begun)
    (options.docs / "decision-quality.md").write_text(text, encoding="utf-8")
    chart(results, options.docs / "decision-quality.svg")
    console.print(Markdown(text))
    missed = targets_missed(results)
    console.print(f"written to {options.docs}; not reached: {', '.join(missed) or 'nothing'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
