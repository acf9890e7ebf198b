"""Looks: every look of every watch in short, so that a curve is drawn without another query."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from math import nan
from typing import Any, NamedTuple

from sqlalchemy import CursorResult, delete, exists, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from rollback_budget.engine.budget_snapshot import BudgetSnapshot
from rollback_budget.engine.evaluation import Status
from rollback_budget.engine.histogram import FINITE
from rollback_budget.ledger.database import Repository
from rollback_budget.ledger.models import LookRow, RolloutRow
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.rollout_rows import among, batches, rollout_row
from rollback_budget.ledger.views import LoggedLook
from rollback_budget.model.pace import pace_of, paces_of
from rollback_budget.model.spec import RolloutSpec

#: Databases limit the values of one statement.
_KEYS, _ROWS = 400, 300
#: A guard's looks leave budgets out; a review of a day at one a minute is not longer.
_NEWEST = 1_500
_STATUS = {Status.GOOD: "g", Status.BAD: "b", Status.UNKNOWN: "u"}
_READ = {letter: status for status, letter in _STATUS.items()}
_SUSPENDED = "s"

#: Marks the looks of a standby; those of Airflow have no mark.
STANDBY = "standby"


class LookRecord(NamedTuple):
    """One look at all budgets of a rollout, as it is stored: see :func:`pack`.

    :param time: of the look; where a metric has a pace of its own, that of the look of ``watch.settle`` which
        is decided at the same time.
    :param by: :data:`STANDBY`, or None for a watch in Airflow.
    """

    key: RolloutKey
    time: datetime
    standings: str
    by: str | None = None


class Looks(Repository):
    """The looks in the ledger."""

    def add(self, records: Sequence[LookRecord]) -> int:
        """Append looks in one transaction; what is there already stays as it is.

        A look that a standby and Airflow both took is marked as Airflow's: its watch is back.

        :return: how many were left out, because their rollout is not in the ledger.
        """
        left_out = 0
        with self._database.write() as session:
            ids = _ids(session, {record.key for record in records})
            dialect = session.connection().dialect.name
            insert = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(LookRow)
            keys = [LookRow.rollout_id, LookRow.time]
            by_look: dict[tuple[int, datetime], dict[str, Any]] = {}
            for record in records:
                rollout_id = ids.get(record.key)
                if rollout_id is None:
                    left_out += 1
                    continue
                row = {"rollout_id": rollout_id, "time": record.time}
                row |= {"standings": record.standings, "by": record.by}
                known = by_look.setdefault((rollout_id, record.time), row)
                if known is not row:
                    known["standings"] = _merged(known["standings"], record.standings)
                    known["by"] = None if record.by is None else known["by"]
            rows = list(by_look.values())
            # In one order everywhere, so that two writers of the same looks never wait in a ring.
            rows.sort(key=lambda row: (row["rollout_id"], row["time"]))
            _complete(session, rows)
            for some in batches([row for row in rows if row["by"] is not None], _ROWS):
                session.execute(insert.values(some).on_conflict_do_nothing())
            for some in batches([row for row in rows if row["by"] is None], _ROWS):
                session.execute(
                    insert.values(some).on_conflict_do_update(
                        index_elements=keys, set_={"by": None}, where=LookRow.by.is_not(None)
                    )
                )
        return left_out

    def newest_times(self, keys: Collection[RolloutKey]) -> dict[RolloutKey, datetime]:
        """Return the time of the newest look of each rollout that has any."""
        newest = select(func.max(LookRow.time)).where(LookRow.rollout_id == RolloutRow.id).scalar_subquery()
        found: dict[RolloutKey, datetime] = {}
        with self._database.read() as session:
            for some in batches(keys, _KEYS):
                query = select(RolloutRow.dag_id, RolloutRow.run_id, newest).where(among(some))
                for dag_id, run_id, until in session.execute(query):
                    if until is not None:
                        found[RolloutKey(dag_id, run_id)] = until
        return found

    def standby_periods(self, key: RolloutKey) -> list[tuple[datetime, datetime]]:
        """Return from when to when standby watched a rollout, by the times of its looks, earliest first."""
        query = select(LookRow.time, LookRow.by).order_by(LookRow.time)
        with self._database.read() as session:
            rollout_id = rollout_row(self._database, session, key).id
            rows = session.execute(query.where(LookRow.rollout_id == rollout_id)).all()
        periods = []
        for by, looks in groupby(rows, key=lambda row: row.by):
            if by is not None:
                times = [look.time for look in looks]
                periods.append((times[0], times[-1]))
        return periods

    def of(
        self, key: RolloutKey, budget: str | None = None, since: datetime | None = None
    ) -> list[LoggedLook]:
        """Return the looks of a rollout in order of time, and of budgets within.

        :param budget: only those of the budget with this id.
        :param since: only those after this time.
        """
        query = select(LookRow.time, LookRow.standings).order_by(LookRow.time)
        if since is not None:
            query = query.where(LookRow.time > since)
        with self._database.read() as session:
            rollout = rollout_row(self._database, session, key)
            spec = RolloutSpec.model_validate_json(rollout.spec)
            rows = session.execute(query.where(LookRow.rollout_id == rollout.id)).all()
        shifts = _shifts(spec)
        return [
            look
            for time, standings in rows
            for look in _unpack(shifts, time, standings)
            if budget is None or look.budget == budget
        ]

    def newest(self, key: RolloutKey) -> list[LoggedLook]:
        """Return the newest look at each budget of a rollout that has any.

        A budget without one among the newest looks is left out.
        """
        newest = select(LookRow.time, LookRow.standings).order_by(LookRow.time.desc())
        found: dict[str, LoggedLook] = {}
        with self._database.read() as session:
            rollout = rollout_row(self._database, session, key)
            spec = RolloutSpec.model_validate_json(rollout.spec)
            shifts, steps = _shifts(spec), [pace.every for pace in paces_of(spec)]
            # Between two looks of a slow metric lie many of a fast one.
            most = max(_NEWEST, 2 * (max(steps) // min(steps)))
            rows = session.execute(
                newest.where(LookRow.rollout_id == rollout.id).limit(most).execution_options(yield_per=20)
            )
            for time, standings in rows:
                for look in _unpack(shifts, time, standings):
                    found.setdefault(look.budget, look)
                if len(found) == len(shifts):
                    break
        return list(found.values())

    def prune(self, before: datetime, progress: Callable[[int, int], None] | None = None) -> int:
        """Delete the looks before a time, rollout by rollout; evaluations and breaches stay.

        :param progress: called with how many rollouts are done, and of how many.
        :return: how many looks were deleted.
        """
        old = exists().where(LookRow.rollout_id == RolloutRow.id, LookRow.time < before)
        with self._database.read() as session:
            ids = session.scalars(select(RolloutRow.id).where(RolloutRow.opened_at < before, old)).all()
        deleted = 0
        for done, rollout_id in enumerate(ids, start=1):
            with self._database.write() as session:
                old_ones = delete(LookRow).where(LookRow.rollout_id == rollout_id, LookRow.time < before)
                result = session.execute(old_ones)
                assert isinstance(result, CursorResult)
                deleted += result.rowcount
            if progress is not None:
                progress(done, len(ids))
        return deleted


def pack(spec: RolloutSpec, snapshots: Sequence[BudgetSnapshot]) -> str:
    """Write one look as a JSON array with an entry per budget of the spec, null where it did not count.

    An entry is ``[status, burn, delta, release, baseline, release_n, baseline_n, p]``: status ``g``, ``b`` or
    ``u`` (with ``s`` behind it when suspended), burn in seconds, six digits, null for unknown, and nothing
    where all that follows is null.
    """
    by_budget = {snapshot.budget: snapshot for snapshot in snapshots}
    return "[" + ",".join(_entry(by_budget.get(budget.id)) for budget in spec.budgets) + "]"


def _complete(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Add budgets to looks that the ledger has without them: those of a slow metric may be read later."""
    parts = {(row["rollout_id"], row["time"]): row["standings"] for row in rows if _is_part(row["standings"])}
    for some in batches(parts, _KEYS):
        ids, times = {rollout_id for rollout_id, _ in some}, {time for _, time in some}
        known = select(LookRow).where(LookRow.rollout_id.in_(ids), LookRow.time.in_(times))
        for row in session.scalars(known):
            standings = parts.get((row.rollout_id, row.time))
            if standings is not None:
                row.standings = _merged(row.standings, standings)
    session.flush()


