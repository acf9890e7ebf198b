"""What the commands share: options, times for people and scripts, and finding a rollout by name."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from rollback_budget.exceptions import UnknownRolloutError

if TYPE_CHECKING:
    from rollback_budget.ledger.ledger import Ledger
    from rollback_budget.ledger.views import Rollout

_Command = TypeVar("_Command", bound=Callable[..., object])

url_option = click.option("--url", metavar="URL", help="SQLAlchemy URL of the ledger.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
by_option = click.option(
    "--by", metavar="NAME", default=getpass.getuser, help="Who; by default your user name."
)
jobs_option = click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(min=1),
    default=lambda: len(os.sched_getaffinity(0)),
    help="Processes; by default one a core.",
)
budget_argument = click.argument("budget", type=click.Path(path_type=Path))


def series_option(help_text: str) -> Callable[[_Command], _Command]:
    """Return the option ``--series FILE`` with its help text."""
    return click.option("--series", metavar="FILE", type=click.Path(path_type=Path), help=help_text)


def positive_duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> timedelta | None:
    """Read a duration longer than nothing, as budget files write it; a callback of an option."""
    from rollback_budget.model.duration import parse_duration

    if value is None:
        return None
    try:
        duration = parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if duration <= timedelta(0):
        raise click.BadParameter("it must be longer than nothing")
    return duration


def utc_second(time: datetime) -> str:
    """Return a time for people."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"


def iso(time: datetime | None) -> str | None:
    """Return a time for scripts."""
    return None if time is None else time.isoformat().replace("+00:00", "Z")


def short_duration(duration: timedelta) -> str:
    """Return a duration in at most two units, whole seconds at the least: ``3 h 20 min``."""
    seconds = max(int(duration.total_seconds()), 0)
    units = (
        (seconds // 86400, "d"),
        (seconds // 3600 % 24, "h"),
        (seconds // 60 % 60, "min"),
        (seconds % 60, "s"),
    )
    first = next((place for place, (n, _) in enumerate(units) if n), len(units) - 1)
    parts = [f"{n} {unit}" for n, unit in units[first : first + 2] if n]
    return " ".join(parts) or "0 s"


def parse_time(text: str) -> datetime:
    """Read a time in ISO 8601 with a zone; return it in UTC.

    :raises click.BadParameter: it cannot be read.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a time; write ISO 8601, as 2026-10-01T12:00:00Z") from None
    if time.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no time zone; write it as UTC ({_in_utc(time)})")
    return _to_utc(text, time)


def _to_utc(text: str, time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise click.BadParameter(
            f"{text!r} is before year 1 or after year 9999 in UTC; check the year"
        ) from None


def _in_utc(time: datetime) -> str:
    """Return a time without a zone as one of UTC, such as ``2026-11-27T00:00Z``."""
    seconds = "auto" if time.second or time.microsecond else "minutes"
    return f"{time.isoformat(timespec=seconds)}Z"


def time_option(*names: str, help_text: str) -> Callable[[_Command], _Command]:
    """Return an option that takes a time in ISO 8601 with a zone, None when it is left out."""

    def read(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
        return None if value is None else parse_time(value)

    return click.option(*names, metavar="TIME", callback=read, help=help_text)


def since_option(help_text: str, default: str | None = None) -> Callable[[_Command], _Command]:
    """Return the option ``--since DURATION``, as a :class:`timedelta`; None when it is left out."""

    def read(_ctx: click.Context, _param: click.Parameter, value: str | None) -> timedelta | None:
        from rollback_budget.model.duration import parse_duration

        try:
            return None if value is None else parse_duration(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return click.option(
        "--since", metavar="DURATION", callback=read, default=default, show_default=True, help=help_text
    )


def parse_until(text: str, now: datetime) -> datetime:
    """Read when something ends: ``+30m``, ``03:30`` (the next one, UTC), or ISO 8601 with a zone.

    :raises click.BadParameter: it cannot be read, or lies in the past.
    """
    from rollback_budget.model.duration import parse_duration

    if text.startswith("+"):
        try:
            until = now + parse_duration(text[1:])
        except ValueError as error:
            raise click.BadParameter(f"{text!r} is {error}; for a while from now write +30m") from None
    elif match := re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)(?:\s*(?:UTC|Z))?", text):
        until = now.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
        until += timedelta(days=until <= now)
    else:
        try:
            until = datetime.fromisoformat(text)
        except ValueError:
            raise click.BadParameter(
                f"{text!r} is no time; write +30m, 03:30 (UTC) or 2026-10-01T03:30:00Z"
            ) from None
        if until.tzinfo is None:
            raise click.BadParameter(f"{text!r} has no time zone; write it as UTC ({_in_utc(until)})")
        until = _to_utc(text, until)
    if until <= now:
        raise click.BadParameter(f"{text!r} is not in the future; it is {utc_second(now)} now")
    return until


def find_rollouts(ledger: Ledger, name: str, run: str | None) -> list[Rollout]:
    """Return the rollouts of a release, service, DAG or run, newest first, at least one.

    :param run: only this run; None for all.
    :raises UnknownRolloutError: there is none; names the nearest that there are.
    """
    found = ledger.rollouts.named(name)
    chosen = [one for one in found if run in (None, one.key.run_id)]
    if chosen:
        return chosen
    if found:
        runs = some([repr(one.key.run_id) for one in found])
        raise UnknownRolloutError(
            f"{name!r} has no run {run!r} in the ledger at {ledger.place}; its runs: {runs}"
        )
    raise UnknownRolloutError(
        f"no rollout of {name!r} is in the ledger at {ledger.place}{suggestion(ledger, name)}"
    )


def some(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def suggestion(ledger: Ledger, name: str) -> str:
    """Return the names nearest to an unknown ``name``, as the end of a sentence."""
    known: list[str] = []
    for one in ledger.rollouts.newest():
        known += [one.spec.release, one.spec.service, one.key.dag_id]
    return f"; {did_you_mean(name, known)}" if known else "; it holds no rollout yet"


def known_services(ledger: Ledger) -> str:
    """Return the services of the newest rollouts, as the end of a sentence."""
    services = list(dict.fromkeys(one.spec.service for one in ledger.rollouts.newest()))
    return f"; its services: {some(services, 8)}" if services else "; it holds no rollout yet"


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return the nearest known words, else some of them."""
    distinct = list(dict.fromkeys(known))
    near = get_close_matches(word, distinct, n=3) if len(word) <= 100 else []
    if near:
        return f"did you mean {' or '.join(repr(one) for one in near)}?"
    return f"known: {', '.join(repr(one) for one in distinct[:8])}"
