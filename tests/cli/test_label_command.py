"""``label`` on a real ledger: how a past rollout went, and what ``history`` shows of it."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from rollback_budget.ledger.ledger import Ledger
from rollback_budget.ledger.rollout_key import RolloutKey
from rollback_budget.ledger.views import FinalDecision
from tests.engine.builders import budget, rollout
from tests.support.command_line import Run
from tests.support.rollouts import KEY, NOON, make_spec
from tests.track_record.rollouts import slow, watch

pytestmark = pytest.mark.database

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def ended(ledger: Ledger) -> None:
    """Two runs of one release, the newer one rolled back an hour after noon."""
    for key, opened in ((RolloutKey(KEY.dag_id, "older"), NOON - 48 * HOUR), (KEY, NOON)):
        ledger.rollouts.open(key, make_spec(), opened)
        ledger.rollouts.record_shipped(key, opened, opened + 24 * HOUR)
        ledger.final_decisions.take(
            key, FinalDecision.ROLLED_BACK, "the rule", "latency: p95 was 31 % above", opened + HOUR
        )


def test_a_label_is_recorded_replaced_and_shown_in_the_history(run: Run) -> None:
    code, out, err = run("label", "model-v42", "bad", "--onset", "2026-03-01T12:20:00Z", "--by", "alice")
    assert (code, "labelled bad since 2026-03-01 12:20:00 UTC, by alice" in out) == (0, True)
    assert "other runs, labelled with --run: older" in err
    said = json.loads(
        run("label", "model-v42", "good", "--note", "the judge was down", "--by", "bob", "--json")[1]
    )
    assert (said["run_id"], said["label"], said["onset"], said["by"], said["note"]) == (
        KEY.run_id,
        "good",
        None,
        "bob",
        "the judge was down",
    )
    assert (said["replaces"]["label"], said["replaces"]["onset"]) == ("bad", "2026-03-01T12:20:00Z")
    events = json.loads(run("history", "model-v42", "--json")[1])["events"]
    labelled = [event for event in events if event["event"] == "labelled"]
    assert [(event["label"], event["by"], event["said"]) for event in labelled] == [
        ("bad", "alice", "bad since 2026-03-01 12:20:00 UTC"),
        ("good", "bob", "good: the judge was down"),
    ]
    assert "labelled          good: the judge was down  [bob]" in run("history", "model-v42")[1]


def test_the_run_that_is_meant_can_be_said(run: Run, ledger: Ledger) -> None:
    assert run("label", "support-bot", "bad", "--run", "older")[0] == 0
    assert ledger.labels.of(KEY) == []
    assert len(ledger.labels.of(RolloutKey(KEY.dag_id, "older"))) == 1


def test_runs_that_are_not_named_are_counted(run: Run, ledger: Ledger) -> None:
    for number in range(7):
        ledger.rollouts.open(RolloutKey(KEY.dag_id, f"run{number}"), make_spec(), NOON - (50 + number) * HOUR)
    for command in (("label", "model-v42", "good"), ("history", "model-v42")):
        assert "older, run0, run1, run2, run3 and 3 more" in run(*command)[2]


def test_an_onset_after_the_last_look_is_recorded_and_warned_of_at_once(run: Run, ledger: Ledger) -> None:
    spec = rollout(budget(), minutes=120)
    watch(ledger, 1, spec, slow(range(0), length=60), final=FinalDecision.PROMOTED, by="alice")
    for onset, warned in (("12:59", False), ("13:00", True), ("13:30", True)):
        command = (
            "label",
            "rollout_model_v42",
            "bad",
            "--run",
            "manual__1",
            "--onset",
            f"2026-10-01T{onset}Z",
        )
        code, _, err = run(*command)
        assert code == 0
        assert ("the last look at this rollout is of 2026-10-01 13:00:00 UTC" in err) is warned
        (*said,) = json.loads(run(*command, "--json")[1])["warnings"]
        assert ["`backtest --ledger` cannot find it" in one for one in said] == [True] * warned


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("model-v41", "good"), "no rollout of 'model-v41' is in the ledger"),
        (("model-v42", "fine"), "'fine' is not one of"),
        (("model-v42", "good", "--onset", "2026-03-01T12:20:00Z"), "a good rollout has no onset"),
        (
            ("model-v42", "bad", "--onset", "2026-03-01T14:00:00Z"),
            "give a time in between, or leave it out if it is not",
        ),
        (("model-v42", "bad", "--onset", "0001-01-01T00:00+14:00"), "check the year"),
        (("model-v42", "bad", "--onset", "2026-03-01T12:20"), "has no time zone"),
        (("model-v42", "bad", "--by", " "), "say who"),
    ],
)
def test_what_cannot_be_recorded_is_one_message_and_exit_code_1(
    run: Run, ledger: Ledger, arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = run("label", *arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert ledger.labels.of(KEY) == []
