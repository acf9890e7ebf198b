"""What the commands share: options, times for people and scripts, and finding a rollout by name."""

from __future__ import annotations

import getpass
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
budget_argument = click.argument("budget", type=click.Path(path_type=Path))


def series_option(help_text: str) -> Callable[[_Command], _Command]:
    """Return the required option ``--series FILE`` with its help text."""
    return click.option(
        "--series", required=True, metavar="FILE", type=click.Path(path_type=Path), help=help_text
    )


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
            raise click.BadParameter(f"{text!r} has no time zone; write it as UTC ({text}Z)")
        until = until.astimezone(UTC)
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
        runs = ", ".join(repr(one.key.run_id) for one in found[:5])
        raise UnknownRolloutError(
            f"{name!r} has no run {run!r} in the ledger at {ledger.place}; its runs: {runs}"
        )
    raise UnknownRolloutError(
        f"no rollout of {name!r} is in the ledger at {ledger.place}{suggestion(ledger, name)}"
    )


def suggestion(ledger: Ledger, name: str) -> str:
    """Return the names nearest to an unknown ``name``, as the end of a sentence."""
    known: list[str] = []
    for one in ledger.rollouts.newest():
        known += [one.spec.release, one.spec.service, one.key.dag_id]
    return f"; {did_you_mean(name, known)}" if known else "; it holds no rollout yet"


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return the nearest known words, else some of them."""
    distinct = list(dict.fromkeys(known))
    near = get_close_matches(word, distinct, n=3) if len(word) <= 100 else []
    if near:
        return f"did you mean {' or '.join(repr(one) for one in near)}?"
    return f"known: {', '.join(repr(one) for one in distinct[:8])}"
