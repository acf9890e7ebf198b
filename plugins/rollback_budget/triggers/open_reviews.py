"""The open reviews of a process, which ask the ledger and Airflow together.

Each looks every second. Alone, each would open a connection to the ledger and take a call of the triggerer's
supervisor, which answers one at a time and also takes answered reviews away: twenty of them would keep it
from that for seconds.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from rollback_budget.common import config
from rollback_budget.common.ledger_answer import event_of_answer
from rollback_budget.exceptions import LedgerError, LedgerUnavailableError
from rollback_budget.triggers.threads import in_thread, lookups

if TYPE_CHECKING:
    from rollback_budget.ledger.ledger import Ledger
    from rollback_budget.ledger.rollout_key import RolloutKey
    from rollback_budget.ledger.views import Final

#: Reviews that look at about the same moment are one question to the ledger.
GATHERING_S = 0.05
#: Reviews of one process together ask Airflow for an answer once in this time, each at most once a second.
ASK_EVERY_S = 0.1

#: A rollout and the round of its review; round 0 is one that is not known.
Question = tuple["RolloutKey", int]


@dataclass(frozen=True, slots=True)
class ReviewState:
    """What the ledger says of a review.

    :param answer: as Airflow's resume event would bring it; None when there is none.
    :param final: how the rollout ended; None when it did not.
    :param problem: why the ledger says nothing; empty when it does.
    """

    answer: dict[str, Any] | None = None
    final: Final | None = None
    problem: str = ""


class OpenReviews:
    """The reviews that wait in one event loop."""

    def __init__(self) -> None:
        self._asked: dict[Question, asyncio.Future[ReviewState]] = {}
        self._serving: asyncio.Task[None] | None = None
        self._waiting = 0

    @classmethod
    def of_this_loop(cls) -> OpenReviews:
        """Return the reviews that wait in the running loop."""
        loop = asyncio.get_running_loop()
        found = _of_loops.get(loop)
        if found is None:
            found = _of_loops[loop] = cls()
        return found

    async def state(self, question: Question) -> ReviewState:
        """Return what the ledger says; all who ask while it answers others are answered together."""
        future = self._asked.get(question)
        if future is None:
            future = self._asked[question] = asyncio.get_running_loop().create_future()
        if self._serving is None:
            self._serving = asyncio.ensure_future(self._serve())
        # One who gives up does not take the answer from another who asked the same.
        return await asyncio.shield(future)

    async def _serve(self) -> None:
        try:
            while self._asked:
                await asyncio.sleep(GATHERING_S)
                asked, self._asked = self._asked, {}
                states = await in_thread(lookups(), partial(_read, list(asked)))
                for question, future in asked.items():
                    future.set_result(states[question])
        finally:
            self._serving = None

    def enter(self) -> None:
        """Count one more that waits."""
        self._waiting += 1

    def leave(self) -> None:
        """Count one less."""
        self._waiting -= 1

    def ask_again_at(self, now_s: float) -> float:
        """Return when a review that asks Airflow now should do so again, in the clock of ``now_s``."""
        pause = self._waiting * ASK_EVERY_S
        # Those that began together do not go on asking together.
        return now_s + pause * random.uniform(0.75, 1.25)  # noqa: S311


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, OpenReviews] = WeakKeyDictionary()


async def until_next_tick(poll: timedelta, left: timedelta) -> None:
    """Sleep until the next whole ``poll`` of the clock, at which all look together, or for ``left``."""
    poll_s = poll.total_seconds()
    await asyncio.sleep(min(left.total_seconds(), poll_s - time.time() % poll_s))


def _read(questions: Collection[Question]) -> dict[Question, ReviewState]:
    """Read the state of all in one transaction."""
    ledger = config.open_ledger()
    try:
        with ledger.database.one_transaction(write=False):
            return {question: _state(ledger, question) for question in questions}
    except LedgerError as error:
        return dict.fromkeys(questions, ReviewState(problem=str(error)))
    except Exception as error:
        # Whatever it is, those who wait must not wait for ever.
        return dict.fromkeys(questions, ReviewState(problem=f"{type(error).__name__}: {error}"))


def _state(ledger: Ledger, question: Question) -> ReviewState:
    key, round_ = question
    try:
        final = ledger.final_decisions.of(key)
        answer = ledger.answers.of(key, round_) if round_ else None
    except LedgerUnavailableError:
        raise
    except LedgerError as error:
        return ReviewState(problem=str(error))
    return ReviewState(None if answer is None else event_of_answer(answer), final)
