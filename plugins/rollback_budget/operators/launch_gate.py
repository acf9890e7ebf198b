"""Before the release gets traffic: does what once went wrong go wrong again?"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from rollback_budget.clock import utc_now
from rollback_budget.common.commander_response import SHORTEST_REASON
from rollback_budget.common.config import cases_folder, gate_folder, open_ledger
from rollback_budget.common.priority import rollout_task
from rollback_budget.common.retries import QUICK_RETRIES
from rollback_budget.common.review_body import escape
from rollback_budget.common.xcom import DEADLINE_KEY, RolloutXcom, Tasks
from rollback_budget.model.notify import Event
from rollback_budget.notifications.notification import Notification
from rollback_budget.notifications.task_notifications import page
from rollback_budget.operators.human_question import HumanQuestionOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from rollback_budget.gate.request import GateRequest
    from rollback_budget.gate.result import Approval, GateResult
    from rollback_budget.ledger.ledger import Ledger
    from rollback_budget.ledger.rollout_key import RolloutKey
    from rollback_budget.model.spec import RolloutSpec

SHIP = "Ship anyway"
HOLD = "Do not ship"
#: The key of a run's conf that launches it past the gate: ``{"by": …, "reason": …}``.
BYPASS_CONF = "bypass_launch_gate"
#: How long judging may take; a stuck database must not hold a worker's slot for good.
LONGEST_JUDGING = timedelta(minutes=15)
#: To a task Airflow gives a URL that cannot be parsed, so that Airflow could not be imported anew.
NO_AIRFLOW_DATABASE = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite://"}


class LaunchGateOperator(HumanQuestionOperator):
    """
    Judges the launch by the evaluation of its release: passes, asks the incident commander, or fails.

    Fails without retries when something blocks: the run ends, and nothing was shipped. What asks waits for
    a named commander; silence does not ship. The XCom value is the whole result, as JSON; the ledger keeps
    it, too.

    :param tasks: the task ids of the rollout.
    """

    ui_color = "#d9e8fb"

    def __init__(self, *, tasks: Tasks, **kwargs: Any) -> None:
        super().__init__(
            tasks=tasks,
            subject="Ship in spite of what the launch gate found?",
            options=[HOLD, SHIP],
            defaults=HOLD,
            params={
                "reason": Param(
                    None,
                    type=["null", "string"],
                    minLength=SHORTEST_REASON,
                    description="Why. Required to ship; it is kept with the launch.",
                )
            },
            **rollout_task(kwargs, QUICK_RETRIES),
        )

    def ask(self, context: Context) -> dict[str, Any] | None:
        """Judge the launch; return the result when it ships, wait for the commander when they decide."""
        from rollback_budget.gate.render import lines_of
        from rollback_budget.gate.result import GateVerdict

        xcom = RolloutXcom(self.tasks, context)
        ledger = open_ledger()
        rollout = ledger.rollouts.get(xcom.key)
        if rollout is not None and (rollout.final is not None or rollout.shipped_at is not None):
            # What serves already must be watched, whatever the gate would say of it today.
            self.log.info(
                "this rollout has shipped or ended: nothing is launched, so there is nothing to judge"
            )
            return None
        spec = xcom.spec()
        result = self._judge(ledger, spec, xcom)
        self.log.info("%s", "\n".join(lines_of(result)))
        _record(ledger, xcom.key, result)
        if result.verdict is GateVerdict.BLOCK:
            raise AirflowFailException("not shipped:\n" + "\n".join(lines_of(result)))
        if result.verdict is GateVerdict.ASK:
            self._put(context, xcom, spec, result)
        return result.model_dump(mode="json")

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Follow the commander's answer; whatever is no clear yes does not ship."""
        from rollback_budget.gate.result import GateResult

        if "error" in event:
            self.process_trigger_event_error(event)
        xcom = RolloutXcom(self.tasks, context)
        approval = _approval(event)
        reason = approval.reason or ""
        if approval.ships and approval.by is not None and len(reason) < SHORTEST_REASON:
            self.log.warning("the answer of %s gives no reason, asking again", approval.by)
            return self.ask(context)
        ledger = open_ledger()
        asked = ledger.gate_runs.last(xcom.key)
        if asked is None:
            raise AirflowException("not shipped: the ledger does not know what was asked; it is asked again")
        result = GateResult.model_validate_json(asked.result)
        result = result.model_copy(update={"approval": approval, "at": max(approval.at, result.at)})
        decided = f"{approval.by or 'the deadline'} decided: {SHIP if approval.ships else HOLD}"
        decided += f": {reason}" if reason else ""
        self.log.info("%s", decided)
        _record(ledger, xcom.key, result)
        self._notify(context, xcom, Event.DECIDED, decided)
        if not result.ships:
            raise AirflowFailException(
                f"not shipped: {approval.by or 'no answer came, so the deadline'} decided so. {reason}"
            )
        return result.model_dump(mode="json")

    def deadline_of(self, xcom: RolloutXcom) -> datetime:
        """Return the deadline that this task set when it first asked."""
        return datetime.fromisoformat(xcom.pull(self.tasks.id("launch_gate"), DEADLINE_KEY))

    def silence(self, xcom: RolloutXcom) -> str:  # noqa: ARG002
        """Silence does not ship."""
        return HOLD

    def on_kill(self) -> None:
        """End the gate's process with the task."""
        process: subprocess.Popen[bytes] | None = getattr(self, "_process", None)
        if process is not None:
            process.terminate()

    def _put(self, context: Context, xcom: RolloutXcom, spec: RolloutSpec, result: GateResult) -> None:
        assert spec.launch_gate is not None
        now = utc_now()
        said = xcom.pull(self.tasks.id("launch_gate"), DEADLINE_KEY)
        deadline = now + spec.launch_gate.ask_within if said is None else datetime.fromisoformat(said)
        context["ti"].xcom_push(key=DEADLINE_KEY, value=deadline.isoformat())
        self.subject = f"{spec.release}: ship in spite of what the launch gate found?"
        self.body = question_body(result, deadline)
        self.assigned_users = [{"id": user.id, "name": user.name} for user in spec.incident_commanders]
        said = f"{result.reason}. No answer by {deadline:%H:%M:%S} UTC does not ship."
        self._notify(context, xcom, Event.REVIEW_OPENED, said, deadline)
        self.put(context, xcom.key, deadline, HOLD)

    def _notify(
        self,
        context: Context,
        xcom: RolloutXcom,
        event: Event,
        said: str,
        deadline: datetime | None = None,
    ) -> None:
        occasion = f"{event.value} launch_gate"
        page(Notification(event, occasion, xcom.key, xcom.spec(), said, deadline), context, self.log)

    def _judge(self, ledger: Ledger, spec: RolloutSpec, xcom: RolloutXcom) -> GateResult:
        from rollback_budget.gate.bypass import bypass_now
        from rollback_budget.gate.check import check_without_results
        from rollback_budget.gate.request import request_of

        now = utc_now()
        _take_bypass(ledger, spec, xcom, now)
        request = request_of(
            spec,
            ledger.debts.every(),
            now,
            cases_folder=cases_folder(),
            gate_folder=gate_folder(),
            bypass=bypass_now(ledger, spec.service, spec.release, now),
        )
        return check_without_results(request) or self._judge_apart(request)

    def _judge_apart(self, request: GateRequest) -> GateResult:
        """Judge in a process of its own, which alone loads Great Expectations."""
        from rollback_budget.gate.result import GateResult
        from rollback_budget.operators.launch_gate_process import GateProcessInput

        assert request.gate is not None
        conn_id = request.gate.results.conn_id
        uris = {} if conn_id is None else {conn_id: BaseHook.get_connection(conn_id).get_uri()}
        task = GateProcessInput(request=request, uris=uris).model_dump_json().encode()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rollback_budget.operators.launch_gate_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **NO_AIRFLOW_DATABASE},
        )
        try:
            answer, errors = self._process.communicate(task, timeout=LONGEST_JUDGING.total_seconds())
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise AirflowException(f"not shipped: judging took longer than {LONGEST_JUDGING}") from None
        said = errors.decode(errors="replace").strip()
        if self._process.returncode != 0:
            raise AirflowException(f"not shipped: the gate's process failed:\n{said[-4000:]}")
        if said:
            self.log.info("%s", said[-4000:])
        return GateResult.model_validate_json(answer)


