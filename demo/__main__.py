"""Show the main job for real: three rollouts on a real Airflow, against a simulated LLM service.

A healthy release is promoted; one whose hand-offs and latency slide waits for the incident commander and is
rolled back on their word; one with a high-severity incident is rolled back at once. Then that last one is
shipped again unchanged, and the launch gate blocks it; a fixed one passes, and its eval debt is paid.
Airflow, its processes,
the router's control plane, the request log, the ledger and every second are real; the users, the models'
answers and the commander are simulated. Only a temporary folder and free local ports are touched.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from demo.follow import Follower
from demo.loop import Loop, LoopOutcome
from demo.outcome import RolloutOutcome
from demo.scenarios import BASELINE, FIXED, ROOT, SCENARIOS, USUAL, Scenario, write_budgets
from demo.screen import Screen
from demo.service import SimulatedService
from demo.stack import COMMANDER, AirflowStack
from demo.waiting import wait_for
from rollback_budget.cases.folder import CaseFolder
from rollback_budget.exceptions import RollbackBudgetError
from rollback_budget.ledger.debt_views import TicketState
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.model.budget import Tier
from rollback_budget.text import plural

#: For the rollouts, and for the last act; starting before and filing debts after take half a minute more.
AT_MOST = timedelta(minutes=4)
DEBT_TIMEOUT_S = 60.0
RATE = 300.0
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Demo:
    """One run of the demo, in ``home``."""

    def __init__(self, home: Path, screen: Screen) -> None:
        self._home = home
        self._screen = screen
        self._services: dict[str, SimulatedService] = {}
        self._ledger = Ledger(f"sqlite:///{home / 'ledger.db'}")
        self._budgets = home / "budgets"
        self._backlog = home / "eval-debt"
        self._cases = home / "eval-cases"
        self._evals = home / "evals"
        self.stack = AirflowStack(
            home / "airflow",
            ROOT / "dags",
            environment={
                "AIRFLOW__ROLLBACK_BUDGET__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'ledger.db'}",
                "AIRFLOW__ROLLBACK_BUDGET__BUDGETS_FOLDER": str(self._budgets),
                "AIRFLOW__ROLLBACK_BUDGET__BACKLOG_FOLDER": str(self._backlog),
                "AIRFLOW__ROLLBACK_BUDGET__CASES_FOLDER": str(self._cases),
                "AIRFLOW__ROLLBACK_BUDGET__GATE_FOLDER": str(home / "eval-gate"),
                "AIRFLOW__ROLLBACK_BUDGET__JIRA_CONN_ID": "",
            },
        )

    def start(self, entered: ExitStack) -> None:
        """Start everything.

        :param entered: takes what must be ended when the demo is over.
        """
        say = self._screen.say
        write_budgets(self._budgets, self._evals)
        for scenario in SCENARIOS:
            self._services[scenario.name] = self._start_service(scenario, entered)
        say(f"three simulated LLM services serve {BASELINE}, each {RATE:g} requests/s, logged into SQLite")
        say("starting Airflow: API server, scheduler, DAG processor, triggerer (15 to 30 s) ...")
        entered.enter_context(self.stack)
        say(f"Airflow is healthy at {self.stack.url}")
        self.stack.run("rollback-budget", "ledger", "migrate")
        self.stack.wait_for_dags([*(scenario.dag_id for scenario in SCENARIOS), "eval_debt"])
        say(f"the ledger is migrated; {len(SCENARIOS)} budget files became {len(SCENARIOS)} DAGs")

    def roll_out(self, give_up_at: datetime) -> list[RolloutOutcome]:
        """Run the rollouts side by side, and return how they ended."""
        stopping = threading.Event()
        followers = [
            Follower(
                scenario,
                stack=self.stack,
                ledger=self._ledger,
                service=self._services[scenario.name],
                requests=self._requests(scenario),
                say=partial(self._screen.say, about=scenario.name),
                stopping=stopping,
            )
            for scenario in SCENARIOS
        ]
        with (
            self._screen.showing([follower.progress for follower in followers]),
            ThreadPoolExecutor(len(followers)) as pool,
        ):
            try:
                futures = [pool.submit(follower.follow, give_up_at) for follower in followers]
                ended = [future.result() for future in futures]
            finally:
                stopping.set()
            self._wait_for_debts(ended)
        return [
            follower.read_outcome(outcome.key, outcome.run_state)
            for follower, outcome in zip(followers, ended, strict=True)
        ]

    def go_round(self, breached: RolloutOutcome, give_up_at: datetime) -> LoopOutcome:
        """Ship a release that was rolled back again, then a fixed one, and return what became of them."""
        scenario = breached.scenario
        loop = Loop(
            scenario,
            stack=self.stack,
            ledger=self._ledger,
            service=self._services[scenario.name],
            budgets=self._budgets,
            cases=CaseFolder(self._cases),
            backlog=self._backlog,
            evals=self._evals,
            say=partial(self._screen.say, about=scenario.name),
        )
        return loop.run(breached.breaches[0].debt_fingerprint, give_up_at)

    def _start_service(self, scenario: Scenario, entered: ExitStack) -> SimulatedService:
        service = SimulatedService(
            {BASELINE: USUAL, scenario.release: USUAL, FIXED: USUAL},
            database=self._requests(scenario),
            rate=RATE,
            seed=SCENARIOS.index(scenario),
        )
        entered.enter_context(service)
        requests, router = scenario.connections
        connection = {"conn_type": "sqlite", "host": str(self._requests(scenario))}
        self.stack.add_connection(requests, json.dumps(connection))
        self.stack.add_connection(router, service.url)
        return service

    def _requests(self, scenario: Scenario) -> Path:
        return self._home / f"{scenario.name}-requests.db"

    def _wait_for_debts(self, outcomes: Sequence[RolloutOutcome]) -> None:
        owed = {logged.debt_fingerprint for outcome in outcomes for logged in outcome.breaches}

        def filed() -> bool:
            self.stack.check()
            debts = {debt.fingerprint: debt.ticket for debt in self._ledger.debts.every()}
            tickets = [debts.get(fingerprint) for fingerprint in owed]
            return all(ticket is not None and ticket.state is TicketState.FILED for ticket in tickets)

        wait_for(filed, "the eval debt to be filed by the eval_debt DAG", timeout_s=DEBT_TIMEOUT_S)
        self._screen.say(f"the eval_debt DAG filed {plural(len(owed), 'debt')} in the local backlog")


def main() -> int:
    """Run the demo; 0 when all rollouts and the loop went as they must."""
    options = _parse()
    screen = Screen()
    home = Path(tempfile.mkdtemp(prefix="rollback-budget-demo-"))
    for number in INTERRUPTS:
        signal.signal(number, _interrupt)
    keep_files = True
    try:
        with ExitStack() as entered:
            demo = Demo(home, screen)
            demo.start(entered)
            outcomes = demo.roll_out(datetime.now(UTC) + AT_MOST)
            problems = _report(screen, outcomes)
            figures = [outcome.figures() for outcome in outcomes]
            breached = next(one for one in outcomes if one.scenario.tier is Tier.A)
            if not problems:
                screen.say("\nshipping the release that was rolled back once more, without a fix")
                loop = demo.go_round(breached, datetime.now(UTC) + AT_MOST)
                screen.summarize_loop(breached, loop)
                problems = _wrong(screen, "loop", loop.problems())
                figures.append(loop.figures())
            if options.json:
                options.json.write_text(json.dumps(figures, indent=2) + "\n")
            if options.keep:
                _stay(screen, demo.stack, home)
            screen.say("stopping ...")
        keep_files = bool(problems)
    except RollbackBudgetError as error:
        screen.say(f"the demo failed: {error}")
        problems = [str(error)]
    except KeyboardInterrupt:
        screen.say("interrupted; everything that the demo started was stopped")
        keep_files = False
        return 130
    finally:
        if not keep_files:
            shutil.rmtree(home, ignore_errors=True)
    if problems:
        screen.say(
            f"logs: {home / 'airflow' / 'logs'} (components), {home / 'airflow' / 'logs' / 'tasks'} (tasks)"
        )
        return 1
    screen.say("all rollouts and the loop went as they must; everything is cleaned up")
    return 0


def _report(screen: Screen, outcomes: Sequence[RolloutOutcome]) -> list[str]:
    screen.summarize(outcomes)
    return [
        problem
        for outcome in outcomes
        for problem in _wrong(screen, outcome.scenario.name, outcome.problems())
    ]


def _wrong(screen: Screen, about: str, problems: Iterable[str]) -> list[str]:
    found = [f"{about}: {problem}" for problem in problems]
    for problem in found:
        screen.say(f"WRONG  {problem}")
    return found


def _interrupt(*_: object) -> None:
    """End the demo once; a second Ctrl-C must not keep it from stopping what it started."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _stay(screen: Screen, stack: AirflowStack, home: Path) -> None:
    with suppress(KeyboardInterrupt):
        screen.say(f"Airflow stays at {stack.url}, user {COMMANDER}, password {stack.passwords[COMMANDER]}")
        screen.say(f"budget files, request logs, ledger and eval debt are in {home}; Ctrl-C ends all of it")
        threading.Event().wait()


def _parse() -> argparse.Namespace:
    summary, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m demo",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        default=os.environ.get("KEEP", "") not in ("", "0"),
        help="leave Airflow and the services running at the end until Ctrl-C (also KEEP=1)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of the summary to FILE")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
