"""``rollback-budget history``: everything that happened in a rollout."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from rollback_budget.cli.common import find_rollouts, iso, json_option, some, url_option, utc_second
from rollback_budget.cli.ledger import open_ledger
from rollback_budget.model.choice import SILENCE
from rollback_budget.text import plural, printable

if TYPE_CHECKING:
    from rollback_budget.ledger.views import HistoryEvent, LoggedSuspension, Rollout


@dataclass(frozen=True)
class HistoryLine:
    """One event in the history: when (None: not known yet), what, by whom, and the rest for scripts."""

    at: datetime | None
    event: str
    by: str | None
    text: str
    detail: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"at": iso(self.at), "event": self.event, "by": self.by, "said": self.text, **self.detail}


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
    from rollback_budget.ledger.history import history_of

    ledger = open_ledger(url)
    rollout, *others = find_rollouts(ledger, release, run)
    lines = _history_lines(rollout, history_of(ledger, rollout.key), datetime.now(UTC))
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
    click.echo(printable(f"{spec.release} against {spec.baseline} ({spec.service})"))
    click.echo(printable(f"{rollout.key}, spec sha256:{spec.sha256[:12]}"))
    click.echo()
    for line in lines:
        when = " " * 23 if line.at is None else utc_second(line.at)
        who = "" if line.by is None else f"  [{line.by}]"
        click.echo(printable(f"{when}  {line.event:16}  {line.text}{who}"))
    if others:
        runs = some([other.key.run_id for other in others])
        click.echo(printable(f"\n{plural(len(others), 'other run')}, shown with --run: {runs}"), err=True)


def _history_lines(rollout: Rollout, events: list[HistoryEvent], now: datetime) -> list[HistoryLine]:
    lines = [
        HistoryLine(
            rollout.opened_at,
            "opened",
            None,
            f"the spec is frozen, {plural(len(rollout.spec.budgets), 'budget')}",
        )
    ]
    if rollout.shipped_at is not None and rollout.window_end is not None:
        until = f"the window is open until {utc_second(rollout.window_end)}"
        lines.append(
            HistoryLine(rollout.shipped_at, "shipped", None, until, {"window_end": iso(rollout.window_end)})
        )
    for event in events:
        lines += _lines(event, now)
    return sorted(lines, key=lambda line: line.at or datetime.max.replace(tzinfo=UTC))


def _lines(event: HistoryEvent, now: datetime) -> list[HistoryLine]:
    from rollback_budget.ledger.views import (
        CommanderDecision,
        Final,
        LoggedBreach,
        LoggedEvaluation,
        LoggedLabel,
        LoggedSuspension,
        RecordedOverride,
        Review,
        RollbackRecord,
        SentNotification,
        StageRecord,
        StandbyWatch,
    )

    detail: dict[str, Any]
    match event:
        case LoggedEvaluation():
            verdict = event.evaluation.verdict.value
            text = f"round {event.round}, {event.kind}: {verdict}, {event.evaluation.sentence}"
            detail = {"round": event.round, "kind": event.kind, "verdict": verdict}
            return [HistoryLine(event.at, "verdict", None, text, detail)]
        case LoggedBreach():
            breach = event.breach
            detail = {
                "budget": breach.budget,
                "tier": breach.tier.value,
                "started_at": iso(breach.started_at),
                "fingerprint": event.fingerprint,
            }
            text = f"{breach.budget}, tier {breach.tier.value.upper()}: {breach.sentence}"
            return [HistoryLine(breach.breached_at, "breach", None, text, detail)]
        case StageRecord():
            text = f"{event.stage}: the release gets {100 * event.share:.3g} % of the traffic"
            return [HistoryLine(event.at, "stage", None, text, {"stage": event.stage, "share": event.share})]
        case Review():
            silence = {"rollback": "rolls back", "continue": "goes on"}[event.on_timeout.value]
            text = f"round {event.round}: no answer by {utc_second(event.deadline)} {silence}"
            detail = {
                "round": event.round,
                "deadline": iso(event.deadline),
                "on_timeout": event.on_timeout.value,
            }
            return [HistoryLine(event.opened_at, "review opened", None, text, detail)]
        case CommanderDecision():
            by = event.by or SILENCE
            text = f"round {event.round}: {event.option}{_because(event.reason)}"
            detail = {
                "round": event.round,
                "option": event.option,
                "reason": event.reason,
                "timed_out": event.timed_out,
            }
            return [HistoryLine(event.at, "decided", by, text, detail)]
        case RecordedOverride():
            budgets = ", ".join(event.budget_ids) or "blindness"
            text = f"{budgets} until {utc_second(event.until)}{_because(event.reason)}"
            detail = {"budgets": list(event.budget_ids), "until": iso(event.until), "reason": event.reason}
            return [HistoryLine(event.at, "override", event.by, text, detail)]
        case LoggedSuspension():
            return _suspension(event, now)
        case SentNotification():
            if event.error is not None:
                text, what = f"{event.occasion} to {event.notifier}: {event.error}", "not notified"
            else:
                text, what = f"{event.occasion} to {event.notifier}", "notified"
            if event.sent_at is None and event.error is None:
                what = "notifying"
            detail = {"occasion": event.occasion, "notifier": event.notifier, "error": event.error}
            return [HistoryLine(event.sent_at or event.claimed_at, what, None, text, detail)]
        case StandbyWatch():
            text = f"looks until {utc_second(event.until)}, in place of Airflow"
            return [HistoryLine(event.since, "standby watched", None, text, {"until": iso(event.until)})]
        case RollbackRecord():
            outcome = "under way" if event.outcome is None else event.outcome.value
            planes = f"control plane: {event.control_plane}; data plane: {event.data_plane}"
            detail = {
                "outcome": None if event.outcome is None else event.outcome.value,
                "requested_at": iso(event.requested_at),
                "verified_at": iso(event.verified_at),
                "control_plane": event.control_plane,
                "data_plane": event.data_plane,
                "detail": event.detail,
            }
            text = f"{outcome}. {event.detail} {planes}".replace(".  ", ". ")
            return [HistoryLine(event.requested_at or event.verified_at, "rollback", None, text, detail)]
        case Final():
            return [HistoryLine(event.at, event.decision.value.replace("_", " "), event.by, event.reason)]
        case LoggedLabel():
            since = "" if event.onset is None else f" since {utc_second(event.onset)}"
            detail = {"label": event.label.value, "onset": iso(event.onset), "note": event.note}
            text = f"{event.label.value}{since}{_because(event.note)}"
            return [HistoryLine(event.at, "labelled", event.by, text, detail)]


def _suspension(event: LoggedSuspension, now: datetime) -> list[HistoryLine]:
    suspension = event.suspension
    text = f"{suspension.budget} until {utc_second(event.planned_until)}{_because(suspension.reason)}"
    detail = {
        "suspension": event.id,
        "budget": suspension.budget,
        "until": iso(suspension.until),
        "reason": suspension.reason,
    }
    lines = [HistoryLine(suspension.since, "suspended", suspension.by, text, detail)]
    if event.ended_at is not None:
        early = f"{suspension.budget}{_because(event.ended_reason)}"
        lines.append(HistoryLine(event.ended_at, "resumed", event.ended_by, early, {"suspension": event.id}))
    elif suspension.until <= now:
        lines.append(
            HistoryLine(
                suspension.until, "resumed", None, f"{suspension.budget}: expired", {"suspension": event.id}
            )
        )
    return lines


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""
