"""``rollback-budget standby``: watches on, from another host, when Airflow is down."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from rollback_budget.cli.common import iso, json_option, positive_duration, short_duration
from rollback_budget.text import printable

if TYPE_CHECKING:
    from rollback_budget.ledger.watched_by import WatchedBy
    from rollback_budget.standby.report import StandbyReport
    from rollback_budget.standby.standby import Standby
    from rollback_budget.standby.tools import StandbyMessage, StandbyTools
    from rollback_budget.watch.look_writer import LookWriter

#: Looks are written this soon: standby has few of them, and who reads the status waits for them.
BATCH_WAIT = timedelta(seconds=3)
#: A process that was told to end ends within this time, whatever still hangs in a thread.
END_WITHIN_S = 8.0
#: The last looks are waited for so long.
FLUSH = timedelta(seconds=2)


@click.command()
@click.option(
    "--after",
    metavar="DURATION",
    callback=positive_duration,
    help="Take over a watch that has given no sign of life for this long, on top of the budget's `settle`"
    " (default: the larger of three polls and 3m; two polls at least).",
)
@click.option(
    "--name",
    default=socket.gethostname,
    metavar="NAME",
    help="What it is called; by default this host's name.",
)
@click.option("--once", is_flag=True, help="Look once, do what has to be done now, and end.")
@click.option("--check", is_flag=True, help="Say whether a standby is alive, and who watches each rollout.")
@json_option
def standby(after: timedelta | None, name: str, once: bool, check: bool, as_json: bool) -> None:
    """Take over the watch of rollouts whose own is lost, because Airflow is down.

    Runs in the foreground, on a host that Airflow does not need: it needs the ledger and the connections of
    the budgets, which Airflow's configuration there has to find (environment, secrets backend), and no
    Airflow process and no database of Airflow's. Several may run; one of them watches a rollout.

    \b
    Examples:
      rollback-budget standby
      rollback-budget standby --check

    With --check: exits 0 when a standby was seen within the last minute and every rollout has a watcher,
    1 otherwise; --json prints one object. With --once: exits 1 when something that had to be done is left
    undone: the ledger is away, a takeover failed, a target did not accept the rollback.
    """
    if check:
        sys.exit(_check(after, as_json))
    name = name.strip()
    if not name or len(name) > 200:
        raise click.BadParameter("a name has 1 to 200 letters", param_hint="--name")
    _log_to_stdout()
    looks, tools = _tools()
    from rollback_budget.standby.standby import Standby

    process = Standby(tools, name, after)
    try:
        is_done = asyncio.run(_once(process) if once else _serve(process))
    finally:
        looks.flush(FLUSH)
    sys.exit(0 if is_done else 1)


async def _serve(process: Standby) -> bool:
    from rollback_budget.hooks.http import close_shared_session

    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def end() -> None:
        stop.set()
        # A thread that waits for a host that is gone must not keep the process.
        timer = threading.Timer(END_WITHIN_S, os._exit, (0,))
        timer.daemon = True
        timer.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    await process.run(stop)
    await close_shared_session()
    return True


async def _once(process: Standby) -> bool:
    from rollback_budget.hooks.http import close_shared_session

    is_done = await process.run_once()
    await close_shared_session()
    return is_done


def _tools() -> tuple[LookWriter, StandbyTools]:
    """Return what a standby works with: Airflow's configuration, connections and notifiers."""
    from rollback_budget.common.config import open_ledger
    from rollback_budget.hooks.connections import connection_problems
    from rollback_budget.hooks.http import close_shared_session
    from rollback_budget.hooks.metric_source import open_shared_source
    from rollback_budget.hooks.traffic_target import open_target, open_target_in_time
    from rollback_budget.ledger.looks import STANDBY
    from rollback_budget.standby.ledger_clock import LedgerClock
    from rollback_budget.standby.tools import StandbyTools
    from rollback_budget.watch.look_writer import LookWriter
    from rollback_budget.watch.suspension_cache import SuspensionCache

    clock = LedgerClock()
    looks = LookWriter(
        lambda: open_ledger().looks,
        log=logging.getLogger(LookWriter.__module__),
        batch_wait=BATCH_WAIT,
        now=clock.now,
        by=STANDBY,
    )
    return looks, StandbyTools(
        open_ledger=open_ledger,
        open_source=open_shared_source,
        close_sources=close_shared_session,
        open_target=open_target,
        open_target_in_time=open_target_in_time,
        send=_send,
        problems=connection_problems,
        looks=looks,
        suspensions=SuspensionCache(
            lambda after: open_ledger().suspensions.ending_after(after=after), clock.now
        ),
        clock=clock,
    )


def _send(message: StandbyMessage) -> Sequence[str]:
    from rollback_budget.notifications.dispatch import send
    from rollback_budget.notifications.notification import Notification

    rollout = message.rollout
    if not rollout.spec.notify:
        return ()
    notification = Notification(
        message.event, message.occasion, rollout.key, rollout.spec, message.sentence, message.deadline
    )
    return send(notification, {}, logging.getLogger("rollback_budget.standby"))


def _check(after: timedelta | None, as_json: bool) -> int:
    from rollback_budget.common.config import open_ledger
    from rollback_budget.standby.report import standby_report

    report = standby_report(open_ledger(), after)
    if as_json:
        click.echo(json.dumps(report_json(report), indent=2, ensure_ascii=False))
        return 0 if report.is_healthy else 1
    if report.newest is None:
        click.echo("no standby has ever been seen")
    else:
        ago = short_duration(report.newest.now - report.newest.seen_at)
        click.echo(printable(f"standby {report.newest.name} was seen {ago} ago"))
    for rollout, who in report.rollouts:
        click.echo(printable(f"{rollout.spec.release} ({rollout.key}): watched by {who}"))
    for key in report.unreadable:
        click.echo(printable(f"{key}: its budget cannot be read here"))
    return 0 if report.is_healthy else 1


def report_json(report: StandbyReport) -> dict[str, Any]:
    """Return the health of standby as JSON."""
    newest = report.newest
    return {
        "healthy": report.is_healthy,
        "standby": None
        if newest is None
        else {
            "name": newest.name,
            "started_at": iso(newest.started_at),
            "seen_at": iso(newest.seen_at),
            "alive": report.is_alive,
        },
        "rollouts": [
            {
                "dag_id": rollout.key.dag_id,
                "run_id": rollout.key.run_id,
                "release": rollout.spec.release,
                "watched_by": watched_by_json(who),
            }
            for rollout, who in report.rollouts
        ],
        "unreadable": [{"dag_id": key.dag_id, "run_id": key.run_id} for key in report.unreadable],
    }


def watched_by_json(who: WatchedBy) -> dict[str, Any]:
    """Return who watches a rollout as JSON."""
    return {"who": who.who.value, "name": who.name, "since": iso(who.since)}


def _log_to_stdout() -> None:
    handler = logging.StreamHandler(sys.stdout)
    formatter = logging.Formatter("%(asctime)s UTC %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    ours = logging.getLogger("rollback_budget")
    ours.handlers = [handler]
    ours.setLevel(logging.INFO)
    ours.propagate = False
