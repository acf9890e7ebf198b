"""``rollback-budget report``: the track record of the budgets."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from rollback_budget.cli.common import (
    iso,
    json_option,
    known_services,
    since_option,
    some,
    url_option,
    utc_second,
)
from rollback_budget.cli.ledger import open_ledger
from rollback_budget.cli.progress import progress_of
from rollback_budget.cli.recordings import minutes
from rollback_budget.text import plural, printable

if TYPE_CHECKING:
    from rich.table import Table

    from rollback_budget.track_record.read_records import Records
    from rollback_budget.track_record.track_record import (
        BudgetRecord,
        Harm,
        Outcomes,
        Overrides,
        TrackRecord,
    )


@click.command()
@since_option("Rollouts that began so long ago at most.", default="90d")
@click.option("--service", metavar="NAME", help="Only rollouts of this service.")
@click.option("--picture", metavar="FILE", type=click.Path(path_type=Path), help="Draw it, as .svg or .png.")
@url_option
@json_option
def report(
    since: timedelta, service: str | None, picture: Path | None, url: str | None, as_json: bool
) -> None:
    """Say whether the budgets were any good: how rollouts ended, and what people said of them afterwards.

    Of every budget: breaches; false trips, found and missed, by the labels that `label` gave; minutes of harm
    before a rollback; decisions to go on and what became of them; how long it was suspended, and how much of
    its time nobody saw. What is not known is counted apart, never as fine.

    \b
    Examples:
      rollback-budget report
      rollback-budget report --since 180d --service support-bot --picture track-record.svg

    Exits 0, or 1 when the ledger cannot be read, or holds no rollout of the service.
    """
    from rollback_budget.exceptions import UnknownRolloutError
    from rollback_budget.track_record.read_records import read_records
    from rollback_budget.track_record.track_record import track_record_of

    if picture is not None:
        from rollback_budget.charts import check_format

        check_format(picture)
    now = datetime.now(UTC)
    ledger = open_ledger(url)
    keys = ledger.rollouts.opened_since(now - since, service)
    if service is not None and not ledger.rollouts.opened_since(None, service):
        place = f"the ledger at {ledger.place}{known_services(ledger)}"
        raise UnknownRolloutError(f"no rollout of the service {service!r} is in {place}")
    with progress_of("rollouts", len(keys)) as bar:
        records = read_records(ledger, keys, bar.advance)
    made = track_record_of(records.rollouts, now)
    if picture is not None:
        _draw(made, picture)
        click.echo(f"wrote {picture}", err=True)
    if as_json:
        document = {"as_of": iso(now), "since": iso(now - since), "service": service, **_json(made, records)}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    _print(made, records, now - since)


def _json(made: TrackRecord, records: Records) -> dict[str, Any]:
    from rollback_budget.model.label import Label
    from rollback_budget.track_record.rollout_record import Ending

    return {
        "rollouts": {
            "total": made.rollouts,
            **{ending.value: made.endings.get(ending, 0) for ending in Ending},
        },
        "labels": {
            "good": made.labels.get(Label.GOOD, 0),
            "bad": made.labels.get(Label.BAD, 0),
            "assumed_bad": made.assumed_bad,
            "unlabelled": made.labels.get(None, 0),
        },
        "unlabelled": [
            {
                "dag_id": one.key.dag_id,
                "run_id": one.key.run_id,
                "release": one.spec.release,
                "service": one.spec.service,
            }
            for one in made.unlabelled
        ],
        "outcomes": _outcomes_json(made.outcomes),
        "harm": _harm_json(made.harm),
        "overrides": _overrides_json(made.overrides),
        "blind_verdicts": made.blind,
        "budgets": [_budget_json(one) for one in made.budgets],
        "unreadable": [
            {"dag_id": key.dag_id, "run_id": key.run_id, "reason": reason}
            for key, reason in records.unreadable
        ],
    }


def _budget_json(one: BudgetRecord) -> dict[str, Any]:
    return {
        "service": one.service,
        "budget": one.budget,
        "rollouts": one.rollouts,
        "breaches": one.breaches,
        "outcomes": {**_outcomes_json(one.outcomes), "found_by_another": one.found_by_another},
        "harm": _harm_json(one.harm),
        "overrides": _overrides_json(one.overrides),
        "suspended_min": minutes(one.suspended),
        "blind_verdicts": one.blind,
        "looks": one.looks.looks,
        "unknown_looks": one.looks.unknown,
        "unknown_share": _share(one),
        "rollouts_without_looks": one.without_looks,
    }


def _outcomes_json(one: Outcomes) -> dict[str, int]:
    return {
        "false_trips": one.false_trips,
        "found": one.found,
        "missed": one.missed,
        "overridden": one.overridden,
        "unlabelled": one.unlabelled,
    }


def _harm_json(one: Harm) -> dict[str, Any]:
    return {
        "total_min": minutes(one.total),
        "median_min": minutes(one.median),
        "measured": one.measured,
        "from_breach": one.from_breach,
        "unknown": one.unknown,
    }


def _overrides_json(one: Overrides) -> dict[str, Any]:
    from rollback_budget.model.label import Label
    from rollback_budget.track_record.rollout_record import Ending

    ended = one.ended
    return {
        "total": one.count,
        "promoted": ended.get(Ending.PROMOTED, 0),
        "rolled_back_later": sum(count for ending, count in ended.items() if ending.is_rolled_back),
        "open": ended.get(Ending.OPEN, 0),
        "no_decision": ended.get(Ending.NO_DECISION, 0),
        "labelled_good": one.labelled.get(Label.GOOD, 0),
        "labelled_bad": one.labelled.get(Label.BAD, 0),
        "unlabelled": one.labelled.get(None, 0),
    }


def _share(one: BudgetRecord) -> float | None:
    return one.looks.unknown / one.looks.looks if one.looks.looks else None


def _draw(made: TrackRecord, picture: Path) -> None:
    from rollback_budget.charts import draw_track_record
    from rollback_budget.track_record.rollout_record import Ending

    draw_track_record(
        {ending.value.replace("_", " "): made.endings.get(ending, 0) for ending in Ending},
        {
            _name(one, made): {
                "found": one.outcomes.found,
                "false trip": one.outcomes.false_trips,
                "missed": one.outcomes.missed,
                "overridden": one.outcomes.overridden,
                "rolled back, no label": one.outcomes.unlabelled,
            }
            for one in made.budgets
        },
        {_name(one, made): _share(one) for one in made.budgets},
        picture,
    )


def _name(one: BudgetRecord, made: TrackRecord) -> str:
    several = len({budget.service for budget in made.budgets}) > 1
    return f"{one.service}: {one.budget}" if several else one.budget


def _print(made: TrackRecord, records: Records, since: datetime) -> None:
    from rich.console import Console

    from rollback_budget.model.label import Label
    from rollback_budget.track_record.rollout_record import Ending

    click.echo(f"{plural(made.rollouts, 'rollout')} since {utc_second(since)}")
    if not made.rollouts and not records.unreadable:
        click.echo("there is nothing to report; give a longer --since")
        return
    ended = [
        f"{count} {ending.value.replace('_', ' ')}"
        for ending in Ending
        if (count := made.endings.get(ending, 0))
    ]
    if ended:
        click.echo(f"how they ended: {', '.join(ended)}")
    assumed = f" ({made.assumed_bad} by the commander's rollback alone)" if made.assumed_bad else ""
    good, bad, none = (made.labels.get(label, 0) for label in (Label.GOOD, Label.BAD, None))
    click.echo(f"labels of those that are over: {good} good, {bad} bad{assumed}, {none} without")
    one = made.outcomes
    click.echo(
        f"the rules: {one.found} found, {one.missed} missed, {one.overridden} overridden,"
        f" {plural(one.false_trips, 'false trip')}, {one.unlabelled} rolled back without a label"
    )
    click.echo(f"harm before rollback: {_say_harm(made.harm)}")
    click.echo(f"decisions to go on: {_say_overrides(made.overrides)}")
    click.echo(f"blind verdicts: {made.blind}")
    console = Console(markup=False, highlight=False)
    console.width = max(console.width, 100)
    if made.budgets:
        console.print()
        console.print(_stops(made))
        console.print()
        console.print(_sight(made))
    for key, reason in records.unreadable:
        click.echo(printable(f"\nnot counted: {key}: {reason}"))
    if none:
        names = some([f"{one.spec.release} {one.key.run_id}" for one in made.unlabelled], 10)
        click.echo(
            f"\nsay how the {none} went: rollback-budget label RELEASE good|bad --run RUN_ID", err=True
        )
        click.echo(printable(names), err=True)


def _stops(made: TrackRecord) -> Table:
    outcomes = ("found", "false trips", "missed", "overridden", "no label")
    table = _table("budget", "rollouts", "breaches", *outcomes, "harm before rollback")
    for one in made.budgets:
        out = one.outcomes
        counts = (one.rollouts, one.breaches, out.found, out.false_trips, out.missed, out.overridden)
        name = printable(_name(one, made))
        table.add_row(name, *map(str, counts), str(out.unlabelled), _say_harm(one.harm))
    return table


def _sight(made: TrackRecord) -> Table:
    table = _table("budget", "decisions to go on", "suspended", "blind verdicts", "unknown looks")
    for one in made.budgets:
        share = _share(one)
        seen = "not known" if share is None else f"{100 * share:.1f} % of {one.looks.looks}"
        if one.without_looks and share is not None:
            seen += f"; {plural(one.without_looks, 'rollout')} not in the ledger any more"
        table.add_row(
            printable(_name(one, made)),
            _say_overrides(one.overrides),
            _say_minutes(one.suspended),
            str(one.blind),
            seen,
        )
    return table


def _say_harm(harm: Harm) -> str:
    if harm.median is None or harm.total is None:
        return f"not known of {harm.unknown}" if harm.unknown else "none"
    said = f"{_say_minutes(harm.total)} in {harm.measured}, median {_say_minutes(harm.median)}"
    if harm.from_breach:
        said += f" ({harm.from_breach} from the breach on)"
    return f"{said}, not known of {harm.unknown}" if harm.unknown else said


def _say_minutes(time: timedelta) -> str:
    from rollback_budget.model.duration import say_duration

    return say_duration(timedelta(minutes=round(time / timedelta(minutes=1))))


def _say_overrides(one: Overrides) -> str:
    if not one.count:
        return "none"
    what = _overrides_json(one)
    known = {
        "promoted": what["promoted"],
        "rolled back later": what["rolled_back_later"],
        "open": what["open"],
        "without a decision": what["no_decision"],
        "labelled bad": what["labelled_bad"],
    }
    return f"{one.count}: " + ", ".join(f"{count} {name}" for name, count in known.items() if count)


def _table(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    words = ("budget", "harm before rollback", "decisions to go on", "suspended", "unknown looks")
    for heading in headings:
        numeric = heading not in words
        justify: Literal["right", "left"] = "right" if numeric else "left"
        table.add_column(heading, justify=justify, overflow="fold", no_wrap=heading == "budget")
    return table
