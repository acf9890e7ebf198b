"""Tasks that use the ticket system: the tracker that the deployment names, and waiting for a rate limit."""

from __future__ import annotations

from abc import abstractmethod
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from rollback_budget.clock import utc_now
from rollback_budget.common.config import backlog_folder, link_to_run, tracker_conn_id, tracker_name
from rollback_budget.exceptions import TicketError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from rollback_budget.tickets.base import Tracker

#: A rate limit for longer than this is a mistake of the server's clock; then it is asked again.
LONGEST_WAIT = timedelta(hours=24)
#: A task that is resumed sooner than this after it deferred can be taken for failed by the scheduler.
SHORTEST_WAIT = timedelta(seconds=10)
#: So that a wait that has just ended has ended on the other side's clock too.
MARGIN = timedelta(seconds=1)


class TicketOperator(BaseOperator):
    """
    Works with the ticket system, and waits outside of any worker slot for as long as that asks for.

    A rate limit (``Retry-After``, as seconds or as a date) and a lost answer that must settle defer the task
    until then, whatever its retries; every other error fails the try.
    """

    ui_color = "#e8e8f8"

    @abstractmethod
    def work(self, context: Context) -> Any:
        """Do the work once. Raises TicketError; what was done stays done, the next call does the rest."""

    def execute(self, context: Context) -> Any:
        """Work, and defer where the ticket system says how long to wait."""
        try:
            return self.work(context)
        except TicketError as error:
            if error.retry_after is None:
                raise
            self._wait(error, error.retry_after)

    def execute_again(self, context: Context, event: Any = None) -> Any:  # noqa: ARG002
        """Work again after a wait."""
        return self.execute(context)

    def _wait(self, error: TicketError, asked_for: timedelta) -> None:
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger

        until = utc_now() + min(max(asked_for, SHORTEST_WAIT), LONGEST_WAIT) + MARGIN
        self.log.warning("waiting until %s: %s", until.isoformat(timespec="seconds"), error)
        self.defer(trigger=DateTimeTrigger(moment=until), method_name="execute_again")


def open_tracker() -> Tracker:
    """Return the tracker that Airflow's configuration names.

    That is ``[rollback_budget] tracker``; where it is empty, Jira when ``jira_conn_id`` is set, else the
    local backlog. Raises TicketError when its connection cannot be used.
    """
    from airflow.sdk import BaseHook

    from rollback_budget.tickets.base import TrackerDeployment, tracker_class

    deployment = TrackerDeployment(tracker_conn_id(), BaseHook.get_connection, backlog_folder(), link_to_run)
    return tracker_class(tracker_name()).open(deployment)
