"""Ranges of time on the command line: ``--from``, ``--to`` and ``--last``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import click

from rollback_budget.cli.common import parse_time

_Command = TypeVar("_Command", bound=Callable[..., object])


@dataclass(frozen=True)
class TimeRange:
    """A range of time.

    :param asked: beginning and end as they were given: relative ones in their own words, others in UTC.
    """

    start: datetime
    end: datetime
    asked: tuple[str, str]


def range_options(command: _Command) -> _Command:
    """Add the options that :func:`time_range` reads, as ``from_``, ``to`` and ``last``."""
    for option in (
        click.option(
            "--last", metavar="DURATION", help="So far back from now: short for --from -DURATION --to now."
        ),
        click.option("--to", metavar="TIME", help="Where it ends, likewise; by default now."),
        click.option(
            "--from", "from_", metavar="TIME", help="Where it begins: ISO 8601, or relative to now as -24h."
        ),
    ):
        command = option(command)
    return command


def time_range(from_: str | None, to: str | None, last: str | None, now: datetime) -> TimeRange | None:
    """Return the range that was asked for, None when none was.

    :raises click.BadParameter: it cannot be read, or is none.
    """
    if last is not None:
        if from_ is not None or to is not None:
            raise click.UsageError("--last says where the range begins and ends; leave out --from and --to")
        length = _length(last)
        return TimeRange(now - length, now, (f"-{last.removeprefix('-')}", "now"))
    if from_ is None:
        if to is not None:
            raise click.UsageError("--to needs --from: where does the range begin?")
        return None
    to = "now" if to is None else to
    start, end = _time(from_, "--from", now), _time(to, "--to", now)
    if start >= end:
        raise click.BadParameter(
            f"{from_} ({_second(start)}) is not before --to {to} ({_second(end)}); give an earlier --from, or"
            " a later --to",
            param_hint="--from",
        )
    return TimeRange(start, end, (_asked(from_, start), _asked(to, end)))


def _time(text: str, option: str, now: datetime) -> datetime:
    if text == "now":
        return now
    try:
        if text.startswith("-"):
            return now - _duration(text[1:])
        return parse_time(text)
    except click.BadParameter as error:
        if _is_duration(text):
            said = f"{text!r} is not a time; did you mean -{text}, so long before now?"
            raise click.BadParameter(said, param_hint=option) from None
        error.param_hint = option
        raise


def _is_duration(text: str) -> bool:
    try:
        _duration(text)
    except click.BadParameter:
        return False
    return True


def _duration(text: str) -> timedelta:
    from rollback_budget.model.duration import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(f"-{text}: {error}, with a minus for so long ago") from None


def _length(last: str) -> timedelta:
    from rollback_budget.model.duration import parse_duration

    try:
        length = parse_duration(last.removeprefix("-"))
    except ValueError as error:
        raise click.BadParameter(f"{last!r}: {error}", param_hint="--last") from None
    if not length:
        raise click.BadParameter(
            f"{last!r} is no time at all; write how far back, as 24h", param_hint="--last"
        )
    return length


def _asked(text: str, time: datetime) -> str:
    return text if text == "now" or text.startswith("-") else _said(time)


def _second(time: datetime) -> str:
    return _said(time.replace(microsecond=0))


def _said(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
