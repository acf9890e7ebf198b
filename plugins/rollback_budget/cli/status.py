"""``rollback-budget status``: every rollout at a glance, from the ledger alone."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from rollback_budget.cli.common import find_rollouts, iso, json_option, short_duration, url_option, utc_second
from rollback_budget.cli.interrupt import interruptible
from rollback_budget.cli.ledger import open_ledger
from rollback_budget.cli.standby import watched_by_json
from rollback_budget.cli.suspend import suspension_json
from rollback_budget.text import printable

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from rollback_budget.ledger.ledger import Ledger
    from rollback_budget.ledger.rollout_status import Gauge, RolloutStatus
    from rollback_budget.ledger.views import LoggedSuspension
    from rollback_budget.model.budget import Budget

#: Rollouts that ended are shown for this long.
RECENT = timedelta(days=1)
BAR = 12
_COLORS = {"good": "green", "bad": "red", "unknown": "yellow"}


@click.command()
@click.argument("release", required=False)
@click.option("--watch", is_flag=True, help="Stay, and show what changes, until Ctrl-C.")
@click.option(
    "--every",
    metavar="SECONDS",
    type=click.FloatRange(min=0.2),
    default=2.0,
    show_default=True,
    help="With --watch.",
)
@url_option
@json_option
def status(release: str | None, watch: bool, every: float, url: str | None, as_json: bool) -> None:
    """Show the rollouts that are under way, and those that ended within a day.

    RELEASE (or a service, DAG id or run id) shows every rollout of it. With --watch and --json, one JSON
    document a line.

    Exits 0, or 1 when there is no such rollout or no ledger.
    """
    ledger = open_ledger(url)
    if not watch:
        statuses = _read_statuses(ledger, release)
        if as_json:
            click.echo(json.dumps([status_json(one) for one in statuses], indent=2, ensure_ascii=False))
        else:
            _console().print(_table(statuses, datetime.now(UTC)))
        return
    try:
        _follow(ledger, release, every, as_json)
    except KeyboardInterrupt:
        return


def status_json(one: RolloutStatus) -> dict[str, Any]:
    """Return the status of one rollout as JSON."""
    now = datetime.now(UTC)
    rollout = one.rollout
    return {
        "dag_id": rollout.key.dag_id,
        "run_id": rollout.key.run_id,
        "service": rollout.spec.service,
        "release": rollout.spec.release,
        "baseline": rollout.spec.baseline,
        "phase": one.phase.value,
        "round": one.round,
        "opened_at": iso(rollout.opened_at),
        "shipped_at": iso(rollout.shipped_at),
        "window_end": iso(rollout.window_end),
        "review": None
        if one.review is None
        else {
            "opened_at": iso(one.review.opened_at),
            "deadline": iso(one.review.deadline),
            "on_timeout": one.review.on_timeout.value,
            "doubts": list(one.doubts),
        },
        "final": None
        if rollout.final is None
        else {
            "decision": rollout.final.decision.value,
            "by": rollout.final.by,
            "reason": rollout.final.reason,
            "at": iso(rollout.final.at),
        },
        "watched_by": None if one.watched_by is None else watched_by_json(one.watched_by),
        "rollback_outcome": None if one.outcome is None else one.outcome.value,
        "evaluated_until": iso(max((gauge.at for gauge in one.gauges.values()), default=None)),
        "budgets": [
            {
                "budget": line.id,
                "tier": line.tier.value,
                "max_duration_s": line.max_duration.total_seconds(),
                "suspended": any(suspension.suspension.covers(line) for suspension in one.suspensions),
                **_gauge_json(line, one.gauges.get(line.id)),
            }
            for line in rollout.spec.budgets
        ],
        "suspensions": [suspension_json(suspension, now) for suspension in one.suspensions],
    }


def _gauge_json(line: Budget, gauge: Gauge | None) -> dict[str, Any]:
    if gauge is None:
        return dict.fromkeys(("status", "delta", "burn_s", "remaining_s", "exhausted", "looked_at"))
    return {
        "status": gauge.status.value,
        "delta": gauge.delta,
        "burn_s": gauge.burn.total_seconds(),
        "remaining_s": _remaining(line, gauge).total_seconds(),
        "exhausted": _is_exhausted(line, gauge),
        "looked_at": iso(gauge.at),
    }


def _remaining(line: Budget, gauge: Gauge | None) -> timedelta:
    return line.max_duration if gauge is None else max(line.max_duration - gauge.burn, timedelta(0))


def _is_exhausted(line: Budget, gauge: Gauge) -> bool:
    return bool(line.max_duration) and gauge.burn >= line.max_duration


def _read_statuses(ledger: Ledger, release: str | None) -> list[RolloutStatus]:
    from rollback_budget.ledger.rollout_status import status_of

    now = datetime.now(UTC)
    if release is None:
        found = ledger.rollouts.undecided(ended_after=now - RECENT)
    else:
        found = find_rollouts(ledger, release, None)
    return [status_of(ledger, one, now) for one in found]


def _follow(ledger: Ledger, release: str | None, every: float, as_json: bool) -> None:
    from rich.live import Live

    with interruptible() as is_interrupted_within, ExitStack() as screen:
        if as_json:

            def show(statuses: list[RolloutStatus]) -> None:
                click.echo(json.dumps([status_json(one) for one in statuses], ensure_ascii=False))

        else:
            live = screen.enter_context(Live(console=_console(), auto_refresh=False, screen=False))

            def show(statuses: list[RolloutStatus]) -> None:
                live.update(_table(statuses, datetime.now(UTC)), refresh=True)

        show(_read_statuses(ledger, release))
        while not is_interrupted_within(every):
            show(_read_statuses(ledger, release))


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False)


def _table(statuses: list[RolloutStatus], now: datetime) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from rollback_budget.ledger.watched_by import Who

    if not statuses:
        return Text("no rollout is under way")
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("release", "phase", "left", "budget", "burn", "now"):
        table.add_column(heading, overflow="fold")
    for one in statuses:
        spec = one.rollout.spec
        what = Text(printable(spec.release), style="bold")
        if one.watched_by is not None and one.watched_by.who in (Who.STANDBY, Who.NOBODY):
            watched = f"\nwatched by {printable(str(one.watched_by))}"
            what.append(watched, style="bold red" if one.watched_by.who is Who.NOBODY else "bold yellow")
        what.append(f"\nagainst {printable(spec.baseline)}\n{printable(spec.service)}", style="dim")
        lines = [_budget(one, line) for line in spec.budgets]
        names, burns, looks = (Text("\n").join(column) for column in zip(*lines, strict=True))
        table.add_row(what, _phase(one, now), _left(one, now), names, burns, looks, end_section=True)
    doubts = [
        Text(f"{printable(one.rollout.spec.release)}: mind that {printable(doubt)}", style="yellow")
        for one in statuses
        for doubt in one.doubts
    ]
    return Group(table, *doubts)


def _phase(one: RolloutStatus, now: datetime) -> Text:
    from rich.text import Text

    from rollback_budget.ledger.rollout_status import Phase

    final = one.rollout.final
    match one.phase:
        case Phase.REVIEW:
            assert one.review is not None
            silence = "rolls back" if one.review.on_timeout.value == "rollback" else "goes on"
            text = Text(f"review of round {one.round}\n", style="bold yellow")
            left = one.review.deadline - now
            what = (
                f"silence {silence} in {short_duration(left)}"
                if left > timedelta(0)
                else f"silence {silence} now"
            )
            return text.append(what)
        case Phase.ROLLED_BACK:
            assert one.outcome is not None
            proven = one.outcome.value == "effective"
            text = Text("rolled back\n", style="bold red")
            text.append(one.outcome.value.replace("_", " "), style="" if proven else "bold red")
        case Phase.ROLLING_BACK:
            text = Text("rolling back", style="bold red")
        case Phase.PROMOTED:
            text = Text("promoted", style="bold green")
        case Phase.WATCHING:
            return Text(f"watching, round {one.round}")
        case Phase.ENDING:
            return Text("the window is over")
        case Phase.OPENED:
            return Text("opened, not shipped")
    return text if final is None else text.append(f"\nby {printable(final.by)}", style="dim")


def _left(one: RolloutStatus, now: datetime) -> Text:
    from rich.text import Text

    from rollback_budget.model.duration import say_duration

    rollout = one.rollout
    if rollout.final is not None:
        return Text(utc_second(rollout.final.at), style="dim")
    if rollout.window_end is None:
        return Text("")
    return Text(f"{short_duration(rollout.window_end - now)} of {say_duration(rollout.spec.window)}")


def _budget(one: RolloutStatus, line: Budget) -> tuple[Text, Text, Text]:
    from rich.text import Text

    name = Text(printable(line.id))
    name.append(f" {line.tier.value.upper()}", style="dim")
    suspension = next(
        (suspension for suspension in one.suspensions if suspension.suspension.covers(line)), None
    )
    gauge = one.gauges.get(line.id)
    return name, _bar(line, gauge, suspension), _look(gauge, suspension)


def _bar(line: Budget, gauge: Gauge | None, suspension: LoggedSuspension | None) -> Text:
    from rich.text import Text

    used = 0.0 if gauge is None else _used(line, gauge)
    full = int(used * BAR)
    color = "dim" if suspension is not None else "red" if used >= 0.75 else "yellow" if used else "green"
    bar = Text("█" * full, style=color)
    bar.append("░" * (BAR - full), style="dim")
    if not line.max_duration:
        return bar.append(" at once")
    if gauge is not None and _is_exhausted(line, gauge):
        # Without a breach the evidence does not suffice yet; how much is lacking is in the watch's log.
        return bar.append(" exhausted")
    return bar.append(f" {short_duration(_remaining(line, gauge))} left")


def _used(line: Budget, gauge: Gauge) -> float:
    """Return the part of a budget's duration that is used up; one without a duration has all or nothing."""
    if not line.max_duration:
        return float(gauge.status.value == "bad")
    return min(gauge.burn / line.max_duration, 1.0)


def _look(gauge: Gauge | None, suspension: LoggedSuspension | None) -> Text:
    from rich.text import Text

    if gauge is None:
        text = Text("no look yet", style="dim")
    else:
        text = Text(gauge.status.value, _COLORS[gauge.status.value])
        if gauge.delta is not None:
            text.append(f" {gauge.delta:+.4g}")
    if suspension is not None:
        until = f"{suspension.suspension.until:%H:%M}"
        text.append(
            printable(f"  suspended until {until} UTC by {suspension.suspension.by}"), style="bold magenta"
        )
    return text
