"""Past rollouts: which ones of the ledger a budget can be tried on, and why not on the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rollback_budget.exceptions import UnreadableSpecError
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.look_spans import LookSpan
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import Rollout
from rollback_budget.model.duration import say_duration
from rollback_budget.model.method_plan import Counted, plan_of
from rollback_budget.model.metric import BucketBy
from rollback_budget.model.pace import first_decided, longest_shift, pace_of
from rollback_budget.model.spec import RolloutSpec
from rollback_budget.text import plural
from rollback_budget.track_record.known_label import known_label
from rollback_budget.track_record.recorded_looks import RecordedLooks


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A rollout that cannot be tried, and why."""

    key: RolloutKey
    release: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class PastRollouts:
    """The rollouts of one service in the ledger.

    :param recordings: those that can be tried, oldest first.
    :param notes: what has to be known about all of them.
    """

    recordings: tuple[RecordedLooks, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]


def past_rollouts(
    ledger: Ledger, specs: Sequence[RolloutSpec], after: datetime | None, now: datetime
) -> PastRollouts:
    """Return the rollouts that the rules ``specs`` can be tried on. Raises LedgerError.

    :param specs: at least one, all of one service; each must find a metric that was recorded.
    :param after: only those that were opened after this; None for all.
    """
    with ledger.database.one_transaction(write=False):
        keys = ledger.rollouts.opened_since(after, specs[0].service)
        spans = ledger.look_spans.of(keys)
        rollouts: list[Rollout] = []
        left_out: list[LeftOut] = []
        for key in keys:
            try:
                rollout = ledger.rollouts.get(key)
            except UnreadableSpecError as error:
                left_out.append(LeftOut(key, None, str(error)))
                continue
            assert rollout is not None
            reason = _why_left_out(rollout, spans.get(key), now)
            if reason is None:
                rollouts.append(rollout)
            else:
                left_out.append(LeftOut(key, rollout.spec.release, reason))
        releases = Counter(rollout.spec.release for rollout in rollouts)
        recordings = []
        for rollout in rollouts:
            name = rollout.spec.release
            title = name if releases[name] == 1 else f"{name} {rollout.key.run_id}"
            recording = _recording(ledger, rollout, title)
            untried = [recording.untried(spec) for spec in specs]
            if any(len(ids) == len(spec.budgets) for ids, spec in zip(untried, specs, strict=True)):
                reasons = dict.fromkeys(reason for ids in untried for reason in ids.values())
                left_out.append(LeftOut(rollout.key, name, "; ".join(reasons)))
            else:
                recordings.append(recording)
    return PastRollouts(tuple(recordings), tuple(left_out), tuple(_notes(specs, recordings)))


def _why_left_out(rollout: Rollout, span: LookSpan | None, now: datetime) -> str | None:
    shipped, end = rollout.shipped_at, rollout.window_end
    if shipped is None or end is None:
        return "it never shipped"
    if rollout.final is None and now < end + longest_shift(rollout.spec):
        return "it is still watched"
    if span is None:
        return "the ledger holds no look of it: they were pruned, or nobody watched"
    watch = rollout.spec.watch
    late = span.first - (shipped + watch.grace + first_decided(rollout.spec))
    if late > watch.blind_after + span.spacing:
        minutes = plural(round(late / timedelta(minutes=1)), "minute")
        return f"its first {minutes} are not in the ledger: they were pruned, or nobody watched"
    return None


def _recording(ledger: Ledger, rollout: Rollout, title: str) -> RecordedLooks:
    label = known_label(rollout.final, ledger.labels.of(rollout.key))
    return RecordedLooks(
        ledger.url,
        rollout.key,
        rollout.spec,
        title,
        tuple(ledger.overrides.of(rollout.key)),
        label=None if label is None else label.label,
        onset=None if label is None else label.onset,
        release=rollout.spec.release,
        baseline=rollout.spec.baseline,
        start=rollout.shipped_at,
        suspensions=tuple(one.suspension for one in ledger.suspensions.of(rollout.key)),
        is_whole=False,
    )


def _notes_of_lag(spec: RolloutSpec, metric: str, recordings: Sequence[RecordedLooks]) -> Iterator[str]:
    """Yield what it means that looks were decided sooner or later than this rule decides them."""
    lag = _lag(spec, metric)
    lags = [
        _lag(recording.spec, metric)
        for recording in recordings
        if any(budget.metric == metric for budget in recording.spec.budgets)
    ]
    by_arrival = spec.metric(metric).bucket_by is BucketBy.ARRIVAL
    for other, count in sorted(Counter(one for one in lags if one != lag).items()):
        said = f"{metric} had a lag of {say_duration(other)} in {plural(count, 'rollout')}, and has"
        if by_arrival:
            what = "how much after shipping is left out is as it was then"
        else:
            what = "its looks hold what had come until they were decided then"
        yield f"{said} {say_duration(lag)} now: {what}"


def _lag(spec: RolloutSpec, metric: str) -> timedelta:
    pace = pace_of(spec, metric)
    return max(pace.lag, pace.leaves_out)


def _notes(specs: Sequence[RolloutSpec], recordings: Sequence[RecordedLooks]) -> list[str]:
    """Say what looks do not hold, as far as it matters to these rules."""
    if not recordings:
        return []
    notes = ["looks are rounded to six digits; what nobody looked at, in a grace or a review, is unknown"]
    for spec in specs:
        for budget in spec.budgets:
            plan = plan_of(spec, budget)
            if plan.counted is Counted.EXCEEDANCES and plan.method is not plan.without_counts:
                notes.append(
                    f"{budget.id}: looks hold no histograms, so {plan.without_counts} decides it here, and"
                    f" {plan.method} where the source has them: a live watch may find sooner, or what this"
                    " does not"
                )
    newest = specs[-1]
    for metric in dict.fromkeys(budget.metric for budget in newest.budgets):
        others = sum(
            recording.spec.metric(metric).query != newest.metric(metric).query
            for recording in recordings
            if any(budget.metric == metric for budget in recording.spec.budgets)
        )
        if others:
            rollouts = plural(others, "rollout")
            notes.append(f"{metric} had another query in {rollouts}: its values may mean something else")
        notes += _notes_of_lag(newest, metric, recordings)
    return list(dict.fromkeys(notes))
