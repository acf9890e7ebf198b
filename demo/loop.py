"""The last act: what was breached cannot be released again, and how the debt of it is paid.

The release that was rolled back is shipped again unchanged, and the launch gate blocks it; a fixed one
passes, the debt is proven and paid, and its ticket is closed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from demo.evaluator import RUNS, run_evaluation
from demo.scenarios import FIXED, FIXED_WINDOW, Scenario, write_budget
from demo.service import SimulatedService
from demo.stack import FINAL_STATES, AirflowStack
from demo.waiting import DemoError, wait_for
from rollback_budget.cases.case import EvalCase
from rollback_budget.cases.folder import CaseFolder
from rollback_budget.gate.result import GateResult, GateVerdict
from rollback_budget.ledger.debt_views import Debt, DebtState
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import FinalDecision, Rollout
from rollback_budget.text import plural

EXPECTED = "cannot share"
APPROVER = "robin"
DRAFTED_WITHIN_S = 60.0
CLOSED_WITHIN_S = 60.0
LOOK_EVERY_S = 1.0

Say = Callable[[str], None]


@dataclass
class LoopOutcome:
    """What became of the breached release, of the fixed one, and of the debt between them."""

    debt: Debt
    cases: tuple[EvalCase, ...] = ()
    blocked: GateResult | None = None
    blocked_run: str = ""
    blocked_shipped: bool = False
    passed: GateResult | None = None
    final: Rollout | None = None
    closed: bool = False

    @property
    def caught(self) -> list[str]:
        """The cases that the gate named when it blocked."""
        found = () if self.blocked is None else self.blocked.findings
        return sorted({finding.case_id for finding in found if finding.case_id is not None})

    def problems(self) -> Iterator[str]:
        """Yield everything that is not as the loop must go."""
        if not self.cases:
            yield "no eval case was drafted"
        if self.blocked is None or self.blocked.verdict is not GateVerdict.BLOCK:
            yield f"the gate did not block the breached release: {self.blocked}"
        elif set(self.caught) != {case.id for case in self.cases}:
            yield f"the gate named {self.caught}, not the cases of the debt"
        elif not any(finding.ticket for finding in self.blocked.findings):
            yield "the gate named no ticket"
        if self.blocked_run != "failed" or self.blocked_shipped:
            yield f"the blocked launch ended {self.blocked_run}, shipped: {self.blocked_shipped}"
        if self.passed is None or self.passed.verdict is not GateVerdict.PASS:
            yield f"the gate did not pass the fixed release: {self.passed}"
        final = None if self.final is None else self.final.final
        if final is None or final.decision is not FinalDecision.PROMOTED:
            yield f"the fixed release was not promoted: {final}"
        if self.debt.state is not DebtState.PAID:
            yield f"the debt is {self.debt.state.value}, not paid"
        if not self.closed:
            yield "its ticket is not closed"

    def figures(self) -> dict[str, Any]:
        """Return the figures as JSON data."""
        return {
            "debt": self.debt.fingerprint,
            "ticket": None if self.debt.ticket is None else self.debt.ticket.key,
            "cases": [case.id for case in self.cases],
            "caught": self.caught,
            "state": self.debt.state.value,
            "problems": list(self.problems()),
        }


class Loop:
    """Runs the last act for one scenario whose release was rolled back.

    :param evals: folder of the evaluation results, a file per version.
    :param say: says one line to the user.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        stack: AirflowStack,
        ledger: Ledger,
        service: SimulatedService,
        budgets: Path,
        cases: CaseFolder,
        backlog: Path,
        evals: Path,
        say: Say,
    ) -> None:
        self._scenario = scenario
        self._stack = stack
        self._ledger = ledger
        self._service = service
        self._budgets = budgets
        self._folder = cases
        self._backlog = backlog
        self._evals = evals
        self._say = say

    def run(self, fingerprint: str, give_up_at: datetime) -> LoopOutcome:
        """Go round once for the debt of that fingerprint.

        :raises DemoError: something did not happen in time.
        """
        outcome = LoopOutcome(self._debt(fingerprint))
        outcome.cases = self._approve(outcome.debt)
        self._evaluate(self._scenario.release, outcome.cases)
        self._launch_unchanged(outcome, give_up_at)
        write_budget(self._budgets, self._scenario, release=FIXED, window=FIXED_WINDOW)
        self._say(f"the team fixes the model and writes release: {FIXED} into {self._scenario.name}.yaml")
        self._evaluate(FIXED, outcome.cases)
        self._prove(outcome)
        self._launch_fixed(outcome, give_up_at)
        self._close(outcome)
        return outcome

    def _debt(self, fingerprint: str) -> Debt:
        debt = self._ledger.debts.get(fingerprint)
        assert debt is not None
        return debt

    def _approve(self, debt: Debt) -> tuple[EvalCase, ...]:
        """Let a person say what is expected of the answers to what the eval_debt DAG has drafted."""

        def drafted() -> bool:
            self._stack.check()
            return self._debt(debt.fingerprint).state is DebtState.DRAFTED

        wait_for(drafted, "the eval_debt DAG to draft cases", timeout_s=DRAFTED_WITHIN_S)
        cases = self._folder.cases_of(debt)
        self._say(
            f"the eval_debt DAG drafted {plural(len(cases), 'case')} from the failing requests, redacted:"
        )
        for case in cases:
            self._say(f"  {case.id}: {case.input}")
        self._command("debt", "approve", debt.fingerprint, "all", "--contains", EXPECTED, "--by", APPROVER)
        return self._folder.cases_of(debt)

    def _evaluate(self, release: str, cases: tuple[EvalCase, ...]) -> None:
        passed = run_evaluation(self._service.url, release, cases, self._evals / f"{release}.jsonl")
        self._say(f"evaluation of {release}: {passed} of {len(cases) * RUNS} runs of the cases pass")

    def _launch_unchanged(self, outcome: LoopOutcome, give_up_at: datetime) -> None:
        key, state = self._launch(f"{self._scenario.release} again, unchanged", give_up_at)
        outcome.blocked, outcome.blocked_run = self._gate_run(key), state
        rollout = self._ledger.rollouts.get(key)
        outcome.blocked_shipped = rollout is not None and rollout.shipped_at is not None
        if outcome.blocked is None:
            return
        self._say(f"LAUNCH GATE: {outcome.blocked.verdict.value}: {outcome.blocked.reason}")
        for finding in outcome.blocked.findings:
            self._say(f"  {finding.message} (breach: {finding.breach}; ticket: {finding.ticket})")

    def _launch_fixed(self, outcome: LoopOutcome, give_up_at: datetime) -> None:
        key, _ = self._launch(FIXED, give_up_at)
        outcome.passed, outcome.final = self._gate_run(key), self._ledger.rollouts.get(key)
        if outcome.passed is not None:
            self._say(f"launch gate: {outcome.passed.verdict.value}: {outcome.passed.reason}")
        if outcome.final is not None and outcome.final.final is not None:
            self._say(f"decision: {outcome.final.final.decision.value}: {outcome.final.final.reason}")

    def _launch(self, what: str, give_up_at: datetime) -> tuple[RolloutKey, str]:
        api = self._stack.api
        key = RolloutKey(self._scenario.dag_id, api.trigger(self._scenario.dag_id))
        self._say(f"triggered {key.dag_id}: {what}")
        while True:
            self._stack.check()
            state = api.run_state(key.dag_id, key.run_id)
            if state in FINAL_STATES:
                return key, state
            if datetime.now(UTC) > give_up_at:
                raise DemoError(
                    f"{key} did not end in time; its tasks: {api.task_states(key.dag_id, key.run_id)}"
                )
            time.sleep(LOOK_EVERY_S)

    def _gate_run(self, key: RolloutKey) -> GateResult | None:
        for run in reversed(self._ledger.gate_runs.of(self._scenario.service)):
            if (run.dag_id, run.run_id) == (key.dag_id, key.run_id):
                return GateResult.model_validate_json(run.result)
        return None

    def _prove(self, outcome: LoopOutcome) -> None:
        results = {
            side: str(self._evals / f"{release}.jsonl")
            for side, release in (("--breached", self._scenario.release), ("--candidate", FIXED))
        }
        said = self._command(
            *("debt", "prove", outcome.debt.fingerprint, "--by", APPROVER),
            *(part for pair in results.items() for part in pair),
        )
        for line in said.splitlines():
            self._say(f"  {line}")

    def _close(self, outcome: LoopOutcome) -> None:
        """Let the eval_debt DAG bring the ticket up to date, as it does every quarter of an hour."""
        api = self._stack.api
        run = api.trigger("eval_debt")

        def ended() -> bool:
            self._stack.check()
            return api.run_state("eval_debt", run) in FINAL_STATES

        wait_for(ended, "the eval_debt DAG to close the ticket", timeout_s=CLOSED_WITHIN_S)
        outcome.debt = self._debt(outcome.debt.fingerprint)
        ticket = outcome.debt.ticket
        if ticket is None or ticket.key is None:
            return
        outcome.closed = ticket.status == "done"
        self._say(
            f"the ticket is {'closed' if outcome.closed else 'still open'}: {self._backlog / ticket.key}"
        )

    def _command(self, *arguments: str) -> str:
        self._say(f"$ rollback-budget {' '.join(arguments)}")
        return self._stack.run("rollback-budget", *arguments)