def _is_part(standings: str) -> bool:
    """Whether a look leaves a budget out; within an entry, null follows a number or a text."""
    return standings.startswith("[null") or "],null" in standings


def _merged(known: str, new: str) -> str:
    """Return the entries of a look, each as it was first recorded."""
    if not _is_part(known):
        return known
    before, after = json.loads(known), json.loads(new)
    if not any(old is None and more is not None for old, more in zip(before, after, strict=False)):
        return known
    entries = [more if old is None else old for old, more in zip(before, after, strict=False)]
    return json.dumps(entries, separators=(",", ":"))


def _ids(session: Session, keys: Collection[RolloutKey]) -> dict[RolloutKey, int]:
    found = {}
    for some in batches(keys, _KEYS):
        query = select(RolloutRow.dag_id, RolloutRow.run_id, RolloutRow.id).where(among(some))
        found.update({RolloutKey(dag_id, run_id): id_ for dag_id, run_id, id_ in session.execute(query)})
    return found


def _entry(snapshot: BudgetSnapshot | None) -> str:
    if snapshot is None:
        return "null"
    look, p_value = snapshot.look, snapshot.p_value
    status = _STATUS[look.status] + (_SUSPENDED if snapshot.suspension is not None else "")
    numbers = (*look[2:7], nan if p_value is None else p_value)
    fields = [f"{number:.6g}" if -FINITE <= number <= FINITE else "null" for number in numbers]
    while fields and fields[-1] == "null":
        fields.pop()
    return "[" + ",".join([f'"{status}"', f"{snapshot.burn / 1e6:.6g}", *fields]) + "]"


def _shifts(spec: RolloutSpec) -> dict[str, timedelta]:
    """Return by budget, in the spec's order, how much later its looks are recorded than they are."""
    return {line.id: pace_of(spec, line.metric).shift for line in spec.budgets}


def _unpack(budgets: Mapping[str, timedelta], time: datetime, standings: str) -> list[LoggedLook]:
    looks = []
    for (budget, shift), entry in zip(budgets.items(), json.loads(standings), strict=False):
        if entry is not None:
            status, burn, *known = entry
            numbers: list[float | None] = [*known, *[None] * (6 - len(known))]
            delta, release, baseline, release_n, baseline_n, p_value = numbers
            looks.append(
                LoggedLook(
                    budget=budget,
                    time=time - shift,
                    status=_READ[status[0]],
                    burn=timedelta(seconds=burn),
                    delta=delta,
                    release_value=release,
                    baseline_value=baseline,
                    release_n=release_n,
                    baseline_n=baseline_n,
                    p_value=p_value,
                    suspended=_SUSPENDED in status,
                )
            )
    return looks
