"""What `backtest` and `review-change` try a rule on: a folder, or the past rollouts of the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rollback_budget.cli.common import known_services, since_option, url_option, utc_second
from rollback_budget.text import plural, printable

if TYPE_CHECKING:
    from rollback_budget.backtest.recording import Recording
    from rollback_budget.backtest.score import Score
    from rollback_budget.model.spec import RolloutSpec
    from rollback_budget.track_record.past_rollouts import LeftOut

_Command = TypeVar("_Command", bound=Callable[..., object])


@dataclass(frozen=True)
class Chosen:
    """What is tried.

    :param place: where it is from, in words.
    :param left_out: rollouts of the ledger that cannot be tried.
    :param notes: what has to be known about all of it.
    """

    recordings: Sequence[Recording]
    place: str
    left_out: Sequence[LeftOut] = ()
    notes: Sequence[str] = ()


def recording_options(command: _Command) -> _Command:
    """Add FOLDER, ``--ledger``, ``--since`` and ``--url`` to a command."""
    ledger = click.option(
        "--ledger",
        "from_ledger",
        is_flag=True,
        help="The past rollouts of the ledger, not FOLDER.",
    )
    since = since_option("With --ledger: only rollouts that began so long ago at most: 90d.")
    folder = click.argument("folder", type=click.Path(path_type=Path), required=False)
    return folder(ledger(since(url_option(command))))


def choose_recordings(
    specs: Sequence[RolloutSpec],
    folder: Path | None,
    from_ledger: bool,
    since: timedelta | None,
    url: str | None,
) -> Chosen:
    """Return what the rules ``specs``, all of one service, are tried on; says what has no label.

    :raises click.UsageError: neither or both of a folder and the ledger, or options of the other one.
    :raises RollbackBudgetError: there is nothing to try.
    """
    if from_ledger is (folder is not None):
        raise click.UsageError("give either FOLDER or --ledger")
    if not from_ledger and (since is not None or url is not None):
        raise click.UsageError("--since and --url belong to --ledger")
    chosen = _of_ledger(specs, since, url) if folder is None else _of_folder(folder)
    unlabelled = sum(recording.label is None for recording in chosen.recordings)
    if unlabelled:
        rollouts = plural(len(chosen.recordings), "rollout")
        click.echo(
            f"warning: {unlabelled} of {rollouts} without a label in {printable(chosen.place)}", err=True
        )
    return chosen


def recording_json(recording: Recording) -> dict[str, str | None]:
    """Return which rollout it is: of a file its name, of the ledger its run."""
    from rollback_budget.backtest.folder import RecordedFile
    from rollback_budget.track_record.recorded_looks import RecordedLooks

    key = recording.key if isinstance(recording, RecordedLooks) else None
    return {
        "rollout": recording.name,
        "file": recording.name if isinstance(recording, RecordedFile) else None,
        "dag_id": None if key is None else key.dag_id,
        "run_id": None if key is None else key.run_id,
        "release": recording.release,
        "baseline": recording.baseline,
    }


def left_out_json(chosen: Chosen) -> dict[str, Any]:
    """Return what could not be tried, and what has to be known about the rest."""
    return {
        "left_out": [
            {
                "dag_id": one.key.dag_id,
                "run_id": one.key.run_id,
                "release": one.release,
                "reason": one.reason,
            }
            for one in chosen.left_out
        ],
        "notes": list(chosen.notes),
    }


def score_json(score: Score) -> dict[str, Any]:
    """Return counts of rollouts as JSON."""
    return {
        "good": score.good,
        "bad": score.bad,
        "unlabelled": score.unlabelled,
        "false_trips": score.false_trips,
        "false_trips_of": score.false_trips_of,
        "found": score.found,
        "missed": score.missed,
        "tripped": score.tripped,
        "undecided": score.undecided,
        "median_delay_min": minutes(score.median_delay),
        "longest_delay_min": minutes(score.longest_delay),
    }


def minutes(duration: timedelta | None) -> float | None:
    """Return a duration in minutes."""
    return None if duration is None else duration / timedelta(minutes=1)


def _of_folder(folder: Path) -> Chosen:
    from rollback_budget.backtest.folder import LABELS, recordings_of

    return Chosen(recordings_of(folder), str(folder / LABELS))


def _of_ledger(specs: Sequence[RolloutSpec], since: timedelta | None, url: str | None) -> Chosen:
    from rollback_budget.cli.ledger import open_ledger
    from rollback_budget.exceptions import UnknownRolloutError
    from rollback_budget.model.duration import say_duration
    from rollback_budget.track_record.past_rollouts import past_rollouts

    ledger, now = open_ledger(url), datetime.now(UTC)
    place = f"the ledger at {ledger.place}"
    past = past_rollouts(ledger, specs, None if since is None else now - since, now)
    if not past.recordings:
        services = specs[0].service
        if not ledger.rollouts.opened_since(None, services):
            raise UnknownRolloutError(f"no past rollout of {services!r} in {place}{known_services(ledger)}")
        if since is not None and not past.left_out:
            raise UnknownRolloutError(
                f"no past rollout of {services!r} in {place} began in the last {say_duration(since)}"
                f" (since {utc_second(now - since)}); give a longer --since, or leave it out"
            )
        why = "".join(f"\n{one.key}: {one.reason}" for one in past.left_out[:5])
        more = f"\nand {len(past.left_out) - 5} more" if len(past.left_out) > 5 else ""
        raise UnknownRolloutError(f"no past rollout of {services!r} in {place} can be tried{why}{more}")
    return Chosen(past.recordings, place, past.left_out, past.notes)
