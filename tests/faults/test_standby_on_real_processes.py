"""Standby, the watch of Airflow and the ledger in processes of their own: whatever dies, one rollback.

Airflow's watch is the real trigger in a process; it is killed with everything that it has in memory. Standby
is the real command. Target and metric source are a simulated service behind a proxy that loses what it shall.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rollback_budget.ledger.views import FinalDecision
from rollback_budget.targets.apply import Outcome
from tests.support.fault_proxy import Answers, Fault, Slows
from tests.support.network import wait_until
from tests.support.postgres import find_binaries, running_postgres
from tests.support.standby import BASELINE, COMMANDER, KEY, RELEASE, WatchedService, watched_service
from tests.support.triggers import LIBFAKETIME

pytestmark = [pytest.mark.service, pytest.mark.timeout(180)]

TRAFFIC = "/control/traffic"
Begin = Callable[..., WatchedService]


@pytest.fixture
def begin(tmp_path: Path, postgres_url: str) -> Iterator[Begin]:
    """Return what begins a rollout, with its ledger in PostgreSQL."""
    with ExitStack() as stack:

        def run(url: str = postgres_url, **options: object) -> WatchedService:
            return stack.enter_context(watched_service(tmp_path, url, **options))  # type: ignore[arg-type]

        yield run


def assert_rolled_back_once(rollout: WatchedService, by: str = "the rule") -> None:
    """The traffic is the baseline's, by one change, verified, and said once."""
    rollout.wait_for_rollback()
    record = rollout.ledger.rollbacks.of(KEY)
    assert record is not None
    assert record.outcome is Outcome.EFFECTIVE, record.detail
    assert rollout.service.router.applied == {RELEASE: 0.0, BASELINE: 1.0}
    assert rollout.rollbacks() == 1
    final = rollout.ledger.final_decisions.of(KEY)
    assert final is not None
    assert (final.decision, final.by) == (FinalDecision.ROLLED_BACK, by)
    wait_until(lambda: "rolled_back" in rollout.inbox.events(), what="the notification of the rollback")
    assert rollout.inbox.events().count("rolled_back") == 1


def test_all_of_airflow_killed_in_mid_watch_the_breach_is_found_and_rolled_back_and_written_down(
    begin: Begin,
) -> None:
    rollout = begin()
    airflow = rollout.airflow()
    rollout.wait_for_looks()
    airflow.kill()
    standby = rollout.standby(clock_off_s=60 if LIBFAKETIME.exists() else None)
    rollout.wait_for_looks(by_standby=True)
    rollout.incident()
    assert_rolled_back_once(rollout)
    assert rollout.inbox.events().count("watch_lost") == 1
    wait_until(lambda: rollout.ledger.debts.every(), what="the eval debt")
    assert [one.breach.budget for one in rollout.ledger.breaches.of(KEY)] == [
        "safety.high_severity_incidents_increase"
    ]
    assert standby.terminate() == 0
    assert rollout.ledger.watch_leases.of(KEY) is None


def test_one_of_two_standbys_watches_and_the_other_takes_over_when_it_dies(begin: Begin) -> None:
    rollout = begin()
    processes = {name: rollout.standby(name) for name in ("one", "two")}
    first = rollout.wait_for_holder()
    wait_until(lambda: all(one.said("begins") for one in processes.values()), what="both standbys")
    processes.pop(first).kill()
    (second,) = processes
    wait_until(lambda: rollout.holder() == second, within_s=60, what="the other standby taking over")
    rollout.incident()
    assert_rolled_back_once(rollout)
    assert rollout.inbox.events().count("watch_lost") == 1


def test_a_standby_that_stood_still_past_its_lease_does_nothing_when_it_goes_on(begin: Begin) -> None:
    rollout = begin()
    processes = {name: rollout.standby(name) for name in ("one", "two")}
    first = rollout.wait_for_holder()
    wait_until(lambda: all(one.said("begins") for one in processes.values()), what="both standbys")
    rollout.wait_for_looks(by_standby=True)
    frozen = processes.pop(first)
    frozen.freeze()
    (second,) = processes
    wait_until(lambda: rollout.holder() == second, within_s=60, what="the other standby taking over")
    rollout.incident()
    wait_until(lambda: rollout.rollbacks() == 1, within_s=60, what="the request")
    frozen.thaw()
    wait_until(
        lambda: (
            frozen.said("standby has lost touch with the ledger") or frozen.said("does nothing more here")
        ),
        what="it letting go",
    )
    assert_rolled_back_once(rollout)
    assert rollout.inbox.events().count("breach") == 1


def test_a_standby_that_lacks_a_connection_leaves_the_watch_to_one_that_does_not(begin: Begin) -> None:
    rollout = begin()
    lacking = rollout.standby("lacking", after="15s", lacks=["AIRFLOW_CONN_ROUTER"])
    wait_until(
        lambda: lacking.said("a takeover would fail here: connection 'router' cannot be found"),
        what="what it lacks being said",
    )
    rollout.standby("complete", after="20s")
    assert rollout.wait_for_holder() == "complete"
    rollout.incident()
    assert_rolled_back_once(rollout)