def question_body(result: GateResult, deadline: datetime) -> str:
    """Return what the commander reads, as Markdown; every value in it is escaped."""
    from rollback_budget.gate.render import HEAD, rows_of

    lines = [f"**{escape(result.reason)}**", "", f"No answer by {deadline:%H:%M} UTC does not ship.", ""]
    lines += [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    lines += [f"| {' | '.join(escape(cell) for cell in row)} |" for row in rows_of(result)]
    return "\n".join(lines)


def _take_bypass(ledger: Ledger, spec: RolloutSpec, xcom: RolloutXcom, now: datetime) -> None:
    """Record the bypass that the run was triggered with, once, under the time of the run."""
    from rollback_budget.gate.bypass import BypassError, record_bypass

    run = xcom.context["dag_run"]
    asked = (getattr(run, "conf", None) or {}).get(BYPASS_CONF)
    if asked is None:
        return
    given = asked if isinstance(asked, dict) else {}
    by, reason = (str(given.get(name) or "") for name in ("by", "reason"))
    who = getattr(run, "triggering_user_name", None)
    if who and by and who != by:
        by = f"{by} (triggered by {who})"
    at = getattr(run, "run_after", None) or now
    try:
        record_bypass(ledger, spec.service, spec.release, by, reason, at)
    except BypassError as error:
        raise AirflowFailException(
            f'not shipped: {error}; trigger with {{"{BYPASS_CONF}": {{"by": "...", "reason": "..."}}}}'
        ) from error


def _record(ledger: Ledger, key: RolloutKey, result: GateResult) -> None:
    from rollback_budget.ledger.debt_views import GateRun

    verdict = result.verdict.value
    ledger.gate_runs.add(
        GateRun(
            service=result.service,
            release=result.release,
            dag_id=key.dag_id,
            run_id=key.run_id,
            verdict=verdict if result.approval is None else "pass" if result.ships else "block",
            at=result.at,
            result=result.model_dump_json(),
        )
    )


def _approval(event: dict[str, Any]) -> Approval:
    from rollback_budget.gate.result import Approval

    user = event.get("responded_by_user")
    at = event["responded_at"]
    reason = (event.get("params_input") or {}).get("reason")
    closed = event.get("closed") is not None
    by = None if user is None else str(user["name"])
    return Approval(
        ships=list(event["chosen_options"]) == [SHIP] and by is not None and not closed,
        by=by,
        reason=reason.strip() or None if isinstance(reason, str) else None,
        at=datetime.fromisoformat(at) if isinstance(at, str) else at,
    )
