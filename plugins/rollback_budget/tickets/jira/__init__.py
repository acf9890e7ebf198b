"""Jira, Cloud and Data Center: issues that belong to people, kept in step with what the ledger knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rollback_budget.tickets.base import TicketTracker, TrackerDeployment

if TYPE_CHECKING:
    from rollback_budget.tickets.jira.tracker import JiraTracker


class JiraTicketTracker(TicketTracker):
    """Registers the tracker ``jira``."""

    @classmethod
    def open(cls, deployment: TrackerDeployment) -> JiraTracker:
        """Return the tracker that the deployment's ``jira`` connection describes. Raises TicketError."""
        from rollback_budget.tickets.jira.connection import tracker_from_jira_connection

        connection = deployment.require_connection()
        return tracker_from_jira_connection(
            connection.host,
            connection.login,
            connection.password,
            connection.extra_dejson,
            run_link=deployment.run_link,
        )
