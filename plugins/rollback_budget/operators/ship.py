"""Sending the release its first traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from rollback_budget.clock import utc_now
from rollback_budget.common.config import open_ledger
from rollback_budget.common.priority import rollout_task
from rollback_budget.common.retries import QUICK_RETRIES
from rollback_budget.common.xcom import RolloutXcom, Shipment, Tasks
from rollback_budget.links.rollout import ROLLOUT_LINKS
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.targets.apply import ChangeReport, Outcome, TrafficChange, change_traffic
from rollback_budget.targets.rollback_terms import rollback_terms
from rollback_budget.targets.shares import shares_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from rollback_budget.ledger.ledger import Ledger
    from rollback_budget.ledger.rollout_key import RolloutKey
    from rollback_budget.ledger.views import Final


class ShipOperator(BaseOperator):
    """
    Sends the release its share of traffic and opens the window once the control plane serves it.

    :param tasks: the task ids of the rollout.
    :param send: False when the team's own operator has shipped already, and only the window is opened.
    :param rolls_back: False when a team's own operator puts the baseline back.
    """

    operator_extra_links = ROLLOUT_LINKS
    ui_color = "#e6f4ea"

    def __init__(self, *, tasks: Tasks, send: bool = True, rolls_back: bool = True, **kwargs: Any) -> None:
        super().__init__(**rollout_task(kwargs, QUICK_RETRIES))
        self.tasks = tasks
        self.send = send
        self.rolls_back = rolls_back

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the :class:`Shipment`; a run ships once, however often this task runs."""
        xcom = RolloutXcom(self.tasks, context)
        spec = xcom.spec()
        ledger = open_ledger()
        rollout = ledger.rollouts.get(xcom.key)
        if rollout is not None and rollout.final is not None:
            _check_rolled_back(ledger, xcom.key, rollout.final)
            raise AirflowSkipException(f"this rollout has ended and is not shipped again: {rollout.final}")
        shares: dict[str, float] | None = None
        if self.send:
            assert spec.target is not None
            shares = shares_of(spec, spec.target.ramp[0])
        if rollout is None or rollout.shipped_at is None:
            if shares is not None:
                self._send(spec, shares, xcom)
            elif spec.target is not None:
                shares = _shares_now(spec)
            start = utc_now()
            terms = rollback_terms(spec, shares) if self.rolls_back else None
            start, end = ledger.rollouts.record_shipped(xcom.key, start, start + spec.window, terms)
        else:
            assert rollout.window_end is not None
            start, end = rollout.shipped_at, rollout.window_end
        self.log.info("the window is open from %s to %s", start, end)
        return Shipment(window_start=start, window_end=end, shares=shares).model_dump(mode="json")

    def _send(self, spec: RolloutSpec, shares: dict[str, float], xcom: RolloutXcom) -> None:
        report = apply_shares(spec, shares, None, f"{xcom.key}/ship", self.log.info)
        if report.outcome is not Outcome.EFFECTIVE:
            raise AirflowException(f"{spec.release} was not shipped: {report}")


def _check_rolled_back(ledger: Ledger, key: RolloutKey, final: Final) -> None:
    """Fail where a rollback was decided and never proven: a cleared run must not end as if all were well."""
    from rollback_budget.ledger.views import FinalDecision

    record = ledger.rollbacks.of(key)
    if final.decision is not FinalDecision.ROLLED_BACK or record is None:
        return
    if record.outcome not in (Outcome.EFFECTIVE, Outcome.SUPERSEDED):
        raise AirflowFailException(
            f"this rollout was rolled back by {final.by}, but that is not proven: {record.detail} Look at who"
            " serves and put the baseline back by hand; to try a release again, trigger a new run"
        )


def apply_shares(
    spec: RolloutSpec,
    shares: dict[str, float],
    before: Sequence[Mapping[str, float]] | None,
    key: str,
    log: Any,
) -> ChangeReport:
    """Change the traffic on the control plane and verify it there."""
    from rollback_budget.hooks.traffic_target import open_target

    assert spec.target is not None
    change = TrafficChange(shares=shares, before=before, idempotency_key=key, deadline=spec.target.deadline)
    return change_traffic(open_target(spec), change, log=log)


def _shares_now(spec: RolloutSpec) -> dict[str, float]:
    from rollback_budget.hooks.traffic_target import open_target

    return dict(open_target(spec).read().shares)
