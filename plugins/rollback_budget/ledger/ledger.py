"""The ledger: what happened in rollouts, once, in a database of its own."""

from __future__ import annotations

from rollback_budget.ledger.case_index import CaseIndex
from rollback_budget.ledger.database import current_revision
from rollback_budget.ledger.gates import Gates
from rollback_budget.ledger.ticket_operations import TicketOperations


class Ledger(CaseIndex, TicketOperations, Gates):
    """The one place that knows the ledger's tables.

    Constructing it does no I/O, and no connection is held between calls. Every method raises
    :class:`~rollback_budget.exceptions.LedgerError` when the database cannot be reached or is not migrated.

    :param url: an SQLAlchemy URL of SQLite or PostgreSQL.
    :param connect_timeout_s: how long connecting may take, seconds.
    """

    def migrate(self) -> str:
        """Bring the tables up to what this version needs, creating them at first; return the revision."""
        # Alembic is heavy, and only a migration needs it.
        from rollback_budget.ledger.migrate import upgrade

        return upgrade(self)

    def check(self) -> str:
        """Return the revision of a ledger that can be used. Raises LedgerError saying why it cannot."""
        with self.read() as session:
            revision = current_revision(session.connection())
        trouble = self.not_migrated(revision)
        if trouble is not None:
            raise trouble
        assert revision is not None
        return revision
