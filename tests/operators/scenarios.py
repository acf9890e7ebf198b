"""One rollout, event by event: the real DAG's tasks and wiring over the real ledger, without an Airflow.

What stands in: the scheduler (three trigger rules, retries without a pause), XCom (a dictionary), the metrics
(verdicts, made as a watch makes them) and the control plane (in memory). Everything that decides is real, and
so is what the triggers do before the tasks behind them run.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from airflow.sdk import DAG, BaseOperator, TriggerRule
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    DownstreamTasksSkipped,
    TaskDeferred,
)
from airflow.triggers.base import BaseTrigger

from rollback_budget.clock import utc_now
from rollback_budget.common.commander_response import Choice
from rollback_budget.common.ledger_sync import review_is_over
from rollback_budget.common.xcom import Tasks
from rollback_budget.dags.task_group import build_rollout
from rollback_budget.engine.evaluation import Blind, Evaluation, VerdictKind
from rollback_budget.engine.suspension import Suspension
from rollback_budget.exceptions import TargetError
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import CommanderDecision, Final, FinalDecision, Scope
from rollback_budget.model.budget import Budget, Tier
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.targets.base import Serving
from rollback_budget.triggers.on_verdict import act_on_verdict
from rollback_budget.triggers.review import ReviewTrigger, _recordings
from rollback_budget.triggers.rollback_budget import RollbackBudgetTrigger
from rollback_budget.watch.watch_plan import WatchPlan
from tests.support.rollouts import NOON, make_breach, make_evaluation

log = logging.getLogger(__name__)
ENDED = {"success", "failed", "skipped", "upstream_failed"}
COMMANDER = "casey"
#: Threads that write into the ledger, and that no task waits for.
BESIDE_TASKS = ("heartbeat", "bounded call")


@dataclass
class ControlPlane:
    """Who serves; ``works`` is False when it refuses every change."""

    shares: dict[str, float]
    works: bool = True
    accepted: list[tuple[str, dict[str, float]]] = field(default_factory=list)

    def read(self) -> Serving:
        return Serving(dict(self.shares))

    def apply(self, shares: Mapping[str, float], *, expected: Serving, idempotency_key: str) -> None:
        assert expected.same_shares(self.shares)
        if not self.works:
            raise TargetError("503")
        self.shares = dict(shares)
        self.accepted.append((idempotency_key, dict(shares)))


class FastClock:
    """A second passes at every look at it, and no test waits."""

    def __init__(self) -> None:
        self._time = NOON

    def now(self) -> datetime:
        self._time += timedelta(seconds=1)
        return self._time

    def sleep(self, _seconds: float) -> None:
        pass


@dataclass
class Snapshot:
    """Everything that a later event may depend on; copied to go back to it."""

    states: dict[str, str]
    xcom: dict[tuple[str, str], Any]
    shares: dict[str, float]
    works: bool
    accepted: list[tuple[str, dict[str, float]]]
    triggers: dict[str, BaseTrigger]
    breached: list[tuple[str, datetime]]
    late: list[tuple[str, datetime]]
    minute: int
    ledger: bytes


class SimulatedRollout:
    """A rollout that has shipped, and what happens to it.

    :param file: the ledger.
    :param backwards: whether tasks that could run at the same time run in the opposite order.
    :param acts: how many times a trigger does what a verdict or an answer asks for: 0 for one that is dead, 2
        for one whose triggerer dies after it, so that another triggerer does it again.
    """

    def __init__(self, spec: RolloutSpec, file: Path, *, backwards: bool = False, acts: int = 1) -> None:
        self.spec = spec
        self.acts = acts
        self.triggers: dict[str, BaseTrigger] = {}
        self.file = file
        self.ledger = Ledger(f"sqlite:///{file}")
        self.ledger.migrate()
        self.key = RolloutKey("night", "run")
        with DAG("night", schedule=None) as dag:
            build_rollout(spec, file.with_name("none.yaml"), Tasks())
        order: list[BaseOperator] = list(dag.topological_sort())  # type: ignore[arg-type]
        self.tasks = {task.task_id: task for task in (reversed(order) if backwards else order)}
        self.plane = ControlPlane({spec.baseline: 1.0})
        self.states: dict[str, str] = {"preflight": "success"}
        self.xcom: dict[tuple[str, str], Any] = {("preflight", "return_value"): spec.canonical_json()}
        self.breached: list[tuple[str, datetime]] = []
        self.late: list[tuple[str, datetime]] = []
        self.minute = 0
        self.ledger.rollouts.open(self.key, spec, NOON)

    # What a scheduler does.

    def settle(self) -> None:
        """Run every task that can run, until none can."""
        moving = True
        while moving:
            moving = False
            for task in self.tasks.values():
                moving = self._try(task) or moving

    def _try(self, task: BaseOperator) -> bool:
        state = self._due(task)
        if state == "run":
            self._run(task)
        elif state is not None:
            self.states[task.task_id] = state
        return state is not None

    def _due(self, task: BaseOperator) -> str | None:
        """Return ``run``, the state that its trigger rule gives a task unrun, or None while it waits."""
        if task.task_id in self.states:
            return None
        above = [self.states.get(name) for name in task.upstream_task_ids]
        done = [state for state in above if state in ENDED]
        if task.trigger_rule == TriggerRule.ONE_SUCCESS:
            if "success" in done:
                return "run"
            if len(done) < len(above):
                return None
            return "skipped" if set(done) == {"skipped"} else "upstream_failed"
        bad = {"failed", "upstream_failed"}
        if task.trigger_rule == TriggerRule.ALL_SUCCESS and bad & set(done):
            return "upstream_failed"
        if "skipped" in done:
            return "skipped"
        return "run" if len(done) == len(above) else None

    def _run(self, task: BaseOperator) -> None:
        for key in [key for key in self.xcom if key[0] == task.task_id]:
            del self.xcom[key]
        for _try in range(min(task.retries or 0, 1) + 1):
            self._call(task, task.execute)
            if self.states[task.task_id] != "retry":
                return
        self.states[task.task_id] = "failed"

    def resume(self, task_id: str, method: str, **kwargs: Any) -> None:
        """Give a waiting task what it waits for."""
        self._call(self.tasks[task_id], getattr(self.tasks[task_id], method), **kwargs)
        assert self.states[task_id] != "retry", task_id

    def _call(self, task: BaseOperator, method: Any, **kwargs: Any) -> None:
        name = task.task_id
        try:
            value = method(self._context(task), **kwargs)
        except DownstreamTasksSkipped as skip:
            for skipped in skip.tasks:
                self.states.setdefault(skipped if isinstance(skipped, str) else skipped[0], "skipped")
            self.states[name] = "success"
        except TaskDeferred as deferral:
            self.states[name] = "waiting"
            self.triggers[name] = deferral.trigger
        except AirflowSkipException:
            self.states[name] = "skipped"
        except AirflowFailException:
            self.states[name] = "failed"
        except AirflowException as error:
            if "not proven" not in str(error) and "not promoted" not in str(error):
                raise
            self.states[name] = "retry"
        else:
            self.states[name] = "success"
            if value is not None:
                self.xcom[name, "return_value"] = value

    def _context(self, task: BaseOperator) -> Any:
        ti = SimpleNamespace(
            id=UUID(int=1),
            task=task,
            try_number=1,
            map_index=-1,
            xcom_pull=lambda task_ids, key: self.xcom.get((task_ids, key)),
            xcom_push=lambda key, value: self.xcom.__setitem__((task.task_id, key), value),
        )
        run = SimpleNamespace(dag_id=self.key.dag_id, run_id=self.key.run_id)
        return {
            "ti": ti,
            "task_instance": ti,
            "dag_run": run,
            "task": task,
            "outlet_events": defaultdict(SimpleNamespace),
        }

    # What may happen.

    def waiting(self, kind: str) -> list[int]:
        """Return the rounds whose watch, guard or review waits."""
        rounds = range(1, self.spec.max_overrides + 2)
        return [round_ for round_ in rounds if self.states.get(f"round_{round_}.{kind}") == "waiting"]

    def see(self, evaluation: Evaluation | None, kind: str, round_: int) -> None:
        """Let a watch or a guard come to its verdict; None is a guard that saw nothing."""
        if evaluation is not None:
            breached = [(breach.budget, breach.breached_at) for breach in evaluation.breaches]
            self.breached += breached
            if self.final is not None:
                self.late += breached
        name = f"round_{round_}.{kind}"
        event: dict[str, Any] = {"evaluation": None}
        if evaluation is not None:
            event["evaluation"] = evaluation.model_dump(mode="json")
            event.update(self._act_on_verdict(name, evaluation))
        self.resume(name, "execute_complete", event=event)

    def _act_on_verdict(self, name: str, evaluation: Evaluation) -> dict[str, Any]:
        """Do what the trigger of a watch or a guard does before its event."""
        trigger, acted = self.triggers[name], dict[str, Any]()
        assert isinstance(trigger, RollbackBudgetTrigger)
        plan = WatchPlan.model_validate_json(trigger.plan)
        for _ in range(self.acts):
            acted = asyncio.run(act_on_verdict(plan, evaluation, log))
        return acted

    def breach(self, tier: Tier) -> Evaluation:
        budget = self._of_tier(tier)
        return make_evaluation(make_breach(self.now, budget=budget.id, tier=tier, metric=budget.metric))

    def blind(self) -> Evaluation:
        blind = Blind(area="quality", since=self.now, sentence="quality: nothing was seen")
        return make_evaluation().model_copy(update={"verdict": VerdictKind.BLIND, "blind": blind})

    def healthy(self) -> Evaluation:
        return make_evaluation()

    def answer(self, round_: int, choice: Choice, by: str | None = COMMANDER, **given: Any) -> None:
        """Answer a review as Airflow brings it; ``by`` None is the deadline."""
        user = None if by is None else {"id": by, "name": by}
        event = {
            "chosen_options": [choice.value],
            "params_input": given,
            "responded_at": self.now,
            "responded_by_user": user,
        }
        trigger, rollback = self.triggers[f"round_{round_}.review"], None
        assert isinstance(trigger, ReviewTrigger)
        for _ in range(self.acts):
            rollback = asyncio.run(_follow(trigger, event))
        if by is None:
            # A person's answer is brought by Airflow, which knows nothing of the trigger's doing.
            event["rollback"] = rollback
        self.resume(f"round_{round_}.review", "execute_complete", event=event)

    def close_review(self, round_: int) -> None:
        """Close an overtaken review as its trigger does."""
        final = self.final
        assert final is not None
        closed = {"by": final.by, "reason": final.reason, "at": str(final.at)}
        event = {
            "chosen_options": [Choice.ROLL_BACK.value],
            "params_input": {},
            "responded_at": self.now,
            "responded_by_user": None,
            "closed": closed,
        }
        self.resume(f"round_{round_}.review", "execute_complete", event=event)

    def review_is_over(self, round_: int) -> bool:
        return review_is_over(self.key, round_)

    def suspend(self) -> None:
        """Suspend the tier B budget for the whole window, as a commander does ahead of time."""
        now = utc_now()
        suspension = Suspension(
            budget=self._of_tier(Tier.B).id,
            since=now,
            until=now + self.spec.window,
            by=COMMANDER,
            reason="a known spike",
        )
        self.ledger.suspensions.add(Scope(self.key.dag_id, self.key.run_id), suspension)

    def clear(self) -> None:
        """Clear the whole run, as a user does who hopes that it helps."""
        self.states = {"preflight": "success"}

    # What is known of it.

    def _of_tier(self, tier: Tier) -> Budget:
        return next(one for one in self.spec.budgets if one.tier is tier)

    @property
    def is_suspended(self) -> bool:
        """Whether a watch would not let the tier B budget burn."""
        return self._query("SELECT count(*) FROM suspensions") != [(0,)]

    @property
    def now(self) -> datetime:
        return NOON + timedelta(minutes=self.minute)

    def came_after_the_end(self, evaluation: Evaluation) -> bool:
        """Whether a guard that had not noticed the end saw a breach after it."""
        return bool(evaluation.breaches) and all(
            (breach.budget, breach.breached_at) in self.late for breach in evaluation.breaches
        )

    @property
    def final(self) -> Final | None:
        """How the ledger says that it ended, read past the tables' own code, which this is a test of."""
        [row] = self._query("SELECT final_decision, final_by, final_reason, final_at FROM rollouts")
        return None if row[0] is None else Final(FinalDecision(row[0]), row[1], row[2], row[3])

    @property
    def decisions(self) -> list[CommanderDecision]:
        rows = self._query('SELECT round, option, "by", reason, at, timed_out FROM decisions ORDER BY id')
        return [CommanderDecision(*row[:5], bool(row[5])) for row in rows]

    def _query(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.file)) as ledger:
            return ledger.execute(query).fetchall()

    @property
    def has_ended(self) -> bool:
        return all(self.states.get(name) in ENDED for name in self.tasks)

    def remember(self) -> Snapshot:
        self._close_ledger()
        return Snapshot(
            dict(self.states),
            dict(self.xcom),
            dict(self.plane.shares),
            self.plane.works,
            list(self.plane.accepted),
            dict(self.triggers),
            list(self.breached),
            list(self.late),
            self.minute,
            self.file.read_bytes(),
        )

    def go_back(self, memory: Snapshot) -> None:
        self._close_ledger()
        self.states, self.xcom = dict(memory.states), dict(memory.xcom)
        self.plane.shares, self.plane.works = dict(memory.shares), memory.works
        self.plane.accepted = list(memory.accepted)
        self.triggers = dict(memory.triggers)
        self.breached, self.late, self.minute = list(memory.breached), list(memory.late), memory.minute
        self.file.write_bytes(memory.ledger)

    def _close_ledger(self) -> None:
        """Let what still writes beside the tasks end, so that the ledger is this one file and nothing else.

        A connection of another thread would keep a part of it in its write-ahead log.
        """
        for thread in threading.enumerate():
            if thread.name in BESIDE_TASKS:
                thread.join(timeout=30)
        with closing(sqlite3.connect(self.file)) as ledger:
            assert ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, "somebody reads it"
        assert [file.name for file in self.file.parent.iterdir()] == [self.file.name]

    def fingerprint(self) -> str:
        """Return what distinguishes this night from others but for times: equal ones have equal futures."""
        reported = [
            self._query(query)
            for query in (
                "SELECT final_decision, final_by FROM rollouts",
                'SELECT round, option, "by", timed_out FROM decisions ORDER BY 1, 2, 3, 4',
                "SELECT budget, count(*) FROM breaches GROUP BY 1 ORDER BY 1",
                "SELECT idempotency_key, outcome FROM rollbacks",
                "SELECT count(*) > 0 FROM suspensions",
            )
        ]
        left = sorted((key, _without_times(value)) for key, value in self.xcom.items())
        return json.dumps(
            [
                sorted(self.states.items()),
                left,
                reported,
                self.plane.works,
                self.plane.accepted,
                len(self.breached),
            ],
            default=str,
        )


def _without_times(value: Any) -> Any:
    """Return what a later task could distinguish in an XCom."""
    if not isinstance(value, dict):
        return None
    kept = ("verdict", "option", "by", "go_on", "outcome", "mute")
    return [str(value.get(name)) for name in kept] + [len(value.get("breaches", ()))]


async def _follow(trigger: ReviewTrigger, event: dict[str, Any]) -> dict[str, Any] | None:
    """Follow an answer, and let what goes on in the triggerer's loop afterwards come to its end.

    Else a thread could still write into a ledger in which another night has begun.
    """
    request = await trigger.follow(event)
    if _recordings:
        await asyncio.wait(set(_recordings))
    return request
