"""What the user sees: lines as things happen, a live table on a terminal, and the summary."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from demo.follow import Progress
from demo.loop import APPROVER, LoopOutcome
from demo.outcome import RolloutOutcome
from demo.scenarios import FIXED
from rollback_budget.engine import Status
from rollback_budget.engine.evaluation import BudgetEvaluation
from rollback_budget.gate.result import GateResult
from rollback_budget.ledger.debt_views import TicketState

REFRESH_S = 1.0
PLAIN_BURN_EVERY_S = 5.0
BAR = 10
PLAIN_WIDTH = 140
STYLES = {Status.GOOD: "green", Status.BAD: "red", Status.UNKNOWN: "yellow"}


class Screen:
    """Prints on one console; without a terminal it prints plain lines only."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        if not self.console.is_terminal:
            self.console.width = PLAIN_WIDTH
        self._began = time.monotonic()

    def say(self, line: str, *, about: str = "") -> None:
        """Print one line, with the seconds since the demo began; ``line`` is data, never markup."""
        elapsed = time.monotonic() - self._began
        self.console.print(
            Text.assemble((f"{elapsed:6.1f} s  ", "dim"), (f"{about:<9}" if about else "", "bold cyan"), line)
        )

    @contextmanager
    def showing(self, progress: Sequence[Progress]) -> Iterator[None]:
        """Show how the rollouts stand while the body runs."""
        stopping = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(progress, stopping), daemon=True)
        if self.console.is_terminal:
            with Live(
                get_renderable=lambda: Group(*(_row(one) for one in progress)),
                console=self.console,
                refresh_per_second=1 / REFRESH_S,
                transient=True,
            ):
                yield
            return
        ticker.start()
        try:
            yield
        finally:
            stopping.set()
            ticker.join()

    def _tick(self, progress: Sequence[Progress], stopping: threading.Event) -> None:
        last: dict[str, str] = {}
        while not stopping.wait(PLAIN_BURN_EVERY_S):
            for one in progress:
                burning = [budget for budget in _budgets(one) if budget.burn]
                line = ", ".join(_burn(budget) for budget in burning)
                if line and last.get(one.scenario.name) != line:
                    last[one.scenario.name] = line
                    self.say(f"burn: {line}", about=one.scenario.name)

    def summarize(self, outcomes: Sequence[RolloutOutcome]) -> None:
        """Print the table at the end."""
        table = Table(title="Three rollouts on a real Airflow", title_justify="left", show_lines=True)
        table.add_column("rollout", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
        table.add_column("breach", min_width=20)
        table.add_column("sample to\nrequest", justify="right")
        table.add_column("sample to\nverified", justify="right")
        table.add_column("eval debt", no_wrap=True)
        for outcome in outcomes:
            table.add_row(*(Text(cell) for cell in _cells(outcome)))
        self.console.print(table, soft_wrap=False)
        self.console.print(
            Text(
                "sample to request: from the moment the breaching sample could first be read (end of its "
                "bucket plus settle) to the rollback request at the service, by the service's clock."
            )
        )

    def summarize_loop(self, breached: RolloutOutcome, loop: LoopOutcome) -> None:
        """Print the whole loop, from the breach to the payment, in one table."""
        table = Table(title="The loop: it cannot happen twice", title_justify="left", show_lines=True)
        table.add_column("step", no_wrap=True)
        table.add_column("what happened", min_width=40)
        table.add_column("by", no_wrap=True)
        for row in _loop_rows(breached, loop):
            table.add_row(*(Text(cell) for cell in row))
        self.console.print(table, soft_wrap=False)


def _loop_rows(breached: RolloutOutcome, loop: LoopOutcome) -> Iterator[tuple[str, str, str]]:
    debt, release = loop.debt, breached.scenario.release
    ticket = "none" if debt.ticket is None else f"{debt.ticket.key}"
    yield "breach", breached.breaches[0].breach.sentence, release
    yield "rolled back", "proven on the control plane and by the traffic", "rollback_budget"
    yield (
        "eval debt",
        f"{debt.fingerprint[:16]}, {debt.severity.value}, due {debt.due_at:%Y-%m-%d}",
        "eval_debt",
    )
    yield "ticket", ticket, "eval_debt"
    expected = sorted({str(case.expectation.value) for case in loop.cases if case.expectation})
    drafted = f"{len(loop.cases)} of the failing requests, redacted; expected: {', '.join(expected)}"
    yield (
        "eval cases",
        drafted,
        ", ".join(sorted({case.expectation.approved_by for case in loop.cases if case.expectation})),
    )
    yield f"{release} again", _gate(loop.blocked), "launch_gate"
    yield f"{FIXED}, fixed", _gate(loop.passed), "launch_gate"
    final = None if loop.final is None else loop.final.final
    yield "", "undecided" if final is None else f"{final.decision.value}: {final.reason}", ""
    yield "red-green proof", f"red on {release}, green on {FIXED}: the debt is {debt.state.value}", APPROVER
    yield "ticket", f"{ticket} {'closed' if loop.closed else 'still open'}", "eval_debt"


def _gate(result: GateResult | None) -> str:
    return "the gate said nothing" if result is None else f"{result.verdict.value}: {result.reason}"


def _cells(outcome: RolloutOutcome) -> tuple[str, ...]:
    def seconds(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f} s"

    in_review = outcome.seconds_in_review
    final = outcome.final
    ending = "undecided" if final is None else f"{final.decision.value}\nby {final.by}"
    filed = sum(debt.ticket is not None and debt.ticket.state is TicketState.FILED for debt in outcome.debts)
    return (
        f"{outcome.scenario.name}\n{outcome.scenario.release}",
        f"{outcome.verdict or 'none'}:\n{ending}",
        "\n".join(logged.breach.sentence for logged in outcome.breaches) or "none",
        seconds(outcome.seconds_to_request)
        + (f"\n(review {seconds(in_review)})" if in_review is not None else ""),
        seconds(outcome.seconds_to_verified),
        f"{filed} filed" if filed else "none",
    )


def _row(progress: Progress) -> Text:
    window = ""
    if progress.window is not None and progress.phase == "watched":
        left = (progress.window[1] - datetime.now(UTC)).total_seconds()
        window = f", {max(left, 0):.0f} s of its window left"
    line = Text.assemble((f"{progress.scenario.name:<9}", "bold cyan"), f"{progress.phase}{window}")
    for budget in _budgets(progress):
        status = budget.look.status if budget.look else Status.UNKNOWN
        line.append(f"\n    {_burn(budget)}", style=STYLES[status])
    return line


def _budgets(progress: Progress) -> Sequence[BudgetEvaluation]:
    return () if progress.evaluation is None else progress.evaluation.budgets


def _burn(budget: BudgetEvaluation) -> str:
    burn, total = budget.burn.total_seconds(), (budget.burn + budget.remaining).total_seconds()
    if not total:
        bad = budget.look is not None and budget.look.status is Status.BAD
        return f"{budget.budget}: {'BREACHED' if bad else 'no event'} (no duration: the first one breaches)"
    filled = min(round(BAR * burn / total), BAR)
    return f"{budget.budget} [{'#' * filled}{'.' * (BAR - filled)}] {burn:g} of {total:g} s"
