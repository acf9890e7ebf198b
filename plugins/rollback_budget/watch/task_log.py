"""The task log of a watch: a line per change, one every ten minutes, never one per poll."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from rollback_budget.clock import Log, Now, grid_floor
from rollback_budget.engine.budget_snapshot import BudgetSnapshot
from rollback_budget.engine.comparison import Observation
from rollback_budget.engine.evaluation import Status
from rollback_budget.engine.fold import Fold
from rollback_budget.engine.judge_change import JUDGE_CHANGED
from rollback_budget.engine.messages import describe_comparison
from rollback_budget.engine.suspension import Suspension
from rollback_budget.engine.time_us import us_to_datetime
from rollback_budget.model.budget import Budget, Comparison
from rollback_budget.model.duration import say_duration
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.text import plural
from rollback_budget.watch.watch_plan import WatchPlan

#: A status line is logged at this interval.
STATUS_INTERVAL = timedelta(minutes=10)
#: More changes than this between two status lines are counted, and not logged one by one.
MAX_CHANGE_LINES = 6
#: An error of a source is cut at this length.
_MAX_ERROR_LENGTH = 400
_BAR = 10
_NUMBER = re.compile(r"[0-9.]+")


class TaskLog:
    """Logs what a person needs who opens the task log of a watch.

    :param log: the task's logger.
    :param now: the clock.
    """

    def __init__(self, plan: WatchPlan, log: Log, now: Now) -> None:
        self._plan = plan
        self._spec = plan.spec
        self._log = log
        self._now = now
        self._source_error: str | None = None
        #: By budget, what its latest look was: None for suspended.
        self._kinds: dict[str, Status | None] = {}
        #: By budget, how many looks, and unknown ones, the latest status line has counted.
        self._counted: dict[str, tuple[int, int]] = {}
        self._changed_at: dict[str, datetime] = {}
        self._due_at: datetime | None = None
        self._statuses: list[Status | Suspension | None] = []
        self._changes: Counter[str] = Counter()
        #: What is doubtful, without its numbers.
        self._doubts: tuple[str, ...] = ()

    def on_source_error(self, error: str | None) -> None:
        """Note the error of the source, None when it answers: logged once per change."""
        error = None if error is None else " ".join(error.split())[:_MAX_ERROR_LENGTH]
        if error == self._source_error:
            return
        if self._may_log("the metric source"):
            if error is None:
                self._log.info("the metric source answers again")
            else:
                self._log.warning("looks are unknown: %s", error)
        self._source_error = error

    def after_look(self, fold: Fold, read_until: datetime) -> None:
        """Log what changed in a look, and the status line when it is due."""
        statuses, now = fold.statuses(), self._now()
        is_due = self._due_at is None or now >= self._due_at
        if statuses == self._statuses and not is_due:
            return
        self._statuses = statuses
        snapshots = fold.snapshots()
        for snapshot in snapshots:
            kind = _kind(snapshot)
            before = self._kinds.setdefault(snapshot.budget, kind)
            if before != kind:
                self._kinds[snapshot.budget] = kind
                self._log_change(before, snapshot)
        if is_due:
            self._log_doubts(fold.doubts())
            self._log_status(snapshots, now, read_until)

    def _log_doubts(self, doubts: tuple[str, ...]) -> None:
        """Log what has become doubtful, and that it no longer is; not when only its numbers change."""
        kinds = tuple(
            doubt if doubt.startswith(JUDGE_CHANGED) else _NUMBER.sub("", doubt) for doubt in doubts
        )
        for doubt, kind in zip(doubts, kinds, strict=True):
            if kind not in self._doubts:
                self._log.warning("%s", doubt)
        if self._doubts and not doubts:
            self._log.info("the comparison is no longer doubtful")
        self._doubts = kinds

    def _log_change(self, before: Status | None, snapshot: BudgetSnapshot) -> None:
        budget = next(one for one in self._spec.budgets if one.id == snapshot.budget)
        since = self._changed_at.get(budget.id)
        at = self._changed_at[budget.id] = us_to_datetime(snapshot.look.time)
        if not self._may_log(budget.id):
            return
        if snapshot.suspension is not None:
            self._log.warning("%s is suspended from %s on: %s", budget.id, _clock(at), snapshot.suspension)
            return
        if before is None:
            self._log.info("%s is no longer suspended from %s on", budget.id, _clock(at))
            return
        lasted = "" if since is None else f" after {say_duration(_whole_seconds(at - since))} {before.value}"
        found = snapshot.why_unknown or _describe_look(self._spec, budget, snapshot.look)
        log = self._log.warning if snapshot.look.status is Status.BAD else self._log.info
        log(
            "%s is %s at %s%s: %s; %s",
            budget.id,
            snapshot.look.status.value,
            _clock(at),
            lasted,
            found,
            _describe_burn(budget, snapshot),
        )

    def _may_log(self, what: str) -> bool:
        """Whether one more change may have a line of its own; when not, it is counted."""
        parts = sum(self._changes.values())
        self._changes[what] += 1
        if parts == MAX_CHANGE_LINES:
            self._log.info("more than %s changes: the next status line has the number", MAX_CHANGE_LINES)
        return parts < MAX_CHANGE_LINES

    def _log_status(self, snapshots: Sequence[BudgetSnapshot], now: datetime, read_until: datetime) -> None:
        left = max(self._plan.window_end - now, timedelta(0))
        by_budget = {snapshot.budget: snapshot for snapshot in snapshots}
        parts = [self._describe_budget(budget, by_budget.get(budget.id)) for budget in self._spec.budgets]
        unlogged = sum(self._changes.values()) - MAX_CHANGE_LINES
        if unlogged > 0:
            counts = ", ".join(f"{what} {times}" for what, times in self._changes.most_common())
            parts.append(f"{plural(unlogged, 'more change')}, of all: {counts}")
        if self._source_error is not None:
            parts.append(f"nothing read since {_clock(read_until)}: {self._source_error}")
        self._log.info("%s, %s left | %s", _clock(now), say_duration(_whole_minutes(left)), " | ".join(parts))
        self._due_at = grid_floor(now, STATUS_INTERVAL) + STATUS_INTERVAL
        self._counted = {one.budget: (one.looks, one.unknown_looks) for one in snapshots}
        self._changes.clear()

    def _describe_budget(self, budget: Budget, snapshot: BudgetSnapshot | None) -> str:
        if snapshot is None:
            return f"{budget.id} no look yet"
        counted, counted_unknown = self._counted.get(budget.id, (0, 0))
        looks, unknown = snapshot.looks - counted, snapshot.unknown_looks - counted_unknown
        status = "suspended" if snapshot.suspension is not None else snapshot.look.status.value
        parts = [f"{budget.id} {status} {_describe_burn(budget, snapshot)}"]
        if snapshot.p_value is not None and snapshot.p_value < 1.0:
            parts.append(f"p = {snapshot.p_value:.2g}")
        if snapshot.p_value is not None and _is_exhausted(budget, snapshot):
            parts.append("exhausted, evidence insufficient")
        parts.append(f"{plural(looks, 'look')}" + (f", {unknown} unknown" if unknown else ""))
        if snapshot.why_unknown is not None:
            parts.append(snapshot.why_unknown)
        return ", ".join(parts)


def _kind(snapshot: BudgetSnapshot) -> Status | None:
    return None if snapshot.suspension is not None else snapshot.look.status


def _describe_look(spec: RolloutSpec, budget: Budget, look: Observation) -> str:
    return (
        describe_comparison(spec, budget, look.comparand())
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
        return f"{budget.metric} of {spec.baseline} is 0, and a delta relative to 0 is not defined"
    return f"{budget.metric} cannot be compared"


def _is_exhausted(budget: Budget, snapshot: BudgetSnapshot) -> bool:
    burnt = timedelta(microseconds=snapshot.burn)
    return bool(budget.max_duration) and burnt >= budget.max_duration


def _describe_burn(budget: Budget, snapshot: BudgetSnapshot) -> str:
    if not budget.max_duration:
        return "none tolerated"
    burn = timedelta(microseconds=snapshot.burn)
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
