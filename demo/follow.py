"""Following one rollout of the demo from its trigger to its end, reporting each step."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import create_engine

from demo.outcome import Commanding, RolloutOutcome, read_outcome
from demo.scenarios import Scenario
from demo.service import SimulatedService
from demo.stack import COMMANDER, FINAL_STATES, AirflowStack
from demo.waiting import DemoError
from rollback_budget.engine import Evaluation, evaluate
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import Rollout
from rollback_budget.sources.base import SeriesRequest
from rollback_budget.sources.sql.source import SqlSeries

LOOK_EVERY_S = 1.0
REVIEW = "round_1.review"
ROLL_BACK_NOW = "Roll back now"
REASON = "Hand-offs and latency slid right after the release; going back to the version that users know."
#: A person reads the evidence before answering.
READING = timedelta(seconds=5)
PHASES = (
    ("promote", "promoting"),
    ("rollback", "rolling back, and proving it"),
    (REVIEW, "waiting for the incident commander"),
    ("round_1.watch", "watched"),
    ("ship", "shipping"),
    ("launch_gate", "at the launch gate"),
    ("preflight", "preflight"),
)

Say = Callable[[str], None]


@dataclass
class Progress:
    """What the screen shows of a rollout; written by its follower, read by the screen."""

    scenario: Scenario
    phase: str = "starting"
    window: tuple[datetime, datetime] | None = None
    evaluation: Evaluation | None = None
    shown: set[str] = field(default_factory=set)


class Follower:
    """Runs one rollout, in a thread of its own.

    :param say: says one line to the user.
    :param stopping: ends the following early.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        stack: AirflowStack,
        ledger: Ledger,
        service: SimulatedService,
        requests: Path,
        say: Say,
        stopping: threading.Event,
    ) -> None:
        self.progress = Progress(scenario)
        self._scenario = scenario
        self._stack = stack
        self._ledger = ledger
        self._service = service
        self._requests = requests
        self._engine = create_engine(f"sqlite:///{requests}")
        self._say = say
        self._stopping = stopping
        self._commanding: Commanding | None = None

    def follow(self, give_up_at: datetime) -> RolloutOutcome:
        """Trigger the rollout and return how it ended.

        :raises DemoError: when it did not end by ``give_up_at``, when Airflow does not answer, or when one of
            its components ended.
        """
        api = self._stack.api
        key = RolloutKey(self._scenario.dag_id, api.trigger(self._scenario.dag_id))
        self._say(f"triggered {key.dag_id}: {self._scenario.story}")
        while True:
            self._stack.check()
            state = api.run_state(key.dag_id, key.run_id)
            states = api.task_states(key.dag_id, key.run_id)
            self._look(key, states)
            if state in FINAL_STATES:
                self.progress.phase = f"run {state}"
                break
            if self._stopping.wait(LOOK_EVERY_S) or datetime.now(UTC) > give_up_at:
                raise DemoError(f"{key.dag_id} did not end in time; its tasks: {states}")
        self._engine.dispose()
        return self.read_outcome(key, state)

    def read_outcome(self, key: RolloutKey, state: str) -> RolloutOutcome:
        """Return how the rollout stands now."""
        return read_outcome(
            self._scenario,
            key,
            state,
            ledger=self._ledger,
            service=self._service,
            requests=self._requests,
            commanding=self._commanding,
        )

    def _look(self, key: RolloutKey, states: dict[str, str | None]) -> None:
        rollout = self._ledger.rollouts.get(key)
        self.progress.phase = _phase(states)
        if rollout is not None and rollout.shipped_at is not None and rollout.window_end is not None:
            self._look_at_traffic(rollout, rollout.shipped_at, rollout.window_end)
            self._say_story(rollout)
        if states.get(REVIEW) == "deferred":
            self._decide(key)

    def _look_at_traffic(self, rollout: Rollout, shipped_at: datetime, window_end: datetime) -> None:
        self.progress.window = (shipped_at, window_end)
        share = rollout.spec.target.ship_share if rollout.spec.target else 0
        self._once(
            "shipped",
            f"{rollout.spec.release} gets {share:.0%} of the traffic of {rollout.spec.service}; for "
            f"{rollout.spec.window.total_seconds():g} s Airflow watches "
            f"{', '.join(budget.key for budget in rollout.spec.budgets)}",
        )
        scenario = self._scenario
        if (
            scenario.turns_into
            and datetime.now(UTC) > shipped_at + scenario.after
            and "worse" not in self.progress.shown
        ):
            self._service.traffic.steer(
                scenario.release, scenario.turns_into, ramp_s=scenario.ramp.total_seconds()
            )
            self._once("worse", f"(the simulation now makes {scenario.release} worse)")
        if rollout.final is None:
            self._show_burn(rollout, shipped_at, window_end)

    def _show_burn(self, rollout: Rollout, shipped_at: datetime, window_end: datetime) -> None:
        """Fold what the watch sees with the watch's own engine, for the screen alone."""
        spec = rollout.spec
        step = spec.watch.step
        until = _on_grid(min(datetime.now(UTC) - spec.watch.settle, window_end), step)
        request = SeriesRequest(
            series=tuple(sorted({budget.series for budget in spec.budgets})),
            release=spec.release,
            baseline=spec.baseline,
            start=_on_grid(shipped_at, step),
            end=until,
            step=step,
        )
        if request.start < request.end:
            samples = SqlSeries.of(spec, self._engine).fetch_now(request)
            self.progress.evaluation = evaluate(spec, samples, start=shipped_at, end=window_end, until=until)

    def _say_story(self, rollout: Rollout) -> None:
        key = rollout.key
        for logged in self._ledger.breaches.of(key):
            breach = logged.breach
            self._once(
                f"breach {logged.fingerprint}",
                f"BREACH of tier {breach.tier.value.upper()}: {breach.sentence}",
            )
        if rollout.final is not None:
            final = rollout.final
            reason = f": {final.reason}" if final.by == COMMANDER else ""
            self._once("final", f"decision: {final.decision.value}, by {final.by}{reason}")
        rollback = self._ledger.rollbacks.of(key)
        if rollback is not None and rollback.outcome is not None:
            self._once(
                "rollback", f"rollback {rollback.outcome.value}: {rollback.detail} {rollback.data_plane}"
            )

    def _decide(self, key: RolloutKey) -> None:
        """Answer the review through Airflow's own API, as a person would in its UI."""
        api = self._stack.api
        review = api.review(key.dag_id, key.run_id, REVIEW)
        if review is None or review["response_received"]:
            return
        asked_at = datetime.fromisoformat(review["created_at"])
        self._once(
            "asked",
            f"Airflow asks the incident commander, who reads for "
            f"{READING.total_seconds():g} s:\n{_indented(review['subject'], review['body'] or '')}",
        )
        if datetime.now(UTC) < asked_at + READING:
            return
        api.answer_review(key.dag_id, key.run_id, REVIEW, option=ROLL_BACK_NOW, reason=REASON, user=COMMANDER)
        again = "" if self._commanding is None else " again, because Airflow asked again"
        self._commanding = Commanding(asked_at, datetime.now(UTC))
        self._say(
            f'the demo answers{again} as {COMMANDER}, through Airflow\'s API: "{ROLL_BACK_NOW}". {REASON}'
        )

    def _once(self, name: str, line: str) -> None:
        if name not in self.progress.shown:
            self.progress.shown.add(name)
            self._say(line)


def _phase(states: dict[str, str | None]) -> str:
    for task, phase in PHASES:
        if states.get(task) not in (None, "skipped", "upstream_failed"):
            return phase
    return "starting"


def _indented(subject: str, markdown: str) -> str:
    """Return a review's text for a terminal, without Markdown's escapes."""
    text = re.sub(r"\\([^A-Za-z0-9\s])", r"\1", f"{subject}\n\n{markdown}")
    return "\n".join(f"            | {line}".rstrip() for line in text.splitlines())


def _on_grid(moment: datetime, step: timedelta) -> datetime:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + (moment - epoch) // step * step
