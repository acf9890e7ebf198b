"""Taking over one rollout: replaying its window, watching on, and doing what the verdict asks for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from rollback_budget.engine.decision_policy import NextStep, next_step, rounds_of
from rollback_budget.engine.evaluation import Evaluation, VerdictKind
from rollback_budget.engine.silence_policy import review_terms
from rollback_budget.ledger.answers import Answer
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.views import FinalDecision, Review
from rollback_budget.ledger.watch_signs import WatchSigns
from rollback_budget.model.choice import RULE, Choice
from rollback_budget.model.decision import OnTimeout
from rollback_budget.model.notify import Event
from rollback_budget.rollback.request import Verdict
from rollback_budget.standby.daemon_thread import in_daemon_thread
from rollback_budget.standby.loss import Loss
from rollback_budget.standby.rolling_back import RollingBack
from rollback_budget.standby.situation import Situation, take_up
from rollback_budget.standby.tools import RolloutLog, StandbyMessage, StandbyTools
from rollback_budget.standby.verdict_record import record_verdict
from rollback_budget.watch.watch_plan import Role, WatchPlan
from rollback_budget.watch.watcher import Watcher

#: A question that Airflow asked is left to Airflow for this long after its deadline: it may be alive.
AIRFLOW_FIRST = timedelta(seconds=10)
#: A notifier that was not reached is tried again after this time, then less and less often, and for so long.
MESSAGE_AGAIN_S = 5.0
LONGEST_MESSAGE_PAUSE_S = 60.0
MESSAGE_FOR = timedelta(minutes=30)
#: A look in flight may take so long when a deadline comes.
LAST_LOOK_S = 5.0
#: With nothing to do but to wait for Airflow.
_LONG_S = 3600.0


class Takeover:
    """One rollout in the hands of a standby that holds its lease; ends when nothing is left to do.

    Everything that it does can be done again by another standby, or by Airflow, and has one effect.

    :param situation: where the rollout stands.
    :param holder: of the lease.
    :param once: look once, do what is to do now, and do not wait.
    """

    def __init__(
        self, tools: StandbyTools, situation: Situation, loss: Loss, holder: str, *, once: bool = False
    ) -> None:
        self._tools = tools
        self._situation = situation
        self._loss = loss
        self._once = once
        self._key = situation.rollout.key
        self._log = RolloutLog(situation.rollout)
        self._rolling_back = RollingBack(tools, self._key, holder, self._log, self._say, once=once)
        self._signs: WatchSigns | None = None
        self._change = asyncio.Event()
        self._opened_round = 0
        self._replayed_round = 0
        self._is_idle = False
        self._is_undone = False
        self._messages: set[asyncio.Task[None]] = set()

    @property
    def log(self) -> RolloutLog:
        """The log of this rollout."""
        return self._log

    @property
    def airflow_is_back(self) -> bool:
        """Whether the watch in Airflow has given a sign of life since; not once the rollout is decided."""
        signs = self._signs
        return signs is not None and signs.final is None and signs.newest > self._loss.since

    @property
    def is_idle(self) -> bool:
        """Whether it only waits, for a look or for Airflow."""
        return self._is_idle

    @property
    def is_undone(self) -> bool:
        """Whether a rollback could not be requested from here."""
        return self._is_undone

    def notice(self, signs: WatchSigns) -> None:
        """Take notice of what the ledger shows now."""
        self._signs = signs
        if self._is_decided():
            self._change.set()

    async def run(self) -> None:
        """Do whatever has to be done until the rollout has ended; raises LedgerRuleError."""
        self._say_lost()
        try:
            while await self._go_on():
                self._situation = await self._tools.wait_for_ledger(
                    lambda ledger: take_up(ledger, self._key), self._log
                )
                self._change.clear()
        finally:
            if self._once and self._messages:
                await asyncio.wait(self._messages)

    async def say_back(self) -> None:
        """Say that Airflow watches again."""
        self._log.info("Airflow watches again, standby lets go")
        self._say(
            Event.WATCH_BACK,
            f"watch_back {self._loss.since.isoformat()}",
            "Airflow watches this rollout again; standby has let go of it.",
        )

    async def _go_on(self) -> bool:
        """Do what the situation asks for; return whether it is to be read again."""
        situation, answer = self._situation, self._situation.answer
        if situation.rollout.final is not None:
            return await self._finish()
        if answer is None:
            return await (self._watch() if situation.review is None else self._review(situation.review))
        if answer.option == Choice.ROLL_BACK.value:
            return await self._roll_back(answer.author, answer.reason or situation.sentence)
        return await self._guard_until_promoted(answer)

    async def _finish(self) -> bool:
        """Verify a rollback that was decided, and perhaps requested, by another process."""
        final, record = self._situation.rollout.final, self._situation.rollback
        assert final is not None
        if final.decision is FinalDecision.PROMOTED:
            self._log.info("promoted by %s, nothing is left to do", final.by)
            return False
        if record is not None and record.outcome is not None:
            return False
        return await self._roll_back(final.by, final.reason)

    async def _watch(self) -> bool:
        evaluation = await self._look_on(Role.WATCH)
        if evaluation is None:
            return not self._once
        spec, round_ = self._situation.rollout.spec, self._situation.round
        self._log.info("the verdict is %s: %s", evaluation.verdict.value, evaluation.sentence)
        step = next_step(spec, evaluation, round_=round_, rounds=rounds_of(spec))
        if step is NextStep.ROLL_BACK:
            self._say_verdict(evaluation)
            verdict = Verdict(evaluation, round_, Role.WATCH.value)
            return await self._roll_back(RULE, evaluation.sentence, verdict)
        if step is NextStep.ASK:
            await self._ask(evaluation)
            return True
        await self._tools.wait_for_ledger(lambda ledger: self._record(ledger, evaluation), self._log)
        self._say(
            Event.DECIDED,
            "standby_window_over",
            f"The window is over: {evaluation.sentence}. Standby leaves the promotion to Airflow.",
        )
        return await self._wait_for_airflow()

    async def _ask(self, evaluation: Evaluation) -> None:
        """Open the review, unless it is open: the first deadline holds."""
        round_, terms = self._situation.round, review_terms(self._situation.rollout.spec, evaluation)

        def ask(ledger: Ledger) -> Review:
            self._rolling_back.check_lease(ledger)
            now = self._tools.clock.now()
            review = ledger.reviews.open(self._key, round_, now + terms.within, terms.on_timeout, now)
            self._record(ledger, evaluation)
            return review

        review = await self._tools.wait_for_ledger(ask, self._log)
        self._opened_round = round_
        self._say_verdict(evaluation)
        self._say(
            Event.REVIEW_OPENED,
            f"{Event.REVIEW_OPENED.value} {round_}",
            f"{evaluation.sentence}. {self._how_to_answer(review)}",
            review,
        )

    async def _review(self, review: Review) -> bool:
        """Guard until there is an answer, or the deadline; then do what the budget says of silence."""
        if self._situation.evaluation is None and self._replayed_round != review.round:
            await self._find_reason(review)
            return True
        if self._opened_round != review.round:
            said = f"{self._situation.sentence}. {self._how_to_answer(review)}"
            self._say(Event.REVIEW_OPENED, f"standby_review {review.round}", said, review)
        evaluation = await self._look_on(Role.GUARD, review)
        if evaluation is not None and evaluation.breaches:
            return await self._follow_guard(evaluation)
        if evaluation is not None and not self._once:
            # The window is over: nothing is left to guard.
            await self._wait(max(self._seconds_to(review), 0.0))
            if self._is_decided():
                return True
        if self._seconds_to(review) > 0:
            return not self._once
        await self._follow_silence(review)
        return True

    async def _guard_until_promoted(self, answer: Answer) -> bool:
        """Guard a release that the commander promotes, until Airflow does it."""
        self._say(
            Event.DECIDED,
            f"standby_promotes {answer.round}",
            f"{answer.author} decided: {answer.option}. Airflow promotes when it is back; until then the"
            " release keeps the traffic that it has, and a tier A breach still rolls it back.",
        )
        evaluation = await self._look_on(Role.GUARD)
        if evaluation is None:
            return not self._once
        if evaluation.breaches:
            return await self._follow_guard(evaluation)
        return await self._wait_for_airflow()

    async def _follow_guard(self, evaluation: Evaluation) -> bool:
        self._log.info("a tier A breach: %s", evaluation.sentence)
        self._say_verdict(evaluation)
        verdict = Verdict(evaluation, self._situation.round, Role.GUARD.value)
        return await self._roll_back(RULE, evaluation.sentence, verdict)

    async def _find_reason(self, review: Review) -> None:
        """Replay what the question is about, where Airflow died before it had written that."""
        self._replayed_round = review.round
        evaluation = await self._look(self._watcher(self._situation.plan()), review)
        if evaluation is not None:
            await self._tools.wait_for_ledger(lambda ledger: self._record(ledger, evaluation), self._log)

    async def _follow_silence(self, review: Review) -> None:
        """Answer as the budget says, unless somebody has by now."""
        situation, choice = self._situation, Choice.ROLL_BACK
        assert situation.rollout.window_end is not None
        if review.on_timeout is OnTimeout.CONTINUE:
            choice = Choice.GO_ON
        silence = Answer(
            round=review.round,
            option=choice.value,
            by=None,
            reason=None,
            at=self._tools.clock.now(),
            until=situation.rollout.window_end if choice is Choice.GO_ON else None,
            budgets=situation.breached if choice is Choice.GO_ON else (),
        )

        def answer(ledger: Ledger) -> Answer:
            self._rolling_back.check_lease(ledger)
            return ledger.answers.take(self._key, silence)

        taken = await self._tools.wait_for_ledger(answer, self._log)
        said = f"{taken.author} decided: {taken.option}"
        self._log.info("%s", said)
        self._say(Event.DECIDED, f"{Event.DECIDED.value} {review.round}", said)

    async def _roll_back(self, by: str, reason: str, verdict: Verdict | None = None) -> bool:
        """Roll back; where that is not ours to do, wait for those whose it is."""
        is_done = await self._rolling_back.run(self._situation, by, reason, verdict)
        self._is_undone = not is_done
        return False if is_done else await self._wait_for_airflow()

    async def _look_on(self, role: Role, review: Review | None = None) -> Evaluation | None:
        """Look until there is a verdict; None when something was decided, or a review's deadline is there."""
        async with self._tools.start_slots:
            watcher = self._watcher(self._situation.plan(role))
            # Of thousands that may be due, others' looks come in between.
            await asyncio.sleep(0)
        evaluation = await self._look(watcher, review)
        while evaluation is None and not self._once:
            wait_s = watcher.seconds_to_next_look()
            if review is not None:
                wait_s = min(wait_s, max(self._seconds_to(review), 0.0))
            await self._wait(wait_s)
            if self._is_decided() or (review is not None and self._seconds_to(review) <= 0):
                return None
            evaluation = await self._look(watcher, review)
        return evaluation

    async def _look(self, watcher: Watcher, review: Review | None) -> Evaluation | None:
        """Look once; a source that hangs keeps neither a decision nor a deadline waiting."""
        look = asyncio.ensure_future(watcher.look())
        change = asyncio.ensure_future(self._change.wait())
        left = None if review is None else max(self._seconds_to(review), LAST_LOOK_S)
        try:
            await asyncio.wait((look, change), timeout=left, return_when=asyncio.FIRST_COMPLETED)
            return await look if look.done() else None
        finally:
            change.cancel()
            if look.cancel():
                await asyncio.wait((look,))

    def _watcher(self, plan: WatchPlan) -> Watcher:
        tools = self._tools
        return Watcher(
            plan,
            tools.open_source,
            log=self._log,
            suspensions=tools.suspensions,
            looks=tools.looks,
            now=tools.clock.now,
            elapsed=time.monotonic,
        )

    def _is_decided(self) -> bool:
        """Whether something was decided since the situation was read."""
        signs, situation = self._signs, self._situation
        if signs is None:
            return False
        return signs.answers > situation.answers or (signs.final is not None) > (
            situation.rollout.final is not None
        )

    def _seconds_to(self, review: Review) -> float:
        """Return how long until silence is the answer."""
        deadline = review.deadline
        if self._opened_round != review.round:
            deadline += AIRFLOW_FIRST
        return (deadline - self._tools.clock.now()).total_seconds()

    async def _wait_for_airflow(self) -> bool:
        """Hold the lease until something is decided, or Airflow is back; with ``once``, do not."""
        if not self._once:
            await self._wait(_LONG_S)
        return not self._once

    async def _wait(self, seconds: float) -> None:
        """Wait, no longer than until something is decided."""
        self._is_idle = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._change.wait(), seconds)
        self._is_idle = False
        self._change.clear()

    def _record(self, ledger: Ledger, evaluation: Evaluation) -> None:
        """Write a verdict of the watch, its breaches and their debts."""
        verdict = Verdict(evaluation, self._situation.round, Role.WATCH.value)
        record_verdict(ledger, self._key, verdict, self._tools.clock.now())

    def _say_lost(self) -> None:
        loss = self._loss
        said = (
            f"The rollback was decided at {loss.since:%Y-%m-%d %H:%M:%S} UTC and nobody has verified it;"
            " standby does it."
            if loss.of_rollback
            else f"The watch in Airflow has given no sign of life since {loss.since:%Y-%m-%d %H:%M:%S} UTC;"
            " standby watches in its place."
        )
        if self._situation.order is None:
            said += " It cannot roll this release back, a team's own operator does that in Airflow alone."
        self._log.warning("%s", said)
        self._say(Event.WATCH_LOST, f"watch_lost {loss.since.isoformat()}", said)

    def _say_verdict(self, evaluation: Evaluation) -> None:
        blind = evaluation.verdict is VerdictKind.BLIND
        event = Event.BLIND if blind else Event.BREACH
        self._say(event, f"{event.value} {self._situation.round}", f"{evaluation.sentence}.")

    def _how_to_answer(self, review: Review) -> str:
        leads_to = "rolls back" if review.on_timeout is OnTimeout.ROLLBACK else "goes on"
        release = self._situation.rollout.spec.release
        return (
            f"No answer by {review.deadline:%H:%M:%S} UTC {leads_to}. Airflow cannot take the answer; give"
            f' it with: rollback-budget decide {release} roll-back|go-on|promote --reason "…"'
            f" --run {self._key.run_id}"
        )

    def _say(self, event: Event, occasion: str, sentence: str, review: Review | None = None) -> None:
        """Send a message, and wait for nobody."""
        deadline = None if review is None else review.deadline
        message = StandbyMessage(self._situation.rollout, event, occasion, sentence, deadline)
        task = asyncio.ensure_future(self._send(message))
        self._messages.add(task)
        task.add_done_callback(self._messages.discard)

    async def _send(self, message: StandbyMessage) -> None:
        """Send until every notifier was reached: nobody else repeats what standby says."""
        clock, pause_s = self._tools.clock, MESSAGE_AGAIN_S
        give_up = clock.now() + MESSAGE_FOR if message.deadline is None else message.deadline
        while missed := await self._missed(message):
            self._log.warning("%s could not be sent: %s", message.occasion, "; ".join(missed))
            if self._once or clock.now() >= give_up:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_MESSAGE_PAUSE_S)

    async def _missed(self, message: StandbyMessage) -> Sequence[str]:
        try:
            return await in_daemon_thread(lambda: self._tools.send(message), self._tools.message_slots)
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]