@pytest.mark.parametrize(
    ("fault", "has_changed"),
    [(Fault("GET", TRAFFIC, Slows(60)), 0), (Fault("PUT", TRAFFIC, Slows(60)), 1)],
    ids=["between final decision and request", "between request and record"],
)
def test_a_standby_that_is_killed_in_the_middle_of_a_rollback_is_continued_by_the_next(
    begin: Begin, fault: Fault, has_changed: int
) -> None:
    rollout = begin()
    rollout.proxy.faults.append(fault)
    first = rollout.standby("first")
    second = rollout.standby("second")
    holder = rollout.wait_for_holder()
    rollout.incident()
    wait_until(lambda: not rollout.proxy.faults, within_s=60, what="the fault striking")
    wait_until(lambda: rollout.rollbacks() == has_changed, what="the request")
    (first if holder == "first" else second).kill()
    assert rollout.ledger.final_decisions.of(KEY) is not None
    assert rollout.ledger.rollbacks.of(KEY) is None
    assert_rolled_back_once(rollout)


def test_airflow_that_is_back_in_the_middle_of_a_rollback_does_nothing_twice(begin: Begin) -> None:
    rollout = begin()
    rollout.standby()
    rollout.wait_for_looks(by_standby=True)
    rollout.incident()
    wait_until(lambda: rollout.rollbacks() == 1, within_s=60, what="the request")
    rollout.proxy.always = Answers(503)
    airflow = rollout.airflow()
    airflow.wait_until_ready()
    assert set(airflow.wait(within_s=60)) == {"airflow"}
    rollout.proxy.always = None
    assert_rolled_back_once(rollout)


def test_airflow_that_is_back_is_noticed_and_standby_lets_go(begin: Begin) -> None:
    rollout = begin()
    rollout.standby()
    rollout.wait_for_holder()
    rollout.airflow()
    wait_until(lambda: rollout.holder() is None, within_s=90, what="standby letting go")
    wait_until(lambda: "watch_back" in rollout.inbox.events(), what="the notification")


def test_a_ledger_that_is_away_from_both_makes_nobody_take_over(begin: Begin, tmp_path: Path) -> None:
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server found")
    with running_postgres(binaries) as cluster:
        rollout = begin(cluster.database())
        rollout.airflow()
        standby = rollout.standby(after="60s")
        rollout.wait_for_looks()
        before = rollout.ledger.signs_of_life.of(KEY)
        cluster.stop()
        wait_until(lambda: standby.said("cut off from the ledger"), what="standby saying so")
        cluster.start()
        wait_until(lambda: standby.said("the ledger answers again"), what="standby going on")

        def looks_again() -> bool:
            now = rollout.ledger.signs_of_life.of(KEY)
            assert now is not None
            assert before is not None
            assert now.lease is None
            return now.newest > before.newest

        wait_until(looks_again, within_s=60, what="Airflow's looks reaching the ledger again")
        assert rollout.ledger.looks.standby_periods(KEY) == []
        rollout.stack.close()


def test_a_review_that_was_open_when_airflow_died_is_answered_by_decide(begin: Begin) -> None:
    rollout = begin(within="5m")
    rollout.slide()
    airflow = rollout.airflow()
    wait_until(lambda: rollout.ledger.reviews.of(KEY), within_s=60, what="Airflow asking")
    airflow.kill()
    standby = rollout.standby()
    rollout.wait_for_holder()
    decided = subprocess.run(
        [
            *(sys.executable, "-m", "rollback_budget.cli.main", "decide", RELEASE, "roll-back"),
            *("--by", COMMANDER, "--url", rollout.ledger.url),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert decided.returncode == 0, decided.stderr
    assert "standby standby rolls it back" in decided.stdout
    assert_rolled_back_once(rollout, by=COMMANDER)
    assert [one.by for one in rollout.ledger.decisions.of(KEY)] == [COMMANDER]
    standby.terminate()


def test_a_review_that_was_open_when_airflow_died_and_that_nobody_answers_keeps_its_deadline(
    begin: Begin,
) -> None:
    rollout = begin(within="20s")
    rollout.slide()
    airflow = rollout.airflow()
    wait_until(lambda: rollout.ledger.reviews.of(KEY), within_s=60, what="Airflow asking")
    airflow.kill()
    (review,) = rollout.ledger.reviews.of(KEY)
    rollout.standby()
    rollout.wait_for_holder()
    assert_rolled_back_once(rollout, by="the deadline")
    assert rollout.ledger.reviews.of(KEY) == [review]
    (decision,) = rollout.ledger.decisions.of(KEY)
    assert decision.timed_out
    assert decision.at >= review.deadline


def test_a_review_that_nobody_answers_ends_as_the_budget_says_of_silence(begin: Begin) -> None:
    rollout = begin(within="3s")
    rollout.standby()
    rollout.wait_for_looks(by_standby=True)
    rollout.slide()
    assert_rolled_back_once(rollout, by="the deadline")
    (decision,) = rollout.ledger.decisions.of(KEY)
    assert (decision.by, decision.timed_out) == (None, True)
    assert rollout.inbox.events().count("review_opened") == 1
