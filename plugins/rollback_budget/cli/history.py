"""``rollback-budget history``: the whole trail of a rollout."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from rollback_budget.cli.ledger import open_ledger
from rollback_budget.cli.words import choose_rollouts, iso, json_option, moment, shown, url_option

if TYPE_CHECKING:
    from rollback_budget.ledger.views import HistoryEvent, LoggedSuspension, Rollout


@dataclass(frozen=True)
class TrailLine:
    """One line of the trail: when (None: not known yet), what, by whom, and the rest for scripts."""

    at: datetime | None
    event: str
    by: str | None
    said: str
    detail: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"at": iso(self.at), "event": self.event, "by": self.by, "said": self.said, **self.detail}


@click.command()
@click.argument("release", metavar="RELEASE")
@click.option("--run", metavar="RUN_ID", help="This run; by default the newest.")
@url_option
@json_option
def history(release: str, run: str | None, url: str | None, as_json: bool) -> None:
    """Say everything that happened in a rollout of RELEASE: who, when and why.

    RELEASE may also be a service, a DAG id or a run id. Of several runs the newest is shown, and the others
    are named.

    Exits 0, or 1 when there is no such rollout.
    """
    ledger = open_ledger(url)
    rollout, *others = choose_rollouts(ledger, release, run)
    lines = _trail(rollout, ledger.history(rollout.key), datetime.now(UTC))
    if as_json:
        document = {
            "dag_id": rollout.key.dag_id,
            "run_id": rollout.key.run_id,
            "release": rollout.spec.release,
            "baseline": rollout.spec.baseline,
            "service": rollout.spec.service,
            "spec_sha256": rollout.spec.sha256,
            "events": [line.as_json() for line in lines],
            "other_runs": [other.key.run_id for other in others],
        }
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    spec = rollout.spec
    click.echo(shown(f"{spec.release} against {spec.baseline} ({spec.service})"))
    click.echo(shown(f"{rollout.key}, spec sha256:{spec.sha256[:12]}"))
    click.echo()
    for line in lines:
        when = " " * 23 if line.at is None else moment(line.at)
        who = "" if line.by is None else f"  [{line.by}]"
        click.echo(shown(f"{when}  {line.event:16}  {line.said}{who}"))
    if others:
        runs = ", ".join(other.key.run_id for other in others[:5])
        click.echo(shown(f"\n{len(others)} other run(s), shown with --run: {runs}"), err=True)


def _trail(rollout: Rollout, events: list[HistoryEvent], now: datetime) -> list[TrailLine]:
    lines = [
        TrailLine(
            rollout.opened_at, "opened", None, f"the spec is frozen, {len(rollout.spec.budgets)} budgets"
        )
    ]
    if rollout.shipped_at is not None and rollout.window_end is not None:
        until = f"the window is open until {moment(rollout.window_end)}"
        lines.append(
            TrailLine(rollout.shipped_at, "shipped", None, until, {"window_end": iso(rollout.window_end)})
        )
    for event in events:
        lines += _lines(event, now)
    return sorted(lines, key=lambda line: line.at or datetime.max.replace(tzinfo=UTC))


def _lines(event: HistoryEvent, now: datetime) -> list[TrailLine]:
    from rollback_budget.ledger.views import (
        CommanderDecision,
        Final,
        LoggedBreach,
        LoggedEvaluation,
        LoggedSuspension,
        RecordedOverride,
        Review,
        RollbackRecord,
        SentNotification,
        StageRecord,
    )

    more: dict[str, Any]
    match event:
        case LoggedEvaluation():
            verdict = event.evaluation.verdict.value
            said = f"round {event.round}, {event.kind}: {verdict}, {event.evaluation.sentence}"
            more = {"round": event.round, "kind": event.kind, "verdict": verdict}
            return [TrailLine(event.at, "verdict", None, said, more)]
        case LoggedBreach():
            breach = event.breach
            more = {
                "budget": breach.budget,
                "tier": breach.tier.value,
                "started_at": iso(breach.started_at),
                "fingerprint": event.fingerprint,
            }
            said = f"{breach.budget}, tier {breach.tier.value.upper()}: {breach.sentence}"
            return [TrailLine(breach.breached_at, "breach", None, said, more)]
        case StageRecord():
            said = f"{event.stage}: the release gets {100 * event.share:.3g} % of the traffic"
            return [TrailLine(event.at, "stage", None, said, {"stage": event.stage, "share": event.share})]
        case Review():
            silence = {"rollback": "rolls back", "continue": "goes on"}[event.on_timeout.value]
            said = f"round {event.round}: no answer by {moment(event.deadline)} {silence}"
            more = {
                "round": event.round,
                "deadline": iso(event.deadline),
                "on_timeout": event.on_timeout.value,
            }
            return [TrailLine(event.opened_at, "review opened", None, said, more)]
        case CommanderDecision():
            by = event.by or "the deadline"
            said = f"round {event.round}: {event.option}{_because(event.reason)}"
            more = {
                "round": event.round,
                "option": event.option,
                "reason": event.reason,
                "timed_out": event.timed_out,
            }
            return [TrailLine(event.at, "decided", by, said, more)]
        case RecordedOverride():
            budgets = ", ".join(event.budget_ids) or "blindness"
            said = f"{budgets} until {moment(event.until)}{_because(event.reason)}"
            more = {"budgets": list(event.budget_ids), "until": iso(event.until), "reason": event.reason}
            return [TrailLine(event.at, "override", event.by, said, more)]
        case LoggedSuspension():
            return _suspension(event, now)
        case SentNotification():
            if event.error is not None:
                said, what = f"{event.occasion} to {event.notifier}: {event.error}", "not notified"
            else:
                said, what = f"{event.occasion} to {event.notifier}", "notified"
            if event.sent_at is None and event.error is None:
                what = "notifying"
            more = {"occasion": event.occasion, "notifier": event.notifier, "error": event.error}
            return [TrailLine(event.sent_at or event.claimed_at, what, None, said, more)]
        case RollbackRecord():
            outcome = "under way" if event.outcome is None else event.outcome.value
            planes = f"control plane: {event.control_plane}; data plane: {event.data_plane}"
            more = {
                "outcome": None if event.outcome is None else event.outcome.value,
                "requested_at": iso(event.requested_at),
                "verified_at": iso(event.verified_at),
                "control_plane": event.control_plane,
                "data_plane": event.data_plane,
                "detail": event.detail,
            }
            said = f"{outcome}. {event.detail} {planes}".replace(".  ", ". ")
            return [TrailLine(event.requested_at or event.verified_at, "rollback", None, said, more)]
        case Final():
            return [TrailLine(event.at, event.decision.value.replace("_", " "), event.by, event.reason)]


def _suspension(event: LoggedSuspension, now: datetime) -> list[TrailLine]:
    suspension = event.suspension
    said = f"{suspension.budget} until {moment(event.planned_until)}{_because(suspension.reason)}"
    more = {
        "suspension": event.id,
        "budget": suspension.budget,
        "until": iso(suspension.until),
        "reason": suspension.reason,
    }
    lines = [TrailLine(suspension.since, "suspended", suspension.by, said, more)]
    if event.ended_at is not None:
        early = f"{suspension.budget}{_because(event.ended_reason)}"
        lines.append(TrailLine(event.ended_at, "resumed", event.ended_by, early, {"suspension": event.id}))
    elif suspension.until <= now:
        lines.append(
            TrailLine(
                suspension.until, "resumed", None, f"{suspension.budget}: expired", {"suspension": event.id}
            )
        )
    return lines


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""
