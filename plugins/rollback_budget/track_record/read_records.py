"""Reading rollout records from the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rollback_budget.engine.evaluation import Status, VerdictKind
from rollback_budget.exceptions import UnreadableSpecError
from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import LoggedLook
from rollback_budget.track_record.known_label import known_label
from rollback_budget.track_record.rollout_record import LookCounts, RolloutRecord


@dataclass(frozen=True, slots=True)
class Records:
    """The rollouts of a time.

    :param unreadable: rollouts whose frozen budget cannot be read here, each with the reason.
    """

    rollouts: tuple[RolloutRecord, ...]
    unreadable: tuple[tuple[RolloutKey, str], ...]


def read_records(
    ledger: Ledger, keys: Sequence[RolloutKey], on_done: Callable[[], object] = lambda: None
) -> Records:
    """Read these rollouts. Raises LedgerError.

    :param on_done: called after each.
    """
    records, unreadable = [], []
    for key in keys:
        try:
            record = _read(ledger, key)
        except UnreadableSpecError as error:
            unreadable.append((key, str(error)))
        else:
            records.append(record)
        on_done()
    return Records(tuple(records), tuple(unreadable))


def _read(ledger: Ledger, key: RolloutKey) -> RolloutRecord:
    # One transaction for each rollout: a long one would keep PostgreSQL from cleaning up.
    with ledger.database.one_transaction(write=False):
        rollout = ledger.rollouts.get(key)
        assert rollout is not None
        evaluations = (logged.evaluation for logged in ledger.evaluations.of(key))
        blind = dict.fromkeys(
            one.blind for one in evaluations if one.verdict is VerdictKind.BLIND and one.blind is not None
        )
        return RolloutRecord(
            key=key,
            spec=rollout.spec,
            opened_at=rollout.opened_at,
            shipped_at=rollout.shipped_at,
            window_end=rollout.window_end,
            final=rollout.final,
            label=known_label(rollout.final, ledger.labels.of(key)),
            breaches=tuple(logged.breach for logged in ledger.breaches.of(key)),
            blind=tuple(blind),
            overrides=tuple(ledger.overrides.of(key)),
            suspensions=tuple(logged.suspension for logged in ledger.suspensions.of(key)),
            rollback=ledger.rollbacks.of(key),
            looks=_counts(ledger.looks.of(key)),
        )


def _counts(looks: Sequence[LoggedLook]) -> dict[str, LookCounts]:
    counted = [look for look in looks if not look.suspended]
    every = Counter(look.budget for look in looks)
    known = Counter(look.budget for look in counted)
    unknown = Counter(look.budget for look in counted if look.status is Status.UNKNOWN)
    return {budget: LookCounts(known[budget], unknown[budget]) for budget in every}
