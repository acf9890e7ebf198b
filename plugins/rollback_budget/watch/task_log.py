"""The task log of a watch: a line per change, one every ten minutes, never one per poll."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from rollback_budget.clock import Log, Now, grid_floor
from rollback_budget.engine.budget_snapshot import BudgetSnapshot
from rollback_budget.engine.comparison import Observation
from rollback_budget.engine.evaluation import Status
from rollback_budget.engine.fold import Fold
from rollback_budget.engine.messages import say_found
from rollback_budget.engine.suspension import Suspension
from rollback_budget.engine.time_us import moment
from rollback_budget.model.budget import Budget, Comparison
from rollback_budget.model.duration import say_duration
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.watch.watch_plan import WatchPlan

#: A status line comes once in so long.
EVERY = timedelta(minutes=10)
#: Of more changes than this between two status lines, the status line says how many there were.
MOST_CHANGES = 6
#: A source's words are cut here; the rest is rarely for people.
_LONGEST_WORDS = 400
_BAR = 10


class TaskLog:
    """Says what a person wants to read who opens the task log of a watch.

    :param log: the task's logger.
    :param now: the clock.
    """

    def __init__(self, plan: WatchPlan, log: Log, now: Now) -> None:
        self._plan = plan
        self._spec = plan.spec
        self._log = log
        self._now = now
        self._trouble: str | None = None
        #: By budget, what its latest look was: None for suspended.
        self._kinds: dict[str, Status | None] = {}
        #: By budget, how many looks, and unknown ones, the latest status line has counted.
        self._counted: dict[str, tuple[int, int]] = {}
        self._changed_at: dict[str, datetime] = {}
        self._due_at: datetime | None = None
        self._statuses: list[Status | Suspension | None] = []
        self._changes: Counter[str] = Counter()

    def trouble(self, trouble: str | None) -> None:
        """Take what is the matter with the source, None when it answers: said once per change."""
        trouble = None if trouble is None else " ".join(trouble.split())[:_LONGEST_WORDS]
        if trouble == self._trouble:
            return
        if self._may_say("the metric source"):
            if trouble is None:
                self._log.info("the metric source answers again")
            else:
                self._log.warning("looks are unknown: %s", trouble)
        self._trouble = trouble

    def looked(self, fold: Fold, read_until: datetime) -> None:
        """Take where the budgets stand after a look, whether or not it found anything new."""
        statuses, now = fold.statuses(), self._now()
        is_due = self._due_at is None or now >= self._due_at
        if statuses == self._statuses and not is_due:
            return
        self._statuses = statuses
        standings = fold.standings()
        for standing in standings:
            kind = _kind(standing)
            before = self._kinds.setdefault(standing.budget, kind)
            if before != kind:
                self._kinds[standing.budget] = kind
                self._say_change(before, standing)
        if is_due:
            self._say_status(standings, now, read_until)

    def _say_change(self, before: Status | None, standing: BudgetSnapshot) -> None:
        budget = next(one for one in self._spec.budgets if one.id == standing.budget)
        since = self._changed_at.get(budget.id)
        at = self._changed_at[budget.id] = moment(standing.look.time)
        if not self._may_say(budget.id):
            return
        if standing.suspension is not None:
            self._log.warning("%s is out of force from %s on: %s", budget.id, _clock(at), standing.suspension)
            return
        if before is None:
            self._log.info("%s is in force again from %s on", budget.id, _clock(at))
            return
        lasted = "" if since is None else f" after {say_duration(_whole_seconds(at - since))} {before.value}"
        found = _say_look(self._spec, budget, standing.look)
        say = self._log.warning if standing.look.status is Status.BAD else self._log.info
        say(
            "%s is %s at %s%s: %s; %s",
            budget.id,
            standing.look.status.value,
            _clock(at),
            lasted,
            found,
            _say_burn(budget, standing),
        )

    def _may_say(self, what: str) -> bool:
        """Whether one more change may have a line of its own; when not, it is counted."""
        said = sum(self._changes.values())
        self._changes[what] += 1
        if said == MOST_CHANGES:
            self._log.info("more changes than %s: the next status line says how many", MOST_CHANGES)
        return said < MOST_CHANGES

    def _say_status(self, standings: Sequence[BudgetSnapshot], now: datetime, read_until: datetime) -> None:
        left = max(self._plan.window_end - now, timedelta(0))
        stands = {standing.budget: standing for standing in standings}
        parts = [self._say_budget(budget, stands.get(budget.id)) for budget in self._spec.budgets]
        unsaid = sum(self._changes.values()) - MOST_CHANGES
        if unsaid > 0:
            often = ", ".join(f"{what} {times}" for what, times in self._changes.most_common())
            parts.append(f"{unsaid} more changes, of all: {often}")
        if self._trouble is not None:
            parts.append(f"nothing read since {_clock(read_until)}: {self._trouble}")
        self._log.info("%s, %s left | %s", _clock(now), say_duration(_whole_minutes(left)), " | ".join(parts))
        self._due_at = grid_floor(now, EVERY) + EVERY
        self._counted = {one.budget: (one.looks, one.unknown_looks) for one in standings}
        self._changes.clear()

    def _say_budget(self, budget: Budget, standing: BudgetSnapshot | None) -> str:
        if standing is None:
            return f"{budget.id} no look yet"
        counted, counted_unknown = self._counted.get(budget.id, (0, 0))
        looks, unknown = standing.looks - counted, standing.unknown_looks - counted_unknown
        status = "suspended" if standing.suspension is not None else standing.look.status.value
        said = [f"{budget.id} {status} {_say_burn(budget, standing)}"]
        if standing.p_value is not None and standing.p_value < 1.0:
            said.append(f"p = {standing.p_value:.2g}")
        said.append(f"{looks} look{'' if looks == 1 else 's'}" + (f", {unknown} unknown" if unknown else ""))
        return ", ".join(said)


def _kind(standing: BudgetSnapshot) -> Status | None:
    return None if standing.suspension is not None else standing.look.status


def _say_look(spec: RolloutSpec, budget: Budget, look: Observation) -> str:
    return (
        say_found(spec, budget, look.comparand())
        if look.status is not Status.UNKNOWN
        else _why_unknown(spec, budget, look)
    )


def _why_unknown(spec: RolloutSpec, budget: Budget, look: Observation) -> str:
    arms = {spec.release: (look.release, look.release_n)}
    if budget.comparison.needs_baseline:
        arms[spec.baseline] = (look.baseline, look.baseline_n)
    missing = [version for version, (value, _) in arms.items() if value != value]
    if missing:
        return f"no {budget.metric} of {' and '.join(missing)}"
    few = [f"{n:g} of {version}" for version, (_, n) in arms.items() if n < budget.min_samples]
    if few:
        return f"{' and '.join(few)} are fewer events than `min_samples: {budget.min_samples}`"
    if budget.comparison is Comparison.DELTA_PCT and look.baseline == 0.0:
        return f"{budget.metric} of {spec.baseline} is 0, and nothing is relative to that"
    return f"{budget.metric} cannot be compared"


def _say_burn(budget: Budget, standing: BudgetSnapshot) -> str:
    if not budget.max_duration:
        return "none tolerated"
    burn = timedelta(microseconds=standing.burn)
    used = min(burn / budget.max_duration, 1.0)
    filled = max(round(_BAR * used), 1 if burn else 0)
    bar = "▰" * filled + "▱" * (_BAR - filled)
    return f"{bar} {say_duration(_whole_seconds(burn))} of {say_duration(budget.max_duration)} burnt"


def _clock(time: datetime) -> str:
    return f"{time:%H:%M} UTC"


def _whole_seconds(duration: timedelta) -> timedelta:
    return timedelta(seconds=round(duration.total_seconds()))


def _whole_minutes(duration: timedelta) -> timedelta:
    return timedelta(minutes=duration // timedelta(minutes=1))
