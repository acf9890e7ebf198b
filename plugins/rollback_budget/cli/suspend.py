"""``rollback-budget suspend``, ``resume`` and ``suspensions``: a budget suspended for a limited time."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from rollback_budget.cli.common import (
    by_option,
    did_you_mean,
    find_rollouts,
    iso,
    json_option,
    parse_until,
    short_duration,
    suggestion,
    url_option,
    utc_second,
)
from rollback_budget.cli.ledger import open_ledger
from rollback_budget.exceptions import LedgerRuleError
from rollback_budget.text import printable

if TYPE_CHECKING:
    from rollback_budget.ledger.ledger import Ledger
    from rollback_budget.ledger.views import LoggedSuspension, Rollout, Scope


@click.command()
@click.argument("which", metavar="RELEASE_OR_ROLLOUT")
@click.argument("budget")
@click.option(
    "--until", required=True, metavar="TIME", help="+30m, 03:30 (the next one, UTC) or 2026-10-01T03:30:00Z."
)
@click.option("--reason", required=True, help="Why; it is kept with the rollout.")
@click.option("--run", metavar="RUN_ID", help="Only this run, where there are several.")
@by_option
@url_option
@json_option
def suspend(
    which: str, budget: str, until: str, reason: str, run: str | None, by: str, url: str | None, as_json: bool
) -> None:
    """Suspend BUDGET for a limited time, from the next look on.

    RELEASE_OR_ROLLOUT is a release, a service, or the DAG id or run id of a rollout; a release or service
    can be named ahead of time. BUDGET is a budget's id (latency.p95_delta_pct), an area (latency: all of
    its budgets), or all.

    Looks are still taken and shown, and add to nothing. When it ends, the budget starts over. It can last for
    four hours at most, or for [rollback_budget] max_suspension.

    \b
    Examples:
      rollback-budget suspend model-v42 latency.p95_delta_pct --until +30m --reason "load test"
      rollback-budget suspend model-v42 safety --until 03:30 --reason "new classifier" --by alice

    Exits 0, or 1 when no rollout has such a budget or it would last too long.
    """
    from rollback_budget.engine.suspension import Suspension

    now = datetime.now(UTC)
    end = parse_until(until, now)
    _refuse_too_long(end - now)
    reason, by = reason.strip(), by.strip()
    if not reason or not by:
        raise click.BadParameter("say why, and who: neither may be empty", param_hint="--reason/--by")
    ledger = open_ledger(url)
    rollouts, scope = _find_rollouts(ledger, which, run)
    for warning in _warnings(rollouts, budget, end):
        click.echo(f"warning: {printable(warning)}", err=True)
    logged = ledger.suspensions.add(
        scope, Suspension(budget=budget, since=now, until=end, by=by, reason=reason)
    )
    if as_json:
        click.echo(json.dumps(suspension_json(logged, now), indent=2, ensure_ascii=False))
        return
    click.echo(printable(f"suspension {logged.id}: {logged.suspension}"))
    click.echo(printable(f"holds for {scope}, from the next look on, for {short_duration(end - now)}"))
    click.echo(f"end it early: rollback-budget resume {logged.id}")


@click.command()
@click.argument("number", type=int)
@click.option("--reason", default="", help="Why it ends early.")
@by_option
@url_option
@json_option
def resume(number: int, reason: str, by: str, url: str | None, as_json: bool) -> None:
    """End suspension NUMBER early (see `suspensions`); its budget starts over with the next look.

    Exits 0, also when it is over already, or 1 when there is no such suspension.
    """
    now = datetime.now(UTC)
    logged = open_ledger(url).suspensions.end(number, by.strip(), reason.strip(), now)
    if as_json:
        click.echo(json.dumps(suspension_json(logged, now), indent=2, ensure_ascii=False))
        return
    ended = f", ended by {logged.ended_by}" if logged.ended_by else ""
    click.echo(
        f"suspension {logged.id} is over since {utc_second(logged.suspension.until)}{printable(ended)}"
    )


@click.command()
@click.option("--all", "every", is_flag=True, help="Those that are over, too.")
@url_option
@json_option
def suspensions(every: bool, url: str | None, as_json: bool) -> None:
    """List the suspensions that hold now."""
    now = datetime.now(UTC)
    found = open_ledger(url).suspensions.ending_after(after=None if every else now)
    if as_json:
        click.echo(json.dumps([suspension_json(one, now) for one in found], indent=2, ensure_ascii=False))
        return
    if not found:
        click.echo("no suspensions")
    for one in found:
        left = f"{short_duration(one.suspension.until - now)} left" if one.is_active(now) else "over"
        click.echo(printable(f"{one.id:4}  {left:14}  {one.scope}: {one.suspension}"))


def suspension_json(one: LoggedSuspension, now: datetime) -> dict[str, Any]:
    """Return one suspension as JSON."""
    return {
        "id": one.id,
        "dag_id": one.scope.dag_id,
        "run_id": one.scope.run_id,
        "name": one.scope.name,
        "budget": one.suspension.budget,
        "since": iso(one.suspension.since),
        "until": iso(one.suspension.until),
        "planned_until": iso(one.planned_until),
        "by": one.suspension.by,
        "reason": one.suspension.reason,
        "active": one.is_active(now),
        "ended_by": one.ended_by,
        "ended_reason": one.ended_reason,
    }


def _refuse_too_long(asked: timedelta) -> None:
    from rollback_budget.common.config import max_suspension
    from rollback_budget.model.duration import say_duration

    longest = max_suspension()
    if asked > longest:
        raise click.BadParameter(
            f"{say_duration(longest)} is the longest that a budget can be suspended ([rollback_budget]"
            " max_suspension); suspend it again when that is over, or write another budget",
            param_hint="--until",
        )


def _find_rollouts(ledger: Ledger, which: str, run: str | None) -> tuple[list[Rollout], Scope]:
    """Return the rollouts that are under way, and what to suspend for."""
    from rollback_budget.ledger.views import Scope

    if run is not None:
        (chosen, *_) = find_rollouts(ledger, which, run)
        return _under_way([chosen], which), Scope(chosen.key.dag_id, chosen.key.run_id)
    found = ledger.rollouts.named(which)
    if not found:
        click.echo(
            f"warning: no rollout of {printable(which)!r} is known; suspended ahead of time, for a release or"
            f" service of that name{printable(suggestion(ledger, which))}",
            err=True,
        )
        return [], Scope(name=which)
    newest = found[0]
    if which in (newest.spec.release, newest.spec.service):
        return [one for one in found if one.final is None], Scope(name=which)
    run_id = newest.key.run_id if which == newest.key.run_id else None
    return _under_way(found, which), Scope(newest.key.dag_id, run_id)


def _under_way(found: list[Rollout], which: str) -> list[Rollout]:
    going = [one for one in found if one.final is None]
    if not going:
        final = found[0].final
        assert final is not None
        raise LedgerRuleError(
            f"the rollout {which!r} has ended ({final.decision.value}); nothing is watched any more"
        )
    return going


def _warnings(rollouts: list[Rollout], budget: str, end: datetime) -> list[str]:
    """Say what the person should know. Raises LedgerRuleError when nothing would be suspended."""
    from rollback_budget.engine.suspension import EVERY_BUDGET, suspendable_names
    from rollback_budget.model.budget import Tier

    budgets = [line for one in rollouts for line in one.spec.budgets]
    covered = [line for line in budgets if budget in (line.id, line.area, EVERY_BUDGET)]
    if budgets and not covered:
        known = suspendable_names(one.spec for one in rollouts)
        raise LedgerRuleError(f"no budget or area is called {budget!r}; {did_you_mean(budget, known)}")
    text = []
    tier_a = sorted({line.id for line in covered if line.tier is Tier.A})
    if tier_a:
        text.append(f"tier A is suspended: {', '.join(tier_a)} will not roll back at once")
    ends = [one.window_end for one in rollouts if one.window_end is not None]
    if ends and end >= max(ends):
        text.append(f"it outlasts the window, which ends at {utc_second(max(ends))}")
    return text
