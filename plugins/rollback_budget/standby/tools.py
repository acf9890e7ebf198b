"""What a standby works with: the ledger, sources, targets and notifiers, handed in from outside."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from rollback_budget.clock import Log
from rollback_budget.exceptions import LedgerUnavailableError
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.views import Rollout
from rollback_budget.model.notify import Event
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.sources.base import OpenSource
from rollback_budget.standby.daemon_thread import in_daemon_thread
from rollback_budget.standby.ledger_clock import LedgerClock
from rollback_budget.targets.base import Target
from rollback_budget.watch.look_writer import LookSink
from rollback_budget.watch.suspension_cache import SuspensionLookup

#: Calls to the ledger, to targets and to notifiers at the same time.
AT_ONCE = 16
#: Of the requests to targets, those to one target.
AT_ONCE_TO_ONE = 6
#: Watches that are made at the same time.
STARTS_AT_ONCE = 1
#: An unavailable ledger is tried again after this time.
LEDGER_PAUSE_S = 1.0

T = TypeVar("T")


@dataclass(frozen=True)
class StandbyMessage:
    """A message about a rollout that standby watches.

    :param occasion: what makes it one and the same message, whichever standby sends it.
    """

    rollout: Rollout
    event: Event
    occasion: str
    sentence: str
    deadline: datetime | None = None


@dataclass(frozen=True)
class StandbyTools:
    """Everything that a takeover needs.

    :param open_ledger: returns the ledger; does no I/O.
    :param open_source: opens the metric source of a spec.
    :param close_sources: closes what an event loop of a thread has opened.
    :param open_target: opens the target of a spec, to verify a rollback.
    :param open_target_in_time: opens it for a rollback's request, with a limit for each request.
    :param send: sends a message through the notifiers that subscribe to it, each once, and returns those that
        were not reached; blocks.
    :param problems: says which connections of a spec cannot be used here.
    :param log: of the process.
    """

    open_ledger: Callable[[], Ledger]
    open_source: OpenSource
    close_sources: Callable[[], Coroutine[Any, Any, None]]
    open_target: Callable[[RolloutSpec], Target]
    open_target_in_time: Callable[[RolloutSpec, timedelta], AbstractContextManager[Target]]
    send: Callable[[StandbyMessage], Sequence[str]]
    problems: Callable[[RolloutSpec], list[str]]
    looks: LookSink
    suspensions: SuspensionLookup
    log: Log = field(default_factory=lambda: logging.getLogger("rollback_budget.standby"))
    clock: LedgerClock = field(default_factory=LedgerClock)
    ledger_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    rollback_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    proof_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    message_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    start_slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STARTS_AT_ONCE))

    _target_slots: dict[str, asyncio.Semaphore] = field(default_factory=dict)

    def target_slot(self, spec: RolloutSpec) -> asyncio.Semaphore:
        """Return what lets so many requests through to one target: one that hangs leaves room for others."""
        target = spec.target
        name = "" if target is None else f"{target.type} {getattr(target, 'conn_id', '')}"
        return self._target_slots.setdefault(name, asyncio.Semaphore(AT_ONCE_TO_ONE))

    async def ask_ledger(self, call: Callable[[Ledger], T]) -> T:
        """Return what the ledger says; raises LedgerError."""
        return await in_daemon_thread(lambda: call(self.open_ledger()), self.ledger_slots)

    async def wait_for_ledger(self, call: Callable[[Ledger], T], log: Log) -> T:
        """Return what the ledger says, as soon as it says anything; raises LedgerRuleError."""
        is_said = False
        while True:
            try:
                return await self.ask_ledger(call)
            except LedgerUnavailableError as error:
                if not is_said:
                    log.warning("waiting for the ledger: %s", error)
                is_said = True
                await asyncio.sleep(LEDGER_PAUSE_S)


class RolloutLog:
    """The log of one rollout: each line begins with its name."""

    def __init__(self, rollout: Rollout) -> None:
        self._log = logging.getLogger("rollback_budget.standby")
        self._name = f"{rollout.spec.release} ({rollout.key})"

    def info(self, event: str, *args: object) -> None:
        """Log at level info."""
        self._log.info(f"%s: {event}", self._name, *args)

    def warning(self, event: str, *args: object) -> None:
        """Log at level warning."""
        self._log.warning(f"%s: {event}", self._name, *args)

    def exception(self, event: str, *args: object) -> None:
        """Log an error with its traceback."""
        self._log.exception(f"%s: {event}", self._name, *args)
