"""The ledger: what happened in rollouts, once, in a database of its own."""

from __future__ import annotations

from rollback_budget.ledger.answers import Answers
from rollback_budget.ledger.breaches import Breaches
from rollback_budget.ledger.cases import CaseIndex
from rollback_budget.ledger.database import Database, current_revision
from rollback_budget.ledger.debt_events import DebtEvents
from rollback_budget.ledger.debts import Debts
from rollback_budget.ledger.decisions import Decisions, Overrides
from rollback_budget.ledger.evaluations import Evaluations
from rollback_budget.ledger.final_decisions import FinalDecisions
from rollback_budget.ledger.gates import Bypasses, GateRuns
from rollback_budget.ledger.labels import Labels
from rollback_budget.ledger.look_spans import LookSpans
from rollback_budget.ledger.looks import Looks
from rollback_budget.ledger.notifications import Notifications
from rollback_budget.ledger.proofs import Proofs
from rollback_budget.ledger.reviews import Reviews
from rollback_budget.ledger.rollbacks import Rollbacks
from rollback_budget.ledger.rollouts import Rollouts
from rollback_budget.ledger.stages import Stages
from rollback_budget.ledger.standbys import Standbys
from rollback_budget.ledger.suspensions import Suspensions
from rollback_budget.ledger.ticket_operations import TicketOperations
from rollback_budget.ledger.tickets import Tickets
from rollback_budget.ledger.watch_heartbeats import WatchHeartbeats
from rollback_budget.ledger.watch_leases import WatchLeases
from rollback_budget.ledger.watch_signs import SignsOfLife


class Ledger:
    """The repositories of the ledger, one for each aggregate, on one database.

    Constructing it does no I/O, and no connection is held between calls. Every method of a repository raises
    :class:`~rollback_budget.exceptions.LedgerUnavailableError` when the database cannot be used, and
    :class:`~rollback_budget.exceptions.LedgerRuleError` when what is asked for is not allowed.

    :param url: an SQLAlchemy URL of SQLite or PostgreSQL.
    :param connect_timeout_s: how long connecting may take, seconds.
    """

    def __init__(self, url: str, connect_timeout_s: float = 5) -> None:
        self.database = database = Database(url, connect_timeout_s)
        self.rollouts = Rollouts(database)
        self.final_decisions = FinalDecisions(database)
        self.labels = Labels(database)
        self.looks = Looks(database)
        self.look_spans = LookSpans(database)
        self.evaluations = Evaluations(database)
        self.breaches = Breaches(database)
        self.reviews = Reviews(database)
        self.decisions = Decisions(database)
        self.overrides = Overrides(database)
        self.answers = Answers(database)
        self.suspensions = Suspensions(database)
        self.rollbacks = Rollbacks(database)
        self.stages = Stages(database)
        self.watch_heartbeats = WatchHeartbeats(database)
        self.watch_leases = WatchLeases(database)
        self.standbys = Standbys(database)
        self.signs_of_life = SignsOfLife(database)
        self.notifications = Notifications(database)
        self.debts = Debts(database)
        self.debt_events = DebtEvents(database)
        self.proofs = Proofs(database)
        self.cases = CaseIndex(database)
        self.tickets = Tickets(database)
        self.ticket_operations = TicketOperations(database)
        self.gate_runs = GateRuns(database)
        self.bypasses = Bypasses(database)

    @property
    def url(self) -> str:
        """The database's URL, with its secrets."""
        return self.database.url

    @property
    def place(self) -> str:
        """Where the ledger is, without any secret."""
        return self.database.place

    def migrate(self) -> str:
        """Bring the tables up to what this version needs, creating them at first; return the revision."""
        # Alembic is heavy, and only a migration needs it.
        from rollback_budget.ledger.migrate import upgrade

        return upgrade(self.database)

    def check(self) -> str:
        """Return the revision of a ledger that can be used. Raises LedgerUnavailableError saying why not."""
        with self.database.read() as session:
            revision = current_revision(session.connection())
        not_migrated = self.database.not_migrated(revision)
        if not_migrated is not None:
            raise not_migrated
        assert revision is not None
        return revision
